"""Which class is each sample of? Raw labels in, class numbers out."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from onnxtweak.boxes.truth import Truth
from onnxtweak.ctc.transcripts import Transcripts
from onnxtweak.data.dataset import Dataset
from onnxtweak.data.samples import Part
from onnxtweak.data.several.marks import not_one_each
from onnxtweak.data.several.own_sizes import behind_one_another, sizes_together
from onnxtweak.data.source_spec import natural_key
from onnxtweak.errors import DataError
from onnxtweak.input_files import MOST_TEXT, require_regular


def known_names(names: str | tuple[str, ...] | None) -> tuple[str, ...] | None:
    """Class names, class 0 first, as they were given: themselves, or the file that holds them (`read_names`).

    Raises DataError for empty and duplicate names.
    """
    if names is None or isinstance(names, str):
        return None if names is None else read_names(names)
    if not names or not all(map(str.strip, names)):
        raise DataError("a class name is empty", where="names", hint="give every class its own name")
    return _distinct(names, "names")


def read_names(path: str | Path) -> tuple[str, ...]:
    """Class names from a file with one per line, class 0 first.

    Raises DataError for an unreadable file, empty lines and duplicate names.
    """
    require_regular(path, DataError, MOST_TEXT)
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        hint = "save it in UTF-8, one name per line"
        raise DataError(f"the names file is not UTF-8 (line {line})", where=path, hint=hint) from error
    except OSError as error:
        raise DataError(
            f"the names file cannot be read: {error}", where=path, hint="write one name per line, in UTF-8"
        ) from error
    names = tuple(line.strip() for line in text.rstrip().splitlines())
    if not names or "" in names:
        raise DataError(
            "the names file is empty or has an empty line", where=path, hint="write one name per line"
        )
    return _distinct(names, path)


def _distinct(names: tuple[str, ...], where: object) -> tuple[str, ...]:
    if len(set(names)) < len(names):
        duplicate = Counter(names).most_common(1)[0][0]
        raise DataError(
            f"duplicate class name `{duplicate}`", where=where, hint="give every class its own name"
        )
    return names


@dataclass(frozen=True, eq=False)
class Labels:
    """The labels of several parts.

    numbers (N,) int64 : class numbers, from 0; or (N, C) int8, marks of several labels at once. classes :
    class names, if known. written : the numbers that stand in the source for class 0, 1, ..., where those are
    others. notes : what was done. by_sorting : the
    classes are the names that occur, sorted, for want of a better order. sizes : of the axes of positions,
    where every position of a sample has a label; N counts positions then, and -1 is a label that does not
    count. lines : what stands in each sample, where labels are that. objects : which are in it, likewise.
    own : as of `MarksAtPositions`.
    """

    numbers: np.ndarray
    classes: tuple[str, ...] | None
    written: tuple[int, ...] | None
    notes: tuple[str, ...]
    by_sorting: bool = False
    sizes: tuple[int, ...] = ()
    lines: Transcripts | None = None
    objects: Truth | None = None
    own: tuple[int, ...] = ()


def class_numbers(
    parts: Sequence[Part], names: Sequence[str] | None, written: Sequence[int] | None = None
) -> Labels:
    """Class numbers of all parts.

    names : of the classes, class 0 first. written : the numbers that an earlier source has for classes 0, 1,
    ... Integers and booleans are class numbers already, unless all are among `written`, or all are names and
    some cannot be class numbers. One-hot rows become numbers. Text is looked up in `names`, in the source's
    own class names, or else in the sorted list of the names that occur. Raises DataError for other labels.
    """
    notes: list[str] = []
    classes = tuple(names) if names else own_names(parts)
    occurring = {text for part in parts if part.labels.dtype.kind in "US" for text in _texts(part)}
    # Folders named 0, 1, 2, ... are class numbers themselves.
    by_sorting = bool(occurring) and classes is None and not all(map(is_number, occurring))
    if by_sorting:
        _require_names(occurring, parts)
        classes = tuple(sorted(occurring, key=natural_key))
        notes.append(f"classes numbered by sorting the {len(occurring)} names that occur")
    for part in parts:
        _check_order(part, names)
    found = [_numbers(part, classes, notes) for part in parts]
    written = _written(parts, found, names, written)
    if written is not None:
        place = {number: position for position, number in enumerate(written)}
        for number, part in enumerate(parts):
            if part.labels.dtype.kind in "biu" and not _is_rows(part):
                unique, inverse = np.unique(found[number], return_inverse=True)
                found[number] = np.array([place[int(label)] for label in unique], np.int64)[inverse]
        shown = ", ".join(map(str, written[:8])) + (", ..." if len(written) > 8 else "")
        notes.append(f"labels {shown} are what classes 0 to {len(written) - 1} are called, in this order")
    return Labels(np.concatenate(found), classes, written, tuple(dict.fromkeys(notes)), by_sorting)


_IGNORED = 255  # of masks of bytes, as most data sets have it
_OF_A_BYTE = 127  # class numbers that a byte with a sign holds
_MOST_CLASSES = 1 << 24  # of labels at positions, which are counted one by one


def labels_at_positions(
    parts: Sequence[Part], names: Sequence[str] | None, ignored: int | None = None
) -> Labels | None:
    """The labels of all positions of samples that have one at each; None where they have one per sample.

    names : of the classes. A label below 0, or `ignored`, which where labels are bytes is 255 unless it is
    another, does not count. Raises DataError where samples have them at positions of different sizes.
    """
    labelled = [part for part in parts if part.labelled]
    raw = [part.labels for part in labelled]
    if not raw or not all(map(_is_at_positions, raw)):
        return None
    largest = max(int(labels.max(initial=0)) for labels in raw)
    if largest > _MOST_CLASSES and largest != ignored:
        raise DataError(
            f"label {largest} is no class number",
            where=labelled[0].label_where,
            hint="number the classes from 0 on; -1 says that a position does not count",
        )
    if ignored is None and any(labels.dtype == np.uint8 for labels in raw):
        ignored = _IGNORED
    # Half a billion of them are held in memory: not a byte more than class numbers need.
    kind: type[np.signedinteger] = np.int32
    if all(labels.dtype.itemsize == 1 for labels in raw):
        most = max(int(labels.max(initial=0, where=labels != ignored)) for labels in raw)
        kind = np.int8 if most <= _OF_A_BYTE else np.int16  # what does not count is below 0 in both
    every = [_flat(part.labels) if part.labelled else len(part) for part in parts]
    numbers = behind_one_another(every, kind)
    sizes, own = sizes_together([labels.shape[1:] for labels in raw], parts)
    if ignored is not None:
        numbers[numbers == ignored] = -1
    numbers[numbers < 0] = -1
    count = sum(labels.size for labels in raw)
    left_out = count - int((numbers >= 0).sum())
    if left_out and not (numbers >= 0).any():
        what = f"none of the {left_out:,} positions has a label: all are below 0, or 255"
        raise DataError(what, where=labelled[0].label_where, hint="give class numbers from 0 on")
    note = (f"{left_out:,} of {count:,} positions have no label and do not count",) if left_out else ()
    classes = tuple(names) if names else own_names(parts)
    return Labels(numbers, classes, None, note, sizes=sizes, own=own)


def _flat(raw: np.ndarray) -> np.ndarray:
    """Labels (n, positions), whatever axes these have."""
    return raw.reshape(len(raw), math.prod(raw.shape[1:]))


def _is_at_positions(raw: np.ndarray) -> bool:
    several = raw.dtype.kind in "biu" and np.prod(raw.shape[1:]) > 1
    return bool(several) and not (raw.ndim == 2 and _is_one_hot(raw))


def _require_names(occurring: set[str], parts: Sequence[Part]) -> None:
    """Raise DataError for text that is numbers such as 3.5: neither class numbers nor names."""
    try:
        broken = [text for text in occurring if not float(text).is_integer()]
    except (ValueError, OverflowError):
        return
    if broken:
        part = next(part for part in parts if np.isin(part.labels, broken).any())
        row = int(np.isin(part.labels, broken).ravel().argmax())
        raise DataError(
            f"label `{part.labels.ravel()[row]}` is no class number",
            where=f"row {row} of {part.label_where}",
            hint="give whole numbers from 0 on: onnxtweak works on classifiers, not on models that estimate "
            "a quantity; where these are names of classes, give --names FILE with all of them",
        )


def _written(
    parts: Sequence[Part],
    found: Sequence[np.ndarray],
    names: Sequence[str] | None,
    written: Sequence[int] | None,
) -> tuple[int, ...] | None:
    """The numbers that stand in the parts for class 0, 1, ...; None where those are 0, 1, ... themselves."""
    pairs = zip(parts, found, strict=True)
    # One-hot labels are positions.
    plain = [numbers for part, numbers in pairs if part.labels.dtype.kind in "biu" and not _is_rows(part)]
    occurring = {int(label) for numbers in plain for label in np.unique(numbers)}
    if written and occurring and occurring <= {*written}:
        return tuple(written)
    if names and all(map(is_number, names)):
        called = tuple(map(int, names))
        # Numbers that could be class numbers are: the names may well begin at 1.
        if occurring <= {*called} and not occurring <= {*range(len(called))}:
            return called
    return None


def _is_rows(part: Part) -> bool:
    return part.labels.ndim == 2 and part.labels.shape[1] > 1


def _check_order(part: Part, names: Sequence[str] | None) -> None:
    """Raise DataError where the source has the names in another order: its numbers mean other classes."""
    text = part.labels.dtype.kind in "US"
    if names and part.classes and not text and part.classes != tuple(names) and {*part.classes} == {*names}:
        raise DataError(
            "the source numbers its classes in another order than the class names in use",
            where=part.where,
            hint="renumber its labels, or store them as text",
        )


def is_number(text: str) -> bool:
    """Whether a class name is its number, as for a folder `7`."""
    return text.isdecimal() and len(text) < 19


def own_names(parts: Sequence[Part]) -> tuple[str, ...] | None:
    """The class names stored in the sources; merged in natural order where they differ."""
    lists = list(dict.fromkeys(part.classes for part in parts if part.classes))
    if len(lists) < 2:
        return lists[0] if lists else None
    if any(part.labels.dtype.kind not in "US" for part in parts):
        raise DataError(
            "two sources number their classes differently",
            where=" and ".join(part.where for part in parts[:2]),
            hint="give a names file",
        )
    return tuple(sorted(set().union(*lists), key=natural_key))


def _texts(part: Part) -> set[str]:
    return set(np.unique(part.labels.astype(str)).tolist())


def _numbers(part: Part, classes: tuple[str, ...] | None, notes: list[str]) -> np.ndarray:
    raw, where = part.labels, part.label_where
    if raw.ndim == 2 and raw.shape[1] == 1:
        raw = raw[:, 0]
    if raw.ndim == 2 and raw.shape[1] == 0:
        hint = "store one class number per sample, shape (N,)"
        raise DataError(f"labels of shape {raw.shape} are empty", where=where, hint=hint)
    if raw.ndim == 2 and raw.dtype.kind in "biuf" and _is_one_hot(raw):
        notes.append(f"one-hot labels of {raw.shape[1]} classes read as class numbers ({where})")
        numbers: np.ndarray = raw.argmax(axis=1).astype(np.int64)
        return numbers
    if raw.ndim != 1:
        raise not_one_each(where, raw.shape, raw)
    if raw.dtype.kind in "US":
        return _looked_up(raw.astype(str), classes, where)
    if raw.dtype.kind == "f" and np.isnan(raw).any():
        row = int(np.isnan(raw).argmax())
        raise DataError(
            "labels are missing (NaN)", where=f"row {row} of {where}", hint="give every row a label"
        )
    if raw.dtype.kind not in "biu":
        broken = raw[~(raw == np.round(raw))] if raw.dtype.kind == "f" else raw[:0]
        such = f" (such as {broken[0]:g})" if len(broken) else ""
        hint = "labels.astype('int64')" if raw.dtype.kind == "f" else "store class numbers"
        if len(broken):
            hint = (
                "give class numbers: onnxtweak works on classifiers, not on models that estimate a quantity"
            )
        raise DataError(f"labels are {raw.dtype}, not integers{such}", where=where, hint=hint)
    if raw.dtype == np.uint64 and len(raw) and raw.max() > np.iinfo(np.int64).max:
        raise DataError(f"label {raw.max()} is out of range", where=where, hint="class numbers start at 0")
    return raw.astype(np.int64)


def _is_one_hot(raw: np.ndarray) -> bool:
    return bool(((raw == 0) | (raw == 1)).all() and (raw.sum(axis=1) == 1).all())


def _looked_up(raw: np.ndarray, classes: tuple[str, ...] | None, where: str) -> np.ndarray:
    texts, position = np.unique(raw, return_inverse=True)
    number = {name: i for i, name in enumerate(classes or ())}
    unknown = [text for text in texts.tolist() if text not in number]
    if unknown and all(map(is_number, texts.tolist())):
        return np.array([int(text) for text in texts.tolist()], np.int64)[position]
    if unknown:
        raise DataError(
            f"class `{unknown[0]}` is not among the {len(number)} class names",
            where=where,
            hint=f"the names are {', '.join(list(number)[:8])}{', ...' if len(number) > 8 else ''}",
        )
    return np.array([number[text] for text in texts.tolist()], np.int64)[position]


def number_by_labels(dataset: Dataset, labels: Sequence[int | str], present: np.ndarray) -> Dataset:
    """The dataset with class c where its labels, numbers or text, are what the model shows for class c.

    labels : of all classes of the model, none of which is its own number. present : the labels of all
    datasets together: where one is not among those of the model, all are class numbers already.
    """
    if dataset.written is not None:  # the names file said what they are
        return dataset
    texts = [str(label) for label in labels]
    unknown = [name for name in dataset.classes or () if name not in texts]
    if dataset.by_sorting and unknown and any(isinstance(label, str) for label in labels):
        raise DataError(
            f"class `{unknown[0]}` is not one of the model's classes",
            where=dataset.parts[0].label_where,
            hint=f"they are {', '.join(texts[:8])}{', ...' if len(texts) > 8 else ''}; write the labels like"
            " this, or give a names file with one name per class",
        )
    position = {text: number for number, text in enumerate(texts)}
    present = np.unique(present)
    names = dataset.classes
    if names is not None and {*names} <= {*texts}:
        own = [names[number] if 0 <= number < len(names) else "" for number in present.tolist()]
        names = tuple(texts)
    else:
        own = [str(number) for number in present.tolist()]
    if any(text not in position for text in own):
        return dataset if dataset.classes is not None else replace(dataset, classes=tuple(texts))
    numbers = np.array([position[text] for text in own], np.int64)
    changed = numbers[np.searchsorted(present, dataset.labels)] if len(present) else dataset.labels
    shown = ", ".join(texts[:4]) + (", ..." if len(texts) > 4 else "")
    note = f"labels are what the model calls its classes: {shown}"
    return replace(dataset, labels=changed, classes=names or tuple(texts), notes=(*dataset.notes, note))
