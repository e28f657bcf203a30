"""What is in a model: where are its logits, and which hidden tensors can be tapped?

graph_checks    no cycles, no nodes without inputs
logits          where the logits are
tail            what lies between the last layer and an output
softmax         whether a tensor is the softmax of another
refusals        why a model's scores cannot be tweaked
taps            the hidden tensors that can be tapped, and which of them selectors choose
layer_inputs    what the last layer reads, and the first ones
activations     the outputs of non-linearities
blocks          where branches join
channels        the channel axis of a hidden tensor
batch           which axis counts samples, which operators make them depend on one another
shapes          the shapes that are certain
"""
