"""Theta over all samples: the longest pass.

scoring          the pass, block by block of neurons
sweep            its state, folded batch by batch
checkpoint       a killed pass goes on where it last saved
workers          the pass shared among processes, here or through Dask
gpu_processes    one process for each GPU
shared_memory    states handed from one process to another without a copy
score_file       the scores of all neurons as one file
"""
