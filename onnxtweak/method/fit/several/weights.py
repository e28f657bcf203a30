"""Which weights on many neurons does each label get? Logistic ones, at a ridge of its own (METHOD 17)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from onnxtweak.engine.machine.columns import either
from onnxtweak.engine.machine.large_arrays import add_rows, copied, taken
from onnxtweak.method.fit.linear import RIDGES
from onnxtweak.method.fit.several.problem import MarksProblem
from onnxtweak.method.folds import Arrays, Folds, digest_of
from onnxtweak.method.solvers.design import Design, design
from onnxtweak.method.solvers.logistic import logistic
from onnxtweak.method.solvers.multinomial import Solution
from onnxtweak.method.table import Table
from onnxtweak.patch import DensePatch, Linear

# The path of ridges ends once so many in a row have lowered no label's loss by this share of what was gained.
_PATIENCE, _WORTH = 2, 0.02
# What the solver may leave of each label's loss, in nats: while choosing, and in the end.
_COARSE, _FINE = 1e-5, 1e-7


class LabelWeights(Protocol):
    """Weights of every label. name : for notes. columns (K,) int64 : of the table, that they are on.

    held_out (N, c) : calibrated logits of each sample under weights that have not seen it. described : how
    they were fitted, for notes.
    """

    @property
    def name(self) -> str: ...
    @property
    def columns(self) -> np.ndarray: ...
    @property
    def held_out(self) -> np.ndarray: ...
    @property
    def described(self) -> str: ...

    def patch(self, problem: MarksProblem, chosen: np.ndarray) -> tuple[DensePatch, tuple[str, ...]]:
        """The patch of the chosen labels (c,) bool, fitted to all samples; and notes on fitting it."""
        ...


@dataclass(frozen=True, eq=False)
class MarksPath:
    """Weights on some columns of the table, each label at its best ridge; the rest as of `LabelWeights`."""

    name: str
    columns: np.ndarray
    design: Design
    held_out: np.ndarray
    ridge: np.ndarray

    @property
    def described(self) -> str:
        return in_ridges(self.name, self.ridge)

    def refined(self, problem: MarksProblem) -> MarksPath:
        """With every fold held out, where ridges were compared on fewer."""
        folds = problem.folds
        if len(problem.compared) == len(folds.numbers):
            return self

        def make() -> dict[str, np.ndarray]:
            held_out = held_out_marks(problem, self.design, folds, self.ridge, folds.numbers)
            return {"held_out": held_out}

        what = f"folds at {self.ridge.tolist()} of {digest_of(self.columns)}"
        return replace(self, held_out=problem.kept(what, make)["held_out"])

    def patch(self, problem: MarksProblem, chosen: np.ndarray) -> tuple[Linear, tuple[str, ...]]:
        """As of `LabelWeights`."""

        def make() -> Arrays:
            truth = problem.known_truth(np.empty(0, np.int64))
            solved = _solved(problem, self.design, truth, self.ridge, None, _FINE)
            return {"weight": solved.weight, "bias": solved.bias, "note": np.array(solved.note)}

        found = problem.kept(f"all samples at {self.ridge.tolist()} of {digest_of(self.columns)}", make)
        scale, note = chosen / problem.slope, str(found["note"])
        weight, bias = found["weight"] * scale, (found["bias"] + problem.shift) * scale
        return Linear(problem.whole(weight), problem.whole(bias)), (f"{self.name}: {note}",) if note else ()


def in_ridges(name: str, ridge: np.ndarray) -> str:
    """How weights were fitted, in words. ridge (c,) : of each label."""
    return f"{name}, ridges {ridge.min():g} to {ridge.max():g}"


def design_of_marks(table: Table, columns: np.ndarray, targets: np.ndarray) -> Design:
    """Some columns of a table made ready for solving, where problems of so many targets are."""
    xp = table.device.for_solver(len(table.labels), len(columns), len(targets))
    return design(table.T, columns, xp=xp)


def search(name: str, columns: np.ndarray, problem: MarksProblem, made: Design) -> MarksPath:
    """Each label's best ridge, from strong to weak until the held-out log-loss of none falls any more."""
    start = MarksPath(name, columns, made, problem.cool, np.full(problem.cool.shape[1], RIDGES[0]))

    def make() -> dict[str, np.ndarray]:
        path = _searched(start, problem)
        return {"held_out": path.held_out, "ridge": path.ridge}

    found = problem.kept(f"ridges of {digest_of(columns)}", make)
    return replace(start, held_out=found["held_out"], ridge=found["ridge"])


def _searched(path: MarksPath, problem: MarksProblem) -> MarksPath:
    """The path with each label at its best ridge."""
    base = problem.loss_of_labels(problem.cool, problem.counted)
    least, since, start = np.full(len(base), np.inf), 0, dict[int, Solution]()
    for ridge in RIDGES:
        logits = held_out_marks(problem, path.design, problem.folds.coarse, ridge, problem.compared, start)
        losses = problem.loss_of_labels(logits, problem.counted)
        worth = _WORTH * np.maximum(base - np.minimum(least, base), 0)
        since = 0 if (losses < least - worth).any() and np.isfinite(losses).all() else since + 1
        better = losses < least
        least = np.where(better, losses, least)
        held_out = either(better, logits, path.held_out)
        path = replace(path, held_out=held_out, ridge=np.where(better, ridge, path.ridge))
        if since == _PATIENCE:
            break
    return path


def held_out_marks(
    problem: MarksProblem,
    made: Design,
    folds: Folds,
    ridge: np.ndarray | float,
    numbers: np.ndarray,
    start: dict[int, Solution] | None = None,
) -> np.ndarray:
    """Calibrated logits (N, c) of the samples of some folds under weights fitted to all other folds.

    Those of other samples are the base's. start : solutions to begin with, by fold; the new ones are left
    there, each as large as the logits. None: there are none, and none is asked for again.
    """
    logits = copied(problem.cool)
    for k in numbers.tolist():
        rows = folds.held_out(k)
        begin = None if start is None else start.get(k)
        solved = _solved(problem, made, problem.known_truth(rows), ridge, begin, _COARSE)
        if start is not None:
            start[k] = solved
        add_rows(logits, rows, taken(solved.scores, rows), np.arange(logits.shape[1]))
    return logits


def _solved(
    problem: MarksProblem,
    made: Design,
    truth: np.ndarray,
    ridge: np.ndarray | float,
    start: Solution | None,
    tolerance: float,
) -> Solution:
    """Weights on calibrated logits. truth (N, c) : of the samples that they are fitted to, else -1."""
    weight = problem.weight
    return logistic(made, problem.cool, truth, ridge, weight=weight, start=start, tolerance=tolerance)
