"""What does the text say about a comparison of methods?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from onnxtweak.report.promises import headline
from onnxtweak.report.schema import plain
from onnxtweak.report.text.layout import HARM, Block, Facts, Heading, Note, TextTable
from onnxtweak.standings import Comparison, MethodStanding
from onnxtweak.types import MetricReading
from onnxtweak.verdict import COPY, KEPT, NOT_KEPT, NOT_SHOWN, Verdict

_SHOWN = 12  # names of targets in a heading
_COLUMNS = ("method", "overall", "targets", "fixed", "broken", "McNemar p", "E", "parameters", "seconds")
_PROMISES = "kept/not shown/not kept"  # promises on test, over all repeats


def comparison(made: Comparison) -> tuple[Block, ...]:
    """Each method's targets at equal overall accuracy, then what it delivers at its own operating point."""
    drops = [f"<= {drop:g}" for drop in made.drops]
    readings = [("base", _percent(made.before["target"]), *([""] * len(drops)))]
    readings += [
        (one.method, *map(_percent, one.at), _points(one.over_bias[0]))
        for one in made.standings
        if not np.isnan(one.overall[0])
    ]
    empty = ("",) * (len(_COLUMNS) - 2)
    base = ("base", _percent(made.before["overall"]), _percent(made.before["target"]), *empty)
    delivered = [base, *(_delivered(one) for one in made.standings if not np.isnan(one.overall[0]))]
    skipped = [one for one in made.standings if np.isnan(one.overall[0])]
    samples = ", ".join(f"{name} {count:,}" for name, count in made.samples.items())
    shown = ", ".join(made.targets[:_SHOWN])
    more = f" and {len(made.targets) - _SHOWN:,} more" if len(made.targets) > _SHOWN else ""
    written: tuple[tuple[str, str], ...] = ()
    if made.output is not None and made.verdict is not None:
        written = (("written", made.output.path), ("its verdict", headline(plain(made.verdict))))
    by_metric = _by_metric(made)
    by_drop = (
        Heading(f"Accuracy of {shown}{more} on test, in percent, by points lost overall"),
        TextTable(("method", *drops, "over bias at 0"), tuple(readings)),
    )
    return (
        *(by_metric or by_drop),
        Heading("At each method's own operating point, set without the test samples"),
        TextTable((*_COLUMNS, _PROMISES), tuple(delivered)),
        Facts((("samples", samples), ("repeats", str(made.repeats)), *written)),
        Note(HARM),
        *(Note(f"{one.method} does not apply: {one.note}") for one in skipped),
        *map(Note, made.notes),
    )


def _by_metric(made: Comparison) -> tuple[Block, ...]:
    """Each method's metric on test, at its own operating point; nothing where the goal is none."""
    base = made.metric
    if base is None:
        return ()
    cut, unknown = base.at_cut, float("nan")
    rows: list[tuple[str, ...]] = [("base", _percent((base.value, unknown)), "")]
    rows[0] += () if cut is None else (_percent((cut.recall, unknown)), _percent((cut.rate, unknown)), "")
    for one in made.standings:
        if one.metric is not None:
            row: tuple[str, ...] = one.method, _percent(one.metric.value), _points(one.metric.over_bias)
            for share in (one.metric.recall, one.metric.rate):
                row += () if share is None else (_percent(share),)
            row += () if one.metric.kept is None else (f"{one.metric.kept:.0%}",)
            rows.append(row)
    limited = () if cut is None else ("recall at own cut", "its rate", "kept in")
    head = ("method", base.name, "over bias", *limited)
    return Heading(f"{base.title} on test, per 100 samples"), TextTable(head, tuple(rows))


def verdict(made: Comparison) -> str:
    """One line: which method has the best targets at no overall loss."""
    if (base := made.metric) is not None:
        ahead = [one for one in made.standings if one.metric is not None]
        first = max(ahead, key=lambda one: _rank(one, base))
        assert first.metric is not None
        return f"best {base.name}: {first.method}, {_percent(first.metric.value)} per 100 samples"
    able = [one for one in made.standings if not np.isnan(one.at[0][0])]
    if not able:
        return "no method keeps the overall accuracy"
    best = max(able, key=lambda one: one.at[0][0])
    return f"best at no overall loss: {best.method}, targets {_percent(best.at[0])} %"


def _rank(one: MethodStanding, base: MetricReading) -> tuple[float, float]:
    """How good a method's metric is: with a limit, whether it is kept, then the recall at its own cut."""
    found = one.metric
    assert found is not None
    if found.recall is None or found.kept is None:
        return 0.0, base.sign * found.value[0]
    return float(found.kept >= 0.5), found.recall[0]


def _delivered(one: MethodStanding) -> tuple[str, ...]:
    return (
        one.method,
        _percent(one.overall),
        _percent(one.target),
        f"{one.fixed:,.0f}",
        f"{one.broken:,.0f}",
        f"{one.mcnemar_p:.2g}",
        f"{one.E[0]:.2f}",
        f"{one.parameters:,.0f}",
        f"{one.seconds:.1f}",
        _promises(one.verdicts),
    )


def _promises(verdicts: Sequence[Verdict]) -> str:
    """How many were kept, not shown and not kept, as `3/1/0`; `copy` where nothing was changed."""
    states = [promise.state for verdict in verdicts for promise in verdict.promises]
    if not states:
        return COPY if verdicts else ""
    return "/".join(str(states.count(state)) for state in (KEPT, NOT_SHOWN, NOT_KEPT))


def _percent(share: tuple[float, float]) -> str:
    mean, error = share
    if np.isnan(mean):
        return "-"
    return f"{mean * 100:.1f}" if np.isnan(error) else f"{mean * 100:.1f} ± {error * 100:.1f}"


def _points(gain: tuple[float, float]) -> str:
    mean, error = gain
    if np.isnan(mean):
        return "-"
    return f"{mean * 100:+.1f}" if np.isnan(error) else f"{mean * 100:+.1f} ± {error * 100:.1f}"
