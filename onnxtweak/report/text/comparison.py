"""What does the text say about a comparison of methods?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from onnxtweak.report.promises import headline
from onnxtweak.report.schema import plain
from onnxtweak.report.text.layout import Block, Facts, Heading, Note, TextTable
from onnxtweak.standings import Comparison, MethodStanding
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
    return (
        Heading(f"Accuracy of {shown}{more} on test, in percent, by points lost overall"),
        TextTable(("method", *drops, "over bias at 0"), tuple(readings)),
        Heading("At each method's own operating point, set without the test samples"),
        TextTable((*_COLUMNS, _PROMISES), tuple(delivered)),
        Facts((("samples", samples), ("repeats", str(made.repeats)), *written)),
        *(Note(f"{one.method} does not apply: {one.note}") for one in skipped),
        *map(Note, made.notes),
    )


def verdict(made: Comparison) -> str:
    """One line: which method has the best targets at no overall loss."""
    able = [one for one in made.standings if not np.isnan(one.at[0][0])]
    if not able:
        return "no method keeps the overall accuracy"
    best = max(able, key=lambda one: one.at[0][0])
    return f"best at no overall loss: {best.method}, targets {_percent(best.at[0])} %"


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
