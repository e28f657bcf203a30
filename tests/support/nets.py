"""Which small models do the tests run on?

Everything is built with `onnx.helper` from fixed seeds: the same arguments give the same bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, TensorProto, TypeProto, helper, numpy_helper

Outputs = dict[str, tuple[int, Sequence[int | str | None]] | TypeProto]
LIGHT = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
TAILS = (
    "none",
    "softmax",
    "logsoftmax",
    "decomposed",
    "decomposed-plain",
    "decomposed-reciprocal",
    "decomposed-tf2onnx",
    "decomposed-log",
    "logsumexp",
    "argmax",
    "softmax-argmax",
    "softmax-topk",
    "softmax-zipmap",
    "softmax-normalizer",
    "softmax-identity",
    "softmax-cast",
    "dropout-softmax",
    "quantized",
    "quantized-softmax",
    "sigmoid",
)


class NetBuilder:
    """Collects nodes and initializers of one graph; every method returns the name of the new tensor."""

    def __init__(self, opset: int = 17, ir: int = 8, dtype: type = np.float32, seed: int = 0) -> None:
        self.opset, self.ir, self.dtype = opset, ir, np.dtype(dtype)
        self.nodes: list[NodeProto] = []
        self.initializers: list[TensorProto] = []
        self.ml = False
        self._rng = np.random.default_rng(seed)
        self._count = 0

    def name(self, stem: str) -> str:
        self._count += 1
        return f"{stem}_{self._count}"

    def const(self, value: object, dtype: object = None, name: str = "const") -> str:
        array = np.asarray(value, dtype=self.dtype if dtype is None else dtype)
        name = self.name(name)
        self.initializers.append(numpy_helper.from_array(array, name))
        return name

    def ints(self, *values: int) -> str:
        return self.const(values, np.int64, "ints")

    def op(self, op: str, *inputs: str, name: str = "", domain: str = "", **attributes: object) -> str:
        output = name or self.name(op.lower())
        self.nodes.append(helper.make_node(op, list(inputs), [output], domain=domain, **attributes))
        return output

    def he(self, *shape: int) -> str:
        fan_in = int(np.prod(shape[1:]))
        return self.const(self._rng.normal(0, np.sqrt(2 / fan_in), shape), name="weight")

    def conv(
        self, x: str, channels: tuple[int, int], kernel: int = 3, stride: int = 1, name: str = ""
    ) -> str:
        weight = self.he(channels[1], channels[0], kernel, kernel)
        bias = self.const(self._rng.normal(0, 0.05, channels[1]), name="bias")
        pads = [kernel // 2] * 4
        return self.op(
            "Conv",
            x,
            weight,
            bias,
            name=name,
            strides=[stride, stride],
            pads=pads,
            kernel_shape=[kernel, kernel],
        )

    def batch_norm(self, x: str, channels: int) -> str:
        scale, mean = self._rng.uniform(0.8, 1.2, channels), self._rng.normal(0, 0.1, channels)
        parts = (scale, np.zeros(channels), mean, np.ones(channels))
        return self.op("BatchNormalization", x, *(self.const(part, name="bn") for part in parts))

    def gemm(self, x: str, inputs: int, outputs: int, name: str = "") -> str:
        bias = self.const(self._rng.normal(0, 0.05, outputs), name="bias")
        return self.op("Gemm", x, self.he(outputs, inputs), bias, name=name, transB=1)

    def dense(self, x: str, inputs: int, outputs: int) -> str:
        """MatMul and Add, as exporters write a linear layer on tokens."""
        weight = self.const(self._rng.normal(0, np.sqrt(1 / inputs), (inputs, outputs)), name="weight")
        bias = self.const(self._rng.normal(0, 0.05, outputs), name="bias")
        return self.op("Add", self.op("MatMul", x, weight), bias)

    def reduce(self, op: str, x: str, axis: int, keepdims: int = 1) -> str:
        axes_are_input = self.opset >= (13 if op == "ReduceSum" else 18)
        if axes_are_input:
            return self.op(op, x, self.ints(axis), keepdims=keepdims)
        return self.op(op, x, axes=[axis], keepdims=keepdims)

    def squeeze(self, x: str, *axes: int) -> str:
        if self.opset >= 13:
            return self.op("Squeeze", x, self.ints(*axes))
        return self.op("Squeeze", x, axes=list(axes))

    def model(
        self,
        inputs: dict[str, tuple[int, Sequence[int | str | None]]],
        outputs: Outputs,
    ) -> ModelProto:
        """The whole model. Tensors by name, with (ONNX element type, shape) or, for other values, a type."""
        declared = [helper.make_tensor_value_info(n, kind, shape) for n, (kind, shape) in inputs.items()]
        if self.ir < 4:
            for tensor in self.initializers:
                declared.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
        returned = [
            helper.make_value_info(n, t if isinstance(t, TypeProto) else helper.make_tensor_type_proto(*t))
            for n, t in outputs.items()
        ]
        graph = helper.make_graph(self.nodes, "net", declared, returned, self.initializers)
        imports = [helper.make_opsetid("", self.opset)]
        if self.ml:
            imports.append(helper.make_opsetid("ai.onnx.ml", 1))
        return helper.make_model(graph, opset_imports=imports, ir_version=self.ir, producer_name="tests.nets")


def cnn3(
    classes: int = 10,
    size: int = 32,
    channels: tuple[int, int, int] = (32, 32, 64),
    opset: int = 17,
    ir: int = 8,
    tail: str = "none",
    dynamic_batch: bool = True,
    dtype: type = np.float32,
    seed: int = 0,
) -> ModelProto:
    """Three convolutions with Relu and pooling, one linear layer; input `input` (N, 3, size, size).

    The logits tensor is always called `logits`, the hidden maps `relu1`, `relu2`, `relu3`. Per sample 45,056
    activations at the defaults. tail : one of `TAILS`; see `add_tail`.
    """
    net = NetBuilder(opset, ir, dtype, seed)
    x, width = "input", 3
    for layer, count in enumerate(channels, start=1):
        x = net.op("Relu", net.conv(x, (width, count), name=f"conv{layer}"), name=f"relu{layer}")
        x = net.op("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2], name=f"pool{layer}")
        width = count
    flat = net.op("Flatten", x, name="flat")
    net.gemm(flat, width * (size // 8) ** 2, classes, name="logits")
    batch = "N" if dynamic_batch else 1
    outputs = add_tail(net, "logits", tail, classes, batch)
    return net.model({"input": (_kind(dtype), (batch, 3, size, size))}, outputs)


def mlp(
    inputs: int = 8,
    hidden: Sequence[int] = (16, 12),
    classes: int = 4,
    activation: str = "Relu",
    opset: int = 17,
    ir: int = 8,
    tail: str = "none",
    dynamic_batch: bool = True,
    dtype: type = np.float32,
    seed: int = 0,
) -> ModelProto:
    """Linear layers with an activation between; input `input` (N, inputs), hidden tensors `act1`, `act2`, ...

    activation : an ONNX operator, "" for none, or "Swish", "Gelu-erf", "Gelu-tanh", "HardSwish-clip",
    "Mish-decomposed", "Relu-max" as exporters write them out. The logits tensor is called `logits`.
    """
    net = NetBuilder(opset, ir, dtype, seed)
    x, width = "input", inputs
    for layer, count in enumerate(hidden, start=1):
        x = add_activation(net, net.gemm(x, width, count), activation, name=f"act{layer}")
        width = count
    net.gemm(x, width, classes, name="logits")
    batch = "N" if dynamic_batch else 1
    outputs = add_tail(net, "logits", tail, classes, batch)
    return net.model({"input": (_kind(dtype), (batch, inputs))}, outputs)


def cnn_1x1(
    classes: int = 5, size: int = 8, tail: str = "none", opset: int = 17, seed: int = 0
) -> ModelProto:
    """A convolutional net whose class scores `scores` are (N, classes, 1, 1); input (N, 3, size, size).

    tail : "none", "softmax" (over axis 1), "flatten", "flatten-softmax", "squeeze-softmax" (the rank-2 tensor
    is `logits`), "nhwc-softmax" (a Transpose to (N, 1, 1, classes) called `nhwc`).
    """
    net = NetBuilder(opset, 8, seed=seed)
    x = net.op("Relu", net.conv("input", (3, 6)), name="relu1")
    x = net.op("Relu", net.conv(x, (6, 8), stride=2), name="relu2")
    x = net.op("GlobalAveragePool", x, name="pooled")
    x = net.conv(x, (8, classes), kernel=1, name="scores")
    shape: tuple[int | str, ...] = ("N", classes, 1, 1)
    if tail.startswith("flatten"):
        x, shape = net.op("Flatten", x, name="logits"), ("N", classes)
    if tail.startswith("squeeze"):
        x = net.squeeze(x, 2, 3)
        shape = ("N", classes)
        net.nodes[-1].output[0] = x = "logits"
    if tail.startswith("nhwc"):
        x, shape = net.op("Transpose", x, name="nhwc", perm=[0, 2, 3, 1]), ("N", 1, 1, classes)
    if tail.endswith("softmax"):
        axis = 1 if tail == "softmax" else -1
        x = net.op("Softmax", x, name="probabilities", axis=axis)
    return net.model({"input": (TensorProto.FLOAT, ("N", 3, size, size))}, {x: (TensorProto.FLOAT, shape)})


def resnet20(classes: int = 10, seed: int = 0) -> ModelProto:
    """The CIFAR ResNet-20 topology: three stages of three blocks at 32, 16 and 8; input (N, 3, 32, 32)."""
    net = NetBuilder(seed=seed)
    x, width = net.op("Relu", net.batch_norm(net.conv("input", (3, 16)), 16)), 16
    for stage, count in enumerate((16, 32, 64)):
        for block in range(3):
            stride = 2 if stage and not block else 1
            y = net.op("Relu", net.batch_norm(net.conv(x, (width, count), stride=stride), count))
            y = net.batch_norm(net.conv(y, (count, count)), count)
            if width != count:
                x = net.batch_norm(net.conv(x, (width, count), kernel=1, stride=stride), count)
            x = net.op("Relu", net.op("Add", y, x), name=f"stage{stage + 1}_block{block + 1}")
            width = count
    x = net.op("Flatten", net.op("GlobalAveragePool", x))
    net.gemm(x, width, classes, name="logits")
    return net.model(
        {"input": (TensorProto.FLOAT, ("N", 3, 32, 32))}, {"logits": (TensorProto.FLOAT, ("N", classes))}
    )


def densenet40(classes: int = 10, growth: int = 12, seed: int = 0) -> ModelProto:
    """The CIFAR DenseNet-40 topology: three dense blocks of twelve layers; input (N, 3, 32, 32)."""
    net = NetBuilder(seed=seed)
    x, width = net.conv("input", (3, 16)), 16
    for block in range(3):
        for layer in range(12):
            y = net.op("Relu", net.batch_norm(x, width))
            y = net.conv(y, (width, growth))
            x = net.op("Concat", x, y, axis=1, name=f"dense{block + 1}_layer{layer + 1}")
            width += growth
        x = net.op("Relu", net.batch_norm(x, width))
        if block < 2:
            x = net.conv(x, (width, width), kernel=1)
            x = net.op("AveragePool", x, kernel_shape=[2, 2], strides=[2, 2])
    x = net.op("Flatten", net.op("GlobalAveragePool", x))
    net.gemm(x, width, classes, name="logits")
    return net.model(
        {"input": (TensorProto.FLOAT, ("N", 3, 32, 32))}, {"logits": (TensorProto.FLOAT, ("N", classes))}
    )


def se_net(classes: int = 4, seed: int = 0) -> ModelProto:
    """A Swish map `swish`, gated by squeeze-and-excite into `gated`; input `input` (N, 3, 8, 8)."""
    net = NetBuilder(seed=seed)
    x = add_activation(net, net.conv("input", (3, 8)), "Swish", name="swish")
    y = net.op("Relu", net.conv(net.op("GlobalAveragePool", x), (8, 2), kernel=1), name="squeezed")
    gate = net.op("Sigmoid", net.conv(y, (2, 8), kernel=1), name="gate")
    x = net.op("Mul", x, gate, name="gated")
    x = net.op("Flatten", net.op("GlobalAveragePool", x))
    net.gemm(x, 8, classes, name="logits")
    return net.model(
        {"input": (TensorProto.FLOAT, ("N", 3, 8, 8))}, {"logits": (TensorProto.FLOAT, ("N", classes))}
    )


def transformer(
    tokens: int = 6, width: int = 8, classes: int = 3, vocabulary: int = 11, seed: int = 0
) -> ModelProto:
    """One pre-norm block with a single attention head on integer tokens; input `tokens` (N, tokens) int64.

    `attended` and `block` are the two residual sums, `mlp` is the erf-GELU; logits from the mean token.
    """
    net = NetBuilder(seed=seed)
    rng = np.random.default_rng(seed)
    table = net.const(rng.normal(0, 1, (vocabulary, width)), name="table")
    x = net.op("Add", net.op("Gather", table, "tokens"), net.const(rng.normal(0, 1, (tokens, width))))
    y = _layer_norm(net, x, width)
    query, key, value = (net.dense(y, width, width) for _ in range(3))
    scores = net.op("MatMul", query, net.op("Transpose", key, perm=[0, 2, 1]))
    scores = net.op("Div", scores, net.const(np.sqrt(width)))
    y = net.op("MatMul", net.op("Softmax", scores, axis=-1, name="attention"), value)
    x = net.op("Add", x, net.dense(y, width, width), name="attended")
    y = net.dense(_layer_norm(net, x, width), width, 2 * width)
    y = net.dense(add_activation(net, y, "Gelu-erf", name="mlp"), 2 * width, width)
    x = net.op("Add", x, y, name="block")
    x = net.op("ReduceMean", _layer_norm(net, x, width), axes=[1], keepdims=0, name="pooled")
    net.gemm(x, width, classes, name="logits")
    return net.model(
        {"tokens": (TensorProto.INT64, ("N", tokens))}, {"logits": (TensorProto.FLOAT, ("N", classes))}
    )


def reseed_light(name: str, seed: int = 0) -> ModelProto:
    """A `light_*` model of the onnx wheel with weights that do something: its topology, opset 9 and IR 3.

    The wheel makes every weight with ConstantOfShape, so that its outputs hardly vary. Here each becomes an
    initializer (and, as IR 3 wants, an input): He-normal weights, batch normalisation that only scales by 0.6
    where residual sums would otherwise let the values grow with depth.
    name : "light_resnet50", or short "resnet50".
    """
    path = LIGHT / f"light_{name.removeprefix('light_').removesuffix('.onnx')}.onnx"
    proto = onnx.load(path)
    graph = proto.graph
    shapes = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    made = {n.output[0]: n for n in graph.node if n.op_type == "ConstantOfShape"}
    role: dict[str, str] = {}
    for node in reversed(graph.node):
        passed_on = role.get(node.output[0], "") if node.op_type == "Unsqueeze" else ""
        for slot, tensor in enumerate(node.input):
            role[tensor] = passed_on or f"{node.op_type}.{slot}"
    residual = any(node.op_type == "Sum" for node in graph.node)
    rng = np.random.default_rng(seed)
    kept = [node for node in graph.node if node.op_type != "ConstantOfShape"]
    for output, node in made.items():
        shape = tuple(int(d) for d in shapes[node.input[0]])
        array = _sane_weight(rng, shape, role.get(output, ""), 0.6 if residual else 1.0)
        graph.initializer.append(numpy_helper.from_array(array, output))
        graph.input.append(helper.make_tensor_value_info(output, TensorProto.FLOAT, shape))
    dead = {node.input[0] for node in made.values()} - {n for node in kept for n in node.input}
    for field in (graph.initializer, graph.input):
        alive = [item for item in field if item.name not in dead]
        del field[:]
        field.extend(alive)
    del graph.node[:]
    graph.node.extend(kept)
    return proto


def round_pools_up(proto: ModelProto) -> ModelProto:
    """`light_inception_v1` with the pooling sizes of the original: 56, 28, 14, 7 instead of 55, 27, 13, 6.

    The original rounds a pooled size up, the wheel's file rounds down; a column and a row of padding, which
    never win a maximum, make up for it.
    """
    for node in proto.graph.node:
        stride = next((list(a.ints) for a in node.attribute if a.name == "strides"), None)
        for item in node.attribute:
            if item.name == "pads" and node.op_type == "MaxPool" and stride == [2, 2]:
                item.ints[:] = [0, 0, 1, 1]
            if item.name == "pads" and node.op_type == "AveragePool":
                item.ints[:] = [0, 0, 0, 0]
    return proto


def free_batch(proto: ModelProto) -> ModelProto:
    """A `light_*` model that takes any number of samples at a time, where the wheel's file takes one."""
    weights = {tensor.name: tensor for tensor in proto.graph.initializer}
    for port in (*proto.graph.input, *proto.graph.output):
        if port.name not in weights:
            port.type.tensor_type.shape.dim[0].dim_param = "N"
    for node in proto.graph.node:
        shape = weights.get(node.input[1]) if node.op_type == "Reshape" else None
        if shape is not None and node.input[0] not in weights:
            free = np.array([-1, *numpy_helper.to_array(shape)[1:]], np.int64)
            shape.CopyFrom(numpy_helper.from_array(free, shape.name))
    return proto


