"""How do samples become what a model's inputs take? Samples along the right axis, constants beside them.

Samples are kept one per row everywhere else. What a session is fed is made here, at the last moment.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from onnxtweak.data.samples import Value
from onnxtweak.engine.session import Port, Session
from onnxtweak.errors import UsageError


@dataclass(frozen=True)
class ConstantInput:
    """An input that gets one value for all samples, in every place.

    port : as the file declares it; sizes that are not known are 1, except that of `axis`, which counts
    samples. axis : None where the input has no such axis.
    """

    port: Port
    axis: int | None
    value: Value

    def array(self, samples: int) -> np.ndarray:
        """What a run on so many samples is fed."""
        sizes = enumerate(self.port.shape)
        shape = tuple(size or (samples if axis == self.axis else 1) for axis, size in sizes)
        return np.full(shape, self.value, _dtype(self.port))


def constant_input(
    port: Port, axis: int | None, value: Value, shape: tuple[int | str | None, ...] | None
) -> ConstantInput:
    """An input of the value that the user gave it. shape : as declared, with symbols.

    Raises UsageError where the value does not fit the input's type, or a size is not known.
    """
    where = f"--input {port.name}={value}"
    unknown = [
        f"{number}{f' ({size})' if size else ''}"
        for number, size in enumerate(shape or ())
        if not isinstance(size, int) and number != axis
    ]
    if unknown:
        raise UsageError(
            f"the size of axis {' and '.join(unknown)} is not known, so one value cannot fill the input",
            where=where,
            hint=f"store an array `{port.name}` with one row per sample beside the samples",
        )
    dtype = _dtype(port)
    try:
        fits = dtype.kind == "O" or np.array(value).astype(dtype) == np.array(value) or dtype.kind == "f"
    except (ValueError, TypeError, OverflowError):
        fits = False
    if not fits:
        raise UsageError(
            f"the input takes {port.dtype}, which cannot hold {value}",
            where=where,
            hint="give a value of that type",
        )
    return ConstantInput(port, axis, value)


@dataclass(frozen=True)
class Feeding:
    """What the inputs take. axes : by input, which axis counts samples, the first where it is not named; None
    where none does. constants : by input.
    """

    axes: Mapping[str, int | None] = field(default_factory=dict)
    constants: Mapping[str, ConstantInput] = field(default_factory=dict)

    def fed(self, samples: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
        """What the named inputs take. samples : (n, ...) by input; NumPy arrays, or CuPy's on a GPU."""
        count = len(next(iter(samples.values())))
        return {
            name: self.constants[name].array(count)
            if name in self.constants
            else _moved(samples[name], self.axes.get(name))
            for name in names
        }

    def filled(self, session: Session, samples: Mapping[str, Any]) -> dict[str, Any]:
        """What all inputs of a file take: those that the logits do not need are filled with ones."""
        known = {port.name for port in session.inputs if port.name in samples or port.name in self.constants}
        count = len(next(iter(samples.values())))
        made = {
            port.name: ConstantInput(port, self.axes.get(port.name, 0), _filler(port)).array(count)
            for port in session.inputs
            if port.name not in known and port.dtype not in (None, "bfloat16")
        }
        return made | self.fed(samples, known)


def _moved(value: Any, axis: int | None) -> Any:
    """Rows (n, ...) with the first axis at `axis`, C-contiguous."""
    if not axis:
        return value
    order = [*range(1, axis + 1), 0, *range(axis + 1, value.ndim)]
    return value.transpose(order).copy()


def _dtype(port: Port) -> np.dtype:
    return np.dtype(np.float32 if port.dtype in (None, "bfloat16") else port.dtype)


def _filler(port: Port) -> Value:
    return "" if port.dtype == "object" else 1
