"""What a model calls its classes and features: read from its tail and its metadata."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnxtweak.model.declared_names import class_labels, feature_names
from onnxtweak.model.graph import GraphIndex

ML = "ai.onnx.ml"


def graph(*tail, **constants) -> GraphIndex:
    """A linear layer to `z` (N, 3), and what comes behind it."""
    nodes = [helper.make_node("MatMul", ["x", "w"], ["z"]), *tail]
    stored = {"w": np.zeros((2, 3), np.float32), **constants}
    tensors = [numpy_helper.from_array(np.asarray(value), name) for name, value in stored.items()]
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, ("N", 2))
    out = helper.make_empty_tensor_value_info(tail[-1].output[0] if tail else "z")
    made = helper.make_model(helper.make_graph(nodes, "g", [value], [out], tensors))
    return GraphIndex(made)


CHOSEN = helper.make_node("ArgMax", ["z"], ["k"], axis=1, keepdims=0)
LOOKED_UP = helper.make_node("ArrayFeatureExtractor", ["names", "k"], ["label"], domain=ML)


@pytest.mark.parametrize(
    ("tail", "constants", "labels"),
    [
        ([helper.make_node("ZipMap", ["z"], ["p"], domain=ML, classlabels_int64s=[7, 8, 9])], {}, (7, 8, 9)),
        (
            [helper.make_node("ZipMap", ["z"], ["p"], domain=ML, classlabels_strings=["a", "b", "c"])],
            {},
            ("a", "b", "c"),
        ),
        ([CHOSEN, LOOKED_UP], {"names": np.array([10, 20, 70])}, (10, 20, 70)),
        ([CHOSEN, LOOKED_UP], {"names": np.array([["ash", "oak", "elm"]], object)}, ("ash", "oak", "elm")),
        ([CHOSEN, helper.make_node("Gather", ["names", "k"], ["label"])], {"names": [3, 2, 1]}, (3, 2, 1)),
        (
            [
                CHOSEN,
                helper.make_node(
                    "LabelEncoder",
                    ["k"],
                    ["l"],
                    domain=ML,
                    keys_int64s=[0, 2, 1],
                    values_strings=["a", "c", "b"],
                ),
            ],
            {},
            ("a", "b", "c"),
        ),
        (
            [
                CHOSEN,
                LOOKED_UP,
                helper.make_node(
                    "LabelEncoder",
                    ["label"],
                    ["l"],
                    domain=ML,
                    keys_int64s=[30, 10, 20],
                    values_strings=["c", "a", "b"],
                ),
            ],
            {"names": np.array([10, 20, 30])},
            ("a", "b", "c"),
        ),
        ([CHOSEN], {}, None),
        ([helper.make_node("Gather", ["z", "order"], ["p"], axis=1)], {"order": [2, 0, 1]}, None),
        ([], {}, None),
    ],
)
def test_class_labels(tail, constants, labels):
    assert class_labels(graph(*tail, **constants), "z") == labels


@pytest.mark.parametrize(
    ("key", "text", "names"),
    [
        ("feature_names", '["a", "b, c"]', ("a", "b, c")),
        ("features", "a, b", ("a", "b")),
        ("feature_names", "[1, 2]", None),
        ("feature_names", '["a"', None),
        ("notes", "a, b", None),
        ("columns", "", None),
    ],
)
def test_feature_names(key, text, names):
    model = graph().proto
    model.metadata_props.add(key=key, value=text)
    assert feature_names(model) == names
