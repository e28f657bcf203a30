"""Which way of fitting does a goal need? Targets spend a surplus; a slice or a metric weighs samples."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from onnxtweak.goal import ResolvedGoal
from onnxtweak.method.fit.fit import Fitted, fit_all
from onnxtweak.method.fit.learning import Learning
from onnxtweak.method.fit.metric_judge import MetricJudge
from onnxtweak.method.fit.several.labels import fit_labels
from onnxtweak.method.fit.slice_judge import SliceJudge
from onnxtweak.method.fit.weighted import fit_weighted
from onnxtweak.settings import FitSettings
from onnxtweak.types import Progress, silent


def fit_goal(
    learning: Learning,
    families: Mapping[str, np.ndarray],
    goal: ResolvedGoal,
    settings: FitSettings,
    *,
    seed: int = 0,
    progress: Progress = silent,
) -> Fitted:
    """The best patch for the goal, or biases alone, or the base.

    learning : with `slices` where the goal has a slice. The rest as of `fit_all`. Raises DataError for a
    slice without a sample to judge by.
    """
    if goal.head.several:
        return fit_labels(learning, families, goal, settings, seed=seed, progress=progress)
    if goal.slice is None and (goal.metric is None or goal.metric.name == "overall"):
        return fit_all(learning, families, goal, settings, seed=seed, progress=progress)
    folds = learning.folds(settings.folds, seed)
    kind = SliceJudge if goal.slice is not None else MetricJudge
    judge = kind(learning.table, goal, folds, settings.margin)
    return fit_weighted(learning, families, judge, folds, settings, progress=progress)
