"""What every method gets of one split, so that they can be compared (METHOD 8)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from onnxtweak.engine.passes import Engine
from onnxtweak.goal import Goal
from onnxtweak.method.compare.comparison import MethodResult
from onnxtweak.method.selection.ranking import Ranking
from onnxtweak.method.table import Table
from onnxtweak.patch import Linear, Mlp
from onnxtweak.settings import FitSettings, JoinSettings


@dataclass(frozen=True)
class CompareInputs:
    """One split, as every method gets it.

    fit, validation, test : tables of the same neurons. goal : the targets, and what they may cost.
    families : for fit, name to columns. penultimate, random, active (K,) int64 : columns, None where there
    are none. rankings : of theta, one per target; joined : their columns. judged (N,) bool : of fit and
    validation end to end, samples that choices may be judged on. engine : for theta on tables.
    """

    fit: Table
    validation: Table
    test: Table
    goal: Goal
    families: Mapping[str, np.ndarray]
    penultimate: np.ndarray | None
    random: np.ndarray
    active: np.ndarray | None
    rankings: Sequence[Ranking]
    joined: Sequence[np.ndarray]
    judged: np.ndarray
    join: JoinSettings
    settings: FitSettings
    seed: int
    engine: Engine

    @property
    def classes(self) -> int:
        return self.fit.Z.shape[1]

    @property
    def nobody_else(self) -> bool:
        """Whether every class with samples is a target."""
        return self.goal.nobody_else(self.fit.labels)

    def result(
        self, columns: np.ndarray, patch: Linear | Mlp, *, point: np.ndarray | None = None
    ) -> MethodResult:
        """A patch that was fitted to the fit split, held out on validation."""
        held = self.validation.patched(columns, patch)
        return MethodResult(columns, patch, held, self.validation.Z, self.validation.labels, point=point)
