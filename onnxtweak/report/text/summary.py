"""Which tables and facts summarize each result, and in which order?

One function per kind of result; it returns blocks for `onnxtweak.report.text.layout`.
Accuracies are shown in percent, changes and E in percentage points.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from onnxtweak.quantities import number_of
from onnxtweak.report.markup import shortened
from onnxtweak.report.promises import headline
from onnxtweak.report.schema import plain
from onnxtweak.report.text.by_group import group_blocks
from onnxtweak.report.text.layout import Block, Facts, Heading, Note, TextTable
from onnxtweak.report.text.matched import counted, matched_blocks
from onnxtweak.report.text.metric import change_blocks, change_line, reading_blocks
from onnxtweak.report.text.verdict import verdict_blocks
from onnxtweak.results import Applied, Choice, Dumped, Evaluation, ReportPage, Result, Scored
from onnxtweak.types import BoxMetrics, Check, FileRef, LabelMetrics, Metrics
from onnxtweak.verdict import COPY, LISTED

_ROWS = 30  # classes that get a row of their own; if there are more, the most telling ones do
_MATRIX = 10  # classes up to which the confusion matrix is shown whole
_PAIRS = 10  # confusions listed beyond that
_OF_LABELS = ("average precision", "precision", "recall", "F1")
_RANKED = ("AP base", "AP")


def result(made: Result) -> tuple[Block, ...]:
    """The verdict; before and after for each class, the bias control beside it; where the new file is."""
    choice, measured = made.choice, made.measured
    facts = [
        ("chosen", "; ".join(_operating_points(made)) or "what listed samples need"),
        (
            "fixed, broken",
            f"{measured.fixed:,} and {measured.broken:,} {made.verdict.unit} "
            f"(exact McNemar p = {measured.mcnemar_p:.2g})",
        ),
        ("E", f"{measured.E:.2f} points lost, root mean square over the classes"),
        (
            "neurons",
            f"{choice.neurons:,} scored ({_scoring(choice)})",
        ),
        ("samples", _counts(made.samples)),
        *_machine(made.run.device),
        ("time", _times(made.run.seconds)),
        *_checks(made.checks),
    ]
    if made.output is not None:
        copied = ", a copy of the base" if measured.verdict.state == COPY else ""
        facts.append(("written", _file(made.output) + copied))
    split = f"{measured.split} {'samples' if measured.split == LISTED else 'split'}"
    return (
        *verdict_blocks(plain(measured.verdict)),
        *change_blocks(made.metric),
        Heading(f"{counted(made)} on the {split}, in percent"),
        _comparison(made),
        *matched_blocks(made.matched),
        Facts(tuple(facts)),
        *map(Note, made.notes),
    )


def evaluation(measured: Evaluation) -> tuple[Block, ...]:
    """Overall and per-class accuracy, and which classes are mistaken for which."""
    metrics = measured.metrics
    names, chosen = measured.classes, set(measured.targets)
    support = metrics.support
    order = _most_telling(names, chosen, np.nan_to_num(metrics.per_class, nan=2.0))
    rows = [
        (names[c], f"{support[c]:,}", *_percents(*_more(metrics, c), metrics.per_class[c])) for c in order
    ]
    marked = {row for row, c in enumerate(order) if names[c] in chosen}
    what, columns = _measures(metrics)
    blank = ("",) * (len(columns) - 1)
    if chosen:
        own = sum(support[c] for c in range(len(names)) if names[c] in chosen)
        rows.append(("targets", f"{own:,}", *blank, _percent(metrics.target)))
    rows.append(("overall", f"{support.sum():,}", *blank, _percent(metrics.overall)))
    return (
        Heading(f"{what} of {measured.model.path}, in percent"),
        TextTable(("class", measured.unit, *columns), tuple(rows), marked=frozenset(marked)),
        *_left_out(names, order),
        *reading_blocks(measured.readings),
        *group_blocks(measured.groups, measured.unit),
        *(() if blank else _confusion(metrics.confusion, names, measured.unit)),
        Facts((*_machine(measured.device), ("time", _times(measured.seconds)))),
        *map(Note, measured.notes),
    )


def applied(made: Applied) -> tuple[Block, ...]:
    """Which tweak was written into which file, and its checks."""
    return (
        Heading(f"Tweak written into a copy of {made.model.path}"),
        Facts(
            (
                ("tweak", _pairs(made.tweak)),
                ("time", _times(made.seconds)),
                *_checks(made.checks),
                ("written", _file(made.output)),
                *(("adapter", _file(adapter)) for adapter in made.adapters if adapter != made.output),
            )
        ),
        *map(Note, made.notes),
    )


def pictured(made: ReportPage) -> tuple[Block, ...]:
    """Where the page was written."""
    return (
        Heading(f"Report of {', '.join(result.path for result in made.results)}"),
        Facts((("made by", made.made_by), ("written", _file(made.output)))),
    )


def dumped(made: Dumped) -> tuple[Block, ...]:
    """What was written to disk."""
    return (
        Heading(f"Tables in {made.directory}"),
        Facts(
            (
                ("samples", f"{made.samples:,}"),
                ("neurons", f"{made.neurons:,}"),
                ("size", f"{made.bytes / 1e6:,.1f} MB, {number_of(made.shards, 'shard')}"),
                ("time", _times(made.seconds)),
            )
        ),
        *map(Note, made.notes),
    )


def scored(made: Scored) -> tuple[Block, ...]:
    """The neurons at the top of each target's ranking."""
    rows = tuple(
        (
            str(row["target"]),
            str(row["tap"]),
            str(row["index"]),
            f"{row['count']:,}",
            f"{row['weight']:.4g}",
            f"{row['lift']:.4g}",
        )
        for row in made.top
    )
    facts = [("neurons", f"{made.neurons:,} scored for {', '.join(made.targets)}")]
    if made.dropped:
        facts.append(("left out", f"{number_of(made.dropped, 'neuron')} with NaN or infinite values"))
    facts += [*_machine(made.run.device), ("time", _times(made.run.seconds))]
    if made.output is not None:
        facts.append(("written", _file(made.output)))
    return (
        Heading("Highest ranked neurons"),
        TextTable(("target", "tensor", "index", "count", "weight", "lift"), rows, left=2),
        Facts(tuple(facts)),
        *map(Note, made.notes),
    )


