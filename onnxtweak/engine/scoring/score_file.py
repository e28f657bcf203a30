"""How do the scores of all neurons become one file, however many they are? On disk, block by block."""

from __future__ import annotations

import shutil
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np

from onnxtweak.errors import OutputError
from onnxtweak.theta.state import Scores

_KINDS: dict[str, Any] = {"weight": np.float64, "count": np.int32, "lift": np.float64}
_PIECE = 1 << 22  # bytes copied at a time
# Larger tables are not left in the work directory: the output holds them as well.
_LARGEST = 2**30


class ScoreTables:
    """weight, count and lift (c, M) of every neuron, in files of their own until they are written as one.

    known : an earlier run filled them, as far as its state in the work directory says. arrays : by name.
    """

    def __init__(self, output: Path) -> None:
        """output : the tables lie next to this file where there is no work directory."""
        self._output = output
        self._folder: Path | None = None
        self._temporary = False
        self.known = False
        self.arrays: dict[str, np.memmap] = {}

    def begin(self, targets: int, neurons: int, folder: Path | None) -> None:
        """Open them. folder : where a later run finds them again; None: temporary. Raises OutputError."""
        shape, self._temporary = (targets, neurons), folder is None
        try:
            if folder is None:
                prefix = f".{self._output.name}.part-"
                folder = Path(tempfile.mkdtemp(prefix=prefix, dir=self._output.parent))
            self._folder = folder
            folder.mkdir(parents=True, exist_ok=True)
            self.known = not self._temporary and all(_holds(folder, name, shape) for name in _KINDS)
            self.arrays = {
                name: np.lib.format.open_memmap(
                    folder / f"{name}.npy", "r+" if self.known else "w+", kind, shape
                )
                for name, kind in _KINDS.items()
            }
        except OSError as error:
            raise OutputError(
                f"cannot write the scores: {error.strerror or error}",
                where=folder or self._output.parent,
                hint="check the folder's permissions and the free disk space",
            ) from error

    def put(self, target: int, first: int, scores: Scores) -> None:
        """Store scores of one target, for neurons from number `first` on."""
        for name, array in self.arrays.items():
            part = getattr(scores, name)
            array[target, first : first + len(part)] = part

    def flush(self) -> None:
        """Write everything stored so far to disk."""
        for array in self.arrays.values():
            array.flush()

    def close(self) -> None:
        """Delete the tables that no later run will look for."""
        size = sum(array.nbytes for array in self.arrays.values())
        self.arrays = {}
        if self._folder is not None and (self._temporary or size > _LARGEST):
            shutil.rmtree(self._folder, ignore_errors=True)


def _holds(folder: Path, name: str, shape: tuple[int, int]) -> bool:
    """Whether the folder holds a table of that name and shape."""
    try:
        held = np.load(folder / f"{name}.npy", mmap_mode="r")
    except (OSError, ValueError):
        return False
    return bool(held.shape == shape and held.dtype == _KINDS[name])


class _Pieces:
    """A file that only collects what is written to it, until it is taken."""

    def __init__(self) -> None:
        self._held: list[bytes] = []

    def write(self, data: bytes) -> int:
        self._held.append(bytes(data))
        return len(data)

    def flush(self) -> None:
        return None

    def take(self) -> bytes:
        held, self._held = b"".join(self._held), []
        return held


def npz(arrays: Mapping[str, np.ndarray]) -> Iterator[bytes]:
    """An .npz of C-contiguous arrays, piece by piece; equal arrays give equal bytes."""
    out = _Pieces()
    with zipfile.ZipFile(cast(BinaryIO, out), "w", zipfile.ZIP_STORED) as whole:
        for name, array in arrays.items():
            with whole.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as file:
                header = np.lib.format.header_data_from_array_1_0(array)
                np.lib.format.write_array_header_1_0(file, header)
                flat = np.asarray(array).reshape(-1)
                step = max(1, _PIECE // max(flat.itemsize, 1))
                for start in range(0, len(flat), step):
                    file.write(flat[start : start + step].tobytes())
                    yield out.take()
    yield out.take()
