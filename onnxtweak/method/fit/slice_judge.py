"""How well does one group of samples do, or the worst group, under a candidate of `fit` (METHOD 7.5)?

There is no bias for a slice, for the model does not know who belongs to it; the control is the best biases of
all classes for the same goal.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from onnxtweak.engine.machine.large_arrays import by_rows, chosen_rows
from onnxtweak.errors import DataError
from onnxtweak.goal import ResolvedGoal
from onnxtweak.method.fit.candidate import FitCandidate
from onnxtweak.method.fit.fit import STRENGTHS
from onnxtweak.method.fit.weighted import WEIGHTS, GoalJudge, Judged
from onnxtweak.method.folds import Folds
from onnxtweak.method.softmax import softmax
from onnxtweak.method.table import Table
from onnxtweak.method.temperature import fit_temperature
from onnxtweak.method.tuning.bias_control import overall_bias
from onnxtweak.method.tuning.target_bias import BiasChoice


class SliceJudge(GoalJudge):
    """What a slice thinks of candidates."""

    what = "the slice"

    def __init__(self, table: Table, goal: ResolvedGoal, folds: Folds, margin: float) -> None:
        """table : with `slices`. Raises DataError for a slice without a judged sample."""
        super().__init__(table, goal, folds, margin)
        assert goal.slice is not None  # this is what is fitted for
        self.slice, self.codes = goal.slice, _codes(table)[folds.judged]
        self.of_target = self.codes == self.slice.wanted
        if not self.of_target.any():
            raise DataError(
                f"the slice {goal.slice} has no sample to judge by",
                where="--slice",
                hint="give more samples of it; --val names those that choices are judged on",
            )

    @property
    def strengths(self) -> tuple[float, ...]:
        """All, for the limit on the whole too: a slice may be bought with it."""
        return STRENGTHS

    def need(self, table: Table) -> np.ndarray:
        right = by_rows(self.goal.head.right, table.Z, table.labels)
        return self.slice.need(_codes(table), right)

    def judged_at_best(self, candidate: FitCandidate) -> Judged:
        weaker, choice = self.within_limits(candidate)
        Z = by_rows(lambda Z: Z + choice.bias.astype(Z.dtype), self._judged(weaker))
        return Judged(weaker, choice, self.rating(Z), Z)

    def rating(self, logits: np.ndarray) -> float:
        """How well the slice does under logits of the judged samples: the share that is right, made smooth.

        Half by labels and half by calibrated probabilities: of few samples one more or less says little.
        """
        temperature = fit_temperature(logits, self.labels)

        def of_label(Z: np.ndarray, labels: np.ndarray) -> np.ndarray:
            p: np.ndarray = softmax((Z / temperature).astype(np.float64))
            return p[np.arange(len(labels)), labels]

        own = by_rows(of_label, logits, self.labels)
        right = by_rows(self.goal.head.right, logits, self.labels)
        return self.slice.rating(self.codes, (own + right) / 2)

    def keeps(self, choice: BiasChoice) -> bool:
        """Are all limits kept, that of each group too?"""
        return choice.holds and self._groups_hold(choice.right)

    def gains_surely(self, one: Judged) -> bool:
        return self.gains(one.choice)

    def ahead_of(self, one: Judged, control: Judged) -> bool:
        return self.ahead(one.choice, control.choice)

    def biases(self) -> Judged:
        """The best biases of all classes for the slice within the limits.

        The weight of the slice, and the strength, are chosen by samples held out from the biases, as for
        patches: else a patch that does nothing but shift classes would look better than they do.
        """
        best = Judged(None, self.with_bias(self.base), self.rating(self.base), self.base)
        need = self.slice.need(self.codes, self.was)
        for weight in (1.0, *WEIGHTS):
            counted = np.rint(weight**need).astype(np.int64)
            bias = overall_bias(self.base, self.labels, self.goal, counted, self.known)
            numbers, fold = np.unique(self.fold, return_inverse=True)
            shifts = np.zeros((len(numbers), len(bias)), self.base.dtype)
            for place, k in enumerate(numbers):
                rest = self.fold != k
                own = chosen_rows(self.base, rest), self.labels[rest], self.goal, counted[rest]
                shifts[place] = overall_bias(*own, self.known)
            for strength in STRENGTHS:
                each = (bias * strength).astype(self.base.dtype), (shifts * strength).astype(self.base.dtype)
                fitted = by_rows(lambda Z, shift=each[0]: Z + shift, self.base)
                if not self._with(best.choice, bias * strength, fitted).holds:
                    continue  # on new samples it would be no better
                held_out = by_rows(lambda Z, own, shift=each[1]: Z + shift[own], self.base, fold)
                found = self._with(best.choice, bias * strength, held_out)
                rating = self.rating(held_out)
                if found.holds and (rating > best.rating or not best.choice.holds):
                    best = Judged(None, found, rating, held_out)
        return best

    def _with(self, choice: BiasChoice, bias: np.ndarray, logits: np.ndarray) -> BiasChoice:
        """A choice of other biases (C,), judged by these logits. choice : whose trials are kept."""
        right = by_rows(self.goal.head.right, logits, self.labels)
        gained = float(right.mean() - self.was.mean()) + self.goal.max_overall_drop / 100
        holds = gained >= self.margin * self.error(self.was, right) - 1e-12
        holds = holds and self.goal.classes_hold(self.was, right, self.labels, logits.shape[1])
        found = replace(choice, bias=bias, right=right, holds=holds)
        return replace(found, holds=self.keeps(found))

    def said(self, one: Judged) -> str:
        """How the slice and all samples did when they were held out, against the base."""
        parts = [
            f"{name} {self.was[rows].mean():.1%} -> {one.choice.right[rows].mean():.1%}"
            for name, rows in ((str(self.slice), self.of_target), ("overall", np.ones(len(self.was), bool)))
        ]
        limits = "" if self.keeps(one.choice) else "; more is lost than allowed"
        return f"held out, {', '.join(parts)}{limits}"

    def _groups_hold(self, right: np.ndarray) -> bool:
        """Whether no group loses more than a class may."""
        allowed = self.goal.max_class_drop
        if allowed is None:
            return True
        lost = self.slice.accuracies(self.codes, self.was) - self.slice.accuracies(self.codes, right)
        return bool(lost.max() <= allowed / 100 + 1e-12)


def _codes(table: Table) -> np.ndarray:
    assert table.slices is not None
    return table.slices
