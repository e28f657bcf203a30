"""Which pictures explain a result? Confusion, trade-off, tuning, and where the patch reads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from onnxtweak.quantities import number_of
from onnxtweak.report.markup import card, cards, safe, section, shortened, table
from onnxtweak.report.page.charts import Curve, bars, heat, histogram, xy
from onnxtweak.report.page.graph_picture import graph_picture

_MATRIX = 24  # classes of the largest confusion that is drawn
_PAIRS = 12  # changes of single cells that are listed
_TAPS = 16  # layers that get a bar
_CURVES = 6  # values of n that get a curve
_THETAS = 4  # targets that get a histogram
# Commands whose last training includes the validation samples.
_LEARN_ON_VALIDATION = {"fit"}


def confusion(made: Mapping[str, Any], evidence: Mapping[str, Any]) -> str:
    """Which classes are mistaken for which more, or less, often than before."""
    if "confusion" not in evidence:
        return ""
    change: dict[tuple[int, int], int] = {}
    for sign, side in ((-1, "before"), (1, "after")):
        for label, taken, count in evidence["confusion"][side]:
            change[label, taken] = change.get((label, taken), 0) + sign * count
    change = {cell: number for cell, number in change.items() if number}
    names = made["classes"]
    weight: dict[int, int] = {}
    for (label, taken), number in change.items():
        for c in (label, taken):
            weight[c] = weight.get(c, 0) + abs(number)
    whole = len(names) <= _MATRIX
    chosen = range(len(names)) if whole else sorted(sorted(weight, key=lambda c: (-weight[c], c))[:_MATRIX])
    values = [[change.get((r, c)) for c in chosen] for r in chosen]
    labels = [str(names[c]) for c in chosen]
    drawn = heat(
        labels,
        labels,
        values,
        "change of the confusion matrix",
        written="{:+.0f}",
        across="predicted",
        upward="label",
        worse_off_diagonal=True,
    )
    pairs = sorted(
        (cell for cell in change if cell[0] != cell[1]), key=lambda cell: (-abs(change[cell]), cell)
    )
    rows = [
        [safe(shortened(names[a], 40)), safe(shortened(names[b], 40)), _counted(change[a, b])]
        for a, b in pairs[:_PAIRS]
    ]
    listed = (
        table(["label", "predicted", "samples"], rows, 1, "pairs") if rows else "<p>No confusion changed.</p>"
    )
    note = "" if whole else f"The {len(chosen)} classes that changed most."
    return section(
        "Confusion, after minus before",
        cards(card("", drawn, note), card("Largest changes", listed)),
        said="In samples. Green is better: more on the diagonal, fewer off it.",
    )


def _counted(number: int) -> str:
    kind = "loss" if number > 0 else "gain"
    return f'<span class="{kind}-said">{number:+d}</span>'


def trade_off(made: Mapping[str, Any], evidence: Mapping[str, Any]) -> str:
    """What the targets gain for what is lost overall, and how n and scale were chosen."""
    curve = [(-point["drop"], point["target"] * 100) for point in made["curve"]]
    lines = [Curve("tweak", curve, "after")] if curve else []
    if made["command"] in _LEARN_ON_VALIDATION:
        # A patch trained on validation samples looks too good there: only the held-out curve is honest.
        said = "Estimated on samples that were held out in turn (cross-validation)."
    else:
        lines += _on_validation(evidence, curve)
        place = evidence.get("validation")
        said = (
            f"On the {number_of(place['samples'], 'validation sample')}, where settings were chosen."
            if place
            else ""
        )
    drawn = xy(lines, "overall accuracy, points vs. base", "target accuracy, %", "trade-off")
    return section(
        "Trade-off",
        cards(
            card("Targets against overall", drawn if curve else "", "Up and to the right is better."),
            *_tuning(made, evidence),
        ),
        said=said,
    )


def _on_validation(evidence: Mapping[str, Any], curve: list[tuple[float, float]]) -> list[Curve]:
    """The base, biases and the point that was chosen."""
    # Along growing biases, as they were tried: the curve may turn back.
    biases = [(-p["drop"], p["target"] * 100) for p in evidence.get("bias_curve", ()) if _near(p, curve)]
    lines = [Curve("bias only", biases, "bias")] if biases else []
    place = evidence.get("validation", {})
    for key, name, kind in (
        ("base", "base", "before"),
        ("bias", "best bias", "bias"),
        ("chosen", "chosen", "point"),
    ):
        if key in place:
            at = (-place[key]["drop"], place[key]["target"] * 100)
            lines.append(Curve(name, [at], kind, joined=False))
    return lines


def _near(point: Mapping[str, float], curve: list[tuple[float, float]]) -> bool:
    """Biases that ruin everything would squeeze the rest of the picture."""
    worst = min((x for x, _ in curve), default=0.0)
    return -point["drop"] >= min(worst * 1.2, -1.0)


def _tuning(made: Mapping[str, Any], evidence: Mapping[str, Any]) -> tuple[str, ...]:
    trials = evidence.get("trials") or []
    counts = sorted({trial["n"] for trial in trials})
    scales = sorted({trial["scale"] for trial in trials})
    if len(scales) < 2:
        return ()
    at = {(trial["n"], trial["scale"]): trial for trial in trials}
    kept = counts[:: max(1, -(-len(counts) // _CURVES))]
    lines = [
        Curve(f"n = {n}", [(s, -at[n, s]["drop"]) for s in scales if (n, s) in at], f"line-{k % 6}")
        for k, n in enumerate(kept)
    ]
    start = min(trials, key=lambda trial: abs(trial["scale"]))["target"]
    values = [[(at[n, s]["target"] - start) * 100 if (n, s) in at else None for s in scales] for n in counts]
    picked, points = None, set(zip(made["n"], made["scale"], strict=True))
    if len(points) == 1 and made["n"][0] in counts and made["scale"][0] in scales:
        picked = counts.index(made["n"][0]), scales.index(made["scale"][0])
    grid = heat(
        [f"{n}" for n in counts],
        [f"{s:g}" for s in scales],
        values,
        "targets for each n and scale",
        written="{:+.0f}",
        chosen=picked,
        across="scale",
        upward="n",
    )
    return (
        card(
            "Overall accuracy over scale",
            xy(lines, "scale", "points vs. base", "overall accuracy over scale"),
        ),
        card(
            "Targets for each n and scale, points gained",
            grid,
            "The frame marks what was chosen for all targets." if picked else "",
        ),
    )


def neurons(made: Mapping[str, Any], evidence: Mapping[str, Any]) -> str:
    """Which layers the patch reads, how theta is distributed, and the graph around the splice."""
    totals: dict[str, list] = {}
    for layer in evidence.get("layers", ()):
        target = "all" if layer["target"] is None else made["classes"][layer["target"]]
        entry = totals.setdefault(layer["tap"], [0, []])
        entry[0] += layer["synapses"]
        entry[1].append(f"{target} {layer['synapses']}")
    most = sorted(totals, key=lambda tap: -totals[tap][0])[:_TAPS]
    shown = [tap for tap in totals if tap in most]
    drawn = bars(
        shown,
        [totals[t][0] for t in shown],
        [", ".join(totals[t][1][:12]) for t in shown],
        "synapses of each layer",
    )
    thetas = [
        card(
            f"Theta of {shortened(target, 40)}",
            histogram(theta["edges"], theta["counts"], theta["cut"], "|theta|", "histogram of theta"),
            f"{number_of(sum(theta['counts']), 'neuron')}; {theta['nought']:,} more could only do harm. "
            + ("" if theta["cut"] is None else "The cut is the smallest theta that was joined; ")
            + f"neurons are ranked by {made['criterion']}.",
        )
        for target, theta in list(zip(made["targets"], evidence.get("theta", ()), strict=False))[:_THETAS]
        if theta["edges"]
    ]
    graph = evidence.get("graph")
    around = ""
    if graph:
        left_out = f" {graph['left_out']:,} more added nodes are not drawn." if graph["left_out"] else ""
        around = card(
            "The graph around the splice",
            f'<div class="graph">{graph_picture(graph["places"], graph["edges"])}</div>',
            f"Blue: added. Green: read by the tweak. Dashed: nodes between are not drawn.{left_out}",
        )
    return section("Where the tweak sits", cards(card("Synapses per layer", drawn), *thetas), around)
