"""What does a linear patch of all classes reach, and with which ridge (METHOD 7.1)?"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TypeVar

import numpy as np

from onnxtweak.engine.machine.large_arrays import add_rows, chosen_rows, copied, taken
from onnxtweak.engine.machine.single_thread import is_small, side_by_side
from onnxtweak.method.fit.candidate import WORTH_READING, FitCandidate, simplest
from onnxtweak.method.folds import Arrays, Folds, Make, Steps, not_kept
from onnxtweak.method.softmax import log_loss, log_losses
from onnxtweak.method.solvers.chunked import ChunkedProblem
from onnxtweak.method.solvers.design import Design, design
from onnxtweak.method.solvers.multinomial import Solution, multinomial
from onnxtweak.method.table import Table
from onnxtweak.method.temperature import losses_cooled
from onnxtweak.patch import Linear
from onnxtweak.types import Progress

Made = TypeVar("Made")

# Ridges tried, from strong to weak, on columns of unit deviation.
RIDGES = (30.0, 10.0, 3.0, 1.0, 0.3, 0.1, 0.03, 0.01, 3e-3, 1e-3, 3e-4, 1e-4, 3e-5, 1e-5)
# The path ends once this many ridges in a row have not lowered the loss by this share of what had been
# gained, or of what was left if that is less, or one has raised it by this many standard errors: weaker
# ridges take the longest.
_PATIENCE, _WORTH, _SURELY = 2, 0.02, 2.0
# The path is judged on one of the five coarse folds if that holds so many samples, else on two of them; all
# folds are held out at its best ridge.
_ENOUGH = 2000
# What the solver may leave of the log-loss, as a share of the base's: in the end as while choosing, for weak
# ridges stopped early and followed to the end are not the same patch.
_LEFT = 5e-5
# Folds or trainings at a time: each copies its part of the table.
AT_ONCE = 2
# The name of the columns of all families.
TOGETHER = "all columns together"
# Losses before any ridge is tried.
_UNKNOWN = np.array([np.inf])


def fit_linear(
    table: Table,
    columns: np.ndarray,
    name: str,
    folds: Folds,
    *,
    ridges: Sequence[float] = RIDGES,
) -> FitCandidate:
    """A linear patch of all classes on some columns, its ridge chosen by cross-validated log-loss."""
    return search_ridges(table, columns, name, folds, ridges=ridges).candidate()


def search_ridges(
    table: Table,
    columns: np.ndarray,
    name: str,
    folds: Folds,
    *,
    ridges: Sequence[float] = RIDGES,
) -> LinearPath:
    """The best ridge for some columns, from strong to weak until the held-out log-loss no longer falls."""
    return LinearPath.of(table, columns, name, folds).searched(ridges if len(columns) else ridges[-1:])


@dataclass(frozen=True)
class _Search:
    """How far a search for the best ridge is. best : so far. tried : how many ridges were. since : of these,
    the last that were hardly better. reached : by the last, by fold."""

    best: LinearPath
    tried: int = 0
    since: int = 0
    reached: Mapping[int, Solution] = field(default_factory=dict)

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """All of it as arrays."""
        found = {"counts": np.array([self.tried, self.since]), **self.best.arrays}
        for k, solution in self.reached.items():
            found |= {f"{k} {name}": array for name, array in solution.arrays.items()}
        return found

    @classmethod
    def of_arrays(cls, found: Arrays, path: LinearPath) -> _Search:
        """What `arrays` gave, of this path."""
        parts = {k: f"{k} " for k in path.numbers}
        each = {
            k: {name.removeprefix(part): found[name] for name in found if name.startswith(part)}
            for k, part in parts.items()
        }
        xp = path.design.xp
        reached = {k: Solution.of_arrays(arrays, xp) for k, arrays in each.items()}
        tried, since = found["counts"].tolist()
        return cls(path.at(found), tried, since, reached)


def _searched(path: LinearPath, ridges: Sequence[float], steps: Steps) -> dict[str, np.ndarray]:
    """The best of some ridges, as `LinearPath.at` takes it, from where the path is. steps : each state."""
    table, coarse, counted = path.table, path.folds.coarse, path.counted
    path = replace(path, design=path.design.remembering())
    base, state = float(path.losses_of_base.mean()), steps.known()
    search = _Search(replace(path, losses=_UNKNOWN)) if state is None else _Search.of_arrays(state, path)
    best, since = search.best, search.since
    known: Mapping[int, np.ndarray] | Mapping[int, Solution] = search.reached or path.reached
    for number, ridge in enumerate(ridges[search.tried :], start=search.tried + 1):
        path = replace(path, ridge=ridge)
        logits, start = copied(table.Z), dict[int, Solution]()
        for k, found in path.solutions(coarse, path.numbers, known):
            rows = coarse.held_out(k)
            path.hold_out(logits, rows, taken(found.scores, rows))
            start[k] = replace(found, scores=found.scores[:0].copy())  # as large as the table of logits
        known = start
        reached = {k: found.axes for k, found in start.items()}
        path = replace(path, losses=_losses(table, logits, counted), reached=reached)
        risen = path.losses - best.losses
        worth = _WORTH * max(min(base - best.loss, best.loss), 0.0)
        since = 0 if path.loss < best.loss - worth else since + 1
        if path.loss < best.loss:
            best = path
        elif risen.mean() > _SURELY * risen.std() / np.sqrt(len(risen)):
            break
        if since == _PATIENCE:
            break
        if steps is not not_kept:
            steps.add(_Search(best, number, since, start).arrays)
    return best.arrays


def search_families(
    table: Table, families: Mapping[str, np.ndarray], folds: Folds, progress: Progress
) -> tuple[LinearPath, list[LinearPath]]:
    """The smallest family that does about as well as any, and all of them, each at its best ridge.

    families : name to columns of the table, from few to many; at least one. Where that is not the first, and
    no family has the columns of all, these are tried together, and taken where they lower the loss.
    """
    paths = []
    for name, columns in families.items():
        paths.append(search_ridges(table, columns, name, folds))
        progress.advance(1)
    losses = [path.losses for path in paths]
    best = paths[simplest(losses, paths[0].losses_of_base, WORTH_READING)]
    every = np.unique(np.concatenate(list(families.values())))
    if best is not paths[0] and len(every) > max(map(len, families.values())):
        paths.append(search_ridges(table, every, TOGETHER, folds))
        best = paths[-1] if paths[-1].loss < best.loss else best
    return best, paths


@dataclass(frozen=True, eq=False)
class LinearPath:
    """A family of columns, standardised once for all ridges and folds, at one ridge.

    columns (K,) int64 : of the table. free (F,) int64 : classes that get weights. tolerance : of the solver,
    in nats. losses (n,) : log-loss of the samples that ridges are compared on.
    reached : `Solution.axes` by fold of those; ended : by fold of all, where a candidate's have ended.
    chunked : of a very large table, what is solved.
    """

    name: str
    columns: np.ndarray
    table: Table
    folds: Folds
    design: Design
    free: np.ndarray
    tolerance: float
    ridge: float = RIDGES[0]
    losses: np.ndarray = field(default_factory=lambda: _UNKNOWN)
    reached: dict[int, np.ndarray] = field(default_factory=dict)
    ended: dict[int, np.ndarray] = field(default_factory=dict)
    chunked: ChunkedProblem | None = None

    @classmethod
    def of(cls, table: Table, columns: np.ndarray, name: str, folds: Folds) -> LinearPath:
        """At the strongest ridge, nothing being solved yet."""
        size = len(table.labels), len(columns), table.Z.shape[1]
        xp, chunks = table.device.for_solver(*size), table.device.chunks(*size)
        Z, truth = (chosen_rows(each, folds.judged) for each in (table.Z, table.truth))
        free = np.unique(table.labels)  # a class without samples keeps its logit
        if table.shares is not None:
            free = np.arange(table.Z.shape[1])
        made, tolerance = design(table.T, columns, xp=xp), _LEFT * log_loss(Z, truth)
        path = cls(name, columns, table, folds, made, free, tolerance)
        if xp is not np or chunks is None:
            return path
        held = ChunkedProblem.of(path.design, table.Z, table.truth, free, chunks)
        return replace(path, chunked=held)

    def searched(self, ridges: Sequence[float]) -> LinearPath:
        """The path at the best of some ridges, from strong to weak until the loss no longer falls."""
        name, kept = self.named(f"ridges {ridges}"), self.folds.kept
        return self.at(kept(name, lambda: _searched(self, ridges, kept.steps(name))))

    def weighted(self, weight: np.ndarray, name: str) -> LinearPath:
        """The same columns and samples, which count (N,) float64 each; it begins where this one has ended."""
        return replace(self, name=name, table=replace(self.table, weight=weight))

    def at(self, found: Mapping[str, np.ndarray]) -> LinearPath:
        """The path at what `arrays` gave."""
        reached = {k: found[f"axes {k}"] for k in self.numbers if f"axes {k}" in found}
        return replace(self, ridge=float(found["ridge"]), losses=found["losses"], reached=reached)

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """What `at` takes."""
        axes = {f"axes {k}": axes for k, axes in self.reached.items()}
        return {"ridge": np.array(self.ridge), "losses": self.losses, **axes}

    def named(self, what: str) -> str:
        """A name, among what `folds.kept` hands out, for what is made of this path."""
        return self.table.of_folds(self.folds, f"{what} {self.ridge}", self.columns)

    def kept(self, what: str, make: Make) -> Arrays:
        """What is made of this path, or what an earlier run made of it."""
        return self.folds.kept(self.named(what), make)

    @property
    def numbers(self) -> tuple[int, ...]:
        """The coarse folds that ridges are compared on."""
        coarse = self.folds.coarse
        first = np.count_nonzero(coarse.judged & (coarse.number == 0))
        return (0,) if first >= _ENOUGH else (0, 1)

    @property
    def counted(self) -> np.ndarray:
        """Their samples, (N,) bool."""
        return np.isin(self.folds.coarse.number, self.numbers) & self.folds.judged

    @property
    def losses_of_base(self) -> np.ndarray:
        """As `losses`, without a patch."""
        return _losses(self.table, self.table.Z, self.counted)

    @property
    def loss(self) -> float:
        """Mean of `losses`."""
        return float(self.losses.mean())

    @property
    def described(self) -> str:
        """For notes."""
        return f"{self.name}, ridge {self.ridge:g}" if len(self.columns) else self.name

    def candidate(self, losses: Mapping[str, float] = MappingProxyType({})) -> FitCandidate:
        """The patch, with every sample held out once. losses : of the families that it was chosen from."""
        return self.crossed(losses)[0]

    def crossed(self, losses: Mapping[str, float] = MappingProxyType({})) -> tuple[FitCandidate, LinearPath]:
        """The candidate, and the path whose folds begin where the candidate's have ended."""
        table, folds = self.table, self.folds
        start = self.ended | (self.reached if np.array_equal(folds.number, folds.coarse.number) else {})
        logits, ended = copied(table.Z), dict[int, np.ndarray]()

        def held_out(k: int) -> Arrays:
            def solved() -> dict[str, np.ndarray]:
                found = self._solved(start.get(k), folds.learning_weight(k))
                return {"axes": found.axes, "scores": taken(found.scores, folds.held_out(k))}

            return self.kept(f"fold {k}", solved)

        for k, fold in self._each(held_out, folds.numbers):
            self.hold_out(logits, folds.held_out(k), fold["scores"])
            ended[k] = fold["axes"]
        loss = float(_losses(table, logits, folds.judged).mean())

        def learn() -> tuple[Linear, tuple[str, ...]]:
            def solved() -> dict[str, np.ndarray]:
                found = self._solved(np.mean(list(ended.values()), axis=0))
                patch = on_all_classes(found, self.free, table.Z.shape[1])
                return {**patch.arrays, "note": np.array(found.note)}

            found = dict(self.kept("all samples", solved))
            note = str(found.pop("note"))
            return Linear(**found), (f"{self.name}: {note}",) if note else ()

        behind = (pair for pair in losses.items() if pair[0] != self.described)
        others = tuple(f"{name}: held-out log-loss {loss - self.loss:+.4f}" for name, loss in behind)
        found = FitCandidate(self.described, self.columns, logits, loss, learn, others)
        return found, replace(self, ended=ended)

    def solutions(
        self, folds: Folds, numbers: Iterable[int], start: Mapping[int, np.ndarray] | Mapping[int, Solution]
    ) -> Iterator[tuple[int, Solution]]:
        """Some folds, and weights fitted to all others.

        Small problems are solved side by side, a fold on each core. start : what to begin with, by fold.
        Without that a fold begins at the base, never at another fold's solution: that has seen its
        samples, and a solver that stops early would not forget them all. Nor does it learn from another's
        steps how the loss bends: they point where the samples held out want to be.
        """

        def solved(k: int) -> Solution:
            return self._solved(start.get(k), folds.learning_weight(k))

        return self._each(solved, numbers)

    def _each(self, solved: Callable[[int], Made], numbers: Iterable[int]) -> Iterator[tuple[int, Made]]:
        """What is made of each fold; of small problems side by side."""
        numbers = tuple(int(k) for k in numbers)
        products = self.design.X.size * len(self.free)
        small = self.design.xp is np and self.chunked is None and is_small(products)
        each = side_by_side(solved, numbers, AT_ONCE) if small else map(solved, numbers)
        return zip(numbers, each, strict=True)

    def hold_out(self, logits: np.ndarray, rows: np.ndarray, scores: np.ndarray) -> None:
        """Add scores (n, F) of some rows (n,) int64 to their logits (N, C)."""
        add_rows(logits, rows, scores, self.free)

    def _solved(self, start: np.ndarray | Solution | None, weight: np.ndarray | None = None) -> Solution:
        own = self.table.weight
        if own is not None:
            weight = own if weight is None else own * weight
        if self.chunked is not None:
            return self.chunked.solve(self.ridge, weight, start, self.tolerance)
        return multinomial(
            self.design,
            self.table.Z,
            self.table.truth,
            ridge=self.ridge,
            free=self.free,
            sample_weight=weight,
            start=start,
            tolerance=self.tolerance,
        )


def _losses(table: Table, logits: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Log-loss of some rows (N,) bool, cooled unless against shares, times how much each counts."""
    truth = chosen_rows(table.truth, rows)
    losses = (losses_cooled if truth.ndim == 1 else log_losses)(chosen_rows(logits, rows), truth)
    return losses if table.weight is None else losses * table.weight[rows] / table.weight[rows].mean()


def on_all_classes(found: Solution, free: np.ndarray, classes: int) -> Linear:
    """The weights of the free classes as a patch of all; zeros on the others."""
    weight, bias = np.zeros((len(found.weight), classes)), np.zeros(classes)
    weight[:, free], bias[free] = found.weight, found.bias
    return Linear(weight, bias)
