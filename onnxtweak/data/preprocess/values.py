"""How are stored values scaled, normalised and cast to the model's dtype? No value is lost silently."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from onnxtweak.data.samples import Column, InputSpec
from onnxtweak.errors import DataError
from onnxtweak.settings import Preprocess

# Numbers of the smallest images: fewer bytes per sample are the columns of a table, which nobody scales.
SMALLEST_IMAGE = 64


@dataclass(frozen=True)
class Arithmetic:
    """`(x * scale - mean) / std` in dtype `work`, then cast to `dtype`; a step that is None is skipped.

    where : how messages name the column. mean, std : shaped to broadcast against a batch. finite : whether to
    check for NaN and infinity. exact : whether to check that the cast loses nothing. raw : whether a float
    input gets an image's bytes unscaled. words : the steps as text.
    """

    where: str
    dtype: np.dtype
    work: np.dtype
    scale: float | None = None
    mean: np.ndarray | None = None
    std: np.ndarray | None = None
    finite: bool = False
    exact: bool = False
    raw: bool = False
    words: tuple[str, ...] = ()


def plan_values(
    column: Column, spec: InputSpec, preprocess: Preprocess, sample: tuple[int, ...], channel: int | None
) -> Arithmetic:
    """How values of `column` become input `spec`.

    sample : shape of one arranged sample. channel : channel axis of a batch of these, None without one.
    Raises DataError for dtypes that would lose information, and for a mean or std of the wrong length.
    """
    stored, dtype = column.dtype, _model_dtype(spec, preprocess)
    scaled = (preprocess.pixel_scale, preprocess.mean, preprocess.std) != (None, None, None)
    _check_kinds(stored, dtype, scaled, column, spec)
    work = np.dtype(np.float64 if dtype == np.float64 else np.float32) if scaled else dtype
    words = []
    if preprocess.pixel_scale is not None:
        words.append(f"times {preprocess.pixel_scale:.6g}")
    if preprocess.mean is not None:
        words.append(f"minus {_listed(preprocess.mean)}")
    if preprocess.std is not None:
        words.append(f"divided by {_listed(preprocess.std)}")
    if stored.newbyteorder("=") != dtype:
        words.append(f"cast to {spec.dtype}")
    whole_numbers = stored.kind in "biu" and dtype.kind in "biu"
    return Arithmetic(
        where=column.where,
        dtype=dtype,
        work=work,
        scale=preprocess.pixel_scale,
        mean=_broadcast(preprocess.mean, "mean", sample, channel, work, column),
        std=_broadcast(preprocess.std, "std", sample, channel, work, column),
        # The largest float16 is 65504: integers may overflow.
        finite=dtype.kind not in "biuO" and (stored.kind == "f" or dtype.itemsize == 2),
        exact=whole_numbers and not np.can_cast(stored, dtype, "safe"),
        raw=stored == np.uint8 and dtype.kind == "f" and not scaled and math.prod(sample) >= SMALLEST_IMAGE,
        words=tuple(words),
    )


def to_values(batch: np.ndarray, how: Arithmetic, locate: Callable[[int], str]) -> np.ndarray:
    """A batch (n, ...) with the model's values and dtype. Raises DataError, naming the first bad row."""
    with np.errstate(over="ignore", invalid="ignore"):
        values = batch.astype(how.work, order="C", copy=_changes(how))
        if how.scale is not None:
            values *= how.work.type(how.scale)
        if how.mean is not None:
            values -= how.mean
        if how.std is not None:
            values /= how.std
        values = values.astype(how.dtype, copy=False)
    if how.finite and not np.isfinite(values).all():
        row = int(np.isfinite(values).reshape(len(values), -1).all(axis=1).argmin())
        raise DataError("NaN or infinity in a sample", where=locate(row), hint="repair or remove the sample")
    if how.exact and not np.array_equal(values, batch):
        row = int((values == batch).reshape(len(values), -1).all(axis=1).argmin())
        raise DataError(
            f"a value does not fit into the model's {how.dtype}",
            where=locate(row),
            hint="check the values in the array",
        )
    return values


def _changes(how: Arithmetic) -> bool:
    return how.scale is not None or how.mean is not None or how.std is not None


def _model_dtype(spec: InputSpec, preprocess: Preprocess) -> np.dtype:
    try:
        dtype = np.dtype(spec.dtype)
    except TypeError as error:
        raise DataError(
            f"samples cannot be cast to {spec.dtype}",
            where=f"input `{spec.name}`",
            hint="use a model whose inputs are of a plain numeric type",
        ) from error
    if preprocess.dtype not in (None, spec.dtype):
        raise DataError(
            f"dtype is {preprocess.dtype}, but the model's input `{spec.name}` expects {spec.dtype}",
            where="preprocess",
            hint="remove dtype: samples are cast to what the model expects",
        )
    return dtype


def _check_kinds(stored: np.dtype, dtype: np.dtype, scaled: bool, column: Column, spec: InputSpec) -> None:
    what = f"samples are {stored}, but the model's input `{spec.name}` expects {spec.dtype}"
    if (stored.kind in "US") != (dtype.kind == "O"):
        raise DataError(
            what, where=column.where, hint="store the type that the model expects, numbers or text"
        )
    if dtype.kind in "biuO" and scaled:
        raise DataError(
            f"the model's input `{spec.name}` expects {spec.dtype}, but pixel scale, mean or std was given",
            where="preprocess",
            hint="remove them: the model takes the values as they are",
        )
    if dtype.kind in "biu" and stored.kind == "f":
        raise DataError(what, where=column.where, hint=f"store the samples as {spec.dtype}")


def _broadcast(
    numbers: tuple[float, ...] | None,
    option: str,
    sample: tuple[int, ...],
    channel: int | None,
    work: np.dtype,
    column: Column,
) -> np.ndarray | None:
    if numbers is None:
        return None
    array = np.array(numbers, work)
    if len(array) == 1:
        return array.reshape(())
    shape = [1] * (len(sample) + 1)
    if channel is None or len(array) != sample[channel - 1]:
        channels = "no channels" if channel is None else f"{sample[channel - 1]} channels"
        raise DataError(
            f"{option} has {len(array)} numbers, but samples have {channels}",
            where=column.where,
            hint="give one number, or one per channel",
        )
    shape[channel] = len(array)
    return array.reshape(shape)


def _listed(numbers: tuple[float, ...]) -> str:
    text = " ".join(f"{number:.6g}" for number in numbers[:4])
    return f"{text} ..." if len(numbers) > 4 else text
