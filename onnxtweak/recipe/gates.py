"""Which gates were passed? They are judged on the JSON of a result, on its test figures."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from onnxtweak.recipe.plan import Gates
from onnxtweak.verdict import BASE, NOT_KEPT, NOT_SHOWN

# Rounding of differences of accuracies; far below one sample.
_SLACK = 1e-9

Document = Mapping[str, Any]


def judged(gates: Gates, result: Document) -> list[dict[str, Any]]:
    """For each limit: name, limit, measured, passed.

    A figure that does not exist (no target samples in test, nothing measured) does not pass.
    """
    found = []
    for name, limit in gates.limits.items():
        measured = _MEASURES[name](result, limit)
        at_least = name.startswith("min")
        passed = measured is not None and (
            measured >= limit - _SLACK if at_least else measured <= limit + _SLACK
        )
        found.append({"name": name, "limit": limit, "measured": measured, "passed": passed})
    return found


def _gain(result: Document, key: str) -> float | None:
    before, after = result["before"][key], result["after"][key]
    return None if before is None or after is None else (after - before) * 100


def _overall_drop(result: Document) -> float | None:
    gain = _gain(result, "overall")
    return None if gain is None else 0.0 - gain  # not -0, which would be shown so


def _class_drop(result: Document) -> float | None:
    pairs = zip(result["before"]["per_class"], result["after"]["per_class"], strict=True)
    return max(((b - a) * 100 for b, a in pairs if b is not None and a is not None), default=None)


def _group_changes(result: Document, *, wanted: bool) -> list[float]:
    groups = result["verdict"].get("groups", ())
    return [group["change"] for group in groups if group["wanted"] == wanted]


def _limit_excess(result: Document) -> float | None:
    """How far the rate lies beyond the limit of the metric, in points; None where it has none."""
    metric = result.get("metric") or {"after": {}}
    cut = metric["after"].get("at_cut")
    if cut is None:
        return None
    if cut["rate"] is None:  # nothing is taken for class 1, and so nothing wrongly
        return 0.0
    beyond: float = cut["rate"] - metric["limit"]
    return 100 * (beyond if metric["at_most"] else -beyond)


def _latency(result: Document) -> float | None:
    found: float | None = result.get("evidence", {}).get("latency", {}).get("increase")
    return found


def _confidence(result: Document) -> float | None:
    # A small p with more broken than fixed is confidence in harm.
    return 1 - result["mcnemar_p"] if result["fixed"] > result["broken"] else 0.0


def _promises(result: Document, state: str) -> int:
    # A patch that a bias would outdo is not what was hoped for, but no harm: that comparison is no gate.
    promises = result["verdict"]["promises"]
    return sum(promise["state"] == state for promise in promises if promise["name"] != "bias")


def _listed(result: Document, role: str, key: str, share: bool) -> float | None:
    """How many listed samples of a role, or which share of them; None without any."""
    found = (result.get("listed") or {}).get(role)
    if found is None:
        return None
    whole = found["samples"] if role == "must" else found["right"]
    count: float = found[key]
    return count if not share else count / whole if whole else 0.0


_MEASURES: dict[str, Callable[[Document, float], float | None]] = {
    "min-target-gain": lambda result, _: _gain(result, "target"),
    "max-overall-drop": lambda result, _: _overall_drop(result),
    "max-class-drop": lambda result, _: _class_drop(result),
    "min-metric-gain": lambda result, _: None if result.get("metric") is None else result["metric"]["gain"],
    "max-limit-excess": lambda result, _: _limit_excess(result),
    "min-slice-gain": lambda result, _: min(_group_changes(result, wanted=True), default=None),
    "max-group-drop": lambda result, _: max((-c for c in _group_changes(result, wanted=False)), default=None),
    "max-E": lambda result, _: result["E"],
    "max-latency-increase": lambda result, _: _latency(result),
    "min-mcnemar": lambda result, _: _confidence(result),
    "refuse-copy": lambda result, _: int(result["answer"] == BASE),
    "max-not-kept": lambda result, _: _promises(result, NOT_KEPT),
    "max-not-shown": lambda result, _: _promises(result, NOT_SHOWN),
    "min-must-fixed": lambda result, limit: _listed(result, "must", "right", limit <= 1),
    "max-keep-changed": lambda result, limit: _listed(result, "keep", "broken", 0 < limit < 1),
    "max-lock-broken": lambda result, limit: _listed(result, "lock", "broken", 0 < limit < 1),
}
