"""Accuracies, E of Eq. 3.3, McNemar."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from onnxtweak.goal import ResolvedGoal
from onnxtweak.method.metrics import fixed_and_broken, harm, mcnemar, measure, read_metric
from onnxtweak.metric.asked import metric_of
from onnxtweak.metric.bootstrap import resampled
from onnxtweak.metric.kinds import Predictions

NOBODY = ResolvedGoal(np.empty(0, np.int64))


def classes_hold(before, after, labels, drop):
    goal = ResolvedGoal(NOBODY.targets, max_class_drop=drop)
    return goal.classes_hold(before == labels, after == labels, labels, 3)


def test_metrics_of_a_small_case():
    labels = np.array([0, 0, 1, 1, 1, 2])
    predicted = np.array([0, 1, 1, 1, 0, 2])
    found = measure(predicted, labels, ResolvedGoal(np.array([1, 2])), np.zeros((len(labels), 4)))
    assert found.overall == pytest.approx(4 / 6)
    assert found.target == pytest.approx(3 / 4)
    np.testing.assert_allclose(found.per_class, [1 / 2, 2 / 3, 1, np.nan])
    assert found.confusion.tolist() == [[1, 1, 0, 0], [1, 2, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0]]


def test_harm_counts_only_losses_over_all_classes():
    labels = np.array([0] * 10 + [1] * 10 + [2] * 10 + [3] * 10)
    before, after = labels.copy(), labels.copy()
    after[0:3] = 1  # class 0 loses 30 points
    before[10:15] = 0  # class 1 gains 50 points
    after[20:21] = 0  # class 2 loses 10 points
    Z = np.zeros((len(labels), 4))
    found = harm(measure(before, labels, NOBODY, Z), measure(after, labels, NOBODY, Z))
    assert found == pytest.approx(np.sqrt((30**2 + 10**2) / 4))


def test_fixed_and_broken():
    labels = np.array([0, 1, 2, 3])
    before, after = (np.array(each) == labels for each in ([0, 0, 0, 0], [1, 1, 2, 0]))
    assert fixed_and_broken(before, after) == (2, 1)


@given(st.integers(0, 400), st.integers(0, 400))
def test_mcnemar_is_the_exact_binomial_test(fixed, broken):
    expected = binomtest(min(fixed, broken), fixed + broken).pvalue if fixed + broken else 1.0
    assert mcnemar(fixed, broken) == pytest.approx(expected, rel=1e-9, abs=1e-300)


def test_mcnemar_of_many_changes_does_not_underflow_to_nonsense():
    assert mcnemar(50_000, 50_000) == pytest.approx(1.0)
    assert 0 <= mcnemar(60_000, 40_000) < 1e-300


def test_a_class_may_lose_as_much_as_is_allowed_and_no_more():
    labels = np.repeat([0, 1], 10)
    before, after = labels.copy(), labels.copy()
    after[:2] = 1  # class 0 loses 20 points
    assert classes_hold(before, after, labels, 20.0)
    assert not classes_hold(before, after, labels, 19.9)
    assert classes_hold(before, after, labels, None)


def test_the_interval_of_a_rate_rests_on_groups_where_there_are_such():
    """Ten groups of a hundred, the false alarms all in one of them."""
    labels, groups = np.tile([0] * 90 + [1] * 10, 10), np.repeat(np.arange(10), 100)
    score = np.where((groups == 3) & (labels == 0), 1.0, -1.0)
    Z = np.column_stack([np.zeros(1000), score])
    made = Predictions(labels, Z.argmax(axis=1), Z)
    alone, together = (
        read_metric(metric_of("recall@fpr=0.2", ("a", "b")), made, each).at_cut for each in (None, groups)
    )
    assert alone.rate == together.rate == pytest.approx(0.1) and alone.kept
    assert alone.interval[1] < 0.13 and together.interval[1] > 0.3


def test_a_metric_of_very_many_samples_is_resampled_less_often():
    labels = np.zeros(400_000, np.int64)
    made = Predictions(labels, labels, np.zeros((400_000, 2), np.float32))
    assert len(resampled(metric_of("overall", ("a", "b")), [made])) == 100
