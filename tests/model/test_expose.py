"""The exposed model computes what the base computes, and no more than is asked for."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnxtweak.errors import ModelError
from onnxtweak.model.edit.expose import expose
from onnxtweak.model.edit.piece_builder import ELEMENT_TYPES
from onnxtweak.model.graph import GraphIndex
from onnxtweak.model.logits_format import LogitsFormat
from onnxtweak.types import Neurons, Tap
from tests.support import nets, tweaks

SIZE = {"size": 16, "channels": (8, 8, 8), "classes": 5}


def small(**options):
    return nets.cnn3(**SIZE | options)


def operators(proto):
    return [node.op_type for node in proto.graph.node]


def test_taps_come_out_in_their_own_shape_and_pooled_ones_as_channels():
    proto = small()
    taps = (*tweaks.CNN3_TAPS, Tap("relu2", "Relu", (8, 8, 8), pool="max"))
    exposed = expose(GraphIndex(proto), "logits", taps)
    feeds = nets.random_inputs(proto, 3)
    logits, *values = tweaks.run(exposed.proto, feeds, [exposed.logits, *exposed.outputs])
    assert exposed.logits == "logits" and len(exposed.outputs) == 4
    assert [value.shape for value in values] == [(3, 8, 16, 16), (3, 8), (3, 32), (3, 8)]
    assert np.array_equal(logits, tweaks.run(proto, feeds)[0])
    relu3, relu2 = tweaks.run(
        expose(GraphIndex(proto), "logits", [Tap("relu3", "", ()), Tap("relu2", "", ())]).proto, feeds
    )[1:]
    np.testing.assert_allclose(values[1], relu3.mean((2, 3)), rtol=1e-5)
    np.testing.assert_array_equal(values[3], relu2.max((2, 3)))


@pytest.mark.parametrize(("opset", "ir"), [(7, 3), (9, 3), (11, 6), (13, 7), (18, 8), (21, 10), (24, 11)])
def test_chosen_values_come_in_the_order_of_the_neurons(opset, ir):
    proto = small(opset=opset, ir=ir)
    neurons = tweaks.random_neurons(tweaks.CNN3_TAPS, 11)
    feeds = nets.random_inputs(proto, 3)
    exposed = expose(GraphIndex(proto), "logits", (), neurons)
    onnx.checker.check_model(typed(exposed.proto))
    logits, values = tweaks.run(exposed.proto, feeds, [exposed.logits, *exposed.outputs])
    raw = expose(GraphIndex(proto), "logits", [Tap(tap.name, tap.op, tap.shape) for tap in neurons.taps])
    arrays = tweaks.run(raw.proto, feeds, raw.outputs)
    assert values.shape == (3, 11) and values.dtype == np.float32
    np.testing.assert_allclose(values, tweaks.chosen(neurons, arrays), rtol=1e-5, atol=1e-6)
    assert np.array_equal(logits, tweaks.run(proto, feeds)[0])


def typed(proto):
    """The checker, unlike the runtime, wants the outputs' types."""
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    for output in copy.graph.output:
        output.CopyFrom(helper.make_tensor_value_info(output.name, TensorProto.FLOAT, [None, None]))
    return copy


def test_the_same_neuron_may_be_chosen_twice_and_one_tap_needs_no_concat():
    proto = small()
    neurons = Neurons(tweaks.CNN3_TAPS, np.array([2, 2, 2], np.int32), np.array([5, 0, 5]))
    exposed = expose(GraphIndex(proto), "logits", (), neurons)
    assert "Concat" not in operators(exposed.proto)
    feeds = nets.random_inputs(proto, 2)
    values = tweaks.run(exposed.proto, feeds, exposed.outputs)[0]
    assert np.array_equal(values[:, 0], values[:, 2]) and not np.array_equal(values[:, 0], values[:, 1])


def test_what_no_output_needs_is_cut_off():
    proto = small(tail="softmax", ir=3)
    exposed = expose(GraphIndex(proto), "relu1", ())
    assert exposed.logits == "relu1" and exposed.outputs == ()
    assert operators(exposed.proto) == ["Conv", "Relu"]
    assert len(exposed.proto.graph.initializer) == 2
    assert [value.name for value in exposed.proto.graph.input] == [
        "input",
        *(tensor.name for tensor in exposed.proto.graph.initializer),
    ]
    assert operators(expose(GraphIndex(proto), "logits", ()).proto)[-1] == "Gemm"


