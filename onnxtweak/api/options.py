"""Which options do the public functions take, and how do they become settings? Keyword arguments of the API.

Their types are here, one TypedDict per question; their meanings and defaults are in `onnxtweak.settings`.
A list may be a single value, a number may be a fraction ("1/255"), a class may be a name or a number.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import MISSING, fields
from typing import Any, Required, TypedDict, TypeVar, get_args, get_type_hints

import numpy as np

from onnxtweak.api.goal import Goal, with_goal
from onnxtweak.api.words import ClassName, HeightWidth, Number, Numbers, StrPath, StrPaths
from onnxtweak.errors import UsageError
from onnxtweak.recipe.values import did_you_mean, key_of, settings_from
from onnxtweak.registry import METHODS
from onnxtweak.settings import (
    LISTED,
    AugmentSettings,
    BackendName,
    Color,
    Criterion,
    DataSettings,
    EngineSettings,
    JoinCriterion,
    JoinSettings,
    Layout,
    Mirror,
    OutputSettings,
    Pool,
    Preprocess,
    ResizeMode,
    TapSettings,
    TargetSettings,
    Theta,
)


class PreprocessOptions(TypedDict, total=False):
    """See `onnxtweak.settings.Preprocess`."""

    resize: HeightWidth | None
    resize_mode: ResizeMode | None
    pad_value: Number | None
    crop: HeightWidth | None
    layout: Layout | None
    color: Color | None
    pixel_scale: Number | None
    mean: Numbers | None
    std: Numbers | None
    dtype: str | None


class SourceOptions(PreprocessOptions, total=False):
    """See `onnxtweak.settings.DataSettings`."""

    val: StrPaths
    test: StrPaths
    names: StrPath | None
    seed: int
    anyway: bool
    inputs: Mapping[str, Number]
    group: str | None
    by: str | Sequence[str]


class DataOptions(SourceOptions, total=False):
    """Of functions that need samples."""

    data: Required[StrPaths]


class ListedOptions(SourceOptions, total=False):
    """Of `fit`, which takes listed samples beside others or instead of them."""

    data: StrPaths
    must: StrPaths
    lock: StrPaths
    keep: StrPaths


class EngineOptions(TypedDict, total=False):
    """See `onnxtweak.settings.EngineSettings`. memory : bytes, or text such as "500MB"."""

    device: str
    backend: BackendName
    memory: int | str
    batch: int | None
    threads: int | None
    work_dir: StrPath | None
    resume: bool
    shard: int
    workers: int | None
    scheduler: str | None
    custom_ops: StrPaths


class TapOptions(TypedDict, total=False):
    """See `onnxtweak.settings.TapSettings`."""

    taps: str | Sequence[str]
    pool: Pool | Sequence[Pool]
    logits: str | None
    threshold: float | None


class InspectOptions(SourceOptions, TapOptions, total=False):
    """Of `inspect`, which can do without samples."""

    data: StrPaths


class TargetOptions(TypedDict, total=False):
    """See `onnxtweak.settings.TargetSettings`."""

    target: ClassName | Sequence[ClassName]
    worst: int | None


class GoalOptions(TypedDict, total=False):
    """Of all functions that measure or learn: what a goal says need not be said by other options."""

    goal: Goal | None


class OutputOptions(TypedDict, total=False):
    """See `onnxtweak.settings.OutputSettings`."""

    output: StrPath | None
    tweak: StrPath | None
    force: bool
    report: StrPath | None
    evidence: bool


class EvaluateOptions(DataOptions, GoalOptions, TargetOptions, TapOptions, EngineOptions, total=False):
    """Of `evaluate`, `compare`, and all functions that make or score a patch."""


class MakeOptions(DataOptions, GoalOptions, TapOptions, EngineOptions, OutputOptions, total=False):
    """Of all functions that make a patch."""


class JoinSettingsOptions(TypedDict, total=False):
    """See `onnxtweak.settings.JoinSettings`."""

    count: int | Sequence[int]
    scale: Numbers
    exact_scale: bool
    max_overall_drop: Number
    max_class_drop: Number | str | None
    theta: Theta
    criterion: JoinCriterion


class JoinOptions(MakeOptions, TargetOptions, JoinSettingsOptions, total=False):
    """Of `join` and `score`."""


class RetrainOptions(MakeOptions, TargetOptions, total=False):
    """Of `retrain`; see `onnxtweak.settings.RetrainSettings`. join : options of the join before it."""

    penalty: Number
    ridge: Numbers
    schedule: str | None
    scale: Numbers
    join: JoinSettingsOptions | None


class AugmentOptions(MakeOptions, total=False):
    """Of `augment`; see `onnxtweak.settings.AugmentSettings`. minibatch : its `batch`."""

    neurons: int | None
    hidden: int
    iterations: int
    minibatch: int
    rate: Number
    decay: Number
    patience: int
    max_class_drop: Number | str | None
    theta: Theta
    criterion: Criterion


class FitOptions(
    ListedOptions, GoalOptions, TargetOptions, TapOptions, EngineOptions, OutputOptions, total=False
):
    """Of `fit`; see `onnxtweak.settings.FitSettings`."""

    max_overall_drop: Number
    margin: Number
    neurons: int
    hidden: int
    folds: int | None
    mirror: Mirror
    max_class_drop: Number | str | None
    budget: int | None
    synapses: int | None
    certify: Number | None
    slice: str | None
    metric: str | None


# ------------------------------------------------------------------------------------------- settings

Function = TypeVar("Function", bound=Callable[..., Any])

_BASE = {"data": DataSettings, "targets": TargetSettings, "taps": TapSettings, "engine": EngineSettings}
# The settings of each function, by the keyword under which its command takes them.
SETTINGS: dict[str, dict[str, type]] = {
    "inspect": {"data": DataSettings, "taps": TapSettings},
    "evaluate": _BASE,
    "compare": _BASE,
    "score": {**_BASE, "settings": JoinSettings, "output": OutputSettings},
    **{
        name: {
            **{keyword: kind for keyword, kind in _BASE.items() if method.targeted or keyword != "targets"},
            **method.settings,
            "output": OutputSettings,
        }
        for name, method in METHODS.items()
    },
}
# Functions that can do without samples, which are then None.
_OPTIONAL_DATA = {"inspect"}
# Functions that take listed samples, for which other data may be missing.
_TAKE_LISTED = {"fit"}
# Functions that take a goal, and what their help says of it.
_GOAL = "goal : an `onnxtweak.Goal`, which may say what other options say."
_TAKE_GOAL = SETTINGS.keys() - {"inspect"}
# Selectors of what a function watches by default, where they are not those of `TapSettings`.
_TAPS: dict[str, tuple[str, ...]] = {"compare": (), **{name: m.taps for name, m in METHODS.items()}}
# `batch` is the engine's; and there is a setting that only recipes fill.
RENAMED: dict[tuple[type, str], str] = {(AugmentSettings, "batch"): "minibatch"}
HIDDEN: set[tuple[type, str]] = {(OutputSettings, "recipe")}


def settings_of(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of function `name` by keyword, from its options; None is the same as leaving one out.

    Raises UsageError for an option that is unknown, missing, or does not fit.
    """
    where, flat, nested = f"onnxtweak.{name}", *_kinds(name)
    known = [*(word for kind in flat.values() for word in _words(kind, name)), *nested]
    if name in _TAKE_GOAL:
        inside = {keyword: list(_words(kind, name)) for keyword, kind in nested.items()}
        options = with_goal(options, known, inside, where)
    given = _checked(options, known, where)
    given.setdefault("taps", _TAPS.get(name, TapSettings.taps))
    bare = name in _OPTIONAL_DATA and "data" not in given
    made = {
        keyword: None if bare and kind is DataSettings else _filled(kind, given, where, name)
        for keyword, kind in flat.items()
    }
    if "data" not in given and name not in _OPTIONAL_DATA | _TAKE_LISTED:
        raise UsageError("`data` is missing", where=where, hint=f"add `data = ...` to {where}")
    engine = made.get("engine")
    if isinstance(engine, EngineSettings) and engine.resume and engine.work_dir is None:
        hint = "name the folder that the earlier run saved to"
        raise UsageError("`resume` needs `work_dir`", where=where, hint=hint)
    for keyword, kind in nested.items():
        inner, place = given.get(keyword, {}), f"{where}, {keyword}"
        if not isinstance(inner, Mapping):
            raise UsageError(f"`{keyword}` is not a mapping", where=where, hint="give its options as a dict")
        made[keyword] = _filled(kind, _checked(inner, [*_words(kind, name)], place), place, name)
    return made


