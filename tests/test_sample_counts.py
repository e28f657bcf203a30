"""What became of samples that belong together: as how many independent ones they count."""

from __future__ import annotations

import numpy as np
import pytest

from onnxtweak.intervals import deviations, paired
from onnxtweak.sample_counts import GroupedSamples, LabelCounts, SampleCounts, independent_changes

GROUPS = np.repeat([7, 3, 5, 9], [4, 2, 3, 3])
BASE = np.array([1, 1, 1, 0, 0, -1, 0, 0, 0, 1, 0, 0])
BIAS = np.array([1, 0, 0, 0, 0, 0, 1, 0, 0, -1, 0, 0])


def by_hand(change: np.ndarray, groups: np.ndarray) -> float:
    """The variance of the mean from the groups' sums, over that from samples."""
    away, numbers = change - change.mean(), np.unique(groups)
    sums = [away[groups == number].sum() for number in numbers]
    return np.square(sums).sum() * len(numbers) / (len(numbers) - 1) / np.square(away).sum()


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("left_out", [None, 3, 9])
def test_the_design_effect_is_the_variance_of_groups_over_that_of_samples(bias, left_out):
    rows = None if left_out is None else left_out != GROUPS
    own, change = slice(None) if rows is None else rows, BIAS if bias else BASE
    effect = GroupedSamples(GROUPS, BASE, BIAS).effect(rows, bias=bias)
    assert effect == pytest.approx(max(1.0, by_hand(change[own], GROUPS[own])))
    assert effect > 1 or bias


def test_a_design_effect_is_one_at_least_and_a_single_group_is_one_observation():
    even = np.tile([1, 0, 0], 4)  # groups change alike: their sums do not differ at all
    assert GroupedSamples(np.arange(12) // 3, even, even).effect(None) == 1
    assert GroupedSamples(GROUPS, np.zeros(12, int), BASE).effect(None) == 1
    assert GroupedSamples(GROUPS, np.ones(12, int), BASE).effect(None) == 1
    both = GroupedSamples(np.repeat([0, 1], 6), np.repeat([0, 1], 6), even)
    assert both.effect(None) == pytest.approx(12)
    two, change = np.repeat([0, 1], 6), np.array([1, 1, 0, 0, 0, 0, -1, -1, 0, 0, 0, 0])
    assert GroupedSamples(two, change, even).effect(None) == pytest.approx(by_hand(change, two)) == 4
    assert GroupedSamples(np.zeros(12, int), BASE, BIAS).effect(None) == 12
    nobody = np.empty(0, np.int64)
    assert GroupedSamples(nobody, nobody, nobody).effect(None) == 1


def test_changes_that_groups_make_together_count_by_their_sums():
    own, many = np.array([0, 0, 0, 1, 1, 1, 0, 0, 2, 1, 2, 0]), 4
    assert independent_changes(BASE, own, many, None).tolist() == [3, 2, 0, 0]
    # Class 0: three of one group. Class 1: one less and one more, of a group each.
    assert independent_changes(BASE, own, many, GROUPS).tolist() == [9, 2, 0, 0]
    # A group in which as many are right now as no longer: each counts alone, at the least.
    assert independent_changes(BASE, own, many, np.zeros(12, int)).tolist() == [9, 2, 0, 0]
    assert independent_changes(np.zeros(12, int), own, many, GROUPS).tolist() == [0] * 4


def test_classes_without_a_sample_are_counted_as_none():
    own = np.array([0, 0, 0, 1, 1, 1, 0, 0, 2, 1, 2, 0])
    counts = SampleCounts.of(own, 5, BASE, BIAS, GROUPS)
    assert counts.samples.tolist() == [6, 4, 2, 0, 0]
    assert (counts.fixed.tolist(), counts.broken.tolist()) == ([3, 1, 0, 0, 0], [0, 1, 0, 0, 0])
    assert (counts.ahead.tolist(), counts.behind.tolist()) == ([2, 0, 0, 0, 0], [0, 1, 0, 0, 0])
    assert counts.fell.tolist() == [False] * 5
    assert counts.change(np.array([3])) == (None, None)
    assert counts.change(None)[0] == pytest.approx(3 / 12 * 100)
    assert counts.change(np.array([1]), bias=True)[0] == pytest.approx(-1 / 4 * 100)
    for bias, better, worse, effect in ((False, 3, 0, 3.5), (True, 2, 0, 1.0)):
        change, interval = counts.change(np.array([0]), bias=bias)
        assert counts.dependent.effect(own == 0, bias=bias) == pytest.approx(effect)
        low, high = paired(better / effect, worse / effect, 6 / effect)
        assert change == pytest.approx((better - worse) / 6 * 100)
        assert interval == pytest.approx((low * 100, high * 100))


def of_labels(spread=0.2, f1=((0.5, 0.6, 0.9), (0.6, 0.6, 0.1), (0.55, 0.7, 0.2)), units=None):
    """Three labels, the last of which no sample has; the patch changes the first. In resamples the mean of
    the first two gains so much more, or less."""
    f1, none = np.array(f1), np.zeros(3, np.int64)
    drawn = np.stack([f1, f1])
    drawn[0, 1, :2] += spread
    drawn[1, 1, :2] -= spread
    touched, samples = np.array([True, False, True]), np.array([40, 10, 0])
    return LabelCounts(samples, none, none, none, none, f1, drawn, touched, units)


@pytest.mark.parametrize(("bias", "change"), [(False, 0.05), (True, -0.025)])
def test_a_change_of_labels_is_their_mean_with_the_errors_of_resamples(bias, change):
    found, (low, high) = of_labels().change(None, bias=bias, together=4)
    assert (found, low, high) == pytest.approx(
        (100 * change, *(100 * (change + sign * 0.2 * deviations(4)) for sign in (-1, 1)))
    )


@pytest.mark.parametrize(("bias", "unsure"), [(False, [42]), (True, [42, 12])])
def test_a_label_that_may_have_changed_is_unsure_by_a_sample_found_and_one_lost(bias, unsure):
    """Against the best biases, which may be of any label, all are."""
    change, (low, high) = of_labels(spread=0.0).change(None, bias=bias)
    least = np.sqrt(sum(2 / each**2 for each in unsure)) / 2
    assert (high - change, change - low) == pytest.approx((100 * least * deviations(),) * 2)


@pytest.mark.parametrize(("units", "drawn"), [((3, 2, 9), 3), ((4, 7, 9), 7), ((1, 0, 9), 2)])
def test_few_units_that_are_drawn_widen_it(units, drawn):
    change, (low, high) = of_labels(spread=0.01, units=np.array(units)).change(None)
    least = np.sqrt(2) / 42 / 2
    assert high - change == pytest.approx(min(100 * least * deviations(1, drawn), 100 - change))
    assert change - low == pytest.approx(min(100 * least * deviations(1, drawn), 100 + change))


def test_a_change_of_f1_stays_within_what_there_is():
    for sign in (1, -1):
        low, high = np.full(3, 0.1), np.full(3, 0.9)
        before, after = (low, high) if sign > 0 else (high, low)
        change, ends = of_labels(0.5, (before, after, before)).change(None)
        assert (
            change == pytest.approx(80 * sign) and ends[sign > 0] == 100 * sign and abs(ends[sign < 0]) < 100
        )


def test_a_label_without_a_sample_has_no_change_and_one_that_is_as_before_has_not_fallen():
    assert of_labels().change(np.array([2])) == (None, None)
    assert of_labels().change(np.array([1, 2]))[0] == 0
    assert of_labels().fell.tolist() == [False, False, True]
