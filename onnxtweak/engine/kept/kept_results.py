"""How does what takes long go on where it was killed? After what is finished, from its last state."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from onnxtweak.engine.kept.saved_arrays import load_arrays, save_arrays
from onnxtweak.settings import EngineSettings
from onnxtweak.types import Progress, silent

# Saving takes at most one part in so many of a run's time.
_RARITY = 20
# What is made in fewer seconds is made again rather than read.
_LONG = 1.0


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
