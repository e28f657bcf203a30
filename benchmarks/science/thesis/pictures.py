"""How are curves drawn? One SVG that stands by itself, light or dark."""

from __future__ import annotations

from collections.abc import Sequence

from onnxtweak.report.markup import safe
from onnxtweak.report.page.charts import ticks

_WIDTH, _HEIGHT, _KEYS = 480, 300, 215
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 10, 12, 44
_COLOURS = (
    "#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee",
    "#aa3377", "#999999", "#e07b39", "#555599", "#117755",
)  # fmt: skip
_STYLE = (
    "text{font:11px system-ui,sans-serif;fill:#333}.grid{stroke:#8884;stroke-width:1}"
    "polyline{fill:none;stroke-width:1.6}"
    "@media(prefers-color-scheme:dark){text{fill:#ccc}}"
)

Curve = tuple[str, Sequence[tuple[float, float]]]


def curves(
    lines: Sequence[Curve],
    across: str,
    upward: str,
    said: str,
    *,
    joined: bool = True,
    marks: Sequence[float] = (),
) -> str:
    """lines : name and points (x, y) of each. joined : connect them. marks : x of vertical lines."""
    xs = [x for _, points in lines for x, _ in points]
    ys = [y for _, points in lines for _, y in points]
    (x0, x1), (y0, y1) = _room(xs), _room(ys)

    def at(x: float, y: float) -> tuple[float, float]:
        right, low = _WIDTH - _RIGHT, _HEIGHT - _BOTTOM
        return _LEFT + (x - x0) / (x1 - x0) * (right - _LEFT), low - (y - y0) / (y1 - y0) * (low - _TOP)

    body = ""
    for x in ticks(x0, x1):
        px, _ = at(x, y0)
        body += f'<path d="M{px:.1f} {_TOP}V{_HEIGHT - _BOTTOM}" class="grid"/>'
        body += _text(px, _HEIGHT - _BOTTOM + 15, f"{x:.4g}", "middle")
    for y in ticks(y0, y1):
        _, py = at(x0, y)
        body += f'<path d="M{_LEFT} {py:.1f}H{_WIDTH - _RIGHT}" class="grid"/>'
        body += _text(_LEFT - 5, py + 4, f"{y:.4g}", "end")
    for x in marks:
        px, _ = at(x, y0)
        body += f'<path d="M{px:.1f} {_TOP}V{_HEIGHT - _BOTTOM}" stroke="#888" stroke-dasharray="4 3"/>'
    body += _text((_LEFT + _WIDTH) / 2, _HEIGHT - 8, across, "middle")
    turned = f"translate(13 {_HEIGHT / 2 - 14:.0f}) rotate(-90)"
    body += f'<g transform="{turned}">{_text(0, 0, upward, "middle")}</g>'
    for number, (name, points) in enumerate(lines):
        colour = _COLOURS[number % len(_COLOURS)]
        placed = [at(x, y) for x, y in points]
        if joined:
            path = " ".join(f"{x:.1f},{y:.1f}" for x, y in placed)
            body += f'<polyline points="{path}" stroke="{colour}"/>'
        key = 20 + number * 17
        square = number >= len(_COLOURS)  # the colours are used twice
        body += "".join(_dot(x, y, 2.4 if joined else 5, colour, square) for x, y in placed)
        body += _dot(_WIDTH + 9, key - 4, 5, colour, square) + _text(_WIDTH + 19, key, name, "start")
    height = max(_HEIGHT, 30 + 17 * len(lines))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH + _KEYS} {height}" role="img"'
        f' aria-label="{safe(said)}" width="{_WIDTH + _KEYS}"><style>{_STYLE}</style>{body}</svg>\n'
    )


def _dot(x: float, y: float, radius: float, colour: str, square: bool) -> str:
    if square:
        side = radius * 1.8
        where = f'x="{x - side / 2:.1f}" y="{y - side / 2:.1f}" width="{side:.1f}" height="{side:.1f}"'
        return f'<rect {where} fill="{colour}"/>'
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius}" fill="{colour}"/>'


def _text(x: float, y: float, said: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{safe(said)}</text>'


def _room(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    pad = (high - low) * 0.06 or max(abs(high) * 0.05, 0.5)
    return low - pad, high + pad
