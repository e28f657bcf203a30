"""What does the text of `doctor` say about a machine?"""

from __future__ import annotations

from onnxtweak.report.text.layout import Block, Facts, Heading, Note
from onnxtweak.results import Diagnosis


def diagnosis(found: Diagnosis) -> tuple[Block, ...]:
    """A line per finding; then, for each that is not ok, what to do."""
    lines = tuple(
        (f.name, f.detail if f.state == "ok" else f"{f.state.upper()}: {f.detail}") for f in found.findings
    )
    hints = (Note(f"{f.name}: {f.hint}") for f in found.findings if f.state != "ok" and f.hint)
    return (Heading("This machine"), Facts(lines), *hints)