def test_original_outputs_are_dropped():
    proto = small(tail="softmax-argmax")
    exposed = expose(GraphIndex(proto), "logits", ())
    assert [output.name for output in exposed.proto.graph.output] == ["logits"]
    (logits,) = tweaks.run(exposed.proto, nets.random_inputs(proto, 4))
    label = tweaks.run(proto, nets.random_inputs(proto, 4), ["label"])[0]
    assert np.array_equal(logits.argmax(1), label)


def test_inputs_that_nothing_needs_are_dropped():
    net = nets.NetBuilder()
    net.gemm(net.op("Relu", "x", name="hidden"), 4, 3, name="logits")
    net.op("Neg", "side", name="other")
    proto = net.model(
        {"x": (1, ("N", 4)), "side": (1, ("N", 2))}, {"logits": (1, ("N", 3)), "other": (1, ("N", 2))}
    )
    assert [value.name for value in expose(GraphIndex(proto), "logits", ()).proto.graph.input] == ["x"]


def test_a_tap_may_be_named_twice_be_an_input_or_be_the_logits():
    proto = nets.mlp()
    taps = [Tap(name, "", (1,)) for name in ("act1", "act1", "input", "logits")]
    exposed = expose(GraphIndex(proto), "logits", taps)
    assert len({exposed.logits, *exposed.outputs}) == 5
    feeds = nets.random_inputs(proto, 3)
    logits, one, other, given, same = tweaks.run(exposed.proto, feeds)
    assert (
        np.array_equal(one, other) and np.array_equal(given, feeds["input"]) and np.array_equal(logits, same)
    )


def test_what_bodies_read_from_outside_is_kept():
    body = helper.make_graph(
        [helper.make_node("Add", ["hidden", "outer"], ["sum"])],
        "body",
        [],
        [helper.make_empty_tensor_value_info("sum")],
    )
    nodes = [
        helper.make_node("Relu", ["x"], ["hidden"]),
        helper.make_node("If", ["yes"], ["logits"], then_branch=body, else_branch=body),
    ]
    inits = [
        numpy_helper.from_array(np.ones(3, np.float32), "outer"),
        numpy_helper.from_array(np.array(True), "yes"),
        numpy_helper.from_array(np.ones(3, np.float32), "unused"),
    ]
    x, y = (helper.make_tensor_value_info(name, 1, ["N", 3]) for name in ("x", "logits"))
    proto = helper.make_model(
        helper.make_graph(nodes, "g", [x], [y], inits),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )
    exposed = expose(GraphIndex(proto), "logits", [Tap("hidden", "Relu", (3,))])
    assert [tensor.name for tensor in exposed.proto.graph.initializer] == ["outer", "yes"]
    logits, hidden = tweaks.run(exposed.proto, {"x": np.array([[-1, 0, 2]], np.float32)})
    assert logits.tolist() == [[1, 1, 3]] and hidden.tolist() == [[0, 0, 2]]


@pytest.mark.parametrize("name", ["float16", "float64"])
def test_logits_keep_their_type_and_their_values(name):
    net = nets.NetBuilder(dtype=np.dtype(name).type)
    hidden = net.op("Flatten", net.op("Relu", "x", name="map"), name="flat")
    net.gemm(hidden, 12, 5, name="logits")
    kind = ELEMENT_TYPES[name]
    proto = net.model({"x": (kind, ("N", 3, 2, 2))}, {"logits": (kind, ("N", 5))})
    taps = (
        Tap("map", "Relu", (3, 2, 2), name),
        Tap("flat", "Flatten", (12,), name),
        Tap("x", "", (3, 2, 2), name, "mean"),
    )
    feeds = nets.random_inputs(proto, 2)
    whole = expose(GraphIndex(proto), "logits", taps, logits_format=LogitsFormat(dtype=name))
    chosen = expose(GraphIndex(proto), "logits", (), tweaks.random_neurons(taps, 6), LogitsFormat(dtype=name))
    for exposed in (whole, chosen):
        logits, *values = tweaks.run(exposed.proto, feeds)
        # Behind a Cast, ONNX Runtime would show float16 tensors as they were before they were rounded.
        half = exposed is whole and name == "float16"
        kinds = [name if half and tap.pool == "none" else "float32" for tap in taps]
        assert logits.dtype == name and [v.dtype for v in values] == kinds[: len(values)]
        np.testing.assert_array_equal(logits, tweaks.run(proto, feeds)[0])


