"""How do headings, facts, tables and notes look on a terminal, and in Markdown?

A report is a tuple of blocks: the other modules of this folder write it, this one lays it out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from onnxtweak.printable import visible

BOLD, PLAIN = "\x1b[1m", "\x1b[0m"

_GAP = "  "

# Of tables that have a column E.
HARM = "E: points that the classes lost, root mean square over all of them"


@dataclass(frozen=True)
class Heading:
    """A line above what belongs together."""

    text: str


@dataclass(frozen=True)
class Facts:
    """Names and their values."""

    pairs: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class TextTable:
    """Columns of text. The first `left` columns are left-aligned; rows numbered in `marked` stand out."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    left: int = 1
    marked: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Note:
    """A sentence the reader should not miss."""

    text: str


Block = Heading | Facts | TextTable | Note


def terminal(blocks: Sequence[Block], *, width: int = 80, bold: bool = False) -> str:
    """Blocks as text of at most `width` columns where the content allows; `bold` uses ANSI codes."""
    parts = []
    for block in map(_shown, blocks):
        match block:
            case Heading(text):
                parts.append(f"{BOLD}{text}{PLAIN}" if bold else text)
            case Facts(pairs):
                parts.append("\n".join(_fact_lines(pairs, width)))
            case TextTable():
                parts.append("\n".join(_table_lines(block, width, bold)))
            case Note(text):
                parts.append("\n".join(_wrapped("note: ", text, width)))
    # Notes stand together, everything else apart.
    gaps = [
        "\n" if isinstance(one, Note) and isinstance(other, Note) else "\n\n"
        for one, other in pairwise(blocks)
    ]
    return "".join(part + gap for part, gap in zip(parts, [*gaps, "\n"], strict=True))


def markdown(blocks: Sequence[Block]) -> str:
    """Blocks as GitHub-flavoured Markdown."""
    parts = []
    for block in map(_shown, blocks):
        match block:
            case Heading(text):
                parts.append(f"### {_escaped(text)}")
            case Facts(pairs):
                parts.append("\n".join(f"- **{name}**: {_escaped(said)}" for name, said in pairs))
            case TextTable(columns, rows, left, marked):
                lines = [columns, tuple("---" if n < left else "---:" for n in range(len(columns)))]
                for number, row in enumerate(rows):
                    cells = tuple(map(_escaped, row))
                    lines.append(
                        tuple(f"**{cell}**" if cell else "" for cell in cells) if number in marked else cells
                    )
                parts.append("\n".join(f"| {' | '.join(line)} |" for line in lines))
            case Note(text):
                parts.append(f"> {_escaped(text)}")
    return "\n\n".join(parts) + "\n"


def _shown(block: Block) -> Block:
    """The block with nothing in its text that a terminal would obey, or that begins a line of its own."""
    match block:
        case Heading(text):
            return Heading(visible(text))
        case Facts(pairs):
            return Facts(tuple((visible(name), visible(said)) for name, said in pairs))
        case TextTable(columns, rows):
            cells = tuple(tuple(map(visible, row)) for row in rows)
            return replace(block, columns=tuple(map(visible, columns)), rows=cells)
        case Note(text):
            return Note(visible(text))


def _fact_lines(pairs: Sequence[tuple[str, str]], width: int) -> Iterator[str]:
    margin = max((len(name) for name, _ in pairs), default=0) + len(_GAP)
    for name, said in pairs:
        yield from _wrapped(name.ljust(margin), said, width)


def _wrapped(first: str, text: str, width: int) -> Iterator[str]:
    # textwrap would break paths and tensor names at their hyphens and slashes; words stay whole here.
    line, margin = first, len(first)
    for word in text.split():
        if len(line) > margin and len(line) + len(word) > width:
            yield line.rstrip()
            line = " " * margin
        line += word + " "
    yield line.rstrip()


def _table_lines(table: TextTable, width: int, bold: bool) -> Iterator[str]:
    # With ANSI bold a marked row needs no other sign; without it a ">" stands in the margin.
    margin = 0 if bold or not table.marked else 2
    sizes = [max(map(len, column)) for column in zip(table.columns, *table.rows, strict=True)]
    too_wide = margin + sum(sizes) + len(_GAP) * (len(sizes) - 1) - width
    if too_wide > 0 and table.left:
        widest = max(range(table.left), key=sizes.__getitem__)
        sizes[widest] = max(sizes[widest] - too_wide, min(sizes[widest], 12))
    for number, row in enumerate((table.columns, *table.rows)):
        cells = [
            _shortened(cell, size).ljust(size) if n < table.left else cell.rjust(size)
            for n, (cell, size) in enumerate(zip(row, sizes, strict=True))
        ]
        line = _GAP.join(cells).rstrip()
        marked = number - 1 in table.marked
        if margin:
            line = ("> " if marked else "  ") + line
        yield f"{BOLD}{line}{PLAIN}" if bold and (marked or number == 0) else line


def _shortened(text: str, size: int) -> str:
    if len(text) <= size:
        return text
    tail = (size - 1) // 2
    return text[: size - 1 - tail] + "…" + text[len(text) - tail :]


def _escaped(text: str) -> str:
    """A name may hold anything, and must not end a cell, break a line or begin HTML."""
    return " ".join(text.replace("|", "\\|").replace("<", "&lt;").split())
