"""What does the text of a dry run say about the passes that a command would make?"""

from __future__ import annotations

from collections.abc import Sequence

from onnxtweak.plans import DryRun, PlannedPass
from onnxtweak.report.text.layout import Block, Facts, Heading, Note, TextTable

ESTIMATE = "times are estimates from the first batches of each kind of pass; fitting on tables comes on top"


def forecast(made: DryRun) -> tuple[Block, ...]:
    """The passes in order, and what they cost."""
    facts = [
        ("model", f"{made.model.path} (sha256 {made.model.sha256[:12]}…), {made.classes:,} classes"),
        ("samples", ", ".join(f"{role} {count:,}" for role, count in made.samples.items())),
        ("targets", made.targets),
        ("memory", f"{size(made.memory)}, of which the model and its samples take {size(made.taken)}"),
        ("device", f"{made.device['device']}, theta by {made.device['backend']}"),
    ]
    if made.cached or any(step.name == "score" for step in made.steps):
        facts.append(("score pass", _shared(made)))
    return (
        Heading(f"Plan for {made.command}"),
        Facts(tuple(facts)),
        *steps(made.steps),
        Facts((("total", f"about {length(made.seconds['all'])}"),)),
        Note(ESTIMATE),
        *map(Note, made.notes),
    )


def _shared(made: DryRun) -> str:
    if made.cached:
        return "reused from an earlier run"
    shards = f"{made.shards:,} {'shard' if made.shards == 1 else 'shards'}"
    return f"{shards}, {made.workers} {'process' if made.workers == 1 else 'processes'}"


def steps(made: Sequence[PlannedPass]) -> tuple[Block, ...]:
    """A row per group of passes over the same samples."""
    rows = tuple(
        (
            step.name,
            f"{step.passes:,}",
            f"{step.samples:,}",
            f"{step.taps:,}" if step.taps else "-",
            f"{step.neurons:,}" if step.neurons else "-",
            f"{step.block:,}" if step.passes > 1 else "-",
            f"{step.batch:,}",
            size(step.state_bytes) if step.state_bytes else "-",
            size(step.value_bytes) if step.value_bytes else "-",
            length(step.seconds),
        )
        for step in made
    )
    columns = ("pass", "times", "samples", "taps", "neurons", "block", "batch", "state", "values", "time")
    return (Heading("Passes"), TextTable(columns, rows))


def size(count: float) -> str:
    """Bytes in a unit that suits them."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 999.5:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:,.3g} TB"


def length(seconds: float) -> str:
    """A time in a unit that suits it."""
    if seconds < 90:
        return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes = seconds / 60
    return f"{minutes:.0f} min" if minutes < 90 else f"{minutes / 60:.1f} h"
