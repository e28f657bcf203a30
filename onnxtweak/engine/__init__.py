"""How does a model run over samples within a given memory? The only folder that runs models.

session       one loaded model: its ports, where it runs, bound outputs
subject       a model that passes can run: logits found, tensors measured
measure       types and shapes of hidden tensors, by running a sample
answer        the class that the model's own output shows, and how it follows from the logits
tap_safety    taps that leave the logits unchanged
memory_plan   batch, fold and block sizes that fit a memory budget
passes        one pass over the samples: logits and hidden values, batch by batch
prefetch      the next samples are read while the current ones run
backends      which of theta's back ends does the arithmetic
scoring       theta over all samples, in shards, shared among processes
dump          hidden values and logits on disk
latency       how much slower a tweak makes its base
environment   what works on this machine, for `onnxtweak doctor`
machine       GPUs, memory
"""
