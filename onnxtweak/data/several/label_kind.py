"""Do samples, or positions, have several labels at once, or a class each? As they look, or the user says."""

from __future__ import annotations

from collections.abc import Sequence

from onnxtweak.data.samples import MarkedAt, Part, Reading
from onnxtweak.data.several.at_positions import MarksAtPositions, marks_at_positions
from onnxtweak.data.several.marks import marks, note_on
from onnxtweak.errors import DataError


def several_labels(
    parts: Sequence[Part], earlier: tuple[bool, str] | None, reading: Reading
) -> MarksAtPositions | None:
    """The marks of samples, or of their positions; None where they have one class each.

    earlier : whether an earlier dataset has several labels, and where. Raises DataError where that is of the
    other kind, and where the user says that there are several, and these are none.
    """
    certain = reading.head == "labels" or (earlier is not None and earlier[0])
    found = None
    if reading.head != "classes" and isinstance(reading.several, MarkedAt):
        at = reading.several
        found = marks_at_positions(parts, at, reading.ignored, certain=certain or at.single)
    elif reading.head != "classes" and (whole := marks(parts, certain=certain)) is not None:
        found = MarksAtPositions(whole, (), note_on(whole))
    if found is None and reading.head == "labels" and any(part.labelled for part in parts):
        what = f"labels of shape {parts[0].labels.shape} are not a mark for each sample and label"
        hint = "give a row of marks for each sample: 1, 0, and -1 where it is not known; or leave out --head"
        raise DataError(what, where=parts[0].label_where, hint=hint)
    if earlier is not None and earlier[0] != (found is not None):
        kinds = ("a class for each sample", "several labels at once")
        raise DataError(
            f"these labels are {kinds[found is not None]}, and those of {earlier[1]} are {kinds[earlier[0]]}",
            where=parts[0].label_where,
            hint="give labels of one kind",
        )
    return found