def test_channel_last_maps_are_pooled_over_positions():
    net = nets.NetBuilder()
    net.op("Relu", "x", name="tokens")
    net.gemm(net.op("Flatten", "tokens"), 12, 3, name="logits")
    proto = net.model({"x": (1, ("N", 4, 3))}, {"logits": (1, ("N", 3))})
    feeds = nets.random_inputs(proto, 2)
    relu = np.maximum(feeds["x"], 0)
    for pool, expected in (("mean", relu.mean(1)), ("max", relu.max(1)), ("std", relu.std(1))):
        tap = Tap("tokens", "Relu", (4, 3), pool=pool, channel_axis=1)
        whole = tweaks.run(expose(GraphIndex(proto), "logits", [tap]).proto, feeds)[1]
        np.testing.assert_allclose(whole, expected, rtol=1e-6)
        neurons = Neurons((tap,), np.zeros(2, np.int32), np.array([2, 0]))
        some = tweaks.run(expose(GraphIndex(proto), "logits", (), neurons).proto, feeds)[1]
        np.testing.assert_allclose(some, expected[:, [2, 0]], rtol=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("shape", [(3, 8, 8), (3, 5, 7), (3, 1, 6), (3, 1, 1), (3, 9), (3, 2, 5, 4)])
@pytest.mark.parametrize("axis", [0, -1])
@pytest.mark.parametrize("pool", ["mean", "std", "max", "grid2"])
def test_pooled_values_are_those_of_numpy(pool, axis, shape, dtype):
    if axis:
        shape = (*shape[1:], shape[0])
    net = nets.NetBuilder()
    kind = onnx.TensorProto.FLOAT16 if dtype == "float16" else onnx.TensorProto.FLOAT
    net.op("Relu", "x", name="map")
    if dtype == "float16":
        net.op("Cast", "map", to=1, name="wide")
    size = int(np.prod(shape))
    net.gemm(net.op("Flatten", "wide" if dtype == "float16" else "map"), size, 3, name="logits")
    proto = net.model({"x": (kind, ("N", *shape))}, {"logits": (1, ("N", 3))})
    feeds = {"x": (np.random.default_rng(0).normal(100, 1, (4, *shape))).astype(dtype)}
    tap = Tap("map", "Relu", shape, dtype=dtype, pool=pool, channel_axis=axis % len(shape))
    everything = Neurons((tap,), np.zeros(tap.neurons, np.int32), np.arange(tap.neurons))
    expected = tweaks.chosen(everything, [np.maximum(feeds["x"], 0)])
    assert expected.shape == (4, tap.neurons)
    whole = tweaks.run(expose(GraphIndex(proto), "logits", [tap]).proto, feeds)[1]
    np.testing.assert_allclose(whole, expected, rtol=2e-6, atol=1e-5)
    index = np.random.default_rng(1).permutation(tap.neurons)[: tap.neurons // 2 + 1]
    some = expose(GraphIndex(proto), "logits", (), Neurons((tap,), np.zeros(len(index), np.int32), index))
    np.testing.assert_allclose(tweaks.run(some.proto, feeds)[1], expected[:, index], rtol=2e-6, atol=1e-5)


def test_the_model_is_not_changed_and_new_names_collide_with_nothing():
    proto = nets.mlp()
    for node in proto.graph.node:
        if node.op_type == "Relu":
            node.name = "onnxtweak/watch/0"
    before = proto.SerializeToString()
    neurons = tweaks.random_neurons([Tap("act1", "Relu", (16,)), Tap("act2", "Relu", (12,))], 5)
    exposed = expose(GraphIndex(proto), "logits", (), neurons)
    assert proto.SerializeToString() == before
    names = [node.name for node in exposed.proto.graph.node if node.name.startswith("onnxtweak/")]
    assert names.count("onnxtweak/watch/0") == 2 and all(
        "watch_2/" in name for name in set(names) - {"onnxtweak/watch/0"}
    )
    assert expose(GraphIndex(proto), "logits", (), neurons).proto == exposed.proto


def test_no_neurons_give_no_output_but_the_logits():
    neurons = Neurons((), np.zeros(0, np.int32), np.zeros(0, np.int64))
    exposed = expose(GraphIndex(nets.mlp()), "logits", (), neurons)
    assert exposed.outputs == () and [output.name for output in exposed.proto.graph.output] == ["logits"]


@pytest.mark.parametrize("name", ["nowhere", "weight_1"])
def test_tensors_that_the_main_graph_does_not_compute_are_refused(name):
    with pytest.raises(ModelError, match="does not compute") as caught:
        expose(GraphIndex(nets.mlp()), "logits", [Tap(name, "Relu", (4,))])
    assert caught.value.where == name
    with pytest.raises(ModelError, match="does not compute"):
        expose(GraphIndex(nets.mlp()), name, ())


def test_external_data_is_not_loaded():
    proto = nets.mlp()
    tensor = proto.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="gone.bin")
    exposed = expose(GraphIndex(proto), "logits", ())
    assert exposed.proto.graph.initializer[0] == tensor
