"""Where do residual, dense and inception blocks end, and what is inside their branches?

A residual block ends in an Add or Sum of two branches that come from the same tensor, a dense or inception
block in a Concat. A tensor that only some of the joined branches need is inside the block.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from onnx import NodeProto

from onnxtweak.model.graph import GraphIndex

_JOINS = frozenset({"Add", "Sum", "Concat"})
_ELEMENTWISE = frozenset({"Mul", "Add", "Sub", "Div", "Pow", "Neg", "Tanh", "Erf", "Sigmoid", "Exp", "Cast"})
_STEPS = 12


@dataclass(frozen=True)
class Blocks:
    """outputs : names of block outputs. inside : positions of nodes inside the branches of some block."""

    outputs: frozenset[str]
    inside: frozenset[int]


def find_blocks(graph: GraphIndex, order: Sequence[int], activations: frozenset[str]) -> Blocks:
    """Blocks among the nodes `order`: positions in topological order, including all that these nodes need.

    Where a residual sum is read by its activation only, the activation is the block's output.
    """
    needed = _needed_bits(graph, order)
    outputs: set[str] = set()
    inside = 0
    for position in order:
        node = graph.nodes[position]
        branches = [n for n in dict.fromkeys(node.input) if n and graph.depends_on_input(n)]
        if node.op_type not in _JOINS or len(branches) < 2:
            continue
        bits = [needed[name] for name in branches]
        common, either = bits[0], 0
        for item in bits:
            common &= item
            either |= item
        summed = node.op_type != "Concat"
        if not common or (summed and (_is_formula(graph, branches) or _is_masked_score(graph, node))):
            continue
        inside |= either & ~common
        outputs.add(_after_activation(graph, node.output[0], activations) if summed else node.output[0])
    return Blocks(frozenset(outputs), frozenset(p for p in order if inside >> p & 1))


def _needed_bits(graph: GraphIndex, order: Sequence[int]) -> dict[str, int]:
    """For every tensor the set of nodes and inputs that it varies with, as an integer: bit p is node p."""
    count = len(graph.nodes)
    needed = {value.name: 1 << (count + number) for number, value in enumerate(graph.inputs)}
    for position in order:
        node = graph.nodes[position]
        if not any(name and graph.depends_on_input(name) for name in node.output):
            continue
        bits = 1 << position
        for name in graph.needs(position):
            bits |= needed.get(name, 0)
        for name in node.output:
            needed[name] = bits
    return needed


def _is_formula(graph: GraphIndex, branches: list[str]) -> bool:
    """x + 0.044 x^3 and the like: one summand is computed elementwise from another."""
    for name in branches:
        others = set(branches) - {name}
        waiting = [name]
        for _ in range(_STEPS):
            if not waiting:
                break
            node = graph.producer(waiting.pop())
            if node is None or node.op_type not in _ELEMENTWISE:
                continue
            if others & set(node.input):
                return True
            waiting.extend(item for item in node.input if item and graph.depends_on_input(item))
    return False


def _is_masked_score(graph: GraphIndex, node: NodeProto) -> bool:
    """An attention score plus its mask: a softmax reads it."""
    readers = graph.consumers(node.output[0])
    return bool(readers) and all(reader.op_type == "Softmax" for reader in readers)


def _after_activation(graph: GraphIndex, name: str, activations: frozenset[str]) -> str:
    readers = graph.consumers(name)
    ends = [r.output[0] for r in readers if r.output[0] in activations]
    if len(ends) != 1 or graph.is_captured(name):
        return name
    rest = [r.output[0] for r in readers if r.output[0] != ends[0]]
    product = graph.producer(ends[0])
    return ends[0] if product is not None and all(item in product.input for item in rest) else name
