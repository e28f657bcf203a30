"""Which methods are compared, and what does each make of one split (METHOD 8)?

A method is a function from `CompareInputs` to `MethodResult`; to add one, write it and name it in `METHODS`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from onnxtweak.engine.machine.large_arrays import by_rows, taken
from onnxtweak.errors import ModelError
from onnxtweak.goal import ResolvedGoal
from onnxtweak.method.augment import train_calibrated
from onnxtweak.method.compare import controls, synapse_methods
from onnxtweak.method.compare.comparison import MethodResult
from onnxtweak.method.compare.inputs import CompareInputs
from onnxtweak.method.compare.repair import repair
from onnxtweak.method.fit.by_goal import fit_goal
from onnxtweak.method.fit.fit import Fitted
from onnxtweak.method.fit.linear import fit_linear
from onnxtweak.method.folds import one_in
from onnxtweak.method.table import Table
from onnxtweak.method.tuning.bias_control import overall_bias
from onnxtweak.patch import bias_patch
from onnxtweak.settings import AugmentSettings


def try_fit(inputs: CompareInputs) -> MethodResult:
    """Fit, which falls back to the bias or the base."""
    found = fit_goal(inputs.learning, inputs.families, inputs.goal, inputs.settings, seed=inputs.seed)
    return result_of_fit(inputs.learning.table, found, inputs.goal)


def result_of_fit(table: Table, found: Fitted, goal: ResolvedGoal) -> MethodResult:
    """What fit settled on; its operating point is part of it.

    Biases of targets are that point, and other readings move them; biases of other classes are the patch's.
    """
    chosen, point = found.candidate, np.zeros(table.Z.shape[1])
    point[goal.targets] = found.bias[goal.targets]
    lasting = found.bias - point
    columns = np.empty(0, np.int64) if chosen is None else chosen.columns
    patch = bias_patch(lasting) if chosen is None else chosen.patch.with_bias(lasting)
    held_out = table.Z if chosen is None else chosen.held_out
    if lasting.any():  # never with several labels at once, where these are the targets' logits alone
        held_out = by_rows(lambda Z: Z + lasting.astype(Z.dtype), held_out)
    return MethodResult(columns, patch, held_out, table.Z, table.labels, point, note=found.notes[-1])


def try_bias(inputs: CompareInputs) -> MethodResult:
    """The best bias per target: calibrated stacking, set exactly; of all classes for the overall accuracy."""
    if inputs.goal.head.several or not inputs.all_are_targets:
        return _on_logits(inputs, np.zeros(inputs.classes))
    table = inputs.fit_and_validation.rows(np.flatnonzero(inputs.judged))
    return _on_logits(inputs, overall_bias(table.Z, table.labels, inputs.goal))


def try_logit_adjustment(inputs: CompareInputs) -> MethodResult:
    """-tau log prior on every class, then the bias."""
    return _on_logits(inputs, controls.logit_adjustment(inputs.fit, inputs.validation, inputs.goal.head).bias)


def try_all_class_bias(inputs: CompareInputs) -> MethodResult:
    """A bias for every class by log-loss on calibrated logits, then the targets' bias."""
    return _linear(inputs, np.empty(0, np.int64), "a bias for every class")


def try_repair(inputs: CompareInputs) -> MethodResult:
    """The classes at the top ranked anew by how they compare, then the bias."""
    found = repair(inputs.fit, inputs.validation, inputs.temperature)
    return inputs.result(np.empty(0, np.int64), found)


def try_tau_norm(inputs: CompareInputs) -> MethodResult:
    """The last layer's weights normalised, then the bias."""
    last = inputs.last_layer
    return inputs.result(last.columns, controls.tau_norm(last.layer, last.validation, inputs.goal.head))


def try_lws(inputs: CompareInputs) -> MethodResult:
    """A learnt scale per class, then the bias."""
    last = inputs.last_layer
    return inputs.result(last.columns, controls.learnable_scale(last.layer, last.fit))


def try_crt(inputs: CompareInputs) -> MethodResult:
    """The last layer fitted anew on class-balanced samples, then the bias."""
    last = inputs.last_layer
    return inputs.result(last.columns, controls.classifier_retrained(last.layer, last.fit, last.validation))


