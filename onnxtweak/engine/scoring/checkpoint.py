"""How does scoring resume where it was killed? From its last checkpoint, and with the same bits."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

from onnxtweak.engine.kept.kept_results import RareSaves
from onnxtweak.engine.kept.saved_arrays import load_arrays, save_arrays
from onnxtweak.engine.scoring.sweep import Sweep
from onnxtweak.errors import OutputError
from onnxtweak.settings import EngineSettings
from onnxtweak.types import Progress, silent

_ARRAYS = ("hi", "lo", "total", "peak", "bad")


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