def random_inputs(proto: ModelProto, n: int, seed: int = 0) -> dict[str, np.ndarray]:
    """Seeded samples for every real input of a model; symbolic axes but the first become 4, integers are < 8.

    A fixed batch size wins over n.
    """
    rng = np.random.default_rng(seed)
    initializers = {tensor.name for tensor in proto.graph.initializer}
    samples = {}
    for value in proto.graph.input:
        if value.name in initializers:
            continue
        kind = value.type.tensor_type
        sizes = [dim.dim_value for dim in kind.shape.dim]
        shape = [size if size > 0 else 4 if axis else n for axis, size in enumerate(sizes)]
        dtype = helper.tensor_dtype_to_np_dtype(kind.elem_type)
        floating = kind.elem_type in (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE)
        array = rng.normal(0, 1, shape) if floating else rng.integers(0, 8, shape)
        samples[value.name] = array.astype(dtype)
    return samples


def add_activation(net: NetBuilder, x: str, kind: str, name: str) -> str:
    """One activation, as a single operator or written out as exporters do; its end is called `name`."""
    if kind == "Swish":
        return net.op("Mul", x, net.op("Sigmoid", x), name=name)
    if kind == "Gelu-erf":
        y = net.op("Erf", net.op("Div", x, net.const(np.sqrt(2.0))))
        y = net.op("Mul", x, net.op("Add", y, net.const(1.0)))
        return net.op("Mul", y, net.const(0.5), name=name)
    if kind == "Gelu-tanh":
        cube = net.op("Mul", net.op("Mul", x, x), x)
        y = net.op("Add", x, net.op("Mul", cube, net.const(0.044715)))
        y = net.op("Tanh", net.op("Mul", y, net.const(0.7978845608)))
        y = net.op("Mul", net.op("Add", y, net.const(1.0)), net.const(0.5))
        return net.op("Mul", x, y, name=name)
    if kind == "HardSwish-clip":
        y = net.op("Clip", net.op("Add", x, net.const(3.0)), net.const(0.0), net.const(6.0))
        return net.op("Div", net.op("Mul", x, y), net.const(6.0), name=name)
    if kind == "Mish-decomposed":
        return net.op("Mul", x, net.op("Tanh", net.op("Softplus", x)), name=name)
    if kind == "Relu-max":
        return net.op("Max", x, net.const(0.0), name=name)
    return net.op(kind, x, name=name) if kind else net.op("Identity", x, name=name)


