"""Which patch helps one group of samples most, or the worst group (METHOD 7.5)? Its rows are weighted.

A slice is a weight for each row. The weight goes up along a path; at each step all classes are fitted jointly
as ever, and the result is judged on samples held out: it has to keep within the drops allowed, and of what
does, the patch under which the slice does best is the answer. There is no bias for a slice, for the model
does not know who belongs to it; the control is the best biases of all classes for the same goal.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from onnxtweak.errors import DataError
from onnxtweak.goal import ResolvedGoal, Slice
from onnxtweak.method.fit.candidate import FitCandidate
from onnxtweak.method.fit.fit import ALL_BIASES, STRENGTHS, Fitted, Settling, try_all
from onnxtweak.method.fit.learning import Learning
from onnxtweak.method.fit.linear import RIDGES, search_ridges
from onnxtweak.method.fit.mlp import averaged
from onnxtweak.method.folds import Folds
from onnxtweak.method.softmax import softmax
from onnxtweak.method.table import Table
from onnxtweak.method.temperature import fit_temperature
from onnxtweak.method.tuning.bias_control import overall_bias
from onnxtweak.method.tuning.target_bias import BiasChoice, standard_error
from onnxtweak.settings import FitSettings
from onnxtweak.types import Progress, silent

# How much more the rows of the slice count than others; 1 is the joint fit without groups.
WEIGHTS = (2.0, 5.0, 10.0, 20.0)
# Ridges that are tried on either side of the last weight's best.
_NEAR = 2


def fit_slice(
    learning: Learning,
    families: Mapping[str, np.ndarray],
    goal: ResolvedGoal,
    settings: FitSettings,
    *,
    seed: int = 0,
    progress: Progress = silent,
) -> Fitted:
    """The patch under which the goal's slice does best, or biases of all classes, or the base.

    learning : with `slices`. The rest as of `fit_all`. Raises DataError for a slice without a judged sample.
    """
    table = learning.table
    folds = learning.folds(settings.folds, seed)
    plain = [
        candidate
        for candidate in try_all(learning, families, folds, hidden=settings.hidden, progress=progress)
        if candidate.name != ALL_BIASES
    ]
    settling = _SliceSettling(table, goal, folds.judged, settings.margin)
    if not settling.of_target.any():
        raise DataError(
            f"the slice {goal.slice} has no sample to judge by",
            where="--slice",
            hint="give more samples of it; --val names those that choices are judged on",
        )
    fallback = settling.biases(folds)
    notes = []
    tried = [*plain, *_weighted(learning, goal, folds, plain, progress)]
    best: _Tried | None = None
    for candidate in tried:
        weaker, choice = settling.within_limits(candidate)
        found = _Tried(weaker, choice, settling.rating(weaker.held_out[folds.judged] + choice.bias))
        notes.append(f"{weaker.name}: {settling.said(choice)}")
        if settling.keeps(choice) and (best is None or found.rating > best.rating):
            best = found
    notes.append(f"biases of all classes: {settling.said(fallback)}")
    if best is not None and settling.gains(best.choice) and settling.ahead(best.choice, fallback):
        name, control = best.candidate.name, fallback.bias
        notes += [*best.candidate.notes, f"chosen: {name}"]
        return Fitted("fit", best.candidate, best.choice.bias, control, best.choice, tuple(notes))
    if fallback.holds and fallback.bias.any() and settling.gains(fallback):
        notes.append("no fitted patch helped the slice more than biases on samples held out")
        return Fitted("bias", None, fallback.bias, fallback.bias, fallback, tuple(notes))
    notes.append("nothing helped the slice within the drops allowed on samples held out: the base is kept")
    return Fitted("base", None, np.zeros(table.Z.shape[1]), fallback.bias, fallback, tuple(notes))


@dataclass(frozen=True)
class _Tried:
    """A candidate that keeps the limits, its biases, and how well the slice does under both."""

    candidate: FitCandidate
    choice: BiasChoice
    rating: float


def _weighted(
    learning: Learning, goal: ResolvedGoal, folds: Folds, plain: Sequence[FitCandidate], progress: Progress
) -> list[FitCandidate]:
    """Linear patches on the best family of neurons, the slice weighted ever more. plain : unweighted."""
    columns = plain[0].columns if plain else np.empty(0, np.int64)
    if not len(columns):
        return []
    cool, temperature = learning.cooled(folds)
    cooled, of_rows = cool.rows(folds)
    right = goal.head.right(cooled.Z, cooled.labels)
    found: list[FitCandidate] = []
    ridges: Sequence[float] = RIDGES
    progress.start("weigh the slice", len(WEIGHTS), "fits")
    for weight in WEIGHTS:
        rows = replace(cooled, weight=_slice_of(goal).weights(_codes(cooled), right, weight))
        family = plain[0].name.rpartition(", ridge")[0] or plain[0].name
        path = search_ridges(
            rows, columns, f"{family}, the slice weighted {weight:g}", of_rows, ridges=ridges
        )
        found.append(path.candidate().warmed(temperature).of_first(len(folds.number)))
        place = RIDGES.index(path.ridge)  # the next weight's best is not far from it
        ridges = RIDGES[max(place - _NEAR, 0) : place + _NEAR + 1]
        progress.advance(1)
    progress.finish()
    # The hidden layer knows more of all samples, the weighted patch more of the slice.
    mlps = [candidate for candidate in plain if "hidden units, decay" in candidate.name][:1]
    return found + [
        averaged(linear, mlp, learning.table.labels, folds.judged) for mlp in mlps for linear in found
    ]


class _SliceSettling(Settling):
    """Which candidate is the answer for a slice."""

    def __init__(self, table: Table, goal: ResolvedGoal, judged: np.ndarray, margin: float) -> None:
        super().__init__(table, goal, judged, margin, only_targets=False)
        self.slice, self.codes = _slice_of(goal), _codes(table)[judged]
        self.of_target = self.codes == self.slice.wanted

    @property
    def strengths(self) -> tuple[float, ...]:
        """All, for the limit on the whole too: a slice may be bought with it."""
        return STRENGTHS

    def rating(self, logits: np.ndarray) -> float:
        """How well the slice does under logits of the judged samples: the share that is right, made smooth.

        Half by labels and half by calibrated probabilities: of few samples one more or less says little.
        """
        p = softmax((logits / fit_temperature(logits, self.labels)).astype(np.float64))
        own = p[np.arange(len(self.labels)), self.labels]
        right = self.goal.head.right(logits, self.labels)
        return self.slice.rating(self.codes, (own + right) / 2)

    def keeps(self, choice: BiasChoice) -> bool:
        """Are all limits kept, that of each group too?"""
        return choice.holds and self._groups_hold(choice.right)

    def biases(self, folds: Folds) -> BiasChoice:
        """The best biases of all classes for the slice within the limits: the control.

        The weight of the slice, and the strength, are chosen by samples held out from the biases, as for
        patches: else a patch that does nothing but shift classes would look better than they do.
        """
        number = folds.coarse.number[self.judged]
        best, best_rating = self.with_bias(self.base), self.rating(self.base)
        for weight in (1.0, *WEIGHTS):
            counted = np.rint(self.slice.weights(self.codes, self.was, weight)).astype(np.int64)
            bias = overall_bias(self.base, self.labels, self.goal, counted)
            shifts = np.zeros_like(self.base)
            for k in np.unique(number):
                rest = number != k
                shifts[~rest] = overall_bias(self.base[rest], self.labels[rest], self.goal, counted[rest])
            for strength in STRENGTHS:
                fitted = self.base + (bias * strength).astype(self.base.dtype)
                if not self._with(best, bias * strength, fitted).holds:
                    continue  # on new samples it would be no better
                held_out = self.base + (shifts * strength).astype(self.base.dtype)
                found, rating = self._with(best, bias * strength, held_out), self.rating(held_out)
                if found.holds and (rating > best_rating or not best.holds):
                    best, best_rating = found, rating
        return best

    def _with(self, choice: BiasChoice, bias: np.ndarray, logits: np.ndarray) -> BiasChoice:
        """A choice of other biases (C,), judged by these logits. choice : whose trials are kept."""
        right = self.goal.head.right(logits, self.labels)
        gained = float(right.mean() - self.was.mean()) + self.goal.max_overall_drop / 100
        holds = gained >= self.margin * standard_error(self.was, right) - 1e-12
        holds = holds and self.goal.classes_hold(self.was, right, self.labels, logits.shape[1])
        found = replace(choice, bias=bias, right=right, holds=holds)
        return replace(found, holds=self.keeps(found))

    def said(self, choice: BiasChoice) -> str:
        """How the slice and all samples did when they were held out, against the base, for notes."""
        parts = [
            f"{name} {self.was[rows].mean():.1%} -> {choice.right[rows].mean():.1%}"
            for name, rows in ((str(self.slice), self.of_target), ("overall", np.ones(len(self.was), bool)))
        ]
        return f"held out, {', '.join(parts)}{'' if self.keeps(choice) else '; more is lost than allowed'}"

    def _groups_hold(self, right: np.ndarray) -> bool:
        """Whether no group loses more than a class may."""
        allowed = self.goal.max_class_drop
        if allowed is None:
            return True
        lost = self.slice.accuracies(self.codes, self.was) - self.slice.accuracies(self.codes, right)
        return bool(lost.max() <= allowed / 100 + 1e-12)


def _slice_of(goal: ResolvedGoal) -> Slice:
    assert goal.slice is not None  # this is what is fitted for
    return goal.slice


def _codes(table: Table) -> np.ndarray:
    assert table.slices is not None
    return table.slices
