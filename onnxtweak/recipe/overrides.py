"""What overrides a recipe's file? The environment (`ONNXTWEAK_ENGINE_DEVICE=cpu`), and then `--set`."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from typing import Any

from onnxtweak.errors import UsageError
from onnxtweak.recipe.goal_table import BETTER
from onnxtweak.recipe.values import did_you_mean

_PREFIX = "ONNXTWEAK_"


def override(
    document: dict[str, Any],
    tables: Mapping[str, Sequence[str]],
    environment: Mapping[str, str],
    changes: Sequence[str],
) -> None:
    """Put variables and then changes, `key=value`, into a recipe's tables.

    tables : the keys of each table that variables may set. What should be better in a goal or a tweak takes
    the place of what the file says there. Raises UsageError for what is unknown.
    """
    variables = [(name, value) for name, value in sorted(environment.items()) if name.startswith(_PREFIX)]
    done = [_set_from_environment(document, tables, name, value) for name, value in variables]
    done += [_set(document, change) for change in changes]
    _replace_answers([one for one in done if one is not None])


_Set = tuple[dict[str, Any], str]  # a table and the key that was set in it


def _replace_answers(done: Sequence[_Set]) -> None:
    """Leave of several answers to what should be better those that were set. done : all that was."""
    for table, key in done:
        said = {other for one, other in done if one is table}
        for other in BETTER if key in BETTER else ():
            if other not in said:
                table.pop(other, None)


def _set_from_environment(
    document: dict[str, Any], tables: Mapping[str, Sequence[str]], name: str, text: str
) -> _Set | None:
    table, _, key = name.removeprefix(_PREFIX).lower().partition("_")
    if table not in tables:
        return None  # not about a recipe
    known = {k.lower().replace("-", "_"): k for k in tables[table]}
    if key not in known:
        hint = did_you_mean(key, list(known)) or f"known in [{table}]: {', '.join(tables[table])}"
        raise UsageError(f"unknown key `{key}`", where=f"environment variable {name}", hint=hint)
    found = document.setdefault(table, {})
    found[known[key]] = _value(text)
    return found, known[key]


def _set(document: dict[str, Any], change: str) -> _Set:
    key, sign, text = change.partition("=")
    way = [part.strip() for part in key.split(".")]
    if not sign or len(way) < 2 or not all(way):
        raise UsageError(
            f"{change!r} is not an override", where="--set", hint="write it like --set engine.device=cpu"
        )
    table: Any = document
    if way[0] == "tweak":
        table = _named(document, way[1])
        way = way[2:]
        if not way:
            raise UsageError(
                f"{change!r} does not name a key", where="--set", hint="write --set tweak.NAME.key=value"
            )
    for part in way[:-1]:
        table = table.setdefault(part, {})
        if not isinstance(table, dict):
            raise UsageError(
                f"`{part}` is not a table", where=f"--set {change}", hint="name a key of a table"
            )
    table[way[-1]] = _value(text.strip())
    return table, way[-1]


def _named(document: dict[str, Any], name: str) -> dict[str, Any]:
    tweaks = [t for t in document.get("tweak", []) if isinstance(t, dict)]
    for tweak in tweaks:
        if tweak.get("name") == name:
            return tweak
    names = [str(tweak.get("name")) for tweak in tweaks]
    hint = did_you_mean(name, names) or f"the recipe's tweaks: {', '.join(names)}"
    raise UsageError(f"unknown tweak `{name}`", where="--set", hint=hint)


def _value(text: str) -> Any:
    """A TOML value, or the text itself where it is not one."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