def add_tail(net: NetBuilder, logits: str, tail: str, classes: int, batch: int | str) -> Outputs:
    """What a classifier does with its logits (one of `TAILS`); returns the graph outputs with their types."""
    kind = _kind(net.dtype)
    scores = (kind, (batch, classes))
    if tail == "none":
        return {logits: scores}
    if tail == "argmax":
        return {net.op("ArgMax", logits, axis=1, keepdims=0, name="label"): (TensorProto.INT64, (batch,))}
    if tail == "sigmoid":
        return {net.op("Sigmoid", logits, name="probabilities"): scores}
    if tail.startswith("quantized"):
        scale, zero = net.const(0.1, name="scale"), net.const(128, np.uint8, "zero")
        x = net.op("QuantizeLinear", logits, scale, zero)
        x = net.op("DequantizeLinear", x, scale, zero, name="dequantized")
        return {net.op("Softmax", x, name="probabilities") if tail.endswith("softmax") else x: scores}
    if tail.startswith("decomposed") or tail == "logsumexp":
        return {_written_out(net, logits, tail, classes): scores}
    if tail == "dropout-softmax":
        logits = net.op("Dropout", logits, name="dropped")
    if tail == "logsoftmax":
        return {net.op("LogSoftmax", logits, name="log_probabilities"): scores}
    probabilities = net.op("Softmax", logits, name="probabilities")
    if tail in ("softmax", "dropout-softmax"):
        return {probabilities: scores}
    if tail == "softmax-identity":
        return {net.op("Identity", probabilities, name="out"): scores}
    if tail == "softmax-cast":
        wide = net.op("Cast", probabilities, to=TensorProto.DOUBLE, name="out")
        return {wide: (TensorProto.DOUBLE, scores[1])}
    if tail == "softmax-argmax":
        label = net.op("ArgMax", probabilities, axis=1, keepdims=0, name="label")
        return {label: (TensorProto.INT64, (batch,)), probabilities: scores}
    if tail == "softmax-topk":
        tops = ["top_values", "top_classes"]
        if net.opset >= 10:
            net.nodes.append(helper.make_node("TopK", [probabilities, net.ints(2)], tops))
        else:
            net.nodes.append(helper.make_node("TopK", [probabilities], tops, k=2))
        return {"top_values": (kind, (batch, 2)), "top_classes": (TensorProto.INT64, (batch, 2))}
    net.ml = True
    if tail == "softmax-normalizer":
        return {net.op("Normalizer", probabilities, domain="ai.onnx.ml", norm="L1", name="out"): scores}
    if tail == "softmax-zipmap":
        label = net.op("ArgMax", probabilities, axis=1, keepdims=0, name="label")
        names = list(range(classes))
        net.op("ZipMap", probabilities, domain="ai.onnx.ml", name="zipped", classlabels_int64s=names)
        score = helper.make_map_type_proto(TensorProto.INT64, helper.make_tensor_type_proto(kind, ()))
        return {label: (TensorProto.INT64, (batch,)), "zipped": helper.make_sequence_type_proto(score)}
    raise ValueError(f"no such tail: {tail}")


