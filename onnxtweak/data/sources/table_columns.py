"""Which columns of a table feed which input, and which holds the labels? By name; of files and in memory.

A column belongs to the input of its name. One input of many features takes the columns that the model names
as its features; where it names none, all columns but the labels, in their order, and a note says so.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from math import prod

from onnxtweak.data.samples import InputSpec, Reading, by_option, with_rows
from onnxtweak.data.source_spec import Source
from onnxtweak.errors import DataError

LABELS = ("y", "label", "labels", "target", "class")
# What pandas calls the row numbers that it writes beside the data.
_ROW_NUMBERS = re.compile(r"|Unnamed: \d+|__index_level_\d+__")


@dataclass(frozen=True)
class Bound:
    """columns : of the table, by model input, in the order that feeds it. notes : what was decided."""

    columns: dict[str, tuple[str, ...]]
    notes: tuple[str, ...]


def label_columns(names: Sequence[str], source: Source, reading: Reading) -> tuple[str, ...]:
    """`named_labels` of a file: #KEY names the columns."""
    where = source.text if source.key else source.path
    return named_labels(names, source.key, where, f"{source.path}#COLUMN", reading)


def named_labels(
    names: Sequence[str], key: str | None, where: object, naming: str, reading: Reading
) -> tuple[str, ...]:
    """The columns of labels: one, as of `named_label`, or where a key names several, all of them.

    key : may be names with commas between them, with * and ?; the columns are marks of several labels then.
    """
    if key and key not in names:
        found = [[name for name in names if fnmatchcase(name, word.strip())] for word in key.split(",")]
        if found and all(found):
            return tuple(dict.fromkeys(name for some in found for name in some))
    one = named_label(names, key, where, naming, reading)
    return () if one is None else (one,)


def named_label(
    names: Sequence[str], key: str | None, where: object, naming: str, reading: Reading
) -> str | None:
    """The column of labels: `key`, or the only one named like labels; None where `reading` can do without.

    naming : how another is chosen. Columns of groups are labels only where nothing else is. Raises DataError,
    naming all columns.
    """
    if key:
        if key in names:
            return key
        raise DataError(f"no column `{key}`", where=where, hint=f"columns: {listed(names)}")
    found = [name for name in names if name.strip().lower() in LABELS]
    found = [name for name in found if name not in reading.groups] or found
    if len(found) == 1:
        return found[0]
    if not found and reading.unlabelled:
        return None
    what = "several columns could be the labels" if found else "no column is named like labels"
    raise DataError(what, where=where, hint=f"name it: {naming}; columns: {listed(names)}")


def bind_columns(
    names: Sequence[str],
    inputs: Sequence[InputSpec],
    where: object,
    lists: Collection[str] = (),
    groups: Collection[str] = (),
) -> Bound:
    """The columns of each input.

    names : of all columns but the labels, in file order. lists : those that hold a list in each row. groups :
    columns of groups, which feed an input only where the model names them or would lack them. Raises
    DataError for an input without a column, and for more or fewer columns than an input has features.
    """
    wanted = {spec.name for spec in inputs} | {name for spec in inputs for name in spec.features or ()}
    numbering = [name for name in names if _ROW_NUMBERS.fullmatch(name) and name not in wanted]
    usable = [name for name in names if name not in numbering]
    notes = [
        f"the column {f'`{n}`' if n else 'without a name'} numbers the rows: left out" for n in numbering
    ]
    rows = with_rows(inputs)
    single = rows[0] if len(rows) == 1 else None
    named = [spec.name for spec in inputs if spec is not single]
    found = _by_name(named, usable, where, notes, inputs=True)
    columns: dict[str, tuple[str, ...]] = {name: (column,) for name, column in zip(named, found, strict=True)}
    if single is not None:
        others = [name for name in usable if name not in found]
        called = {_plain(name) for name in wanted}
        apart = [name for name in others if name not in groups or _plain(name) in called]
        others = others if len(others) == _features(single) else apart
        columns[single.name] = _of_one_input(single, others, where, lists, notes)
    used = {name for group in columns.values() for name in group}
    if rest := [name for name in usable if name not in used and name not in groups]:
        notes.append(f"columns that feed no input are left out: {listed(rest)}")
    return Bound(columns, tuple(notes))


def listed(names: Iterable[str]) -> str:
    """The first of many names, in words."""
    names = list(names)
    return ", ".join(names[:12]) + (f" and {len(names) - 12} more" if len(names) > 12 else "")


def _of_one_input(
    spec: InputSpec, names: list[str], where: object, lists: Collection[str], notes: list[str]
) -> tuple[str, ...]:
    features = _features(spec)
    if spec.name in names and (spec.name in lists or features in (None, 1)):
        return (spec.name,)
    if spec.features is not None:
        return tuple(_by_name(spec.features, names, where, notes))
    if len(names) == 1 and names[0] in lists:
        return (names[0],)
    if features not in (None, len(names)) and not lists:
        raise DataError(
            f"{len(names)} columns beside the labels, but the model's input `{spec.name}` takes {features}",
            where=where,
            hint=f"keep the {features} columns that the model was trained on, in its order; "
            f"columns: {listed(names)}",
        )
    if len(names) > 1:
        notes.append(
            f"the model does not name its features: input `{spec.name}` takes the columns in their order, "
            f"{listed(names)}"
        )
    return tuple(names)


def _features(spec: InputSpec) -> int | None:
    """How many numbers a sample has; None where the model does not tell."""
    sizes = [size for size in spec.sample or (None,) if size is not None]
    return prod(sizes) if len(sizes) == len(spec.sample or (None,)) else None


def _by_name(
    wanted: Sequence[str], names: Sequence[str], where: object, notes: list[str], *, inputs: bool = False
) -> list[str]:
    """The column of each wanted name: spelt the same, or else but for case and punctuation.

    inputs : whether these are inputs, which can be given by option, or the features of one.
    """
    plain: dict[str, list[str]] = {}
    for name in names:
        plain.setdefault(_plain(name), []).append(name)
    found, missing = [], []
    for name in wanted:
        near = [name] if name in names else plain.get(_plain(name), [])
        if len(near) != 1:
            missing.append(name)
            continue
        found.append(near[0])
    if missing:
        asked = "name the columns after the features that the model names, and add those that are missing"
        if inputs:
            given = by_option(missing[:3])
            asked = f"name the columns after the model's inputs, or give all samples one value: {given}"
        raise DataError(
            f"no column for {listed(f'`{name}`' for name in missing)}",
            where=where,
            hint=f"{asked}; columns: {listed(names) or 'none'}",
        )
    other = [
        f"`{column}` feeds `{name}`" for column, name in zip(found, wanted, strict=True) if column != name
    ]
    if other:
        notes.append(f"columns are matched but for case and punctuation: {listed(other)}")
    return found


def _plain(name: str) -> str:
    return re.sub(r"[\W_]+", "_", name).strip("_").lower()


def no_text(name: str, where: object) -> DataError:
    """The error for a column of numbers where an input takes text."""
    return DataError(
        f"column `{name}` does not hold a text in every row, as the model expects",
        where=where,
        hint="store it as text, without missing values",
    )
