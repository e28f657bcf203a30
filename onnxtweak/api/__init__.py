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

`help(onnxtweak.join)` explains every option. Options are checked as strictly as on the command line.

>>> onnxtweak.join(model, data=f"{data}#fit", target=8, scael=5)
Traceback (most recent call last):
    ...
onnxtweak.errors.UsageError: unknown option `scael` (onnxtweak.join)

All functions that take samples raise InputError for whatever they cannot use, VerificationError where a
check fails, and MachineError where the machine lacks something; nothing is written then.

goal      what should be better, and what must not get worse: one object for all of them
options   their options, by name and type
words     how a value may be written
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Unpack

from onnxtweak import commands
from onnxtweak.api.goal import Goal as Goal
from onnxtweak.api.options import (
    AugmentOptions,
    EvaluateOptions,
    FitOptions,
    InspectOptions,
    JoinOptions,
    RetrainOptions,
    explained,
    settings_of,
)
from onnxtweak.api.words import StrPath
from onnxtweak.results import Applied, Evaluation, Inspection, ModelDiff, Result, Reverted, RunResult, Scored
from onnxtweak.settings import FitSettings, OutputSettings
from onnxtweak.standings import Comparison
from onnxtweak.types import Progress, silent


@explained
def inspect(model: StrPath, **options: Unpack[InspectOptions]) -> Inspection:
    """What is in a model, and which hidden tensors can be watched.

    data : samples to measure them with, where the model leaves the size of its input open.

    >>> from onnxtweak.demo_files import demo_files
    >>> found = inspect(demo_files().model, taps="penultimate")
    >>> found.classes, [tap.name for tap in found.taps]
    (10, ['pool3'])
    """
    return commands.inspect(model=str(model), **settings_of("inspect", options))


@explained
def evaluate(
    model: StrPath,
    *,
    metrics: str | Sequence[str] = (),
    progress: Progress = silent,
    **options: Unpack[EvaluateOptions],
) -> Evaluation:
    """Accuracies and confusion over all samples of `data`; with `target`, also over those classes alone.

    metrics : one or several to measure as well, in the words of `--metric`: "balanced", "recall@fpr=0.01".
    """
    given = settings_of("evaluate", options)
    asked = (metrics,) if isinstance(metrics, str) else tuple(metrics)
    return commands.evaluate(model=str(model), **given, metrics=asked, progress=progress)


@explained
def join(model: StrPath, *, progress: Progress = silent, **options: Unpack[JoinOptions]) -> Result:
    """Make chosen classes better with a synaptic join, and write the new model to `output`, if given."""
    return commands.join(model=str(model), **settings_of("join", options), progress=progress)


@explained
def retrain(model: StrPath, *, progress: Progress = silent, **options: Unpack[RetrainOptions]) -> Result:
    """Make chosen classes better with a join whose synapses are trained.

    join : the options of that join, by the words of `onnxtweak.join`: `{"count": [10, 20]}`.
    """
    return commands.retrain(model=str(model), **settings_of("retrain", options), progress=progress)


@explained
def augment(model: StrPath, *, progress: Progress = silent, **options: Unpack[AugmentOptions]) -> Result:
    """Make all classes better with a small MLP on active neurons."""
    return commands.augment(model=str(model), **settings_of("augment", options), progress=progress)


@explained
def fit(model: StrPath, *, progress: Progress = silent, **options: Unpack[FitOptions]) -> Result:
    """Make chosen classes better, or without `target` all of them, with the best patch that samples allow."""
    return commands.fit(model=str(model), **settings_of("fit", options), progress=progress)


@explained
def compare(
    model: StrPath,
    *,
    repeats: int = 1,
    methods: str | Sequence[str] = (),
    metric: str | None = None,
    progress: Progress = silent,
    **options: Unpack[EvaluateOptions],
) -> Comparison:
    """All methods, or `methods`, side by side on the same samples.

    repeats : splits to average over. metric : instead of accuracy, in the words of `--metric`.
    """
    given = settings_of("compare", options)
    chosen = (methods,) if isinstance(methods, str) else tuple(methods)
    settings = FitSettings(metric=metric)
    return commands.compare(
        model=str(model), **given, settings=settings, repeats=repeats, methods=chosen, progress=progress
    )


@explained
def score(model: StrPath, *, progress: Progress = silent, **options: Unpack[JoinOptions]) -> Scored:
    """Theta of every neuron for the classes of `target`; written to `output` (*.npz), if given."""
    return commands.score(model=str(model), **settings_of("score", options), progress=progress)


def apply(
    model: StrPath, tweak: StrPath, output: StrPath, *, scale: float = 1.0, force: bool = False
) -> Applied:
    """Write a saved tweak, times `scale`, into the model it was made for. force : replace existing files."""
    place = OutputSettings(str(output), force=force)
    return commands.apply(model=str(model), tweak=str(tweak), output=place, scale=scale)


def revert(tweaked: StrPath, output: StrPath, *, steps: int | None = 1, force: bool = False) -> Reverted:
    """Write the model as it was before its last `steps` tweaks; None: before all of them."""
    return commands.revert(tweaked=str(tweaked), output=OutputSettings(str(output), force=force), steps=steps)


def diff(base: StrPath, tweaked: StrPath) -> ModelDiff:
    """Every difference between two model files, and whether tweaks account for all of them."""
    return commands.diff(base=str(base), tweaked=str(tweaked))


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
