"""Which gates were passed? They are judged on the JSON of a result, on its test figures."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from onnxtweak.recipe.plan import Gates

# Rounding of differences of accuracies; far below one sample.
_SLACK = 1e-9

Document = Mapping[str, Any]


def judged(gates: Gates, result: Document) -> list[dict[str, Any]]:
    """For each limit: name, limit, measured, passed.

    A figure that does not exist (no target samples in test, nothing measured) does not pass.
    """
    found = []
    for field, limit in asdict(gates).items():
        if limit is None:
            continue
        measured = _MEASURES[field](result)
        at_least = field.startswith("min")
        passed = measured is not None and (
            measured >= limit - _SLACK if at_least else measured <= limit + _SLACK
        )
        found.append(
            {"name": field.replace("_", "-"), "limit": limit, "measured": measured, "passed": passed}
        )
    return found


def _gain(result: Document, key: str) -> float | None:
    before, after = result["before"][key], result["after"][key]
    return None if before is None or after is None else (after - before) * 100


def _overall_drop(result: Document) -> float | None:
    gain = _gain(result, "overall")
    return None if gain is None else -gain


def _class_drop(result: Document) -> float | None:
    pairs = zip(result["before"]["per_class"], result["after"]["per_class"], strict=True)
    return max(((b - a) * 100 for b, a in pairs if b is not None and a is not None), default=None)


def _latency(result: Document) -> float | None:
    found: float | None = result.get("evidence", {}).get("latency", {}).get("increase")
    return found


def _confidence(result: Document) -> float | None:
    # A small p with more broken than fixed is confidence in harm.
    return 1 - result["mcnemar_p"] if result["fixed"] > result["broken"] else 0.0


_MEASURES: dict[str, Callable[[Document], float | None]] = {
    "min_target_gain": lambda result: _gain(result, "target"),
    "max_overall_drop": _overall_drop,
    "max_class_drop": _class_drop,
    "max_E": lambda result: result["E"],
    "max_latency_increase": _latency,
    "min_mcnemar": _confidence,
}
