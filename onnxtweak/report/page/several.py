"""How do several results compare, side by side? Patches of one model, say, or of its versions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from onnxtweak.report.changes import in_a_sentence, measure_of
from onnxtweak.report.markup import card, change, percent, safe, section, shortened, table
from onnxtweak.report.page.charts import Curve, xy
from onnxtweak.report.page.class_table import foldable_table
from onnxtweak.report.promises import headline

_NAME = 32


class Side(NamedTuple):
    """One of them: its name, and the document of its result."""

    name: str
    made: Mapping[str, Any]


def side_by_side(sides: Sequence[Side]) -> str:
    """What each gained and cost, and every class in each."""
    return "".join((_head(sides), _at_a_glance(sides), _chart(sides), _classes(sides)))


def _head(sides: Sequence[Side]) -> str:
    apart = []
    if len({side.made["model"]["sha256"] for side in sides}) > 1:
        apart.append("their bases differ")
    samples = {side.made.get("evidence", {}).get("provenance", {}).get("data_sha256") for side in sides}
    if len(samples) > 1 or len({side.made["split"] for side in sides}) > 1:
        apart.append("they were not measured on the same samples")
    if len({measure_of(side.made) for side in sides}) > 1:
        apart.append("some figures are F1 and others accuracies")
    listed = " and ".join(filter(None, [", ".join(apart[:-1]), *apart[-1:]]))
    said = f"<p>Take care: {listed}.</p>" if apart else ""
    return f"<header><h1>{len(sides)} results side by side</h1>{said}</header>"


def _at_a_glance(sides: Sequence[Side]) -> str:
    rows = [_row(side) for side in sides]
    head = ["", "verdict", "classes", "overall", "targets", "E", "fixed, broken", "parameters", "latency"]
    return section(
        "At a glance",
        table(head, rows, numbers=6),
        said=f"Overall and targets: {_measured(sides)} in percent; changes in points. "
        "E: points that the classes lost, root mean square.",
    )


def _row(side: Side) -> list[str]:
    made = side.made
    verdict, latency = made.get("verdict"), made.get("evidence", {}).get("latency")
    said = "" if verdict is None else headline(verdict)
    gates = made.get("gates", ())
    if gates:
        said += f"; {sum(gate['passed'] for gate in gates)} of {len(gates)} gates passed"
    accuracies = (
        f"{percent(made['after'][key])}<br>{change(made['before'][key], made['after'][key])}"
        for key in ("overall", "target")
    )
    return [
        _name(side),
        safe(said),
        safe(in_a_sentence(made, most=2)),
        *accuracies,
        "-" if made["E"] is None else f"{made['E']:.2f}",
        f"{made['fixed']:,}, {made['broken']:,}",
        f"{made['tweak']['parameters']:,}",
        "-" if not latency else f"{latency['increase']:+.1f} %",
    ]


def _chart(sides: Sequence[Side]) -> str:
    points = []
    for k, side in enumerate(sides):
        before, after = side.made["before"], side.made["after"]
        if None not in (before["overall"], before["target"], after["overall"], after["target"]):
            at = tuple((after[key] - before[key]) * 100 for key in ("overall", "target"))
            points.append(Curve(shortened(side.name, _NAME), [(at[0], at[1])], f"line-{k % 6}", joined=False))
    drawn = xy(
        [Curve("base", [(0.0, 0.0)], "before", joined=False), *points],
        f"overall {_measured(sides)}, points vs. base",
        f"target {_measured(sides)}, points vs. base",
        "what each gained",
    )
    return section("Gains", card("", drawn, "Up and to the right is better.")) if points else ""


def _classes(sides: Sequence[Side]) -> str:
    """Each class by its name, those that changed most first; the base is the first one's."""
    found: dict[str, list[tuple[float | None, float | None]]] = {}
    for k, side in enumerate(sides):
        before, after = side.made["before"]["per_class"], side.made["after"]["per_class"]
        for name, pair in zip(side.made["classes"], zip(before, after, strict=True), strict=True):
            found.setdefault(str(name), [(None, None)] * len(sides))[k] = pair
    largest = {
        name: max((abs(b - a) for a, b in pairs if a is not None and b is not None), default=-1.0)
        for name, pairs in found.items()
    }
    order = sorted((name for name in found if largest[name] >= 0), key=lambda name: -largest[name])
    numbers = {name: c for c, name in enumerate(found)}
    rows = []
    for name in order:
        base = next((before for before, _ in found[name] if before is not None), None)
        changes = [change(before, after) for before, after in found[name]]
        rows.append([f"<bdi>{safe(shortened(name, 60))}</bdi>", percent(base), *changes])
    head = ["class", "base", *map(_name, sides)]
    return section(
        "Classes",
        foldable_table(head, rows, [numbers[name] for name in order], numbers=len(head) - 1) if rows else "",
        said="The base in percent; what each result changed, in points. The largest changes first.",
    )


def _measured(sides: Sequence[Side]) -> str:
    return " or ".join(dict.fromkeys(measure_of(side.made) for side in sides))


def _name(side: Side) -> str:
    return f"<bdi>{safe(shortened(side.name, _NAME))}</bdi>"
