"""Which preprocessing steps turn a stored sample into the model's input?

A `PreprocessPlan` is made once per input and source, from shapes and dtypes alone, so that a misfit is
reported before anything runs; then it is applied to each batch. Without options only axes and dtype are
adapted, never the values.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import get_args

import numpy as np

from onnxtweak.data.preprocess import transforms
from onnxtweak.data.preprocess.shapes import Shape, adapt, fits, image_axes, model_layout
from onnxtweak.data.preprocess.sizes import describe, resized
from onnxtweak.data.preprocess.values import Arithmetic, plan_values, to_values
from onnxtweak.data.samples import Column, InputSpec
from onnxtweak.errors import DataError
from onnxtweak.settings import Preprocess, ResizeMode

Step = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class PreprocessPlan:
    """How a stored batch becomes the model's input.

    stored : shape and dtype of a stored sample, as text. arrange : steps on the whole batch (n, ...); then
    comes `arithmetic` on the values, and each sample is reshaped to `shape`. words : the steps, in order.
    flipped : axis of the sample that is then reversed, None: none.
    """

    spec: InputSpec
    stored: str
    arrange: tuple[Step, ...]
    arithmetic: Arithmetic
    shape: Shape
    words: tuple[str, ...]
    flipped: int | None = None

    def describe(self) -> str:
        """(32, 32, 3) uint8 -> (3, 32, 32) float32: HWC to CHW, times 0.0039, ..."""
        steps = ", ".join(self.words) or "unchanged"
        return f"{self.stored} -> {self.shape} {self.spec.dtype}: {steps}"


def mirrored(plan: PreprocessPlan) -> PreprocessPlan | None:
    """The plan with left and right exchanged at its end; None where the model's input is no image."""
    layout = model_layout(plan.shape) if plan.spec.dtype != "object" else None
    if layout is None:
        return None
    width = 2 if layout == "NCHW" else 1
    return replace(plan, flipped=width) if plan.shape[width] > 1 else None


def check_preprocess(preprocess: Preprocess) -> None:
    """Raise DataError for options that no model can use."""
    if preprocess.resize is None and preprocess.resize_mode not in (None, "exact"):
        raise _refused(f"resize mode {preprocess.resize_mode} without a size", "give resize as well")
    if preprocess.resize_mode not in (None, *get_args(ResizeMode)):
        raise _refused(f"unknown resize mode {preprocess.resize_mode}", "use exact, short or letterbox")
    if preprocess.crop and preprocess.resize and any(np.greater(preprocess.crop, preprocess.resize)):
        raise _refused(
            f"crop {preprocess.crop} is larger than resize {preprocess.resize}",
            "crop to at most the resized height and width",
        )
    if preprocess.layout not in (None, "NCHW", "NHWC"):
        raise _refused(f"unknown layout {preprocess.layout}", "use NCHW or NHWC")
    if preprocess.color not in (None, "RGB", "BGR", "GRAY"):
        raise _refused(f"unknown color {preprocess.color}", "use RGB, BGR or GRAY")


def wants_image(preprocess: Preprocess) -> bool:
    """Whether an option is set that only makes sense for images."""
    return any((preprocess.resize, preprocess.crop, preprocess.color, preprocess.layout))


def make_plan(column: Column, spec: InputSpec, preprocess: Preprocess) -> PreprocessPlan:
    """How samples of `column` become input `spec`. Raises DataError with both shapes where they cannot."""
    sample = column.shape[1:]
    per_channel = any(v is not None and len(v) > 1 for v in (preprocess.mean, preprocess.std))
    words: list[str] = []
    arrange: list[Step] = []
    channel = 1 if len(sample) == 1 else None
    if wants_image(preprocess) or (per_channel and len(sample) > 1):
        sample, channel = _arrange_image(column, spec, preprocess, words, arrange)
        explicit = preprocess.layout is not None
    else:
        explicit = False
    adapted = adapt(sample, spec.sample)
    if adapted is None or (adapted.order and explicit):
        raise _misfit(sample, column, spec, preprocess)
    if adapted.order:
        arrange.append(partial(np.transpose, axes=(0, *(axis + 1 for axis in adapted.order))))
    arithmetic = plan_values(column, spec, preprocess, sample, channel)
    words += ([adapted.words] if adapted.words and adapted.order else []) + list(arithmetic.words)
    words += [adapted.words] if adapted.words and not adapted.order else []
    return PreprocessPlan(
        spec, f"{column.shape[1:]} {column.dtype}", tuple(arrange), arithmetic, adapted.shape, tuple(words)
    )


def apply_plan(plan: PreprocessPlan, batch: np.ndarray, locate: Callable[[int], str]) -> np.ndarray:
    """A stored batch (n, ...) as the model's input, C-contiguous. locate : how a message names row i of it.

    Raises DataError for NaN or infinity, and for integers that the model's dtype cannot hold.
    """
    for step in plan.arrange:
        batch = step(batch)
    values = to_values(batch, plan.arithmetic, locate)
    values = values.reshape(len(batch), *plan.shape)
    if plan.flipped is not None:
        values = np.flip(values, 1 + plan.flipped)
    return np.ascontiguousarray(values)


