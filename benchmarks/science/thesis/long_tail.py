"""Which long-tailed bases are there, and what did their training samples hold of each class?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from benchmarks.science.thesis.data import Sample, divide
from benchmarks.science.thesis.recipes import Recipe
from benchmarks.science.thesis.sizes import Options

# Samples of the rarest class for one of the most frequent.
TAIL = 0.02
# Classes that are asked for: the rarest.
RARE = 3


@dataclass(frozen=True)
class TailSize:
    """train : ten times the samples of the most frequent class. held_out : samples. epochs : of the base."""

    train: int
    held_out: int
    epochs: int
    more: int


SIZES = {
    "quick": {"mnist": TailSize(1500, 1000, 3, 1)},
    "default": {"mnist": TailSize(10_000, 5000, 10, 3), "cifar10": TailSize(10_000, 5000, 12, 3)},
    "full": {"mnist": TailSize(50_000, 10_000, 20, 5), "cifar10": TailSize(40_000, 10_000, 60, 15)},
}


def tail_size(options: Options, dataset: str) -> TailSize:
    return SIZES[options.sizes.name][dataset]


def long_tailed(options: Options, dataset: str, seed: int) -> Recipe:
    """CNN-3 on a long-tailed choice of training samples; held-out and test samples are as published."""
    size = tail_size(options, dataset)
    sample = Sample(dataset, size.train, size.held_out, seed, options.sizes.test, TAIL)
    return Recipe(sample, "cnn3", size.epochs, seed)


def frequencies(recipe: Recipe, options: Options) -> np.ndarray:
    """Training samples of each class (C,)."""
    of = divide(recipe.sample, options.data)
    return np.bincount(of.y_train, minlength=of.classes)


def rarest(counts: np.ndarray) -> tuple[int, ...]:
    """The `RARE` classes with the fewest training samples, ascending."""
    return tuple(sorted(int(c) for c in np.argsort(counts, kind="stable")[:RARE]))
