"""How do TOML values become settings? By the types that the settings' dataclass declares.

Written by hand rather than with cattrs, msgspec or pydantic: fractions ("1/255"), sizes ("4GiB"), heights and
widths, and one value in place of a list would each need a hook there. And an error should name the key and
the nearest known word ("did you mean `mean`?"), which none of them does.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection, Mapping
from dataclasses import MISSING, fields
from functools import cache
from types import NoneType
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from onnxtweak.bounded import require_in_range
from onnxtweak.errors import UsageError
from onnxtweak.in_memory import InMemory, SampleSource
from onnxtweak.quantities import height_width, number, plain_number, size

Settings = TypeVar("Settings")
Convert = Callable[[Any], Any]

_LONG = 200  # characters of a value that an error shows


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("is not text; put it in quotes")
    return value


def _whole(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError("is not a whole number")
    return value


def _number(value: Any) -> float:
    if isinstance(value, str):
        return number(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError("is not a number")
    return number(repr(value))


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError("is not true or false")
    return value


def _height_width(value: Any) -> tuple[int, int]:
    if isinstance(value, list) and len(value) == 2:
        return height_width("x".join(str(_whole(side)) for side in value))
    return height_width(str(_whole(value)) if isinstance(value, int) else _text(value))


def _several(one: Convert) -> Convert:
    return lambda value: tuple(one(item) for item in (value if isinstance(value, list) else [value]))


def _numbers_by_name(value: Any) -> tuple[tuple[str, float], ...]:
    if not isinstance(value, Mapping):
        raise ValueError("is not a table of numbers by name, such as { sr = 16000 }")
    return tuple((_text(name), plain_number(str(each))) for name, each in value.items())


def _source(value: Any) -> SampleSource:
    return value if isinstance(value, InMemory) else _text(value)


_BY_TYPE: dict[Any, Convert] = {
    str: _text,
    int: _whole,
    float: _number,
    bool: _flag,
    tuple[int, int]: _height_width,
    tuple[str, ...]: _several(_text),
    tuple[SampleSource, ...]: _several(_source),
    tuple[int, ...]: _several(_whole),
    tuple[float, ...]: _several(_number),
    tuple[tuple[str, float], ...]: _numbers_by_name,
}
# Fields that may be written in another way than their type says: bytes with a unit, a class by its number.
_BY_FIELD: dict[str, Convert] = {
    "memory": lambda value: size(value) if isinstance(value, str) else _whole(value),
    "max_class_drop": lambda value: None if value == "none" else _number(value),
    "class_axis": lambda value: 0 if value == "none" else _whole(value),
    "names": lambda value: _several(_text)(value) if isinstance(value, list) else _text(value),
    "alphabet": lambda value: _several(_text)(value) if isinstance(value, list) else _text(value),
    "targets": _several(lambda value: str(value) if type(value) is int else _text(value)),
}


def key_of(field: str) -> str:
    """A setting's key in a recipe, the word of the command line."""
    return {"targets": "target"}.get(field, field.replace("_", "-"))


# The types of a class's fields, by field: they are written as text, which takes milliseconds to read.
types_of: Callable[[type], Mapping[str, Any]] = cache(get_type_hints)


def keys_of(kind: type) -> dict[str, str]:
    """The keys that make a settings object, and the field of each."""
    return {key_of(name): name for name in types_of(kind)}


def settings_from(kind: type[Settings], table: Mapping[str, Any], where: str, **given: Any) -> Settings:
    """Settings of class `kind` from the keys of `table` that belong to them; other keys are left alone.

    given : fields that are known already. Raises UsageError for a value that does not fit, or is missing.
    """
    values, types = dict(given), types_of(kind)
    for key, field in keys_of(kind).items():
        if field not in given and key in table:
            values[field] = _converted(types[field], field, table[key], f"{where} {key}")
            require_in_range(kind, field, values[field], f"{where} {key}")
    for one in fields(kind):  # type: ignore[arg-type]  # settings are dataclasses
        if one.name not in values and one.default is MISSING and one.default_factory is MISSING:
            key = key_of(one.name)
            raise UsageError(f"`{key}` is missing", where=where, hint=f"add `{key} = ...` to {where}")
    return kind(**values)


def _converted(declared: Any, field: str, value: Any, where: str) -> Any:
    choices, several = choices_of(declared), get_origin(_without_none(declared)) is tuple
    if choices:
        convert: Convert = _several(_text) if several else _text
    else:
        convert = _BY_FIELD.get(field) or _BY_TYPE[_without_none(declared)]
    try:
        found = convert(value)
    except ValueError as error:
        said = str(error)
        shown = repr(value) if len(repr(value)) <= _LONG else f"a value of type {type(value).__name__}"
        what = said if said[0] in "'\"" else f"{shown} {said}"
        raise UsageError(what, where=where, hint="see docs/recipes.md for what it takes") from None
    for word in (found if several else [found]) if choices else ():
        if word not in choices:
            hint = did_you_mean(word, choices) or f"one of {', '.join(choices)}"
            raise UsageError(f"{word!r} is not a known {key_of(field)}", where=where, hint=hint)
    return found


def _without_none(declared: Any) -> Any:
    """The type that is left of `X | None`."""
    inner = [kind for kind in get_args(declared) if kind is not NoneType]
    return inner[0] if NoneType in get_args(declared) else declared


def choices_of(declared: Any) -> tuple[str, ...]:
    """The words that a setting of this type may be one or several of; none where it is not a choice."""
    kinds = (kind for kind in (declared, *get_args(declared)) if get_origin(kind) is Literal)
    return get_args(next(kinds, None))


def check_keys(table: Collection[str], known: Collection[str], where: str) -> None:
    """Raise UsageError for the first key that is not known."""
    for key in table:
        if key not in known:
            hint = did_you_mean(key, known) or f"known here: {', '.join(sorted(known))}"
            raise UsageError(f"unknown key `{key}`", where=where, hint=hint)


def did_you_mean(word: str, known: Collection[str]) -> str:
    """A hint that names the nearest known word, or nothing."""
    folded = {k.lower().replace("_", "-"): k for k in known}
    near = difflib.get_close_matches(word.lower().replace("_", "-"), folded, n=1, cutoff=0.6)
    return f"did you mean `{folded[near[0]]}`?" if near else ""
