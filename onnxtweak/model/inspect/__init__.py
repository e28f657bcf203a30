"""What is in a model, and what of it can be watched?

graph           how tensors and nodes hang together
graph_checks    is it a graph that can be walked?
logits          where are the logits?
softmax         is a tensor the softmax of another?
refusals        why scores cannot be tweaked
taps            the hidden tensors that can be watched, and which of them selectors mean
activations     what a layer hands on after its non-linearity
blocks          where branches join
channels        on which axis channels are counted
shapes          the shapes that are known for sure
neighborhood    the graph around a tweak, for a picture
"""
