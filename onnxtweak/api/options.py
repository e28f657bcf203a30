"""How do options of the public functions become settings, and how are they shown? Their types: `keywords`."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import MISSING, fields
from typing import Any, TypeVar, get_args, get_type_hints

import numpy as np

from onnxtweak.api.goal import with_goal
from onnxtweak.api.samples import sources_of
from onnxtweak.errors import UsageError
from onnxtweak.recipe.values import did_you_mean, key_of, settings_from, types_of
from onnxtweak.registry import METHODS
from onnxtweak.settings import (
    LISTED,
    AugmentSettings,
    DataSettings,
    EngineSettings,
    JoinSettings,
    OutputSettings,
    Preprocess,
    TapSettings,
    TargetSettings,
)

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
# Options that take samples.
_SAMPLES = {"data", "val", "test", *LISTED}
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
HIDDEN: set[tuple[type, str]] = {
    (OutputSettings, "recipe"),
    (DataSettings, "unlabelled"),
    (DataSettings, "boxes"),
}


def settings_of(name: str, options: Mapping[str, Any], **own: Any) -> dict[str, Any]:
    """The settings of function `name` by keyword, from its options; None is the same as leaving one out.

    own : options of the function that fill no settings; they are returned as they are, or as a goal says.
    Raises UsageError for an option that is unknown, missing, or does not fit.
    """
    where, flat, nested = f"onnxtweak.{name}", *_kinds(name)
    known = [*(word for kind in flat.values() for word in _words(kind, name)), *nested, *own]
    options = {
        **options,
        **{word: value for word, value in own.items() if value is not None and not _is_empty(value)},
    }
    if name in _TAKE_GOAL:
        inside = {keyword: list(_words(kind, name)) for keyword, kind in nested.items()}
        options = with_goal(options, known, inside, where)
    given = _checked(options, known, where)
    given.setdefault("taps", _TAPS.get(name, TapSettings.taps))
    made: dict[str, Any] = {word: given.get(word, value) for word, value in own.items()}
    bare = name in _OPTIONAL_DATA and "data" not in given
    made |= {
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


def _is_empty(value: Any) -> bool:
    return isinstance(value, tuple) and not value


def explained(function: Function) -> Function:
    """Show the options of a function in its signature and in its help, one by one."""
    name = function.__name__
    signature = inspect.signature(function)
    types = get_type_hints(*get_args(get_type_hints(function)["options"]))
    types |= dict.fromkeys(_SAMPLES, "Samples")  # spelt out it would fill a screen
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
    for field in types_of(kind):
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
    table = {key: _taken(word, options[word]) for word, key in _words(kind, name).items() if word in options}
    inner = {"preprocess": settings_from(Preprocess, table, where)} if kind is DataSettings else {}
    return settings_from(kind, table, where, **inner)


def _taken(option: str, value: Any) -> Any:
    """The value of an option as settings are made from it."""
    return sources_of(value, option) if option in _SAMPLES else _plain(value)


def _plain(value: Any) -> Any:
    """A value as TOML would have it: paths as text, tuples as lists, NumPy's numbers as Python's."""
    if isinstance(value, np.generic | np.ndarray):
        value = value.tolist()
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, os.PathLike) else value
