"""How did each class do? One row with a picture per class, sorted by change."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from onnxtweak.intervals import paired, wilson
from onnxtweak.report.markup import between, change, percent, safe, section, shortened, table
from onnxtweak.report.page.charts import dumbbell

_ROWS = 40  # classes that are seen at once; the others unfold

_HEAD = ["class", "samples", "before → after", "base", "tweaked", "change", "bias only"]
_SAID = (
    "{counted} in percent, largest gain first, targets in bold. The grey dot is the base, the coloured one "
    "the tweaked model{sure}. The lines run from {least:.0f} to 100 %."
)
_SURE = ", with its 95 % Wilson interval as a thin line; below each change is its paired interval"
_RANKED = ["average precision, base", "tweaked"]


def class_table(made: Mapping[str, Any], evidence: Mapping[str, Any]) -> str:
    """A section; if there are many classes, those that changed least are folded."""
    before, after = made["before"]["per_class"], made["after"]["per_class"]
    seen = [c for c in range(len(before)) if before[c] is not None and after[c] is not None]
    if not seen:
        return ""
    order = sorted(seen, key=lambda c: (before[c] - after[c], c))
    least = min(0.9, int(min(min(before[c], after[c]) for c in seen) * 10) / 10)
    rows = [_row(c, made, evidence, least) for c in order]
    half = _ROWS // 2
    shown, between_them = (rows, []) if len(rows) <= _ROWS else (rows[:half] + rows[-half:], rows[half:-half])
    more, several = "", "average_precision" in made["before"]
    counted = "F1" if several else "Agreement with the reference" if made.get("matched") else "Accuracy"
    head, numbers = (_HEAD + _RANKED, 6) if several else (_HEAD, 4)
    if between_them:
        unfolded = table(head, between_them, numbers, "classes")
        more = f"<details><summary>{len(between_them):,} classes between</summary>{unfolded}</details>"
    return section(
        "Classes",
        table(head, shown, numbers, "classes"),
        more,
        said=_SAID.format(counted=counted, sure="" if several else _SURE, least=least * 100),
    )


def _row(c: int, made: Mapping[str, Any], evidence: Mapping[str, Any], least: float) -> list[str]:
    before, after, bias = (made[key]["per_class"][c] for key in ("before", "after", "bias_control"))
    name = f"<bdi>{safe(shortened(made['classes'][c], 60))}</bdi>"
    support, interval, moved = "", (after, after), change(before, after)
    if "support" in evidence:
        support = f"{evidence['support'][c]:,}"
    if evidence.keys() >= {"support", "fixed", "broken"}:
        samples = evidence["support"][c]
        interval = wilson(round(after * samples), samples) or interval
        changed = paired(evidence["fixed"][c], evidence["broken"][c], samples)
        moved += f"<br><small>{between(changed, sign=True)}</small>"
    return [
        f"<b>{name}</b>" if made["classes"][c] in made["targets"] else name,
        support,
        dumbbell(before, after, interval, least),
        percent(before),
        percent(after),
        moved,
        percent(bias),
        *(percent(each[c]) for key in ("before", "after") if (each := made[key].get("average_precision"))),
    ]
