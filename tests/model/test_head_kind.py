"""What a model looks like: a classifier, several labels, a quantity, an embedding, scores at positions."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnxtweak.model.graph import GraphIndex
from onnxtweak.model.head_kind import head_kind
from onnxtweak.model.inspect.logits import find_logits

N = helper.make_node


def kind(tail, out: str, declared, *, width: int = 5, override: str | None = None, **constants):
    """Of a model with a hidden layer, a linear layer to `z` (N, width), and a tail to `out`."""
    nodes = [N("MatMul", ["x", "w"], ["h"]), N("Relu", ["h"], ["r"]), N("MatMul", ["r", "v"], ["z"]), *tail]
    stored = {"w": np.ones((4, 6), np.float32), "v": np.ones((6, width), np.float32), **constants}
    tensors = [numpy_helper.from_array(np.asarray(value), name) for name, value in stored.items()]
    made = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ("N", 4))],
        [helper.make_tensor_value_info(out, TensorProto.FLOAT, declared)],
        tensors,
    )
    graph = GraphIndex(helper.make_model(made, opset_imports=[helper.make_opsetid("", 13)]))
    return head_kind(graph, find_logits(graph, override))


SQUARES = [N("Mul", ["z", "z"], ["q"]), N("ReduceSum", ["q", "axes"], ["s"]), N("Sqrt", ["s"], ["n"])]


@pytest.mark.parametrize(
    ("tail", "constants", "found"),
    [
        ([N("Identity", ["z"], ["y"])], {}, "one label"),
        ([N("Softmax", ["z"], ["y"], axis=1)], {}, "one label"),
        ([N("Sigmoid", ["z"], ["y"])], {}, "several labels"),
        # One class against the others, scaled to sum 1: still one label.
        (
            [N("Sigmoid", ["z"], ["p"]), N("ReduceSum", ["p", "axes"], ["s"]), N("Div", ["p", "s"], ["y"])],
            {"axes": np.array([1])},
            "one label",
        ),
        ([N("LpNormalization", ["z"], ["y"], axis=1)], {}, "embedding"),
        ([N("LpNormalization", ["z"], ["y"], axis=1, p=1)], {}, "one label"),
        ([N("ReduceL2", ["z"], ["n"], axes=[1]), N("Div", ["z", "n"], ["y"])], {}, "embedding"),
        (
            [
                N("ReduceL2", ["z"], ["n"], axes=[1]),
                N("Clip", ["n", "low"], ["c"]),
                N("Div", ["z", "c"], ["y"]),
            ],
            {"low": np.float32(1e-12)},
            "embedding",
        ),
        ([*SQUARES, N("Div", ["z", "n"], ["y"])], {"axes": np.array([1])}, "embedding"),
        (
            [*SQUARES, N("Reciprocal", ["n"], ["i"]), N("Mul", ["z", "i"], ["y"])],
            {"axes": np.array([1])},
            "embedding",
        ),
        ([N("Div", ["z", "scale"], ["y"])], {"scale": np.float32(2)}, "one label"),
    ],
)
def test_rows_of_several_numbers(tail, constants, found):
    said = kind(tail, "y", ("N", 5), **constants)
    assert said.kind == found
    assert bool(said.said) == (found != "one label")


@pytest.mark.parametrize(("op", "found"), [("Identity", "one number"), ("Sigmoid", "one label")])
def test_one_number(op, found):
    assert kind([N(op, ["z"], ["y"])], "y", ("N", 1), width=1).kind == found


def test_scores_at_positions_of_unknown_number():
    nodes = [N("Reshape", ["z", "shape"], ["y"])]
    said = kind(nodes, "y", ("N", 5, "h", "w"), width=20, shape=np.array([0, 5, -1, 2]))
    assert said.kind == "positions"


def test_a_chosen_class_is_one_label():
    tail = [N("Sigmoid", ["z"], ["p"]), N("ArgMax", ["p"], ["k"], axis=1), N("Identity", ["p"], ["y"])]
    assert kind(tail, "y", ("N", 5)).kind == "one label"


def test_a_tensor_that_was_named_is_taken_at_its_word():
    assert kind([N("LpNormalization", ["z"], ["y"], axis=1)], "y", ("N", 5), override="y").kind == "one label"
