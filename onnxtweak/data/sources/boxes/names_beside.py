"""Which class names stand in a `data.yaml` beside YOLO's labels? Its `names`, a list or by number."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from onnxtweak.errors import DataError
from onnxtweak.input_files import MOST_TEXT, require_regular

_SCALAR = r"""'(?:[^']|'')*'|"(?:[^"\\]|\\.)*"|[^,\[\]{}#]+"""
_ITEM = re.compile(rf"\s*(?:(?P<number>\d+)\s*:\s+)?(?P<name>{_SCALAR})\s*(?:,|$)")


def names_beside(folders: Sequence[Path]) -> tuple[str, tuple[str, ...]] | None:
    """The name of the first file with class names in it, and these, class 0 first; None for none."""
    for folder in folders:
        for path in sorted(folder.glob("*.yaml"), key=lambda one: (one.name != "data.yaml", one.name)):
            require_regular(path, DataError, MOST_TEXT)
            if names := _names(path.read_text(encoding="utf-8-sig", errors="replace").splitlines()):
                return path.name, names
    return None


def _names(lines: Sequence[str]) -> tuple[str, ...] | None:
    place = next((row for row, line in enumerate(lines) if re.match(r"names\s*:", line)), None)
    if place is None:
        return None
    first = re.sub(r"\s+#.*", "", lines[place].partition(":")[2]).strip()
    below = lines[place + 1 :]
    items = list(_in_brackets(first, below) if first else _in_lines(below))
    numbers = [number for number, _ in items]
    if not items or (any(numbers) and sorted(map(int, filter(None, numbers))) != [*range(len(items))]):
        return None
    ordered = sorted(items, key=lambda item: int(item[0] or 0)) if any(numbers) else items
    names = tuple(_plain(name) for _, name in ordered)
    return names if all(names) and len({*names}) == len(names) else None


def _in_brackets(first: str, below: Sequence[str]) -> Iterator[tuple[str | None, str]]:
    """Number, where it has one, and text of each name in brackets, which may end some lines below."""
    text = first
    for line in below:
        if text.endswith(("]", "}")):
            break
        text += " " + line.strip()
    if text[0] in "[{" and text[-1] in "]}":
        for match in _ITEM.finditer(text[1:-1].strip()):
            yield match["number"], match["name"]


def _in_lines(below: Sequence[str]) -> Iterator[tuple[str | None, str]]:
    """The same of lines `- name` or `number: name`."""
    for line in below:
        bare = re.sub(r"\s+#.*", "", line).strip()
        if not bare or bare.startswith("#"):
            continue
        match = re.fullmatch(r"(?:-|(?P<number>\d+)\s*:)\s+(?P<name>.+)", bare)
        if match is None:
            return
        yield match["number"], match["name"]


def _plain(text: str) -> str:
    """A name without its quotes."""
    text = text.strip()
    quoted = len(text) > 1 and text[0] == text[-1] and text[0] in "'\""
    return text[1:-1].replace("''", "'").replace('\\"', '"') if quoted else text
