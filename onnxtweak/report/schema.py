"""What does a result look like as JSON (schema 1)?

This is the only place that knows the layout: the parts of a result are written flat, beside its own fields.
NaN and infinities become null, for JSON has neither.
"""

from __future__ import annotations

import dataclasses
import json
import math
from typing import Any

import numpy as np

from onnxtweak.printable import visible_json
from onnxtweak.results import Choice, Measurement, Result, RunFacts
from onnxtweak.types import BoxMetrics, LabelMetrics, Metrics, Trial

SCHEMA = 1

# The keys of a Result in their order, which is older than its parts. `evidence` follows where there is any.
RESULT_KEYS = tuple(
    "schema command model output answer verdict tweak targets n scale theta criterion neurons samples split "
    "before after bias_control fixed broken mcnemar_p E curve seconds passes device checks classes "
    "notes".split()
)


def document(command: str, noun: Any) -> dict[str, Any]:
    """What `command` reports: a Result with the keys of schema 1, any other noun field by field.

    The metrics of an Evaluation carry their sample count and confusion matrix (C, C) as well; those of
    several labels at once have F1 in place of accuracies, and a matrix (2, 2) for each label.
    """
    made: dict[str, Any] = {"schema": SCHEMA, "command": command} | plain(noun)
    if isinstance(noun, Result):
        made["answer"] = noun.verdict.answer
        made["passes"] = [{"name": name, "samples": samples} for name, samples in made["passes"]]
        keys = (*RESULT_KEYS, *(key for key in ("listed", "matched", "metric", "evidence") if made[key]))
        return {key: made[key] for key in keys}
    metrics = getattr(noun, "metrics", None)
    if isinstance(metrics, Metrics):
        made["metrics"] |= {"samples": metrics.samples, "confusion": plain(metrics.confusion)}
    return made


def dumps(made: dict[str, Any]) -> str:
    """The document as text, indented by two spaces, with a final line feed; safe to print."""
    return visible_json(json.dumps(made, indent=2, ensure_ascii=False, allow_nan=False)) + "\n"


def plain(value: Any) -> Any:
    """The value as nothing but dicts, lists, strings, finite numbers, booleans and None."""
    match value:
        case None | bool() | str() | int():
            return value
        case float():
            return value if math.isfinite(value) else None
        case LabelMetrics():
            return {
                "measure": "F1",
                "overall": plain(value.overall),
                "target": plain(value.target),
                "mean_average_precision": plain(value.mean_average_precision),
                "per_class": plain(value.per_class),
                "precision": plain(value.precision),
                "recall": plain(value.recall),
                "average_precision": plain(value.average_precision),
            }
        case BoxMetrics():
            return {
                "measure": "AP50",
                "overall": plain(value.overall),
                "target": plain(value.target),
                "mean_strict": plain(value.mean_strict),
                "per_class": plain(value.per_class),
                "strict": plain(value.strict),
                "objects": plain(value.objects),
            }
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
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        made: dict[str, Any] = {}
        for field in dataclasses.fields(value):
            if not field.metadata.get("json", True):
                continue
            part = getattr(value, field.name)
            flat = isinstance(part, Choice | Measurement | RunFacts)
            made |= plain(part) if flat else {field.name: plain(part)}
        return made
    return str(value)
