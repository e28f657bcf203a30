"""What is to be trained? All that determines a net, the thesis's five retrainings, the rows of an epoch."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, fields, is_dataclass, replace

import numpy as np

from benchmarks.science.thesis.data import Sample

# The last quarter of the epochs, at least one, runs at a lower rate.
_CALM = 4


@dataclass(frozen=True)
class Recipe:
    """All that determines a net.

    start : go on from that net's weights. targets : classes whose samples have their loss times `on_target`,
    and appear `copies` times; the others' loss is times `off_target`. balanced : samples of rare classes are
    repeated until all classes are equally frequent. held_too : learns from the held-out samples as well; no
    choice may then be made on them. batch, rate : of Adam. dropout : before the last layer.
    """

    sample: Sample
    net: str
    epochs: int
    seed: int
    start: Recipe | None = None
    targets: tuple[int, ...] = ()
    on_target: float = 1.0
    off_target: float = 1.0
    copies: int = 1
    balanced: bool = False
    held_too: bool = False
    dropout: float = 0.0
    batch: int = 64
    rate: float = 1e-3

    @property
    def name(self) -> str:
        """Of its files."""
        digest = hashlib.sha256(json.dumps(_set(self), sort_keys=True).encode()).hexdigest()
        return f"{self.sample.dataset}-{self.net}-{digest[:10]}"


def _set(of: object) -> object:
    """What is not a default, so that a recipe keeps its name when another field is added."""
    if not is_dataclass(of):
        return of
    return {f.name: _set(getattr(of, f.name)) for f in fields(of) if getattr(of, f.name) != f.default}


def retrainings(base: Recipe, targets: tuple[int, ...], epochs: int) -> dict[str, Recipe]:
    """The thesis's five, and their controls: as many epochs more without any change, on the training samples,
    and on those that onnxtweak's methods learn from as well."""
    more = replace(base, start=base, epochs=epochs, targets=targets)
    return {
        "more epochs": replace(more, targets=()),
        "more epochs, held-out images too": replace(more, targets=(), held_too=True),
        "Retraining-1": replace(more, on_target=2.0),
        "Retraining-2": replace(more, off_target=0.9),
        "Retraining-3": replace(base, targets=targets, on_target=2.0),
        "Retraining-4": replace(more, on_target=2.0, dropout=0.5),
        "Retraining-5": replace(more, copies=2),
    }


def repeated(y: np.ndarray, own: np.ndarray, copies: int, balanced: bool) -> np.ndarray:
    """Row numbers of an epoch: the targets' samples `copies` times, or all classes equally often."""
    rows = np.arange(len(y))
    if balanced:
        most = np.bincount(y).max()
        return np.concatenate([np.resize(rows[y == c], most) for c in np.unique(y)])
    return np.concatenate([rows, *[rows[own]] * (copies - 1)])


def calm_epochs(epochs: int) -> int:
    """How many of the last epochs run at the lower rate."""
    return max(1, epochs // _CALM)
