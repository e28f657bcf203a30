"""What does the graph around a tweak look like? Its neighborhood, few enough nodes for a picture."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from onnxtweak.model.file.tweak_metadata import tweaks_inside
from onnxtweak.model.graph import GraphIndex

_FOLLOWERS = 4  # most nodes shown after the patched logits
_MOST_ADDED = 60  # most nodes shown of a tweak with many taps


@dataclass(frozen=True)
class NodePlace:
    """A node, an input or an output of the model.

    role : "input", "output", "added" (the tweak's own), "read" (what the tweak reads or adds to), or "base".
    """

    name: str
    op: str
    role: str


@dataclass(frozen=True)
class Neighborhood:
    """A picture's worth of graph.

    edges : (from, to, hidden): positions in `places`, and whether there are nodes between that are not shown.
    left_out : number of added nodes that are not shown.
    """

    places: tuple[NodePlace, ...]
    edges: tuple[tuple[int, int, bool], ...]
    left_out: int


def neighborhood(graph: GraphIndex) -> Neighborhood | None:
    """The last tweak's nodes, what they read, and what follows; None where no tweak is inside."""
    inside = tweaks_inside(graph.proto)
    if not inside:
        return None
    # Every name of the tweak, and no other, starts with its prefix.
    own = [k for k, node in enumerate(graph.nodes) if node.name.startswith(inside[-1].prefix)]
    end = graph.position(inside[-1].logits)
    added = [*own, *([end] if end is not None and end not in own else [])]
    shown = dict.fromkeys([*added[: _MOST_ADDED - 1], *added[-1:]], "added")
    for k in list(shown):
        for name in graph.needs(k):
            read = graph.position(name)
            if read is not None and graph.nodes[read].op_type != "Constant" and read not in added:
                shown[read] = "read"
    for k in _followers(graph, inside[-1].logits):
        shown.setdefault(k, "base")
    return _drawn(graph, shown, max(0, len(added) - _MOST_ADDED))


def _followers(graph: GraphIndex, name: str) -> Iterable[int]:
    """The first few nodes that come after a tensor."""
    found: list[int] = []
    waiting = [name]
    while waiting and len(found) < _FOLLOWERS:
        for k in graph.consumer_positions(waiting.pop(0)):
            if k not in found and len(found) < _FOLLOWERS:
                found.append(k)
                waiting += graph.nodes[k].output
    return found


def _drawn(graph: GraphIndex, shown: dict[int, str], left_out: int) -> Neighborhood:
    order = sorted(shown)
    number = {k: at for at, k in enumerate(order)}
    places = [
        NodePlace(graph.nodes[k].name or graph.nodes[k].output[0], graph.nodes[k].op_type, shown[k])
        for k in order
    ]
    inputs: dict[str, int] = {}
    edges: dict[tuple[int, int], bool] = {}

    def connect(source: int, to: int, hidden: bool) -> None:
        edges[source, to] = edges.get((source, to), True) and hidden

    def place_of_input(name: str) -> int:
        if name not in inputs:
            inputs[name] = len(places)
            places.append(NodePlace(name, "input", "input"))
        return inputs[name]

    fed = {value.name for value in graph.inputs}
    for k in order:
        for name, hidden in _sources(graph, graph.needs(k), number, fed):
            source = graph.position(name)
            connect(place_of_input(name) if source is None else number[source], number[k], hidden)
    for value in graph.outputs:
        for name, hidden in _sources(graph, (value.name,), number, fed):
            source = graph.position(name)
            if source is not None:
                connect(number[source], len(places), hidden)
        if any(to == len(places) for _, to in edges):
            places.append(NodePlace(value.name, "output", "output"))
    return Neighborhood(tuple(places), tuple((a, b, hidden) for (a, b), hidden in edges.items()), left_out)


def _sources(
    graph: GraphIndex, names: Iterable[str], number: dict[int, int], fed: set[str]
) -> list[tuple[str, bool]]:
    """The nearest shown nodes and model inputs before `names`; with each, whether nodes were skipped."""
    found: dict[str, bool] = {}
    seen: set[str] = set()
    waiting = [(name, False) for name in names]
    while waiting:
        name, hidden = waiting.pop(0)
        if name in seen:
            continue
        seen.add(name)
        source = graph.position(name)
        if source in number or (source is None and name in fed):
            found.setdefault(name, hidden)
        elif source is not None:
            waiting += [(before, True) for before in graph.needs(source)]
    return list(found.items())
