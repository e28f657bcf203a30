"""How is a data source written? `PATH`, `PATH#KEY`, `PATH#KEY[start:stop]`, `PATH#[start:stop]`.

Or `FILE.py:NAME`, a function that yields samples, and `FILE.py:NAME#[start:stop]`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from onnxtweak.data.samples import Part
from onnxtweak.errors import DataError

_SELECTION = re.compile(r"(?P<key>[^\[\]]*)(?:\[(?P<start>-?\d*):(?P<stop>-?\d*)\])?")
_FUNCTION = re.compile(r"(?P<path>.+\.py):(?P<name>[^\W\d]\w*)(?:#\[(?P<start>-?\d*):(?P<stop>-?\d*)\])?")


@dataclass(frozen=True)
class Source:
    """A parsed source. text : as written. start, stop : None where left open; negative from the end."""

    text: str
    path: Path
    key: str | None = None
    start: int | None = None
    stop: int | None = None


def parse_source(text: str) -> Source:
    """Parse a source. An existing path that contains `#` wins over a key.

    Raises DataError where the path does not exist, or the selection cannot be parsed.
    """
    if Path(text).exists():
        return Source(text, Path(text))
    if match := _FUNCTION.fullmatch(text):
        start, stop = _number(match["start"]), _number(match["stop"])
        if not Path(match["path"]).is_file():
            raise DataError("no such file", where=match["path"], hint="check the path")
        return Source(text, Path(match["path"]), match["name"], start, stop)
    path, mark, selection = text.rpartition("#")
    if not mark:
        hint = "write rows as PATH#[start:stop]" if text.endswith("]") else "check the path"
        raise DataError("no such file or folder", where=text, hint=hint)
    if not path or not Path(path).exists():
        raise DataError("no such file or folder", where=path or text, hint="check the path")
    match = _SELECTION.fullmatch(selection)
    if match is None:
        raise DataError(
            f"cannot parse the selection `{selection}`",
            where=text,
            hint="write PATH#KEY, PATH#KEY[start:stop] or PATH#[start:stop]",
        )
    return Source(text, Path(path), match["key"] or None, _number(match["start"]), _number(match["stop"]))


def select_rows(parts: Sequence[Part], source: Source) -> list[Part]:
    """The rows `[start:stop)` that `source` selects, counted over all its parts.

    Raises DataError for rows that do not exist: clipping silently would hide a wrong split.
    """
    if source.start is None and source.stop is None:
        return list(parts)
    total = sum(map(len, parts))
    start, stop = source.start or 0, total if source.stop is None else source.stop
    start, stop = start + total * (start < 0), stop + total * (stop < 0)
    if not 0 <= start < stop <= total:
        raise DataError(
            f"rows {start} to {stop} were requested, but there are {total}",
            where=source.text,
            hint=f"choose 0 <= start < stop <= {total}",
        )
    kept, first = [], 0
    for part in parts:
        low, high = max(start - first, 0), min(stop - first, len(part))
        if low < high:
            key = "" if "#" in part.where else "#"
            kept.append(replace(part.rows(low, high), where=f"{part.where}{key}[{low}:{high}]"))
        first += len(part)
    return kept


def listed_name(folder: Path, name: str) -> str:
    """The path of a file that a list in a folder names; backslashes, as Windows writes them, are slashes.

    A file of exactly that name wins.
    """
    name = name.strip()
    return name.replace("\\", "/") if "\\" in name and not (folder / name).exists() else name


def natural_key(text: str) -> list[tuple[int, int, str]]:
    """Sort key that puts "shard2" before "shard10"."""
    runs = re.split(r"(\d+)", text)
    return [(0, int(run), "") if run.isdecimal() else (1, 0, run) for run in runs if run]


def _number(digits: str | None) -> int | None:
    return int(digits) if digits and digits != "-" else None
