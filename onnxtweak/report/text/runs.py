"""What does the text say about a recipe that was planned, run, or just written?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from onnxtweak.plans import RunPlan
from onnxtweak.report.markup import percent
from onnxtweak.report.text.dry_run import ESTIMATE, length, size
from onnxtweak.report.text.layout import HARM, Block, Facts, Heading, Note, TextTable
from onnxtweak.report.text.verdict import verdicts_blocks
from onnxtweak.results import RecipeWritten, RunResult


def ran(made: RunResult) -> tuple[Block, ...]:
    """The verdicts, a row per tweak, then the gates, then what was written."""
    rows = tuple((name, *_figures(result), _gates_passed(result)) for name, result in made.results.items())
    gates = tuple(
        (name, gate["name"], f"{gate['limit']:g}", _measured(gate), "passed" if gate["passed"] else "FAILED")
        for name, result in made.results.items()
        for gate in result["gates"]
    )
    blocks: list[Block] = [
        *verdicts_blocks({name: one["verdict"] for name, one in made.results.items() if "verdict" in one}),
        Heading("Accuracy on the test samples, in percent" if _on_test(made) else "Accuracy, in percent"),
        TextTable(("tweak", "targets", "after", "overall", "after", "E", "fixed", "broken", "gates"), rows),
    ]
    if gates:
        missed = frozenset(row for row, gate in enumerate(gates) if gate[-1] == "FAILED")
        blocks += [
            Heading("Gates"),
            TextTable(("tweak", "gate", "limit", "measured", ""), gates, left=2, marked=missed),
        ]
    facts = [("written", made.directory)]
    if made.files:
        facts.append(("files", ", ".join(file.path for file in made.files)))
    if made.cached:
        facts.append(("cached", ", ".join(made.cached)))
    return (*blocks, Facts(tuple(facts)), Note(HARM), *map(Note, made.notes))


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