def explained(function: Function) -> Function:
    """Show the options of a function in its signature and in its help, one by one."""
    name = function.__name__
    signature = inspect.signature(function)
    types = get_type_hints(*get_args(get_type_hints(function)["options"]))
    flat, nested = _kinds(name)
    shown = [
        inspect.Parameter(word, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=types[word])
        for word, default in [
            *(one for kind in flat.values() for one in _defaults(name, kind)),
            *((keyword, None) for keyword in nested),
            *([("goal", None)] if name in _TAKE_GOAL else []),
        ]
    ]
    model, *named, _ = signature.parameters.values()  # the last are `**options`
    function.__signature__ = signature.replace(parameters=[model, *shown, *named])  # type: ignore[attr-defined]
    kinds = [k for kind in flat.values() for k in ((kind, Preprocess) if kind is DataSettings else (kind,))]
    explained = [*(inspect.getdoc(each) for each in (function, *kinds)), _GOAL if name in _TAKE_GOAL else ""]
    function.__doc__ = "\n\n".join(filter(None, explained))
    return function


def _kinds(name: str) -> tuple[dict[str, type], dict[str, type]]:
    """The settings of a function that its own options fill, and those that have a mapping of options."""
    kinds = dict(SETTINGS[name])
    others = METHODS[name].settings.keys() - {"settings"} if name in METHODS else ()
    nested = {keyword: kinds.pop(keyword) for keyword in others}
    return kinds, nested


