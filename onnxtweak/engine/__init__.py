"""How does a model run over samples within a given memory? The only folder that runs models.

session       one loaded model: its ports, where it runs, bound outputs
opened        a file with its logits found, and the inputs that they need
subject       a model that passes can run: tensors measured
feeding       samples and constants become what a model's inputs take
measure       types and shapes of hidden tensors, by running a sample
answer        the class that the model's own output shows, and how it follows from the logits
tap_safety    taps that leave the logits unchanged
passes        one pass over the samples: logits and hidden values, batch by batch
position_batches  the rows of a pass where a sample has one for each position
backends      which of theta's back ends does the arithmetic
workers       processes that take calls, here or through Dask
shared        a pass cut into shards, which workers share
kept          what of a run is kept in the work directory
scoring       theta over all samples, in shards
dump          hidden values and logits on disk
latency       how much slower a tweak makes its base
environment   what works on this machine, for `onnxtweak doctor`
runtimes      the same file in other runtimes
machine       GPUs, and what fits into memory
"""