def try_dfr(inputs: CompareInputs) -> MethodResult:
    """Deep feature reweighting on one half of validation, then the bias, set on the other half."""
    last = inputs.last_layer
    half = one_in(2, inputs.validation.labels, inputs.seed, inputs.validation.groups)
    learn, rest = (inputs.validation.rows(np.flatnonzero(rows)) for rows in (half, ~half))
    patch = controls.deep_feature_reweighting(last.layer, learn.columns(last.columns), inputs.seed)
    held_out = rest.patched(last.columns, patch)
    return MethodResult(last.columns, patch, held_out, rest.Z, rest.labels, groups=rest.groups)


def try_random(inputs: CompareInputs) -> MethodResult:
    """As many random neurons as the join may use, fitted for all classes: does choosing matter?"""
    note = f"{len(inputs.random)} neurons"
    if inputs.goal.head.several:
        family = {"random": inputs.random}
        found = fit_goal(inputs.learning, family, inputs.goal, inputs.settings, seed=inputs.seed)
        return replace(result_of_fit(inputs.learning.table, found, inputs.goal), note=note)
    return replace(_linear(inputs, inputs.random, "random"), note=note)


def try_aan(inputs: CompareInputs) -> MethodResult:
    """Augmentation with active neurons of all classes, then the bias."""
    if inputs.active is None:
        raise ModelError("too many classes to score neurons for all of them here")
    fit, validation = (split.columns(inputs.active) for split in (inputs.fit, inputs.validation))
    found = train_calibrated(fit, validation, inputs.goal, AugmentSettings(), seed=inputs.seed)
    return inputs.result(inputs.active, found.patch)


METHODS: dict[str, Callable[[CompareInputs], MethodResult]] = {
    "bias": try_bias,
    "all-class bias": try_all_class_bias,
    "logit adjustment": try_logit_adjustment,
    "REPAIR": try_repair,
    "tau-norm": try_tau_norm,
    "LWS": try_lws,
    "cRT": try_crt,
    "DFR": try_dfr,
    "join": synapse_methods.try_join,
    "join + bias": synapse_methods.try_join_and_bias,
    "SR-1": synapse_methods.try_sr1,
    "SR-2": synapse_methods.try_sr2,
    "schedule": synapse_methods.try_schedule,
    "OMP-n": synapse_methods.try_pursuit,
    "random-n refit": try_random,
    "AAN": try_aan,
    "fit": try_fit,
}


# Those that a model without hidden tensors can have: they change logits alone.
WITHOUT_NEURONS = frozenset({"bias", "all-class bias", "logit adjustment", "REPAIR", "fit"})
# Those that several labels at once can have: others weigh one class against another.
OF_EACH_LABEL = frozenset(
    {"bias", "join", "join + bias", "SR-1", "SR-2", "schedule", "OMP-n", "random-n refit", "AAN", "fit"}
)
BETWEEN_CLASSES = "it weighs one class against another, and of several labels each is decided by itself"
# Those whose result is no patch, and cannot be written into a model.
NOT_WRITTEN = frozenset({"REPAIR"})


def _linear(inputs: CompareInputs, columns: np.ndarray, name: str) -> MethodResult:
    """A linear patch of all classes on some columns, which may be none; all samples are held out once."""
    table, temperature = inputs.fit_and_validation, inputs.temperature
    folds = inputs.learning.folds(inputs.settings.folds, inputs.seed)
    found = fit_linear(table.cooled(temperature), columns, name, folds).warmed(temperature)
    rows = np.flatnonzero(inputs.judged)
    own = table.rows(rows)
    return MethodResult(
        found.columns, found.patch, taken(found.held_out, rows), own.Z, own.labels, groups=own.groups
    )


def _on_logits(inputs: CompareInputs, shift: np.ndarray) -> MethodResult:
    """A bias for every class (C,); all samples that may be judged on are held out."""
    table = inputs.fit_and_validation
    own, none = table.rows(np.flatnonzero(inputs.judged)), np.empty(0, np.int64)
    shifted = by_rows(lambda Z: Z + shift.astype(Z.dtype), own.Z)
    return MethodResult(none, bias_patch(shift), shifted, own.Z, own.labels, groups=own.groups)
