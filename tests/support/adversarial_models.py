"""Which model files are legal, and yet trip up tools that edit models?

Every case writes `base.onnx` (and what belongs to it) into a folder. All of them are classifiers with a
hidden layer `act1` (N, 6) and logits called `logits`, and ONNX Runtime loads all but those named in
`NOT_RUNNABLE`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
from onnx import GraphProto, ModelProto, TensorProto, helper, numpy_helper
from onnx.external_data_helper import set_external_data

from onnxtweak.model.file import protobuf_edit
from tests.support.nets import TAILS, NetBuilder, add_tail

FLOAT, HALF, BFLOAT, DOUBLE, INT64, STRING, BOOL = (
    TensorProto.FLOAT,
    TensorProto.FLOAT16,
    TensorProto.BFLOAT16,
    TensorProto.DOUBLE,
    TensorProto.INT64,
    TensorProto.STRING,
    TensorProto.BOOL,
)
Case = Callable[[Path], None]
CASES: dict[str, Case] = {}
NOT_RUNNABLE = {"a custom domain"}
_value = helper.make_tensor_value_info


def write(name: str, folder: Path) -> Path:
    """The case `name` on disk; path of its model."""
    CASES[name](folder)
    return folder / "base.onnx"


def _case(name: str) -> Callable:
    def register(build: Callable[[], ModelProto | bytes]) -> Callable:
        def save(folder: Path) -> None:
            made = build()
            data = made if isinstance(made, bytes) else made.SerializeToString()
            (folder / "base.onnx").write_bytes(data)

        CASES[name] = save
        return build

    return register


def _on_disk(name: str) -> Callable:
    def register(save: Case) -> Case:
        CASES[name] = save
        return save

    return register


def _begun(**options) -> NetBuilder:
    net = NetBuilder(**options)
    net.op("Relu", net.gemm("input", 8, 6), name="act1")
    return net


def _ended(net: NetBuilder, hidden: str = "act1", tail: str = "softmax", batch: int | str = "N", **inputs):
    kind = helper.np_dtype_to_tensor_dtype(net.dtype)
    net.gemm(hidden, 6, 3, name="logits")
    outputs = add_tail(net, "logits", tail, 3, batch)
    return net.model({"input": (kind, (batch, 8)), **inputs}, outputs)


def plain(**options) -> ModelProto:
    """The classifier that every case is made of."""
    return _ended(_begun(**options))


for _tail in TAILS:
    _case(f"tail {_tail}")(lambda tail=_tail: _ended(_begun(), tail=tail))
for _opset in range(7, onnx.defs.onnx_opset_version() + 1):
    _case(f"opset {_opset}")(lambda opset=_opset: plain(opset=opset, ir=3 if opset < 9 else 8))
for _ir in range(3, 13):
    _case(f"IR version {_ir}")(lambda ir=_ir: plain(opset=9 if ir < 8 else 17, ir=ir))
_case("float16")(lambda: plain(dtype=np.float16))
_case("double")(lambda: plain(dtype=np.float64))
_case("a fixed batch of one")(lambda: _ended(_begun(), batch=1))
_case("a fixed batch of four")(lambda: _ended(_begun(), batch=4))
_case("a batch axis without a name")(lambda: _ended(_begun(), batch=None))


@_case("bfloat16 logits")
def _():
    net = _begun()
    net.gemm("act1", 6, 3, name="wide")
    net.op("Cast", "wide", name="logits", to=BFLOAT)
    out = net.op("Softmax", net.op("Cast", "logits", to=FLOAT), name="out")
    return net.model({"input": (FLOAT, ("N", 8))}, {out: (FLOAT, ("N", 3))})


@_case("float16 behind float32")
def _():
    net = _begun()
    half = net.op("Cast", "act1", to=HALF)
    weight = net.const(np.random.default_rng(0).normal(0, 1, (6, 3)), np.float16)
    net.op("MatMul", half, weight, name="logits")
    return net.model({"input": (FLOAT, ("N", 8))}, {"logits": (HALF, ("N", 3))})


@_case("quantised to int8")
def _():
    net = NetBuilder()

    def quantise(x, scale, name=""):
        parts = net.const(scale, name="scale"), net.const(0, np.int8, "zero")
        return net.op("DequantizeLinear", net.op("QuantizeLinear", x, *parts), *parts, name=name)

    x = quantise("input", 0.03)
    for outputs, width in ((6, 8), (3, 6)):
        weight = net.const(np.random.default_rng(width).integers(-90, 90, (width, outputs)), np.int8)
        weight = net.op("DequantizeLinear", weight, net.const(0.01), net.const(0, np.int8))
        x = net.op("Gemm", x, weight, net.const(np.zeros(outputs)))
        x = quantise(
            net.op("Relu", x, name="act1") if outputs == 6 else x, 0.05, "" if outputs == 6 else "logits"
        )
    return net.model({"input": (FLOAT, ("N", 8))}, {"logits": (FLOAT, ("N", 3))})


@_case("dynamically quantised")
def _():
    net = _begun()
    quantised = [net.name("q"), net.name("scale"), net.name("zero")]
    net.nodes.append(helper.make_node("DynamicQuantizeLinear", ["act1"], quantised))
    weight = net.const(np.random.default_rng(0).integers(0, 250, (6, 3)), np.uint8)
    product = net.op("MatMulInteger", quantised[0], weight, quantised[1 + 1], net.const(128, np.uint8))
    net.op("Mul", net.op("Cast", product, to=FLOAT), quantised[1], name="logits")
    return net.model({"input": (FLOAT, ("N", 8))}, {"logits": (FLOAT, ("N", 3))})


# ------------------------------------------------------------------------------ how weights are stored


def _external(proto: ModelProto, locations, folder: Path) -> None:
    weights = list(proto.graph.initializer)
    parts: dict[str, bytearray] = {}
    for number, tensor in enumerate(weights):
        location = locations[number % len(locations)]
        part = parts.setdefault(location, bytearray())
        set_external_data(tensor, location, offset=len(part), length=len(tensor.raw_data))
        part += tensor.raw_data
        tensor.ClearField("raw_data")
    for location, part in parts.items():
        (folder / location).parent.mkdir(parents=True, exist_ok=True)
        (folder / location).write_bytes(part)
    (folder / "base.onnx").write_bytes(proto.SerializeToString())


@_on_disk("external weights, one file")
def _(folder):
    _external(plain(), ["base.onnx.data"], folder)


@_on_disk("external weights, many files")
def _(folder):
    _external(plain(), ["a.bin", "b.bin", "c d.bin", "ü.bin"], folder)


@_on_disk("external weights in another folder")
def _(folder):
    _external(plain(), ["weights/deep/a.bin", "weights/b.bin"], folder)


@_case("initializers that are inputs, IR 8")
def _():
    proto = plain()
    for tensor in proto.graph.initializer:
        proto.graph.input.append(_value(tensor.name, tensor.data_type, tensor.dims))
    return proto


@_case("a sparse initializer")
def _():
    proto = plain()
    tensor = proto.graph.initializer[0]
    array = numpy_helper.to_array(tensor).copy()
    array[np.abs(array) < 0.5] = 0
    places = np.flatnonzero(array)
    values = numpy_helper.from_array(array.reshape(-1)[places], tensor.name)
    indices = numpy_helper.from_array(places.astype(np.int64))
    proto.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, array.shape))
    del proto.graph.initializer[0]
    return proto


@_case("weights in Constant nodes")
def _():
    proto = plain()
    nodes = [helper.make_node("Constant", [], [t.name], value=t) for t in proto.graph.initializer]
    for node in reversed(nodes):
        proto.graph.node.insert(0, node)
    del proto.graph.initializer[:]
    return proto


@_case("weights in float_data")
def _():
    proto = plain()
    for tensor in proto.graph.initializer:
        values = numpy_helper.to_array(tensor).reshape(-1)
        tensor.ClearField("raw_data")
        tensor.float_data.extend(values)
    return proto


@_case("unused initializers and inputs")
def _():
    proto = plain()
    proto.graph.initializer.append(numpy_helper.from_array(np.zeros(3, np.float32), "nobody"))
    proto.graph.input.append(_value("unread", FLOAT, ["N", 2]))
    return proto


# ----------------------------------------------------------------------------------- how it is written


@_case("unsorted nodes")
def _():
    proto = plain()
    nodes = list(proto.graph.node)[::-1]
    del proto.graph.node[:]
    proto.graph.node.extend(nodes)
    return proto


@_case("nodes named like tensors")
def _():
    proto = plain()
    for number, node in enumerate(proto.graph.node):
        node.name = proto.graph.node[number - 1].output[0]
    return proto


@_case("names that a tweak would use")
def _():
    net = _begun()
    net.op("Identity", "act1", name="onnxtweak/1/logits")
    proto = _ended(net, "onnxtweak/1/logits")
    proto.graph.node[0].name = "onnxtweak/1/add"
    return proto


@_case("names with spaces, colons, slashes, other scripts")
def _():
    net = _begun()
    net.op("Identity", "act1", name="модель/слой 1:0;{x}")
    return _ended(net, "модель/слой 1:0;{x}")


@_case("fields that nobody knows")
def _():
    proto = plain()
    unknown = protobuf_edit.record(1999, b"keep me")
    for message in (proto, proto.graph, proto.graph.node[0], proto.graph.initializer[0]):
        message.MergeFromString(unknown)
    return proto


@_case("lengths with padding")
def _():
    data = plain().SerializeToString()
    graph = protobuf_edit.fields(list(protobuf_edit.scan(data)), 7)[0]
    size = graph.end - graph.value
    padded = bytes([size & 127 | 128, size >> 7 & 127 | 128, size >> 14 & 127 | 128, 128, 0])
    return data[: graph.after_tag] + padded + data[graph.value :]


@_case("a graph in two parts")
def _():
    proto = plain()
    second = GraphProto()
    second.node.extend(proto.graph.node[2:])
    second.output.extend(proto.graph.output)
    del proto.graph.node[2:]
    del proto.graph.output[:]
    return proto.SerializeToString() + protobuf_edit.record(7, second.SerializeToString())


@_case("the version behind the graph")
def _():
    proto = plain()
    head = ModelProto(ir_version=proto.ir_version)
    head.opset_import.extend(proto.opset_import)
    proto.ClearField("ir_version")
    proto.ClearField("opset_import")
    return proto.SerializeToString() + head.SerializeToString()


@_case("metadata, documentation, training info, annotations")
def _():
    proto = plain()
    helper.set_model_props(proto, {"author": "somebody", "onnxtweak": "a note of mine"})
    proto.doc_string = proto.graph.doc_string = "text"
    proto.domain, proto.model_version = "org.example", 7
    proto.graph.node[0].doc_string = "first"
    proto.graph.input[0].type.denotation = "TENSOR"
    training = proto.training_info.add()
    training.algorithm.name = "sgd"
    training.algorithm.node.append(helper.make_node("Identity", ["input"], ["same"]))
    note = proto.graph.quantization_annotation.add()
    note.tensor_name = "act1"
    note.quant_parameter_tensor_names.add(key="SCALE_TENSOR", value="const_1")
    return proto


@_case("operator sets that nobody uses, one spelled ai.onnx")
def _():
    proto = plain()
    proto.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    proto.opset_import.append(helper.make_opsetid("ai.onnx.ml", 3))
    proto.opset_import[0].domain = "ai.onnx"
    return proto


# ------------------------------------------------------------------------------------- what is in it


@_case("a local function before the logits")
def _():
    net = _begun()
    net.op("Twice", "act1", name="twice", domain="local")
    proto = _ended(net, "twice")
    body = [helper.make_node("Add", ["a", "a"], ["b"])]
    opsets = [helper.make_opsetid("", 17)]
    proto.functions.append(helper.make_function("local", "Twice", ["a"], ["b"], body, opsets))
    proto.opset_import.append(helper.make_opsetid("local", 1))
    return proto


def _branch(name: str, factor: float) -> GraphProto:
    out = f"{name}_out"
    weight = numpy_helper.from_array(np.float32(factor), f"{name}_factor")
    node = helper.make_node("Mul", ["act1", weight.name], [out])
    return helper.make_graph([node], name, [], [_value(out, FLOAT, None)], [weight])


@_case("If beside the path")
def _():
    net = _begun()
    flag = net.op("Greater", net.op("ReduceMax", "input", keepdims=0), net.const(0.0))
    branches = {"then_branch": _branch("then", 2.0), "else_branch": _branch("else", 0.5)}
    net.nodes.append(helper.make_node("If", [flag], ["chosen"], **branches))
    return _ended(net, net.op("Add", "act1", "chosen"))


@_case("Loop beside the path")
def _():
    net = _begun()
    body = helper.make_graph(
        [
            helper.make_node("Add", ["carried", "act1"], ["grown"]),
            helper.make_node("Identity", ["go"], ["go_on"]),
        ],
        "body",
        [_value("i", INT64, []), _value("go", BOOL, []), _value("carried", FLOAT, None)],
        [_value("go_on", BOOL, []), _value("grown", FLOAT, None)],
    )
    trips, go = net.const(3, np.int64), net.const(True, np.bool_)
    net.nodes.append(helper.make_node("Loop", [trips, go, "act1"], ["looped"], body=body))
    return _ended(net, "looped")


@_case("Scan beside the path")
def _():
    net = _begun()
    body = helper.make_graph(
        [
            helper.make_node("Add", ["sum_in", "row"], ["sum_out"]),
            helper.make_node("Identity", ["sum_out"], ["y"]),
        ],
        "body",
        [_value("sum_in", FLOAT, [6]), _value("row", FLOAT, [6])],
        [_value("sum_out", FLOAT, [6]), _value("y", FLOAT, [6])],
    )
    start = net.const(np.zeros(6))
    net.nodes.append(
        helper.make_node("Scan", [start, "act1"], ["total", "running"], body=body, num_scan_inputs=1)
    )
    net.op("Add", "act1", net.op("Mul", "running", net.const(0.0)), name="joined")
    return _ended(net, "joined")


@_case("logits read inside an If")
def _():
    net = _begun()
    net.gemm("act1", 6, 3, name="logits")

    def branch(name, op):
        node = helper.make_node(op, ["logits"], [f"{name}_out"])
        return helper.make_graph([node], name, [], [_value(f"{name}_out", FLOAT, None)])

    flag = net.op("Greater", net.op("ReduceMax", "input", keepdims=0), net.const(0.0))
    branches = {"then_branch": branch("then", "Identity"), "else_branch": branch("else", "Abs")}
    net.nodes.append(helper.make_node("If", [flag], ["scaled"], **branches))
    net.op("Softmax", "logits", name="out")
    return net.model({"input": (FLOAT, ("N", 8))}, {"out": (FLOAT, ("N", 3)), "scaled": (FLOAT, ("N", 3))})


@_case("an operator of the runtime")
def _():
    net = _begun()
    net.op("Gelu", "act1", name="gelu", domain="com.microsoft")
    proto = _ended(net, "gelu")
    proto.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    return proto


@_case("a custom domain")
def _():
    net = _begun()
    net.op("Warp", "act1", name="warped", domain="com.example")
    proto = _ended(net, "warped")
    proto.opset_import.append(helper.make_opsetid("com.example", 1))
    return proto


@_case("several inputs, one of them whole numbers")
def _():
    net = _begun()
    table = net.const(np.random.default_rng(0).normal(0, 1, (8, 6)))
    joined = net.op("Add", "act1", net.op("Gather", table, "kind"), name="joined")
    return _ended(net, joined, kind=(INT64, ("N",)))


@_case("several outputs, hidden ones too")
def _():
    proto = plain()
    proto.graph.output.append(_value("act1", FLOAT, ["N", 6]))
    proto.graph.output.append(_value("logits", FLOAT, ["N", 3]))
    return proto


@_case("logits among several outputs of one node")
def _():
    net = _begun()
    net.gemm("act1", 6, 6, name="both")
    net.nodes.append(helper.make_node("Split", ["both", net.ints(3, 3)], ["rest", "logits"], axis=1))
    out = net.op("Softmax", "logits", name="out")
    return net.model({"input": (FLOAT, ("N", 8))}, {out: (FLOAT, ("N", 3)), "rest": (FLOAT, ("N", 3))})


@_case("names of classes as strings")
def _():
    net = _begun()
    net.ml = True
    net.gemm("act1", 6, 3, name="logits")
    winner = net.op("ArgMax", "logits", axis=1, keepdims=0)
    words = [b"ant", b"bee", b"cat"]
    label = net.op("LabelEncoder", winner, domain="ai.onnx.ml", keys_int64s=[0, 1, 2], values_strings=words)
    proto = net.model({"input": (FLOAT, ("N", 8))}, {label: (STRING, ("N",))})
    proto.opset_import[1].version = 2
    return proto


@_case("a sequence as an output")
def _():
    net = _begun()
    net.gemm("act1", 6, 3, name="logits")
    out = net.op("Softmax", "logits", name="out")
    net.op("SplitToSequence", "act1", axis=1, name="parts")
    parts = helper.make_sequence_type_proto(helper.make_tensor_type_proto(FLOAT, None))
    return net.model({"input": (FLOAT, ("N", 8))}, {out: (FLOAT, ("N", 3)), "parts": parts})


@_case("optional inputs left empty")
def _():
    net = _begun()
    return _ended(net, net.op("Clip", "act1", "", net.const(4.0)))


@_case("an output that is an input")
def _():
    net = _begun()
    net.gemm("act1", 6, 3, name="logits")
    net.op("Identity", "input", name="echo")
    return net.model({"input": (FLOAT, ("N", 8))}, {"logits": (FLOAT, ("N", 3)), "echo": (FLOAT, ("N", 8))})


@_case("random noise beside the path")
def _():
    net = _begun()
    noise = net.op("RandomNormalLike", "act1", seed=1.0, scale=0.001)
    return _ended(net, net.op("Add", "act1", noise))


@_case("logits that are never shown")
def _():
    return _ended(_begun(), tail="softmax-topk")
