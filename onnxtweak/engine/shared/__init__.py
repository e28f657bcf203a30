"""A pass over samples, shared among worker processes, with the bits of a single one.

sending      what a worker needs to make its part of a pass: model and samples
shards       a pass shard by shard, here or by workers, in order
by_ranges    sums over many samples and neurons: each worker merges a range of the neurons
kept_shards  shards that an earlier run made
logits       the logits of all samples of a view
"""
