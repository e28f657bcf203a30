"""Which samples does a net learn from, which are held out from it, and which are for the last measurement?

A folder holds `cifar10.npz` and `mnist.npz` (README.md says how to make them); scikit-learn has the digits.
Held-out samples are drawn first and the test samples are the publisher's, so neither changes when the
training samples are made fewer or long-tailed. Values stay bytes: a net's first node brings them to scale.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

NAMES = {
    "cifar10": "airplane automobile bird cat deer dog frog horse ship truck".split(),
    "mnist": list("0123456789"),
    "digits": list("0123456789"),
}
_DIGITS_TEST = 50  # of each class: scikit-learn's digits have no test split of their own


@dataclass(frozen=True)
class Sample:
    """Which samples.

    train, held_out : how many, 0: all that are left; fewer where there are not enough. test : how many of
    the test samples, 0: all. tail : samples of the rarest class for one of the most frequent, in between the
    classes decline geometrically, in an order drawn by `seed`; 1: as published. With a tail, `train` is what
    the most frequent class would give all classes: its count is train / classes.
    """

    dataset: str
    train: int
    held_out: int
    seed: int
    test: int = 0
    tail: float = 1.0


@dataclass(frozen=True)
class Divided:
    """x (n, channels, height, width) uint8, y (n,) int64 of each part. No sample is in two of them."""

    x_train: np.ndarray
    y_train: np.ndarray
    x_held: np.ndarray
    y_held: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray
    classes: int


def divide(sample: Sample, folder: Path) -> Divided:
    """Draw them. The same `sample` gives the same arrays."""
    x, y, x_test, y_test = _published(sample.dataset, folder)
    rng = np.random.default_rng([17, sample.seed])
    order = rng.permutation(len(y))
    held, rest = order[: sample.held_out], order[sample.held_out :]
    classes = int(y.max()) + 1
    train = rest[: sample.train] if sample.train else rest
    if sample.tail != 1:
        most = (sample.train or len(rest)) / classes
        train = _long_tailed(rest, y, most * _declining(sample.tail, rng.permutation(classes)))
    test = slice(sample.test or None)
    return Divided(x[train], y[train], x[held], y[held], x_test[test], y_test[test], classes)


def as_file(sample: Sample, folder: Path, work: Path) -> Path:
    """The held-out samples as `fit` and the test samples as `test`, as onnxtweak reads them."""
    path = work / "samples" / f"{sample.dataset}-{sample.held_out}-{sample.test}-{sample.seed}.npz"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        of = divide(sample, folder)
        np.savez(
            path,
            x_fit=of.x_held,
            y_fit=of.y_held,
            x_test=of.x_test,
            y_test=of.y_test,
            classes=np.array(NAMES[sample.dataset]),
        )
    return path


def _declining(tail: float, order: np.ndarray) -> np.ndarray:
    """Share (C,) of the most frequent class's samples that each class gets."""
    shares = np.empty(len(order))
    shares[order] = tail ** (np.arange(len(order)) / (len(order) - 1))
    return shares


def _long_tailed(rows: np.ndarray, y: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """The first counts[c] of `rows` of each class c, at least one."""
    return np.concatenate([rows[y[rows] == c][: max(1, round(n))] for c, n in enumerate(counts)])


def _published(dataset: str, folder: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    if dataset == "digits":
        return _digits()
    with np.load(folder / f"{dataset}.npz", allow_pickle=False) as file:
        x, y, x_test, y_test = (file[key] for key in ("x_train", "y_train", "x_test", "y_test"))
    y, y_test = y.ravel().astype(np.int64), y_test.ravel().astype(np.int64)
    if x.ndim == 3:
        return x[:, None], y, x_test[:, None], y_test
    return _channels_first(x), y, _channels_first(x_test), y_test


def _channels_first(x: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(x.transpose(0, 3, 1, 2)) if x.shape[-1] == 3 else x


def _digits() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    from sklearn.datasets import load_digits

    found = load_digits()
    x, y = found.images.astype(np.uint8)[:, None], found.target.astype(np.int64)
    order = np.random.default_rng(0).permutation(len(y))
    test = np.concatenate([order[y[order] == c][:_DIGITS_TEST] for c in range(10)])
    train = np.setdiff1d(order, test)
    return x[train], y[train], x[test], y[test]
