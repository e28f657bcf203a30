"""Processes that take calls: on this machine, or through Dask on many.

processes        the processes that the settings ask for, kept for one pass after another
dask_cluster     workers that Dask starts, or that a scheduler has
gpu_processes    one process per GPU
open_files       may as many files be open as the processes need?
shared_memory    arrays handed from one process to another past the pipe
shielded         processes that do not see Ctrl-C
learning_device  NumPy, CuPy on a GPU, or workers elsewhere, for learners
chunks           sums over very many rows, made again and again
"""
