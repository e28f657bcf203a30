"""Conformal risk control: the harm on new samples stays below the level, on average."""

from __future__ import annotations

import numpy as np
import pytest

from onnxtweak.errors import UsageError
from onnxtweak.method.tuning.certificate import breaking_scale, certify
from onnxtweak.patch import Linear, Mlp


def logits(samples, seed):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 4, samples)
    base = rng.normal(size=(samples, 4))
    base[np.arange(samples), labels] += 2
    tweaked = base + rng.normal(size=(samples, 4)) + [2, 0, 0, 0]
    return base.astype(np.float32), tweaked.astype(np.float32), labels


def harm(base, tweaked, labels, scale):
    moved = base + scale * (tweaked.astype(np.float64) - base)
    return ((base.argmax(axis=1) == labels) & (moved.argmax(axis=1) != labels)).mean()


def test_a_sample_is_right_until_it_breaks_and_never_after():
    base, tweaked, labels = logits(200, 0)
    breaks = breaking_scale(base, tweaked, labels)
    right = base.argmax(axis=1) == labels
    assert np.isinf(breaks[~right]).all()
    for scale in np.linspace(0, 3, 40):
        moved = base + scale * (tweaked.astype(np.float64) - base)
        assert np.array_equal((moved.argmax(axis=1) == labels)[right], (breaks > scale)[right])


@pytest.mark.parametrize("level", [0.01, 0.05, 0.1])
def test_expected_harm_on_new_samples_is_below_the_level(level):
    new = logits(20_000, 999)
    scales = [certify(*logits(300, seed), level).scale for seed in range(60)]
    harms = np.array([harm(*new, scale) for scale in scales])
    assert harms.mean() <= level + 2 * harms.std() / np.sqrt(len(harms))
    assert harms.mean() >= level / 3  # and it is not the trivial answer


def test_the_certificate_counts_what_it_breaks():
    base, tweaked, labels = logits(500, 1)
    found = certify(base, tweaked, labels, 0.04)
    assert found.broken == round(harm(base, tweaked, labels, found.scale) * 500)
    assert (found.broken + 1) / 501 <= 0.04
    assert certify(base, tweaked, labels, 0.9).scale == 1.0


def positions(pictures, seed):
    """Logits of 50 positions a picture, some of which the patch harms throughout."""
    rng = np.random.default_rng(seed)
    base, tweaked, labels = logits(50 * pictures, seed)
    picture = np.repeat(np.arange(pictures), 50)
    # How far the patch goes is a matter of the picture.
    change = (tweaked - base) * rng.exponential(1, pictures)[picture, None]
    return (base, (base + change).astype(np.float32), labels), picture


@pytest.mark.parametrize("level", [0.05, 0.1])
def test_groups_keep_the_level_where_their_samples_are_alike(level):
    new, _ = positions(2_000, 999)
    found = [positions(30, seed) for seed in range(60)]
    harms = np.array([harm(*new, certify(*one, level, groups=group).scale) for one, group in found])
    assert harms.mean() <= level and harms.mean() >= level / 10
    one, group = found[0]
    assert certify(*one, level, groups=group).samples == 30
    alone = certify(*one, level, groups=np.arange(len(group)))
    assert alone == certify(*one, level) and certify(*one, level, groups=group).scale < alone.scale


def test_a_group_breaks_by_the_share_of_its_samples():
    base, labels = np.array([[1.0, 0], [2, 0], [9, 0], [9, 0]]), np.zeros(4, np.int64)
    group = np.array([7, 7, 7, 3])
    tweaked = base + np.array([0, 3])  # they break at 1/3, 2/3, 3 and 3
    scales = [certify(base, tweaked, labels, level, groups=group).scale for level in (0.34, 0.46, 0.5, 0.6)]
    assert scales == pytest.approx([1 / 3, 2 / 3, 2 / 3, 1], rel=1e-4)  # (0, 1/3, 1/3, 2/3, + 1) / (2 + 1)


def test_too_few_samples_certify_nothing():
    base, tweaked, labels = logits(20, 2)
    assert certify(base, tweaked, labels, 0.01).scale == 0.0


def test_a_level_that_is_no_share_is_refused():
    with pytest.raises(UsageError, match="not a share"):
        certify(*logits(20, 2), 2.0)


def test_a_scaled_patch_adds_that_much_less():
    rng = np.random.default_rng(0)
    T = rng.normal(size=(10, 3))
    linear = Linear(rng.normal(size=(3, 2)), rng.normal(size=2))
    mlp = Mlp(rng.normal(size=(3, 5)), rng.normal(size=5), rng.normal(size=(5, 2)), rng.normal(size=2))
    half = linear.scaled(0.5)
    assert np.allclose(T @ half.weight + half.bias, (T @ linear.weight + linear.bias) / 2)
    hidden = np.maximum(T @ mlp.w1 + mlp.b1, 0)
    less = mlp.scaled(0.5)
    assert np.allclose(hidden @ less.w2 + less.b2, (hidden @ mlp.w2 + mlp.b2) / 2)
