"""Which samples are listed one by one? Those that must become right or have to stay; they are never split."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from onnxtweak.data.dataset import Dataset
from onnxtweak.data.samples import Part
from onnxtweak.errors import DataError
from onnxtweak.in_memory import SampleSource
from onnxtweak.settings import LISTED, DataSettings

# Without other data, so many listed samples stand for all where the model is measured and tables are made.
_STAND_IN = 20_000


def all_sources(settings: DataSettings) -> tuple[SampleSource, ...]:
    """Sources of `data`, and those of all listed samples after them."""
    return tuple(source for role in ("data", *LISTED) for source in settings.sources(role))


def rows_by_role(settings: DataSettings, dataset: Dataset) -> dict[str, np.ndarray]:
    """Rows (n,) int64 of "data" and of each role, in a dataset that was opened from `all_sources`."""
    ends, at, found = np.cumsum([0, *dataset.sources]), 0, {}
    for role in ("data", *LISTED):
        after = at + len(settings.sources(role))
        found[role] = np.arange(ends[at], ends[after])
        at = after
    return found


def stand_in(rows: Mapping[str, np.ndarray]) -> np.ndarray:
    """Rows (n,) int64, ascending: all must-samples, and of lock-samples evenly as many as tables may hold."""
    others = rows["lock"]
    many = min(_STAND_IN, len(others))
    spread = np.unique(np.linspace(0, max(len(others) - 1, 0), many).astype(np.int64))
    return np.concatenate([rows["must"], others[spread]])


def not_listed(dataset: Dataset, rows: np.ndarray, listed: Sequence[Part]) -> np.ndarray:
    """Those of `rows` (n,) int64 that are no listed sample, as `Part.shared_with` tells."""
    free = np.ones(len(dataset), bool)
    first = 0
    for part in dataset.parts:
        for other in listed:
            if other is not part:
                free[first : first + len(part)] &= ~part.shared_with(other)
        first += len(part)
    kept: np.ndarray = rows[free[rows]]
    return kept


def beside_listed(
    dataset: Dataset, rows: np.ndarray, data: Dataset, of_role: Mapping[str, np.ndarray]
) -> np.ndarray:
    """Those of `rows` (n,) int64 of a dataset that are no listed sample of `data`, whose rows go by role.

    Raises DataError where none is left.
    """
    found = not_listed(dataset, rows, parts_of(data, of_role, LISTED))
    if len(rows) and not len(found):
        hint = "give other test samples than those that are listed, or none"
        raise DataError("all test samples are listed too", where=dataset.parts[0].where, hint=hint)
    return found


def parts_of(dataset: Dataset, rows: Mapping[str, np.ndarray], roles: Sequence[str]) -> tuple[Part, ...]:
    """The parts of a dataset, opened from `all_sources`, that hold samples of some roles."""
    starts = np.cumsum([0, *map(len, dataset.parts)])[:-1]
    inside = np.isin(starts, np.concatenate([np.empty(0, np.int64), *(rows[role] for role in roles)]))
    return tuple(part for part, own in zip(dataset.parts, inside, strict=True) if own)


def overlaps(data: Dataset, validation: Dataset, test: Dataset | None) -> Iterator[str]:
    """A note for each pair of splits that share rows of the same file."""
    pairs = [("validation", validation, "fit", data)]
    if test is not None:
        pairs.append(("test", test, "fit or validation" if validation is data else "fit", data))
        pairs.append(("test", test, "validation", validation))
    for role, given, other, theirs in pairs:
        same = given is theirs or (other == "validation" and theirs is data)
        if not same and (shared := given.shared_with(theirs)):
            yield f"{shared} {role} samples also serve as {other} samples: results will look too good"


def listed_once(
    dataset: Dataset, rows: Mapping[str, np.ndarray]
) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    """`rows` with every sample, by its place in a file, under one role only; and notes.

    A must-sample is no lock-sample as well, neither is in the data, and of what is any of these no decision
    is kept as it is.
    """
    found, notes = dict(rows), []
    for role, others, what in (
        ("lock", ("must",), "lock-samples are must-samples too, and count as such"),
        ("data", ("must", "lock"), "samples of the data are listed too: no split has them"),
        ("keep", ("must", "lock", "data"), "samples to keep have labels, which count"),
    ):
        found[role] = not_listed(dataset, rows[role], parts_of(dataset, rows, others))
        if role == "lock":
            found[role] = np.union1d(found[role], _contradicting(dataset, rows))
        if fewer := len(rows[role]) - len(found[role]):
            notes.append(f"{fewer:,} {what}")
    return found, tuple(notes)


def _contradicting(dataset: Dataset, rows: Mapping[str, np.ndarray]) -> np.ndarray:
    """Lock-samples in memory that are must-samples with another label, (n,) int64: they are to be named."""
    labels = dataset.labels.reshape(len(dataset), -1)
    known: dict[bytes, list[int]] = {}
    for part, first in _placed(dataset, parts_of(dataset, rows, ("must",))):
        known.update(zip(part.fingerprints, labels[first : first + len(part)].tolist(), strict=False))
    found = [
        first + k
        for part, first in _placed(dataset, parts_of(dataset, rows, ("lock",)))
        for k, content in enumerate(part.fingerprints)
        if known.get(content, labels[first + k].tolist()) != labels[first + k].tolist()
    ]
    return np.array(found, np.int64)


def _placed(dataset: Dataset, parts: Sequence[Part]) -> list[tuple[Part, int]]:
    """Parts, each with the row of its first sample."""
    starts = np.cumsum([0, *map(len, dataset.parts)])[:-1].tolist()
    return [(part, first) for part, first in zip(dataset.parts, starts, strict=True) if part in parts]
