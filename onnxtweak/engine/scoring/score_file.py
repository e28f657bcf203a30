"""How do the scores of all neurons become one file, however many there are? On disk, block by block."""

from __future__ import annotations

import shutil
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from onnxtweak.errors import OutputError
from onnxtweak.theta.state import Scores

_KINDS = {"weight": np.float64, "count": np.int32, "lift": np.float64}
_PIECE = 1 << 22  # bytes copied at a time
# Tables in the work directory larger than this are not left there: they lie in the output as well.
_LARGEST = 2**30


class ScoreTables:
    """weight, count and lift (c, M) of every neuron, in files until they are written as one.

    known : an earlier run filled them, as far as its state in the work directory says.
    """

    def __init__(self, output: Path) -> None:
        """output : beside this file they lie, where there is no work directory."""
        self._output = output
        self._folder: Path | None = None
        self._temporary = False
        self.known = False
        self.arrays: dict[str, np.memmap] = {}

    def begin(self, targets: int, neurons: int, folder: Path | None) -> None:
        """Open them. folder : where they may be found again. Raises OutputError."""
        try:
            self._temporary = folder is None
            self._folder = folder or Path(
                tempfile.mkdtemp(prefix=f".{self._output.name}.part-", dir=self._output.parent)
            )
            self._folder.mkdir(parents=True, exist_ok=True)
            shape = (targets, neurons)
            self.known = not self._temporary and all(self._there(name, shape) for name in _KINDS)
            self.arrays = {
                name: np.lib.format.open_memmap(
                    self._folder / f"{name}.npy", "r+" if self.known else "w+", kind, shape
                )
                for name, kind in _KINDS.items()
            }
        except OSError as error:
            raise OutputError(
                f"the scores cannot be written: {error.strerror or error}",
                where=self._folder or self._output.parent,
                hint="check the folder and the space left on the disk",
            ) from error

    def _there(self, name: str, shape: tuple[int, int]) -> bool:
        try:
            held = np.load(self._folder / f"{name}.npy", mmap_mode="r")
        except (OSError, ValueError):
            return False
        return held.shape == shape and held.dtype == _KINDS[name]

    def put(self, target: int, first: int, scores: Scores) -> None:
        """Scores of one target and of neurons from number `first` on."""
        for name, array in self.arrays.items():
            part = getattr(scores, name)
            array[target, first : first + len(part)] = part

    def flush(self) -> None:
        """Everything that was put is on the disk."""
        for array in self.arrays.values():
            array.flush()

    def close(self) -> None:
        """Take away what is of no further use."""
        size = sum(array.nbytes for array in self.arrays.values())
        self.arrays = {}
        if self._folder is not None and (self._temporary or size > _LARGEST):
            shutil.rmtree(self._folder, ignore_errors=True)


class _Pieces:
    """A file that hands on what is written to it."""

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
    """An .npz of C-contiguous arrays, piece by piece; the same bytes for the same arrays."""
    out = _Pieces()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as whole:
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
