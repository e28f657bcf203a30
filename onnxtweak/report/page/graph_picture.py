"""How is the graph around a tweak drawn? In layers from top to bottom, the added nodes standing out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from onnxtweak.report.markup import shortened
from onnxtweak.report.page.charts import rect, svg, text

_WIDE, _TALL, _GAP_X, _GAP_Y = 124, 36, 14, 26


def graph_picture(places: Sequence[dict[str, Any]], edges: Sequence[Sequence[Any]]) -> str:
    """The SVG. places : name, op and role; edges : (from, to, whether nodes between are hidden)."""
    if not places:
        return ""
    links = [(int(a), int(b), bool(hidden)) for a, b, hidden in edges]
    if any(not (0 <= a < len(places) and 0 <= b < len(places)) for a, b, _ in links):
        raise ValueError("an edge refers to a node that is missing")
    rows = _rows(_ranks(len(places), links), links)
    widest = max(map(len, rows))
    width = widest * (_WIDE + _GAP_X) + _GAP_X
    at = {}
    for rank, row in enumerate(rows):
        left = (width - len(row) * (_WIDE + _GAP_X) + _GAP_X) / 2
        for k, place in enumerate(row):
            at[place] = (left + k * (_WIDE + _GAP_X), 6 + rank * (_TALL + _GAP_Y))
    body = "".join(_edge(at[a], at[b], hidden, _is_mine(places, a, b)) for a, b, hidden in links)
    body += "".join(_box(*at[k], place) for k, place in enumerate(places))
    return svg(
        width, 6 + len(rows) * (_TALL + _GAP_Y), body, "the graph around the splice", least=min(width, 640)
    )


def _ranks(count: int, links: Sequence[tuple[int, int, bool]]) -> list[int]:
    """Length of the longest path from a source to each place. Raises ValueError for a cycle."""
    ranks = [0] * count
    for _ in range(count):
        before = list(ranks)
        for a, b, _ in links:
            ranks[b] = max(ranks[b], ranks[a] + 1)
        if ranks == before:
            return ranks
    raise ValueError("the graph has a cycle")


def _rows(ranks: Sequence[int], links: Sequence[tuple[int, int, bool]]) -> list[list[int]]:
    """Places of each rank, ordered so that they stand below what they read."""
    rows: list[list[int]] = [[] for _ in range(max(ranks) + 1)]
    for place, rank in enumerate(ranks):
        rows[rank].append(place)
    middle: dict[int, float] = {}
    for row in rows:
        above = {p: [middle[a] for a, b, _ in links if b == p and a in middle] for p in row}
        row.sort(key=lambda p: (sum(above[p]) / len(above[p]) if above[p] else 0.5, p))
        middle |= {p: (k + 0.5) / len(row) for k, p in enumerate(row)}
    return rows


def _is_mine(places: Sequence[dict[str, Any]], a: int, b: int) -> bool:
    return "added" in (places[a]["role"], places[b]["role"])


def _edge(one: tuple[float, float], other: tuple[float, float], hidden: bool, mine: bool) -> str:
    x0, y0 = one[0] + _WIDE / 2, one[1] + _TALL
    x1, y1 = other[0] + _WIDE / 2, other[1]
    bend = max(14.0, (y1 - y0) / 2)
    kind = f"edge{' mine' if mine else ''}{' hidden' if hidden else ''}"
    return (
        f'<path d="M{x0:.1f} {y0:.1f}C{x0:.1f} {y0 + bend:.1f} {x1:.1f} {y1 - bend:.1f} {x1:.1f} {y1:.1f}" '
        f'class="{kind}"/>'
    )


def _box(x: float, y: float, place: dict[str, Any]) -> str:
    role = place["role"] if place["role"] in ("input", "output", "added", "read") else "base"
    return (
        rect(x, y, _WIDE, _TALL, f"box {role}", f"{place['op']} {place['name']}", 'rx="6"')
        + text(x + _WIDE / 2, y + 14, shortened(place["op"], 15), "op", "middle")
        + text(x + _WIDE / 2, y + 28, shortened(place["name"], 21), "node", "middle")
    )
