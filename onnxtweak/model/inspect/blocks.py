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
    needed = _NeededBits(graph, order)
    outputs: set[str] = set()
    inside = 0
    for position in order:
        node, read = graph.nodes[position], needed.pass_node(position)
        if len(read) < 2 or node.op_type not in _JOINS:
            continue
        branches = {name: read[name] for name in node.input if name in read}
        if len(branches) < 2:
            continue
        common, either = -1, 0
        for bits in branches.values():
            common &= bits
            either |= bits
        summed = node.op_type != "Concat"
        if common and not (summed and (_is_formula(graph, list(branches)) or _is_masked_score(graph, node))):
            inside |= either & ~common
            end = _after_activation(graph, node.output[0], activations) if summed else node.output[0]
            outputs.add(end)
    return Blocks(frozenset(outputs), needed.nodes_of(inside))


class _NeededBits:
    """For every tensor the set of nodes and inputs that it varies with, as an integer of bits.

    Nodes in a row, each the only reader of the one before, have one bit together: whatever needs one of them
    from outside needs them all. So deep models have short integers. Bits are held from a tensor's node to its
    last reader: of 100,000 nodes all of them would take gigabytes.
    """

    def __init__(self, graph: GraphIndex, order: Sequence[int]) -> None:
        self._graph = graph
        self._readers = dict(Counter(name for position in order for name in graph.needs(position)))
        self._of = {value.name: 1 << k for k, value in enumerate(graph.inputs)}
        self._bits = len(self._of)  # so many are in use
        self._bit: dict[int, int] = {}  # of each node, by position
        self._alone: set[str] = set()  # tensors with one reader, whose node makes nothing else that is read

    def pass_node(self, position: int) -> dict[str, int]:
        """Go on to the next node of the order: what the tensors that it reads need, by name if they vary."""
        found: dict[str, int] = {}
        for name in self._graph.needs(position):
            bits = self._of.get(name)
            if bits is None:
                continue
            found[name] = bits
            self._readers[name] -= 1
            if not self._readers[name]:
                del self._of[name]
        if found:
            own = self._with_its_own(position, found)
            read = [name for name in self._graph.nodes[position].output if self._readers.get(name)]
            if len(read) == 1 and self._readers[read[0]] == 1:
                self._alone.add(read[0])
            for name in read:
                if self._graph.depends_on_input(name):
                    self._of[name] = own
        return found

    def _with_its_own(self, position: int, found: dict[str, int]) -> int:
        """What a node's outputs need: what it reads, and the node."""
        name, needed = next(iter(found.items()))
        source = self._graph.position(name)
        if len(found) == 1 and name in self._alone and source is not None:
            self._bit[position] = self._bit[source]
            return needed
        self._bit[position] = self._bits
        self._bits += 1
        needed = 1 << self._bit[position]
        for bits in found.values():
            needed |= bits
        return needed

    def nodes_of(self, bits: int) -> frozenset[int]:
        """Positions of the nodes of a set."""
        found = np.frombuffer(bits.to_bytes(self._bits // 8 + 1, "little"), np.uint8)
        flags = np.unpackbits(found, bitorder="little")
        return frozenset(position for position, bit in self._bit.items() if flags[bit])


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
