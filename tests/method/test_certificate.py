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
