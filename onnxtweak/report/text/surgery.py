"""What does the text say about a model that was reverted, compared or verified?"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

from onnxtweak.other_answers import Rewritten
from onnxtweak.quantities import number_of
from onnxtweak.report.text.layout import Block, Facts, Heading, Note, TextTable
from onnxtweak.report.text.matched import measure_name
from onnxtweak.report.text.verdict import group_tables
from onnxtweak.results import ModelDiff, Reverted, Verified
from onnxtweak.types import Check, Metrics, Unchecked

_ROWS = 40  # differences that get a row of their own


def reverted(made: Reverted) -> tuple[Block, ...]:
    """Which tweaks were removed, and where the earlier file was written."""
    facts = [("removed", _tweak(tweak)) for tweak in made.tweaks]
    facts += [*_checks(made.checks), ("written", f"{made.output.path} (sha256 {made.output.sha256})")]
    return (Heading(f"{made.model.path} without its tweak"), Facts(tuple(facts)))


def compared(found: ModelDiff) -> tuple[Block, ...]:
    """Every difference, and whether a tweak made it."""
    rows = tuple(
        (
            difference["kind"],
            difference["where"],
            "tweak" if difference["expected"] else "UNEXPECTED",
            difference["detail"],
        )
        for difference in sorted(found.differences, key=lambda difference: difference["expected"])
    )
    more = len(rows) - _ROWS
    return (
        Heading(f"{found.base.path} and {found.tweaked.path}"),
        *([TextTable(("what", "where", "by", "detail"), rows[:_ROWS], left=4)] if rows else []),
        *([Note(f"{number_of(more, 'more difference')}; -f json lists them all")] if more > 0 else []),
        Facts(
            (
                *(("tweak inside", _tweak(tweak)) for tweak in found.tweaks),
                *_checks(found.checks),
                *_not_made(found.unchecked),
            )
        ),
    )


def verified(found: Verified) -> tuple[Block, ...]:
    """Which checks passed, and how accurate the file is on samples."""
    facts = [("tweak inside", _tweak(tweak)) for tweak in found.tweaks]
    if found.base is not None:
        path = found.base.path or "rebuilt from the file"
        facts.append(("base", f"{path} (sha256 {found.base.sha256[:12]}…)"))
    facts += [*_checks(found.checks), *_not_made(found.unchecked)]
    if found.before is not None and found.after is not None:
        facts.append(("accuracy", _accuracy(found.before, found.after, found.unit)))
    return (
        Heading(str(found.model.path)),
        Facts(tuple(facts)),
        *_rewritten(found.rewritten),
        *group_tables([asdict(group) for group in found.groups]),
        *map(Note, found.notes),
    )


def _rewritten(found: Rewritten | None) -> tuple[Block, ...]:
    """The accuracies of base, tweaked file, and what another tool made of it."""
    if found is None or found.accuracy is None:
        return ()
    rows = [
        (name, *(f"{each[key] * 100:.1f}" for key in ("base", "tweaked", "rewritten")))
        for name, each in (("overall", found.accuracy), ("targets", found.targets))
        if each is not None
    ]
    return (
        Heading(f"Accuracy beside {found.tweaked.path}, in percent"),
        TextTable(("", "base", "tweaked", "this file"), tuple(rows)),
    )


def counted(checks: Sequence[Check], unchecked: Sequence[Unchecked]) -> str:
    """How many checks passed, and which could not be made, in one line."""
    said = f"{sum(check.passed for check in checks)} of {len(checks)} checks passed"
    names = ", ".join(dict.fromkeys(check.name for check in unchecked))
    return f"{said}; {len(unchecked)} could not be made: {names}" if unchecked else said


def _accuracy(before: Metrics, after: Metrics, unit: str) -> str:
    what = {"F1": "macro F1 ", "AP50": "mAP50 "}.get(measure_name(before), "")
    return (
        f"{what}{before.overall * 100:.1f} % without, {after.overall * 100:.1f} % with the tweak, "
        f"on {after.samples:,} {unit}"
    )


def _tweak(tweak: dict[str, Any]) -> str:
    return (
        f"{tweak['number']}: {tweak['kind']}, scale {tweak['scale']:g}, made by onnxtweak {tweak['version']} "
        f"for the base with sha256 {tweak['base_sha256'][:12]}…"
    )


def _checks(checks: Sequence[Check]) -> Iterable[tuple[str, str]]:
    for check in checks:
        yield f"check {check.name}", f"{'passed' if check.passed else 'FAILED'}: {check.detail}"


def _not_made(unchecked: Sequence[Unchecked]) -> Iterable[tuple[str, str]]:
    for check in unchecked:
        yield f"check {check.name}", f"not made: {check.reason}"
