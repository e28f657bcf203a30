"""How are numbers drawn? Each function returns one SVG, coloured by the classes of the page's style.

Numbers reach the SVG through a number format only, and names through `safe`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from onnxtweak.report.markup import safe, shortened

Points = Sequence[tuple[float, float]]

_WIDTH, _HEIGHT = 360, 250
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 12, 10, 40


@dataclass(frozen=True)
class Curve:
    """Some points of a chart. kind : a class of the page's style. joined : whether a line connects them.

    Points that are not joined are large, if they have a name.
    """

    name: str
    points: Points
    kind: str
    joined: bool = True


def svg(width: float, height: float, body: str, said: str, *, least: float = 0) -> str:
    """The frame of every picture; `said` is for screen readers. least : smallest width in pixels."""
    style = f"max-width:{width * 1.35:.0f}px" + (f";min-width:{least:.0f}px" if least else "")
    return (
        f'<svg viewBox="0 0 {width:.0f} {height:.0f}" role="img" aria-label="{safe(said)}" style="{style}">'
        f"{body}</svg>"
    )


def text(x: float, y: float, said: object, kind: str = "", anchor: str = "start") -> str:
    """A line of text."""
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{kind}" text-anchor="{anchor}">{safe(said)}</text>'


def rect(x: float, y: float, width: float, height: float, kind: str, said: str = "", more: str = "") -> str:
    """A rectangle; `said` is its tooltip."""
    size = f'x="{x:.1f}" y="{y:.1f}" width="{max(width, 0):.1f}" height="{max(height, 0):.1f}"'
    return f'<rect {size} class="{kind}" {more}>{f"<title>{safe(said)}</title>" if said else ""}</rect>'


def ticks(low: float, high: float, wanted: int = 5) -> list[float]:
    """Round numbers within [low, high]."""
    span = high - low
    if not (span > 0 and math.isfinite(span)):
        return [low]
    raw = span / wanted
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [k * step for k in range(first, math.floor(high / step + 1e-9) + 1)]


def xy(lines: Sequence[Curve], across: str, upward: str, said: str) -> str:
    """Lines over two axes. across, upward : names of the axes."""
    xs = [x for line in lines for x, _ in line.points]
    ys = [y for line in lines for _, y in line.points]
    if not xs:
        return ""
    (x0, x1), (y0, y1) = _room(xs), _room(ys)

    def at(x: float, y: float) -> tuple[float, float]:
        return (
            _LEFT + (x - x0) / (x1 - x0) * (_WIDTH - _LEFT - _RIGHT),
            _HEIGHT - _BOTTOM - (y - y0) / (y1 - y0) * (_HEIGHT - _TOP - _BOTTOM),
        )

    body = _axes(at, (x0, x1), (y0, y1), across, upward)
    for line in lines:
        placed = [at(x, y) for x, y in line.points]
        if line.joined:
            path = " ".join(f"{x:.1f},{y:.1f}" for x, y in placed)
            body += f'<polyline points="{path}" class="line {line.kind}"/>'
        for (x, y), (a, b) in zip(placed, line.points, strict=True):
            size = 2.6 if line.joined or not line.name else 5.5
            body += (
                f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{size}" class="dot {line.kind}">'
                f"<title>{safe(f'{line.name}: ' if line.name else '')}{a:.4g}, {b:.4g}</title></circle>"
            )
    return svg(_WIDTH, _HEIGHT, body, said) + _legend(lines)


def _room(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    pad = (high - low) * 0.06 or max(abs(high) * 0.05, 0.5)
    return low - pad, high + pad


def _axes(
    at: Callable[[float, float], tuple[float, float]],
    xs: tuple[float, float],
    ys: tuple[float, float],
    across: str,
    upward: str,
) -> str:
    body = ""
    for x in ticks(*xs):
        px, _ = at(x, ys[0])
        body += f'<path d="M{px:.1f} {_TOP}V{_HEIGHT - _BOTTOM}" class="grid"/>'
        body += text(px, _HEIGHT - _BOTTOM + 14, f"{x:.4g}", "tick", "middle")
    for y in ticks(*ys):
        _, py = at(xs[0], y)
        body += f'<path d="M{_LEFT} {py:.1f}H{_WIDTH - _RIGHT}" class="grid"/>'
        body += text(_LEFT - 5, py + 3.5, f"{y:.4g}", "tick", "end")
    body += text((_LEFT + _WIDTH - _RIGHT) / 2, _HEIGHT - 6, across, "axis", "middle")
    middle = (_TOP + _HEIGHT - _BOTTOM) / 2
    return body + (
        f'<g transform="translate(11 {middle:.0f}) rotate(-90)">{text(0, 0, upward, "axis", "middle")}</g>'
    )


def _legend(lines: Sequence[Curve]) -> str:
    keys = "".join(f'<li><i class="{line.kind}"></i>{safe(line.name)}</li>' for line in lines if line.name)
    return f'<ul class="legend">{keys}</ul>' if keys else ""


def heat(
    rows: Sequence[str],
    columns: Sequence[str],
    values: Sequence[Sequence[float | None]],
    said: str,
    *,
    written: str = "{:.1f}",
    chosen: tuple[int, int] | None = None,
    across: str = "",
    upward: str = "",
    worse_off_diagonal: bool = False,
) -> str:
    """A grid of coloured cells: above 0 in the colour of gains, below in that of losses, 0 and None blank.

    worse_off_diagonal : off the diagonal the colours are swapped.
    """
    if not rows or not columns:
        return ""
    margin = min(96, 12 + 6.2 * max(len(shortened(name, 13)) for name in rows)) + (14 if upward else 0)
    side = max(13.0, min(40.0, (_WIDTH + 60 - margin) / len(columns)))
    tall = min(side, 26.0)
    slanted = max(map(len, columns)) > 4
    foot = (56 if slanted else 18) + (16 if across else 0)
    most = max((abs(v) for row in values for v in row if v is not None), default=0) or 1.0
    body = ""
    for r, row in enumerate(values):
        y = 4 + r * tall
        body += text(margin - 5, y + tall / 2 + 3.5, shortened(rows[r], 13), "tick", "end")
        for c, value in enumerate(row):
            x = margin + c * side
            shown = "-" if value is None else written.format(value)
            amount = value or 0.0
            better = (amount > 0) != (worse_off_diagonal and r != c)
            kind = "blank" if not amount else "gain" if better else "loss"
            share = abs(amount) / most
            body += rect(
                x + 0.5,
                y + 0.5,
                side - 1,
                tall - 1,
                f"cell {kind}",
                f"{rows[r]}, {columns[c]}: {shown}",
                f'style="fill-opacity:{0.12 + 0.88 * share:.2f}"' if value else "",
            )
            if side >= 26 and value:
                body += text(
                    x + side / 2,
                    y + tall / 2 + 3.5,
                    shown,
                    f"cellsaid {'strong' if share > 0.5 else ''}",
                    "middle",
                )
    if chosen is not None:
        x, y = margin + chosen[1] * side, 4 + chosen[0] * tall
        body += rect(x + 1, y + 1, side - 2, tall - 2, "chosen", "chosen")
    bottom = 4 + len(rows) * tall
    for c, name in enumerate(columns):
        x = margin + (c + 0.5) * side
        if slanted:
            label = text(0, 0, shortened(name, 11), "tick", "end")
            body += f'<g transform="translate({x + 3:.1f} {bottom + 10:.1f}) rotate(-45)">{label}</g>'
        else:
            body += text(x, bottom + 13, name, "tick", "middle")
    width, height = margin + len(columns) * side + 6, bottom + foot
    if across:
        body += text((margin + width) / 2, height - 3, across, "axis", "middle")
    if upward:
        label = text(0, 0, upward, "axis", "middle")
        body += f'<g transform="translate(10 {4 + len(rows) * tall / 2:.0f}) rotate(-90)">{label}</g>'
    return svg(width, height, body, said)


def bars(names: Sequence[str], values: Sequence[float], notes: Sequence[str], said: str) -> str:
    """Horizontal bars from 0, a name above each."""
    most = max(values, default=0) or 1
    body = ""
    for k, (name, value) in enumerate(zip(names, values, strict=True)):
        y = k * 34
        body += text(0, y + 11, shortened(name, 46), "name")
        body += rect(0, y + 15, (_WIDTH - 60) * value / most, 12, "after", f"{name}: {notes[k]}")
        body += text((_WIDTH - 60) * value / most + 5, y + 25, f"{value:,.0f}", "tick")
    return svg(_WIDTH, len(names) * 34 + 4, body, said) if names else ""


def histogram(
    edges: Sequence[float], counts: Sequence[int], cut: float | None, across: str, said: str
) -> str:
    """Counts over logarithmic edges, and logarithmic heights; `cut` is a line, what exceeds it is blue."""
    if not counts or not sum(counts):
        return ""
    x0, x1 = math.log10(edges[0]), math.log10(edges[-1])
    top = math.log10(max(counts) + 1) * 1.1  # room for the word above the cut
    wide, tall = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM

    def across_at(value: float) -> float:
        return _LEFT + (math.log10(value) - x0) / (x1 - x0) * wide

    body = ""
    for power in range(math.floor(top / 1.1) + 1):
        y = _HEIGHT - _BOTTOM - math.log10(10**power + 1) / top * tall
        body += f'<path d="M{_LEFT} {y:.1f}H{_WIDTH - _RIGHT}" class="grid"/>'
        body += text(_LEFT - 5, y + 3.5, f"{10**power:,}", "tick", "end")
    for k, count in enumerate(counts):
        height = math.log10(count + 1) / top * tall
        x = across_at(edges[k])
        taken = cut is not None and edges[k + 1] > cut
        body += rect(
            x + 0.4,
            _HEIGHT - _BOTTOM - height,
            across_at(edges[k + 1]) - x - 0.8,
            height,
            "after" if taken else "before",
            f"{edges[k]:.3g} to {edges[k + 1]:.3g}: {count:,}",
        )
    step = max(1, round((x1 - x0) / 5))
    for power in range(math.ceil(x0), math.floor(x1) + 1, step):
        x = _LEFT + (power - x0) / (x1 - x0) * wide
        body += text(x, _HEIGHT - _BOTTOM + 14, f"{10.0**power:g}", "tick", "middle")
    if cut is not None and cut > 0:
        x = min(max(across_at(cut), _LEFT), _WIDTH - _RIGHT)
        body += f'<path d="M{x:.1f} {_TOP}V{_HEIGHT - _BOTTOM}" class="cut"/>'
        near_end = x > _WIDTH - 80
        body += text(x - 4 if near_end else x + 4, _TOP + 9, "cut", "axis", "end" if near_end else "start")
    body += text(_LEFT + wide / 2, _HEIGHT - 6, across, "axis", "middle")
    middle = _TOP + tall / 2
    body += (
        f'<g transform="translate(11 {middle:.0f}) rotate(-90)">{text(0, 0, "neurons", "axis", "middle")}</g>'
    )
    return svg(_WIDTH, _HEIGHT, body, said)


def dumbbell(before: float, after: float, interval: tuple[float, float], least: float) -> str:
    """Before and after on a line from `least` to 1, and the interval of the latter, for a table cell."""
    kind = "gain" if after > before else "loss" if after < before else "same"
    b, a, low, high = (
        4 + max(0.0, (share - least) / (1 - least)) * 192 for share in (before, after, *interval)
    )
    body = (
        '<path d="M4 8H196" class="grid"/>'
        f'<path d="M{low:.1f} 8H{high:.1f}" class="whisker"/>'
        f'<path d="M{b:.1f} 8H{a:.1f}" class="change {kind}"/>'
        f'<circle cx="{b:.1f}" cy="8" r="3.4" class="dot before"/>'
        f'<circle cx="{a:.1f}" cy="8" r="4.4" class="dot {kind}"/>'
    )
    return f'<svg viewBox="0 0 200 16" class="dumbbell" aria-hidden="true">{body}</svg>'
