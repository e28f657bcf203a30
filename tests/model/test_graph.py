"""Is the graph index right about models as they come: unsorted, unnamed, with bodies and functions?"""

from __future__ import annotations

import numpy as np
from onnx import ModelProto, TensorProto, helper, numpy_helper

from onnxtweak.model.graph import GraphIndex
from tests.support.nets import cnn3, mlp, reseed_light

FLOAT = TensorProto.FLOAT


def _with_if() -> ModelProto:
    """y = c > 0 ? hidden + w : hidden * inner, where both branches read `hidden` from outside."""
    value = helper.make_tensor_value_info
    inner = numpy_helper.from_array(np.float32([2]), "inner")
    then = helper.make_graph(
        [helper.make_node("Add", ["hidden", "w"], ["then_out"], name="then_node")],
        "then",
        [],
        [value("then_out", FLOAT, None)],
    )
    otherwise = helper.make_graph(
        [helper.make_node("Mul", ["hidden", "inner"], ["else_out"])],
        "else",
        [],
        [value("else_out", FLOAT, None)],
        [inner],
    )
    nodes = [
        helper.make_node("Relu", ["x"], ["hidden"]),
        helper.make_node("If", ["flag"], ["y"], then_branch=then, else_branch=otherwise),
        helper.make_node("Identity", ["y"], ["z"], name="last"),
    ]
    w = numpy_helper.from_array(np.float32([1]), "w")
    inputs = [value("x", FLOAT, ["N", 1]), value("flag", TensorProto.BOOL, [])]
    graph = helper.make_graph(nodes, "g", inputs, [value("z", FLOAT, ["N", 1])], [w])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def test_producers_and_readers_are_found_by_position_without_node_names():
    graph = GraphIndex(cnn3(size=8, channels=(4, 4, 4)))
    assert graph.producer("relu1").op_type == "Relu"
    assert graph.position("relu1") == 1
    assert [node.op_type for node in graph.consumers("relu1")] == ["MaxPool"]
    assert graph.producer("input") is None
    assert graph.position("nowhere") is None
    assert [value.name for value in graph.inputs] == ["input"]


def test_a_tensor_read_twice_by_one_node_has_one_consumer():
    node = helper.make_node("Mul", ["x", "x"], ["y"])
    value = helper.make_tensor_value_info
    body = helper.make_graph([node], "g", [value("x", FLOAT, [1])], [value("y", FLOAT, [1])])
    assert len(GraphIndex(helper.make_model(body)).consumers("x")) == 1


def test_initializers_that_are_inputs_are_not_real_inputs():
    graph = GraphIndex(cnn3(size=8, channels=(4, 4, 4), ir=3, opset=9))
    assert [value.name for value in graph.inputs] == ["input"]
    assert not graph.depends_on_input("weight_1")


def test_an_unsorted_model_gives_the_same_answers():
    proto = cnn3(size=8, channels=(4, 4, 4), tail="softmax")
    nodes = list(proto.graph.node)
    mixed = ModelProto()
    mixed.CopyFrom(proto)
    del mixed.graph.node[:]
    mixed.graph.node.extend(reversed(nodes))
    graph, sorted_graph = GraphIndex(mixed), GraphIndex(proto)
    assert graph.depends_on_input("probabilities")
    assert len(graph.ancestors(["logits"])) == len(sorted_graph.ancestors(["logits"]))
    assert list(graph.topological_order()) == list(reversed(range(len(nodes))))
    assert list(sorted_graph.topological_order()) == list(range(len(nodes)))


def test_what_a_body_captures_counts_as_needed():
    graph = GraphIndex(_with_if())
    assert graph.is_captured("hidden")
    assert not graph.is_captured("inner")
    assert graph.is_captured("w")
    assert graph.ancestors(["z"]) == {0, 1, 2}
    assert graph.needs(1) == ("flag", "hidden", "w")
    assert graph.depends_on_input("z")
    assert graph.consumers("hidden") == []


def test_names_inside_bodies_and_functions_are_known():
    proto = _with_if()
    body = [helper.make_node("Relu", ["fx"], ["fy"], name="in_function")]
    opsets = [helper.make_opsetid("", 17)]
    proto.functions.append(helper.make_function("custom", "F", ["fx"], ["fy"], body, opsets))
    names = GraphIndex(proto).all_names
    assert {"hidden", "then_out", "then_node", "inner", "fx", "fy", "in_function", "last", "w"} <= names
    assert "" not in names


def test_constants_come_from_initializers_and_constant_nodes_but_never_from_files():
    proto = mlp()
    node = helper.make_node("Constant", [], ["two"], value_float=2.0)
    proto.graph.node.insert(0, node)
    tensor = helper.make_node("Constant", [], ["list"], value=numpy_helper.from_array(np.int64([3, 4])))
    proto.graph.node.insert(0, tensor)
    outside = proto.graph.initializer.add(name="outside", data_type=FLOAT, dims=[2])
    outside.data_location = TensorProto.EXTERNAL
    graph = GraphIndex(proto)
    assert graph.constant("two") == np.float32(2.0)
    assert graph.constant("list").tolist() == [3, 4]
    assert graph.constant("outside") is None
    assert graph.constant_shape("outside") == (2,)
    assert graph.constant("act1") is None


def test_a_model_without_the_default_domain_has_opset_1():
    proto = mlp()
    del proto.opset_import[:]
    assert GraphIndex(proto).opset == 1
    proto.opset_import.append(helper.make_opsetid("ai.onnx.ml", 3))
    assert GraphIndex(proto).opset == 1
    proto.opset_import.append(helper.make_opsetid("ai.onnx", 12))
    assert GraphIndex(proto).opset == 12


def test_what_is_computed_from_a_shape_does_not_vary_with_the_sample():
    graph = GraphIndex(cnn3(size=8, channels=(4, 4, 4), tail="decomposed-tf2onnx"))
    shape = next(node.output[0] for node in graph.nodes if node.op_type == "Shape")
    assert not graph.depends_on_input(shape)
    assert graph.depends_on_input("probabilities")
    assert graph.position(shape) in graph.descendants(["input"])


def test_an_ir_3_model_has_one_real_input():
    proto = reseed_light("squeezenet")
    assert {value.name for value in GraphIndex(proto).inputs} == {"data_0"}


def test_declared_types_and_shapes_are_told_as_the_file_says():
    graph = GraphIndex(cnn3(size=8, channels=(4, 4, 4)))
    assert graph.declared_shape("logits") == ("N", 10)
    assert graph.declared_type("logits") == FLOAT
    assert graph.declared_shape("relu1") is None
    assert graph.declared_type("relu1") is None
