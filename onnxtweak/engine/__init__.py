"""Runs models over samples: the only folder that touches ONNX Runtime.

session     one model, loaded: providers, truth about devices, bound outputs
measure     types and shapes of hidden tensors, by running a sample
backends    which of theta's back ends does the arithmetic
plan        batch sizes that fit a memory budget
passes      one pass over the samples: batches in, folded state out
"""
