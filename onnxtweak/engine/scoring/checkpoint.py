"""How does a pass resume where it was killed? From its last checkpoint, and with the same bits.

Each file in a work directory ends with a digest of its name, which has the key of what it depends on, and of
its contents: one that was changed, damaged or renamed is not used.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from onnxtweak.disk_space import write_all
from onnxtweak.engine.scoring.score_file import npz
from onnxtweak.engine.scoring.sweep import Sweep
from onnxtweak.errors import OutputError
from onnxtweak.settings import EngineSettings
from onnxtweak.temporary_files import temporary_file
from onnxtweak.types import Progress, silent

_PIECE = 1 << 20  # bytes read at a time
# Saving takes at most one part in so many of a run's time.
_RARITY = 20
_ARRAYS = ("hi", "lo", "total", "peak", "bad")
# What is made in fewer seconds is made again rather than read.
_LONG = 1.0


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


class SavedSteps:
    """The state of what takes long, in the work directory: after a step, in place of that after the last."""

    def __init__(self, path: Path, settings: EngineSettings, what: str, progress: Progress = silent) -> None:
        """what : it is, for `progress`, which is told where the file is damaged."""
        self._file, self._look, self._what = path, settings.resume, what
        self._progress, self._saves, self._begin = progress, RareSaves(), time.monotonic()

    def known(self) -> dict[str, np.ndarray] | None:
        """The state that an earlier run saved last; None where it saved none."""
        return load_arrays(self._file, look=self._look, what=self._what, progress=self._progress)

    def add(self, state: Mapping[str, Any]) -> None:
        """Save the state, unless little has been done since the last one. Raises OutputError."""
        if time.monotonic() - self._begin >= _LONG:
            self._saves.save(lambda: save_arrays(self._file, state))


class KeptResults:
    """Finished results in the work directory, a file each, under all that they depend on."""

    def __init__(self, settings: EngineSettings, cache_key: str, progress: Progress = silent) -> None:
        """cache_key : digest of what all results depend on. settings : with a work directory."""
        assert settings.work_dir is not None
        self._folder, self._settings = Path(settings.work_dir), settings
        self._key, self._progress = cache_key, progress

    def __call__(self, name: str, make: Callable[[], Mapping[str, np.ndarray]]) -> Mapping[str, np.ndarray]:
        """The arrays that an earlier run made under a name, or those made now; kept if that took long.

        name : has all that they depend on besides the key. Raises OutputError.
        """
        path = self._file("made", name)
        look, begin = self._settings.resume, time.monotonic()
        made: Mapping[str, np.ndarray] | None
        made = load_arrays(path, look=look, what="what was learnt", progress=self._progress)
        if made is None:
            made = make()
            if time.monotonic() - begin >= _LONG:
                save_arrays(path, made)
        self._file("steps", name).unlink(missing_ok=True)
        return made

    def steps(self, name: str) -> SavedSteps:
        """Where the state is kept while the result of this name is made."""
        return SavedSteps(self._file("steps", name), self._settings, "what was being learnt", self._progress)

    def _file(self, kind: str, name: str) -> Path:
        digest = hashlib.sha256(f"{self._key} {name}".encode()).hexdigest()[:32]
        return self._folder / f"{kind}-{digest}.npz"


class RareSaves:
    """When is the state of a run to be saved? So rarely that it takes a small part of the time."""

    def __init__(self) -> None:
        self._saved, self._took = -np.inf, 0.0

    def save(self, write: Callable[[], None]) -> None:
        """Write it, unless it was written just before."""
        begin = time.monotonic()
        if begin - self._saved < _RARITY * self._took:
            return
        write()
        self._saved = time.monotonic()
        self._took = self._saved - begin


class Checkpoint:
    """One file in the work directory, for one scoring task and one block of neurons."""

    def __init__(self, path: Path, resume: bool) -> None:
        self.path, self.resume, self._saves = path, resume, RareSaves()

    @classmethod
    def at(cls, settings: EngineSettings, cache_key: str | None, block: int) -> Checkpoint | None:
        """The checkpoint of a block of a task; None without a work directory or a key. Raises OutputError."""
        if settings.work_dir is None or cache_key is None:
            return None
        folder = Path(settings.work_dir)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(
                f"cannot make the work directory: {os.strerror(error.errno or 0)}",
                where=folder,
                hint="name another with --work-dir",
            ) from error
        return cls(folder / f"half-{cache_key}-{block}-{settings.shard}.npz", settings.resume)

    def load(self, sweep: Sweep, progress: Progress = silent) -> None:
        """Bring a new sweep to where the file is; leave it alone where there is no file, or a damaged one."""
        found = load_arrays(self.path, look=self.resume, what="the state of scoring", progress=progress)
        if found is None:
            return
        try:
            at = int(found["at"])
            if not np.array_equal(found["cuts"], _cuts(sweep)):
                raise ValueError("the file belongs to other neurons")
            for k, state in enumerate(sweep.states):
                for name in _ARRAYS:
                    if found[f"{k}.{name}"].shape != getattr(state, name).shape:
                        raise ValueError("the file belongs to other taps")
            gaps = [found[f"gap.{j}"] for j in range(len(sweep.gaps))]
            saved = [
                (found[f"{k}.kept.0"], found[f"{k}.kept.1"], found[f"{k}.kept.2"])
                for k in range(len(sweep.survivors))
            ]
            overflowed = found["overflowed"]
        except (ValueError, KeyError):
            return
        for k, state in enumerate(sweep.states):
            for name in _ARRAYS:
                target = getattr(state, name)
                if isinstance(target, np.ndarray):
                    target[...] = found[f"{k}.{name}"]
                else:
                    target.set(found[f"{k}.{name}"])  # on a GPU
        for survivors, parts, lost in zip(sweep.survivors, saved, overflowed, strict=True):
            if survivors is not None:
                survivors.restore(*parts, bool(lost))
        sweep.predicted[:at] = found["predicted"]
        for own, values in zip(sweep.gaps, gaps, strict=True):
            own.append(values)
        sweep.at = at

    def save(self, get: Callable[[], Sweep]) -> None:
        """Write a sweep, completely or not at all, unless one was saved just before. Raises OutputError.

        get : the sweep, with states in NumPy.
        """
        self._saves.save(lambda: self._write(get()))

    def _write(self, sweep: Sweep) -> None:
        arrays: dict[str, np.ndarray] = {
            "at": np.array(sweep.at),
            "cuts": _cuts(sweep),
            "predicted": sweep.predicted[: sweep.at],
            "overflowed": np.array([one is None or one.overflowed for one in sweep.survivors]),
        }
        for k, state in enumerate(sweep.states):
            arrays |= {f"{k}.{name}": getattr(state, name) for name in _ARRAYS}
            survivors = sweep.survivors[k]
            found = (np.empty(0),) * 3 if survivors is None else survivors.all()
            arrays |= {f"{k}.kept.{part}": array for part, array in enumerate(found)}
        for j, parts in enumerate(sweep.gaps):
            arrays[f"gap.{j}"] = np.concatenate(parts)
        save_arrays(self.path, arrays)

    def clear(self) -> None:
        """Delete the file: the finished block is stored elsewhere."""
        self.path.unlink(missing_ok=True)


def _cuts(sweep: Sweep) -> np.ndarray:
    return np.array([(part.start, part.stop) for part in sweep.block], np.int64)
