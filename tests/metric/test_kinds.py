"""Metrics: their values beside scikit-learn's, and along one bias beside counting anew at each step."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sklearn

from onnxtweak.metric.asked import metric_of
from onnxtweak.metric.kinds import Cost, Predictions


def made(seed: int, classes: int = 4, n: int = 60, missing: bool = False) -> Predictions:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes - missing, n)
    Z = rng.normal(size=(n, classes)) + 1.2 * np.eye(classes)[labels]
    return Predictions(labels, Z.argmax(axis=1), Z)


def names(classes: int) -> list[str]:
    return [f"class {c}" for c in range(classes)]


def cost(classes: int, seed: int = 0) -> Cost:
    table = np.random.default_rng(seed).uniform(0, 5, (classes, classes))
    np.fill_diagonal(table, 0)
    return Cost("cost:x", "mean cost", table)


def every(classes: int):
    words = ("overall", "balanced", "worst", "f1", "iou")
    return [*(metric_of(word, names(classes)) for word in words), cost(classes)]


@pytest.mark.parametrize("classes", [2, 4])
def test_values_are_those_of_scikit_learn(classes):
    one = made(0, classes)
    found = {metric.name: metric.value(one) for metric in every(classes)}
    assert found["overall"] == pytest.approx(sklearn.accuracy_score(one.labels, one.predicted))
    assert found["balanced"] == pytest.approx(sklearn.balanced_accuracy_score(one.labels, one.predicted))
    recalls = sklearn.recall_score(one.labels, one.predicted, average=None)
    assert found["worst"] == pytest.approx(recalls.min())
    average = "binary" if classes == 2 else "macro"
    assert found["f1"] == pytest.approx(sklearn.f1_score(one.labels, one.predicted, average=average))
    jaccard = sklearn.jaccard_score(one.labels, one.predicted, average="macro")
    assert found["iou"] == pytest.approx(jaccard)
    confusion = sklearn.confusion_matrix(one.labels, one.predicted)
    assert found["cost:x"] == pytest.approx((confusion * cost(classes).cost).sum() / len(one))


def test_a_class_without_samples_does_not_count():
    one = made(1, 4, missing=True)
    assert metric_of("worst", names(4)).value(one) > 0
    kept = one.predicted < 3
    recalls = sklearn.recall_score(
        one.labels, np.where(kept, one.predicted, -1), labels=[0, 1, 2], average=None
    )
    assert metric_of("balanced", names(4)).value(one) == pytest.approx(recalls.mean())


def test_what_is_shown_as_none_of_the_classes_is_wrong_and_costs_the_most():
    labels = np.array([0, 1, 1])
    one = Predictions(labels, np.array([0, -1, 1]), np.zeros((3, 2)))
    assert metric_of("overall", names(2)).value(one) == pytest.approx(2 / 3)
    assert metric_of("f1", names(2)).value(one) == pytest.approx(2 / 3)
    assert Cost("cost:x", "", np.array([[0, 1], [7, 2.0]])).value(one) == pytest.approx((0 + 7 + 2) / 3)


def test_a_weight_counts_as_copies_do_in_each_of_several_resamples():
    one = made(2)
    times = np.random.default_rng(0).integers(0, 4, (3, len(one)))
    rows = [np.repeat(np.arange(len(one)), each) for each in times]
    copied = [Predictions(one.labels[own], one.predicted[own], one.Z[own]) for own in rows]
    for metric in every(4):
        found = metric.weighed(one)(times.astype(float))
        assert found == pytest.approx([metric.value(each) for each in copied]), metric.name


@settings(max_examples=40)
@given(st.integers(0, 10**6), st.sampled_from([2, 3, 5]), st.booleans())
def test_along_a_bias_is_what_counting_anew_gives(seed, classes, missing):
    """At every step of every class: the metric but for a factor that is the same for all of them."""
    one = made(seed, classes, 20, missing and classes > 2)
    for metric in every(classes):
        for j in range(classes):
            others = one.Z.copy()
            others[:, j] = -np.inf
            rival = others.argmax(axis=1)
            order = np.argsort(others.max(axis=1) - one.Z[:, j], kind="stable")
            along = metric.along(one.labels[order], rival[order], j, classes)
            counted = []
            for turned in range(len(one) + 1):
                predicted = rival.copy()
                predicted[order[:turned]] = j
                counted.append(metric.sign * metric.value(Predictions(one.labels, predicted, one.Z)))
            scale = np.ptp(metric.cost) if isinstance(metric, Cost) else 1.0
            np.testing.assert_allclose(along * scale, counted, atol=1e-9, err_msg=metric.name)


def test_parts_of_a_class_count_as_parts_of_a_sample():
    one = made(3)
    whole = np.eye(4)[one.labels]
    for metric in every(4):
        smooth = metric.smooth(metric.part(whole, one.predicted), one.predicted, whole.sum(axis=0))
        assert smooth == pytest.approx(metric.value(one)), metric.name


def test_what_needs_more_weight():
    labels, right = np.array([0] * 6 + [1] * 2 + [2] * 3), np.array([True] * 6 + [False] * 2 + [True] * 3)

    def need(word):
        return metric_of(word, names(3)).need(labels, right, 3)

    assert not need("overall").any()
    assert need("balanced")[labels == 0].max() == 0 and need("balanced")[labels == 1].min() == 1
    assert 0 < need("balanced")[-1] < 1
    assert need("worst")[labels == 1].min() == 1 and need("worst")[labels == 0].max() == 0
    dear = Cost("cost:x", "", np.array([[0, 1, 1], [1, 0, 1], [9, 9, 0.0]])).need(labels, right, 3)
    assert dear.tolist() == (labels == 2).tolist()
