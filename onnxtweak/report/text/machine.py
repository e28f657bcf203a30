"""What is worth saying about a machine?"""

from __future__ import annotations

from onnxtweak.report.text.layout import Block, Facts, Heading, Note
from onnxtweak.results import Diagnosis


def diagnosis(found: Diagnosis) -> tuple[Block, ...]:
    """A line for each thing looked at; then, for what is not in order, what to do."""
    lines = tuple(
        (f.name, f.detail if f.state == "ok" else f"{f.state.upper()}: {f.detail}") for f in found.findings
    )
    hints = (Note(f"{f.name}: {f.hint}") for f in found.findings if f.state != "ok" and f.hint)
    return (Heading("This machine"), Facts(lines), *hints)
