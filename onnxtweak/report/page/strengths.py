"""What if the patch were stronger, or weaker? A chart of all points that were counted, and two sliders.

The counts of each class at each point are in the page; `page.js` reads them and moves along. Without script
the chart and the tables remain.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from onnxtweak.report.markup import card, percent, safe, section, shortened, table
from onnxtweak.report.page.charts import Curve, xy

_HEAD = ("overall", "targets", "pays most", "classes that lose")


class _PointReading(NamedTuple):
    """Accuracies of one point: overall and of the targets, as fractions; the class that pays most, and how
    much, in points; how many classes lose."""

    overall: float
    target: float | None
    payer: int | None
    paid: float
    losing: int


class _StrengthCounts:
    """Right samples of each class at each point, and what follows from them."""

    def __init__(self, made: Mapping[str, Any], evidence: Mapping[str, Any]) -> None:
        found = evidence["strengths"]
        self.strengths = [float(strength) for strength in found["strengths"]]
        self.biases = [float(bias) for bias in found["biases"]]
        self.right = [[list(map(int, text.split())) for text in row] for row in found["right"]]
        self.support = [int(count) for count in evidence["support"]]
        self.names = [str(name) for name in made["classes"]]
        number = {name: c for c, name in enumerate(self.names)}
        self.targets = sorted(number[target] for target in made["targets"])
        if len(self.targets) == len(self.names):
            self.targets = []
        self.no_strength, self.own = self.strengths.index(0.0), self.strengths.index(1.0)
        self.no_bias = self.biases.index(0.0)
        self.base = self.right[self.no_strength][self.no_bias]

    def reading(self, right: Sequence[float]) -> _PointReading:
        """right (C,) : samples of each class that are right."""
        change = {c: (right[c] - self.base[c]) / count * 100 for c, count in enumerate(self.support) if count}
        payer = min(change, key=lambda c: (change[c], c), default=None)
        paid = change[payer] if payer is not None else 0.0
        own = sum(self.support[c] for c in self.targets)
        return _PointReading(
            sum(right) / max(sum(self.support), 1),
            sum(right[c] for c in self.targets) / own if own else None,
            payer if paid < 0 else None,
            min(paid, 0.0),
            sum(points < 0 for points in change.values()),
        )

    def at(self, right: Sequence[float]) -> tuple[float, float]:
        """A point of the chart."""
        found = self.reading(right)
        across = (found.overall - sum(self.base) / max(sum(self.support), 1)) * 100
        return across, found.paid if found.target is None else found.target * 100

    def cells(self, name: str, right: Sequence[float]) -> list[str]:
        """A row of a table."""
        found = self.reading(right)
        payer = "none"
        if found.payer is not None:
            payer = f"<bdi>{safe(shortened(self.names[found.payer], 24))}</bdi> ({found.paid:+.1f})"
        return [name, percent(found.overall), percent(found.target), payer, str(found.losing)]


def strengths(made: Mapping[str, Any], evidence: Mapping[str, Any]) -> str:
    """A section; nothing where the points were not counted."""
    if not evidence.get("strengths") or "support" not in evidence:
        return ""
    counts = _StrengthCounts(made, evidence)
    delivered = counts.right[counts.own][counts.no_bias]
    control = made["bias_control"]["per_class"]
    biased = [(share or 0.0) * count for share, count in zip(control, counts.support, strict=True)]
    rows = [
        counts.cells('<b>here</b><br><small class="where"></small>', delivered),
        counts.cells("delivered", delivered),
        counts.cells("base", counts.base),
        counts.cells("best bias alone", biased),
    ]
    marks = [' class="here" hidden', "", "", ""]
    unit = safe(made.get("verdict", {}).get("unit", "samples"))
    return section(
        "What if it were stronger, or weaker?",
        _controls(counts),
        '<div class="cards">'
        + card("", _chart(counts, delivered, biased), "Up and to the right is better.")
        + f"<div>{table(['', *_HEAD], rows, numbers=4, kind='points', marks=marks)}</div></div>",
        _all_points(counts),
        "<p>Strength 0 is the base, 1 what was delivered; <code>onnxtweak apply MODEL TWEAK --scale S</code> "
        "writes any other. A target bias is added to the logit of each target.</p>",
        said=f"Counted on the {made['split']} {unit}, exact at each point. Whoever chooses another point by "
        "these figures needs other samples to measure it.",
    )


def _chart(counts: _StrengthCounts, delivered: Sequence[float], biased: Sequence[float]) -> str:
    along = [counts.at(row[counts.no_bias]) for row in counts.right]
    lines = [Curve("", [counts.at(right) for row in counts.right for right in row], "every", joined=False)]
    lines.append(Curve("strength", along, "after"))
    if len(counts.biases) > 1:
        lines.append(Curve("target bias", [counts.at(r) for r in counts.right[counts.own]], "line-1"))
    for name, right, kind in (
        ("base", counts.base, "before"),
        ("best bias alone", biased, "bias"),
        ("delivered", delivered, "point"),
    ):
        lines.append(Curve(name, [counts.at(right)], kind, joined=False))
    upward = "target accuracy, %" if counts.targets else "the class that pays most, points"
    return xy(lines, "overall accuracy, points vs. base", upward, "what each point gains and costs")


def _controls(counts: _StrengthCounts) -> str:
    """The sliders, which the script shows, with all counts; numbers alone."""
    right = "|".join(" ".join(map(str, point)) for row in counts.right for point in row)
    data = {
        "strengths": " ".join(f"{strength:g}" for strength in counts.strengths),
        "biases": " ".join(f"{bias:g}" for bias in counts.biases),
        "support": " ".join(map(str, counts.support)),
        "targets": " ".join(map(str, counts.targets)),
        "right": right,
    }
    attributes = "".join(f' data-{key}="{value}"' for key, value in data.items())
    sliders = _slider("strength", len(counts.strengths), counts.own)
    if len(counts.biases) > 1:
        sliders += _slider("target bias", len(counts.biases), counts.no_bias)
    reset = '<button type="button">back to what was delivered</button>'
    return f'<div class="controls" id="strengths" hidden{attributes}>{sliders}{reset}</div>'


def _slider(name: str, steps: int, start: int) -> str:
    given = f'min="0" max="{steps - 1}" step="1" value="{start}"'
    return f'<label>{name} <output></output><input type="range" {given} aria-label="{name}"></label>'


def _all_points(counts: _StrengthCounts) -> str:
    rows = [
        [f"{strength:g}", *counts.cells(f"{bias:+g}", counts.right[s][b])]
        for s, strength in enumerate(counts.strengths)
        for b, bias in enumerate(counts.biases)
    ]
    return (
        f"<details><summary>all {len(rows)} points as a table</summary>"
        f"{table(['strength', 'target bias', *_HEAD], rows, numbers=5, kind='points')}</details>"
    )
