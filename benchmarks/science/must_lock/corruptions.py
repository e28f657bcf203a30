"""Which digits does the must-and-lock benchmark use? Corruptions in the manner of MNIST-C, seeded.

Of MNIST-C (N. Mu, J. Gilmer, *MNIST-C: A Robustness Benchmark for Computer Vision*, 2019; the five severities
of its repository): Gaussian blur of 1, 2, 3, 4 and 6 pixels. Its Gaussian noise has deviations of .08 to .38,
its contrast leaves .4 to .05 of the range; ours is brighter, its fog is smoother.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

PIXELS = 28


def fog(x: np.ndarray, rng: np.random.Generator, severity: float) -> np.ndarray:
    """Plasma noise of many wavelengths laid over the digits. x (N, 28, 28) in [0, 1]."""
    clouds = np.zeros_like(x)
    for octave in range(1, 5):
        cells = 2**octave
        grid = rng.random((len(x), cells + 1, cells + 1), np.float32)
        at = np.linspace(0, cells, PIXELS, dtype=np.float32) * 0.9999
        low, part = at.astype(int), (at - at.astype(int)).astype(np.float32)
        rows = grid[:, low] * (1 - part)[None, :, None] + grid[:, low + 1] * part[None, :, None]
        clouds += (rows[:, :, low] * (1 - part) + rows[:, :, low + 1] * part) / 2**octave
    clouds = clouds / clouds.max(axis=(1, 2), keepdims=True)
    return np.clip((x + severity * clouds) / (1 + severity), 0, 1)


def blur(x: np.ndarray, rng: np.random.Generator, severity: float) -> np.ndarray:
    """Motion blur: the mean along a line of `severity` pixels in a random direction."""
    found = np.zeros_like(x)
    angle = rng.random(len(x)) * np.pi
    steps = np.linspace(-severity / 2, severity / 2, 2 * int(severity) + 1)
    rows, columns = np.mgrid[:PIXELS, :PIXELS]
    for step in steps:
        down = np.clip(rows + np.rint(step * np.sin(angle))[:, None, None].astype(int), 0, PIXELS - 1)
        right = np.clip(columns + np.rint(step * np.cos(angle))[:, None, None].astype(int), 0, PIXELS - 1)
        found += x[np.arange(len(x))[:, None, None], down, right]
    return found / len(steps)


def smooth(x: np.ndarray, rng: np.random.Generator, severity: float) -> np.ndarray:
    """Gaussian blur of this deviation in pixels, the border repeated."""
    reach = int(4 * severity + 0.5)
    weight = np.exp(-0.5 * (np.arange(-reach, reach + 1) / severity) ** 2)
    weight = (weight / weight.sum()).astype(np.float32)
    for axis in (1, 2):
        sides = [(0, 0), (0, 0), (0, 0)]
        sides[axis] = (reach, reach)
        wide = np.pad(x, sides, mode="edge")
        x = sum(w * np.take(wide, np.arange(k, k + PIXELS), axis) for k, w in enumerate(weight))
    return x


def noise(x: np.ndarray, rng: np.random.Generator, severity: float) -> np.ndarray:
    """Gaussian noise of this deviation."""
    return np.clip(x + severity * rng.normal(size=x.shape).astype(np.float32), 0, 1)


def contrast(x: np.ndarray, rng: np.random.Generator, severity: float) -> np.ndarray:
    """Contrast lowered to 1 - severity around the mean of each image, and brighter by half of it."""
    mean = x.mean(axis=(1, 2), keepdims=True)
    return np.clip((x - mean) * (1 - severity) + mean + severity / 2, 0, 1)


CORRUPTIONS: dict[str, Callable[[np.ndarray, np.random.Generator, float], np.ndarray]] = {
    "fog": fog,
    "blur": blur,
    "smooth": smooth,
    "noise": noise,
    "contrast": contrast,
}
