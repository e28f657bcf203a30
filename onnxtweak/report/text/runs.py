"""What does the text say about a recipe that was planned, run, or just written?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from onnxtweak.plans import RunPlan
from onnxtweak.report.changes import cells, measure_of, most_changed
from onnxtweak.report.markup import percent
from onnxtweak.report.text.dry_run import ESTIMATE, length, size
from onnxtweak.report.text.layout import HARM, Block, Facts, Heading, Note, TextTable
from onnxtweak.report.text.verdict import verdicts_blocks
from onnxtweak.results import RecipeWritten, RunResult

_CHANGES = 5  # classes that gain, and that pay, of each tweak


def ran(made: RunResult) -> tuple[Block, ...]:
    """Whether the gates passed, the verdicts, a row per tweak, gates, classes, cost, what was written."""
    rows = tuple((name, *_figures(result), _gates_passed(result)) for name, result in made.results.items())
    gates = tuple(
        (name, gate["name"], f"{gate['limit']:g}", _measured(gate), "passed" if gate["passed"] else "FAILED")
        for name, result in made.results.items()
        for gate in result["gates"]
    )
    blocks: list[Block] = [
        Heading(_outcome(made)),
        *verdicts_blocks({name: one["verdict"] for name, one in made.results.items() if "verdict" in one}),
        Heading(f"{_counted(made)}{' on the test samples' if _on_test(made) else ''}, in percent"),
        TextTable(("tweak", "targets", "after", "overall", "after", "E", "fixed", "broken", "gates"), rows),
    ]
    if gates:
        missed = frozenset(row for row, gate in enumerate(gates) if gate[-1] == "FAILED")
        blocks += [
            Heading("Gates"),
            TextTable(("tweak", "gate", "limit", "measured", ""), gates, left=2, marked=missed),
        ]
    blocks += [*_classes_that_change(made), *_costs(made)]
    facts = [("written", made.directory)]
    if made.files:
        facts.append(("files", ", ".join(file.path for file in made.files)))
    if made.cached:
        facts.append(("cached", ", ".join(made.cached)))
    return (*blocks, Facts(tuple(facts)), Note(HARM), *map(Note, made.notes))


def _outcome(made: RunResult) -> str:
    """What decides about a merge, in a line."""
    gates = [gate for result in made.results.values() for gate in result["gates"]]
    if made.failed:
        return f"{len(made.failed)} of {len(gates)} gates FAILED: {', '.join(made.failed)}"
    return f"Every gate passed ({len(gates)})" if gates else "No gate was asked for"


def _classes_that_change(made: RunResult) -> tuple[Block, ...]:
    """For each tweak the classes that gain most, and those that pay most."""
    rows: list[tuple[str, ...]] = []
    marked: set[int] = set()
    for name, result in made.results.items():
        changed, more = most_changed(result, _CHANGES)
        for one in changed:
            marked |= {len(rows)} if one.target else set()
            rows.append((name, *cells(one, 40)))
        if more:
            rows.append((name, f"({more:,} more)", "", "", "", ""))
    if not rows:
        return ()
    head = ("tweak", "class", "base", "tweaked", "points", "95 % interval")
    title = "Classes that gain, and that pay, in percent"
    return Heading(title), TextTable(head, tuple(rows), left=2, marked=frozenset(marked))


def _costs(made: RunResult) -> tuple[Block, ...]:
    """What each tweak adds to the file, and to the time of one sample."""
    rows = []
    for name, result in made.results.items():
        evidence = result.get("evidence", {})
        row = [f"{result['tweak']['parameters']:,}", "-", "-"]
        if found := evidence.get("size"):
            row[1] = f"{(found['after'] - found['before']) / 1000:+,.1f} kB of {found['after'] / 1000:,.1f}"
        if latency := evidence.get("latency"):
            row[2] = f"{latency['increase']:+.1f} % ({latency['after']:,.0f} µs)"
        rows.append((name, *row))
    return Heading("Cost"), TextTable(("tweak", "parameters", "file", "latency of one sample"), tuple(rows))


def _counted(made: RunResult) -> str:
    """What the figures of the tweaks are: F1 where samples have several labels at once."""
    found = {measure_of(result).capitalize() for result in made.results.values()}
    return " or ".join(sorted(found)) or "Accuracy"


def _on_test(made: RunResult) -> bool:
    return all(result["split"] == "test" for result in made.results.values())


def _figures(result: Mapping[str, Any]) -> tuple[str, ...]:
    before, after = result["before"], result["after"]
    return (
        percent(before["target"]),
        percent(after["target"]),
        percent(before["overall"]),
        percent(after["overall"]),
        "-" if result["E"] is None else f"{result['E']:.2f}",
        f"{result['fixed']:,}",
        f"{result['broken']:,}",
    )


def _gates_passed(result: Mapping[str, Any]) -> str:
    gates = result["gates"]
    return f"{sum(gate['passed'] for gate in gates)} of {len(gates)}" if gates else "none"


def _measured(gate: Mapping[str, Any]) -> str:
    return "-" if gate["measured"] is None else f"{gate['measured']:.4g}"


def planned(made: RunPlan) -> tuple[Block, ...]:
    """What would be read, made and written."""
    rows = tuple(
        (
            tweak["name"],
            tweak["method"],
            tweak["targets"],
            f"{tweak['neurons']:,}",
            f"{tweak['passes']:,}",
            size(tweak["state_bytes"]),
            "-" if tweak["cached"] else length(tweak["seconds"]),
            "yes" if tweak["cached"] else "no",
        )
        for tweak in made.tweaks
    )
    limits = ", ".join(f"{name} {limit:g}" for name, limit in made.gates.items())
    return (
        Heading(f"Plan for {made.recipe.path}"),
        Facts(
            (
                ("model", f"{made.model.path} (sha256 {made.model.sha256[:12]}…), {made.classes:,} classes"),
                ("samples", ", ".join(f"{role} {count:,}" for role, count in made.samples.items())),
                ("gates", limits or "none"),
                ("directory", made.directory),
                ("files", ", ".join(made.files)),
            )
        ),
        Heading("Tweaks"),
        TextTable(
            ("tweak", "method", "targets", "neurons", "passes", "state", "time", "cached"), rows, left=3
        ),
        Note(ESTIMATE),
        *map(Note, made.notes),
    )


def recipe_written(made: RecipeWritten) -> tuple[Block, ...]:
    """Where the recipe is, and what it is for."""
    return (
        Heading(f"Recipe for {made.model.path}"),
        Facts(
            (
                ("classes", f"{made.classes:,}"),
                ("samples", ", ".join(f"{role} {count:,}" for role, count in made.samples.items())),
                ("written", made.output.path),
            )
        ),
        *map(Note, made.notes),
    )
