"""Which tails do strangers put behind their class scores, and how does a user read the answer?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from onnx import TensorProto, helper

from tests.support.nets import NetBuilder, Outputs

FLOAT, INT64, STRING, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.STRING, TensorProto.BOOL


@dataclass
class Shown:
    """What a model shows.

    output : the output that counts, and `decide` its class numbers (N,) as a user reads them. number : the
    class that the model shows for each column that it can show. normalised : what rows of the output sum to.
    operators : one of which a refusal names.
    """

    outputs: Outputs
    output: str
    decide: Callable[[Any], np.ndarray]
    number: dict[int, int]
    normalised: float = 0.0
    may_be_refused: bool = False
    must_be_refused: bool = False
    operators: tuple[str, ...] = field(default=("",))


def highest(value: np.ndarray) -> np.ndarray:
    return value.reshape(len(value), -1).argmax(axis=1)


def first(value: np.ndarray) -> np.ndarray:
    return np.asarray(value).reshape(len(value), -1)[:, 0]


def above(cut: float) -> Callable[[np.ndarray], np.ndarray]:
    return lambda value: (first(value) > cut).astype(np.int64)


TAILS = (
    "temperature", "percent", "weights", "weights-argmax", "offsets-argmax", "permuted", "permuted-label",
    "dropped", "padded", "label-numbers", "label-names", "average", "average-percent", "smoothed", "double",
    "sharpened", "odd-normalised", "topk", "one-hot", "rejecting", "rejecting-label", "coarse", "sigmoids",
    "sigmoids-written-out", "sigmoids-average", "bool-mask", "min-max", "negative-distances", "zipmap",
    "quantised-probabilities", "log-probabilities-weighted", "uint8-label", "unknown-class", "half-precision",
    "uint8-scores", "float-label", "topk-floats", "topk-names", "largest-of-three", "leading-one",
    "leading-one-label", "looked-up", "votes", "half-average", "half-sigmoids-average",
)  # fmt: skip
SINGLE_TAILS = (
    "p", "p-written-out", "p-tanh", "p-hard", "p-clip", "p-one-minus", "p-pair", "pair-p",
    "p-threshold-label", "p-flipped", "p-softplus", "p-of-two", "p-greater", "p-average", "p-gated",
    "p-band", "logit-pair",
    "p-squeezed", "p-where-names", "p-percent-pair", "p-beside-label", "p-rarely", "p-atan",
)  # fmt: skip
# Single numbers of which a user has to know where they are cut.
NUMBER_TAILS = ("p-percent", "odds")


def is_single(tail: str) -> bool:
    """Whether the tail follows on one score for two classes."""
    return tail in (*SINGLE_TAILS, *NUMBER_TAILS, "tanh")


def add_random_tail(net: NetBuilder, z: str, tail: str, classes: int, rng: np.random.Generator) -> Shown:
    """One of the tails behind the class scores `z` (N, C), or the one score (N, 1), with random numbers."""
    build = _single if is_single(tail) else _several
    return build(net, z, tail, classes, rng)


def _floats(net: NetBuilder, name: str, classes: int, **more: Any) -> Shown:
    number = more.pop("number", {c: c for c in range(classes)})
    width = more.pop("width", classes)
    return Shown({name: (FLOAT, ("N", width))}, name, highest, number, **more)


def _label(net: NetBuilder, name: str, classes: int, kind: int = INT64, **more: Any) -> Shown:
    number = more.pop("number", {c: c for c in range(classes)})
    decide = more.pop("decide", first)
    return Shown({name: (kind, ("N",))}, name, decide, number, **more)


def _several(net: NetBuilder, z: str, tail: str, classes: int, rng: np.random.Generator) -> Shown:
    op, const = net.op, net.const
    weights = np.exp(rng.uniform(-1.5, 1.5, classes)).astype(np.float32)
    order = rng.permutation(classes)
    inverse = np.argsort(order)

    def softmax(x: str = z) -> str:
        return op("Softmax", x, axis=1)

    def argmax(x: str, **more: Any) -> str:
        return op("ArgMax", x, axis=1, keepdims=0, **more)

    if tail == "temperature":
        return _floats(
            net, op("Softmax", op("Div", z, const(2.7)), axis=1, name="out"), classes, normalised=1
        )
    if tail == "percent":
        return _floats(net, op("Mul", softmax(), const(100.0), name="out"), classes, normalised=100)
    if tail == "weights":
        return _floats(net, op("Mul", softmax(), const(weights), name="out"), classes)
    if tail == "weights-argmax":
        return _label(net, argmax(op("Mul", softmax(), const(weights)), name="out"), classes)
    if tail == "offsets-argmax":
        return _label(net, argmax(op("Add", z, const(np.log(weights))), name="out"), classes)
    if tail == "log-probabilities-weighted":
        logs = op("LogSoftmax", z, axis=1)
        return _label(net, argmax(op("Add", logs, const(np.log(weights))), name="out"), classes)
    if tail == "permuted":
        out = op("Gather", softmax(), net.ints(*order), axis=1, name="out")
        return _floats(net, out, classes, number={c: int(inverse[c]) for c in range(classes)}, normalised=1)
    if tail == "permuted-label":
        out = op("Gather", net.ints(*order), argmax(softmax()), name="out")
        return _label(net, out, classes, number={c: int(order[c]) for c in range(classes)})
    if tail == "dropped":
        out = op("Slice", softmax(), net.ints(1), net.ints(classes), net.ints(1), name="out")
        number = {c: c - 1 for c in range(1, classes)}
        return _floats(net, out, classes, number=number, width=classes - 1)
    if tail == "padded":
        none = op("Mul", op("Slice", z, net.ints(0), net.ints(1), net.ints(1)), const(0.0))
        out = op("Concat", softmax(), none, axis=1, name="out")
        return _floats(
            net, out, classes, width=classes + 1, normalised=1, may_be_refused=True, operators=("Concat",)
        )
    if tail == "label-numbers":
        values = [10 * (c + 1) for c in range(classes)]
        out = op("Gather", net.ints(*values), argmax(z), name="out")
        return _label(net, out, classes, number=dict(enumerate(values)))
    if tail == "label-names":
        net.ml = True
        names = [f"kind{c}" for c in range(classes)]
        out = op("LabelEncoder", argmax(softmax()), domain="ai.onnx.ml", name="out",
                 classes_strings=names, default_int64=-1, default_string="none")  # fmt: skip
        decide = lambda value: np.array([names.index(text) for text in value])  # noqa: E731
        return _label(net, out, classes, STRING, decide=decide)
    if tail in ("average", "average-percent"):
        other = op("Softmax", op("Mul", z, const(weights)), axis=1)
        mean = op("Mean", softmax(), other, name="" if "percent" in tail else "out")
        out = op("Mul", mean, const(100.0), name="out") if "percent" in tail else mean
        return _floats(net, out, classes, normalised=100 if "percent" in tail else 1)
    if tail == "smoothed":
        mixing = 0.8 * np.eye(classes) + 0.2 * rng.dirichlet(np.ones(classes), classes)
        return _floats(net, op("MatMul", softmax(), const(mixing), name="out"), classes, normalised=1)
    if tail == "double":
        return _floats(net, op("Softmax", softmax(), axis=1, name="out"), classes, normalised=1)
    if tail == "sharpened":
        powers = op("Pow", softmax(), const(2.0))
        total = net.reduce("ReduceSum", powers, 1)
        return _floats(net, op("Div", powers, total, name="out"), classes, normalised=1)
    if tail == "odd-normalised":
        positive = op("Softplus", z)
        total = net.reduce("ReduceSum", positive, 1)
        return _floats(net, op("Div", positive, total, name="out"), classes, normalised=1)
    if tail == "topk":
        net.nodes.append(helper.make_node("TopK", [softmax(), net.ints(3)], ["values", "out"], axis=1))
        outputs = {"values": (FLOAT, ("N", 3)), "out": (INT64, ("N", 3))}
        return Shown(outputs, "out", first, {c: c for c in range(classes)})
    if tail == "one-hot":
        return _floats(
            net, op("Hardmax", z, axis=1, name="out"), classes, may_be_refused=True, operators=("Hardmax",)
        )
    if tail in ("rejecting", "rejecting-label"):
        p = softmax()
        sure = op("Greater", net.reduce("ReduceMax", p, 1, 0), const(0.55))
        if tail == "rejecting-label":
            out = op("Where", sure, argmax(p), net.ints(-1), name="out")
            return _label(
                net, out, classes, may_be_refused=True, must_be_refused=True, operators=("Where", "Greater")
            )
        kept = op("Mul", p, op("Cast", op("Unsqueeze", sure, net.ints(1)), to=FLOAT), name="out")
        return _floats(net, kept, classes, may_be_refused=True, operators=("Greater", "Mul"))
    if tail == "coarse":
        out = op("Gather", net.ints(*(c // 2 for c in range(classes))), argmax(z), name="out")
        number = {c: c // 2 for c in range(classes)}
        return _label(
            net, out, classes, number=number, may_be_refused=True, must_be_refused=True, operators=("Gather",)
        )
    if tail == "sigmoids":
        return _floats(net, op("Sigmoid", z, name="out"), classes)
    if tail == "sigmoids-written-out":
        down = op("Exp", op("Neg", z))
        return _floats(net, op("Div", const(1.0), op("Add", down, const(1.0)), name="out"), classes)
    if tail == "sigmoids-average":
        other = op("Sigmoid", op("Mul", z, const(weights)))
        return _floats(net, op("Mean", op("Sigmoid", z), other, name="out"), classes)
    if tail == "bool-mask":
        masked = op(
            "Where", net.const(rng.permutation([True] * (classes - 1) + [False]), bool), z, const(-1e9)
        )
        return _floats(net, op("Softmax", masked, axis=1, name="out"), classes, normalised=1)
    if tail == "min-max":
        low, high = net.reduce("ReduceMin", z, 1), net.reduce("ReduceMax", z, 1)
        out = op("Div", op("Sub", z, low), op("Sub", high, low), name="out")
        return _floats(net, out, classes)
    if tail == "negative-distances":
        return _label(net, op("ArgMin", op("Neg", z), axis=1, keepdims=0, name="out"), classes)
    if tail == "zipmap":
        net.ml = True
        net.op(
            "ZipMap", softmax(), domain="ai.onnx.ml", name="out", classlabels_int64s=[int(c) for c in order]
        )
        kind = helper.make_sequence_type_proto(
            helper.make_map_type_proto(INT64, helper.make_tensor_type_proto(FLOAT, []))
        )
        decide = lambda value: np.array([max(row, key=row.get) for row in value])  # noqa: E731
        return Shown({"out": kind}, "out", decide, {c: int(order[c]) for c in range(classes)})
    if tail == "quantised-probabilities":
        parts = const(1 / 255), net.const(0, np.uint8)
        out = op("DequantizeLinear", op("QuantizeLinear", softmax(), *parts), *parts, name="out")
        return _floats(net, out, classes, may_be_refused=True, operators=("QuantizeLinear",))
    if tail == "uint8-label":
        return _label(
            net, op("Cast", argmax(softmax()), to=TensorProto.UINT8, name="out"), classes, TensorProto.UINT8
        )
    if tail == "unknown-class":
        none = op("Slice", op("Mul", z, const(0.0)), net.ints(0), net.ints(1), net.ints(1))
        out = op("Concat", softmax(), op("Add", none, const(0.5)), axis=1, name="out")
        return _floats(net, out, classes, width=classes + 1, may_be_refused=True, operators=("Concat",))
    if tail == "half-precision":
        half = op("Softmax", op("Cast", z, to=TensorProto.FLOAT16), axis=1)
        return _floats(net, op("Cast", half, to=FLOAT, name="out"), classes)
    if tail == "uint8-scores":
        out = op("QuantizeLinear", z, const(0.05), net.const(100, np.uint8), name="out")
        return Shown({out: (TensorProto.UINT8, ("N", classes))}, out, highest, {c: c for c in range(classes)})
    if tail == "votes":
        members = [op("Mul", z, const(np.exp(rng.uniform(-0.7, 0.7, classes)))) for _ in range(4)]
        votes = [op("Hardmax", member, axis=1) for member in (z, *members)]
        more = {"may_be_refused": True, "must_be_refused": True, "operators": ("Mean",)}
        return _floats(net, op("Mean", *votes, name="out"), classes, **more)
    if tail in ("half-average", "half-sigmoids-average"):
        kind = "Softmax" if tail == "half-average" else "Sigmoid"
        axis = {"axis": 1} if kind == "Softmax" else {}
        members = [op("Cast", op("Mul", z, const(f)), to=TensorProto.FLOAT16) for f in (3.0, weights)]
        both = op("Add", *(op(kind, member, **axis) for member in members))
        out = op("Mul", both, net.const(0.5, np.float16), name="out")
        shown = Shown(
            {out: (TensorProto.FLOAT16, ("N", classes))}, out, highest, {c: c for c in range(classes)}
        )
        return replace(shown, normalised=1) if kind == "Softmax" else shown
    if tail == "float-label":
        return _label(net, op("Cast", argmax(z), to=FLOAT, name="out"), classes, FLOAT)
    if tail in ("topk-floats", "topk-names"):
        net.nodes.append(helper.make_node("TopK", [softmax(), net.ints(3)], ["values", "best"], axis=1))
        if tail == "topk-floats":
            op("Cast", "best", to=FLOAT, name="out")
        else:
            op("Gather", net.ints(*order), "best", name="out")
        kind = FLOAT if tail == "topk-floats" else INT64
        number = {c: c if tail == "topk-floats" else int(order[c]) for c in range(classes)}
        return Shown({"values": (FLOAT, ("N", 3)), "out": (kind, ("N", 3))}, "out", first, number)
    if tail == "largest-of-three":
        several = [op("Mul", z, const(factor)) for factor in (0.5, 1.0, 1.5)]
        stacked = op("Concat", *(op("Unsqueeze", one, net.ints(2)) for one in several), axis=2)
        return _floats(net, op("ReduceMax", stacked, axes=[2], keepdims=0, name="out"), classes)
    if tail == "leading-one":
        op("Unsqueeze", softmax(), net.ints(0), name="out")
        decide = lambda value: value[0].argmax(axis=1)  # noqa: E731
        return Shown({"out": (FLOAT, (1, "N", classes))}, "out", decide, {c: c for c in range(classes)})
    if tail == "leading-one-label":
        op("Reshape", argmax(z), net.ints(1, -1), name="out")
        number = {c: c for c in range(classes)}
        return Shown({"out": (INT64, (1, "N"))}, "out", lambda value: value[0], number)
    if tail == "looked-up":
        net.ml = True
        op("ArrayFeatureExtractor", net.ints(*order), argmax(z), name="out", domain="ai.onnx.ml")
        number = {c: int(order[c]) for c in range(classes)}
        return Shown({"out": (INT64, (1, "N"))}, "out", lambda value: value[0], number)
    raise ValueError(tail)


def _single(net: NetBuilder, z: str, tail: str, classes: int, rng: np.random.Generator) -> Shown:
    op, const = net.op, net.const
    cut = float(rng.uniform(0.3, 0.7))
    number = {0: 0, 1: 1}
    one = {"out": (FLOAT, ("N", 1))}

    def p(name: str = "") -> str:
        return op("Sigmoid", z, name=name)

    def probability(name: str) -> Shown:
        return Shown({name: (FLOAT, ("N", 1))}, name, above(0.5), number)

    def pair(name: str, flipped: bool = False) -> Shown:
        return Shown({name: (FLOAT, ("N", 2))}, name, highest, {0: 1, 1: 0} if flipped else number)

    if tail == "p":
        return probability(p("out"))
    if tail == "p-written-out":
        return probability(op("Reciprocal", op("Add", op("Exp", op("Neg", z)), const(1.0)), name="out"))
    if tail == "p-tanh":
        half = op("Tanh", op("Mul", z, const(0.5)))
        return probability(op("Add", op("Mul", half, const(0.5)), const(0.5), name="out"))
    if tail == "p-hard":
        return probability(op("HardSigmoid", z, name="out", alpha=0.3))
    if tail == "p-clip":
        return probability(op("Clip", op("Add", z, const(0.5)), const(0.0), const(1.0), name="out"))
    if tail == "p-one-minus":
        op("Sub", const(1.0), p(), name="out")
        return Shown(one, "out", above(0.5), {0: 1, 1: 0})
    if tail == "pair-p":
        both = p()
        return pair(op("Concat", op("Sub", const(1.0), both), both, axis=1, name="out"))
    if tail == "p-pair":
        both = p()
        return pair(op("Concat", both, op("Sub", const(1.0), both), axis=1, name="out"), flipped=True)
    if tail == "p-percent-pair":
        both = op("Mul", p(), const(100.0))
        return pair(op("Concat", op("Sub", const(100.0), both), both, axis=1, name="out"))
    if tail == "p-threshold-label":
        out = op("Cast", op("Greater", p(), const(cut)), to=INT64, name="out")
        return Shown({"out": (INT64, ("N", 1))}, out, first, number)
    if tail == "p-flipped":
        out = op("Cast", op("Less", p(), const(cut)), to=INT64, name="out")
        return Shown({"out": (INT64, ("N", 1))}, out, first, {0: 1, 1: 0})
    if tail == "p-greater":
        out = op("Greater", z, const(cut - 0.5), name="out")
        return Shown({"out": (BOOL, ("N", 1))}, out, lambda v: first(v).astype(np.int64), number)
    if tail == "p-softplus":
        out = op("Exp", op("Neg", op("Softplus", op("Neg", z))), name="out")
        return probability(out)
    if tail == "p-atan":
        turned = op("Mul", op("Atan", z), const(1 / np.pi))
        return probability(op("Add", turned, const(0.5), name="out"))
    if tail == "p-percent":
        op("Mul", p(), const(100.0), name="out")
        return Shown(one, "out", above(50), number)
    if tail == "odds":
        op("Exp", z, name="out")
        return Shown(one, "out", above(1), number)
    if tail == "tanh":
        op("Tanh", z, name="out")
        return Shown(one, "out", above(0), number)
    if tail == "p-of-two":
        both = op(
            "Softmax", op("Concat", op("Mul", z, const(-0.5)), op("Mul", z, const(0.5)), axis=1), axis=1
        )
        out = op("Slice", both, net.ints(1), net.ints(2), net.ints(1), name="out")
        return probability(out)
    if tail == "p-average":
        return probability(op("Mean", p(), op("Sigmoid", op("Mul", z, const(0.3))), name="out"))
    if tail == "p-gated":
        out = op("Mul", p(), op("Cast", op("Greater", z, const(-0.5)), to=FLOAT), name="out")
        return probability(out)
    if tail == "p-band":
        inside = op("And", op("Greater", p(), const(0.3)), op("Less", p(), const(0.7)))
        out = op("Cast", inside, to=INT64, name="out")
        more = {"may_be_refused": True, "must_be_refused": True, "operators": ("And", "Less")}
        return Shown({"out": (INT64, ("N", 1))}, out, first, number, **more)
    if tail == "logit-pair":
        return pair(op("Concat", op("Neg", z), z, axis=1, name="out"))
    if tail == "p-squeezed":
        out = op("Squeeze", p(), net.ints(1), name="out")
        return Shown({"out": (FLOAT, ("N",))}, out, above(0.5), number)
    if tail == "p-where-names":
        out = op("Where", op("Greater", p(), const(cut)), net.ints(7), net.ints(3), name="out")
        return Shown({"out": (INT64, ("N", 1))}, out, first, {0: 3, 1: 7})
    if tail == "p-beside-label":  # a calibrated probability, and a label by another threshold
        op("Sigmoid", op("Add", op("Mul", z, const(1.7)), const(-0.2)), name="p")
        op("Cast", op("Greater", "p", const(cut)), to=INT64, name="out")
        return Shown({"p": (FLOAT, ("N", 1)), "out": (INT64, ("N", 1))}, "out", first, number)
    if tail == "p-rarely":  # the decision is far from every sample
        out = op("Cast", op("Greater", op("Div", z, const(400.0)), const(1.0)), to=INT64, name="out")
        return Shown({"out": (INT64, ("N", 1))}, out, first, number)
    raise ValueError(tail)
