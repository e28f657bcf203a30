"""Which chains of operators might follow on a model's class scores? Drawn at random, of any length."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from onnx import TensorProto

from tests.support.nets import NetBuilder
from tests.support.tails import Shown, first, highest

FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64
_MOST_STEPS = 6


def add_chain(net: NetBuilder, z: str, classes: int, rng: np.random.Generator) -> tuple[Shown, str]:
    """A chain behind the class scores `z` (N, C), and its steps in words."""
    columns = np.arange(classes)
    names = []
    for name in rng.choice(list(_STEPS), rng.integers(1, _MOST_STEPS)).tolist():
        names.append(name)
        if name == "permute":
            order = rng.permutation(len(columns))
            z, columns = net.op("Gather", z, net.ints(*order), axis=1), columns[order]
        elif name == "drop":
            if len(columns) > 3:
                z = net.op("Slice", z, net.ints(1), net.ints(len(columns)), net.ints(1))
                columns = columns[1:]
        else:
            z = _STEPS[name](net, z, len(columns), rng)
    end = str(rng.choice(["scores", "class", "float class", "name"]))
    shown = _shown(net, z, end, columns.tolist(), rng)
    return shown, " ".join((*names, end))


def _shown(net: NetBuilder, z: str, end: str, columns: list[int], rng: np.random.Generator) -> Shown:
    number = {column: place for place, column in enumerate(columns)}
    if end == "scores":
        net.op("Identity", z, name="out")
        return Shown({"out": (FLOAT, ("N", len(columns)))}, "out", highest, number)
    best = net.op("ArgMax", z, axis=1, keepdims=0)
    if end == "float class":
        net.op("Cast", best, to=FLOAT, name="out")
        return Shown({"out": (FLOAT, ("N",))}, "out", first, number)
    if end == "class":
        net.op("Identity", best, name="out")
        return Shown({"out": (INT64, ("N",))}, "out", first, number)
    names = rng.permutation(40)[: len(columns)]
    net.op("Gather", net.ints(*names), best, name="out")
    return Shown({"out": (INT64, ("N",))}, "out", first, dict(zip(columns, names.tolist(), strict=True)))


def _mean_with_other(net: NetBuilder, z: str, count: int, rng: np.random.Generator) -> str:
    other = net.op("Mul", z, net.const(np.exp(rng.uniform(-1, 1, count))))
    members = (net.op("Softmax", member, axis=1) for member in (z, other))
    return net.op(str(rng.choice(["Mean", "Max"])), *members)


def _normalised(net: NetBuilder, z: str, count: int, rng: np.random.Generator) -> str:
    positive = net.op("Sigmoid", z)
    return net.op("Div", positive, net.reduce("ReduceSum", positive, 1))


def _mixed(net: NetBuilder, z: str, count: int, rng: np.random.Generator) -> str:
    mixing = 0.9 * np.eye(count) + 0.1 * rng.dirichlet(np.ones(count), count)
    return net.op("MatMul", z, net.const(mixing))


def _between_least_and_most(net: NetBuilder, z: str, count: int, rng: np.random.Generator) -> str:
    low, high = net.reduce("ReduceMin", z, 1), net.reduce("ReduceMax", z, 1)
    return net.op("Div", net.op("Sub", z, low), net.op("Sub", high, low))


_STEPS: dict[str, Callable[[NetBuilder, str, int, np.random.Generator], str]] = {
    "permute": lambda net, z, count, rng: z,
    "drop": lambda net, z, count, rng: z,
    "softmax": lambda net, z, count, rng: net.op("Softmax", z, axis=1),
    "logarithm": lambda net, z, count, rng: net.op("LogSoftmax", z, axis=1),
    "sigmoids": lambda net, z, count, rng: net.op("Sigmoid", z),
    "temperature": lambda net, z, count, rng: net.op("Div", z, net.const(rng.uniform(0.3, 4))),
    "weights": lambda net, z, count, rng: net.op("Mul", z, net.const(np.exp(rng.uniform(-1, 1, count)))),
    "offsets": lambda net, z, count, rng: net.op("Add", z, net.const(rng.normal(0, 0.5, count))),
    "percent": lambda net, z, count, rng: net.op("Mul", z, net.const(100.0)),
    "limits": lambda net, z, count, rng: net.op("Clip", z, net.const(-50.0), net.const(0.98)),
    "floor": lambda net, z, count, rng: net.op("Max", z, net.const(1e-3)),
    "rounding": lambda net, z, count, rng: net.op("Round", net.op("Mul", z, net.const(1000.0))),
    "half": lambda net, z, count, rng: net.op("Cast", net.op("Cast", z, to=TensorProto.FLOAT16), to=FLOAT),
    "column": lambda net, z, count, rng: net.op("Flatten", net.op("Unsqueeze", z, net.ints(2)), axis=1),
    "mean": _mean_with_other,
    "normalised": _normalised,
    "mixed": _mixed,
    "range": _between_least_and_most,
}
