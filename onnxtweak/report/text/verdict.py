"""What does the text say about the promises of a result? It comes first, what would be regretted on top."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

from onnxtweak.quantities import number_of
from onnxtweak.report.promises import headline, remarks, rows
from onnxtweak.report.text.layout import Block, Facts, Heading, Note, TextTable
from onnxtweak.verdict import COPY, NOT_KEPT

_GROUPS = 30  # groups that get a row; if there are more, those that the base did worst on do
_COLUMNS = ("promise", "points", "95 % interval", "")


def verdict_blocks(verdict: Mapping[str, Any]) -> tuple[Block, ...]:
    """The verdict of one result, as its JSON has it."""
    said, goal = headline(verdict), _goal(verdict)
    if verdict["state"] == COPY:
        return (Heading(f"Verdict: {said}"), *goal, *map(Note, remarks(verdict)))
    judged = f"{verdict['samples']:,} {verdict['split']} {verdict.get('unit', 'samples')}"
    found = rows(verdict)
    return (
        Heading(f"Verdict on {judged}: {said}"),
        *goal,
        TextTable(
            _COLUMNS,
            tuple((row.said, row.change, row.interval, stated(row.state)) for row in found),
            marked=frozenset(number for number, row in enumerate(found) if row.surely),
        ),
        *group_tables(verdict.get("groups", ()), verdict.get("unit", "samples")),
        *map(Note, remarks(verdict)),
    )


def _goals(verdicts: Mapping[str, Mapping[str, Any]]) -> tuple[Block, ...]:
    """What was asked of several tweaks: said once where it is the same."""
    each = {name: verdict["goal"] for name, verdict in verdicts.items() if verdict.get("goal")}
    if len(each) == len(verdicts) and len(set(each.values())) == 1:
        return _goal(next(iter(verdicts.values())))
    return (Facts(tuple(each.items())),) if each else ()


def _goal(verdict: Mapping[str, Any]) -> tuple[Block, ...]:
    """What was asked for; older results do not say."""
    return (Facts((("goal", verdict["goal"]),)),) if verdict.get("goal") else ()


def group_tables(groups: Sequence[Mapping[str, Any]], unit: str = "samples") -> Iterator[Block]:
    """Base and tweaked model on each group of some columns, in percent: a table for each column.

    unit : what is counted.
    """
    for _, of_column in groupby(groups, lambda group: group["column"]):
        yield from _group_table(list(of_column), unit)


def _group_table(groups: Sequence[Mapping[str, Any]], unit: str) -> Iterator[Block]:
    rows = []
    for group in groups[:_GROUPS]:
        low, high = group["interval"]
        accuracies = (f"{group[when] * 100:.1f}" for when in ("before", "after"))
        between = f"{low:+.1f} to {high:+.1f}"
        rows.append((group["name"], f"{group['samples']:,}", *accuracies, f"{group['change']:+.1f}", between))
    wanted = frozenset(number for number, group in enumerate(groups[:_GROUPS]) if group["wanted"])
    head = (groups[0]["column"], unit, "base", "tweaked", "change", "95 % interval")
    yield TextTable(head, tuple(rows), marked=wanted)
    if len(groups) > _GROUPS:
        yield Note(f"better, and left to -f json: {number_of(len(groups) - _GROUPS, 'other group')}")


def verdicts_blocks(verdicts: Mapping[str, Mapping[str, Any]]) -> tuple[Block, ...]:
    """The verdicts of several tweaks, by name."""
    table, marked, notes = [], set(), []
    for name, verdict in verdicts.items():
        if verdict["state"] == COPY:
            table.append((name, headline(verdict), "", "", ""))
        for row in rows(verdict):
            marked |= {len(table)} if row.surely else set()
            table.append((name, row.said, row.change, row.interval, stated(row.state)))
        notes += [Note(f"{name}: {said}") for said in remarks(verdict)]
    if not table:
        return ()
    shown = TextTable(("tweak", *_COLUMNS), tuple(table), left=2, marked=frozenset(marked))
    return (Heading("Verdict"), *_goals(verdicts), shown, *notes)


def stated(state: str) -> str:
    """A state in a table: what was not kept is as loud as a check that failed."""
    return state.upper() if state == NOT_KEPT else state
