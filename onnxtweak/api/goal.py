"""What should be better, and what must not get worse? One object for all functions that learn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from onnxtweak.api.samples import Samples
from onnxtweak.api.words import ClassName, Number
from onnxtweak.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class Goal:
    """What should be better, and what must not get worse: the options of that name, None where not given.

    target, worst : classes that should do better; see `onnxtweak.settings.TargetSettings`. slice : a group of
    samples instead. metric : what "better" means, instead of accuracy. max_overall_drop, max_class_drop :
    what may be lost, in points; see `onnxtweak.settings.FitSettings`. must, lock, keep : listed samples; see
    `onnxtweak.settings.DataSettings`. `evaluate`, `compare` and `score` heed its classes alone.

    >>> import onnxtweak
    >>> from onnxtweak.demo_files import demo_files
    >>> goal = onnxtweak.Goal(target=8, max_class_drop=2)
    >>> made = onnxtweak.fit(demo_files().model, data=f"{demo_files().data}#fit", goal=goal)
    >>> made.verdict.goal
    'raise 8; keep overall accuracy; lose at most 2 points in any class'
    """

    target: ClassName | Sequence[ClassName] | None = None
    worst: int | None = None
    slice: str | None = None
    metric: str | None = None
    max_overall_drop: Number | None = None
    max_class_drop: Number | str | None = None
    must: Samples | None = None
    lock: Samples | None = None
    keep: Samples | None = None

    def __repr__(self) -> str:
        return f"Goal({', '.join(f'{word}={value!r}' for word, value in self.words.items())})"

    @property
    def words(self) -> dict[str, Any]:
        """What was given, by the words of options."""
        found = {one.name: getattr(self, one.name) for one in fields(self)}
        return {word: value for word, value in found.items() if value is not None}


# What of a goal is no question for functions that only measure.
_NOT_MEASURED = {one.name for one in fields(Goal)} - {"target", "worst"}


def with_goal(
    options: Mapping[str, Any], known: Sequence[str], nested: Mapping[str, Sequence[str]], where: str
) -> dict[str, Any]:
    """Options with what their goal says in its place.

    known : words of the function's options. nested : those of the options that are mappings, by word; none of
    either, for a function that only measures, leaves aside all but the goal's classes. where : names the
    function. Raises UsageError for what is said twice, or not heeded.
    """
    found = {word: value for word, value in options.items() if word != "goal"}
    goal = options.get("goal")
    if goal is None:
        return found
    if not isinstance(goal, Goal):
        raise UsageError("`goal` is no Goal", where=where, hint='give onnxtweak.Goal(target="...")')
    for word, value in goal.words.items():
        inner = next((key for key, words in nested.items() if word in words), None)
        if word in known:
            place = found
        elif inner is not None:
            place = found[inner] = dict(found.get(inner) or {})
        elif word in _NOT_MEASURED and "output" not in known:
            continue
        else:
            raise UsageError(f"`{word}` of the goal is not heeded", where=where, hint="leave it out")
        if place.get(word) is not None:
            hint = "keep one of the two"
            raise UsageError(f"`{word}` is given beside the goal, which says it too", where=where, hint=hint)
        place[word] = value
    return found
