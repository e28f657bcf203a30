"""What does a result look like as JSON (schema 1)?

NaN and infinities become null: JSON has neither.
"""

from __future__ import annotations

import dataclasses
import json
import math
from typing import Any

import numpy as np

from onnxtweak.results import Result
from onnxtweak.types import Metrics, Trial

SCHEMA = 1


def document(command: str, noun: Any) -> dict[str, Any]:
    """What `command` reports: a Result with the keys of schema 1, any other noun field by field.

    The metrics of `evaluate` carry their sample count and confusion (C, C) as well.
    """
    if isinstance(noun, Result):
        return _result(noun)
    made = {"schema": SCHEMA, "command": command} | plain(noun)
    metrics = getattr(noun, "metrics", None)
    if isinstance(metrics, Metrics):
        made["metrics"] |= {"samples": metrics.samples, "confusion": plain(metrics.confusion)}
    return made


def dumps(made: dict[str, Any]) -> str:
    """The document as text, two spaces deep, with a final line feed."""
    return json.dumps(made, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def plain(value: Any) -> Any:
    """A value of nothing but dicts, lists, text, finite numbers, booleans and None."""
    match value:
        case None | bool() | str() | int():
            return value
        case float():
            return value if math.isfinite(value) else None
        case Metrics():
            return {
                "overall": plain(value.overall),
                "target": plain(value.target),
                "per_class": plain(value.per_class),
            }
        case Trial():
            return {"drop": plain(value.drop), "target": plain(value.target)}
        case np.generic() | np.ndarray():
            return plain(value.tolist())
        case dict():
            return {str(key): plain(item) for key, item in value.items()}
        case tuple() | list() | set() | frozenset():
            return [plain(item) for item in value]
    if dataclasses.is_dataclass(value):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    return str(value)


def _result(made: Result) -> dict[str, Any]:
    """The document of every command that makes a patch: the same keys for each method."""
    return {
        "schema": SCHEMA,
        "command": made.command,
        "model": plain(made.model),
        "output": plain(made.output),
        "tweak": plain(made.tweak),
        "targets": plain(made.targets),
        "n": plain(made.n),
        "scale": plain(made.scale),
        "theta": made.theta,
        "criterion": made.criterion,
        "neurons": plain(made.neurons),
        "samples": plain(made.samples),
        "split": made.split,
        "before": plain(made.before),
        "after": plain(made.after),
        "bias_control": plain(made.bias_control),
        "fixed": plain(made.fixed),
        "broken": plain(made.broken),
        "mcnemar_p": plain(made.mcnemar_p),
        "E": plain(made.E),
        "curve": plain(made.curve),
        "seconds": plain(made.seconds),
        "passes": [{"name": name, "samples": plain(samples)} for name, samples in made.passes],
        "device": plain(made.device),
        "checks": plain(made.checks),
        "classes": plain(made.classes),
        "notes": plain(made.notes),
    } | ({"evidence": plain(made.evidence)} if made.evidence else {})
