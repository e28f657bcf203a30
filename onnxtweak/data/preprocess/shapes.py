"""Which reordering of axes, and nothing else, makes a stored sample the shape that the model wants?"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

Shape = tuple[int, ...]
Wanted = tuple[int | None, ...]

_CHANNELS = (1, 3, 4)


def fits(sample: Shape, wanted: Wanted | None) -> bool:
    """Whether a sample's shape is one that the model takes."""
    return wanted is None or (
        len(sample) == len(wanted) and all(w in (None, s) for s, w in zip(sample, wanted, strict=True))
    )


@dataclass(frozen=True)
class Adapted:
    """How a sample is made to fit: its axes permuted by `order` (None: kept), then laid out as `shape`."""

    words: str
    order: tuple[int, ...] | None
    shape: Shape


def adapt(sample: Shape, wanted: Wanted | None) -> Adapted | None:
    """What makes a sample fit: nothing, HWC to CHW or back, an axis of size one, or flattening.

    None where none of these does.
    """
    if fits(sample, wanted):
        return Adapted("", None, sample)
    if len(sample) == len(wanted) == 3:
        for words, order, channel in (("HWC to CHW", (2, 0, 1), 0), ("CHW to HWC", (1, 2, 0), 2)):
            turned = tuple(sample[axis] for axis in order)
            if fits(turned, wanted) and wanted[channel] is not None:
                return Adapted(words, order, turned)
    for words, shape in (
        ("axis of size one added", (1, *sample)),
        ("axis of size one added", (*sample, 1)),
        ("axis of size one dropped", sample[1:] if sample[:1] == (1,) else None),
        ("axis of size one dropped", sample[:-1] if sample[-1:] == (1,) else None),
    ):
        if shape is not None and fits(shape, wanted):
            return Adapted(words, None, shape)
    known = tuple(size for size in wanted if size is not None)
    if len(known) == len(wanted) and min(len(sample), len(wanted)) <= 1 and prod(known) == prod(sample):
        return Adapted(f"{sample} laid out as {known}", None, known)
    return None


def image_axes(sample: Shape, layout: str | None, wanted: Wanted | None) -> str | None:
    """Axis order of a stored picture, "HW", "HWC" or "CHW"; None for what is no picture.

    An axis of 1, 3 or 4 is the channels'. Where that decides nothing, a sample that already fits the model
    has the model's order, and else the shorter of the outer axes is the channels'.
    """
    if len(sample) == 2:
        return "HW"
    if len(sample) != 3:
        return None
    first, last = sample[0] in _CHANNELS, sample[2] in _CHANNELS
    if first != last:
        return "CHW" if first else "HWC"
    if wanted is not None and fits(sample, wanted):
        return "HWC" if (layout or model_layout(wanted)) == "NHWC" else "CHW"
    return "CHW" if sample[0] < sample[2] else "HWC"


def model_layout(wanted: Wanted | None) -> str | None:
    """ "NCHW" or "NHWC" where the size of the model's channel axis says so, else None."""
    if wanted is None or len(wanted) != 3:
        return None
    first, last = wanted[0] in _CHANNELS, wanted[2] in _CHANNELS
    return None if first == last else "NCHW" if first else "NHWC"
