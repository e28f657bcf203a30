"""How did the methods of a comparison do? Their standings; nothing is computed here."""

from __future__ import annotations

from dataclasses import dataclass, field

from onnxtweak.results import RunFacts
from onnxtweak.types import Check, FileRef, MetricReading
from onnxtweak.verdict import Verdict


@dataclass(frozen=True)
class MetricStanding:
    """A method's metric on test, as pairs (mean, standard error) over the repeats.

    over_bias : less that of the best biases. recall, rate : at its own cut, where the metric has a limit.
    kept : in what share of the repeats the rate kept it.
    """

    value: tuple[float, float]
    over_bias: tuple[float, float]
    recall: tuple[float, float] | None = None
    rate: tuple[float, float] | None = None
    kept: float | None = None


@dataclass(frozen=True)
class MethodStanding:
    """How one method did, as means over the repeats. Pairs of floats are (mean, standard error).

    overall, target : accuracies on test at its own operating point. at : target accuracy at each of
    `Comparison.drops`, read on test; NaN where a repeat does not get there. over_bias : the same minus the
    bias control's, paired. curve : (drop, target) over a wider range. mcnemar_p : the median. seconds : of
    learning, without the passes over data. note : of the last repeat, or why the method does not apply; the
    numbers are then NaN. verdicts : which promises it kept on test, one per repeat. metric : of the goal.
    """

    method: str
    overall: tuple[float, float]
    target: tuple[float, float]
    at: tuple[tuple[float, float], ...]
    over_bias: tuple[tuple[float, float], ...]
    curve: tuple[tuple[float, float], ...]
    fixed: float
    broken: float
    mcnemar_p: float
    E: tuple[float, float]
    parameters: float
    seconds: float
    note: str = ""
    verdicts: tuple[Verdict, ...] = ()
    metric: MetricStanding | None = None


@dataclass(frozen=True)
class Comparison:
    """All methods on the same splits. before : "overall" and "target" accuracy of the base on test.

    standings : in the order of the methods. drops : percentage points of overall accuracy. samples : sizes of
    fit, validation and test in the last repeat. output, checks, verdict : of what was written, if anything.
    metric : that of the base, where the goal is one.
    """

    model: FileRef
    targets: tuple[str, ...]
    repeats: int
    samples: dict[str, int]
    before: dict[str, tuple[float, float]]
    drops: tuple[float, ...]
    standings: tuple[MethodStanding, ...] = field(repr=False)
    run: RunFacts
    output: FileRef | None = None
    checks: tuple[Check, ...] = ()
    notes: tuple[str, ...] = ()
    verdict: Verdict | None = None
    metric: MetricReading | None = None
