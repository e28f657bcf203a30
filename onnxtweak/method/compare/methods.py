"""Which methods are compared, and what does each make of one split (METHOD 8)?

A method is a function from `CompareInputs` to `MethodResult`; to add one, write it and name it in `METHODS`.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from onnxtweak.errors import ModelError
from onnxtweak.method.augment import overall_bias, train
from onnxtweak.method.compare import controls, synapse_methods
from onnxtweak.method.compare.comparison import MethodResult
from onnxtweak.method.compare.inputs import CompareInputs
from onnxtweak.method.fit.fit import Fitted, fit_all
from onnxtweak.method.fit.linear import fit_linear
from onnxtweak.method.folds import Folds, fold_numbers
from onnxtweak.method.table import Table, stacked
from onnxtweak.patch import bias_patch
from onnxtweak.settings import AugmentSettings


def try_fit(of: CompareInputs) -> MethodResult:
    """Fit, with its fallbacks."""
    table = stacked((of.fit, of.validation))
    found = fit_all(table, of.families, of.goal, of.settings, judged=of.judged, seed=of.seed)
    return result_of_fit(table, found)


def result_of_fit(table: Table, found: Fitted) -> MethodResult:
    """What fit settled on; its operating point is part of it."""
    classes = table.Z.shape[1]
    one = found.candidate
    if one is None:
        none = np.empty(0, np.int64)
        return MethodResult(
            none,
            bias_patch(np.zeros(classes)),
            table.Z,
            table.Z,
            table.labels,
            found.bias,
            note=found.notes[-1],
        )
    return MethodResult(
        one.columns, one.patch, one.held_out, table.Z, table.labels, found.bias, note=found.notes[-1]
    )


def try_bias(of: CompareInputs) -> MethodResult:
    """The best bias per target: calibrated stacking, set exactly; of all classes for the overall accuracy."""
    shift = np.zeros(of.classes)
    if of.nobody_else:
        table = stacked((of.fit, of.validation)).rows(np.flatnonzero(of.judged))
        shift[of.goal.targets] = overall_bias(table.Z, table.labels, of.goal)
    return _on_logits(of, shift)


def try_logit_adjustment(of: CompareInputs) -> MethodResult:
    """-tau log prior on every class, then the bias."""
    return _on_logits(of, controls.logit_adjustment(of.fit, of.validation, of.goal.head).bias)


def try_tau_norm(of: CompareInputs) -> MethodResult:
    """The last layer's weights normalised, then the bias."""
    layer, _, validation = _last_layer(of)
    return of.result(of.penultimate, controls.tau_norm(layer, validation, of.goal.head))


def try_lws(of: CompareInputs) -> MethodResult:
    """A learnt scale per class, then the bias."""
    layer, fit, _ = _last_layer(of)
    return of.result(of.penultimate, controls.learnable_scale(layer, fit))


def try_crt(of: CompareInputs) -> MethodResult:
    """The last layer fitted anew on class-balanced samples, then the bias."""
    layer, fit, validation = _last_layer(of)
    return of.result(of.penultimate, controls.classifier_retrained(layer, fit, validation))


def try_dfr(of: CompareInputs) -> MethodResult:
    """Deep feature reweighting on one half of validation, then the bias, set on the other half."""
    layer, _, _ = _last_layer(of)
    half = fold_numbers(of.validation.labels, 2, of.seed) == 0
    learnt, rest = of.validation.rows(np.flatnonzero(half)), of.validation.rows(np.flatnonzero(~half))
    patch = controls.deep_feature_reweighting(layer, learnt.columns(of.penultimate), of.seed)
    return MethodResult(of.penultimate, patch, rest.patched(of.penultimate, patch), rest.Z, rest.labels)


def try_random(of: CompareInputs) -> MethodResult:
    """As many random neurons as the join may use, fitted for all classes: does choosing matter?"""
    table = stacked((of.fit, of.validation))
    folds = Folds.of(table.labels, of.settings.folds, of.seed, of.judged)
    found = fit_linear(table, of.random, "random", folds)
    rows = np.flatnonzero(of.judged)
    return MethodResult(
        found.columns,
        found.patch,
        found.held_out[rows],
        table.Z[rows],
        table.labels[rows],
        note=f"{len(of.random)} neurons",
    )


def try_aan(of: CompareInputs) -> MethodResult:
    """Augmentation with active neurons of all classes, then the bias."""
    if of.active is None:
        raise ModelError("too many classes to score neurons for all of them here")
    fit, validation = of.fit.columns(of.active), of.validation.columns(of.active)
    patch = train(fit, validation, AugmentSettings(), head=of.goal.head, seed=of.seed).patch
    return of.result(of.active, patch)


METHODS: dict[str, Callable[[CompareInputs], MethodResult]] = {
    "bias": try_bias,
    "logit adjustment": try_logit_adjustment,
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


def _on_logits(of: CompareInputs, shift: np.ndarray) -> MethodResult:
    """A bias for every class (C,); all samples that may be judged on are held out."""
    table = stacked((of.fit, of.validation))
    rows = np.flatnonzero(of.judged)
    patch = bias_patch(shift)
    base = table.Z[rows]
    return MethodResult(
        np.empty(0, np.int64), patch, base + shift.astype(base.dtype), base, table.labels[rows]
    )


def _last_layer(of: CompareInputs) -> tuple[controls.LastLayer, Table, Table]:
    if of.penultimate is None:
        raise ModelError("the last linear layer has no single hidden tensor as its input")
    fit, validation = of.fit.columns(of.penultimate), of.validation.columns(of.penultimate)
    return controls.last_layer(fit), fit, validation
