"""What is one of the nets, and what is needed to make it?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.science.fit.public.repositories import Clones


@dataclass(frozen=True)
class Tools:
    """clones : other people's repositories. data : folder of cifar10.npz and mnist.npz."""

    clones: Clones
    data: Path


@dataclass(frozen=True)
class Made:
    """model : the ONNX file. x : what it is fed, one sample a row. y : labels (N,) int64."""

    model: bytes
    x: np.ndarray
    y: np.ndarray


@dataclass(frozen=True)
class Net:
    """claimed : the accuracy its authors state, in [0, 1], on the samples that `note` speaks of."""

    name: str
    make: Callable[[Tools], Made]
    source: str
    licence: str
    claimed: float | None
    kind: str
    note: str
