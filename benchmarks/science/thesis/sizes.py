"""How large is each experiment? `--quick`, the default, or `--full`, and the options all commands share.

Sizes that several tables share are here; what only one table needs is in its module, by `Sizes.name`.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.science.thesis.data import Sample
from benchmarks.science.thesis.recipes import Recipe


@dataclass(frozen=True)
class NetSize:
    """train, held_out : samples. epochs : of the base. more : of a retraining that goes on from it."""

    train: int
    held_out: int
    epochs: int
    more: int


@dataclass(frozen=True)
class Sizes:
    """seeds : each draws its own samples and weights. test : samples, 0: all. nets : by their name."""

    name: str
    seeds: int
    test: int
    nets: Mapping[str, NetSize]


SIZES = {
    # Two cores, 10 minutes for all tables: shows that everything runs, not what is true.
    "quick": Sizes(
        "quick", 2, 2000, {"cnn3": NetSize(1500, 1500, 3, 1), "resnet20": NetSize(600, 1200, 2, 1)}
    ),
    # Two cores, 3 hours for all tables.
    "default": Sizes(
        "default", 3, 0, {"cnn3": NetSize(8000, 5000, 8, 2), "resnet20": NetSize(4000, 4000, 5, 2)}
    ),
    # All 50,000 training images; wants a GPU's patience. Never run by us.
    "full": Sizes(
        "full",
        5,
        0,
        {
            "cnn3": NetSize(40000, 10000, 60, 15),
            "resnet20": NetSize(40000, 10000, 160, 40),
            "densenet40": NetSize(40000, 10000, 160, 40),
        },
    ),
}


@dataclass(frozen=True)
class Options:
    """What a command was asked for. data : folder with the samples. work : folder for nets and results."""

    data: Path
    work: Path
    sizes: Sizes

    @property
    def seeds(self) -> range:
        return range(self.sizes.seeds)


def base_recipe(options: Options, net: str, seed: int, dataset: str = "cifar10") -> Recipe:
    """The base of a seed, the same in every table."""
    size = options.sizes.nets[net]
    sample = Sample(dataset, size.train, size.held_out, seed, options.sizes.test)
    return Recipe(sample, net, size.epochs, seed)


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", type=Path, required=True, help="folder with cifar10.npz and mnist.npz")
    parser.add_argument("--work", type=Path, default=Path("build/thesis"), help="nets, results (%(default)s)")
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_const", const="quick", dest="size")
    size.add_argument("--full", action="store_const", const="full", dest="size")
    parser.set_defaults(size="default")


def options_of(arguments: argparse.Namespace) -> Options:
    return Options(arguments.data, arguments.work, SIZES[arguments.size])
