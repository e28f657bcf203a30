"""What does every method get of one split, so that they can be compared? Its inputs (METHOD 8)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from onnxtweak.engine.passes import Engine
from onnxtweak.errors import ModelError
from onnxtweak.goal import ResolvedGoal
from onnxtweak.method.compare.comparison import MethodResult
from onnxtweak.method.compare.controls import LastLayer, last_layer
from onnxtweak.method.compare.repair import Reranking
from onnxtweak.method.fit.learning import Learning
from onnxtweak.method.folds import digest_of, in_full, not_kept
from onnxtweak.method.retrain.weights import temperatures
from onnxtweak.method.selection.ranking import Ranking
from onnxtweak.method.table import Table
from onnxtweak.patch import DensePatch
from onnxtweak.settings import FitSettings, JoinSettings


@dataclass(frozen=True)
class LastLayerInputs:
    """The model's last layer, and what it reads.

    columns (K,) int64 : of the penultimate tensor; fit, validation : tables of them.
    """

    layer: LastLayer
    columns: np.ndarray
    fit: Table
    validation: Table


@dataclass(frozen=True)
class CompareInputs:
    """One split, as every method gets it.

    fit, validation, test : tables of the same neurons. goal : the targets, and what they may cost.
    families : for fit, name to columns. penultimate, random, active (K,) int64 : columns, None where there
    are none. rankings : by theta, one per target; joined : their columns. learning : fit and validation end
    to end, as `fit` learns from them. engine : for theta on tables.
    """

    fit: Table
    validation: Table
    test: Table
    goal: ResolvedGoal
    families: Mapping[str, np.ndarray]
    penultimate: np.ndarray | None
    random: np.ndarray
    active: np.ndarray | None
    rankings: Sequence[Ranking]
    joined: Sequence[np.ndarray]
    learning: Learning
    join: JoinSettings
    settings: FitSettings
    seed: int
    engine: Engine

    @property
    def classes(self) -> int:
        return self.fit.Z.shape[1]

    @property
    def all_are_targets(self) -> bool:
        """Whether every class with samples is a target."""
        return self.goal.all_are_targets(self.fit.labels)

    @cached_property
    def named(self) -> str:
        """A name, among what `learning.kept` hands out, for what methods make of all this."""
        if self.learning.kept is not_kept:
            return ""
        tables = [table.digest for table in (self.fit, self.validation, self.test, self.learning.table)]
        columns = [*self.families.values(), self.penultimate, self.random, self.active, *self.joined]
        ranked = [part for r in self.rankings for part in (r.weight, r.count)]
        arrays = digest_of(self.judged, *columns, *ranked)
        facts = (self.goal, self.join, self.settings, self.seed, self.engine.backend.name)
        return f"{in_full(facts)} {tables} {arrays}"

    @cached_property
    def temperature(self) -> float:
        """Of the base, on validation."""
        return float(self.temperatures[0])

    @cached_property
    def temperatures(self) -> np.ndarray:
        """The same, (1,); of several labels that of each target, (c,)."""
        return temperatures(self.validation.Z, self.validation.labels, self.goal)

    @property
    def fit_and_validation(self) -> Table:
        """Fit and validation samples, end to end."""
        return self.learning.table

    @property
    def judged(self) -> np.ndarray:
        """Those of them that choices may be judged on, (N,) bool."""
        return self.learning.judged

    @property
    def last_layer(self) -> LastLayerInputs:
        """Recovered from the fit samples. Raises ModelError for a model that has none."""
        if self.penultimate is None:
            raise ModelError("the last linear layer has no single hidden tensor as its input")
        fit, validation = (split.columns(self.penultimate) for split in (self.fit, self.validation))
        return LastLayerInputs(last_layer(fit), self.penultimate, fit, validation)

    def result(
        self, columns: np.ndarray, patch: DensePatch | Reranking, *, point: np.ndarray | None = None
    ) -> MethodResult:
        """A patch that was fitted to the fit split; validation is held out."""
        held_out = self.validation.patched(columns, patch)
        base, labels, groups = self.validation.Z, self.validation.labels, self.validation.groups
        return MethodResult(columns, patch, held_out, base, labels, point=point, groups=groups)
