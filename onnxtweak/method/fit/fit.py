"""Which patch is the best that the tables allow? Joint fit, then bias, or less (METHOD 7).

All classes are fitted jointly, with penalties and sets of neurons chosen by cross-validated log-loss; the
surplus of overall accuracy is then spent on the targets. Every judgement is made on logits of samples that
the weights in question were not fitted to. Where that shows no gain the answer is the bias, or the base.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from weakref import WeakKeyDictionary

import numpy as np

from onnxtweak.engine.machine.large_arrays import by_rows, chosen_rows
from onnxtweak.goal import ResolvedGoal
from onnxtweak.method.fit.candidate import ALL_BIASES, WORTH_HIDDEN, FitCandidate, simplest, weakened
from onnxtweak.method.fit.learning import Learning
from onnxtweak.method.fit.linear import LinearPath, fit_linear, search_ridges
from onnxtweak.method.fit.mlp import fit_mlp
from onnxtweak.method.fit.positions.context import search_with_context
from onnxtweak.method.fit.positions.places import with_own_weights
from onnxtweak.method.fit.small import Budget, try_small
from onnxtweak.method.fit.trainings import DECAYS
from onnxtweak.method.folds import Arrays, Folds, in_full, kept_of
from onnxtweak.method.table import Table
from onnxtweak.method.temperature import fit_temperature, losses_cooled
from onnxtweak.method.tuning.bias_control import overall_bias
from onnxtweak.method.tuning.target_bias import BiasChoice, error_of_mean, set_target_bias, standard_error
from onnxtweak.patch import DensePatch, bias_patch
from onnxtweak.settings import FitSettings
from onnxtweak.types import Progress, silent

# Standard errors by which a patch has to lower the held-out log-loss. With two, a few hundred samples led to
# the base more often, and no promise was kept better: the limits have margins of their own.
_SURE = 1.0
# Strengths of a patch, tried in turn where there is a limit on what a class may lose.
STRENGTHS = (1.0, 0.75, 0.5, 0.25, 0.1)


@dataclass(frozen=True)
class Fitted:
    """The answer. kind : "fit", "bias" or "base". candidate : None unless "fit".

    bias (C,) : which spends the surplus. control (C,) : the best biases alone. choice : how the
    answer's bias was chosen, and what it did on the judged samples.
    """

    kind: str
    candidate: FitCandidate | None
    bias: np.ndarray
    control: np.ndarray
    choice: BiasChoice
    notes: tuple[str, ...]

    @property
    def patch(self) -> tuple[np.ndarray, DensePatch | None]:
        """Columns of the table that the patch reads, and the patch; None for the base.

        Neurons without weight are left out.
        """
        if self.candidate is None:
            return np.empty(0, np.int64), bias_patch(self.bias) if self.kind == "bias" else None
        used, patch = self.candidate.patch.on_used_neurons()
        return self.candidate.columns[used], patch.with_bias(self.bias)


def fit_all(
    learning: Learning,
    families: Mapping[str, np.ndarray],
    goal: ResolvedGoal,
    settings: FitSettings,
    *,
    seed: int = 0,
    progress: Progress = silent,
) -> Fitted:
    """The best of all families of neurons, or the bias alone, or the base.

    families : name to columns of the table. The drops allowed are the goal's, not those of the settings.
    """
    folds = learning.folds(settings.folds, seed)
    budget = Budget.of(settings)
    if budget is None:
        tried = try_all(learning, families, folds, hidden=settings.hidden, progress=progress)
    elif budget.affords(len(goal)):
        tried = try_small(learning, families, goal, budget, folds)
    else:
        return _too_small(learning.table, goal, budget, folds)
    return settle(learning.table, tried, goal, folds=folds, margin=settings.margin, budget=budget)


def try_all(
    learning: Learning,
    families: Mapping[str, np.ndarray],
    folds: Folds,
    *,
    hidden: int = FitSettings.hidden,
    progress: Progress = silent,
) -> list[FitCandidate]:
    """Every candidate of unlimited size, as of `try_on_path`."""
    return try_on_path(learning, families, folds, hidden=hidden, progress=progress)[0]


def try_on_path(
    learning: Learning,
    families: Mapping[str, np.ndarray],
    folds: Folds,
    *,
    hidden: int,
    always: bool = False,
    progress: Progress = silent,
) -> tuple[list[FitCandidate], LinearPath | None]:
    """Every candidate, cross-validated, and the best family's path, calibrated; targets play no part yet.

    families : name to columns of the table, from few to many. hidden : units of the MLP that is tried on the
    best family; 0: linear patches only. always : as of `fit_mlp`.
    """
    learning, temperature = learning.cooled(folds)
    trainings = len(folds.coarse.numbers) + len(DECAYS) - 1 if hidden and families else 0
    progress.start("fit", len(families) + 1 + trainings, "fits")
    tried = [fit_linear(learning.table, np.empty(0, np.int64), ALL_BIASES, folds)]
    progress.advance(1)
    path = None
    if families:
        best, losses = _best_path(learning, families, folds, progress)
        linear, path = best.crossed(losses)
        tried.append(linear)
        if hidden:
            tried += fit_mlp(path, linear, hidden=hidden, always=always, progress=progress)
    tried = with_own_weights(learning.table, tried, folds)
    progress.finish()
    return [candidate.warmed(temperature).of_first(len(folds.number)) for candidate in tried], path


def _best_path(
    learning: Learning, families: Mapping[str, np.ndarray], folds: Folds, progress: Progress
) -> tuple[LinearPath, dict[str, float]]:
    """The smallest family that does as well as any, and the loss of each that was tried.

    Where they may, mirrored copies are learnt from too, if that lowers the loss.
    """
    rows, of_rows = learning.rows(folds)
    best, paths = search_with_context(rows, families, of_rows, progress)
    if learning.copies is not None and not learning.always:
        rows, of_rows = learning.with_copies(folds)
        paths.append(search_ridges(rows, best.columns, f"{best.name}, mirrored too", of_rows))
        best = paths[-1] if paths[-1].loss < best.loss else best
    return best, {path.described: path.loss for path in paths}


def settle(
    table: Table,
    tried: Sequence[FitCandidate],
    goal: ResolvedGoal,
    *,
    folds: Folds | None = None,
    margin: float = 1.0,
    budget: Budget | None = None,
) -> Fitted:
    """The best candidate, its surplus spent, unless biases alone or the base do as well.

    tried : of `try_all` or `try_small`, from simple to complex; may be empty. Where all classes are targets
    nothing is spent. folds : None: all samples are judged on. budget : within one, only targets get biases.
    """
    folds = folds or Folds(np.zeros(len(table.labels), np.int64), np.ones(len(table.labels), bool))
    settling = Settling(table, goal, folds, margin, only_targets=budget is not None)
    patches = [candidate for candidate in tried if candidate.name != ALL_BIASES]
    biases = next((candidate for candidate in tried if candidate.name == ALL_BIASES), None)
    fallback = settling.biases_alone(biases)
    notes = [f"fitted {candidate.name}: held-out log-loss {candidate.loss:.4f}" for candidate in tried]
    notes += [f"not chosen: {other}" for candidate in tried for other in candidate.behind]
    why = "nothing did better than the base on samples held out"
    if patches:
        best, choice = settling.within_limits(settling.simplest(patches))
        notes += best.notes
        learnt = settling.learnt(best, biases)
        sharper = partial(settling.sharper, best, biases)
        if learnt and choice.holds and settling.ahead(choice, fallback, sharper):
            notes.append(f"chosen: {best.name}")
            return Fitted("fit", best, choice.bias, fallback.bias, choice, tuple(notes))
        if learnt and not choice.holds:
            why = "what was learnt does not keep within the drops allowed on samples held out"
    if fallback.holds and fallback.bias.any() and settling.gains(fallback):
        notes.append("no fitted patch did better than a bias on samples held out: the answer is the bias")
        return Fitted("bias", None, fallback.bias, fallback.bias, fallback, tuple(notes))
    notes.append(f"{why}: the answer is the base")
    return Fitted("base", None, np.zeros(table.Z.shape[1]), fallback.bias, fallback, tuple(notes))


class Settling:
    """Which candidate is the answer, judged on samples that its weights have not seen."""

    def __init__(
        self, table: Table, goal: ResolvedGoal, folds: Folds, margin: float, *, only_targets: bool
    ) -> None:
        self.table, self.goal, self.margin, self.only_targets = table, goal, margin, only_targets
        self.known, self.judged = folds.kept, folds.judged  # what an earlier run made
        self._known_losses: WeakKeyDictionary[FitCandidate, np.ndarray] = WeakKeyDictionary()
        self.labels, self.base = table.labels[self.judged], chosen_rows(table.Z, self.judged)
        self.temperature = fit_temperature(self.base, self.labels)
        self.base_losses = self._losses(self.base)
        self.was = by_rows(goal.head.right, self.base, self.labels)
        self.of_target = goal.wanted(self.labels)
        self.kept = None if table.kept is None else table.kept[self.judged]
        self.groups = None if table.groups is None else table.groups[self.judged]

    def with_bias(self, logits: np.ndarray) -> BiasChoice:
        """The best biases on top of logits of the judged samples."""
        given, only = (logits, self.base, self.labels), self.only_targets

        def made() -> Arrays:
            found = set_target_bias(
                *given, self.goal, margin=self.margin, only_targets=only, groups=self.groups
            )
            return found.arrays

        what = f"biases of {in_full(self.goal)}, margin {self.margin}, only targets: {only}"
        kept = kept_of(self.known, what, (*given, self.groups), made)
        found = BiasChoice.of_arrays(kept)
        return replace(found, holds=found.holds and self._kept_hold(found.right))

    def error(self, was: np.ndarray, now: np.ndarray, of: np.ndarray | None = None) -> float:
        """Standard error of a difference between two accuracies; samples of one group count as they are.

        was, now (n,) bool : of the judged samples, or of some of them, (N,) bool `of`.
        """
        groups = self.groups if self.groups is None or of is None else self.groups[of]
        return standard_error(was, now, groups)

    def _kept_hold(self, right: np.ndarray) -> bool:
        """Whether no more of the kept samples are decided otherwise than a class may lose."""
        if self.kept is None or self.goal.max_class_drop is None or not self.kept.any():
            return True
        return float((~right[self.kept]).mean()) <= self.goal.max_class_drop / 100 + 1e-12

    def biases_alone(self, biases: FitCandidate | None) -> BiasChoice:
        """The best that biases do without a neuron. biases : the candidate with one for every class."""
        control = self.with_bias(self.base)
        if self.goal.all_are_targets(self.table.labels):
            control = replace(control, bias=overall_bias(self.base, self.labels, self.goal, None, self.known))
        if biases is None or not self.learnt(biases):
            return control
        weaker, choice = self.within_limits(biases)
        bias = weaker.patch.output_bias
        assert bias is not None  # which is all that the candidate has
        choice = replace(choice, bias=choice.bias + bias)
        if self.goal.all_are_targets(self.table.labels):
            return choice
        return choice if choice.holds and self.ahead(choice, control) else control

    def simplest(self, candidates: Sequence[FitCandidate]) -> FitCandidate:
        """The simplest of those, from simple to complex, whose log-loss is about the lowest."""
        losses = list(map(self._losses_of, candidates))
        return candidates[simplest(losses, self.base_losses, WORTH_HIDDEN)]

    @property
    def strengths(self) -> tuple[float, ...]:
        """At which a patch is tried: at less where there is a limit on what a class may lose."""
        return STRENGTHS if self.goal.max_class_drop is not None else STRENGTHS[:1]

    def keeps(self, choice: BiasChoice) -> bool:
        """Are all limits kept?"""
        return choice.holds

    def within_limits(self, candidate: FitCandidate) -> tuple[FitCandidate, BiasChoice]:
        """The candidate and its biases, at the most strength that keeps all limits; whole if none does."""
        tried = []
        for strength in self.strengths:
            weaker = weakened(candidate, strength, self.table)
            tried.append(self.with_bias(self._judged(weaker)))
            if self.keeps(tried[-1]):
                return weaker, tried[-1]
        return candidate, tried[0]

    def learnt(self, candidate: FitCandidate, biases: FitCandidate | None = None) -> bool:
        """Is its log-loss on samples held out surely lower than the calibrated base's?

        biases : what calibrates it beside the temperature; where that pays, the loss has to be lower still.
        """
        losses = self._losses_of(candidate)
        if not self._surely_lower(losses, self.base_losses):
            return False
        if biases is None or not self.learnt(biases):
            return True
        return bool(losses.mean() < self._losses_of(biases).mean())

    def sharper(self, candidate: FitCandidate, biases: FitCandidate | None) -> bool:
        """Is its log-loss surely lower than with biases alone, too?"""
        better = biases is not None and self.learnt(biases)
        alone = self._losses_of(biases) if biases and better else self.base_losses
        return self._surely_lower(self._losses_of(candidate), alone)

    def _surely_lower(self, losses: np.ndarray, others: np.ndarray) -> bool:
        saved = others - losses
        return bool(saved.mean() > _SURE * error_of_mean(saved, self.groups))

    def ahead(
        self, choice: BiasChoice, fallback: BiasChoice, sharper: Callable[[], bool] | None = None
    ) -> bool:
        """Are more target samples right than under biases alone? sharper : asked if equally many are."""
        right, other = choice.right, fallback.right if fallback.holds else self.was
        # The log-loss is the sharper test: the target samples, which are few, have a veto only. Where they do
        # not surely do worse, all samples decide; one sample makes nothing sure.
        own = self.of_target
        before, under_bias, now = (int(one[own].sum()) for one in (self.was, other, right))
        if now > under_bias or (now == under_bias > before and sharper is not None and sharper()):
            return True
        sure = self.margin * self.error(other[own], right[own], own) * np.count_nonzero(own)
        return bool(under_bias - now <= 1 + sure) and self._surely(other, right)

    def gains(self, choice: BiasChoice) -> bool:
        """Are surely more target samples right than under the base?"""
        own = self.of_target
        return self._surely(self.was[own], choice.right[own], own)

    def _surely(self, was: np.ndarray, now: np.ndarray, of: np.ndarray | None = None) -> bool:
        """Is the gain larger than the margin? was, now, of : as of `error`."""
        gain = float(now.mean() - was.mean()) if len(was) else 0.0
        return gain > 0 and gain > self.margin * self.error(was, now, of)

    def _losses_of(self, candidate: FitCandidate) -> np.ndarray:
        """Log-loss (n,) of the judged samples, held out, made once: it reads all logits."""
        if candidate not in self._known_losses:
            self._known_losses[candidate] = self._losses(self._judged(candidate))
        return self._known_losses[candidate]

    def _losses(self, logits: np.ndarray) -> np.ndarray:
        return losses_cooled(logits, self.labels, self.temperature)

    def _judged(self, candidate: FitCandidate) -> np.ndarray:
        """Logits of the judged samples, held out."""
        return chosen_rows(candidate.held_out, self.judged)


def _too_small(table: Table, goal: ResolvedGoal, budget: Budget, folds: Folds) -> Fitted:
    """The answer to a budget that does not cover a bias for each target: the base."""
    unlimited = replace(goal, max_overall_drop=0.0, max_class_drop=None)
    found = settle(table, [], unlimited, folds=folds, budget=budget)
    note = (
        f"a budget of {budget} does not cover a bias for each of {len(goal)} targets: the answer is the base"
    )
    return Fitted("base", None, np.zeros(table.Z.shape[1]), found.control, found.choice, (note,))
