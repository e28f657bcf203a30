"""Where in a model does a tweak go? After what it reads, and before what reads the scores that it changes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from onnxtweak.errors import ModelError
from onnxtweak.model.edit.patch_nodes import SpliceSite, free_prefix
from onnxtweak.model.file.model_file import ModelFile
from onnxtweak.model.file.tweak_metadata import tweaks_inside
from onnxtweak.model.graph import GraphIndex
from onnxtweak.model.logits_format import LogitsFormat

OLDEST_OPSET = 7  # the first with broadcasting in Add and Mul


@dataclass(frozen=True)
class NodePositions:
    """Where in the file the piece's nodes go: positions of the graph's nodes in file order.

    producer : of the node that writes the logits. output : which of its outputs they are. last : of the node
    after which everything that the piece reads has been computed.
    """

    producer: int
    output: int
    last: int


@dataclass(frozen=True)
class Graft:
    """A model, and where in it a piece will be inserted. number : of the tweak. prefix : of all new names."""

    model: ModelFile
    logits: str
    positions: NodePositions
    number: int
    prefix: str

    def site(self, logits_format: LogitsFormat, shown: str | None = None) -> SpliceSite:
        """What the piece reads and writes. shown : the output that it writes; None: it writes the logits."""
        reads, writes = (f"{self.prefix}logits", self.logits) if shown is None else (self.logits, shown)
        return SpliceSite(reads, writes, logits_format, self.model.graph.opset, self.prefix)

    def free_name(self, wish: str) -> str:
        """`wish`, with our prefix where the name is taken."""
        return wish if wish not in self.model.graph.all_names else f"{self.prefix}{wish}"


def prepare_graft(model: ModelFile, logits: str, taps: Iterable[str]) -> Graft:
    """Find where to insert a piece that reads `taps` and adds to `logits`.

    Raises ModelError when the model does not compute the logits or a tap.
    """
    positions = _find_positions(model.graph, logits, taps)
    number = len(tweaks_inside(model.proto)) + 1
    prefix = free_prefix(f"onnxtweak/{number}/", model.graph.all_names)
    return Graft(model, logits, positions, number, prefix)


def _find_positions(index: GraphIndex, logits: str, taps: Iterable[str]) -> NodePositions:
    """Where the splice goes. Raises ModelError when the model does not compute the logits or a tap."""
    list_them = "see `onnxtweak inspect`"
    if index.opset < OLDEST_OPSET:
        raise ModelError(
            f"the model uses opset {index.opset}; tweaks need {OLDEST_OPSET} or newer",
            where=logits,
            hint="export the model with a newer opset",
        )
    writers = [position for position, node in enumerate(index.nodes) if logits in node.output]
    given = logits in index.initializer_names or any(
        value.name == logits for value in index.proto.graph.input
    )
    if len(writers) != 1 or given or list(index.nodes[writers[0]].output).count(logits) != 1:
        raise ModelError(
            "the logits must be written by exactly one node of the model's main graph",
            where=logits,
            hint=f"name another tensor with --logits; {list_them}",
        )
    producer = writers[0]
    after_logits = index.descendants([logits])
    last = producer
    for tap in taps:
        position = index.position(tap)
        if position is None and all(value.name != tap for value in index.inputs):
            raise ModelError("the model does not compute this tapped tensor", where=tap, hint=list_them)
        if tap == logits or position in after_logits:
            raise ModelError(
                f"a neuron that depends on the logits '{logits}' cannot be added to them",
                where=tap,
                hint="exclude this tensor with --taps",
            )
        last = max(last, -1 if position is None else position)
    _require_order_kept(index, producer, last, logits)
    return NodePositions(producer, list(index.nodes[producer].output).index(logits), last)


def _require_order_kept(index: GraphIndex, producer: int, last: int, logits: str) -> None:
    """Raise ModelError where a sorted model would not stay sorted.

    The Add must come before every reader of the logits, and after every tap.
    """
    early = any(logits in index.needs(position) for position in range(producer + 1, last + 1))
    if early and _is_sorted(index):
        raise ModelError(
            "a tapped tensor is computed only after the logits are used",
            where=f"'{index.nodes[last].output[0]}' after '{logits}'",
            hint="exclude this tensor with --taps",
        )


def _is_sorted(index: GraphIndex) -> bool:
    """Whether every node comes after those it reads from."""
    for position in range(len(index.nodes)):
        for name in index.needs(position):
            writer = index.position(name)
            if writer is not None and writer >= position:
                return False
    return True
