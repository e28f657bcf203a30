"""Where do residual, dense and inception blocks end, and what is inside their branches?

A residual block ends in an Add or Sum of two branches that come from the same tensor, a dense or inception
block in a Concat. A tensor that only some of the joined branches need is inside the block.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
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
    bits = _NeededBits(graph, order)
    outputs: set[str] = set()
    inside = 0
    for position in order:
        node = graph.nodes[position]
        branches = [n for n in dict.fromkeys(node.input) if n and graph.depends_on_input(n)]
        if node.op_type in _JOINS and len(branches) > 1:
            needed = [bits.of[name] for name in branches]
            common, either = needed[0], 0
            for item in needed:
                common &= item
                either |= item
            summed = node.op_type != "Concat"
            if common and not (summed and (_is_formula(graph, branches) or _is_masked_score(graph, node))):
                inside |= either & ~common
                end = _after_activation(graph, node.output[0], activations) if summed else node.output[0]
                outputs.add(end)
        bits.pass_node(position)
    found = np.frombuffer(inside.to_bytes(len(graph.nodes) // 8 + 1 + len(graph.inputs), "little"), np.uint8)
    flags = np.unpackbits(found, bitorder="little")
    return Blocks(frozenset(outputs), frozenset(p for p in order if flags[p]))


class _NeededBits:
    """For every tensor the set of nodes and inputs that it varies with, as an integer: bit p is node p.

    of : by tensor, from its node until its last reader: of 100,000 nodes all of them would take gigabytes.
    """

    def __init__(self, graph: GraphIndex, order: Sequence[int]) -> None:
        self.graph = graph
        self.of = {value.name: 1 << (len(graph.nodes) + k) for k, value in enumerate(graph.inputs)}
        self._readers = Counter(name for position in order for name in graph.needs(position))

    def pass_node(self, position: int) -> None:
        """Go on to the next node of the order."""
        node = self.graph.nodes[position]
        own, needs = 1 << position, self.graph.needs(position)
        for name in needs:
            own |= self.of.get(name, 0)
            self._readers[name] -= 1
            if not self._readers[name]:
                self.of.pop(name, None)
        if any(name and self.graph.depends_on_input(name) for name in node.output):
            self.of |= {name: own for name in node.output if self._readers[name]}


def _is_formula(graph: GraphIndex, branches: list[str]) -> bool:
    """x + 0.044 x^3 and the like: one summand is computed elementwise from another."""
    summands = frozenset(branches)
    for name in branches:
        waiting = [name]
        for _ in range(_STEPS):
            if not waiting:
                break
            node = graph.producer(waiting.pop())
            if node is None or node.op_type not in _ELEMENTWISE:
                continue
            if any(item in summands and item != name for item in node.input):
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
