"""How do arrays, tables and loaders of other libraries present themselves? Stand-ins for their protocols."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np


class Tensor:
    """As of PyTorch or TensorFlow: an array by `__array__` alone."""

    def __init__(self, values: np.ndarray) -> None:
        self.values = values

    def __array__(self, dtype: object = None, copy: bool | None = None) -> np.ndarray:
        return self.values


class DLPackTensor:
    """An array by DLPack alone."""

    def __init__(self, values: np.ndarray) -> None:
        self.values = values

    def __dlpack__(self, **asked: object) -> object:
        return self.values.__dlpack__(**asked)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.values.__dlpack_device__()


class TensorOnDevice(Tensor):
    """A tensor in a GPU's memory, which will not be converted."""

    def __array__(self, dtype: object = None, copy: bool | None = None) -> np.ndarray:
        raise TypeError("can't convert cuda:0 device type tensor to numpy\nsecond line")


class Frame:
    """As of pandas and polars: columns by name, each of which gives its values as an array."""

    def __init__(self, columns: dict[object, np.ndarray]) -> None:
        self.held = columns

    @property
    def columns(self) -> list[object]:
        return list(self.held)

    def __getitem__(self, name: object) -> Series:
        return Series(self.held[name])

    def __len__(self) -> int:
        return len(next(iter(self.held.values())))

    def __dataframe__(self, **asked: object) -> object:
        raise AssertionError("columns are asked for by name")


class Series:
    """A column of a `Frame`."""

    def __init__(self, values: np.ndarray) -> None:
        self.values = values

    def to_numpy(self) -> np.ndarray:
        return self.values

    def __array__(self, dtype: object = None, copy: bool | None = None) -> np.ndarray:
        return self.values

    def __arrow_c_stream__(self, requested: object = None) -> object:
        raise AssertionError("a column is an array")


class Loader:
    """As PyTorch's DataLoader: lists of two tensors, as often as asked. begun : how often that was."""

    def __init__(self, x: np.ndarray, y: np.ndarray, size: int) -> None:
        self.x, self.y, self.size, self.begun = x, y, size, 0

    def __iter__(self) -> Iterator[list[Tensor]]:
        self.begun += 1
        for first in range(0, len(self.y), self.size):
            rows = slice(first, first + self.size)
            yield [Tensor(self.x[rows]), Tensor(self.y[rows])]
