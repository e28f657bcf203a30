"""Graphs that cannot be walked are refused before anything walks them."""

from __future__ import annotations

import pytest
from onnx import AttributeProto, TensorProto, helper

from onnxtweak.errors import ModelError
from onnxtweak.model.graph import GraphIndex
from onnxtweak.model.inspect.graph_checks import require_sound
from onnxtweak.model.inspect.logits import find_logits
from onnxtweak.model.inspect.taps import candidates
from tests.support.nets import TAILS, cnn3, mlp


def _circle(proto):
    proto.graph.node[0].input[0] = "logits"


def _no_input(proto):
    del proto.graph.node[-1].input[:]


def _no_output(proto):
    del proto.graph.node[1].output[:]


def _axis_as_text(proto):
    node = proto.graph.node[-1]
    del node.attribute[:]
    node.attribute.append(AttributeProto(name="axis", type=AttributeProto.STRING, s=b"one"))


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (_circle, "has a cycle"),
        (_no_input, "is missing its input input"),
        (_no_output, "has no output"),
        (_axis_as_text, "attribute axis"),
    ],
)
def test_what_no_exporter_writes_is_refused(damage, says):
    proto = mlp(tail="softmax")
    damage(proto)
    for search in (find_logits, lambda graph: candidates(graph, "logits")):
        with pytest.raises(ModelError, match=says) as caught:
            search(GraphIndex(proto))
        assert caught.value.hint


@pytest.mark.parametrize("tail", TAILS)
@pytest.mark.parametrize("opset", [10, 13, 21])
def test_whatever_exporters_write_is_sound(tail, opset):
    require_sound(GraphIndex(cnn3(tail=tail, opset=opset)))


def test_operators_that_nobody_knows_are_left_to_the_runtime():
    proto = mlp()
    proto.graph.node.append(helper.make_node("Warp", [], ["warped"], domain="com.example"))
    proto.graph.node.append(helper.make_node("OfTheFuture", ["input"], ["then"]))
    proto.graph.output.append(helper.make_tensor_value_info("then", TensorProto.FLOAT, None))
    require_sound(GraphIndex(proto))
    proto.opset_import[0].version = 2**40
    require_sound(GraphIndex(proto))


def test_what_nothing_computes_is_named():
    proto = mlp()
    proto.graph.node.append(helper.make_node("Relu", ["nothere"], ["dead"]))
    with pytest.raises(ModelError, match="reads `nothere`, which nothing in the model computes"):
        require_sound(GraphIndex(proto))
    proto = mlp()
    name = proto.graph.output[0].name
    proto.graph.output[0].name = "renamed"
    with pytest.raises(ModelError, match="no node of the model computes its output `renamed`") as raised:
        require_sound(GraphIndex(proto))
    assert f"`{name}`" in raised.value.hint
