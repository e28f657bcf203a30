"""How is a copy patched towards a reference? By regression on its logits or on its probabilities (METHOD 16).

A quantised, pruned or converted copy has lost part of what the reference computes, and its hidden neurons
still tell much of it. No label is needed: what the reference shows of a sample is its label. Judgements are
those of `fit`, on samples held out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cache

import numpy as np

from onnxtweak.engine.machine.large_arrays import (
    add_rows,
    blocks,
    by_rows,
    chosen_rows,
    column_sums,
    copied,
    parts,
)
from onnxtweak.engine.workers.learning_device import on_host
from onnxtweak.goal import ResolvedGoal
from onnxtweak.method.fit.candidate import ALL_BIASES, FitCandidate
from onnxtweak.method.fit.fit import Fitted, settle
from onnxtweak.method.fit.learning import Learning
from onnxtweak.method.fit.linear import LinearPath, fit_linear
from onnxtweak.method.fit.positions.context import search_with_context
from onnxtweak.method.fit.several.labels import fit_labels
from onnxtweak.method.folds import Folds
from onnxtweak.method.softmax import log_loss, log_losses, softmax
from onnxtweak.method.solvers.regression import Moments, moments
from onnxtweak.method.table import Table
from onnxtweak.method.temperature import fit_temperature
from onnxtweak.patch import Linear
from onnxtweak.settings import FitSettings
from onnxtweak.types import Progress, silent

# Ridges of the regression, tried from strong to weak until the held-out loss rises.
_RIDGES = (10.0, 3.0, 1.0, 0.3, 0.1, 0.03, 0.01, 3e-3, 1e-3)


def match_reference(
    learning: Learning,
    reference: np.ndarray,
    families: Mapping[str, np.ndarray],
    goal: ResolvedGoal,
    settings: FitSettings,
    *,
    seed: int = 0,
    progress: Progress = silent,
) -> Fitted:
    """The patch under which most of the reference's decisions are taken, or a bias, or the copy as it is.

    learning : the labels are the reference's decisions. reference (N, C) : its logits. families : columns of
    the table by name, from few to many. Of several labels at once, its decisions are learnt as marks
    (METHOD 17).
    """
    if goal.head.several:
        linear = replace(settings, hidden=0)
        return fit_labels(learning, families, goal, linear, seed=seed, progress=progress)
    table = learning.table
    judged = None if table.weight is None else learning.judged  # of positions drawn at unlike rates
    folds = replace(Folds.of(table.labels, None, seed, judged, table.groups), kept=learning.kept)
    progress.start("match", len(families) + 2, "fits")
    temperature = fit_temperature(table.Z, table.labels)
    cool = table.cooled(temperature)
    tried = [fit_linear(cool, np.empty(0, np.int64), ALL_BIASES, folds).warmed(temperature)]
    progress.advance(1)
    if families:
        tried += _patches(table, reference, families, folds, progress)
    progress.finish()
    biases, *patches = (
        replace(each, loss=log_loss(by_rows(lambda Z: Z / temperature, each.held_out), table.labels))
        for each in tried
    )
    # Decisions are what counts: of the two losses the one under which more are the reference's.
    agreement = [
        float(by_rows(goal.head.right, each.held_out, table.labels)[folds.judged].mean()) for each in patches
    ]
    best = patches[int(np.argmax(agreement))] if patches else biases
    found = settle(table, [biases, best] if patches else [biases], goal, folds=folds, margin=settings.margin)
    shares = (f"{each.name}: {share:.2%}" for each, share in zip(patches, agreement, strict=True))
    said = f"decisions held out that are the reference's: {'; '.join(shares)}"
    return replace(found, notes=(said, *found.notes)) if patches else found


def _patches(
    table: Table,
    reference: np.ndarray,
    families: Mapping[str, np.ndarray],
    folds: Folds,
    progress: Progress,
) -> list[FitCandidate]:
    """One patch by each loss, on the smallest family that does about as well as any by cross-entropy."""
    wanted = _centred(reference)
    # Both sides' logits are divided by one number before probabilities are compared, after which the
    # reference's are so flat that they also tell which classes it nearly chose.
    tau = max(_deviation(wanted), float(np.finfo(np.float32).tiny))
    soft = replace(table.cooled(tau), shares=by_rows(lambda Z: softmax(Z / tau), wanted))
    best, _ = search_with_context(soft, families, folds, progress)
    lacking = by_rows(lambda one, other: (one - other) / tau, wanted, _centred(table.Z))
    by_regression = _by_regression(best, lacking)
    progress.advance(1)
    by_cross_entropy = replace(best, name=f"{best.name} by cross-entropy").candidate()
    return [each.warmed(tau) for each in (by_regression, by_cross_entropy)]


def _centred(logits: np.ndarray) -> np.ndarray:
    """Logits (N, C) float64 less their mean over the classes, which changes no decision."""

    def centred(Z: np.ndarray) -> np.ndarray:
        wide = Z.astype(np.float64)
        found: np.ndarray = wide - wide.mean(axis=1, keepdims=True)
        return found

    return by_rows(centred, logits)


def _deviation(values: np.ndarray) -> float:
    """Standard deviation of all values (N, C) float64."""
    mean = column_sums(values).sum() / max(values.size, 1)
    squares = sum(float(((block - mean) ** 2).sum()) for _, block in blocks(values))
    return float(np.sqrt(squares / max(values.size, 1)))


def _by_regression(path: LinearPath, lacking: np.ndarray) -> FitCandidate:
    """The regression of what the copy's logits lack, (N, C), its ridge chosen by the loss of `path`."""
    table, design, folds = path.table, path.design, path.folds.coarse
    held = None if path.chunked is None else path.chunked.held(lacking)

    @cache
    def sums(left_out: int | None) -> Moments:
        """Of the samples but for a fold. They are the same at every ridge."""
        rows = None if left_out is None else folds.learning(left_out)
        if path.chunked is not None and held is not None:
            return path.chunked.moments(held, rows)
        return moments(design, lacking, rows)

    def held_out(ridge: float, numbers: np.ndarray) -> np.ndarray:
        logits, every = copied(table.Z), np.arange(table.Z.shape[1])
        for number in numbers.tolist():
            rows = folds.held_out(number)
            axes = sums(number).regressed(ridge, design.xp)
            for part in parts(len(rows)):
                scores = on_host(design.of_rows(rows[part]).scores(axes))
                add_rows(logits, rows[part], scores, every)
        return logits

    counted, best, lowest = path.counted, _RIDGES[0], np.inf
    for ridge in _RIDGES:
        logits = held_out(ridge, np.array(path.numbers))
        loss = float(log_losses(chosen_rows(logits, counted), chosen_rows(table.truth, counted)).mean())
        if loss >= lowest:
            break
        best, lowest = ridge, loss

    def learn() -> tuple[Linear, tuple[str, ...]]:
        return Linear(*design.in_units(sums(None).regressed(best, design.xp))), ()

    name = f"{path.name} by regression, ridge {best:g}"
    return FitCandidate(name, path.columns, held_out(best, folds.numbers), lowest, learn)