def _arrange_image(
    column: Column, spec: InputSpec, preprocess: Preprocess, words: list[str], arrange: list[Step]
) -> tuple[Shape, int]:
    """Append the steps up to the layout of the model.

    Returns the shape of a sample after them, and the channel axis of a batch.
    """
    stored = column.shape[1:]
    axes = column.axes or image_axes(stored, preprocess.layout, spec.sample)
    if axes is None or column.dtype.kind not in "biuf":
        raise DataError(
            f"samples of shape {stored} and type {column.dtype} are not images",
            where=column.where,
            hint="remove resize, crop, color, layout, and mean or std per channel",
        )
    if axes == "HW":
        height, width, channels = (*stored, 1)
        arrange.append(partial(np.expand_dims, axis=3))
    elif axes == "CHW":
        channels, height, width = stored
        arrange.append(partial(np.transpose, axes=(0, 2, 3, 1)))
    else:
        height, width, channels = stored
    wanted = resized((height, width), preprocess)
    if wanted != (height, width) and not column.sized:
        if column.dtype != np.uint8 and column.dtype.kind != "f":
            raise DataError(
                f"images of {column.dtype} cannot be resized",
                where=column.where,
                hint="store them as uint8 or float",
            )
        transforms.pillow_decoder()  # a missing Pillow is reported now
        height, width = wanted
        words.append(describe(preprocess))
        arrange.append(partial(transforms.resize, preprocess=preprocess))
    if preprocess.crop and preprocess.crop != (height, width):
        if any(np.greater(preprocess.crop, (height, width))):
            raise DataError(
                f"images of {height} x {width} are smaller than the crop {preprocess.crop}",
                where=column.where,
                hint="resize before cropping",
            )
        height, width = preprocess.crop
        words.append(f"central {height} x {width}")
        arrange.append(partial(transforms.crop, size=preprocess.crop))
    if preprocess.color:
        if channels not in (1, 3):
            raise DataError(
                f"the images have {channels} channels, but color needs 1 or 3",
                where=column.where,
                hint="remove color",
            )
        channels = 1 if preprocess.color == "GRAY" else 3
        words.append(f"colour {preprocess.color}")
        arrange.append(partial(transforms.recolor, color=preprocess.color))
    layout = preprocess.layout or _layout((height, width, channels), axes, spec)
    if (axes == "CHW") != (layout == "NCHW"):
        words.append("HWC to CHW" if layout == "NCHW" else "CHW to HWC")
    if layout == "NHWC":
        return (height, width, channels), 3
    arrange.append(partial(np.transpose, axes=(0, 3, 1, 2)))
    return (channels, height, width), 1


def _layout(image: Shape, axes: str, spec: InputSpec) -> str:
    """The layout in which an image (h, w, c) fits the model; NCHW, the ONNX convention, where both do."""
    if spec.sample is None:
        return "NCHW" if axes == "CHW" else "NHWC"
    chw = fits((image[2], *image[:2]), spec.sample)
    return "NCHW" if chw or model_layout(spec.sample) == "NCHW" else "NHWC"


def _misfit(sample: Shape, column: Column, spec: InputSpec, preprocess: Preprocess) -> DataError:
    wanted = tuple("any" if size is None else size for size in spec.sample or ())
    shape = "(" + ", ".join(map(str, wanted)) + ("," if len(wanted) == 1 else "") + ")"
    stored = column.shape[1:]
    after = "" if sample == stored else f", {sample} after preprocessing"
    return DataError(
        f"samples are {stored}{after}, but the model's input `{spec.name}` expects {shape}",
        where=column.where,
        hint=_remedy(sample, column, spec, preprocess),
    )


def _remedy(sample: Shape, column: Column, spec: InputSpec, preprocess: Preprocess) -> str:
    known = column.axes if sample == column.shape[1:] else None
    axes = known or image_axes(sample, preprocess.layout, spec.sample)
    if axes is None or spec.sample is None or len(spec.sample) != 3:
        return "store the samples in the shape that the model expects"
    layout = model_layout(spec.sample) or "NCHW"
    if preprocess.layout and preprocess.layout != layout:
        return f"the model seems to expect layout {layout}"
    channels, *size = spec.sample if layout == "NCHW" else (spec.sample[2], *spec.sample[:2])
    have = {"HW": (1, *sample), "HWC": (sample[-1], *sample[:2]), "CHW": sample}[axes]
    remedies = []
    if channels not in (None, have[0]):
        color = {1: "GRAY", 3: "RGB"}.get(channels)
        if color is None:
            return f"store samples of {channels} channels"
        remedies.append(f"color to {color}")
    if any(want not in (None, got) for want, got in zip(size, have[1:], strict=True)):
        remedies.append(f"resize (or crop) to {size[0]} x {size[1]}")
    return "set " + " and ".join(remedies or [f"layout to {layout}"])


def _refused(what: str, hint: str) -> DataError:
    return DataError(what, where="preprocess", hint=hint)
