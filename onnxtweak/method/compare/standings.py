"""How did each method do over the repeats? Means, with intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from onnxtweak.goal import ResolvedGoal
from onnxtweak.method.compare.comparison import CURVE, DROPS, MethodOutcome
from onnxtweak.standings import MethodStanding, MetricStanding
from onnxtweak.types import LabelMetrics, MetricReading, Metrics
from onnxtweak.verdict import Verdict


@dataclass(frozen=True)
class MethodRun:
    """A method on one split. seconds : of learning. note : for the reader. metric : None without one."""

    outcome: MethodOutcome
    verdict: Verdict
    parameters: int
    seconds: float
    note: str
    metric: MetricReading | None = None


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


def interval_note(chosen_test: bool, repeats: int, unit: str = "samples") -> str:
    """What the intervals of standings are. chosen_test : whether the test samples are always the same.

    unit : what is counted: "samples", "positions", "labels".
    """
    if repeats == 1 and unit == "labels":
        return "F1 has no interval in closed form; --repeats gives one"
    if repeats == 1:
        sure = "" if unit == "samples" else f", too sure because {unit} of one sample are not independent"
        better = "--repeats gives better ones"
        return f"intervals are standard errors of a fraction of the test {unit}{sure}; {better}"
    changed = "fit and validation samples" if chosen_test else "all three splits"
    return f"means of {repeats} splits, with the standard error over them; seeds change {changed}"


def samples_of(metrics: Sequence[Metrics], goal: ResolvedGoal | None = None) -> list[int] | None:
    """How many samples each overall accuracy, or that of a goal's targets, is of; None: it is an F1."""
    if any(isinstance(one, LabelMetrics) for one in metrics):
        return None
    if goal is None:
        return [one.samples for one in metrics]
    return [int(one.support[goal.targets].sum()) for one in metrics]


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
        own, everyone = (samples_of([o.metrics for o in found], each) for each in (goal, None))
        # Means over those repeats alone that got there could fall where more loss is allowed.
        at = np.array([o.at for o in found])
        at[:, np.isnan(at).any(axis=0)] = np.nan
        places = [CURVE.index(d) for d in DROPS]
        made.append(
            MethodStanding(
                method=name,
                overall=interval([o.metrics.overall for o in found], everyone),
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
                metric=_metric(rows, runs["bias"]),
            )
        )
    return tuple(made)


def _metric(rows: Sequence[MethodRun], bias: Sequence[MethodRun]) -> MetricStanding | None:
    """A method's metric over the repeats. bias : the runs of the best biases."""
    own, others = ([run.metric for run in each if run.metric is not None] for each in (rows, bias))
    if not own:
        return None
    value = interval([one.value for one in own])
    ahead = interval([one.value - other.value for one, other in zip(own, others, strict=True)])
    cuts = [one.at_cut for one in own if one.at_cut is not None]
    if not cuts:
        return MetricStanding(value, ahead)
    recall, rate = (interval([getattr(cut, key) for cut in cuts]) for key in ("recall", "rate"))
    return MetricStanding(value, ahead, recall, rate, sum(cut.kept for cut in cuts) / len(cuts))


def _absent(name: str, reason: str) -> MethodStanding:
    nan = float("nan")
    unknown, nowhere = (nan, nan), ((nan, nan),) * len(DROPS)
    return MethodStanding(
        name, unknown, unknown, nowhere, nowhere, (), nan, nan, nan, unknown, nan, nan, reason
    )
