"""Predictions along the boost of one target are those of the whole operating point, and are reused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from onnxtweak.goal import ResolvedGoal
from onnxtweak.method.tuning import bias_path as module
from onnxtweak.method.tuning.bias_path import BiasPaths
from onnxtweak.method.tuning.boosted import boost_table, predict
from onnxtweak.method.tuning.operating_point import choose

COUNTS = (1, 2, 5)


def made(seed: int, samples: int = 120, classes: int = 6, targets: tuple[int, ...] = (0, 2, 5)):
    rng = np.random.default_rng(seed)
    Z = np.round(rng.normal(size=(samples, classes)), 1).astype(np.float32)  # with ties
    labels = rng.integers(0, classes, samples)
    prefix = np.round(rng.normal(size=(samples, len(targets), len(COUNTS))), 1)
    return boost_table(Z, labels, ResolvedGoal(np.array(targets))), prefix


def whole(table, prefix, n, scale):
    places = [COUNTS.index(k) for k in n]
    boost = np.stack([prefix[:, t, g] * (scale[t] / n[t]) for t, g in enumerate(places)], axis=1)
    return predict(table, boost) == table.labels


@pytest.mark.parametrize("targets", [(3,), (0, 2, 5), (0, 1, 2, 3, 4, 5)], ids=["one", "some", "all"])
def test_a_line_says_what_the_whole_point_says(targets):
    table, prefix = made(0, targets=targets)
    paths, rng = BiasPaths(table, prefix, COUNTS), np.random.default_rng(1)
    of_target = np.isin(table.labels, targets)
    for _ in range(40):
        n = tuple(int(k) for k in rng.choice(COUNTS, len(targets)))
        scale = tuple(float(s) for s in rng.choice([0.0, 0.5, 1.0, 3.0], len(targets)))
        t, k, s = int(rng.integers(len(targets))), int(rng.choice(COUNTS)), float(rng.choice([0.0, 0.7, 2.0]))
        there = (*n[:t], k, *n[t + 1 :]), (*scale[:t], s, *scale[t + 1 :])
        right = whole(table, prefix, *there)
        line = paths.through(n, scale, t)
        np.testing.assert_array_equal(line.right(k, s), right)
        np.testing.assert_array_equal(paths.right(*there), right)
        counted = int(right.sum()), int((right & of_target).sum())
        assert line.right_at(k, s) == paths.right_at(*there) == counted


def test_plateaus_foretell_what_becomes_right():
    table, prefix = made(2)
    paths = BiasPaths(table, prefix, COUNTS)
    line = paths.through((1, 1, 1), (0.5, 0.0, 2.0), 1)
    found, start = line.plateaus(2), line.right_at(2, 0.0)
    here = [line.right_at(2, float(s)) for s in found.scale]
    assert len(found.scale) > 20
    assert [overall - start[0] for overall, _ in here] == found.overall.tolist()
    assert [target - start[1] for _, target in here] == found.target.tolist()


def test_what_is_known_is_not_found_again():
    table, prefix = made(3)
    paths = BiasPaths(table, prefix, COUNTS)
    line = paths.through((1, 2, 5), (0.5, 1.0, 0.0), 1)
    assert paths.through((1, 5, 1), (0.5, 3.0, 0.0), 1) is line  # the target's own boost plays no part
    assert paths.through((1, 2, 5), (0.5, 1.0, 1.0), 1) is not line
    assert line.plateaus(2) is line.plateaus(2)


def test_few_paths_are_kept_where_samples_are_many(monkeypatch):
    table, prefix = made(4)
    monkeypatch.setattr(module, "_CACHE_BYTES", 2 * (40 + 24 * 3) * 120)
    paths = BiasPaths(table, prefix, COUNTS)
    first = paths.through((1, 1, 1), (0.0, 0.0, 0.0), 0)
    second = paths.through((1, 1, 1), (1.0, 0.0, 0.0), 1)
    assert paths.through((1, 1, 1), (0.0, 0.0, 0.0), 0) is first  # the latest used
    paths.through((1, 1, 1), (1.0, 0.0, 0.0), 2)
    assert paths.through((1, 1, 1), (1.0, 0.0, 0.0), 1) is not second


@pytest.mark.parametrize("scales", [None, (0.0, 0.5, 1.0, 3.0)], ids=["exact", "grid"])
def test_choices_one_after_the_other_are_those_made_alone(scales):
    table, prefix = made(5, targets=(0, 1, 2, 3, 4, 5))
    paths = BiasPaths(table, prefix, COUNTS)
    for drop in (-2.0, 0.0, 1.0, 5.0):
        for class_drop in (None, 10.0):
            goal = replace(table.goal, max_overall_drop=drop, max_class_drop=class_drop)
            alone = choose(table, prefix, COUNTS, scales, goal=goal)
            found = choose(table, prefix, COUNTS, scales, goal=goal, paths=paths)
            assert repr(found) == repr(alone)
