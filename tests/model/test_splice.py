"""A splice adds what the tweak says, leaves every other byte, and refuses what it cannot do."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.external_data_helper import set_external_data

from onnxtweak.errors import ModelError, OnnxtweakError
from onnxtweak.model.edit.diff import diff, only_the_splice
from onnxtweak.model.edit.expose import expose
from onnxtweak.model.edit.revert import revert
from onnxtweak.model.edit.splice import splice, splice_to_run
from onnxtweak.model.file import protobuf_edit
from onnxtweak.model.file.model_file import parse, read_model
from onnxtweak.model.file.output_file import write_model
from onnxtweak.model.file.tweak_metadata import tweaks_inside
from onnxtweak.model.graph import GraphIndex
from onnxtweak.model.logits_format import LogitsFormat
from onnxtweak.patch import Linear
from onnxtweak.types import Neurons, Tap
from tests.support import nets, tweaks

SIZE = {"size": 16, "channels": (8, 8, 8), "classes": 5}
CIFAR = Path(__file__).resolve().parents[2] / ".." / "shared" / "models" / "cnn3_cifar10.onnx"


def check(
    model, tweak, feeds, tolerance=1e-5, dtype="float32", layout="NC", after_logits=lambda logits: logits
):
    """Splice and hold the result to everything a splice promises; returns its bytes.

    after_logits : what the base does with its logits to get its first output.
    """
    bytes_before = model.path.read_bytes()
    proto_before = model.proto.SerializeToString()
    logits_format = LogitsFormat(layout, dtype)
    data, to_run = splice(model, tweak, logits_format), splice_to_run(model, tweak, logits_format)
    assert data == splice(model, tweak, logits_format)
    inside = [len(tweaks_inside(parse(made))) for made in (to_run, data)]
    assert data.startswith(to_run) and inside[1] == inside[0] + 1
    exposed = expose(model.graph, tweak.logits, (), tweak.neurons, LogitsFormat(dtype=dtype))
    place = model.path.with_name("exposed.onnx")
    place.write_bytes(exposed.proto.SerializeToString())
    logits, values = tweaks.run(place, feeds)
    target, neutral = model.path.with_name("tweaked.onnx"), model.path.with_name("neutral.onnx")
    target.write_bytes(data)
    neutral.write_bytes(splice(model, tweak, logits_format, scale=0.0))
    expected = logits + tweaks.added(tweak.patch, values, tweak.classes).reshape(logits.shape)
    (out, *_), (base, *_) = tweaks.run(target, feeds), tweaks.run(model.path, feeds)
    np.testing.assert_allclose(out, after_logits(expected), rtol=tolerance, atol=tolerance)
    assert not np.allclose(out, base, rtol=tolerance, atol=tolerance)
    for one, other in zip(tweaks.run(neutral, feeds), tweaks.run(model.path, feeds), strict=True):
        assert np.array_equal(one, other)
    assert revert(data) == model.data
    differences = diff(model.data, data)
    assert differences and only_the_splice(differences)
    assert model.path.read_bytes() == bytes_before and model.proto.SerializeToString() == proto_before
    return data


def softmax(logits):
    power = np.exp(logits - logits.max(1, keepdims=True))
    return power / power.sum(1, keepdims=True)


@pytest.mark.parametrize("kind", ["synapses", "linear", "mlp"])
@pytest.mark.parametrize("tail", ["none", "softmax"])
def test_the_logits_become_what_the_tables_say(tmp_path, kind, tail):
    model = tweaks.saved(nets.cnn3(tail=tail, **SIZE), tmp_path)
    tweak = tweaks.random_tweak(model, tweaks.CNN3_TAPS, 5, kind)
    data = check(
        model,
        tweak,
        nets.random_inputs(model.proto, 4),
        after_logits=softmax if tail == "softmax" else lambda z: z,
    )
    onnx.checker.check_model(data, full_check=True)


@pytest.mark.parametrize("opset", range(7, onnx.defs.onnx_opset_version() + 1))
def test_every_opset_from_seven(tmp_path, opset):
    model = tweaks.saved(nets.cnn3(opset=opset, ir=3 if opset < 9 else 8, tail="softmax", **SIZE), tmp_path)
    tweak = tweaks.random_tweak(model, tweaks.CNN3_TAPS, 5)
    data = check(model, tweak, nets.random_inputs(model.proto, 2), after_logits=softmax)
    onnx.checker.check_model(data)
    tweaked = parse(data)
    assert tweaked.ir_version == model.proto.ir_version and tweaked.opset_import == model.proto.opset_import


@pytest.mark.parametrize("ir", [3, 4])
def test_initializers_are_inputs_only_before_ir_version_four(tmp_path, ir):
    model = tweaks.saved(nets.cnn3(opset=9, ir=ir, **SIZE), tmp_path)
    data = check(model, tweaks.random_tweak(model, tweaks.CNN3_TAPS, 5), nets.random_inputs(model.proto, 2))
    names = [value.name for value in parse(data).graph.input if value.name.startswith("onnxtweak/")]
    assert bool(names) == (ir == 3)


@pytest.mark.parametrize(("dtype", "tolerance"), [("float16", 2e-2), ("float64", 1e-6)])
def test_other_float_types(tmp_path, dtype, tolerance):
    proto = nets.mlp(dtype=np.dtype(dtype).type)
    model = tweaks.saved(proto, tmp_path)
    taps = [Tap("act1", "Relu", (16,), dtype), Tap("act2", "Relu", (12,), dtype)]
    tweak = tweaks.random_tweak(model, taps, 4)
    check(model, tweak, nets.random_inputs(proto, 3), tolerance, dtype)


@pytest.mark.parametrize("tail", ["none", "softmax", "flatten-softmax", "nhwc-softmax"])
def test_logits_with_positions(tmp_path, tail):
    model = tweaks.saved(nets.cnn_1x1(tail=tail), tmp_path)
    tweak = tweaks.random_tweak(model, [Tap("relu1", "Relu", (6, 8, 8))], 5, "linear", logits="scores")
    after = {
        "none": lambda z: z,
        "softmax": softmax,
        "flatten-softmax": lambda z: softmax(z[:, :, 0, 0]),
        "nhwc-softmax": lambda z: softmax(z).transpose(0, 2, 3, 1),
    }
    check(model, tweak, nets.random_inputs(model.proto, 3), layout="NC11", after_logits=after[tail])


def test_logits_with_channels_last(tmp_path):
    model = tweaks.saved(nets.cnn_1x1(tail="nhwc-softmax"), tmp_path)
    tweak = tweaks.random_tweak(model, [Tap("relu2", "Relu", (8, 4, 4))], 5, logits="nhwc")
    feeds = nets.random_inputs(model.proto, 3)
    check(model, tweak, feeds, layout="N11C", after_logits=lambda z: softmax(z[:, 0, 0])[:, None, None])


def test_a_bias_alone(tmp_path):
    model = tweaks.saved(nets.mlp(), tmp_path)
    none = Neurons((), np.zeros(0, np.int32), np.zeros(0, np.int64))
    tweak = replace(tweaks.random_tweak(model, [Tap("act1", "Relu", (16,))], 4), neurons=none)
    tweak = replace(tweak, kind="bias", patch=Linear(np.zeros((0, 4)), np.array([0, 1.5, 0, -2])))
    data = splice(model, tweak)
    feeds = nets.random_inputs(model.proto, 3)
    np.testing.assert_allclose(
        tweaks.run(data, feeds)[0] - tweaks.run(model.data, feeds)[0], [[0, 1.5, 0, -2]] * 3, atol=1e-6
    )
    assert revert(data) == model.data


@pytest.mark.parametrize("locations", [("w.bin",), ("a.bin", "b.bin")])
def test_external_data_stays_external(tmp_path, locations):
    proto = nets.mlp()
    for number, tensor in enumerate(proto.graph.initializer):
        place = tmp_path / locations[number % len(locations)]
        with open(place, "ab") as file:
            offset = file.tell()
            file.write(tensor.raw_data)
        set_external_data(tensor, place.name, offset, len(tensor.raw_data))
        tensor.ClearField("raw_data")
    model = tweaks.saved(proto, tmp_path)
    tweak = tweaks.random_tweak(model, [Tap("act1", "Relu", (16,)), Tap("act2", "Relu", (12,))], 4)
    feeds = nets.random_inputs(proto, 3)
    data = check(model, tweak, feeds)
    assert len(data) < len(model.data) + 5000
    (tmp_path / "elsewhere").mkdir()
    written = write_model(model, tmp_path / "elsewhere" / "out.onnx", [data])
    assert len(written) == 1 + len(locations)
    assert np.array_equal(tweaks.run(written[0], feeds)[0], tweaks.run(tmp_path / "tweaked.onnx", feeds)[0])
    again = read_model(written[0])
    assert again.base_sha256 != model.base_sha256 and len(again.external) == len(locations)


def test_nodes_in_any_order(tmp_path):
    proto = nets.cnn3(**SIZE)
    nodes = list(proto.graph.node)[::-1]
    del proto.graph.node[:]
    proto.graph.node.extend(nodes)
    model = tweaks.saved(proto, tmp_path)
    check(model, tweaks.random_tweak(model, tweaks.CNN3_TAPS, 5), nets.random_inputs(proto, 2))


def two_heads(late_first):
    """Logits, then a second head behind them; `late` is not needed by the logits."""
    net = nets.NetBuilder()
    net.op("Relu", "x", name="hidden")
    if late_first:
        net.op("Relu", net.gemm("hidden", 4, 4), name="late")
    net.op("Softmax", net.gemm("hidden", 4, 3, name="logits"), name="y")
    if not late_first:
        net.op("Relu", net.gemm("hidden", 4, 4), name="late")
    net.op("Neg", "late", name="other")
    return net.model({"x": (1, ("N", 4))}, {"y": (1, ("N", 3)), "other": (1, ("N", 4))})


def test_a_tap_beside_the_logits_path(tmp_path):
    model = tweaks.saved(two_heads(late_first=True), tmp_path)
    tweak = tweaks.random_tweak(model, [Tap("late", "Relu", (4,))], 3)
    onnx.checker.check_model(check(model, tweak, nets.random_inputs(model.proto, 3), after_logits=softmax))
    model = tweaks.saved(two_heads(late_first=False), tmp_path, "late.onnx")
    with pytest.raises(ModelError, match="after the logits are used"):
        splice(model, replace(tweak, base_sha256=model.base_sha256))


def test_names_of_ours_that_are_taken_are_avoided(tmp_path):
    proto = nets.mlp()
    for node in proto.graph.node:
        node.output[:] = ["onnxtweak/1/logits" if name == "act1" else name for name in node.output]
        node.input[:] = ["onnxtweak/1/logits" if name == "act1" else name for name in node.input]
    model = tweaks.saved(proto, tmp_path)
    tweak = tweaks.random_tweak(model, [Tap("onnxtweak/1/logits", "Relu", (16,))], 4)
    data = check(model, tweak, nets.random_inputs(proto, 3))
    outputs = [name for node in parse(data).graph.node for name in node.output]
    assert len(set(outputs)) == len(outputs) and "onnxtweak/1_2/logits" in outputs


def test_fields_that_nobody_knows_survive(tmp_path):
    proto = nets.mlp(tail="softmax")
    unknown = protobuf_edit.record(1999, b"keep me")
    for node in proto.graph.node:
        node.MergeFromString(unknown)
    proto.graph.initializer[0].MergeFromString(unknown)
    proto.graph.MergeFromString(unknown)
    proto.MergeFromString(unknown)
    model = tweaks.saved(proto, tmp_path)
    count = model.data.count(b"keep me")
    tweak = tweaks.random_tweak(model, [Tap("act1", "Relu", (16,))], 4)
    data = check(model, tweak, nets.random_inputs(proto, 2), after_logits=softmax)
    assert count == len(proto.graph.node) + 3 == data.count(b"keep me")


def padded(number):
    """A varint one byte longer than it needs to be, as writers leave that fill lengths in later."""
    short = bytearray(protobuf_edit.varint(number))
    short[-1] |= 0x80
    return bytes(short) + b"\0"


def test_lengths_written_with_padding_come_back_as_they_were(tmp_path):
    proto = nets.mlp()
    graph = b"".join(
        b"\x0a" + padded(len(node.SerializeToString())) + node.SerializeToString()
        for node in proto.graph.node
    )
    del proto.graph.node[:]
    graph = graph + proto.graph.SerializeToString()
    proto.ClearField("graph")
    path = tmp_path / "padded.onnx"
    path.write_bytes(b"\x3a" + padded(len(graph)) + graph + proto.SerializeToString())
    model = read_model(path)
    check(
        model, tweaks.random_tweak(model, [Tap("act1", "Relu", (16,))], 4), nets.random_inputs(model.proto, 2)
    )


@pytest.mark.parametrize("ir", [3, 8])
def test_a_graph_in_several_parts_is_edited_where_it_lies(tmp_path, ir):
    proto = nets.mlp(opset=9, ir=ir, tail="softmax")
    first, second = onnx.GraphProto(), onnx.GraphProto()
    first.CopyFrom(proto.graph)
    del first.node[3:]
    second.node.extend(proto.graph.node[3:])
    proto.ClearField("graph")
    path = tmp_path / "parts.onnx"
    parts = (
        protobuf_edit.record(7, first.SerializeToString()),
        protobuf_edit.record(7, second.SerializeToString()),
    )
    path.write_bytes(parts[0] + proto.SerializeToString() + parts[1])
    model = read_model(path)
    tweak = tweaks.random_tweak(model, [Tap("act1", "Relu", (16,)), Tap("act2", "Relu", (12,))], 4)
    check(model, tweak, nets.random_inputs(model.proto, 2), after_logits=softmax)


def test_logits_among_several_outputs_of_one_node(tmp_path):
    net = nets.NetBuilder()
    wide = net.gemm(net.op("Relu", "x", name="hidden"), 4, 6)
    net.nodes.append(helper.make_node("Split", [wide], ["first", "logits"], axis=1, num_outputs=2))
    net.opset = 18
    proto = net.model({"x": (1, ("N", 4))}, {"logits": (1, ("N", 3)), "first": (1, ("N", 3))})
    model = tweaks.saved(proto, tmp_path)
    check(model, tweaks.random_tweak(model, [Tap("hidden", "Relu", (4,))], 3), nets.random_inputs(proto, 3))


def test_provenance_is_in_the_metadata(tmp_path):
    model = tweaks.saved(nets.mlp(), tmp_path)
    tweak = tweaks.random_tweak(model, [Tap("act1", "Relu", (16,))], 4)
    entries = {entry.key: entry.value for entry in parse(splice(model, tweak, scale=0.5)).metadata_props}
    assert entries["onnxtweak.1.base_sha256"] == model.base_sha256
    assert entries["onnxtweak.1.kind"] == "join" and entries["onnxtweak.1.scale"] == "0.5"
    assert '"data_sha256":"abab' in entries["onnxtweak.1.provenance"]


def test_scaled_scales_what_is_added(tmp_path):
    values = np.random.default_rng(0).normal(0, 1, (3, 6))
    for kind in ("synapses", "linear", "mlp"):
        patch = tweaks.random_patch(kind, 6, 4)
        np.testing.assert_allclose(
            tweaks.added(patch.scaled(-1.5), values, 4), -1.5 * tweaks.added(patch, values, 4), rtol=1e-12
        )


def test_another_base_is_refused(tmp_path):
    model = tweaks.saved(nets.mlp(), tmp_path)
    other = tweaks.saved(nets.mlp(seed=1), tmp_path, "other.onnx")
    tweak = tweaks.random_tweak(other, [Tap("act1", "Relu", (16,))], 4)
    with pytest.raises(ModelError, match="another model") as caught:
        splice(model, tweak)
    assert model.sha256[:12] in caught.value.what and other.sha256[:12] in caught.value.what


@pytest.mark.parametrize(
    ("tap", "logits", "says"),
    [
        ("act1", "nowhere", "exactly one node"),
        ("act1", "input", "exactly one node"),
        ("act1", "weight_1", "exactly one node"),
        ("nowhere", "logits", "does not compute"),
        ("probabilities", "logits", "depends on the logits"),
        ("logits", "logits", "depends on the logits"),
    ],
)
def test_tensors_that_cannot_be_joined_are_refused(tmp_path, tap, logits, says):
    model = tweaks.saved(nets.mlp(tail="softmax"), tmp_path)
    tweak = tweaks.random_tweak(model, [Tap(tap, "Relu", (4,))], 4, logits=logits)
    with pytest.raises(ModelError, match=says) as caught:
        splice(model, tweak)
    assert caught.value.hint


def test_logits_inside_a_local_function_are_refused(tmp_path):
    proto = nets.mlp()
    function = helper.make_function(
        "local", "Twice", ["a"], ["inside"], [helper.make_node("Add", ["a", "a"], ["inside"])],
        [helper.make_opsetid("", 17)],
    )  # fmt: skip
    proto.functions.append(function)
    proto.opset_import.append(helper.make_opsetid("local", 1))
    model = tweaks.saved(proto, tmp_path)
    tweak = tweaks.random_tweak(model, [Tap("act1", "Relu", (16,))], 4)
    with pytest.raises(ModelError, match="main graph"):
        splice(model, replace(tweak, logits="inside"))
    check(model, tweak, nets.random_inputs(proto, 2))


def test_an_opset_without_broadcasting_is_refused(tmp_path):
    proto = nets.mlp(opset=7, ir=3)
    proto.opset_import[0].version = 6
    model = tweaks.saved(proto, tmp_path)
    with pytest.raises(ModelError, match="opset 6"):
        splice(model, tweaks.random_tweak(model, [Tap("act1", "Relu", (16,))], 4))


@pytest.mark.parametrize("scale", [float("nan"), float("inf")])
def test_a_scale_must_be_finite(tmp_path, scale):
    model = tweaks.saved(nets.mlp(), tmp_path)
    with pytest.raises(ModelError, match="scale"):
        splice(model, tweaks.random_tweak(model, [Tap("act1", "Relu", (16,))], 4), scale=scale)


def test_damaged_files_are_refused_or_spliced_but_never_crash(tmp_path):
    """A byte changed anywhere: either the model is refused, or the splice keeps its promises."""
    good = nets.mlp(inputs=3, hidden=(4,), classes=2).SerializeToString()
    rng = np.random.default_rng(0)
    spliced = refused = 0
    for _ in range(300):
        data = bytearray(good)
        for position in rng.integers(0, len(data), rng.integers(1, 4)):
            data[position] = rng.integers(0, 256)
        path = tmp_path / "damaged.onnx"
        path.write_bytes(data)
        try:
            model = read_model(path)
            out = splice(model, tweaks.random_tweak(model, [Tap("act1", "Relu", (4,))], 2))
        except OnnxtweakError as error:
            assert error.exit_code == 2, error
            refused += 1
        else:
            assert revert(out) == bytes(data)
            spliced += 1
    assert spliced > 20 and refused > 20


# The others are made of the same operators, and take longer: Inception's first version normalises as AlexNet
# does, its second one and ResNet as DenseNet does.
WHEEL = ("light_inception_v1", "light_inception_v2", "light_resnet50", "light_shufflenet", "light_squeezenet")


@pytest.mark.parametrize("name", WHEEL)
def test_the_models_of_the_onnx_wheel(tmp_path, name):
    path = nets.LIGHT / f"{name}.onnx"
    before = path.read_bytes()
    model = read_model(path)
    graph = model.proto.graph
    taps = [node.output[0] for node in graph.node if node.op_type == "Relu"][-2:]
    assert len(taps) == 2
    last = graph.node[-1]
    logits = last.input[0] if last.op_type == "Softmax" else last.output[0]
    raw = expose(model.graph, logits, [Tap(tap, "Relu", ()) for tap in taps])
    x = np.random.default_rng(0).normal(0, 1, (1, 3, 224, 224)).astype(np.float32)
    feeds = {graph.input[0].name: x}
    feeds = {value.name: x for value in raw.proto.graph.input if not _is_weight(raw.proto, value.name)}
    z, *maps = tweaks.run(raw.proto, feeds)
    taps = [Tap(tap, "Relu", array.shape[1:]) for tap, array in zip(taps, maps, strict=True)]
    classes = z.size
    layout = "NC" if z.ndim == 2 else "NC11"
    tweak = tweaks.random_tweak(model, taps, classes, logits=logits)
    values = tweaks.chosen(tweak.neurons, maps)
    data = splice(model, tweak, LogitsFormat(layout))
    after = tweaks.run(expose(GraphIndex(parse(data)), logits, ()).proto, feeds)[0]
    np.testing.assert_allclose(
        after, z + tweaks.added(tweak.patch, values, classes).reshape(z.shape), atol=1e-4
    )
    neutral = splice(model, tweak, LogitsFormat(layout), scale=0.0)
    for one, other in zip(tweaks.run(neutral, feeds), tweaks.run(before, feeds), strict=True):
        assert np.array_equal(one, other)
    onnx.checker.check_model(data)
    assert revert(data) == before == path.read_bytes()


def _is_weight(proto, name):
    return name in {tensor.name for tensor in proto.graph.initializer}


@pytest.mark.skipif(not CIFAR.exists(), reason="the shared CIFAR-10 model is not on this machine")
def test_the_cifar_model(tmp_path):
    model = read_model(CIFAR)
    copy = tmp_path / "cifar.onnx"
    copy.write_bytes(model.data)
    model = read_model(copy)
    taps = [node.output[0] for node in model.proto.graph.node if node.op_type == "Relu"]
    logits = model.proto.graph.output[0].name
    feeds = nets.random_inputs(model.proto, 4)
    maps = tweaks.run(expose(model.graph, logits, [Tap(tap, "Relu", ()) for tap in taps]).proto, feeds)[1:]
    shapes = [Tap(tap, "Relu", array.shape[1:]) for tap, array in zip(taps, maps, strict=True)]
    tweak = tweaks.random_tweak(model, shapes, 10, count=120, logits=logits)
    check(model, tweak, feeds, tolerance=1e-4)


def test_a_half_precision_weight_is_stored_in_half(tmp_path):
    proto = nets.mlp(dtype=np.float16)
    model = tweaks.saved(proto, tmp_path)
    tweak = tweaks.random_tweak(model, [Tap("act1", "Relu", (16,), "float16")], 4)
    tensors = {
        tensor.name: tensor
        for tensor in parse(splice(model, tweak, LogitsFormat(dtype="float16"))).graph.initializer
    }
    weight = tensors["onnxtweak/1/weight"]
    assert weight.data_type == TensorProto.FLOAT16
    placed = numpy_helper.to_array(weight)
    np.testing.assert_array_equal(
        placed[np.arange(7), tweak.patch.target], tweak.patch.weight.astype(np.float16)
    )
    assert np.count_nonzero(placed) == 7
