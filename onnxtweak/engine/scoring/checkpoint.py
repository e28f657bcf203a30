"""A pass over samples that was killed goes on where it last saved, and ends with the same bits."""

from __future__ import annotations

import os
import time
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from onnxtweak.engine.scoring.sweep import Sweep
from onnxtweak.errors import OutputError
from onnxtweak.settings import EngineSettings
from onnxtweak.theta.state import ThetaState

# Saving takes at most one part in this many of a run's time.
_RARITY = 20
_ARRAYS = ("hi", "lo", "total", "peak", "bad")


def save_arrays(path: Path, arrays: Mapping[str, Any]) -> None:
    """Write an .npz into a work directory, whole or not at all. Raises OutputError."""
    part = path.with_name(f".{path.name}.part-{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as file:
            np.savez(file, **arrays)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise OutputError(
            f"the state of the run cannot be saved: {os.strerror(error.errno or 0)}",
            where=path.parent,
            hint="free some disk space, or run without --work-dir",
        ) from error


def load_arrays(path: Path, *, look: bool) -> dict[str, np.ndarray] | None:
    """What `save_arrays` wrote there; None where there is nothing, or it is damaged, or not to be looked at.

    Also takes away what a run that died while saving has left.
    """
    for part in path.parent.glob(f".{path.name}.part-*"):
        part.unlink(missing_ok=True)
    if not look or not path.is_file():
        return None
    try:
        # NumPy does not close a file that turns out to be damaged.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as held:
            return {name: held[name] for name in held.files}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None


class Checkpoint:
    """One file in the work directory, for one question and one block of neurons."""

    def __init__(self, path: Path, resume: bool) -> None:
        self.path, self.resume = path, resume
        self._saved, self._took = -np.inf, 0.0

    @classmethod
    def at(cls, settings: EngineSettings, asked: str | None, block: int) -> Checkpoint | None:
        """The checkpoint of a question, None where none is wanted. Raises OutputError."""
        if settings.work_dir is None or asked is None:
            return None
        folder = Path(settings.work_dir)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(
                f"the work directory cannot be made: {os.strerror(error.errno or 0)}",
                where=folder,
                hint="name another with --work-dir",
            ) from error
        return cls(folder / f"half-{asked}-{block}-{settings.shard}.npz", settings.resume)

    def load(self, sweep: Sweep) -> None:
        """Bring a new sweep to where the file is; leave it as it is where there is none, or a damaged one."""
        found = load_arrays(self.path, look=self.resume)
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
            kept = [[found[f"{k}.kept.{part}"] for part in range(3)] for k in range(len(sweep.kept))]
            lost = found["overflowed"]
        except (ValueError, KeyError):
            return
        for k, state in enumerate(sweep.states):
            for name in _ARRAYS:
                target = getattr(state, name)
                if isinstance(target, np.ndarray):
                    target[...] = found[f"{k}.{name}"]
                else:
                    target.set(found[f"{k}.{name}"])  # on a GPU
            if sweep.kept[k] is not None:
                sweep.kept[k].restore(*kept[k], bool(lost[k]))
        sweep.predicted[:at] = found["predicted"]
        for own, values in zip(sweep.gaps, gaps, strict=True):
            own.append(values)
        sweep.at = at

    def save(self, sweep: Sweep, host_state: Callable[[ThetaState], ThetaState]) -> None:
        """Write the sweep, whole or not at all, unless it was saved a short while ago."""
        begin = time.monotonic()
        if begin - self._saved < _RARITY * self._took:
            return
        arrays: dict[str, np.ndarray] = {
            "at": np.array(sweep.at),
            "cuts": _cuts(sweep),
            "predicted": sweep.predicted[: sweep.at],
            "overflowed": np.array([one is None or one.overflowed for one in sweep.kept]),
        }
        for k, state in enumerate(sweep.states):
            held = host_state(state)
            arrays |= {f"{k}.{name}": getattr(held, name) for name in _ARRAYS}
            kept = sweep.kept[k].all() if sweep.kept[k] is not None else (np.empty(0),) * 3
            arrays |= {f"{k}.kept.{part}": array for part, array in enumerate(kept)}
        for j, parts in enumerate(sweep.gaps):
            arrays[f"gap.{j}"] = np.concatenate(parts)
        save_arrays(self.path, arrays)
        self._saved = time.monotonic()
        self._took = self._saved - begin

    def clear(self) -> None:
        """Take the file away: what it was for is kept elsewhere."""
        self.path.unlink(missing_ok=True)


def _cuts(sweep: Sweep) -> np.ndarray:
    return np.array([(stretch.start, stretch.stop) for stretch in sweep.block], np.int64)
