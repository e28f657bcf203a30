"""Theta over all samples: the longest pass.

scoring          the pass, one block of neurons after another
sweep            its state, folded batch by batch
finish           counts, when a sweep has seen all samples
shared_sweep     a sweep shared among worker processes
parted           a sweep cut into ranges of neurons, which workers merge
checkpoint       a pass that was killed resumes where it last saved
score_file       the scores of all neurons as one file
"""
