"""Which detectors does the metric benchmark patch? Frozen encoders with a weak head of one logit.

Letters: an encoder (16-64-32) that was trained to tell 13 pairs of letters (A or B, C or D, ...), never one
of a pair from the other; its head, a logistic regression, was trained on few samples to find one letter.
Mail: the encoder of a published spam detector, with its own head or one trained on few mails.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier

HIDDEN = "features"


@dataclass(frozen=True)
class Detector:
    """A model with one probability, and samples that neither encoder nor head has seen.

    model : ONNX; its hidden tensor `HIDDEN` feeds the head. x (N, ...), y (N,) int64.
    """

    name: str
    model: onnx.ModelProto
    x: np.ndarray
    y: np.ndarray

    def features(self) -> np.ndarray:
        """What the head reads, (N, K) float32."""
        model = onnx.ModelProto.FromString(self.model.SerializeToString())
        model.graph.output.append(helper.make_tensor_value_info(HIDDEN, TensorProto.FLOAT, None))
        return outputs(model, self.x)[-1]


def outputs(model: onnx.ModelProto, x: np.ndarray) -> list[np.ndarray]:
    """All outputs of a model, by plain ONNX Runtime."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return session.run(None, {session.get_inputs()[0].name: x})


def letter_detectors(path: str, letters: str, few: int) -> list[Detector]:
    """One for each letter, its head trained on `few` samples. path : UCI letter recognition as an .npz."""
    with np.load(path) as held:
        x = np.concatenate([held["x_train"], held["x_test"]]).astype(np.float32) / 15
        y = np.concatenate([held["y_train"], held["y_test"]]).astype(np.int64)
    rng = np.random.default_rng(0)
    order = rng.permutation(len(y))
    own, rest = order[:5000], order[5000:]
    encoder = MLPClassifier((64, 32), max_iter=60, random_state=0).fit(x[own], y[own] // 2)
    found = []
    for letter in letters:
        is_it = (y == ord(letter) - ord("A")).astype(np.int64)
        some, held_out = rest[:few], rest[few:]
        model = _with_head(encoder, x[some], is_it[some])
        found.append(Detector(f"letter {letter}", model, x[held_out], is_it[held_out]))
    return found


def _with_head(encoder: MLPClassifier, x: np.ndarray, y: np.ndarray) -> onnx.ModelProto:
    """The encoder's two hidden layers and a head for what is in `x` (n, 16) marked by `y` (n,)."""
    nodes, weights, at = [], [], "x"
    for k, name in enumerate(("first", HIDDEN)):
        pair = encoder.coefs_[k], encoder.intercepts_[k]
        weights += [
            numpy_helper.from_array(np.asarray(v, np.float32), f"{n}{k}")
            for n, v in zip("Wb", pair, strict=True)
        ]
        nodes += [
            helper.make_node("Gemm", [at, f"W{k}", f"b{k}"], [f"sum{k}"]),
            helper.make_node("Relu", [f"sum{k}"], [name]),
        ]
        x, at = np.maximum(x @ pair[0] + pair[1], 0), name
    head = LogisticRegression(max_iter=5000).fit(x, y)
    weights.append(numpy_helper.from_array(head.coef_.T.astype(np.float32), "W"))
    weights.append(numpy_helper.from_array(head.intercept_.astype(np.float32), "b"))
    nodes += [
        helper.make_node("Gemm", [at, "W", "b"], ["logit"]),
        helper.make_node("Sigmoid", ["logit"], ["p"]),
    ]
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", width])
        for name, width in (("x", 16), ("p", 1))
    ]
    graph = helper.make_graph(nodes, "detector", ends[:1], ends[1:], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def mail_detectors(model: str, path: str, few: int) -> list[Detector]:
    """The published one, and the same encoder with a head trained on `few` mails.

    model, path : ONNX and .npz, as `science/fit/public_nets.py` makes them. It ends in MatMul, Add, Sigmoid.
    """
    published = onnx.load(model)
    last = next(node for node in reversed(published.graph.node) if node.op_type == "MatMul")
    for node in published.graph.node:
        for names in (node.input, node.output):
            for k, name in enumerate(names):
                if name == last.input[0]:
                    names[k] = HIDDEN
    with np.load(path) as held:
        x, y = held["x"], held["y"].astype(np.int64)
    whole = Detector("mail, its own head", published, x, y)
    features, order = whole.features(), np.random.default_rng(0).permutation(len(y))
    some, rest = order[:few], order[few:]
    head = LogisticRegression(max_iter=5000).fit(features[some], y[some])
    weak = onnx.ModelProto.FromString(published.SerializeToString())
    added = next(node for node in weak.graph.node if node.op_type == "Add" and last.output[0] in node.input)
    new = {last.input[1]: head.coef_.T, added.input[1]: head.intercept_}
    for tensor in weak.graph.initializer:
        if tensor.name in new:
            value = np.asarray(new[tensor.name], np.float32).reshape(tuple(tensor.dims))
            tensor.CopyFrom(numpy_helper.from_array(value, tensor.name))
    return [whole, Detector(f"mail, a head of {few} mails", weak, x[rest], y[rest])]
