"""What does [goal] mean? Its keys are options of every tweak and the comparison, said once for all of them.

What a [[tweak]] or [compare] says itself wins. Listed samples are data: they go where [data] has them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from onnxtweak.errors import UsageError
from onnxtweak.metric.asked import require_metric
from onnxtweak.recipe.values import keys_of
from onnxtweak.registry import METHODS
from onnxtweak.settings import LISTED, TargetSettings

_TARGETS = tuple(keys_of(TargetSettings))
# Answers to one question, what should be better: a tweak that gives its own takes none of the goal's, and
# one that overrides a recipe replaces the others.
BETTER = (*_TARGETS, "slice", "metric")
# All that a goal may consist of.
GOAL = (*_TARGETS, "slice", "metric", "max-overall-drop", "max-class-drop", *LISTED)


def with_goal(document: Mapping[str, Any], where: str) -> dict[str, Any]:
    """A recipe whose tweaks, comparison and data say themselves what [goal] says. where : names [goal].

    Raises UsageError for a key that a tweak cannot heed, for words that mean no metric, and for listed
    samples that [data] names too.
    """
    goal = document.get("goal", {})
    listed = {key: value for key, value in goal.items() if key in LISTED}
    others = {key: value for key, value in goal.items() if key not in LISTED}
    data = document.get("data", {})
    for key in listed:
        if key in data:
            hint = "keep one of the two"
            raise UsageError(f"`{key}` is given here and under [data]", where=where, hint=hint)
    if isinstance(goal.get("metric"), str):
        try:
            require_metric(goal["metric"])
        except UsageError as error:
            raise UsageError(error.what, where=f"{where} metric", hint=error.hint) from None
    tweaks = document.get("tweak")
    found = {key: value for key, value in document.items() if key != "goal"}
    if listed:
        found["data"] = {**data, **listed}
    if others and isinstance(tweaks, Sequence):
        found["tweak"] = [_tweak(table, others, where) for table in tweaks]
    if others and "compare" in found:
        found["compare"] = _filled(found["compare"], others, (*_TARGETS, "metric"))
    return found


def _tweak(table: Any, goal: Mapping[str, Any], where: str) -> Any:
    """A [[tweak]] with what the goal says; one that is none is left for others to refuse."""
    method = METHODS.get(table.get("method", "join")) if isinstance(table, Mapping) else None
    if method is None:
        return table
    own = [*keys_of(method.settings["settings"]), *(_TARGETS if method.targeted else ())]
    found, heeded = _filled(table, goal, own), set(own)
    for name, kind in method.settings.items():
        if name != "settings" and isinstance(table.get(name, {}), Mapping):
            inner = [key for key in keys_of(kind) if key not in heeded]
            filled = _filled(table.get(name, {}), goal, inner)
            found |= {name: filled} if filled else {}
            heeded |= set(inner)
    for key in goal:
        if key not in heeded:
            hint = f"write `{key}` in each [[tweak]] that it is for"
            raise UsageError(f"`{method.name}` does not heed `{key}`", where=where, hint=hint)
    return found


def _filled(table: Mapping[str, Any], goal: Mapping[str, Any], known: Sequence[str]) -> dict[str, Any]:
    """The table with those of the `known` keys that it does not say itself."""
    said = {*table, *(BETTER if any(key in table for key in BETTER) else ())}
    return {**table, **{key: value for key, value in goal.items() if key in known and key not in said}}
