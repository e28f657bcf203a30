"""How do the scores of all neurons become one file, however many they are? On disk, block by block."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from onnxtweak.data.sources.npy import NO_ARRAY
from onnxtweak.disk_space import cannot_write, new_mapped, write_all, writing
from onnxtweak.errors import DataError
from onnxtweak.input_files import require_regular
from onnxtweak.temporary_files import temporary_file, temporary_folder, try_lock
from onnxtweak.theta.state import Scores
from onnxtweak.types import Progress, silent

_KINDS: dict[str, Any] = {"weight": np.float64, "count": np.int32, "lift": np.float64}
_DIGESTS = "digests.json"
# Larger tables are not left in the work directory: the output holds them as well.
_LARGEST = 2**30


class ScoreTables:
    """weight, count and lift (c, M) of every neuron, in files of their own until they are written as one.

    arrays : by name. In a work directory a digest of each part that was stored lies beside them: what was
    changed since is not used again.
    """

    def __init__(self, output: Path) -> None:
        """output : the tables lie next to this file where there is no work directory."""
        self._output = output
        self._stack = ExitStack()
        self._folder: Path | None = None  # in a work directory
        self._digests: dict[str, tuple[int, str]] = {}
        self.arrays: dict[str, np.memmap] = {}

    def begin(
        self, shape: tuple[int, int], folder: Path | None, resume: bool = False, progress: Progress = silent
    ) -> None:
        """Open them. shape : targets, neurons. folder : where a later run finds them; None: temporary.

        resume : use what an earlier run stored in the folder, unless another process is using it; `progress`
        is told where it is damaged. Raises OutputError.
        """
        try:
            place = self._own(folder)
        except OSError as error:
            raise cannot_write(folder or self._output, error, "scores") from error
        if resume and self._folder is not None and (place / _DIGESTS).exists():
            self._read(shape, progress)
        if self._digests:
            return
        try:
            for name, kind in _KINDS.items():
                (place / f"{name}.npy").unlink(missing_ok=True)
                self.arrays[name] = new_mapped(place / f"{name}.npy", kind, shape, folder or self._output)
        except BaseException:
            shutil.rmtree(place, ignore_errors=True)
            raise

    def hold(self, neurons: int) -> bool:
        """Whether an earlier run has stored the scores of the first `neurons` for every target."""
        ends = [0] * (len(self.arrays["weight"]) if self.arrays else 0)
        for key, (length, _) in sorted(self._digests.items(), key=lambda item: _place_of(item[0])):
            target, first = _place_of(key)
            if ends[target] == first:
                ends[target] += length
        return bool(self._digests) and all(end >= neurons for end in ends)

    def put(self, target: int, first: int, scores: Scores) -> None:
        """Store scores of one target, for neurons from number `first` on."""
        length = 0
        for name, array in self.arrays.items():
            part = getattr(scores, name)
            length = len(part)
            array[target, first : first + length] = part
        if self._folder is not None:
            self._digests[f"{target} {first}"] = length, self._digest(target, first, length)

    def flush(self) -> None:
        """Write everything stored so far to disk. Raises OutputError."""
        for array in self.arrays.values():
            array.flush()
        if self._folder is not None:
            with writing(self._folder, "scores"), temporary_file(self._folder) as (part, file):
                write_all(file, json.dumps(self._digests).encode())
                os.replace(part, self._folder / _DIGESTS)

    def close(self) -> None:
        """Delete the tables that no later run will look for."""
        size = sum(array.nbytes for array in self.arrays.values())
        self.arrays = {}
        if self._folder is not None and size > _LARGEST:
            shutil.rmtree(self._folder, ignore_errors=True)
        self._stack.close()

    def _own(self, folder: Path | None) -> Path:
        """The folder, held by this process alone; a temporary one where there is none, or it is in use."""
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            number = try_lock(folder)
            if number is not None:
                self._stack.callback(os.close, number)
                self._folder = folder
                return folder
        return self._stack.enter_context(temporary_folder(self._output.parent))

    def _read(self, shape: tuple[int, int], progress: Progress) -> None:
        """Take over what an earlier run stored, where it is as it was stored."""
        assert self._folder is not None
        try:
            for name in (_DIGESTS, *(f"{name}.npy" for name in _KINDS)):
                require_regular(self._folder / name, DataError)
            digests = json.loads((self._folder / _DIGESTS).read_text())
            self.arrays = {name: np.load(self._folder / f"{name}.npy", mmap_mode="r+") for name in _KINDS}
            fits = all(array.shape == shape and array.dtype == _KINDS[n] for n, array in self.arrays.items())
            for key, (length, digest) in digests.items() if fits else ():
                fits = fits and self._digest(*_place_of(key), length) == digest
            self._digests = (
                {key: (length, digest) for key, (length, digest) in digests.items()} if fits else {}
            )
        except (OSError, TypeError, AttributeError, IndexError, DataError, *NO_ARRAY):
            self._digests = {}
        if not self._digests:
            self.arrays = {}
            progress.remake("the scores of all neurons")

    def _digest(self, target: int, first: int, length: int) -> str:
        """sha256 of stored scores and of whose they are."""
        digest = hashlib.sha256(f"{self._folder and self._folder.name} {target} {first} {length}".encode())
        for array in self.arrays.values():
            digest.update(array[target, first : first + length].tobytes())
        return digest.hexdigest()


def _place_of(key: str) -> tuple[int, int]:
    """Target and first neuron of a stored part."""
    target, first = key.split(" ")
    return int(target), int(first)
