"""The commands as functions: the same words as on the command line, underscores for dashes.

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

Options are checked as strictly as on the command line.

>>> onnxtweak.join(model, data=f"{data}#fit", target=8, scael=5)
Traceback (most recent call last):
    ...
onnxtweak.errors.UsageError: unknown option `scael` (onnxtweak.join)
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from onnxtweak import commands
from onnxtweak.errors import UsageError
from onnxtweak.recipe.values import did_you_mean, key_of, keys_of, settings_from
from onnxtweak.results import (
    Applied,
    Comparison,
    Evaluation,
    Inspection,
    ModelDiff,
    Result,
    Reverted,
    RunResult,
    Scored,
)
from onnxtweak.settings import (
    AugmentSettings,
    DataSettings,
    EngineSettings,
    FitSettings,
    JoinSettings,
    OutputSettings,
    Preprocess,
    RetrainSettings,
    TapSettings,
    TargetSettings,
)
from onnxtweak.types import Progress, silent

Path = str | os.PathLike[str]


def inspect(model: Path, **options: Any) -> Inspection:
    """What is in a model. options : `taps`, `pool`, `logits`.

    >>> from onnxtweak.demo_files import demo_files
    >>> found = inspect(demo_files().model, taps="penultimate")
    >>> found.classes, [tap.name for tap in found.taps]
    (10, ['pool3'])
    """
    return commands.inspect(model=str(model), **_settings("inspect", options, taps=TapSettings))


def evaluate(model: Path, *, progress: Progress = silent, **options: Any) -> Evaluation:
    """Accuracies and confusion over all samples of `data`. options : those of `onnxtweak evaluate`."""
    kinds = {"data": DataSettings, "engine": EngineSettings, "targets": TargetSettings}
    given = _settings("evaluate", options, **kinds, taps=TapSettings)
    return commands.evaluate(model=str(model), **given, progress=progress)


def join(model: Path, *, progress: Progress = silent, **options: Any) -> Result:
    """Synaptic join for the classes of `target`, or the `worst` few. options : those of `onnxtweak join`."""
    given = _settings("join", options, **_MAKING, targets=TargetSettings, join=JoinSettings)
    return commands.join(model=str(model), **given, progress=progress)


def retrain(
    model: Path, *, join: Mapping[str, Any] | None = None, progress: Progress = silent, **options: Any
) -> Result:
    """A join whose synapses are trained. options : those of `onnxtweak retrain`; join : those of its join."""
    given = _settings("retrain", options, **_MAKING, targets=TargetSettings, retrain=RetrainSettings)
    given |= _settings("retrain, join", join or {}, join=JoinSettings)
    return commands.retrain(model=str(model), **given, progress=progress)


def augment(model: Path, *, progress: Progress = silent, **options: Any) -> Result:
    """An MLP on active neurons, for all classes. options : those of `onnxtweak augment`."""
    given = _settings("augment", options, **_MAKING, augment=AugmentSettings)
    return commands.augment(model=str(model), **given, progress=progress)


def fit(model: Path, *, progress: Progress = silent, **options: Any) -> Result:
    """The best patch that the tables allow for `target`, or for all classes. options : of `onnxtweak fit`."""
    given = _settings("fit", {"taps": [], **options}, **_MAKING, targets=TargetSettings, fit=FitSettings)
    return commands.fit(model=str(model), **given, progress=progress)


def compare(
    model: Path,
    *,
    repeats: int = 1,
    methods: Sequence[str] = (),
    progress: Progress = silent,
    **options: Any,
) -> Comparison:
    """All methods side by side on the same samples. options : of data, engine, taps and target."""
    kinds = {"data": DataSettings, "engine": EngineSettings, "taps": TapSettings, "targets": TargetSettings}
    given = _settings("compare", {"taps": [], **options}, **kinds)
    return commands.compare(model=str(model), **given, repeats=repeats, methods=methods, progress=progress)


def score(model: Path, *, progress: Progress = silent, **options: Any) -> Scored:
    """Theta of every neuron for `target`. options : those of `onnxtweak score`."""
    given = _settings("score", options, **_MAKING, targets=TargetSettings, join=JoinSettings)
    return commands.score(model=str(model), **given, progress=progress)


def apply(model: Path, tweak: Path, output: Path, *, scale: float = 1.0, force: bool = False) -> Applied:
    """Write a saved tweak into the model it was made for."""
    place = OutputSettings(str(output), force=force)
    return commands.apply(model=str(model), tweak=str(tweak), output=place, scale=scale)


def revert(tweaked: Path, output: Path, *, steps: int | None = 1, force: bool = False) -> Reverted:
    """Write the model as it was before its last `steps` tweaks; None: before all of them."""
    return commands.revert(tweaked=str(tweaked), output=OutputSettings(str(output), force=force), steps=steps)


def diff(base: Path, tweaked: Path) -> ModelDiff:
    """Every difference between two model files, and whether tweaks account for all of them."""
    return commands.diff(base=str(base), tweaked=str(tweaked))


def run(
    recipe: Path, changes: Sequence[str] = (), *, keep: bool = False, force: bool = False, **options: Any
) -> RunResult:
    """Carry out a recipe. changes : `key=value` overrides. options : `directory`, `device`, `progress`."""
    return commands.run(recipe=str(recipe), changes=changes, keep=keep, force=force, **options)


_MAKING = {"data": DataSettings, "engine": EngineSettings, "taps": TapSettings, "output": OutputSettings}
_ALL_DATA = [*keys_of(Preprocess), *(key for key in keys_of(DataSettings) if key != "preprocess")]


def _settings(command: str, options: Mapping[str, Any], **kinds: type) -> dict[str, Any]:
    """Settings objects by their name, from flat options. Raises UsageError for an option that none knows."""
    where = f"onnxtweak.{command}"
    known = [key for kind in kinds.values() for key in (_ALL_DATA if kind is DataSettings else keys_of(kind))]
    table = {}
    for word, value in options.items():
        key = key_of(word)
        if key not in known:
            near = did_you_mean(key, known) or f"known: {', '.join(sorted(set(known)))}"
            raise UsageError(f"unknown option `{word}`", where=where, hint=near.replace("-", "_"))
        if value is not None:
            table[key] = _plain(key, value)
    return {
        name: settings_from(kind, table, where, preprocess=settings_from(Preprocess, table, where))
        if kind is DataSettings
        else settings_from(kind, table, where)
        for name, kind in kinds.items()
    }


def _plain(key: str, value: Any) -> Any:
    """A value as TOML would have it: paths and class numbers as text, tuples as lists."""
    if isinstance(value, tuple | list):
        return [_plain(key, item) for item in value]
    if isinstance(value, os.PathLike) or (key == "target" and isinstance(value, int)):
        return str(value)
    return value
