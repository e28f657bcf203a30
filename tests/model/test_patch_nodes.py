"""Added nodes: standard operators at every opset, the same bytes for the same tweak."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnxtweak.errors import ModelError
from onnxtweak.model.edit.patch_nodes import (
    SpliceSite,
    build_piece,
    build_pool,
    build_reader,
    build_scores,
    free_prefix,
)
from onnxtweak.model.edit.piece_builder import ELEMENT_TYPES
from onnxtweak.model.logits_format import LogitsFormat
from onnxtweak.patch import Linear, Synapses, Tweak
from onnxtweak.types import Neurons, Tap
from tests.support import tweaks

TAPS = (
    Tap("map", "Relu", (3, 4, 4)),
    Tap("vector", "Relu", (6,)),
    Tap("pooled", "Relu", (3, 2, 2), pool="mean"),
    Tap("spread", "Relu", (3, 4, 4), pool="std"),
    Tap("quarters", "Relu", (3, 4, 4), pool="grid2"),
)
NEWEST = onnx.defs.onnx_opset_version()
LAYOUTS = {
    "NC": ("N", 5),
    "NC11": ("N", 5, 1, 1),
    "N11C": ("N", 1, 1, 5),
    "N1C": ("N", 1, 5),
    "NC1": ("N", 5, 1),
}
SINGLE = {"N": ("N",), "N1": ("N", 1), "N11": ("N", 1, 1), "N111": ("N", 1, 1, 1)}


def make_tweak(kind="synapses", count=8, classes=5, taps=TAPS):
    neurons = tweaks.random_neurons(taps, count)
    return Tweak("join", "0" * 64, "logits", classes, neurons, tweaks.random_patch(kind, count, classes))


def build(tweak, opset=17, dtype="float32", layout="NC"):
    return build_piece(tweak, SpliceSite("p/logits", "logits", LogitsFormat(layout, dtype), opset, "p/"))


def alone(piece, opset=17, dtype="float32", layout="NC"):
    """The piece as a model of its own: taps and logits are its inputs."""
    inputs = [helper.make_tensor_value_info(tap.name, 1, ("N", *tap.shape)) for tap in TAPS]
    shape = {**LAYOUTS, **SINGLE}[layout]
    inputs.append(helper.make_tensor_value_info("p/logits", ELEMENT_TYPES[dtype], shape))
    output = helper.make_tensor_value_info("logits", ELEMENT_TYPES[dtype], shape)
    graph = helper.make_graph(piece.nodes, "piece", inputs, [output], piece.initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def feeds(dtype="float32", layout="NC"):
    rng = np.random.default_rng(1)
    arrays = {tap.name: rng.normal(0, 1, (3, *tap.shape)).astype(np.float32) for tap in TAPS}
    arrays["p/logits"] = rng.normal(0, 1, (3, *{**LAYOUTS, **SINGLE}[layout][1:])).astype(dtype)
    return arrays


@pytest.mark.parametrize("kind", ["synapses", "linear", "mlp"])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("opset", [7, 9, 13, 18, 23])
def test_the_piece_adds_what_the_patch_says(kind, layout, opset):
    tweak = make_tweak(kind)
    model = alone(build(tweak, opset, layout=layout), opset, layout=layout)
    onnx.checker.check_model(model, full_check=True)
    given = feeds(layout=layout)
    (after,) = tweaks.run(model, given)
    values = tweaks.chosen(tweak.neurons, [given[tap.name] for tap in TAPS])
    expected = given["p/logits"] + tweaks.added(tweak.patch, values, 5).reshape(after.shape)
    np.testing.assert_allclose(after, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", ["synapses", "linear", "mlp"])
@pytest.mark.parametrize("layout", SINGLE)
@pytest.mark.parametrize("opset", [7, 13, 23])
def test_a_single_logit_gets_class_one_less_class_zero(kind, layout, opset):
    tweak = make_tweak(kind, classes=2)
    model = alone(build(tweak, opset, layout=layout), opset, layout=layout)
    onnx.checker.check_model(model, full_check=True)
    given = feeds(layout=layout)
    (after,) = tweaks.run(model, given)
    delta = tweaks.added(tweak.patch, tweaks.chosen(tweak.neurons, [given[tap.name] for tap in TAPS]), 2)
    expected = given["p/logits"] + (delta[:, 1] - delta[:, 0]).reshape(after.shape)
    np.testing.assert_allclose(after, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("layout", SINGLE)
@pytest.mark.parametrize("opset", [7, 11, 18])
def test_a_single_logit_comes_out_as_two_columns(layout, opset):
    z = np.float32([0.5, -1.5, np.inf, -0.0]).reshape(-1, *SINGLE[layout][1:])
    piece = build_scores("z", LogitsFormat(layout), opset=opset, output="out", prefix="p/")
    inputs = [helper.make_tensor_value_info("z", TensorProto.FLOAT, SINGLE[layout])]
    output = helper.make_tensor_value_info("out", TensorProto.FLOAT, ("N", 2))
    graph = helper.make_graph(piece.nodes, "columns", inputs, [output], piece.initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    (columns,) = tweaks.run(model, {"z": z})
    np.testing.assert_array_equal(columns, [[0, 0.5], [0, -1.5], [0, np.inf], [0, -0.0]])


@pytest.mark.parametrize("kind", ["synapses", "linear", "mlp"])
@pytest.mark.parametrize("opset", range(7, NEWEST + 1))
def test_every_opset_from_seven_accepts_the_piece(kind, opset):
    onnx.checker.check_model(alone(build(make_tweak(kind), opset), opset), full_check=True)


@pytest.mark.parametrize(("dtype", "tolerance"), [("float16", 2e-2), ("float64", 1e-6)])
def test_weights_and_values_are_cast_to_the_logits_type(dtype, tolerance):
    for kind in ("synapses", "linear", "mlp"):
        tweak = make_tweak(kind)
        piece = build(tweak, dtype=dtype)
        given = feeds(dtype)
        (after,) = tweaks.run(alone(piece, dtype=dtype), given)
        values = tweaks.chosen(tweak.neurons, [given[tap.name] for tap in TAPS])
        expected = given["p/logits"].astype(np.float64) + tweaks.added(tweak.patch, values, 5)
        assert after.dtype == dtype
        np.testing.assert_allclose(after, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_pooled_maps_are_flattened_together(dtype):
    taps = (*TAPS[2:], replace(TAPS[0], pool="mean"), replace(TAPS[0], pool="max"), TAPS[1])
    tweak = make_tweak("linear", count=18, taps=taps)
    piece = build(tweak, dtype=dtype)
    # Those of one number, and the quarters.
    assert [node.op_type for node in piece.nodes].count("Flatten") == 2
    given = feeds(dtype)
    (after,) = tweaks.run(alone(piece, dtype=dtype), given)
    values = tweaks.chosen(tweak.neurons, [given[tap.name] for tap in taps])
    expected = given["p/logits"].astype(np.float64) + tweaks.added(tweak.patch, values, 5)
    tolerance = 1e-5 if dtype == "float32" else 2e-2
    np.testing.assert_allclose(after, expected, rtol=tolerance, atol=tolerance)


def test_bfloat16_pieces_are_well_formed():
    piece = build(make_tweak("synapses"), opset=22, dtype="bfloat16")
    onnx.checker.check_model(alone(piece, opset=22, dtype="bfloat16"), full_check=True)
    weight = next(tensor for tensor in piece.initializers if tensor.name == "p/weight")
    assert weight.data_type == TensorProto.BFLOAT16


def test_a_pure_bias_is_one_add():
    none = Neurons((), np.zeros(0, np.int32), np.zeros(0, np.int64))
    bias = np.arange(5.0)
    for layout in LAYOUTS:
        tweak = Tweak("bias", "0" * 64, "logits", 5, none, Linear(np.zeros((0, 5)), bias))
        piece = build(tweak, layout=layout)
        assert [node.op_type for node in piece.nodes] == ["Add"]
        given = feeds(layout=layout)
        (after,) = tweaks.run(alone(piece, layout=layout), given)
        expected = given["p/logits"] + bias.reshape(LAYOUTS[layout][1:]).astype(np.float32)
        np.testing.assert_array_equal(after, expected)


def test_no_synapses_add_nothing():
    none = Neurons((), np.zeros(0, np.int32), np.zeros(0, np.int64))
    empty = np.zeros(0)
    patch = Synapses(np.zeros(0, np.int64), empty, empty, np.zeros(0, np.int64))
    given = feeds()
    (after,) = tweaks.run(alone(build(Tweak("join", "0" * 64, "logits", 5, none, patch))), given)
    np.testing.assert_array_equal(after, given["p/logits"])


def test_many_synapses_for_few_of_many_classes_stay_small():
    count, classes = 300, 1000
    rng = np.random.default_rng(0)
    target = rng.choice([3, 998, 500], count)
    patch = Synapses(target, rng.normal(0, 1, count), np.zeros(count), np.zeros(count, np.int64))
    neurons = tweaks.random_neurons(TAPS[:2], count)
    piece = build(Tweak("join", "0" * 64, "logits", classes, neurons, patch))
    assert sum(len(tensor.raw_data) for tensor in piece.initializers) < 30_000
    given = feeds()
    given["p/logits"] = rng.normal(0, 1, (3, classes)).astype(np.float32)
    model = alone(piece)
    for value in (model.graph.input[-1], model.graph.output[0]):
        value.type.tensor_type.shape.dim[1].dim_value = classes
    (after,) = tweaks.run(model, given)
    values = tweaks.chosen(neurons, [given[tap.name] for tap in TAPS[:2]])
    np.testing.assert_allclose(after, given["p/logits"] + tweaks.added(patch, values, classes), atol=1e-4)
    untouched = np.setdiff1d(np.arange(classes), target)
    np.testing.assert_array_equal(after[:, untouched], given["p/logits"][:, untouched])


def test_the_same_tweak_gives_the_same_bytes_and_bare_nodes():
    one, other = build(make_tweak()), build(make_tweak())
    assert [n.SerializeToString() for n in one.nodes] == [n.SerializeToString() for n in other.nodes]
    assert [t.SerializeToString() for t in one.initializers] == [
        t.SerializeToString() for t in other.initializers
    ]
    for node in one.nodes:
        assert (
            node.name.startswith("p/") and not node.domain and not node.doc_string and not node.metadata_props
        )
    names = [tensor.name for tensor in one.initializers]
    assert len(set(names)) == len(names) and all(name.startswith("p/") for name in names)


def test_neurons_of_unused_taps_are_not_read():
    neurons = Neurons(TAPS, np.array([1], np.int32), np.array([0]))
    piece = build_reader(neurons, opset=17, dtype="float32", output="out", prefix="p/")
    assert {name for node in piece.nodes for name in node.input if not name.startswith("p/")} == {"vector"}


def test_a_pooled_tap_comes_out_channel_by_channel():
    tap = Tap("pooled", "Relu", (2, 2, 3), dtype="float16", pool="max", channel_axis=2)
    piece = build_pool(tap, opset=17, dtype="float32", output="out", prefix="p/")
    assert [node.op_type for node in piece.nodes] == ["Cast", "Transpose", "GlobalMaxPool", "Flatten"]
    assert piece.nodes[-1].output[0] == "out" and piece.initializers == ()


def test_declarations_repeat_the_initializers_as_inputs():
    piece = build(make_tweak())
    for value, tensor in zip(piece.declarations(), piece.initializers, strict=True):
        kind = value.type.tensor_type
        assert (value.name, kind.elem_type) == (tensor.name, tensor.data_type)
        assert [dim.dim_value for dim in kind.shape.dim] == list(numpy_helper.to_array(tensor).shape)


def test_a_weight_too_large_for_the_logits_type_is_refused():
    tweak = make_tweak()
    tweak = replace(tweak, patch=replace(tweak.patch, weight=tweak.patch.weight * 1e6))
    with pytest.raises(ModelError, match="float16") as caught:
        build(tweak, dtype="float16")
    assert "--scale" in caught.value.hint


def test_free_prefix_avoids_what_is_there():
    assert free_prefix("onnxtweak/1/", ["a", "onnxtweak/10/x", "onnxtweak/1"]) == "onnxtweak/1/"
    assert free_prefix("onnxtweak/1/", ["onnxtweak/1/logits", "onnxtweak/1_2/x"]) == "onnxtweak/1_3/"


def test_few_nodes_are_added():
    def ops(taps, **options):
        return [node.op_type for node in build(make_tweak(taps=taps, **options)).nodes]

    assert ops(TAPS[1:2]) == ["MatMul", "Add"]
    assert ops(TAPS[:1]) == ["Flatten", "Gather", "MatMul", "Add"]
    assert ops(TAPS[2:3]) == ["GlobalAveragePool", "Flatten", "MatMul", "Add"]
    assert ops(TAPS[:2]) == ["Flatten", "Gather", "Concat", "MatMul", "Add"]
    assert ops(TAPS[1:2], kind="mlp") == ["MatMul", "Add", "Relu", "MatMul", "Add", "Add"]


@pytest.mark.parametrize("kind", ["synapses", "linear", "mlp"])
@pytest.mark.parametrize("classes", [2, 5, 2000])
@pytest.mark.parametrize("count", [1, 3, 40])
def test_rows_are_read_without_a_gather(kind, classes, count):
    """All channels with weights of zero, or some that a product picks; a neuron may be there twice."""
    taps = (
        Tap("pooled", "Relu", (30, 2, 2), pool="mean"),
        Tap("wide", "Relu", (6, 3, 3), pool="grid2"),
        Tap("row", "Relu", (20,)),
    )
    tweak = make_tweak(kind, count, classes, taps)
    piece = build(tweak)
    assert "Gather" not in {node.op_type for node in piece.nodes}
    rng = np.random.default_rng(1)
    given = {tap.name: rng.normal(0, 1, (3, *tap.shape)).astype(np.float32) for tap in taps}
    given["p/logits"] = rng.normal(0, 1, (3, classes)).astype(np.float32)
    inputs = [helper.make_tensor_value_info(name, 1, ("N", *x.shape[1:])) for name, x in given.items()]
    output = helper.make_tensor_value_info("logits", 1, ("N", classes))
    graph = helper.make_graph(piece.nodes, "piece", inputs, [output], piece.initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    (after,) = tweaks.run(model, given)
    values = tweaks.chosen(tweak.neurons, [given[tap.name] for tap in taps])
    expected = given["p/logits"] + tweaks.added(tweak.patch, values, classes)
    np.testing.assert_allclose(after, expected, rtol=1e-5, atol=1e-5)


def test_a_half_precision_row_is_gathered():
    """An infinite value that a patch does not use must not meet a weight of zero."""
    piece = build(make_tweak("linear", 3, 5, (Tap("row", "Relu", (20,), "float16"),)), dtype="float16")
    assert piece.nodes[0].op_type == "Gather"


def test_of_many_pooled_channels_and_classes_some_are_gathered():
    piece = build(make_tweak("linear", 40, 4000, (Tap("pooled", "Relu", (2048, 2, 2), pool="mean"),)))
    assert [node.op_type for node in piece.nodes].count("Gather") == 1


def test_positions_of_a_map_are_read_in_its_own_order():
    tap = Tap("map", "Relu", (16, 3, 5))
    tweak = make_tweak(count=20, taps=(tap,))
    piece = build(tweak)
    assert [node.op_type for node in piece.nodes] == ["Flatten", "Gather", "MatMul", "Add"]
    rng = np.random.default_rng(1)
    given = {"map": rng.normal(0, 1, (3, *tap.shape)).astype(np.float32)}
    given["p/logits"] = rng.normal(0, 1, (3, 5)).astype(np.float32)
    inputs = [helper.make_tensor_value_info(name, 1, ("N", *x.shape[1:])) for name, x in given.items()]
    output = helper.make_tensor_value_info("logits", 1, ("N", 5))
    graph = helper.make_graph(piece.nodes, "piece", inputs, [output], piece.initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    (after,) = tweaks.run(model, given)
    expected = given["p/logits"] + tweaks.added(tweak.patch, tweaks.chosen(tweak.neurons, [given["map"]]), 5)
    np.testing.assert_allclose(after, expected, rtol=1e-5, atol=1e-5)
