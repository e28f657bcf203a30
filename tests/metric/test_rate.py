"""Recall at a limit on false alarms: the value, and the cut that keeps the limit on new samples."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import betabinom
from sklearn.metrics import precision_recall_curve, roc_curve

from onnxtweak.errors import DataError
from onnxtweak.metric.asked import metric_of
from onnxtweak.metric.kinds import Predictions
from onnxtweak.metric.rate import most_allowed, require_samples

NAMES = ["ham", "spam"]
LEVEL = 0.8413


def drawn(seed: int, n: int = 4000, positive: float = 0.2) -> Predictions:
    rng = np.random.default_rng(seed)
    labels = (rng.random(n) < positive).astype(np.int64)
    Z = np.column_stack([np.zeros(n), rng.normal(size=n) + 2.0 * labels - 1]).astype(np.float32)
    return Predictions(labels, Z.argmax(axis=1), Z)


@pytest.mark.parametrize("limit", [0.01, 0.1])
def test_the_value_is_read_off_the_roc_curve(limit):
    one = drawn(0)
    fpr, recall, _ = roc_curve(one.labels, one.Z[:, 1], drop_intermediate=False)
    assert metric_of(f"recall@fpr={limit}", NAMES).value(one) == pytest.approx(recall[fpr <= limit].max())


def test_the_value_is_read_off_the_curve_of_precision():
    one = drawn(0)
    precision, recall, _ = precision_recall_curve(one.labels, one.Z[:, 1])
    best = recall[:-1][precision[:-1] >= 0.9].max()
    assert metric_of("recall@precision=.9", NAMES).value(one) == pytest.approx(best)


def test_equal_scores_turn_together():
    one = Predictions(np.array([1, 0, 1, 0]), np.zeros(4, int), np.array([[0, 1.0]] * 3 + [[0, -1.0]]))
    assert metric_of("recall@fpr=0.4", NAMES).value(one) == 0
    assert metric_of("recall@fpr=0.5", NAMES).value(one) == 1


@pytest.mark.parametrize("n, most", [(300, 0.05), (1000, 0.01), (5000, 0.002), (50, 0.5)])
def test_as_many_may_pass_as_a_binomial_bound_allows(n, most):
    """The number of new samples above an order statistic is beta-binomial."""
    k, limit = most_allowed(n, most, LEVEL), int(most * n + 1e-9)
    assert betabinom(n, k + 1, n - k).cdf(limit) >= LEVEL > betabinom(n, k + 2, n - k - 1).cdf(limit)
    assert k < most * n


def test_no_margin_is_an_even_chance():
    assert most_allowed(1000, 0.01, 0.5) >= 9


@pytest.mark.parametrize("words", ["recall@fpr=0.02", "recall@precision=0.9", "recall@precision=0.6"])
def test_the_limit_is_kept_on_new_samples(words):
    """Missed in at most 16 of 100 draws of calibration and as many new samples, with little recall lost."""
    metric, kept, recall, best = metric_of(words, NAMES), [], [], []
    for seed in range(200):
        old, new = drawn(2 * seed, 2000), drawn(2 * seed + 1, 2000)
        cut = metric.cut(old.Z, old.labels, LEVEL)
        if cut is None:  # no cut is sure enough to keep it: none is delivered
            continue
        now = Predictions(new.labels, (new.Z[:, 1] > cut).astype(int), new.Z)
        found, false, samples = metric.at_cut(now)
        kept.append(false <= metric.most * samples)
        recall.append(found)
        best.append(metric.value(new))
    assert kept.count(False) / 200 <= 0.16 + 2 * 0.026  # two standard errors of 200 draws
    assert len(kept) > 150 and np.mean(recall) > np.mean(best) - 0.18


def test_too_few_samples_are_refused_with_how_many_it_takes():
    metric = metric_of("recall@fpr=0.0001", NAMES)
    few = np.array([0] * 200 + [1] * 50)
    with pytest.raises(DataError, match=r"200 test samples of class 0 are too few .* it takes 10,000"):
        require_samples(metric, few, "test")
    with pytest.raises(DataError, match="it takes 20,000"):
        require_samples(metric, few, "learning", LEVEL)
    assert most_allowed(19_999, 0.0001, LEVEL) == -1 and most_allowed(20_000, 0.0001, LEVEL) == 0
    precise = metric_of("recall@precision=0.999", NAMES)
    with pytest.raises(DataError, match="50 learning samples of class 1 are too few for a precision"):
        require_samples(precise, few, "learning", LEVEL)
    with pytest.raises(DataError, match="no test sample is of class 1"):
        require_samples(metric, few[:200], "test")
    require_samples(metric_of("f1", NAMES), few[:200], "test")


def test_a_precision_out_of_reach_has_no_cut():
    rng = np.random.default_rng(0)
    Z = rng.normal(size=(500, 2)).astype(np.float32)
    assert metric_of("recall@precision=0.95", NAMES).cut(Z, rng.integers(0, 2, 500), LEVEL) is None


@pytest.mark.parametrize("words", ["recall@fpr=0.05", "recall@precision=0.8"])
def test_samples_that_belong_together_count_for_fewer(words):
    """Each sample ten times over tells no more than once: the cut is as careful as without the copies."""
    metric, one = metric_of(words, NAMES), drawn(0, 2000)
    rows = np.repeat(np.arange(2000), 10)
    jitter = 1e-4 * np.random.default_rng(0).normal(size=20_000)[:, None] * [0, 1]
    many = one.Z[rows] + jitter, one.labels[rows], LEVEL
    alone, together, naive = metric.cut(one.Z, one.labels, LEVEL), metric.cut(*many, rows), metric.cut(*many)
    assert together == pytest.approx(alone, abs=0.06)
    assert naive < min(alone, together) - 0.02


def falling(*positive: bool) -> tuple[np.ndarray, np.ndarray]:
    """Logits and labels by falling score, one less each time."""
    score = np.arange(len(positive), 0, -1, dtype=np.float32)
    return np.column_stack([np.zeros_like(score), score]), np.array(positive, np.int64)


def test_a_cut_lies_halfway_behind_the_last_sample_that_is_allowed():
    metric = metric_of("recall@fpr=0.2", NAMES)
    allowed = most_allowed(50, 0.2, LEVEL)
    assert 0 < allowed < 10
    assert metric.cut(*falling(*[1] * 5, *[0] * 50), LEVEL) == 50 - allowed + 0.5
    assert metric.cut(*falling(*[1] * 5, *[0] * 4), LEVEL) is None
    few = next(n for n in range(1, 50) if most_allowed(n, 0.2, LEVEL) == 0)
    assert metric.cut(*falling(*[1] * 5, *[0] * few), LEVEL) == few + 0.5
    # Where the best sample is a false alarm, and none is allowed, nothing is taken.
    assert metric.cut(*falling(*[0] * few, *[1] * 5), LEVEL) == few + 5 + 1
    assert metric.cut(np.zeros((0, 2)), np.zeros(0, np.int64), LEVEL) is None


def test_a_cut_of_a_precision_lies_behind_the_last_positive_that_is_precise():
    metric = metric_of("recall@precision=0.5", NAMES)
    assert metric.cut(*falling(*[1] * 20, 0, 1, *[0] * 40), LEVEL) == 40.5
    assert metric.cut(*falling(*[1] * 20), LEVEL) == 0  # all are taken
    assert metric.cut(*falling(*[0] * 40, *[1] * 20), LEVEL) is None


def test_equal_scores_are_not_parted_by_a_cut():
    Z, labels = falling(*[1] * 5, *[0] * 50)
    allowed = most_allowed(50, 0.2, LEVEL)
    Z[5 + allowed - 1 : 5 + allowed + 1, 1] = 50 - allowed + 0.5  # the last allowed, and the next
    assert metric_of("recall@fpr=0.2", NAMES).cut(Z, labels, LEVEL) == 50 - allowed + (2 + 0.5) / 2


@pytest.mark.parametrize(("words", "base", "share"), [("fpr=0.4", 5, 0.5), ("precision=0.6", 3, 0.5)])
def test_decisions_at_a_models_own_cut(words, base, share):
    labels, predicted = np.array([0] * 5 + [1] * 4), np.array([1, 0, 0, 0, 0, 1, 1, 0, 0])
    made = Predictions(labels, predicted, np.zeros((9, 2)))
    assert metric_of(f"recall@{words}", NAMES).at_cut(made) == (share, 1, base)
    nobody = Predictions(labels[:4], predicted[:4], np.zeros((4, 2)))
    assert np.isnan(metric_of(f"recall@{words}", NAMES).at_cut(nobody)[0])


def test_just_enough_samples_are_enough():
    metric = metric_of("recall@fpr=0.01", NAMES)
    require_samples(metric, np.array([0] * 100 + [1]), "test")
    with pytest.raises(DataError, match="99 test samples of class 0 are too few"):
        require_samples(metric, np.array([0] * 99 + [1]), "test")
    require_samples(metric_of("recall@precision=0.9", NAMES), np.array([0, 1]), "test")
