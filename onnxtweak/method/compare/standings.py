"""How did each method do over the repeats? Means, with intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from onnxtweak.goal import ResolvedGoal
from onnxtweak.method.compare.comparison import CURVE, DROPS, MethodOutcome
from onnxtweak.standings import MethodStanding
from onnxtweak.types import Metrics
from onnxtweak.verdict import Verdict


@dataclass(frozen=True)
class MethodRun:
    """A method on one split. seconds : of learning. note : for the reader."""

    outcome: MethodOutcome
    verdict: Verdict
    parameters: int
    seconds: float
    note: str


def interval(
    values: Sequence[float] | np.ndarray, samples: Sequence[int] | None = None
) -> tuple[float, float]:
    """Mean and its standard error over repeats; of a single share, from the samples (n,) it is of."""
    known = np.array([v for v in values if not np.isnan(v)])
    if not len(known):
        return float("nan"), float("nan")
    if len(known) > 1:
        return float(known.mean()), float(known.std(ddof=1) / np.sqrt(len(known)))
    share = float(known[0])
    if samples is None or not samples[0]:
        return share, float("nan")
    return share, float(np.sqrt(max(share * (1 - share), 0.0) / samples[0]))


def support(metrics: Metrics, goal: ResolvedGoal) -> int:
    return int(metrics.confusion[goal.targets].sum())


def standings(
    runs: Mapping[str, Sequence[MethodRun]], refused: Mapping[str, str], goal: ResolvedGoal
) -> tuple[MethodStanding, ...]:
    """Each method's runs, one per repeat, as means. runs : by method. refused : why others do not apply."""
    bias = [run.outcome.at for run in runs["bias"]]
    made = []
    for name, rows in runs.items():
        if not rows:
            made.append(_absent(name, refused.get(name, "")))
            continue
        found = [run.outcome for run in rows]
        own = [support(o.metrics, goal) for o in found]
        # Means over those repeats alone that got there could fall where more loss is allowed.
        at = np.array([o.at for o in found])
        at[:, np.isnan(at).any(axis=0)] = np.nan
        places = [CURVE.index(d) for d in DROPS]
        made.append(
            MethodStanding(
                method=name,
                overall=interval([o.metrics.overall for o in found], [o.metrics.samples for o in found]),
                target=interval([o.metrics.target for o in found], own),
                at=tuple(interval(at[:, p], own) for p in places),
                over_bias=tuple(interval(at[:, p] - np.array(bias)[:, p]) for p in places),
                curve=tuple((d, interval(at[:, p])[0]) for p, d in enumerate(CURVE)),
                fixed=float(np.mean([o.fixed for o in found])),
                broken=float(np.mean([o.broken for o in found])),
                mcnemar_p=float(np.median([o.mcnemar_p for o in found])),
                E=interval([o.E for o in found]),
                parameters=float(np.mean([run.parameters for run in rows])),
                seconds=float(np.mean([run.seconds for run in rows])),
                note=rows[-1].note,
                verdicts=tuple(run.verdict for run in rows),
            )
        )
    return tuple(made)


def _absent(name: str, reason: str) -> MethodStanding:
    nan = float("nan")
    unknown, nowhere = (nan, nan), ((nan, nan),) * len(DROPS)
    return MethodStanding(
        name, unknown, unknown, nowhere, nowhere, (), nan, nan, nan, unknown, nan, nan, reason
    )
