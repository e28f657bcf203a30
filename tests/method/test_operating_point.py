"""The choice of the operating point: what it promises on the samples it chooses on."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onnxtweak.goal import ResolvedGoal
from onnxtweak.head import ONE_LABEL
from onnxtweak.method.tuning.bias_control import best_bias
from onnxtweak.method.tuning.boosted import boost_table, predict, rival_gap
from onnxtweak.method.tuning.operating_point import choose, choose_rising

COUNTS = (1, 2, 3, 4, 5, 6)


def table(seed, n=120, classes=4, targets=(1,), synapses=6):
    """Random logits, labels and prefix sums with a direction that helps a little."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, n)
    Z = (1.2 * np.eye(classes)[labels] + rng.standard_normal((n, classes))).astype(np.float32)
    targets = np.array(targets)
    v = np.maximum(rng.standard_normal((n, len(targets), synapses)), 0)
    v += 0.7 * (labels[:, None, None] == targets[None, :, None])
    return Z, labels, targets, np.cumsum(v, axis=2)


def outcome(Z, labels, targets, boost):
    boosted = Z.copy()
    boosted[:, targets] += boost.astype(Z.dtype)
    right = boosted.argmax(axis=1) == labels
    return right.sum(), right[np.isin(labels, targets)].sum(), right


@settings(max_examples=40)
@given(st.integers(0, 10_000), st.sampled_from([(1,), (0, 3), (0, 1, 2, 3)]))
def test_decisions_are_the_argmax_of_boosted_logits(seed, targets):
    Z, labels, targets, prefix = table(seed, targets=targets)
    Z = np.round(Z * 2) / 2  # ties
    boost = np.round(prefix[:, :, 0]) - 1
    boosted = Z.copy()
    boosted[:, targets] += boost.astype(np.float32)
    reduced = boost_table(Z, labels, ResolvedGoal(targets))
    np.testing.assert_array_equal(predict(reduced, boost), boosted.argmax(axis=1))
    for t, target in enumerate(targets):
        gap, rival = rival_gap(reduced, boost, t)
        others = boosted.copy()
        others[:, target] = -np.inf
        np.testing.assert_array_equal(rival, others.argmax(axis=1))
        np.testing.assert_allclose(gap, others.max(axis=1) - Z[:, target], atol=1e-6)


@pytest.mark.parametrize("targets", [(1,), (0, 2)])
@pytest.mark.parametrize("scales", [(0, 0.5, 1, 2, 4, 8), None])
@pytest.mark.parametrize("drop", [0.0, 3.0])
@pytest.mark.parametrize("seed", range(5))
def test_the_chosen_point_stays_allowed_and_beats_the_base(targets, scales, drop, seed):
    Z, labels, targets, prefix = table(seed, targets=targets)
    counts = (1, 3, 6)
    found = choose(
        boost_table(Z, labels, ResolvedGoal(targets, max_overall_drop=drop)),
        prefix[:, :, [0, 2, 5]],
        counts,
        scales,
    )
    boost = np.stack(
        [prefix[:, t, found.n[t] - 1] * found.scale[t] / found.n[t] for t in range(len(targets))],
        axis=1,
    )
    overall, target, _ = outcome(Z, labels, targets, boost)
    base_overall, base_target, _ = outcome(Z, labels, targets, np.zeros_like(boost))
    assert overall >= base_overall - np.floor(drop / 100 * len(labels))
    assert target >= base_target
    drops = [trial.drop for trial in found.trials]
    values = [trial.target for trial in found.trials]
    assert drops == sorted(drops) and values == sorted(values)


def test_one_target_on_a_grid_is_the_exhaustive_best():
    Z, labels, targets, prefix = table(3)
    scales, counts = (0, 0.5, 1, 2, 4, 8), (1, 3, 6)
    found = choose(boost_table(Z, labels, ResolvedGoal(targets)), prefix[:, :, [0, 2, 5]], counts, scales)
    base, _, _ = outcome(Z, labels, targets, prefix[:, :, 0] * 0)
    best = max(
        result[1]
        for n in counts
        for s in scales
        if (result := outcome(Z, labels, targets, prefix[:, :, n - 1] * s / n))[0] >= base
    )
    chosen = outcome(Z, labels, targets, prefix[:, :, found.n[0] - 1] * found.scale[0] / found.n[0])
    assert chosen[1] == best


def test_a_class_drop_limit_holds_for_every_class():
    Z, labels, targets, prefix = table(11, n=400)
    free = choose(boost_table(Z, labels, ResolvedGoal(targets, max_overall_drop=10.0)), prefix, COUNTS, None)
    bound = choose(
        boost_table(Z, labels, ResolvedGoal(targets, max_overall_drop=10.0, max_class_drop=1.0)),
        prefix,
        COUNTS,
        None,
    )
    losses = []
    for found in (free, bound):
        boost = prefix[:, :, found.n[0] - 1] * found.scale[0] / found.n[0]
        before, after = outcome(Z, labels, targets, boost * 0)[2], outcome(Z, labels, targets, boost)[2]
        losses.append(max(before[labels == j].mean() - after[labels == j].mean() for j in range(4)))
    assert losses[0] > 0.01 >= losses[1]


@pytest.mark.parametrize("seed", range(4))
def test_the_best_bias_is_better_than_a_fine_grid(seed):
    Z, labels, targets, _ = table(seed)
    bias = best_bias(boost_table(Z, labels, ResolvedGoal(targets)))
    base = (Z.argmax(axis=1) == labels).sum()

    def score(b):
        right = (
            ONE_LABEL.predict_biased(Z, ResolvedGoal(targets).on_all_classes(np.array([b]), Z.shape[1]))
            == labels
        )
        return right[labels == 1].sum() if right.sum() >= base else -1

    assert score(bias[targets[0]]) >= max(score(b) for b in np.linspace(0, 8, 801) + 0.0007)


def test_calibration_by_mu_is_a_bias():
    # METHOD 8 and oracle 9: multiplying the softmax by mu and 1 - mu is the bias log(mu / (1 - mu)).
    rng = np.random.default_rng(0)
    Z = rng.standard_normal((300, 5)).astype(np.float64)
    softmax = np.exp(Z) / np.exp(Z).sum(axis=1, keepdims=True)
    for mu in (0.3, 0.5, 0.9):
        factor = np.full(5, 1 - mu)
        factor[2] = mu
        bias = np.log(mu / (1 - mu)) * (np.arange(5) == 2)
        np.testing.assert_array_equal((softmax * factor).argmax(axis=1), ONE_LABEL.predict_biased(Z, bias))


@settings(max_examples=15)
@given(st.integers(0, 10_000), st.sampled_from([(0, 0.5, 1, 2, 4), None]))
def test_who_may_lose_more_never_gets_less(seed, scales):
    Z, labels, targets, prefix = table(seed, targets=(0, 1, 3))
    reached = -1
    for drop in (0.0, 0.1, 0.3, 1.0, 2.0, 3.0, 5.0):
        of = boost_table(Z, labels, ResolvedGoal(targets, max_overall_drop=drop))
        point = choose_rising(of, prefix[:, :, [0, 5]], (1, 6), scales)
        columns = [{1: 0, 6: 5}[int(n)] for n in point.n]
        boost = np.stack(
            [prefix[:, t, k] * point.scale[t] / point.n[t] for t, k in enumerate(columns)], axis=1
        )
        overall, right, _ = outcome(Z, labels, targets, boost)
        assert overall >= (Z.argmax(axis=1) == labels).sum() - np.floor(drop / 100 * len(labels) + 1e-9)
        assert right >= reached
        reached = right
