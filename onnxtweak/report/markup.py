"""How does text become safe HTML? Names come from models and data: anything may be in them."""

from __future__ import annotations

import html
import math
import re
from collections.abc import Iterable, Mapping, Sequence

from onnxtweak.intervals import Interval

# Control characters, and those that change the direction of the text after them.
STRANGE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]"
)
_PICTURE = re.compile(r"data:image/png;base64,[A-Za-z0-9+/]+={0,2}")


def safe(text: object) -> str:
    """Text for an element or a quoted attribute."""
    return html.escape(STRANGE.sub("\ufffd", str(text)), quote=True)


def shortened(text: object, size: int) -> str:
    """At most `size` characters, the middle left out; not yet escaped."""
    text = str(text)
    if len(text) <= size:
        return text
    tail = (size - 1) // 2
    return f"{text[: size - 1 - tail]}…{text[len(text) - tail :]}"


def in_words(value: object) -> str:
    """A value of a result as words, not yet escaped: nothing for None, and parts separated by commas."""
    match value:
        case None:
            return ""
        case bool():
            return "yes" if value else "no"
        case float():
            return f"{value:g}" if math.isfinite(value) else ""
        case Mapping():
            return ", ".join(f"{key} {words}" for key, item in value.items() if (words := in_words(item)))
        case list() | tuple():
            return ", ".join(words for item in value if (words := in_words(item)))
    return str(value)


def is_picture(value: object) -> bool:
    """Whether a value is a PNG as a data URI, and nothing else."""
    return isinstance(value, str) and _PICTURE.fullmatch(value) is not None


def table(
    head: list[str], rows: list[list[str]], numbers: int = 0, kind: str = "", marks: Sequence[str] = ()
) -> str:
    """A table that scrolls sideways on its own; cells are HTML. The last `numbers` columns are numbers.

    marks : attributes of the rows, as HTML.
    """
    left = len(head) - numbers

    def cells(tag: str, row: list[str]) -> str:
        return "".join(
            f"<{tag}{' class=number' if k >= left else ''}>{cell}</{tag}>" for k, cell in enumerate(row)
        )

    marks = marks or [""] * len(rows)
    body = "".join(f"<tr{mark}>{cells('td', row)}</tr>" for row, mark in zip(rows, marks, strict=True))
    return (
        f'<div class="wide"><table class="{safe(kind)}"><thead><tr>{cells("th", head)}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def facts(pairs: list[tuple[str, str]]) -> str:
    """Names and their values; both are HTML."""
    return "<dl>" + "".join(f"<dt>{name}</dt><dd>{said}</dd>" for name, said in pairs) + "</dl>"


def section(title: str, *parts: str, said: str = "") -> str:
    """A heading and its parts; nothing where all parts are empty."""
    body = "".join(parts)
    if not body:
        return ""
    return f"<section><h2>{safe(title)}</h2>{f'<p>{safe(said)}</p>' if said else ''}{body}</section>"


def card(title: str, body: str, said: str = "") -> str:
    """A picture with its caption."""
    if not body:
        return ""
    more = f"<p>{safe(said)}</p>" if said else ""
    return f"<figure><figcaption>{safe(title)}</figcaption>{body}{more}</figure>"


def cards(*found: str) -> str:
    """Pictures side by side where there is room."""
    body = "".join(found)
    return f'<div class="cards">{body}</div>' if body else ""


def percent(share: float | None) -> str:
    """A fraction in percent."""
    return "-" if share is None else f"{share * 100:.1f}"


def between(interval: Interval | None, sign: bool = False) -> str:
    """An interval of fractions in percent, or of changes in points."""
    if interval is None:
        return ""
    low, high = interval[0] * 100, interval[1] * 100
    return f"{low:+.1f} to {high:+.1f}" if sign else f"{low:.1f} to {high:.1f}"


def change(before: float | None, after: float | None) -> str:
    """A change in points, coloured."""
    if before is None or after is None:
        return "-"
    points = (after - before) * 100
    kind = "gain" if points > 0.05 else "loss" if points < -0.05 else "same"
    return f'<span class="{kind}-said">{points:+.1f}</span>'


def counted_in(names: Iterable[str]) -> str:
    """What metrics of these names are shares of, in words: samples, but for lines of text."""
    units = dict.fromkeys(_UNITS.get(name, "samples") for name in names)
    return ", ".join(units)


_UNITS = {"cer": "characters", "wer": "words", "lines": "lines"}
