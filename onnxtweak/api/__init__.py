"""The public functions: the commands in Python, with the words of the command line, underscores for dashes.

>>> import onnxtweak
>>> from onnxtweak.demo_files import demo_files
>>> model, data = demo_files().model, demo_files().data
>>> base = onnxtweak.evaluate(model, data=f"{data}#test", target=8)
>>> f"{base.metrics.overall:.3f} of all, {base.metrics.target:.3f} of the eights"
'0.924 of all, 0.660 of the eights'
>>> made = onnxtweak.join(model, data=f"{data}#fit", test=f"{data}#test", target=8, count=[1, 10])
>>> made.after.target > made.before.target
True
>>> made.tweak["kind"], len(made.tweak["synapses"]) == made.choice.n[0]
('join', True)

Samples may be arrays, tables or batches in place of paths (`onnxtweak.api.samples`), a model its bytes or an
onnx.ModelProto (`onnxtweak.api.model`), and results can be shown and saved (`onnxtweak.api.outcomes`).

>>> import numpy as np
>>> held = np.load(data)
>>> again = onnxtweak.join(
...     model.read_bytes(),
...     data=(held["x_fit"], held["y_fit"]),
...     test=(held["x_test"], held["y_test"]),
...     target=8,
...     count=[1, 10],
... )
>>> again.tweak == made.tweak, again.model.path
(True, '<bytes>')

`help(onnxtweak.join)` explains every option. Options are checked as strictly as on the command line.

>>> onnxtweak.join(model, data=f"{data}#fit", target=8, scael=5)
Traceback (most recent call last):
    ...
onnxtweak.errors.UsageError: unknown option `scael` (onnxtweak.join)

All functions that take samples raise InputError for whatever they cannot use, VerificationError where a
check fails, and MachineError where the machine lacks something; nothing is written then.

goal      what should be better, and what must not get worse: one object for all of them
keywords  their options, by name and type
options   options as settings
words     how a value may be written
samples   what they take for samples
model     what they take for a model
outcomes  what they return, to be shown, saved and put into a DataFrame
frames    results as DataFrames
mlflow_log  results as runs of MLflow; needs it
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any, Unpack

from onnxtweak import commands
from onnxtweak.api.goal import Goal as Goal
from onnxtweak.api.keywords import (
    AugmentOptions,
    EvaluateOptions,
    FitOptions,
    InspectOptions,
    JoinOptions,
    MatchOptions,
    RetrainOptions,
)
from onnxtweak.api.model import Model, ModelLike, opened, source_of
from onnxtweak.api.options import explained, settings_of
from onnxtweak.api.outcomes import ComparisonResult, EvaluationResult, InspectionResult, PatchResult, parts
from onnxtweak.api.words import StrPath
from onnxtweak.results import Applied, ModelDiff, Result, Reverted, RunResult, Scored
from onnxtweak.settings import FitSettings, OutputSettings
from onnxtweak.types import Progress, silent


def open(model: ModelLike) -> Model:
    """Read a model once, for several calls.

    model : its path, its bytes, or an onnx.ModelProto. Raises ModelError for what is no ONNX model.

    >>> from onnxtweak.demo_files import demo_files
    >>> model = open(demo_files().model)
    >>> inspect(model).classes, evaluate(model, data=f"{demo_files().data}#test").metrics.samples
    (10, 500)
    """
    return opened(model)


@explained
def inspect(model: ModelLike, **options: Unpack[InspectOptions]) -> InspectionResult:
    """What is in a model, and which hidden tensors can be watched.

    data : samples to measure them with, where the model leaves the size of its input open.

    >>> from onnxtweak.demo_files import demo_files
    >>> found = inspect(demo_files().model, taps="penultimate")
    >>> found.classes, [tap.name for tap in found.taps]
    (10, ['pool3'])
    """
    return InspectionResult(
        **parts(commands.inspect(model=source_of(model), **settings_of("inspect", options)))
    )


@explained
def evaluate(
    model: ModelLike,
    *,
    metric: str | Sequence[str] = (),
    progress: Progress = silent,
    **options: Unpack[EvaluateOptions],
) -> EvaluationResult:
    """Accuracies and confusion over all samples of `data`; with `target`, also over those classes alone.

    metric : one or several to measure as well, in the words of `--metric`: "balanced", "recall@fpr=0.01".
    """
    given = settings_of("evaluate", options, metric=metric)
    asked = given.pop("metric")
    given["metrics"] = (asked,) if isinstance(asked, str) else tuple(asked)
    return EvaluationResult(**parts(commands.evaluate(model=source_of(model), **given, progress=progress)))


@explained
def join(model: ModelLike, *, progress: Progress = silent, **options: Unpack[JoinOptions]) -> PatchResult:
    """Make chosen classes better with a synaptic join, and write the new model to `output`, if given."""
    return _patched(commands.join, model, settings_of("join", options), progress)


@explained
def retrain(
    model: ModelLike, *, progress: Progress = silent, **options: Unpack[RetrainOptions]
) -> PatchResult:
    """Make chosen classes better with a join whose synapses are trained.

    join : the options of that join, by the words of `onnxtweak.join`: `{"count": [10, 20]}`.
    """
    return _patched(commands.retrain, model, settings_of("retrain", options), progress)


@explained
def augment(
    model: ModelLike, *, progress: Progress = silent, **options: Unpack[AugmentOptions]
) -> PatchResult:
    """Make all classes better with a small MLP on active neurons."""
    return _patched(commands.augment, model, settings_of("augment", options), progress)


@explained
def fit(model: ModelLike, *, progress: Progress = silent, **options: Unpack[FitOptions]) -> PatchResult:
    """Make chosen classes better, or without `target` all of them, with the best patch that samples allow."""
    return _patched(commands.fit, model, settings_of("fit", options), progress)


def _patched(
    command: Callable[..., Result], model: ModelLike, given: dict[str, Any], progress: Progress
) -> PatchResult:
    base = source_of(model)
    made = command(model=base, **given, progress=progress)
    base = os.path.abspath(base) if isinstance(base, str) else base  # wherever it is saved from
    return PatchResult(**parts(made), base=base, engine=given["engine"])


@explained
def match(model: ModelLike, *, progress: Progress = silent, **options: Unpack[MatchOptions]) -> PatchResult:
    """Make a copy decide as its reference does, on samples that need no labels."""
    return _patched(commands.match, model, settings_of("match", options), progress)


@explained
def compare(
    model: ModelLike,
    *,
    repeats: int = 1,
    methods: str | Sequence[str] = (),
    metric: str | None = None,
    progress: Progress = silent,
    **options: Unpack[EvaluateOptions],
) -> ComparisonResult:
    """All methods, or `methods`, side by side on the same samples.

    repeats : splits to average over. metric : instead of accuracy, in the words of `--metric`.
    """
    given = settings_of("compare", options, metric=metric, methods=methods, repeats=repeats)
    given["settings"] = FitSettings(metric=given.pop("metric"))
    given["methods"] = (methods,) if isinstance(methods, str) else tuple(methods)
    found = commands.compare(model=source_of(model), **given, progress=progress)
    return ComparisonResult(**parts(found))


@explained
def score(model: ModelLike, *, progress: Progress = silent, **options: Unpack[JoinOptions]) -> Scored:
    """Theta of every neuron for the classes of `target`; written to `output` (*.npz), if given."""
    return commands.score(model=source_of(model), **settings_of("score", options), progress=progress)


def apply(
    model: ModelLike, tweak: StrPath, output: StrPath, *, scale: float = 1.0, force: bool = False
) -> Applied:
    """Write a saved tweak, times `scale`, into the model it was made for. force : replace existing files."""
    place = OutputSettings(str(output), force=force)
    return commands.apply(model=source_of(model), tweak=str(tweak), output=place, scale=scale)


def revert(tweaked: ModelLike, output: StrPath, *, steps: int | None = 1, force: bool = False) -> Reverted:
    """Write the model as it was before its last `steps` tweaks; None: before all of them."""
    return commands.revert(
        tweaked=source_of(tweaked), output=OutputSettings(str(output), force=force), steps=steps
    )


def diff(base: ModelLike, tweaked: ModelLike) -> ModelDiff:
    """Every difference between two models, and whether tweaks account for all of them."""
    return commands.diff(base=source_of(base), tweaked=source_of(tweaked))


def run(
    recipe: StrPath,
    changes: Sequence[str] = (),
    *,
    directory: StrPath | None = None,
    device: str | None = None,
    keep: bool = False,
    force: bool = False,
    progress: Progress = silent,
) -> RunResult:
    """Carry out a recipe.

    changes : `key=value` overrides, such as "engine.device=cpu". directory : where results go. device : where
    the model runs. keep : deliver models although a gate failed. force : replace files that no run wrote.
    """
    return commands.run(
        recipe=str(recipe),
        changes=changes,
        directory=None if directory is None else str(directory),
        device=device,
        keep=keep,
        force=force,
        progress=progress,
    )
