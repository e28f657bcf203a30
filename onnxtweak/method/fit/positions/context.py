"""Does it pay to read what a sample is like as a whole, beside a position's own channels (METHOD 13)?

A hidden layer is tried without it as well: where samples are few it learns them by heart.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import numpy as np

from onnxtweak.method.fit.candidate import WORTH_HIDDEN, simplest
from onnxtweak.method.fit.linear import LinearPath, search_families, search_ridges
from onnxtweak.method.folds import Folds
from onnxtweak.method.table import Table
from onnxtweak.types import Progress

CONTEXT = "means over the sample"

Path = TypeVar("Path")


def search_with_context(
    table: Table, families: Mapping[str, np.ndarray], folds: Folds, progress: Progress
) -> tuple[LinearPath, list[LinearPath]]:
    """As `search_families`; and the best of these with the context beside it, where that pays."""
    best, paths = search_families(table, families, folds, progress)

    def loss_of(path: LinearPath) -> np.ndarray:
        return path.losses

    def search(name: str, columns: np.ndarray) -> LinearPath:
        paths.append(search_ridges(table, columns, name, folds))
        return paths[-1]

    wider = with_context(table, families, best.name, best.columns)
    found = best if wider is None else simpler((best, search(*wider)), loss_of, best.losses_of_base)
    return found, paths


def with_context(
    table: Table, families: Mapping[str, np.ndarray], name: str, columns: np.ndarray
) -> tuple[str, np.ndarray] | None:
    """A family, and the columns of the table's context that no family has; None where there is none."""
    if table.context is None:
        return None
    extra = np.setdiff1d(table.context, np.concatenate([columns, *families.values()]))
    return (f"{name} and {CONTEXT}", np.append(columns, extra)) if len(extra) else None


def simpler(paths: tuple[Path, Path], losses: Callable[[Path], np.ndarray], of_base: np.ndarray) -> Path:
    """The second path where that is worth it. losses : of a path, of some samples (n,). of_base (n,)."""
    return paths[simplest([losses(path) for path in paths], of_base, WORTH_HIDDEN)]


def bent(table: Table, name: str, columns: np.ndarray) -> Sequence[tuple[str, np.ndarray]]:
    """What a hidden layer is tried on: columns that were chosen; and these without the context among them."""
    if table.context is None or not name.endswith(CONTEXT):
        return ((name, columns),)
    own = columns[~np.isin(columns, table.context)]
    return ((name, columns), (name.removesuffix(f" and {CONTEXT}"), own)) if len(own) else ((name, columns),)
