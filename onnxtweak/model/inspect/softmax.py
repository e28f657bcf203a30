"""Is a tensor the softmax, or the log-softmax, of another, as one operator or written out?

Exporters write softmax(x) as exp(x - max x) / sum exp(x - max x) in several ways: with or without the
maximum, with a reciprocal, with Reshape and Expand in between (tf2onnx, jax), with the logarithm at the end
or inside (logsumexp).
"""

from __future__ import annotations

from dataclasses import dataclass

from onnx import NodeProto

from onnxtweak.model.graph import DEFAULT_DOMAINS, GraphIndex, attribute
from onnxtweak.model.inspect.shapes import constant_ints

SAME_VALUE = frozenset({"Identity", "Cast", "CastLike", "Dropout"})
SPELLINGS = frozenset({"Softmax", "LogSoftmax", "softmax written out", "log-softmax written out"})
_SPREAD = SAME_VALUE | {"Reshape", "Expand", "Unsqueeze", "Squeeze", "Tile", "Flatten"}
_GUARDS = frozenset({"Max", "Min", "Clip", "Add"})


@dataclass(frozen=True)
class SoftmaxMatch:
    """A softmax that was recognised.

    input : the tensor that it is applied to. rule : how it is written. axis : over which it runs, as given in
    the model; None where unknown. flattens : the axis and all after it are one row (before opset 13).
    """

    input: str
    rule: str
    axis: int | None
    flattens: bool = False


def match_softmax(graph: GraphIndex, name: str) -> SoftmaxMatch | None:
    """The softmax or log-softmax that ends in tensor `name`, if one does."""
    node = graph.producer(name)
    if node is None or node.domain not in DEFAULT_DOMAINS:
        return None
    if node.op_type in ("Softmax", "LogSoftmax"):
        old = graph.opset < 13
        return SoftmaxMatch(node.input[0], node.op_type, attribute(node, "axis", 1 if old else -1), old)
    if node.op_type == "Div":
        return _quotient(graph, node.input[0], node.input[1])
    if node.op_type == "Mul":
        for power, factor in (node.input, reversed(node.input)):
            inverse = graph.producer(_through(graph, factor, _SPREAD))
            if inverse is not None and inverse.op_type == "Reciprocal":
                return _quotient(graph, power, inverse.input[0])
    if node.op_type == "Sub":
        return _log_quotient(graph, node.input[0], node.input[1])
    return None


def _quotient(graph: GraphIndex, power: str, total: str) -> SoftmaxMatch | None:
    """exp(e) / sum exp(e)."""
    power = _through(graph, power, SAME_VALUE)
    node = graph.producer(power)
    if node is None or node.op_type != "Exp":
        return None
    sum_node = _sum_of(graph, total, power)
    if sum_node is None:
        return None
    return SoftmaxMatch(
        _unshifted(graph, node.input[0]), "softmax written out", _reduced_axis(graph, sum_node)
    )


def _log_quotient(graph: GraphIndex, left: str, right: str) -> SoftmaxMatch | None:
    """e - log sum exp(e), or x - (max x + log sum exp(x - max x))."""
    rule = "log-softmax written out"
    node = graph.producer(_through(graph, right, _SPREAD))
    if node is None:
        return None
    if node.op_type == "ReduceLogSumExp" and _same(graph, node.input[0], left):
        return SoftmaxMatch(left, rule, _reduced_axis(graph, node))
    parts = node.input if node.op_type == "Add" else (node.output[0],)
    for part in parts:
        log = graph.producer(_through(graph, part, _SPREAD))
        if log is None or log.op_type != "Log":
            continue
        sum_node = graph.producer(_guarded(graph, log.input[0]))
        if sum_node is None or sum_node.op_type != "ReduceSum":
            continue
        power = graph.producer(_through(graph, sum_node.input[0], SAME_VALUE))
        if power is None or power.op_type != "Exp":
            continue
        scores = _unshifted(graph, power.input[0])
        if _same(graph, scores, left) or _same(graph, power.input[0], left):
            return SoftmaxMatch(scores, rule, _reduced_axis(graph, sum_node))
    return None


def _sum_of(graph: GraphIndex, total: str, power: str) -> NodeProto | None:
    node = graph.producer(_guarded(graph, total))
    if node is None or node.op_type != "ReduceSum" or not _same(graph, node.input[0], power):
        return None
    return node


def _unshifted(graph: GraphIndex, name: str) -> str:
    """x where the tensor is x - max x; else the tensor itself, which will do: softmax ignores a shift."""
    node = graph.producer(_through(graph, name, SAME_VALUE))
    if node is None or node.op_type not in ("Sub", "Add"):
        return name
    scores, shift = node.input
    if node.op_type == "Add":
        negative = graph.producer(_through(graph, shift, _SPREAD))
        if negative is None or negative.op_type != "Neg":
            return name
        shift = negative.input[0]
    top = graph.producer(_guarded(graph, shift))
    if top is None or top.op_type != "ReduceMax" or not _same(graph, top.input[0], scores):
        return name
    return scores if top.input[0] == scores else _through(graph, scores, SAME_VALUE)


def _guarded(graph: GraphIndex, name: str) -> str:
    """The tensor before reshaping, broadcasting, and bounds or small constants against overflow."""
    while True:
        name = _through(graph, name, _SPREAD)
        node = graph.producer(name)
        if node is None or node.op_type not in _GUARDS:
            return name
        varying = [item for item in node.input if item and graph.depends_on_input(item)]
        if len(varying) != 1:
            return name
        name = varying[0]


def _through(graph: GraphIndex, name: str, ops: frozenset[str]) -> str:
    node = graph.producer(name)
    while node is not None and node.op_type in ops:
        name = node.input[0]
        node = graph.producer(name)
    return name


def _same(graph: GraphIndex, one: str, other: str) -> bool:
    return _through(graph, one, SAME_VALUE) == _through(graph, other, SAME_VALUE)


def _reduced_axis(graph: GraphIndex, node: NodeProto) -> int | None:
    axes = constant_ints(graph, node, "axes", 1)
    return axes[0] if axes is not None and len(axes) == 1 else None
