"""Which methods are compared, and what does each offer on one split (METHOD 8)?

A method is a function from `Material` to an `Offer`; to add one, write it and name it in `ENTRANTS`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from onnxtweak.errors import ModelError
from onnxtweak.method import controls
from onnxtweak.method.augment import train
from onnxtweak.method.compare import CURVE, Offer, patched
from onnxtweak.method.decide import decisions, predict
from onnxtweak.method.fit import Fitted, fit_all
from onnxtweak.method.fit_linear import fit_linear
from onnxtweak.method.folds import fold_numbers
from onnxtweak.method.join import prefix_sums
from onnxtweak.method.operate import Allowed, choose
from onnxtweak.method.retrain import boosts, loss, problem, retrain_best
from onnxtweak.method.select import Ranking
from onnxtweak.method.spend import spend
from onnxtweak.method.table import Table, stacked
from onnxtweak.settings import AugmentSettings, FitSettings, JoinSettings, RetrainSettings
from onnxtweak.types import Linear


@dataclass(frozen=True)
class Material:
    """One split, as every method gets it.

    fit, validation, test : tables of the same neurons. targets (c,) int64. families : for fit, name to
    columns. penultimate, random, active (K,) int64 : columns, None where there are none. rankings : of theta,
    one a target; joined : their columns. judged (N,) bool : of fit and validation end to end, samples that
    choices may be judged on.
    """

    fit: Table
    validation: Table
    test: Table
    targets: np.ndarray
    families: Mapping[str, np.ndarray]
    penultimate: np.ndarray | None
    random: np.ndarray
    active: np.ndarray | None
    rankings: Sequence[Ranking]
    joined: Sequence[np.ndarray]
    judged: np.ndarray
    join: JoinSettings
    settings: FitSettings
    seed: int

    @property
    def classes(self) -> int:
        return self.fit.Z.shape[1]


def offer_fit(of: Material) -> Offer:
    """Fit, with its fallbacks."""
    table = stacked((of.fit, of.validation))
    found = fit_all(
        table,
        of.families,
        of.targets,
        judged=of.judged,
        overall_drop=of.settings.max_overall_drop,
        margin=of.settings.margin,
        folds=of.settings.folds,
        hidden=of.settings.hidden,
        seed=of.seed,
    )
    return fit_as_offer(table, found)


def fit_as_offer(table: Table, found: Fitted) -> Offer:
    """What fit settled on; its operating point is part of it."""
    classes = table.Z.shape[1]
    one = found.candidate
    if one is None:
        nothing = Linear(np.zeros((0, classes)), np.zeros(classes))
        none = np.empty(0, np.int64)
        return Offer(none, nothing, table.Z, table.Z, table.labels, found.bias, note=found.notes[-1])
    return Offer(
        one.columns, one.patch, one.held_out, table.Z, table.labels, found.bias, note=found.notes[-1]
    )


def offer_bias(of: Material) -> Offer:
    """The best bias per target: calibrated stacking, set exactly."""
    return _on_logits(of, np.zeros(of.classes))


def offer_logit_adjustment(of: Material) -> Offer:
    """-tau log prior on every class, then the bias."""
    return _on_logits(of, controls.logit_adjustment(of.fit, of.validation).bias)


def offer_tau_norm(of: Material) -> Offer:
    """The last layer's weights normalised, then the bias."""
    layer, _, validation = _last_layer(of)
    return _held_on_validation(of, of.penultimate, controls.tau_norm(layer, validation))


def offer_lws(of: Material) -> Offer:
    """A learnt scale per class, then the bias."""
    layer, fit, _ = _last_layer(of)
    return _held_on_validation(of, of.penultimate, controls.learnable_scale(layer, fit))


def offer_crt(of: Material) -> Offer:
    """The last layer fitted anew on class-balanced samples, then the bias."""
    layer, fit, validation = _last_layer(of)
    return _held_on_validation(of, of.penultimate, controls.classifier_retrained(layer, fit, validation))


def offer_dfr(of: Material) -> Offer:
    """Deep feature reweighting on one half of validation, then the bias, set on the other half."""
    layer, _, _ = _last_layer(of)
    half = fold_numbers(of.validation.labels, 2, of.seed) == 0
    learnt, rest = of.validation.rows(np.flatnonzero(half)), of.validation.rows(np.flatnonzero(~half))
    patch = controls.deep_feature_reweighting(layer, learnt.columns(of.penultimate), of.seed)
    return Offer(of.penultimate, patch, patched(rest, of.penultimate, patch), rest.Z, rest.labels)


def offer_join(of: Material) -> Offer:
    """The thesis's join: n and scale from the grid, no bias; on test the curve is that of its grid."""
    counts = tuple(of.join.count)
    table = decisions(of.validation.Z, of.validation.labels, of.targets)
    allowed = Allowed(of.settings.max_overall_drop)
    point = choose(table, _prefix(of, of.validation), counts, of.join.scale, allowed)
    columns, patch = _synapses(of, point.n, point.scale)
    held = patched(of.validation, columns, patch)
    zero = np.zeros(len(of.targets))
    at = _grid_readings(of, _prefix(of, of.test), counts)
    return Offer(columns, patch, held, of.validation.Z, of.validation.labels, point=zero, at=at)


def offer_join_and_bias(of: Material) -> Offer:
    """A join of one n and scale for all targets, and the best bias on top of it."""
    best, chosen = -1, None
    for n in of.join.count:
        for scale in of.join.scale:
            each = np.ones(len(of.targets))
            columns, patch = _synapses(of, (each * n).astype(int), each * scale)
            held = patched(of.validation, columns, patch)
            spent = spend(
                held,
                of.validation.Z,
                of.validation.labels,
                of.targets,
                overall_drop=of.settings.max_overall_drop,
                margin=of.settings.margin,
            )
            right = int(spent.right[np.isin(of.validation.labels, of.targets)].sum()) if spent.holds else 0
            if right > best:
                best, chosen = right, (columns, patch)
    return _held_on_validation(of, *chosen)


