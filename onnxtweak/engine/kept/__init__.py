"""What of a run is kept in the work directory, so that a later one goes on from there?

npz             arrays as one file, piece by piece
saved_arrays    files that are known to be whole
kept_results    finished results, and the state of what is being made
"""
