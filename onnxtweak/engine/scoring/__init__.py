"""Theta over all samples: the longest pass.

scoring          the pass, one block of neurons after another
sweep            its state, folded batch by batch
checkpoint       a pass that was killed resumes where it last saved
workers          the pass shared among processes, here or through Dask
open_files       may as many files be open as the processes need?
gpu_processes    one process per GPU
shared_memory    states handed from one process to another past the pipe
shielded         processes that do not see Ctrl-C
score_file       the scores of all neurons as one file
"""
