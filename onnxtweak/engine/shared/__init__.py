"""A pass over samples, shared among worker processes, with the bits of a single one.

sending      what a worker needs to make its part of a pass: model and samples
shards       a pass shard by shard, here or by workers, in order
by_ranges    sums over many samples and neurons: each worker merges a range of the neurons
logits       the logits of all samples of a view
"""
