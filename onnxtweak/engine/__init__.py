"""How does a model run over samples within a given memory? The only folder that runs models.

session        one model, loaded: providers, truth about devices, bound outputs. The door to ONNX Runtime
measure        types and shapes of hidden tensors, by running a sample
tap_safety     which taps can be watched without changing the logits
subject        a model that can be run and watched: logits found, inputs known, hidden tensors measured
plan           batch sizes, blocks of neurons and passes that fit a memory budget
prefetch       the next samples, read while the present ones are run
passes         one pass over the samples: batches in, folded state out
backends       which of theta's back ends does the arithmetic
scoring        theta over all samples: the longest pass
dump           tables V and Z on disk, and the way back
latency        how much slower a tweak makes its base
machine        GPUs, and memory that the C library holds back
environment    what works on this machine, tried in processes of their own
"""
