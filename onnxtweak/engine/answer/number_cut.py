"""Above which value does a model that shows a single number mean class 1?

A probability is cut at 0.5 and a score that may be negative at 0, unless the user says otherwise. Which of
them it is, samples alone do not tell: all may be of one class. The tail is asked what it can give.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from onnxtweak.errors import UsageError
from onnxtweak.head import Answer
from onnxtweak.model.file.model_file import ModelFile
from onnxtweak.model.file.tweak_metadata import tweaks_inside
from onnxtweak.model.graph import GraphIndex
from onnxtweak.model.inspect.tail import is_unbounded

_FAR = 30.0  # on the logit scale, where any sigmoid is at its end
_TIMES = (-4.0, -1.0, 1.0, 4.0)
_MADE_UP = 64
_SLACK = 1e-6
Asked = Callable[[], Any]


@dataclass(frozen=True)
class Cuts:
    """What is known beforehand. threshold : that the user gave. recorded : by a tweak inside the model."""

    threshold: float | None = None
    recorded: float | None = None


def with_cut(graph: GraphIndex, name: str, answer: Answer, shown: Any, ask: Asked, given: Cuts) -> Answer:
    """A single number as the answer, with its cut; other answers as they are.

    name : the tensor that the tail follows on. shown (n, ...) : the output on real samples. ask : for its
    values where the tensor is anything. Raises UsageError where a threshold is needed and missing, or where
    nothing exceeds it.
    """
    threshold = given.threshold
    if answer.kind != "number":
        return answer
    if given.recorded is not None:  # a patch may have carried the number beyond where it was
        return replace(answer, cut=given.recorded if threshold is None else threshold)
    if is_unbounded(graph, answer.output):
        return answer
    seen = np.asarray(shown, np.float64).ravel()
    if is_unbounded(graph, name):  # so that any number may reach the tail
        seen = np.concatenate([seen, np.asarray(ask(), np.float64).ravel()])
    least, most = float(np.nanmin(seen)), float(np.nanmax(seen))
    if least < 0:
        return answer
    span = f"between {least:.4g} and {most:.4g}"
    if threshold is None and most > 1 + _SLACK:
        raise UsageError(
            f"output {answer.output!r} is one number {span}, and above which it means class 1 is not known",
            where="--threshold",
            hint="give that number",
        )
    if threshold is not None and threshold >= most:
        raise UsageError(
            f"output {answer.output!r} never exceeds {threshold:g}: it lies {span}",
            where="--threshold",
            hint="give the number above which it means class 1",
        )
    return replace(answer, cut=0.5 if threshold is None else threshold)


def anything(values: np.ndarray) -> np.ndarray:
    """Columns (m, R) on the logit scale, near those of samples (n, R) and far from them."""
    made_up = np.random.default_rng(0).uniform(-_FAR, _FAR, (_MADE_UP, values.shape[1]))
    return np.concatenate([*(times * values for times in _TIMES), made_up])


def require_cut(threshold: float | None, answer: Answer) -> None:
    """Raise UsageError for a threshold where the model shows no number that could be cut there."""
    if threshold is None or (answer.kind == "number" and 0 < answer.cut):
        return
    shows = {"label": "the class itself", "number": "a score that is no probability"}
    raise UsageError(
        f"output {answer.output!r} shows {shows.get(answer.kind, 'scores of several classes')}",
        where="--threshold",
        hint="leave it out; `fit --metric` moves the model's own cut, and the new file shows it",
    )


def recorded_cut(model: ModelFile) -> float | None:
    """The cut that the last tweak inside was made for."""
    inside = tweaks_inside(model.proto)
    value = inside[-1].provenance.get("threshold") if inside else None
    return float(value) if isinstance(value, (int, float)) else None