def _written_out(net: NetBuilder, x: str, tail: str, classes: int) -> str:
    if tail == "logsumexp":
        return net.op("Sub", x, net.reduce("ReduceLogSumExp", x, 1), name="log_probabilities")
    if tail == "decomposed-plain":
        power = net.op("Exp", x)
        return net.op("Div", power, net.reduce("ReduceSum", power, 1), name="probabilities")
    if tail == "decomposed-tf2onnx":
        batch = net.op("Slice", net.op("Shape", x), net.ints(0), net.ints(1))
        shape = net.op("Concat", batch, net.ints(1), axis=0)
        wide = net.op("Concat", batch, net.ints(classes), axis=0)
        top = net.op("Max", net.const(-np.inf), net.reduce("ReduceMax", x, 1, keepdims=0))
        power = net.op("Exp", net.op("Sub", x, net.op("Expand", net.op("Reshape", top, shape), wide)))
        total = net.op("Reshape", net.reduce("ReduceSum", power, 1, keepdims=0), shape)
        return net.op("Div", power, net.op("Expand", total, wide), name="probabilities")
    power = net.op("Exp", net.op("Sub", x, net.reduce("ReduceMax", x, 1)))
    total = net.reduce("ReduceSum", power, 1)
    if tail == "decomposed-reciprocal":
        return net.op("Mul", power, net.op("Reciprocal", total), name="probabilities")
    if tail == "decomposed-log":
        return net.op("Log", net.op("Div", power, total), name="log_probabilities")
    return net.op("Div", power, total, name="probabilities")


def _layer_norm(net: NetBuilder, x: str, width: int) -> str:
    return net.op("LayerNormalization", x, net.const(np.ones(width)), net.const(np.zeros(width)), axis=-1)


def _kind(dtype: object) -> int:
    return helper.np_dtype_to_tensor_dtype(np.dtype(dtype))


def _sane_weight(rng: np.random.Generator, shape: tuple[int, ...], role: str, gain: float) -> np.ndarray:
    if role in ("BatchNormalization.1", "Mul.1"):
        return np.full(shape, gain, np.float32)
    if role == "BatchNormalization.4":
        return np.ones(shape, np.float32)
    if len(shape) >= 2:
        deviation = np.float32(np.sqrt(2 / np.prod(shape[1:])))
        return rng.standard_normal(shape, dtype=np.float32) * deviation
    return np.zeros(shape, np.float32)
