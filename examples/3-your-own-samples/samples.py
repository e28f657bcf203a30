"""Samples as batches: onnxtweak calls `noisy` or `clean` and reads what they yield."""

from pathlib import Path

import numpy as np

FILE = Path(__file__).resolve().parents[2] / "models" / "digits.npz"


def noisy(split="fit", noise=2.0):
    """Batches of (images (n, 1, 8, 8), labels (n,)), with noise on the images."""
    rng = np.random.default_rng(0)
    with np.load(FILE) as file:
        x, y = file[f"x_{split}"], file[f"y_{split}"]
    for start in range(0, len(x), 100):
        batch = x[start : start + 100]
        yield (batch + rng.normal(0, noise, batch.shape)).astype("float32"), y[start : start + 100]


def noisy_test():
    """The same for the samples that results are reported on."""
    yield from noisy("test")
