"""Copies of a model whose weights are rounded to few bits, as weight-only quantisation leaves them."""

from __future__ import annotations

import numpy as np
from onnx import ModelProto, numpy_helper

_WEIGHTED = ("Conv", "Gemm", "MatMul")


def rounded(proto: ModelProto, bits: int) -> ModelProto:
    """A copy whose weights take 2^bits values, symmetric, with one step per tensor."""
    copy = ModelProto()
    copy.CopyFrom(proto)
    named = {node.input[1] for node in copy.graph.node if node.op_type in _WEIGHTED and len(node.input) > 1}
    for tensor in copy.graph.initializer:
        if tensor.name in named:
            weight = numpy_helper.to_array(tensor)
            step = np.abs(weight).max() / (2 ** (bits - 1) - 1)
            steps = np.clip(np.round(weight / step), -(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
            tensor.CopyFrom(numpy_helper.from_array((steps * step).astype(weight.dtype), tensor.name))
    return copy
