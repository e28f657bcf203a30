"""Which samples does the page show? Some that changed, and those that were listed one by one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

from onnxtweak.quantities import number_of
from onnxtweak.report.markup import facts, is_picture, safe, section, shortened

_MASKS = (
    "Of each picture there are four tiles: as it is and, with a colour for each class, its labels; below them"
    " what the base and the tweaked model show."
)
_BOXES = (
    "Of each picture there are four tiles: as it is and, with a colour for each class, its labelled boxes;"
    " below them the boxes that the base and the tweaked model show with a score of 0.25 or more."
)
# What became of a sample: how it is called, and its colour.
_KINDS = {"fixed": ("became right", "gain"), "broken": ("became wrong", "loss")}


def changed_samples(made: Mapping[str, Any], evidence: Mapping[str, Any]) -> str:
    """Some samples that became right, and some that became wrong, class by class."""
    names, shown = made["classes"], evidence.get("samples", {})
    by_class: dict[int, dict[str, list[str]]] = {}
    for kind in _KINDS:
        for one in shown.get(kind, ()):
            box = _box(one, *(_named_class(names, one[key]) for key in ("label", "before", "after")))
            by_class.setdefault(one["label"], {kind: [] for kind in _KINDS})[kind].append(box)
    targets = set(made["targets"])
    order = sorted(by_class, key=lambda c: (names[c] not in targets, c))
    head = f"{made['fixed']:,} became right, {made['broken']:,} became wrong; some of each class."
    each = [one for kind in _KINDS for one in shown.get(kind, ())]
    boxes = any(one.get("boxes") for one in each)
    drawn = f" {_BOXES}" if boxes else f" {_MASKS}" if any(one.get("masks") for one in each) else ""
    return section(
        "Objects that changed" if boxes else "Samples that changed",
        *(_of_class(str(names[c]), c, by_class[c], evidence) for c in order),
        said=f"{head} The label in bold, then the answers of the base and of the tweaked model.{drawn}",
    )


def _named_class(names: Sequence[str], number: int | None) -> str:
    return "nothing" if number is None else names[number]


def _of_class(name: str, c: int, boxes: Mapping[str, Sequence[str]], evidence: Mapping[str, Any]) -> str:
    """Those of one class: what it lost beside what it gained."""
    sides, counts = "", evidence["samples"].get("counts", evidence)
    for kind, (title, colour) in _KINDS.items():
        count = counts[kind][c] if kind in counts else len(boxes[kind])
        said = f"{title}: {count:,}" + (f", {len(boxes[kind])} shown" if count > len(boxes[kind]) else "")
        inside = "".join(boxes[kind])
        sides += f'<div><p class="{colour}-said">{said}</p><div class="samples">{inside}</div></div>'
    heading = f"<h3>Class <bdi>{safe(shortened(name, 60))}</bdi></h3>"
    return f'<div class="of-class">{heading}<div class="sides">{sides}</div></div>'


def listed_samples(made: Mapping[str, Any]) -> str:
    """What became of listed samples: counts, and those that are not what was asked with their pictures."""
    listed = made.get("listed")
    if not listed:
        return ""
    pairs, parts = [("form of the patch", safe(listed["form"]))] if listed["form"] else [], []
    if must := listed["must"]:
        pairs.append(
            (
                "must-samples",
                f"{must['right']:,} of {must['samples']:,} right, {must['already_right']:,} were before,"
                f" {must['infeasible']:,} infeasible",
            )
        )
        parts.append(_named("Must-samples that are infeasible", must["named"], must["infeasible"]))
        parts.append(_named("Must-samples made right", must["shown"], must["fixed"]))
    for role, title in (("lock", "Lock-samples broken"), ("keep", "Kept samples decided otherwise")):
        if guard := listed[role]:
            count = f"{guard['broken']:,} of {guard['right']:,}"
            pairs.append((title.lower(), f"{count}; {guard['samples']:,} listed"))
            parts.append(_named(title, guard["named"], guard["broken"]))
    if control := listed["bias"]:
        said = (
            f"{number_of(control['right'], 'must-sample')} right, {control['broken']:,} of the others broken"
        )
        pairs.append(("the best biases instead", said))
    said = "Counted on the written file. The label in bold, then the answers of base and file."
    return section("Listed samples", facts(pairs), *parts, said=said)


_MOST = 24  # listed samples of a kind that are shown


def _named(title: str, named: Sequence[Mapping[str, Any]], count: int) -> str:
    boxes = [
        _box(one, one["label"], one["before"], one["after"], ", ".join(one["rivals"]))
        for one in named[:_MOST]
    ]
    return _boxes(title, boxes, count)


def _boxes(title: str, boxes: Sequence[str], count: int) -> str:
    if not boxes:
        return ""
    return f"<h3>{title} ({len(boxes)} of {count:,})</h3><div class=samples>{''.join(boxes)}</div>"


def _place(one: Mapping[str, Any]) -> str:
    """The file of a sample, or its row."""
    where = str(one["where"])
    return f"row {int(one['row'])}" if where.startswith("row ") else safe(shortened(PurePath(where).name, 40))


def _box(one: Mapping[str, Any], label: str, before: str, after: str, rivals: str = "") -> str:
    """A sample with its picture, if it has one; where it is, in the title."""
    picture = f'<img src="{one["picture"]}" alt="">' if is_picture(one["picture"]) else ""
    names = [f"<bdi>{safe(shortened(name, 24))}</bdi>" for name in (label, before, after)]
    more = f"<br>rivals {safe(shortened(rivals, 60))}" if rivals else ""
    return (
        f'<div class="sample" title="{safe(one["where"])}">{picture}<b>{names[0]}</b>'
        f"<br>{names[1]} → {names[2]}{more}<br><small>{_place(one)}</small></div>"
    )
