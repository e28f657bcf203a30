"""A pass over samples, shared among worker processes, with the bits of a single one.

sending      what a worker needs to make its part of a pass: model and samples
by_ranges    sums over many samples and neurons: each worker merges a range of the neurons
"""
