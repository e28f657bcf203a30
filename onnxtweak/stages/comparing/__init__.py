"""How are methods compared on one split?

gather_inputs         what they get of a job: tables of all neurons that any reads, and rankings
try_methods           what each comes to on the test samples
"""
