"""F1 and average precision of several labels at once, as scikit-learn has them."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, f1_score

from onnxtweak.metric.kinds import Predictions
from onnxtweak.metric.several import MacroF1, MeanAveragePrecision, f1_of, label_counts, label_metrics

F1, MAP = MacroF1("f1", "macro F1"), MeanAveragePrecision("map", "mean average precision")


def drawn(seed, unknown=0.0):
    rng = np.random.default_rng(seed)
    labels = (rng.random((60, 5)) < 0.3).astype(np.int8)
    labels[rng.random(labels.shape) < unknown] = -1
    Z = np.round(rng.normal(size=(60, 5)) + labels, 1)  # with equal scores
    return Predictions(labels, (Z > 0).astype(np.int64), Z)


@pytest.mark.parametrize("seed", range(5))
def test_values_are_those_of_scikit_learn(seed):
    made = drawn(seed)
    weights = np.random.default_rng(seed).integers(0, 4, (2, len(made)))
    for weight, f1, precision in zip(
        weights, F1.weighed(made)(weights), MAP.weighed(made)(weights), strict=True
    ):
        again = np.repeat(np.arange(len(made)), weight)
        labels, predicted, Z = made.labels[again], made.predicted[again], made.Z[again]
        assert f1 == pytest.approx(f1_score(labels, predicted, average="macro"))
        assert precision == pytest.approx(average_precision_score(labels, Z, average="macro"))


def test_figures_of_each_label_leave_out_what_is_not_known():
    made = drawn(0, unknown=0.4)
    found = label_metrics(made, np.array([1, 3]))
    for c in range(5):
        known = made.labels[:, c] >= 0
        own = made.labels[known, c], made.predicted[known, c]
        assert found.per_class[c] == pytest.approx(f1_score(*own))
        assert found.average_precision[c] == pytest.approx(average_precision_score(own[0], made.Z[known, c]))
        assert found.confusion[c].sum() == known.sum()
    assert found.target == pytest.approx(found.per_class[[1, 3]].mean())
    assert found.overall == pytest.approx(F1.value(made))
    assert found.mean_average_precision == pytest.approx(MAP.value(made))
    assert f1_of(made.predicted, made.labels) == pytest.approx(found.per_class)


def test_a_label_that_no_sample_has_is_in_no_mean():
    made = drawn(1)
    labels = made.labels.copy()
    labels[:, 2] = 0
    without = Predictions(labels, made.predicted, made.Z)
    others = [0, 1, 3, 4]
    part = Predictions(labels[:, others], made.predicted[:, others], made.Z[:, others])
    assert F1.value(without) == pytest.approx(F1.value(part))
    assert MAP.value(without) == pytest.approx(MAP.value(part))
    assert np.isnan(label_metrics(without, np.arange(5)).per_class[2])


def counts_of(labels, base, now, bias, touched=None, groups=None):
    return label_counts(labels, (base, now, bias), groups, touched)


def test_changes_are_those_of_f1_and_their_intervals_hold_them():
    rng = np.random.default_rng(3)
    labels = (rng.random((400, 4)) < 0.3).astype(np.int8)
    base, now = ((labels ^ (rng.random(labels.shape) < rate)).astype(np.int64) for rate in (0.2, 0.1))
    found = counts_of(labels, base, now, base)
    change, (low, high) = found.change(None)
    expected = f1_score(labels, now, average="macro") - f1_score(labels, base, average="macro")
    assert change == pytest.approx(100 * expected) and low < change < high and high - low < 8
    one, (wide_low, wide_high) = found.change(np.array([2]), together=4)
    assert one == pytest.approx(100 * (f1_of(now, labels) - f1_of(base, labels))[2])
    assert wide_high - wide_low > high - low
    assert found.change(None, bias=True)[0] == pytest.approx(change)
    was, is_now = base == labels, now == labels
    assert found.fixed.tolist() == (~was & is_now).sum(axis=0).tolist()
    assert found.broken.tolist() == (was & ~is_now).sum(axis=0).tolist()


def test_a_label_that_is_not_touched_keeps_its_f1_for_sure():
    labels = np.zeros((50, 2), np.int8)
    labels[:5] = 1
    base = labels.astype(np.int64)
    found = counts_of(labels, base, base, base, touched=np.array([True, False]))
    assert found.change(np.array([1])) == (0.0, (0.0, 0.0))
    _, (low, _) = found.change(np.array([0]))
    assert low < -20  # five samples cannot tell


def test_copies_of_one_sample_tell_no_more_than_one():
    rng = np.random.default_rng(0)
    labels = (rng.random((60, 2)) < 0.4).astype(np.int8)
    base, now = ((labels ^ (rng.random(labels.shape) < rate)).astype(np.int64) for rate in (0.3, 0.2))
    once = counts_of(labels, base, now, base).change(None)
    many = [np.repeat(each, 10, axis=0) for each in (labels, base, now, base)]
    grouped = counts_of(*many, groups=np.repeat(np.arange(60), 10)).change(None)
    assert grouped[0] == pytest.approx(once[0])
    assert np.ptp(grouped[1]) == pytest.approx(np.ptp(once[1]), rel=0.15)
    assert np.ptp(counts_of(*many).change(None)[1]) < 0.5 * np.ptp(once[1])


def test_a_label_that_is_shown_more_often_has_not_fallen_for_that():
    labels = np.zeros((100, 1), np.int8)
    labels[:20] = 1
    base, now = np.zeros((100, 1), np.int64), np.zeros((100, 1), np.int64)
    now[:60] = 1  # finds all 20, and 40 others: more decisions are wrong, and F1 is higher
    found = counts_of(labels, base, now, base)
    assert found.broken[0] > found.fixed[0] and not found.fell[0]
    assert counts_of(labels, now, base, base).fell[0]
