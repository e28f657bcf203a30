"""How is an ONNX graph written node by node? Names are made up, initializers are float32 unless said."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

OPSET, IR_VERSION = 17, 8


class Graph:
    """Nodes and initializers as they are added; `add` returns the name of what the node makes."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []

    def constant(self, values: Any, dtype: Any = np.float32) -> str:
        name = f"c{len(self.initializers)}"
        array = np.ascontiguousarray(np.asarray(values, dtype))
        self.initializers.append(numpy_helper.from_array(array, name))
        return name

    def add(self, op: str, *inputs: str, **attributes: Any) -> str:
        name = f"{op.lower()}{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [name], **attributes))
        return name

    def conv(self, x: str, W: np.ndarray, b: np.ndarray | None = None, **attributes: Any) -> str:
        """Convolution over NCHW. W : (out, in, height, width)."""
        bias = [] if b is None else [self.constant(b)]
        return self.add("Conv", x, self.constant(W), *bias, kernel_shape=W.shape[2:], **attributes)

    def batch_norm(self, x: str, scale, shift, mean, variance, epsilon: float) -> str:
        arrays = [self.constant(each) for each in (scale, shift, mean, variance)]
        return self.add("BatchNormalization", x, *arrays, epsilon=epsilon)

    def dense(self, x: str, W: np.ndarray, b: np.ndarray) -> str:
        """x @ W + b over the last axis. W : (inputs, outputs)."""
        return self.add("Add", self.add("MatMul", x, self.constant(W)), self.constant(b))

    def model(
        self, shape: tuple[int | str | None, ...], last: str, *, dtype: int = TensorProto.FLOAT
    ) -> bytes:
        """The file. shape : of the input `x` without samples. last : what becomes the output `y`."""
        self.nodes.append(helper.make_node("Identity", [last], ["y"]))
        graph = helper.make_graph(
            self.nodes,
            "net",
            [helper.make_tensor_value_info("x", dtype, ["samples", *shape])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["samples", None])],
            self.initializers,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="")
        model.ir_version = IR_VERSION
        model = onnx.shape_inference.infer_shapes(model)
        onnx.checker.check_model(model)
        return model.SerializeToString()


def any_batch(blob: bytes) -> bytes:
    """The model with a first axis of any length: the files of others often were exported for one sample."""
    model = onnx.load_from_string(blob)
    held = {each.name for each in model.graph.initializer}
    for value in [*model.graph.input, *model.graph.output]:
        if value.name not in held:
            value.type.tensor_type.shape.dim[0].dim_param = "samples"
    del model.graph.value_info[:]
    onnx.checker.check_model(model)
    return model.SerializeToString()
