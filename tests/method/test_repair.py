"""Is REPAIR what its authors define, and does it rank nothing but the shortlist anew?"""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize

from onnxtweak.method.compare.repair import Reranking, competition, repair, shrunk
from onnxtweak.method.table import Table


def table(samples, classes=5, seed=0):
    rng = np.random.default_rng(seed)
    true = rng.normal(size=(samples, classes)) * 2
    labels = (true + rng.gumbel(size=true.shape) - np.arange(classes)).argmax(axis=1)
    return Table(np.empty((samples, 0), np.float32), (true * 1.7).astype(np.float32), labels)


def in_words(Z, listed, frequency):
    """phi(x, y, j), and its mean over the others on the shortlist, as the paper writes it: in loops."""
    found = np.empty((*listed.shape, 3))
    for x, row in enumerate(listed):
        for rank, y in enumerate(row):
            phi = [
                (Z[x, y] - Z[x, j], other - rank, frequency[y] - frequency[j])
                for other, j in enumerate(row)
                if j != y
            ]
            found[x, rank] = np.sum(phi, axis=0) / (len(row) - 1)
    return found


def test_features_are_means_over_the_other_classes_of_the_shortlist():
    Z, frequency = np.random.default_rng(1).normal(size=(7, 6)), np.log(np.arange(1, 7.0))
    listed, features = competition(Z, frequency, 4)
    for x, row in enumerate(listed):
        assert list(row) == sorted(range(6), key=lambda y, x=x: -Z[x, y])[:4]
    assert features == pytest.approx(in_words(Z, listed, frequency))


def test_the_weights_are_the_optimum_that_scipy_finds():
    fit, ridge, k = table(400), 0.01, 3
    frequency = np.log1p(np.bincount(fit.labels, minlength=5))
    found = repair(fit, table(200, seed=1), 2.0, ridges=[ridge], shortlist=k)
    Z = fit.Z.astype(float) / 2
    listed, _ = competition(Z, frequency, k)
    on = (listed == fit.labels[:, None]).any(axis=1)
    Z, listed, labels = Z[on], listed[on], fit.labels[on]
    features, rows = in_words(Z, listed, frequency), np.arange(len(labels))

    def loss(w):
        r = Z[rows[:, None], listed] + w[listed] + features @ w[5:]
        own = r[listed == labels[:, None]]
        return (np.log(np.exp(r).sum(axis=1)) - own).mean() + ridge / 2 * w @ w

    best = minimize(loss, np.zeros(8), options={"gtol": 1e-8}).x
    assert found.theta == pytest.approx(best[5:], abs=2e-3)
    r = Z[rows[:, None], listed] + best[listed] + features @ best[5:]
    p = np.exp(r) / np.exp(r).sum(axis=1, keepdims=True)
    information = [(p * (1 - p))[listed == y].sum() for y in range(5)]
    assert found.offset == pytest.approx(shrunk(best[:5], 1 / np.sqrt(information)), abs=2e-3)


def test_offsets_shrink_as_far_as_they_are_noise():
    # Mean 1, variance 8/3: of the second 1 - 1 / (8/3) = 5/8 is left, of the third nothing.
    assert shrunk(np.array([3.0, 1, -1]), np.array([0.0, 1, 2])) == pytest.approx([3, 1, 1])
    assert shrunk(np.array([4.0, 9, 0]), np.array([0.5, np.inf, 0.5])) == pytest.approx([3.875, 2, 0.125])
    assert not shrunk(np.array([4.0, 9]), np.full(2, np.inf)).any()


def test_only_the_shortlist_is_ranked_anew():
    Z = np.random.default_rng(2).normal(size=(300, 8)).astype(np.float32)
    no_frequency = np.zeros(8)
    nothing = Reranking(np.zeros(8), np.zeros(3), no_frequency, shortlist=3)
    assert nothing.applied(Z, Z) == pytest.approx(Z, abs=1e-6)
    strong = Reranking(np.arange(8.0) * 5, np.array([-3.0, 1, 0]), no_frequency, 0.5, shortlist=3)
    found = strong.applied(Z, Z)
    listed, _ = competition(Z, no_frequency, 3)
    lowest = np.take_along_axis(found, listed, axis=1).min(axis=1)
    inside = np.zeros(Z.shape, bool)
    np.put_along_axis(inside, listed, True, axis=1)
    assert (np.where(inside, -np.inf, found).max(axis=1) <= lowest + 1e-5).all()
    assert (found.argmax(axis=1) != Z.argmax(axis=1)).mean() > 0.3 and found.dtype == np.float32


def test_it_learns_what_an_offset_cannot_and_bears_infinite_logits():
    fit, validation, new = (table(3000, seed=seed) for seed in range(3))
    fit.Z[:5, 4] = -np.inf
    found = repair(fit, validation, 1.7)
    right = [(Z.argmax(axis=1) == new.labels).mean() for Z in (new.Z, found.applied(new.Z, new.T))]
    assert right[1] > right[0] + 0.05
    assert np.isfinite(found.applied(fit.Z, fit.T)).all()
    assert found.parameters == 8
