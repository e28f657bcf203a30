"""Which samples fit, which validate, which test?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from itertools import product

import numpy as np

from onnxtweak.data.dataset import Batch, Dataset
from onnxtweak.data.labels import read_names
from onnxtweak.data.open_data import open_data
from onnxtweak.data.samples import InputSpec
from onnxtweak.errors import DataError
from onnxtweak.settings import DataSettings, GiB


@dataclass(frozen=True, eq=False)
class View:
    """Some samples of a data set. rows : which, ascending int64."""

    dataset: Dataset
    rows: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def labels(self) -> np.ndarray:
        """(len(self),) int64."""
        return self.dataset.labels[self.rows]

    def batches(self, size: int) -> Iterator[Batch]:
        """One pass over these samples, as `Dataset.batches`."""
        return self.dataset.batches(self.rows, size)


@dataclass(frozen=True, eq=False)
class Splits:
    """The three roles. test : None when there is none; results are then reported on validation."""

    fit: View
    validation: View
    test: View | None
    classes: tuple[str, ...] | None
    notes: tuple[str, ...] = ()

    @cached_property
    def digest(self) -> str:
        """sha256 in hex over the data sets and which rows have which role."""
        whole = sha256()
        for view in (self.fit, self.validation, self.test):
            whole.update(
                b"none" if view is None else view.dataset.digest.encode() + view.rows.astype("<i8").tobytes()
            )
        return whole.hexdigest()


def stratified_split(labels: np.ndarray, fractions: Sequence[float], seed: int) -> tuple[np.ndarray, ...]:
    """Rows of each part, ascending int64, each class divided by `fractions` as evenly as whole samples allow.

    A class with at least as many samples as there are parts is present in each. Deterministic in
    (labels, fractions, seed). Raises DataError when a part stays empty.
    """
    shuffle = np.random.Generator(np.random.PCG64(seed)).permutation
    parts: list[list[np.ndarray]] = [[] for _ in fractions]
    owed = np.zeros(len(fractions))
    for number in np.unique(labels):
        rows = shuffle(np.flatnonzero(labels == number))
        exact = len(rows) * np.asarray(fractions) / np.sum(fractions)
        counts = _counts(exact, owed)
        owed += exact - counts
        ends = np.cumsum(counts)
        for part, piece in zip(parts, np.split(rows, ends[:-1]), strict=True):
            part.append(piece)
    split = tuple(np.sort(np.concatenate([np.empty(0, np.int64), *part])) for part in parts)
    if not all(map(len, split)):
        raise DataError(
            f"{len(labels)} samples are too few to split into {len(fractions)} parts",
            hint="give more samples, or --val and --test",
        )
    return split


def _counts(exact: np.ndarray, owed: np.ndarray) -> np.ndarray:
    """Whole numbers that add up to the sum of `exact`: largest remainders first, then none without a sample.

    owed : what each part lacks so far, over all classes; it settles ties, so that the parts come out even.
    """
    samples = round(exact.sum())
    # Rounding keeps 20 * 0.2 from losing a sample to 3.9999999.
    counts = np.floor(np.round(exact, 9)).astype(np.int64)
    order = np.lexsort((-np.round(owed, 9), -np.round(exact - counts, 9)))
    counts[order[: samples - counts.sum()]] += 1
    while samples >= len(counts) and (counts == 0).any():
        counts[counts.argmax()] -= 1
        counts[counts.argmin()] += 1
    return counts


def open_splits(settings: DataSettings, inputs: Sequence[InputSpec], memory: int = 4 * GiB) -> Splits:
    """Open what was given, and split off `data` what was not.

    Nothing given: 60 / 20 / 20. Only test: 75 / 25. Only validation: all of `data` fits, no test.
    Class names of `data` hold for the others. Raises DataError where fit or validation has one class only.
    """
    names = None if settings.names is None else read_names(settings.names)
    given = [sources for sources in (settings.data, settings.val, settings.test) if sources]
    share = memory // max(len(given), 1)

    def opened(sources: Sequence[str], names: Sequence[str] | None) -> Dataset:
        return open_data(sources, inputs=inputs, preprocess=settings.preprocess, names=names, memory=share)

    data = opened(settings.data, names)
    names = data.classes
    validation = _whole(opened(settings.val, names)) if settings.val else None
    test = _whole(opened(settings.test, names)) if settings.test else None
    if validation is not None:
        fit = _whole(data)
    else:
        fractions = (0.75, 0.25) if test is not None else (0.6, 0.2, 0.2)
        rows = stratified_split(data.labels, fractions, settings.seed)
        fit, validation = View(data, rows[0]), View(data, rows[1])
        test = View(data, rows[2]) if test is None else test
    for role, view in (("fit", fit), ("validation", validation)):
        _check_classes(role, view)
    notes = (*data.notes, *_overlaps(data, validation, test))
    return Splits(fit, validation, test, data.classes, notes)


def _whole(dataset: Dataset) -> View:
    return View(dataset, np.arange(len(dataset)))


def _check_classes(role: str, view: View) -> None:
    labels = np.unique(view.labels)
    if len(labels) == 1:
        raise DataError(
            f"all {len(view)} {role} samples are of class {labels[0]}",
            where=view.dataset.parts[0].where,
            hint="what one class gains cannot be weighed without samples of the others",
        )


def _overlaps(data: Dataset, validation: View, test: View | None) -> Iterator[str]:
    """A note for each two roles that were given the same rows of the same file."""
    pairs = [("validation", validation.dataset, "fit", data)]
    if test is not None:
        pairs.append(
            ("test", test.dataset, "fit or validation" if validation.dataset is data else "fit", data)
        )
        pairs.append(("test", test.dataset, "validation", validation.dataset))
    for role, given, other, theirs in pairs:
        shared = (
            0 if given is theirs or (other == "validation" and theirs is data) else _shared(given, theirs)
        )
        if shared:
            yield f"{shared} {role} samples also serve as {other} samples: results will look too good"


def _shared(one: Dataset, other: Dataset) -> int:
    return sum(
        max(0, min(a.start + len(a), b.start + len(b)) - max(a.start, b.start))
        for a, b in product(one.parts, other.parts)
        if a.origin == b.origin
    )
