"""Weights of each place's own on tables: where places differ, with what neighbours know, or not at all."""

from __future__ import annotations

import numpy as np
import pytest

from onnxtweak.method.fit.candidate import FitCandidate
from onnxtweak.method.fit.positions.places import with_own_weights
from onnxtweak.method.folds import Folds
from onnxtweak.method.softmax import log_losses
from onnxtweak.method.table import Places, Table
from onnxtweak.patch import Linear

PLACES, KINDS = 40, 3


def drawn(turn: float, rows: int = 4000, seed: int = 0):
    """A table whose labels follow weights that turn from the first place to the last; and candidates."""
    rng = np.random.default_rng(seed)
    X, place = rng.normal(size=(rows, 2)), rng.integers(0, PLACES, rows)
    angle = turn * (place / (PLACES - 1) - 0.5)
    turned = np.column_stack(
        [X[:, 0] * np.cos(angle) - X[:, 1] * np.sin(angle), X[:, 0] * np.sin(angle) + X[:, 1] * np.cos(angle)]
    )
    shared = rng.normal(size=(2, KINDS)) * 2
    labels = (turned @ shared + rng.gumbel(size=(rows, KINDS))).argmax(axis=1)
    T = np.column_stack([X, place]).astype(np.float32)
    table = Table(T, np.zeros((rows, KINDS)), labels, places=(Places(2, PLACES, np.arange(2)),))
    held_out = X @ shared

    def learn():
        return Linear(shared, np.zeros(KINDS)), ()

    def loss(Z):
        return float(log_losses(Z, labels).mean())

    none = FitCandidate("biases", np.empty(0, np.int64), table.Z, loss(table.Z), learn)
    return table, [none, FitCandidate("linear", np.arange(2), held_out, loss(held_out), learn)]


@pytest.mark.parametrize("turn", [np.pi, 2 * np.pi])
def test_places_learn_from_their_neighbours(turn):
    """A hundred rows each are too few for six weights, and what was held out is what the patch does anew."""
    table, tried = drawn(turn)
    folds = Folds.of(table.labels, 5, 0, np.ones(len(table.labels), bool), None)
    found = with_own_weights(table, tried, folds)
    assert [each.name for each in found[:2]] == ["biases", "linear"]
    assert found[2].loss < tried[1].loss - 0.1 and "at 40 places" in found[2].name
    assert np.array_equal(found[2].columns, [0, 1, 2])
    patch, other = found[2].patch, drawn(turn, seed=0)[0]
    assert log_losses(other.patched(found[2].columns, patch), other.labels).mean() < found[2].loss + 0.02


def test_places_that_share_their_weights_get_none():
    table, tried = drawn(0.0)
    folds = Folds.of(table.labels, 5, 0, np.ones(len(table.labels), bool), None)
    found = with_own_weights(table, tried, folds)
    assert len(found) == 2 or found[2].loss > tried[1].loss - 2e-3