def _words(kind: type, name: str) -> dict[str, str]:
    """The options of a function that fill settings of a kind, and the key of each in a recipe."""
    found: dict[str, str] = {}
    for field in get_type_hints(kind):
        if field == "preprocess":
            found |= _words(Preprocess, name)
        elif (kind, field) not in HIDDEN and (field not in LISTED or name in _TAKE_LISTED):
            key = key_of(field)
            found[RENAMED.get((kind, field), key.replace("-", "_"))] = key
    return found


def _defaults(name: str, kind: type) -> Iterator[tuple[str, Any]]:
    """The options that fill settings of a kind, and the default of each."""
    words = {key: word for word, key in _words(kind, name).items()}
    for field in fields(kind):
        if field.name == "preprocess":
            yield from _defaults(name, Preprocess)
        elif (word := words.get(key_of(field.name))) is not None:
            default = inspect.Parameter.empty if field.default is MISSING else field.default
            if field.name == "data" and name not in _TAKE_LISTED:
                default = None if name in _OPTIONAL_DATA else inspect.Parameter.empty
            yield word, _TAPS.get(name, default) if word == "taps" else default


def _checked(options: Mapping[str, Any], known: Sequence[str], where: str) -> dict[str, Any]:
    """The options that were given. Raises UsageError for the first that is not known."""
    for word in options:
        if word not in known:
            hint = did_you_mean(word, known) or f"known: {', '.join(sorted(known))}"
            raise UsageError(f"unknown option `{word}`", where=where, hint=hint)
    return {word: value for word, value in options.items() if value is not None}


def _filled(kind: type, options: Mapping[str, Any], where: str, name: str) -> Any:
    table = {key: _plain(options[word]) for word, key in _words(kind, name).items() if word in options}
    inner = {"preprocess": settings_from(Preprocess, table, where)} if kind is DataSettings else {}
    return settings_from(kind, table, where, **inner)


def _plain(value: Any) -> Any:
    """A value as TOML would have it: paths as text, tuples as lists, NumPy's numbers as Python's."""
    if isinstance(value, np.generic | np.ndarray):
        value = value.tolist()
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, os.PathLike) else value
