"""How do TOML values become settings? By the type that the setting's dataclass declares."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields
from typing import Any

from onnxtweak.errors import UsageError
from onnxtweak.quantities import height_width, number, size

# Words that a setting may only be one of, as on the command line.
CHOICES = {
    "backend": ("auto", "numpy", "numba", "cupy"),
    "pool": ("none", "mean", "max"),
    "layout": ("NCHW", "NHWC"),
    "color": ("RGB", "BGR", "GRAY"),
    "theta": ("signed", "thesis"),
    "criterion": ("auto", "count", "threshold", "lift", "net-gain"),
}


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


def _several(one: Callable[[Any], Any]) -> Callable[[Any], tuple]:
    return lambda value: tuple(one(item) for item in (value if isinstance(value, list) else [value]))


_BY_TYPE: dict[str, Callable[[Any], Any]] = {
    "str": _text,
    "int": _whole,
    "float": _number,
    "bool": _flag,
    "tuple[int, int]": _height_width,
    "tuple[str, ...]": _several(_text),
    "tuple[int, ...]": _several(_whole),
    "tuple[float, ...]": _several(_number),
}


def key_of(field: str) -> str:
    """A setting's key in a recipe, the word of the command line."""
    return {"targets": "target"}.get(field, field.replace("_", "-"))


def keys_of(kind: type) -> dict[str, str]:
    """The keys that make a settings object, and the field of each."""
    return {key_of(field.name): field.name for field in fields(kind)}


def settings_from(kind: type, table: Mapping[str, Any], where: str, **given: Any) -> Any:
    """Settings from the keys of `table` that belong to them; other keys are left alone.

    given : fields that are known already. Raises UsageError for a value that does not fit.
    """
    values = dict(given)
    for field in fields(kind):
        key = key_of(field.name)
        if field.name in given or key not in table:
            continue
        values[field.name] = _converted(str(field.type), field.name, table[key], f"{where} {key}")
    missing = [
        key_of(f.name)
        for f in fields(kind)
        if f.name not in values and f.default is MISSING and f.default_factory is MISSING
    ]
    if missing:
        raise UsageError(
            f"`{missing[0]}` is missing", where=where, hint=f"add `{missing[0]} = ...` to {where}"
        )
    return kind(**values)


def _converted(kind: str, field: str, value: Any, where: str) -> Any:
    if field == "targets":  # a class may be given by its number
        value = [str(v) if type(v) is int else v for v in (value if isinstance(value, list) else [value])]
    convert = size if field == "memory" and isinstance(value, str) else _BY_TYPE[kind.removesuffix(" | None")]
    try:
        found = convert(value)
    except ValueError as error:
        said = str(error)
        what = said if said[0] in "'\"" else f"{value!r} {said}"
        raise UsageError(what, where=where, hint="see docs/recipes.md for what it takes") from None
    if field in CHOICES and found not in CHOICES[field]:
        hint = did_you_mean(found, CHOICES[field]) or f"it is one of {', '.join(CHOICES[field])}"
        raise UsageError(f"{found!r} is not known", where=where, hint=hint)
    return found


def check_keys(table: Mapping[str, Any], known: list[str], where: str) -> None:
    """Raise UsageError for the first key that is not known."""
    for key in table:
        if key not in known:
            hint = did_you_mean(key, known) or f"known here: {', '.join(sorted(known))}"
            raise UsageError(f"unknown key `{key}`", where=where, hint=hint)


def did_you_mean(word: str, known: list[str] | tuple[str, ...]) -> str:
    """A hint that names the nearest known word, or nothing."""
    folded = {k.lower().replace("_", "-"): k for k in known}
    near = difflib.get_close_matches(word.lower().replace("_", "-"), folded, n=1, cutoff=0.6)
    return f"did you mean `{folded[near[0]]}`?" if near else ""