def verdict(made: Result) -> str:
    """One line: the verdict, how target and overall accuracy changed, and whether the checks passed."""
    passed = sum(check.passed for check in made.checks)
    what = "agreement" if made.matched is not None else "overall"
    said = f"{what} {_percent(made.before.overall)} -> {_percent(made.after.overall)} %{_payer(made)}, "
    if made.targets and made.matched is None:
        targets = f"{_percent(made.before.target)} -> {_percent(made.after.target)} %"
        said = f"targets {targets} (bias alone {_percent(made.bias_control.target)} %), {said}"
    if made.metric is not None:
        said = f"{change_line(made.metric)}, {said}"
    checks = f"{passed} of {len(made.checks)} checks passed"
    return f"{headline(plain(made.verdict))}; {made.measured.split}: {said}{checks}"


def _comparison(made: Result) -> TextTable:
    names, chosen = made.classes, set(made.targets)
    before, after, bias = made.before, made.after, made.bias_control
    support = before.support
    change = np.abs(after.per_class - before.per_class)
    order = _most_telling(names, chosen, np.where(np.isnan(change), np.inf, -change))
    rows = [
        (
            names[c],
            f"{support[c]:,}",
            *_row(before.per_class[c], after.per_class[c], bias.per_class[c]),
            *_ranked(before, after, c),
        )
        for c in order
    ]
    marked = {row for row, c in enumerate(order) if names[c] in chosen}
    if len(order) < len(names):
        rows.append((f"({len(names) - len(order):,} more)", *("",) * (len(rows[0]) - 1)))
    targets = sum(support[c] for c in range(len(names)) if names[c] in chosen)
    if chosen:
        own = _row(before.target, after.target, bias.target)
        rows.append(("targets", f"{targets:,}", *own, *("",) * (len(rows[0]) - 6)))
    whole = _row(before.overall, after.overall, bias.overall)
    rows.append(("overall", f"{support.sum():,}", *whole, *_ranked(before, after)))
    new = "copy" if made.verdict.state == COPY else "tweaked"
    return TextTable(
        ("class", made.verdict.unit, "base", new, "change", "bias only", *_RANKED[: len(rows[0]) - 6]),
        tuple(rows),
        marked=frozenset(marked),
    )


def _measures(metrics: Metrics) -> tuple[str, tuple[str, ...]]:
    """What figures are called, and what is read of each class."""
    if isinstance(metrics, BoxMetrics):
        return "Average precision (AP)", ("AP50-95", "AP50")
    return ("F1", _OF_LABELS) if isinstance(metrics, LabelMetrics) else ("Accuracy", ("accuracy",))


def _more(metrics: Metrics, c: int) -> tuple[float, ...]:
    """What is read of a class beside its main measure."""
    if isinstance(metrics, BoxMetrics):
        return (metrics.strict[c],)
    if not isinstance(metrics, LabelMetrics):
        return ()
    return metrics.average_precision[c], metrics.precision[c], metrics.recall[c]


def _ranked(before: Metrics, after: Metrics, c: int | None = None) -> tuple[str, ...]:
    """Average precisions of one of several labels, None for their mean, before and after."""
    if not isinstance(before, LabelMetrics) or not isinstance(after, LabelMetrics):
        return ()
    if c is None:
        return _percents(before.mean_average_precision, after.mean_average_precision)
    return _percents(before.average_precision[c], after.average_precision[c])


