"""Which patch is the best that the tables allow (METHOD 7)?

All classes are fitted jointly, with penalties and feature sets chosen by cross-validated log-loss; the
surplus of overall accuracy is then spent on the targets. Every judgement is made on logits of samples that
the weights in question were not fitted to. Where that shows no gain the answer is the bias, or the base.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from onnxtweak.goal import Goal
from onnxtweak.method.augment import overall_bias
from onnxtweak.method.fit.linear import FitCandidate, fit_linear, losses
from onnxtweak.method.fit.mlp import DECAYS, averaged, fit_mlp
from onnxtweak.method.fit.small import Budget, fit_small, fit_targets, pursue, shrink
from onnxtweak.method.folds import Folds
from onnxtweak.method.table import Table
from onnxtweak.method.tuning.target_bias import (
    BiasChoice,
    set_target_bias,
    standard_error,
)
from onnxtweak.settings import FitSettings
from onnxtweak.types import Progress, silent

# Standard errors by which a patch has to lower the held-out log-loss: several patches are tried.
_SURE = 2.0
_ALL_BIASES = "a bias for every class"
# Tried in turn where a class may not lose more than so much.
_STRENGTHS = (1.0, 0.75, 0.5, 0.25, 0.1)


@dataclass(frozen=True)
class Fitted:
    """The answer. kind : "fit", "bias" or "base". candidate : None unless "fit". bias (c,) : for the targets,
    the surplus spent. control (c,) : the best bias alone. spent : what was judged."""

    kind: str
    candidate: FitCandidate | None
    bias: np.ndarray
    control: np.ndarray
    spent: BiasChoice
    notes: tuple[str, ...]


def fit_all(
    table: Table,
    families: Mapping[str, np.ndarray],
    goal: Goal,
    settings: FitSettings,
    *,
    judged: np.ndarray | None = None,
    seed: int = 0,
    progress: Progress = silent,
) -> Fitted:
    """The best of all families of neurons, or the bias alone, or the base.

    families : name to columns of the table. settings : margin, folds, hidden and budget; the drops allowed
    are the goal's. judged (N,) bool : samples that choices may be judged on, default all.
    """
    folds = Folds.of(table.labels, settings.folds, seed, judged)
    budget = Budget.of(settings)
    if budget is None:
        tried = try_all(table, families, folds, hidden=settings.hidden, progress=progress)
    elif budget.affords(len(goal)):
        tried = try_small(table, families, goal, budget, folds)
    else:
        return _too_small(table, goal, budget, folds.judged)
    return settle(table, tried, goal, judged=folds.judged, margin=settings.margin)


def try_all(
    table: Table,
    families: Mapping[str, np.ndarray],
    folds: Folds,
    *,
    hidden: int = FitSettings.hidden,
    progress: Progress = silent,
) -> list[FitCandidate]:
    """Every candidate, fitted; the targets play no part yet.

    families : name to columns of the table. hidden : units of the MLP that is tried on the best family; 0:
    linear patches only.
    """
    linear = {_ALL_BIASES: np.empty(0, np.int64), **families}
    trainings = len(folds.numbers) + len(DECAYS) - 1 if hidden and families else 0
    progress.start("fit", len(linear) + trainings, "fits")
    tried = []
    for name, columns in linear.items():
        tried.append(fit_linear(table, columns, name, folds))
        progress.advance(1)
    if trainings:
        best = min(tried[1:], key=lambda one: one.loss)
        name = next(name for name, columns in families.items() if columns is best.columns)
        mlp = fit_mlp(table, best.columns, name, folds, hidden=hidden, progress=progress)
        tried += [mlp, averaged(best, mlp, table, folds.judged)]
    progress.finish()
    return tried


def try_small(
    table: Table, families: Mapping[str, np.ndarray], goal: Goal, budget: Budget, folds: Folds
) -> list[FitCandidate]:
    """Every candidate within the budget: for all classes where it allows that, and for the targets alone."""
    classes = len(np.unique(table.labels))
    widest = max(families.values(), key=len, default=np.empty(0, np.int64))
    tried = []
    if budget.affords(classes):
        tried.append(fit_linear(table, np.empty(0, np.int64), _ALL_BIASES, folds))
    if count := min(budget.neurons(classes), len(widest)):
        for choose, name in ((pursue, "pursuit"), (shrink, "the elastic net")):
            tried.append(fit_small(table, widest, count, folds, choose, name))
    count = min(budget.neurons(len(goal)), len(widest))
    if count and not goal.nobody_else(table.labels):
        tried.append(fit_targets(table, widest, goal.targets, count, folds))
    return tried


def settle(
    table: Table,
    tried: Sequence[FitCandidate],
    goal: Goal,
    *,
    judged: np.ndarray | None = None,
    margin: float = 1.0,
) -> Fitted:
    """The candidate of the lowest loss, its surplus spent, unless the bias alone or the base do as well.

    tried : of `try_all` or `try_small`; may be empty. Where all classes are targets nothing is spent, and
    the control is a bias for every class.
    """
    judged = np.ones(len(table.labels), bool) if judged is None else judged
    labels, base = table.labels[judged], table.Z[judged]
    everything = goal.nobody_else(table.labels)

    def operate(logits: np.ndarray) -> BiasChoice:
        return set_target_bias(logits, base, labels, goal, margin=margin)

    def learnt(one: FitCandidate) -> bool:
        """Is its log-loss on samples held out surely lower than the base's?"""
        saved = losses(base, labels) - losses(one.held_out[judged], labels)
        return bool(saved.mean() > _SURE * saved.std() / np.sqrt(len(saved)))

    control = instead = operate(base)
    believed = True
    if everything:  # the best bias for every class is the control; the answer may be the likeliest one
        control = replace(control, bias=overall_bias(base, labels, goal))
        biases = next((one for one in tried if one.name == _ALL_BIASES), None)
        if biases is not None:
            instead = replace(operate(biases.held_out[judged]), bias=biases.patch.bias[goal.targets])
            believed = learnt(biases)
            tried = [one for one in tried if one is not biases]
    was, of_target = goal.head.right(base, labels), goal.wanted(labels)
    notes = [f"fitted {one.name}: held-out log-loss {one.loss:.4f}" for one in tried]
    why = "nothing did better than the base on samples held out"
    if tried:
        best = min(tried, key=lambda one: one.loss)
        # Fitting all classes jointly may cost one of them more than is allowed; at less strength it costs
        # less.
        for strength in _STRENGTHS if goal.max_class_drop is not None else (1.0,):
            weaker = weakened(best, strength, table)
            spent = operate(weaker.held_out[judged])
            if spent.holds:
                best = weaker
                break
        notes += best.notes
        # The log-loss is the sharper witness: the target samples, which are few, have no more than a veto.
        # Where they are all right either way, all samples decide.
        ahead = int(spent.right[of_target].sum()) - int(instead.right[of_target].sum())
        better = ahead > 0 or (ahead == 0 and _gains(instead.right, spent.right, margin))
        if learnt(best) and spent.holds and better:
            notes.append(f"chosen: {best.name}")
            return Fitted("fit", best, spent.bias, control.bias, spent, tuple(notes))
        if learnt(best) and not spent.holds:
            why = "what was learnt does not keep within the drops allowed on samples held out"
    gains = _gains(was[of_target], instead.right[of_target], margin)
    if believed and instead.holds and instead.bias.any() and gains:
        notes.append("no fitted patch did better than a bias on samples held out: the answer is the bias")
        return Fitted("bias", None, instead.bias, control.bias, instead, tuple(notes))
    notes.append(f"{why}: the answer is the base")
    return Fitted("base", None, np.zeros(len(goal)), control.bias, control, tuple(notes))


def _too_small(table: Table, goal: Goal, budget: Budget, judged: np.ndarray | None) -> Fitted:
    """The answer to a budget that does not hold one number per target."""
    unlimited = replace(goal, max_overall_drop=0.0, max_class_drop=None)
    found = settle(table, [], unlimited, judged=judged)
    note = f"{budget} are less than a bias for each of {len(goal)} targets: the answer is the base"
    return Fitted("base", None, np.zeros(len(goal)), found.control, found.spent, (note,))


def weakened(one: FitCandidate, strength: float, table: Table) -> FitCandidate:
    """The candidate at part of its strength."""
    if strength == 1.0:
        return one
    held = table.Z + ((one.held_out - table.Z) * strength).astype(table.Z.dtype)
    name = f"{one.name}, at {strength:.0%} of its strength"
    return replace(one, name=name, held_out=held, learn=lambda: (one.patch.scaled(strength), one.notes))


def _gains(was: np.ndarray, now: np.ndarray, margin: float) -> bool:
    """Is the gain larger than `margin` standard errors?"""
    gain = float(now.mean() - was.mean()) if len(was) else 0.0
    return gain > margin * standard_error(was, now) and gain > 0
