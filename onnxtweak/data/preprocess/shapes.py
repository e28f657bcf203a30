"""Which reordering or reshaping of axes gives a stored sample the shape that the model expects?"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

Shape = tuple[int, ...]
Wanted = tuple[int | None, ...]

_CHANNELS = (1, 3, 4)


def fits(sample: Shape, wanted: Wanted | None) -> bool:
    """Whether the model accepts a sample of this shape."""
    return wanted is None or (
        len(sample) == len(wanted) and all(w in (None, s) for s, w in zip(sample, wanted, strict=True))
    )


@dataclass(frozen=True)
class Adapted:
    """How a sample is made to fit: its axes permuted by `order` (None: kept), then reshaped to `shape`.

    words : the step as text, empty for none.
    """

    words: str
    order: tuple[int, ...] | None
    shape: Shape


def adapt(sample: Shape, wanted: Wanted | None) -> Adapted | None:
    """What makes a sample fit: no change, HWC to CHW or back, an axis of size one, or flattening.

    None where none of these does.
    """
    if wanted is None or fits(sample, wanted):
        return Adapted("", None, sample)
    if len(sample) == len(wanted) == 3:
        for words, order, channel in (("HWC to CHW", (2, 0, 1), 0), ("CHW to HWC", (1, 2, 0), 2)):
            transposed = tuple(sample[axis] for axis in order)
            if fits(transposed, wanted) and wanted[channel] is not None:
                return Adapted(words, order, transposed)
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
        return Adapted(f"{sample} reshaped to {known}", None, known)
    return None


def image_axes(sample: Shape, layout: str | None, wanted: Wanted | None) -> str | None:
    """Axis order of a stored image, "HW", "HWC" or "CHW"; None for anything but an image.

    An outer axis of size 1, 3 or 4 counts channels. Where that does not decide, a sample that already fits
    the model has the model's order; otherwise the shorter of the outer axes counts channels.
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
    """The model's layout, "NCHW" or "NHWC", where the size of its channel axis tells, else None."""
    if wanted is None or len(wanted) != 3:
        return None
    first, last = wanted[0] in _CHANNELS, wanted[2] in _CHANNELS
    return None if first == last else "NCHW" if first else "NHWC"
