"""Which metric do a user's words mean? `balanced`, `cost:FILE`, `recall@fpr=0.01`, for one model."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from onnxtweak.errors import ModelError, UsageError
from onnxtweak.metric.costs import read_costs
from onnxtweak.metric.kinds import F1, Balanced, Cost, Iou, Metric, Overall, Worst
from onnxtweak.metric.rate import PRECISION, FalseAlarms, RecallAt
from onnxtweak.metric.several import MacroF1, MeanAveragePrecision
from onnxtweak.quantities import number
from onnxtweak.settings import METRICS

OPTION = "--metric"
_WORDS = ("overall", "balanced", "worst", "f1", "iou", "map", "cost:", "recall@fpr=", "recall@precision=")


def require_metric(text: str) -> None:
    """Raise UsageError for words that mean no metric, whatever the model."""
    word, _, rest = _parts(text)
    if word == "cost" and not rest:
        raise UsageError("no file of costs is named", where=OPTION, hint="write it like cost:costs.csv")
    if word.startswith("recall@"):
        _limit(text, rest)


def metric_of(text: str, names: Sequence[str], *, several: bool = False) -> Metric:
    """The metric that the words mean for a model with classes `names`.

    several : whether a sample may have several labels at once.
    Raises UsageError for unknown words, for a limit that is no share between 0 and 1 and for costs that do
    not fit the classes, ModelError where a model with so many classes does not have the metric.
    """
    require_metric(text)
    word, _, rest = _parts(text)
    binary = len(names) == 2
    if several:
        return _of_several(text)
    match word:
        case "overall":
            return Overall(word, "accuracy")
        case "balanced":
            return Balanced(word, "balanced accuracy")
        case "worst":
            return Worst(word, "accuracy of the worst class")
        case "f1":
            return F1(word, f"F1 of class {names[1]}" if binary else "macro F1", 1 if binary else None)
        case "iou":
            return Iou(word, "mean IoU")
        case "cost":
            return Cost(f"cost:{rest}", "mean cost", read_costs(rest, names))
    if word == "map":
        hint = "ask for f1, balanced, worst, overall or cost:FILE"
        what = "mean average precision is of several labels at once; here a sample has one"
        raise ModelError(what, where=OPTION, hint=hint)
    if not binary:
        raise ModelError(
            f"{text!r} is about two classes, to find the second; this model has {len(names):,}",
            where=OPTION,
            hint="ask for f1, iou, balanced, worst or cost:FILE",
        )
    share = _limit(text, rest)
    kind: FalseAlarms = "precision" if word == PRECISION else "fpr"
    return RecallAt(f"{word}={share:g}", f"recall of class {names[1]}", kind, share)


def _of_several(text: str) -> Metric:
    """The metric of several labels at once. Raises UsageError for others."""
    known = {"f1": MacroF1("f1", "macro F1"), "map": MeanAveragePrecision("map", "mean average precision")}
    if text not in known:
        what = f"{text!r} is about one label a sample; here are several at once"
        raise UsageError(what, where=OPTION, hint="ask for f1 or map")
    return known[text]


def _parts(text: str) -> tuple[str, str, str]:
    """The word, the sign after it, and the rest."""
    sign = ":" if text.startswith("cost") else "="
    word, found, rest = text.partition(sign)
    known = {each.rstrip(":=") for each in _WORDS}
    takes_more = word in ("cost", "recall@fpr", PRECISION)
    if word not in known or bool(found) != takes_more:
        near = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
        form = next((each for each in METRICS.split("|") if near and each.startswith(near[0])), "")
        raise UsageError(
            f"unknown metric {text!r}",
            where=OPTION,
            hint=f"did you mean {form}?" if form else f"known: {METRICS.replace('|', ', ')}",
        )
    return word, found, rest


def _limit(text: str, rest: str) -> float:
    """The share that a limit is, between 0 and 1."""
    try:
        share = number(rest[:-1]) / 100 if rest.endswith("%") else number(rest)
    except ValueError as error:
        raise UsageError(f"{text!r}: {error}", where=OPTION, hint="write it like recall@fpr=0.01") from None
    if not 0 < share < 1:
        hint = "a limit is a share, such as 0.01 or 1%"
        raise UsageError(f"{text!r}: {rest} is not between 0 and 1", where=OPTION, hint=hint)
    return share