def offer_sr1(of: Material) -> Offer:
    """Synapses of the join's neurons retrained by cross-entropy, then the bias."""
    return _retrained(of, 1.0)


def offer_sr2(of: Material) -> Offer:
    """The same with twice the loss on target samples."""
    return _retrained(of, 2.0)


def offer_random(of: Material) -> Offer:
    """As many random neurons as the join may use, fitted for all classes: does choosing matter?"""
    table = stacked((of.fit, of.validation))
    fold = fold_numbers(table.labels, of.settings.folds, of.seed)
    found = fit_linear(table, of.random, "random", fold, judged=of.judged)
    rows = np.flatnonzero(of.judged)
    return Offer(
        found.columns,
        found.patch,
        found.held_out[rows],
        table.Z[rows],
        table.labels[rows],
        note=f"{len(of.random)} neurons",
    )


def offer_aan(of: Material) -> Offer:
    """Augmentation with active neurons of all classes, then the bias."""
    if of.active is None:
        raise ModelError("too many classes to score neurons for all of them here")
    fit, validation = of.fit.columns(of.active), of.validation.columns(of.active)
    patch = train(fit, validation, AugmentSettings(), seed=of.seed).patch
    return _held_on_validation(of, of.active, patch)


ENTRANTS: dict[str, Callable[[Material], Offer]] = {
    "bias": offer_bias,
    "logit adjustment": offer_logit_adjustment,
    "tau-norm": offer_tau_norm,
    "LWS": offer_lws,
    "cRT": offer_crt,
    "DFR": offer_dfr,
    "join": offer_join,
    "join + bias": offer_join_and_bias,
    "SR-1": offer_sr1,
    "SR-2": offer_sr2,
    "random-n refit": offer_random,
    "AAN": offer_aan,
    "fit": offer_fit,
}


def _on_logits(of: Material, shift: np.ndarray) -> Offer:
    """A bias for every class (C,); all samples that may be judged on are held out."""
    table = stacked((of.fit, of.validation))
    rows = np.flatnonzero(of.judged)
    patch = Linear(np.zeros((0, of.classes)), shift)
    base = table.Z[rows]
    return Offer(np.empty(0, np.int64), patch, base + shift.astype(base.dtype), base, table.labels[rows])


def _held_on_validation(of: Material, columns: np.ndarray, patch) -> Offer:
    held = patched(of.validation, columns, patch)
    return Offer(columns, patch, held, of.validation.Z, of.validation.labels)


def _last_layer(of: Material) -> tuple[controls.LastLayer, Table, Table]:
    if of.penultimate is None:
        raise ModelError("the last linear layer has no single hidden tensor as its input")
    fit, validation = of.fit.columns(of.penultimate), of.validation.columns(of.penultimate)
    return controls.last_layer(fit), fit, validation


def _retrained(of: Material, penalty: float) -> Offer:
    best = None
    for n in of.join.count:
        columns = [c[:n] for c in of.joined]
        problems = [
            problem([table.T[:, c] for c in columns], table.Z, table.labels, of.targets, penalty)
            for table in (of.fit, of.validation)
        ]
        made, _ = retrain_best(*problems, RetrainSettings().ridge)
        left = loss(problems[1], boosts(problems[1].tables, made.weight))
        if best is None or left < best[0]:
            best = left, np.concatenate(columns), _placed(of, columns, made.weight)
    return _held_on_validation(of, *best[1:])


def _placed(of: Material, columns: Sequence[np.ndarray], weights: Sequence[np.ndarray]) -> Linear:
    """Weights of each target's columns as a linear patch."""
    whole = np.zeros((sum(map(len, columns)), of.classes))
    at = 0
    for j, c, w in zip(of.targets, columns, weights, strict=True):
        whole[at : at + len(c), j] = w
        at += len(c)
    return Linear(whole, np.zeros(of.classes))


def _synapses(of: Material, n: Sequence[int], scale: Sequence[float]) -> tuple[np.ndarray, Linear]:
    """The join's synapses at an operating point."""
    columns = [c[: int(k)] if s else c[:0] for c, k, s in zip(of.joined, n, scale, strict=True)]
    weights = [r.weight[: len(c)] * s / k for r, c, k, s in zip(of.rankings, columns, n, scale, strict=True)]
    return np.concatenate(columns), _placed(of, columns, weights)


def _prefix(of: Material, table: Table) -> np.ndarray:
    T = table.T[:, np.concatenate(of.joined)]
    return prefix_sums([T], of.rankings, of.join.count)


def _grid_readings(of: Material, prefix: np.ndarray, counts: tuple[int, ...]) -> np.ndarray:
    """Target accuracy on test of the join's own grid, at each drop of CURVE."""
    table = decisions(of.test.Z, of.test.labels, of.targets)
    own = np.isin(of.test.labels, of.targets)
    base = of.test.Z.argmax(axis=1) == of.test.labels
    found = []
    for drop in CURVE:
        point = choose(table, prefix, counts, of.join.scale, Allowed(drop))
        places = [counts.index(int(n)) for n in point.n]
        boost = np.stack(
            [prefix[:, t, g] * point.scale[t] / point.n[t] for t, g in enumerate(places)], axis=1
        )
        right = predict(table, boost) == of.test.labels
        floor = base.sum() - np.floor(drop / 100 * len(base) + 1e-9)
        found.append(right[own].mean() if right.sum() >= floor else np.nan)
    return np.array(found)
