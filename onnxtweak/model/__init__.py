"""How is an ONNX model read, inspected and edited? Knows protobuf, but no samples and no arithmetic.

graph            an index of nodes and tensors
logits_format    how a tensor holds the logits
head_kind        what the model seems to be, if not a plain classifier
detector         where a detector's class scores and boxes are
feature_names    what the model calls its features
file             how a model is read from disk, and how a result is written
inspect          where the logits are, which hidden tensors can be tapped
edit             how a tweak is added to a model, and removed again
"""
