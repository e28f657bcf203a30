"""Which samples belong together? Groups: a column of the data, one value per sample, as numbers and names.

A group is a patient, a track, a site, a sub-class: whole numbers, text, or true and false. Values are told
apart by how they read, so that the 3 of one source and the "3" of another are one group.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

import numpy as np

from onnxtweak.data.samples import GroupColumn, Part
from onnxtweak.data.source_spec import natural_key
from onnxtweak.errors import DataError
from onnxtweak.quantities import number_of

FOLDER = "folder"  # the column that every picture in a folder has: the folder's name
_LISTED = 12


@dataclass(frozen=True, eq=False)
class Groups:
    """The group of each sample. names : in natural order. codes (N,) int64 : positions in `names`; -1 for no
    group, which only listed samples may have.
    """

    codes: np.ndarray
    names: tuple[str, ...]

    def of(self, rows: np.ndarray) -> np.ndarray:
        """Codes of some samples, (n,) int64."""
        codes: np.ndarray = self.codes[rows]
        return codes


def read_groups(parts: Sequence[Part], column: str) -> Groups:
    """The groups of all parts by one of their columns. Raises DataError for what is not a group."""
    found = [
        _names_and_codes(part.groups[column], column, part.start)
        if column in part.groups
        else ((), np.full(len(part), -1))
        for part in parts
    ]
    return in_common([Groups(codes, names) for names, codes in found], join=True)[0]


def in_common(groups: Sequence[Groups], *, join: bool = False) -> list[Groups]:
    """The same groups, numbered alike in all. join : end to end, as one."""
    # Of names that differ in zeros alone, 007 and 7, the order is their own: sets have another in every run.
    found = {name for each in groups for name in each.names}
    names = tuple(sorted(sorted(found), key=natural_key))
    place = {name: number for number, name in enumerate(names)}
    # The last place is that of -1.
    codes = [np.array([*(place[name] for name in each.names), -1], np.int64)[each.codes] for each in groups]
    return [Groups(each, names) for each in ([np.concatenate(codes)] if join else codes)]


def require_shared(groups: Groups, column: str, least: float, where: str) -> None:
    """Raise DataError where a group has fewer than `least` samples on average.

    where : the option.
    """
    count, samples = len(np.unique(groups.codes)), len(groups.codes)
    if count * least <= samples and count < max(samples, 2):
        return
    what = f"`{column}` has {number_of(count, 'group')} for {number_of(samples, 'sample')}"
    if count == samples:
        what = f"`{column}` has another value for each of the {number_of(samples, 'sample')}"
    raise DataError(what, where=where, hint="name a column whose values several samples share")


def values_of_text(cells: np.ndarray) -> np.ndarray:
    """A column of groups that stands somewhere as text, (N,): its values as they would be stored in an array.

    Numbers with a decimal point or exponent become float64; anything else, such as 007, stays text.
    """
    try:
        numbers = cells.astype(np.float64)
    except ValueError:
        return cells
    return cells if np.char.isdecimal(np.char.lstrip(cells, "+-")).all() else numbers


class NoColumn(DataError):
    """A source has no column of groups. column : its name."""

    column = ""

    @classmethod
    def of(cls, column: str, what: str, where: object, hint: str) -> NoColumn:
        """The error for a column."""
        found = cls(what, where=where, hint=hint)
        found.column = column
        return found


def no_column(column: str, known: Collection[str], where: object, what: str = "") -> NoColumn:
    """There is no such column: the error, naming those that are spelt alike, or else all."""
    near = get_close_matches(column.lower(), {name.lower(): name for name in known}, n=3, cutoff=0.6)
    alike = [name for name in known if name.lower() in near]
    listed = [*alike] or sorted(known, key=natural_key)
    shown = ", ".join(f"`{name}`" for name in listed[:_LISTED])
    shown += f" and {len(listed) - _LISTED} more" if len(listed) > _LISTED else ""
    hint = f"did you mean {shown.replace(', ', ' or ')}?" if alike else f"there are: {shown or 'none'}"
    return NoColumn.of(column, what or f"no column `{column}`", where, hint)


def _names_and_codes(column: GroupColumn, name: str, start: int) -> tuple[tuple[str, ...], np.ndarray]:
    """The names that occur, and which of them each sample has, (N,) int64. start : row of the first value."""
    values = column.values
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.ndim != 1:
        raise DataError(
            f"`{name}` has the shape {values.shape}: no one value per sample",
            where=column.where,
            hint="store one number or text per sample, shape (N,)",
        )
    if values.dtype.kind not in "biufUS":
        raise DataError(
            f"`{name}` is {values.dtype}, neither text nor whole numbers",
            where=column.where,
            hint="store it as text",
        )
    unique, codes = np.unique(values, return_inverse=True)
    bad = _unusable(unique)
    if bad is not None:
        row = start + int((codes == bad).argmax())
        raise _not_a_group(unique[bad], name, f"row {row} of {column.where}")
    if values.dtype.kind == "S":
        unique = _decoded(unique, name, column.where)
    names = [str(int(value)) if values.dtype.kind == "f" else str(value) for value in unique.tolist()]
    return tuple(names), codes.reshape(-1).astype(np.int64)


def _unusable(unique: np.ndarray) -> int | None:
    """Position of the first value that names no group: one that is missing, or a quantity."""
    if unique.dtype.kind == "f":
        bad = ~np.isfinite(unique) | (unique != np.round(unique))
    elif unique.dtype.kind in "US":
        bad = unique == unique.dtype.type()
    else:
        return None
    return int(bad.argmax()) if bad.any() else None


def _not_a_group(value: np.generic, name: str, where: str) -> DataError:
    if value.dtype.kind in "US" or np.isnan(value):
        hint = "fill it in, or leave out the sample"
        return DataError(f"the value of `{name}` is missing", where=where, hint=hint)
    hint = "divide it into ranges, and store these as text or whole numbers"
    return DataError(f"`{name}` is {value:g}, a quantity and not a group", where=where, hint=hint)


def _decoded(unique: np.ndarray, name: str, where: str) -> np.ndarray:
    try:
        return np.char.decode(unique, "utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"`{name}` is not UTF-8 text", where=where, hint="write it in UTF-8") from error
