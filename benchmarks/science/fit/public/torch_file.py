"""What does a file of PyTorch's `torch.save` hold? Arrays by name, read without PyTorch.

Both formats are read: the zip of today, and the row of pickles from before PyTorch 1.6. Whatever is neither a
tensor nor a plain container comes back as `None`.
"""

from __future__ import annotations

import io
import pickle
import zipfile
from collections.abc import Iterator
from typing import Any

import numpy as np

from benchmarks.science.fit.public.pickles import Reader, Stranger

DTYPES = {
    "FloatStorage": "<f4",
    "DoubleStorage": "<f8",
    "HalfStorage": "<f2",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "<i1",
    "ByteStorage": "<u1",
    "BoolStorage": "?",
}


class Storage:
    """The flat numbers behind tensors; of the older format they come after the tensors that refer to them."""

    def __init__(self, dtype: str) -> None:
        self.dtype, self.values = dtype, np.empty(0, dtype)


class Tensor:
    """A view of a storage: offset and strides in elements."""

    def __init__(self, storage: Storage, offset: int, shape: tuple, strides: tuple, *_: Any) -> None:
        self.storage, self.offset, self.shape, self.strides = storage, offset, tuple(shape), tuple(strides)

    def array(self) -> np.ndarray:
        values = self.storage.values[self.offset :]
        steps = tuple(stride * values.itemsize for stride in self.strides)
        return np.lib.stride_tricks.as_strided(values, self.shape, steps).copy()


class TorchReader(Reader):
    """Makes tensors too."""

    def __init__(self, file: io.BufferedIOBase, storages: dict[str, Storage]) -> None:
        super().__init__(file)
        self.storages = storages

    def find_class(self, module: str, name: str) -> Any:
        if name in ("_rebuild_tensor", "_rebuild_tensor_v2"):
            return Tensor
        if name == "_rebuild_parameter":
            return lambda tensor, *_: tensor
        if module == "torch" and name in DTYPES:
            return name
        return super().find_class(module, name)

    def persistent_load(self, pid: tuple) -> Any:
        if pid[0] != "storage":
            return None
        kind, key = pid[1:3]
        if key not in self.storages:
            self.storages[key] = Storage(DTYPES[kind])
        return self.storages[key]


def tensors(blob: bytes) -> dict[str, np.ndarray]:
    """Name -> array of all tensors in the file, nested names joined by dots."""
    whole = read_zip(blob) if blob[:2] == b"PK" else read_row(blob)
    return dict(walk(whole, ""))


def read_zip(blob: bytes) -> Any:
    storages: dict[str, Storage] = {}
    with zipfile.ZipFile(io.BytesIO(blob)) as archive:
        root = next(name for name in archive.namelist() if name.endswith("/data.pkl"))[: -len("data.pkl")]
        whole = TorchReader(io.BytesIO(archive.read(f"{root}data.pkl")), storages).load()
        for key, storage in storages.items():
            storage.values = np.frombuffer(archive.read(f"{root}data/{key}"), storage.dtype)
    return whole


def read_row(blob: bytes) -> Any:
    file, storages = io.BytesIO(blob), {}
    for _ in ("magic number", "protocol", "byte order"):
        pickle.Unpickler(file).load()
    whole = TorchReader(file, storages).load()
    for key in pickle.Unpickler(file).load():
        count = int.from_bytes(file.read(8), "little")
        storage = storages[key]
        storage.values = np.frombuffer(file.read(count * np.dtype(storage.dtype).itemsize), storage.dtype)
    return whole


def walk(value: Any, name: str) -> Iterator[tuple[str, np.ndarray]]:
    if isinstance(value, Tensor):
        yield name, value.array()
    elif isinstance(value, Stranger):
        yield from walk(value.state, name)
    elif isinstance(value, dict | list | tuple):
        for key, each in value.items() if isinstance(value, dict) else enumerate(value):
            yield from walk(each, f"{name}.{key}" if name else str(key))
