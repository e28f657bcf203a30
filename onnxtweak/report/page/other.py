"""Which page has a result that is no patch? An evaluation, a comparison, or any other, key by key."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

from onnxtweak.intervals import wilson
from onnxtweak.quantities import number_of
from onnxtweak.report.markup import (
    between,
    card,
    counted_in,
    facts,
    in_words,
    percent,
    safe,
    section,
    shortened,
)
from onnxtweak.report.markup import table as table_of
from onnxtweak.report.page.charts import Curve, xy
from onnxtweak.report.page.class_table import foldable_table
from onnxtweak.verdict import KEPT, NOT_KEPT, NOT_SHOWN

_ROWS = 200  # of a list
_TEXT = 160  # characters of a cell
_PAIRS = 20  # confusions that are listed
_NO_FACTS = ("schema", "command", "passes", "seconds", "notes", "device")


def evaluation(made: Mapping[str, Any]) -> str:
    """How a model does: overall, per class, per group, and what it mistakes for what."""
    metrics, names, unit = made["metrics"], [str(name) for name in made["classes"]], safe(made["unit"])
    if metrics.get("measure"):
        return _of_labels(made)
    confusion = metrics["confusion"]
    support = [sum(row) for row in confusion]
    rows, numbers = (
        [],
        sorted((c for c, count in enumerate(support) if count), key=lambda c: (metrics["per_class"][c], c)),
    )
    for c in numbers:
        share = metrics["per_class"][c]
        interval = between(wilson(round(share * support[c]), support[c]))
        name = f"<bdi>{safe(shortened(names[c], 60))}</bdi>"
        rows.append(
            [
                f"<b>{name}</b>" if names[c] in made["targets"] else name,
                f"{support[c]:,}",
                percent(share),
                interval,
            ]
        )
    said = f"{percent(metrics['overall'])} % of {metrics['samples']:,} {unit} are right"
    return "".join(
        (
            _head(made, said),
            _readings(made),
            section(
                "Classes",
                foldable_table(["class", unit, "accuracy", "95 % interval"], rows, numbers, numbers=3),
            ),
            _groups(made["groups"], unit),
            section("Most frequent confusions", _confusions(confusion, names, unit)),
            _the_rest(made, ("model", "device", "seconds", "notes")),
        )
    )


def _of_labels(made: Mapping[str, Any]) -> str:
    """How a model that marks several labels at once does: each label for itself, the worst first."""
    metrics, measures = made["metrics"], ("average_precision", "precision", "recall", "per_class")
    # Of each label the counts [[right without it, wrongly marked], [missed, right with it]].
    support = [sum(there) for _, there in metrics["confusion"]]
    numbers = sorted((c for c, count in enumerate(support) if count), key=lambda c: metrics["per_class"][c])
    rows = []
    for c in numbers:
        name = str(made["classes"][c])
        shown = f"<bdi>{safe(shortened(name, 60))}</bdi>"
        bold = f"<b>{shown}</b>" if name in made["targets"] else shown
        rows.append([bold, f"{support[c]:,}", *(percent(metrics[key][c]) for key in measures)])
    head = ["class", safe(made["unit"]), "average precision", "precision", "recall", "F1"]
    said = f"Macro F1 {percent(metrics['overall'])} % on {number_of(metrics['samples'], 'sample')}"
    return "".join(
        (
            _head(made, said),
            _readings(made),
            section("Classes", foldable_table(head, rows, numbers, numbers=5), said="In percent."),
            _the_rest(made, ("model", "device", "seconds", "notes")),
        )
    )


def _readings(made: Mapping[str, Any]) -> str:
    rows = [[safe(one["title"]), percent(one["value"]), between(one["interval"])] for one in made["readings"]]
    shown = table_of(["", "value", "95 % interval"], rows, 2)
    counted = counted_in(one["name"] for one in made["readings"])
    return section(f"Metrics, per 100 {counted}", shown) if rows else ""


def _groups(groups: Sequence[Mapping[str, Any]], unit: str) -> str:
    parts = []
    for column, of_column in groupby(groups, lambda one: one["column"]):
        rows = [
            [
                f"<bdi>{safe(one['name'])}</bdi>",
                f"{one['samples']:,}",
                percent(one["accuracy"]),
                between(tuple(one["interval"])),
            ]
            for one in of_column
        ]
        parts.append(table_of([safe(column), unit, "accuracy", "95 % interval"], rows[:_ROWS], 3))
    return section("Groups", *parts)


def _confusions(confusion: Sequence[Sequence[int]], names: Sequence[str], unit: str) -> str:
    cells = [
        (count, label, taken)
        for label, row in enumerate(confusion)
        for taken, count in enumerate(row)
        if count and label != taken
    ]
    rows = [
        [*(f"<bdi>{safe(shortened(names[c], 40))}</bdi>" for c in (label, taken)), f"{count:,}"]
        for count, label, taken in sorted(cells, key=lambda cell: (-cell[0], cell[1:]))[:_PAIRS]
    ]
    return table_of(["label", "predicted", unit], rows, 1, "pairs") if rows else "<p>None.</p>"


def comparison(made: Mapping[str, Any]) -> str:
    """Every method on the same samples: at equal overall accuracy, at its own operating point, as curves."""
    able = [one for one in made["standings"] if one["overall"][0] is not None]
    skipped = [one for one in made["standings"] if one["overall"][0] is None]
    best = max(
        (one for one in able if one["at"][0][0] is not None), key=lambda o: o["at"][0][0], default=None
    )
    said = "no method keeps the overall accuracy"
    if best is not None:
        said = f"Best at no overall loss: {best['method']}, targets {_share(best['at'][0])} %"
    lines = [
        Curve(
            str(one["method"]),
            [(-drop, share * 100) for drop, share in one["curve"] if share is not None],
            f"line-{k % 6}",
        )
        for k, one in enumerate(able)
    ]
    drops = [f"at most {drop:g} lost" for drop in made["drops"]]
    by_drop = [
        [safe(one["method"]), *map(_share, one["at"]), _share(one["over_bias"][0], sign=True)] for one in able
    ]
    own = [
        [
            safe(one["method"]),
            _share(one["overall"]),
            _share(one["target"]),
            f"{one['fixed']:,.0f}",
            f"{one['broken']:,.0f}",
            f"{one['E'][0]:.2f}",
            f"{one['parameters']:,.0f}",
            f"{one['seconds']:.1f}",
            _promises(one["verdicts"]),
        ]
        for one in able
    ]
    before = (
        f"Base: overall {_share(made['before']['overall'])} %, targets {_share(made['before']['target'])} %."
    )
    head = ["method", "overall", "targets", "fixed", "broken", "E", "parameters", "seconds", "promises"]
    return "".join(
        (
            _head(made, said),
            section(
                "Targets at equal overall accuracy",
                table_of(["method", *drops, "over bias"], by_drop, len(drops) + 1),
                card("", xy(lines, "overall accuracy, points vs. base", "target accuracy, %", "methods")),
                said=f"Read on the test samples, in percent. {before}",
            ),
            section(
                "At each method's own operating point",
                table_of(head, own, len(head) - 1),
                *(f"<p>{safe(one['method'])} does not apply: {safe(one['note'])}</p>" for one in skipped),
                said="Set without the test samples. E: points that the classes lost, root mean square. "
                "Promises: kept, not shown, not kept on test.",
            ),
            _the_rest(made, ("model", "targets", "samples", "repeats", "device", "seconds", "notes")),
        )
    )


def _share(pair: Sequence[float | None], sign: bool = False) -> str:
    """A mean and its standard error, in percent or points."""
    mean, error = pair
    if mean is None:
        return "-"
    said = f"{mean * 100:+.1f}" if sign else f"{mean * 100:.1f}"
    return said if error is None else f"{said} ± {error * 100:.1f}"


def _promises(verdicts: Sequence[Mapping[str, Any]]) -> str:
    states = [promise["state"] for verdict in verdicts for promise in verdict["promises"]]
    return " / ".join(str(states.count(state)) for state in (KEPT, NOT_SHOWN, NOT_KEPT)) if states else "copy"


def key_by_key(made: Mapping[str, Any]) -> str:
    """Any other result: its checks, its facts, its lists as tables."""
    checks = made.get("checks", ())
    failed = sum(not one["passed"] for one in checks)
    said = f"{len(checks) - failed} of {len(checks)} checks passed" if checks else str(made["command"])
    plain = [key for key, value in made.items() if key not in _NO_FACTS and not _is_table(value)]
    tables = [
        section(key.replace("_", " ").capitalize(), _records(value))
        for key, value in made.items()
        if _is_table(value)
    ]
    return "".join(
        (
            _head(made, said),
            _the_rest(made, plain, f"Result of {made['command']}"),
            *tables,
            _the_rest(made, _NO_FACTS[2:]),
        )
    )


def _is_table(value: object) -> bool:
    return isinstance(value, list) and any(isinstance(item, dict | list) for item in value)


def _records(value: Sequence[Any]) -> str:
    """A list of objects as a table, one of lists as rows without a head."""
    shown = [item if isinstance(item, Mapping) else {"": item} for item in value[:_ROWS]]
    head = list(dict.fromkeys(key for item in shown for key in item))
    rows = [[_cell(item.get(key)) for key in head] for item in shown]
    more = f"<p>{len(value) - _ROWS:,} more are in the JSON.</p>" if len(value) > _ROWS else ""
    return table_of([safe(key.replace("_", " ")) for key in head], rows, kind="pairs") + more


def _cell(value: Any) -> str:
    return safe(shortened(in_words(value), _TEXT))


def _head(made: Mapping[str, Any], said: str) -> str:
    where = made.get("model") or made.get("tweaked") or made.get("recipe") or {}
    path = where.get("path", "") if isinstance(where, Mapping) else ""
    file = f"<bdi>{safe(path)}</bdi>, {safe(made['command'])}" if path else safe(made["command"])
    return f"<header><p class=file>{file}</p><h1>{safe(said)}</h1></header>"


def _the_rest(made: Mapping[str, Any], keys: Sequence[str], title: str = "Where this comes from") -> str:
    pairs = []
    for key in keys:
        value, name = made.get(key), safe("note" if key == "notes" else key.replace("_", " "))
        items = value if key == "notes" and isinstance(value, list) else [value]
        pairs += [(name, safe(shortened(words, 2000))) for item in items if (words := in_words(item))]
    return section(title, facts(pairs)) if pairs else ""
