"""Readings at equal overall accuracy, and how a result is judged."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onnxtweak.goal import ResolvedGoal
from onnxtweak.method.compare.comparison import CURVE, MethodResult, judge, readings
from onnxtweak.method.compare.methods import result_of_fit
from onnxtweak.method.compare.standings import MethodRun, standings
from onnxtweak.method.fit.fit import fit_all
from onnxtweak.method.table import Table
from onnxtweak.method.tuning.target_bias import set_target_bias
from onnxtweak.metric.asked import metric_of
from onnxtweak.patch import Linear, Mlp
from onnxtweak.settings import FitSettings
from onnxtweak.verdict import copied
from tests.support.learning import learning


def table(samples, seed=0, classes=4, signal=2.0, lack=1.0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, samples)
    Z = rng.normal(size=(samples, classes))
    Z[np.arange(samples), labels] += signal
    Z[:, 0] -= lack
    T = rng.normal(size=(samples, 3)).astype(np.float32)
    T[:, 0] += labels == 0
    return Table(T, Z.astype(np.float32), labels)


@pytest.mark.parametrize("drop", [-1.0, 0.0, 1.0, 5.0])
def test_readings_are_the_best_of_all_biases(drop):
    of = table(400)
    (found,) = readings(of.Z, of.Z, of.labels, ResolvedGoal(np.array([0])), [drop])
    floor = (of.Z.argmax(axis=1) == of.labels).sum() - np.floor(drop / 100 * 400 + 1e-9)
    best = np.nan
    gaps = np.sort(np.delete(of.Z, 0, axis=1).max(axis=1) - of.Z[:, 0])
    for bias in np.concatenate([[gaps[0] - 1], (gaps[1:] + gaps[:-1]) / 2, [gaps[-1] + 1]]):
        boosted = of.Z.astype(np.float64)
        boosted[:, 0] += bias
        right = boosted.argmax(axis=1) == of.labels
        if right.sum() >= floor:
            best = np.nanmax([best, right[of.labels == 0].mean()])
    assert found == pytest.approx(best, nan_ok=True)


def test_readings_rise_with_the_drop_and_say_what_is_out_of_reach():
    of = table(500)
    found = readings(of.Z, of.Z, of.labels, ResolvedGoal(np.array([0])), CURVE)
    known = found[~np.isnan(found)]
    assert (np.diff(known) >= 0).all()
    assert np.isnan(readings(of.Z, of.Z, of.labels, ResolvedGoal(np.array([0])), [-50.0])).all()


def test_readings_of_several_targets_keep_the_floor():
    of = table(500)
    targets = np.array([0, 2])
    loose, strict = readings(of.Z, of.Z, of.labels, ResolvedGoal(targets), [5.0, 0.0])
    own = np.isin(of.labels, targets)
    assert loose >= strict >= (of.Z.argmax(axis=1) == of.labels)[own].mean()


def result(held, patch=None, point=None):
    nothing = Linear(np.zeros((0, held.Z.shape[1])), np.zeros(held.Z.shape[1]))
    columns = np.arange(0 if patch is None else 3)
    patch = nothing if patch is None else patch
    return MethodResult(columns, patch, held.patched(columns, patch), held.Z, held.labels, point=point)


def test_a_bias_is_set_on_the_samples_held_out_and_judged_on_test():
    held, test = table(2000, lack=2.0), table(4000, seed=1, lack=2.0)
    made = judge(result(held), test, ResolvedGoal(np.array([0])), 1.0)
    boosted = test.Z.copy()
    boosted[:, 0] += np.float32(made.bias[0])
    assert made.bias[0] > 0
    assert made.metrics.overall == pytest.approx((boosted.argmax(axis=1) == test.labels).mean())
    was = test.Z.argmax(axis=1) == test.labels
    assert made.fixed - made.broken == (boosted.argmax(axis=1) == test.labels).sum() - was.sum()


def test_a_patch_that_harms_is_not_delivered_but_its_readings_are_shown():
    held, test = table(1000), table(1000, seed=1)
    rng = np.random.default_rng(0)
    harmful = Linear(rng.normal(size=(3, 4)) * 5, np.zeros(4))
    made = judge(result(held, harmful), test, ResolvedGoal(np.array([0])), 1.0)
    assert (made.fixed, made.broken) == (0, 0)
    assert np.isnan(made.at[CURVE.index(0.0)])


def test_a_point_of_its_own_is_taken_as_it_is():
    held, test = table(1000), table(1000, seed=1)
    made = judge(result(held, point=np.array([0.7])), test, ResolvedGoal(np.array([0])), 1.0)
    assert made.bias[0] == 0.7


def test_the_cut_of_a_rate_keeps_clear_by_groups_where_samples_belong_together():
    """Twenty samples a group, with an offset of its own: they tell less than as many alone."""
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(200), 20)
    labels = rng.integers(0, 2, 4000)
    score = labels * 2 + rng.normal(size=200)[groups] * 2 + rng.normal(size=4000) * 0.3
    held = Table(np.zeros((4000, 0), np.float32), np.stack([0 * score, score], axis=1), labels)
    goal = ResolvedGoal(
        np.arange(2), max_overall_drop=100.0, metric=metric_of("recall@fpr=0.1", ["no", "yes"])
    )
    alone, together = (judge(replace(result(held), groups=own), held, goal, 1.0) for own in (None, groups))
    assert together.bias[1] < alone.bias[1] - 0.1
    assert together.metrics.confusion[0, 1] < alone.metrics.confusion[0, 1]


def test_biases_of_other_classes_belong_to_what_fit_learnt_and_those_of_targets_are_its_point():
    learnt, test, goal = table(2000, lack=2.0), table(3000, seed=1, lack=2.0), ResolvedGoal(np.array([0]))
    found = fit_all(learning(learnt), {}, goal, FitSettings(max_class_drop=None))
    found = replace(found, bias=found.bias + np.array([0, 0.3, 0, 0]))
    result = result_of_fit(learnt, found, goal)
    assert found.kind == "bias" and np.flatnonzero(result.point).tolist() == [0]
    assert np.allclose(result.held_out, learnt.Z + np.float32([0, 0.3, 0, 0]))
    made = judge(result, test, goal, 1.0)
    assert np.array_equal(made.predicted, (test.Z + found.bias.astype(np.float32)).argmax(axis=1))


def test_linear_and_mlp_patches_are_applied_as_the_file_does():
    of = table(50)
    rng = np.random.default_rng(0)
    W, b = rng.normal(size=(3, 4)), rng.normal(size=4)
    linear = of.patched(np.arange(3), Linear(W, b))
    assert np.allclose(linear, of.Z + of.T @ W + b, atol=1e-5)
    half = np.vstack([np.eye(4), -np.eye(4)])
    as_mlp = Mlp(np.hstack([W, -W]), np.concatenate([b, -b]), half, np.zeros(4))
    assert np.allclose(of.patched(np.arange(3), as_mlp), linear, atol=1e-4)


def tables(seed):
    """Random logits without and with a patch, labels, and one to three targets that lack something."""
    rng = np.random.default_rng(seed)
    classes, samples = int(rng.integers(3, 8)), int(rng.integers(60, 400))
    base = rng.normal(0, 1.5, (samples, classes)).astype(np.float32)
    labels = (base + rng.normal(0, 1.2, base.shape)).argmax(axis=1)
    told = 0.8 * rng.random() * np.eye(classes)[labels]
    Z = base + (told + rng.normal(0, 0.7, base.shape)).astype(np.float32)
    targets = np.sort(rng.permutation(classes)[: int(rng.integers(1, 4))])
    base[:, targets] -= 1
    Z[:, targets] -= 1
    return Z, base, labels, targets


@settings(max_examples=8)
@given(st.integers(0, 10_000), st.sampled_from([None, 0.0, 3.0, 10.0]))
def test_who_may_lose_more_never_gets_less(seed, class_drop):
    Z, base, labels, targets = tables(seed)
    goal = ResolvedGoal(targets, max_class_drop=class_drop)
    read = readings(Z, base, labels, goal, CURVE)
    known = read[~np.isnan(read)]
    assert (np.diff(known) >= 0).all()
    assert np.isnan(read[: len(read) - len(known)]).all()  # once within reach, always
    own, reached = goal.wanted(labels), -1
    for drop in (0.0, 0.1, 0.3, 1.0, 2.0, 3.0, 5.0):
        choice = set_target_bias(Z, base, labels, replace(goal, max_overall_drop=drop))
        if choice.holds:
            assert choice.right[own].sum() >= reached
            reached = choice.right[own].sum()
        assert choice.holds or reached < 0


@pytest.mark.parametrize("seed", range(12))
def test_readings_along_one_bias_spare_every_class(seed):
    Z, base, labels, targets = tables(seed)
    goal = ResolvedGoal(targets[:1], max_class_drop=[0.0, 2.0, 8.0][seed % 3])
    was = base.argmax(axis=1) == labels
    gaps = np.sort(np.delete(Z, goal.targets[0], axis=1).max(axis=1) - Z[:, goal.targets[0]])
    best = np.full(len(CURVE), np.nan)
    for bias in np.concatenate([[gaps[0] - 1], (gaps[1:] + gaps[:-1]) / 2, [gaps[-1] + 1]]):
        boosted = Z.astype(np.float64)
        boosted[:, goal.targets[0]] += bias
        right = boosted.argmax(axis=1) == labels
        if goal.classes_hold(was, right, labels, Z.shape[1]):
            lost = (was.sum() - right.sum()) / len(labels) * 100
            allowed = np.array(CURVE) >= lost - 1e-9
            best[allowed] = np.fmax(best[allowed], right[goal.wanted(labels)].mean())
    np.testing.assert_allclose(readings(Z, base, labels, goal, CURVE), best)


def test_means_over_repeats_do_not_fall_either():
    """A repeat that only gets there at a larger loss must not pull the mean down there."""
    held, goal = table(400), ResolvedGoal(np.array([0]))
    made = judge(result(held), table(400, seed=1), goal, 1.0)
    high, low = np.full(len(CURVE), 0.9), np.where(np.array(CURVE) < 0.3, np.nan, 0.5)
    rows = [MethodRun(replace(made, at=at), copied("test", 400), 1, 0.1, "") for at in (high, low)]
    (standing,) = standings({"bias": rows}, {}, goal)
    assert [np.isnan(mean) for mean, _ in standing.at] == [True, True, False, False]
    assert [mean for mean, _ in standing.at[2:]] == pytest.approx([0.7, 0.7])
    known = [target for _, target in standing.curve if not np.isnan(target)]
    assert known == sorted(known)
