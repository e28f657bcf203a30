"""Is the temperature the one of the lowest log-loss, whatever the logits look like?"""

from __future__ import annotations

import numpy as np
import pytest

from onnxtweak.method import temperature
from onnxtweak.method.softmax import log_loss, log_losses, softmax
from onnxtweak.method.temperature import calibrated, fit_temperature, losses_cooled


def sampled(temperature, n=20_000, seed=0):
    """Logits of which softmax(Z / temperature) are the labels' true probabilities."""
    rng = np.random.default_rng(seed)
    true = rng.normal(0, 2, (n, 6))
    labels = (true + rng.gumbel(size=true.shape)).argmax(axis=1)
    return (true * temperature).astype(np.float32), labels


@pytest.mark.parametrize("temperature", [0.01, 0.75, 1.0, 1.34, 138.0, 1e4])
def test_the_true_temperature_is_found(temperature):
    assert fit_temperature(*sampled(temperature)) == pytest.approx(temperature, rel=0.05)


@pytest.mark.parametrize("seed", range(5))
def test_no_other_temperature_has_a_lower_log_loss(seed):
    Z, labels = sampled(2.0, n=300, seed=seed)
    found = fit_temperature(Z, labels)
    best = log_loss(Z / found, labels)
    for factor in (0.5, 0.9, 0.99, 1.01, 1.1, 2.0):
        assert log_loss(Z / (found * factor), labels) >= best - 1e-9


def test_too_sure_is_forgiven_and_not_sure_enough_is_not():
    Z, labels = sampled(1.0, n=2000)
    right = log_losses(Z / np.float32(fit_temperature(Z, labels)), labels).mean()
    assert losses_cooled(Z * 5, labels).mean() == pytest.approx(right, abs=1e-5)
    assert np.array_equal(losses_cooled(Z / 5, labels), log_losses(Z / 5, labels))
    assert np.array_equal(losses_cooled(Z, labels, 7.0), log_losses(Z / np.float32(7), labels))


def test_logits_without_a_best_temperature_get_a_finite_one():
    Z, labels = sampled(1.0, n=50)
    always_right, never_right = Z.argmax(axis=1), Z.argmin(axis=1)
    low, high = fit_temperature(Z, always_right), fit_temperature(Z, never_right)
    assert 0 < low < 1 < high < 1e5
    infinite = Z.copy()
    infinite[0, 1] = -np.inf
    for odd in (np.zeros((4, 3)), np.zeros((0, 3)), infinite):
        assert np.isfinite(fit_temperature(odd.astype(np.float32), labels[: len(odd)] % 3))


def test_the_end_of_the_bracket_takes_few_looks_at_the_loss(monkeypatch):
    Z, _ = sampled(1.0, n=50)
    looks, plain = [], temperature.row_blocks
    monkeypatch.setattr(temperature, "row_blocks", lambda array: looks.append(1) or plain(array))
    found = fit_temperature(Z, Z.argmax(axis=1))
    spread = (Z - Z.max(axis=1, keepdims=True)).std()
    assert found == pytest.approx(spread / temperature._MOST, rel=1e-6) and len(looks) < 15


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_calibrated_probabilities_are_those_of_plain_steps_in_double_precision(kind):
    Z, labels = sampled(30.0, n=3000)
    Z = (Z + np.array([90, 0, 0, -200, 0, 0])).astype(kind)
    labels[labels == 2] = 1  # a class without samples
    share = np.bincount(labels, minlength=6) / len(labels)
    logits, known = Z.astype(np.float64), share > 0
    for _ in range(3):
        logits /= fit_temperature(logits, labels)
        for _ in range(10):
            logits[:, known] += np.log(share[known] / softmax(logits).mean(axis=0)[known])
    found = calibrated(Z, labels)
    assert found.p == pytest.approx(softmax(logits), abs=2e-5)
    assert found.temperature == pytest.approx(fit_temperature(Z, labels))
    assert found.p.mean(axis=0)[known] == pytest.approx(share[known], rel=0.01)
    # The bias is what, with a temperature, makes these of the logits.
    apart, log = (each[:, known] - each[:, [1]] for each in (Z + found.bias, np.log(found.p.astype(float))))
    assert log == pytest.approx(apart * (log * apart).sum() / (apart**2).sum(), abs=1e-2)
