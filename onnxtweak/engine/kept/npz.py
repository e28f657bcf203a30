"""How do arrays of any size become one .npz file? Piece by piece, with the same bytes each time."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Mapping
from typing import BinaryIO, cast

import numpy as np

_PIECE = 1 << 22  # bytes copied at a time


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
