"""How does a tensor hold the logits that a patch is added to?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from onnxtweak.errors import UsageError
from onnxtweak.head import Readout, Scale


@dataclass(frozen=True)
class Level:
    """A map whose positions are anchors, or have several each.

    map : the tensor (N, channels, H, W) that is laid out as anchors. neighbours : whether those of one
    position follow each other; else all positions of the first come first. anchors : at each position; 0: not
    measured yet.
    """

    map: str
    neighbours: bool = True
    anchors: int = 0


@dataclass(frozen=True)
class LogitsFormat:
    """How a logits tensor holds its values.

    layout : as `Logits.layout`. dtype : as `Tap.dtype`. readout : how its columns give the classes' scores;
    None: they are these scores, or a single logit for two classes. Letters P of the layout are axes of
    positions, each of which has its own scores: rows are positions then. levels : whose positions these are,
    where they are anchors of a detector. objectness : whether the column before the classes' multiplies them
    in what is shown: scores are of the product then, and a patch moves the class's own factor.
    """

    layout: str = "NC"
    dtype: str = "float32"
    readout: Readout | None = None
    levels: tuple[Level, ...] = ()
    objectness: bool = False

    @property
    def binary(self) -> bool:
        """One number, two classes: positive for class 1, unless the readout says otherwise."""
        return "C" not in self.layout and not self.at_positions

    @property
    def at_positions(self) -> bool:
        """Whether there are scores at every position."""
        return "P" in self.layout

    @property
    def is_plain(self) -> bool:
        """The columns are the classes' scores as they are."""
        return self.readout is None or self.readout.is_plain

    @property
    def scale(self) -> Scale:
        """What the columns hold, and how a patch is added to it."""
        return "logit" if self.readout is None else self.readout.scale

    def columns(self, classes: int) -> int:
        """How many columns the tensor has, where the model shows C classes."""
        if self.readout is not None:
            return self.readout.columns
        return 1 if self.binary else classes

    def rows_of(self, shape: Sequence[int]) -> int:
        """How many rows of columns a tensor of this shape has."""
        return math.prod(size for size, letter in zip(shape, self.layout, strict=True) if letter != "C")


NO_AXIS = 0  # in place of the axis of the classes: none counts them, and each position has a single score


def class_axis_of(shape: Sequence[int | str | None] | None, decides: int | None) -> int | None:
    """Which axis of scores at positions counts the classes; None where nothing tells.

    decides : the axis that the model chooses a class over, from either end. Without it, of a sequence the
    only axis whose size is known, and more than 1; of an image its channels: axis 1 or the last, where its
    size alone is known, or is smaller than both others.
    """
    if shape is None:
        return decides if decides is None or decides > 0 else None
    if decides is not None:
        return decides % len(shape) or None
    if len(shape) == 3:
        known = [axis for axis in (1, 2) if isinstance(shape[axis], int)]
        return known[0] if len(known) == 1 and shape[known[0]] != 1 else None
    if len(shape) != 4:
        return None
    for axis, others in ((1, shape[2:]), (3, shape[1:3])):
        size = shape[axis]
        if isinstance(size, int) and all(not isinstance(o, int) or o > size for o in others):
            return axis
    return None


def checked_axis(shape: Sequence[int | str | None] | None, axis: int, where: str) -> int:
    """An axis of the classes as the user says it. Raises UsageError for one that the scores do not have.

    shape : of the scores, None where nobody knows it. where : they are.
    """
    rank = None if shape is None else len(shape)
    if axis == NO_AXIS or (rank is None and axis > 0):
        return axis
    if rank is None or not 0 < axis % rank or not -rank < axis < rank:
        known = "an unknown shape" if rank is None else f"{rank} axes, of which axis 0 counts samples"
        hint = "give the number of another axis, or none"
        raise UsageError(f"`{where}` has {known}", where="--class-axis", hint=hint)
    return axis % rank


def layout_of(shape: Sequence[int | str | None] | None, axis: int | None = None) -> str | None:
    """axis : of the classes where there may be positions, too."""
    if shape is None:
        return None
    axes = "".join("1" if size == 1 else "C" for size in shape[1:])
    single = axis is not None and (axis == NO_AXIS or shape[axis] == 1)  # a score at each position
    if axes.count("C") <= 1 and not (single and "C" in axes):
        return "N" + axes if shape else None
    if axis is None or not all(isinstance(size, int) for size in shape[1:]):
        return None
    return layout_at_positions(shape, axis)


def layout_at_positions(shape: Sequence[int | str | None], axis: int) -> str:
    """The layout of scores at positions. axis : of the classes, or `NO_AXIS`."""
    return "N" + "".join(
        "C" if number == axis else "1" if size == 1 else "P" for number, size in enumerate(shape[1:], 1)
    )


def classes_of(shape: Sequence[int | str | None] | None, axis: int | None = None) -> int | None:
    layout = layout_of(shape, axis)
    if layout is None or shape is None:
        return None
    size = shape[layout.index("C")] if "C" in layout else 1 if "P" in layout else 2
    return size if isinstance(size, int) else None
