"""Which samples are held out together in cross-validation? Its folds; groups are never divided."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from onnxtweak.data.stratified import deal_groups
from onnxtweak.engine.machine.large_arrays import blocks
from onnxtweak.errors import DataError

# As many folds are enough where every class has many samples.
COARSE = 5
# Where the rarest class has fewer than this many samples, each of them is worth more folds: fewer than
# (samples, folds). Weights that are fitted to four fifths of a few samples are worse than those in the end.
_FEW = ((25, 20), (75, 10))
# Of more samples, or of more logits, no more folds are made: each would take minutes.
_MANY, _MANY_LOGITS = 20_000, 2_000_000


Arrays = Mapping[str, np.ndarray]
Make = Callable[[], Arrays]


class Steps(Protocol):
    """Where what takes long in itself goes on that was interrupted."""

    def known(self) -> Arrays | None:
        """The state after the last step that was saved; None: it begins anew."""

    def add(self, state: Arrays, /) -> None:
        """Take note of the state after a step."""


class KeptArrays(Protocol):
    """What takes long, from an earlier run or made now, under a name that has all that it depends on."""

    def __call__(self, name: str, make: Make, /) -> Arrays:
        """The arrays."""
        ...

    def steps(self, name: str, /) -> Steps:
        """Where the state is kept while they are made."""
        ...


class NothingKept:
    """Everything is made anew, whatever an earlier run made."""

    def __call__(self, name: str, make: Make) -> Arrays:
        return make()

    def steps(self, name: str) -> NothingKept:
        return self

    def known(self) -> None:
        return None

    def add(self, state: Arrays) -> None:
        pass


not_kept = NothingKept()


def kept_of(kept: KeptArrays, what: str, arrays: Sequence[np.ndarray | None], make: Make) -> Arrays:
    """What `make` makes of some arrays, which with `what` are all that it depends on."""
    return make() if kept is not_kept else kept(f"{what} {digest_of(*arrays)}", make)


def digest_of(*arrays: np.ndarray | None) -> str:
    """32 hex digits that change with each number, shape and dtype."""
    digest = hashlib.sha256()
    for array in arrays:
        if array is not None:
            digest.update(f"{array.dtype} {array.shape}".encode())
            for _, block in blocks(array) if array.ndim > 1 else [((), array)]:
                digest.update(np.ascontiguousarray(block).data)
        digest.update(b"\n")
    return digest.hexdigest()[:32]


def in_full(value: object) -> str:
    """All that a value is, in words, its arrays to the last number."""
    with np.printoptions(threshold=sys.maxsize, floatmode="unique"):
        return repr(value)


@dataclass(frozen=True)
class Folds:
    """How candidates are cross-validated.

    number (N,) int64 : fold of each sample. judged (N,) bool : samples that choices may be judged on (those
    the base has not been trained on, where that is known). seed : of everything drawn on the way. copies :
    how often each sample stands in the table, all of them once before any of them again. kept : what hands
    out finished folds of an earlier run, and stores those of this one.
    """

    number: np.ndarray
    judged: np.ndarray
    seed: int = 0
    copies: int = 1
    kept: KeptArrays = not_kept

    @property
    def digest(self) -> str:
        """What is learnt of a fold depends on it."""
        return f"{digest_of(self.number, self.judged)} {self.seed} {self.copies}"

    @classmethod
    def of(
        cls,
        labels: np.ndarray,
        folds: int | None,
        seed: int,
        judged: np.ndarray | None = None,
        groups: np.ndarray | None = None,
    ) -> Folds:
        """So many folds of samples with labels (N,); None: as their rarest class needs.

        judged : default all. groups (N,) int64 : samples of one group are in one fold, and there are no more
        folds than groups. Raises DataError for a single group.
        """
        all_samples = np.ones(len(labels), bool)
        count = folds_for(labels) if folds is None else folds
        if groups is not None:
            count = min(count, len(np.unique(groups)))
            if count < 2:
                raise DataError(
                    "all samples to learn from are of one group, so none can be held out to choose by",
                    where="--group",
                    hint="give samples of more groups, or leave it out",
                )
        number = fold_numbers(labels, count, seed, groups)
        return cls(number, all_samples if judged is None else judged, seed)

    @property
    def doubled(self) -> Folds:
        """For a table with a copy of every sample behind them all: in its fold, and never judged on."""
        judged = np.append(self.judged, np.zeros(len(self.judged), bool))
        return replace(self, number=np.tile(self.number, 2), judged=judged, copies=2 * self.copies)

    @property
    def coarse(self) -> Folds:
        """At most five folds, each of several of these, for choices that fewer trainings can make."""
        return replace(self, number=self.number % COARSE)

    @property
    def numbers(self) -> np.ndarray:
        """The folds that have samples, ascending."""
        return np.unique(self.number)

    def held_out(self, fold: int) -> np.ndarray:
        """Samples of a fold, (n,) int64."""
        return np.flatnonzero(self.number == fold)

    def learning(self, fold: int) -> np.ndarray:
        """Samples of all other folds, (n,) int64."""
        return np.flatnonzero(self.number != fold)

    def learning_weight(self, fold: int) -> np.ndarray:
        """Weight of each sample, (N,) float64: 1 in all other folds, 0 in this one."""
        return (self.number != fold).astype(np.float64)


def folds_for(labels: np.ndarray) -> int:
    """How many folds samples with labels (N,) deserve, by those of the rarest class that has any."""
    samples = np.unique(labels, return_counts=True)[1]
    if len(labels) > _MANY or len(labels) * len(samples) > _MANY_LOGITS:
        return COARSE
    rarest = int(samples.min(initial=len(labels)))
    return next((folds for fewer, folds in _FEW if rarest < fewer), COARSE)


def one_in(count: int, labels: np.ndarray, seed: int, groups: np.ndarray | None = None) -> np.ndarray:
    """About one in so many samples, (N,) bool, of every class alike; whole groups if there are several."""
    if groups is None or len(np.unique(groups)) < 2:
        return fold_numbers(labels, count, seed) == 0
    return deal_groups(labels, groups, (count - 1, 1), seed) == 1


def fold_numbers(labels: np.ndarray, folds: int, seed: int, groups: np.ndarray | None = None) -> np.ndarray:
    """Fold of each sample, (N,) int64 in [0, folds); every class is spread over them as evenly as it goes.

    groups (N,) int64 : which are not divided.
    """
    if groups is not None:
        return deal_groups(labels, groups, [1.0] * folds, seed)
    shuffle = np.random.Generator(np.random.PCG64(seed)).permutation
    fold = np.empty(len(labels), np.int64)
    done = 0
    for number in np.unique(labels):
        rows = shuffle(np.flatnonzero(labels == number))
        # Each class begins where the last one ended, so that the folds come out even.
        fold[rows] = (np.arange(len(rows)) + done) % folds
        done += len(rows)
    return fold
