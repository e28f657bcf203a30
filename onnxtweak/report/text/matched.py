"""What does the text say about a copy that was matched to a reference?"""

from __future__ import annotations

from onnxtweak.other_answers import MatchOutcome
from onnxtweak.report.text.layout import Block, Heading, Note, TextTable
from onnxtweak.results import Result
from onnxtweak.types import BoxMetrics, LabelMetrics, Metrics

_COLUMNS = ("base", "tweaked", "bias")


def counted(made: Result) -> str:
    """What the figures of a result count."""
    if made.matched is None:
        return measure_name(made.before)
    what = "F1 beside the decisions of" if isinstance(made.before, LabelMetrics) else "Agreement with"
    return f"{what} {made.matched.reference.path}"


def measure_name(metrics: Metrics) -> str:
    """What the figures of each class are."""
    if isinstance(metrics, BoxMetrics):
        return "AP50"
    return "F1" if isinstance(metrics, LabelMetrics) else "Accuracy"


def matched_blocks(outcome: MatchOutcome | None) -> tuple[Block, ...]:
    """Accuracies, where labels tell them, and how much of what was lost is back."""
    if outcome is None or outcome.accuracy is None:
        return ()
    right = outcome.accuracy
    row = ("overall", _percent(right["reference"]), *(_percent(right[name]) for name in _COLUMNS))
    table = TextTable(("", "reference", "base", "tweaked", "bias only"), (row,))
    lost, back = right["reference"] - right["base"], right["tweaked"] - right["base"]
    said = (
        f"of {lost * 100:.1f} points of accuracy that the copy lost, {back / lost:.0%} are back"
        if lost > 0
        else "the copy had lost no accuracy"
    )
    return (Heading("Accuracy by the labels, in percent; nothing was learnt from them"), table, Note(said))


def _percent(share: float) -> str:
    return f"{share * 100:.1f}"