def _row(before: float, after: float, bias: float) -> tuple[str, str, str, str]:
    change = (after - before) * 100
    return _percent(before), _percent(after), "-" if np.isnan(change) else f"{change:+.1f}", _percent(bias)


def _most_telling(names: Sequence[str], chosen: set[str], rank: np.ndarray) -> list[int]:
    """Class numbers in their own order: all, or the targets and those of lowest `rank` (C,)."""
    if len(names) <= _ROWS:
        return list(range(len(names)))
    ranked = np.argsort(rank, kind="stable")
    telling = [c for c in range(len(names)) if names[c] in chosen][:_ROWS]
    telling += [int(c) for c in ranked if names[c] not in chosen][: _ROWS - len(telling)]
    return sorted(telling)


def _left_out(names: Sequence[str], order: list[int]) -> Iterable[Note]:
    if len(order) < len(names):
        yield Note(f"better: {number_of(len(names) - len(order), 'other class')}; -f json lists them all")


def _confusion(confusion: np.ndarray, names: Sequence[str], unit: str) -> tuple[Block, ...]:
    """confusion (C, C): rows are labels, columns predictions. unit : what is counted."""
    if len(names) <= _MATRIX:
        columns = ("label \\ predicted", *(name[:5] for name in names))
        rows = tuple((names[c], *(f"{count:,}" for count in confusion[c])) for c in range(len(names)))
        return Heading(f"Confusion, in {unit}"), TextTable(columns, rows)
    wrong = confusion.copy()
    np.fill_diagonal(wrong, 0)
    largest = np.argsort(-wrong, axis=None, kind="stable")[:_PAIRS]
    pairs = [divmod(int(cell), len(names)) for cell in largest if wrong.flat[cell]]
    rows = tuple((names[label], names[taken], f"{wrong[label, taken]:,}") for label, taken in pairs)
    return Heading("Most frequent confusions"), TextTable(("label", "predicted", unit), rows, left=2)


def _operating_points(made: Result) -> Iterable[str]:
    """Targets that ended at the same point share a sentence."""
    points: dict[tuple[int, float], list[str]] = {}
    for target, n, scale in zip(made.targets, made.choice.n, made.choice.scale, strict=True):
        points.setdefault((n, scale) if scale else (0, 0.0), []).append(target)
    for (n, scale), names in points.items():
        who = "all classes" if 1 < len(names) == len(made.classes) else ", ".join(names)
        if not n and scale:
            yield f"{who}: a bias of {scale:.3g}, no neurons"
        elif not n:
            yield f"{who}: no change, nothing tried did better"
        elif made.tweak["synapses"] is None:
            yield f"{who}: {number_of(n, 'neuron')}, {number_of(made.tweak['parameters'], 'parameter')}"
        else:
            yield f"{who}: {number_of(n, 'synapse')}, scale {scale:g}"


def _scoring(choice: Choice) -> str:
    """How neurons were ranked; theta is explained where it was used."""
    if choice.theta == "none":
        return f"ranked by {choice.criterion}"
    return (
        f"ranked by {choice.criterion}; {choice.theta} theta: the weight up to which a neuron may be "
        "connected before a right sample breaks"
    )


def _payer(made: Result) -> str:
    """The class that loses most, if one does."""
    worst = made.verdict.worst
    if worst is None or round(worst.change, 1) >= 0:
        return ""
    return f", class {shortened(worst.name, 40)} pays {-worst.change:.1f} points"


def _machine(device: dict[str, Any]) -> tuple[tuple[str, str], ...]:
    return (("machine", _pairs(device)),) if device else ()


def _pairs(facts: dict[str, Any]) -> str:
    """Short values only: lists, such as the synapses of a tweak, are left to the JSON form."""
    shown = {
        key: value for key, value in facts.items() if isinstance(value, str | int | float) and value != ""
    }
    return ", ".join(f"{key} {value}" for key, value in shown.items())


def _counts(samples: dict[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in samples.items())


def _times(seconds: dict[str, float]) -> str:
    """Stages that took no time worth a mention are left to the JSON form."""
    total = seconds.get("all", 0.0)
    shown = {stage: spent for stage, spent in seconds.items() if spent >= 0.05 or spent == total}
    return ", ".join(f"{stage} {spent:.1f} s" for stage, spent in shown.items())


def _checks(checks: Sequence[Check]) -> Iterable[tuple[str, str]]:
    for check in checks:
        yield f"check {check.name}", f"{'passed' if check.passed else 'FAILED'}: {check.detail}"


def _file(written: FileRef) -> str:
    return f"{written.path} (sha256 {written.sha256[:12]}…)"


def _percents(*shares: float) -> tuple[str, ...]:
    return tuple(map(_percent, shares))


def _percent(share: float) -> str:
    return "-" if np.isnan(share) else f"{share * 100:.1f}"
