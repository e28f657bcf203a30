"""What is delivered? What a method made, what its tables predict, and what became of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from onnxtweak.data.splits import View
from onnxtweak.engine.subject import Subject
from onnxtweak.goal import ResolvedGoal
from onnxtweak.head import Readout
from onnxtweak.listed import ListedOutcome
from onnxtweak.method.table import Table, take
from onnxtweak.method.tuning.operating_point import OperatingPoint
from onnxtweak.model.edit.splice import splice
from onnxtweak.other_answers import MatchOutcome
from onnxtweak.patch import DensePatch, Patch, Tweak, no_patch
from onnxtweak.results import Measurement
from onnxtweak.stages.choose_neurons import TableNeurons
from onnxtweak.stages.lists.count_outcome import Listing
from onnxtweak.stages.other_models.reference import Matching
from onnxtweak.types import Check, MetricChange, Neurons, Trial

Dense = TypeVar("Dense", bound=DensePatch)


def for_tensor(patch: Dense, readout: Readout | None) -> Dense:
    """The patch as the model's tensor can take it: nothing is added to a class that stands for others."""
    return patch if readout is None or not readout.rest else patch.against_last()


@dataclass(frozen=True)
class Proposal:
    """What a method made, and what its tables predict.

    goal : what it was made for. neurons, patch : the tweak. base, tweaked (N, C) : validation logits without
    and with it, from tables. bias (C,) : the control. point : n and scale of each target, and what was tried.
    scored : how many neurons it chose from. settings : for the provenance. theta_counts : a histogram per
    target. listing : of listed samples, where there are any. matching : with the reference whose decisions
    the labels are, if they are. The rest as in `Choice`.
    """

    command: str
    goal: ResolvedGoal
    neurons: Neurons
    patch: Patch
    base: np.ndarray
    tweaked: np.ndarray
    bias: np.ndarray
    point: OperatingPoint
    theta: str
    criterion: str
    scored: int
    settings: dict[str, Any]
    notes: tuple[str, ...] = ()
    theta_counts: tuple[dict[str, Any], ...] = ()
    listing: Listing | None = None
    matching: Matching | None = None

    @classmethod
    def of_fit(
        cls,
        goal: ResolvedGoal,
        watched: TableNeurons,
        validation: Table,
        found: tuple[np.ndarray, DensePatch | None],
        bias: np.ndarray,
        trials: tuple[Trial, ...],
    ) -> Proposal:
        """What `fit` proposes; other commands that fit say what they do otherwise.

        found : the columns (K,) of the table that a patch reads, and the patch; None for the base.
        """
        columns, patch = found
        columns = columns if patch is not None else np.empty(0, np.int64)
        return cls(
            command="fit",
            goal=goal,
            neurons=take(watched.neurons, columns),
            patch=no_patch() if patch is None else patch,
            base=validation.Z,
            tweaked=validation.Z if patch is None else validation.patched(columns, patch),
            bias=bias,
            point=OperatingPoint.of_patch(patch, len(columns), goal.targets, trials),
            theta="none",
            criterion="held-out log-loss",
            scored=watched.scored,
            settings={},
        )


@dataclass(frozen=True)
class Outcome:
    """What was measured, and on which samples.

    predicted : two (N,), the classes that base and tweaked file show. scores : two (N, C), theirs; None: not
    kept. check : that their scores say the same. notes : where they cannot. listed, metric, matched : as in
    `Result`. pictures : what a report shows of samples, where predictions do not tell.
    """

    measured: Measurement
    view: View
    predicted: tuple[np.ndarray, np.ndarray]
    scores: tuple[np.ndarray, np.ndarray] | None
    check: Check
    notes: tuple[str, ...]
    listed: ListedOutcome | None
    metric: MetricChange | None
    matched: MatchOutcome | None
    pictures: Callable[[ResolvedGoal], dict[str, Any]] | None = None


def splice_in(subject: Subject, tweak: Tweak, scale: float = 1.0, shadow: bool = False) -> bytes:
    """The tweaked model's bytes."""
    return splice(subject.model, tweak, subject.logits_format, scale=scale, shadow=shadow)
