"""The ONNX file: what is in it, and how it is edited. Knows protobuf, but no samples and no arithmetic.

file       how a model comes from the disk, and how a result gets there
inspect    where the logits are, which hidden tensors can be watched
edit       what is added to a model, and how it is taken off again
"""
