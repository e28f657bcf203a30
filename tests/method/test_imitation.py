"""Imitations: what spoils some samples befalls others."""

from __future__ import annotations

import numpy as np
import pytest

from onnxtweak.method.listed.imitation import Imitated, Spoiling
from onnxtweak.method.table import Table

RNG = np.random.default_rng(4)


def shapes(count, seed=0, width=40):
    """Samples of three classes, each a pattern of its own, in [0, 1]; and their labels."""
    rng = np.random.default_rng(seed)
    pattern = np.random.default_rng(9).random((3, width))
    labels = rng.integers(0, 3, count)
    x = np.clip(pattern[labels] + 0.02 * rng.normal(size=(count, width)), 0, 1)
    return x.astype(np.float32), labels


@pytest.mark.parametrize(("gain", "offset"), [(0.3, 0.5), (1.0, 0.0), (0.6, 0.1)])
def test_what_befell_a_sample_befalls_one_of_another_class(gain, offset):
    (x, labels), (others, of_others) = shapes(12, 1), shapes(300, 2)
    spoiled = gain * x + offset
    found = Spoiling.of((spoiled, labels), (others, of_others))
    assert found.number.tolist() == list(range(12))
    fresh, _ = shapes(12, 3)
    made = found.on(fresh, np.arange(12), RNG)
    assert np.abs(made - np.clip(gain * fresh + offset, found.low, found.high)).mean() < 0.03


def test_what_does_not_depend_on_the_sample_is_laid_over_others():
    (x, labels), sound = shapes(8, 1), shapes(300, 2)
    veil = np.linspace(0, 0.5, x.shape[1], dtype=np.float32)
    found = Spoiling.of((0.5 * x + veil, labels), sound)
    fresh, _ = shapes(8, 3)
    assert np.corrcoef((found.on(fresh, np.arange(8), RNG) - 0.5 * fresh).mean(axis=0), veil)[0, 1] > 0.9


def test_a_class_without_sound_samples_shows_nothing_and_values_stay_in_range():
    x, labels = shapes(30, 1)
    sound = tuple(each[labels != 1] for each in (x, labels))
    found = Spoiling.of((x + 2, labels), sound)
    assert np.array_equal(found.number, np.flatnonzero(labels != 1))
    made = found.on(x[: len(found.number)] + 9, np.arange(len(found.number)), RNG)
    assert made.max() <= (x + 2).max() and np.isfinite(made).all()


def test_samples_of_one_value_are_imitated_without_a_warning():
    flat = np.full((3, 5), 0.5, np.float32)
    found = Spoiling.of((flat + 0.25, np.zeros(3, int)), (flat, np.zeros(3, int)))
    assert np.allclose(found.on(flat, np.arange(3), RNG), 0.75)


def test_imitations_go_with_the_rows_that_they_are_like():
    table = Table(np.arange(6, dtype=np.float32)[:, None], np.zeros((6, 2)), np.zeros(6, np.int64))
    rows = Imitated(table, np.array([0, 1, 2, 0, 1, 2])).of(np.array([0, 2]))
    assert rows.T[:, 0].tolist() == [0, 2, 3, 5]


def test_noise_is_drawn_anew_and_what_hangs_together_is_not():
    (x, labels), sound = shapes(60, 1), shapes(300, 2)
    noise = np.random.default_rng(5).normal(size=x.shape)
    waves = np.random.default_rng(6).normal(size=(60, 2)) @ np.sin(np.outer((1, 2), np.linspace(0, 6, 40)))
    of = {
        name: Spoiling.of(((x + 0.2 * what).astype(np.float32), labels), sound)
        for name, what in (("noise", noise), ("waves", waves))
    }
    assert of["noise"].apart > 0.8 and of["waves"].apart < 0.2
    flat = np.full((40, 40), x.mean(), np.float32)
    same = np.zeros(40, np.int64)  # all like one must-sample
    differ = {name: found.on(flat, same, RNG).std(axis=0).mean() for name, found in of.items()}
    assert differ["noise"] > 0.1 > 2 * differ["waves"]


def test_few_samples_do_not_tell_how_numbers_hang_together():
    (x, labels), sound = shapes(4, 1), shapes(300, 2)
    assert Spoiling.of((x, labels), sound).apart == 0
