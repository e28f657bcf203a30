"""How are arrays kept in a work directory, so that what is damaged is not used?

Each file ends with a digest of its name, which has the key of what it depends on, and of its contents: one
that was changed, damaged or renamed is not used.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from onnxtweak.disk_space import write_all
from onnxtweak.engine.kept.npz import npz
from onnxtweak.errors import OutputError
from onnxtweak.temporary_files import temporary_file
from onnxtweak.types import Progress, silent

_PIECE = 1 << 20  # bytes read at a time


def save_arrays(path: Path, arrays: Mapping[str, Any]) -> None:
    """Write an .npz into a work directory, completely or not at all. Raises OutputError."""
    digest = _digest_of(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary_file(path.parent) as (part, file):
            for piece in npz({name: np.asarray(array, order="C") for name, array in arrays.items()}):
                digest.update(piece)
                write_all(file, piece)
            write_all(file, digest.digest())
            os.fsync(file.fileno())
            os.replace(part, path)
    except OSError as error:
        raise OutputError(
            f"cannot save the state of the run: {os.strerror(error.errno or 0)}",
            where=path.parent,
            hint="free some disk space, or run without --work-dir",
        ) from error


def load_arrays(
    path: Path, *, look: bool, what: str = "", progress: Progress = silent
) -> dict[str, np.ndarray] | None:
    """What `save_arrays` wrote; None where there is no such file, or it is damaged, or `look` is off.

    what : it is, for `progress`, which is told where the file is damaged.
    """
    if not look or not path.is_file():
        return None
    try:
        with path.open("rb") as file:
            if _intact(path, file):
                file.seek(0)
                with np.load(file, allow_pickle=False) as saved:
                    return {name: saved[name] for name in saved.files}
    except FileNotFoundError:  # another process has just removed it
        return None
    except OSError:
        pass
    progress.remake(what)
    return None


def _digest_of(path: Path) -> Any:
    return hashlib.sha256(f"{path.name}\n".encode())


def _intact(path: Path, file: BinaryIO) -> bool:
    """Whether an open file ends with its digest."""
    digest = _digest_of(path)
    left = os.fstat(file.fileno()).st_size - digest.digest_size
    while left > 0 and (piece := file.read(min(_PIECE, left))):
        digest.update(piece)
        left -= len(piece)
    return left == 0 and file.read() == digest.digest()
