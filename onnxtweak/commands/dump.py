"""How are tables of hidden values and logits dumped? In shards on disk, batch by batch."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from onnxtweak.data.sources.npz import DAMAGE
from onnxtweak.engine.dump import check_directory, write_dump
from onnxtweak.errors import DataError
from onnxtweak.input_files import require_regular
from onnxtweak.results import Dumped
from onnxtweak.settings import DataSettings, EngineSettings, OutputSettings, TapSettings
from onnxtweak.stages.check_paths import check_folder, check_paths, files_named
from onnxtweak.stages.head_check import require_no_boxes
from onnxtweak.stages.open_job import open_whole
from onnxtweak.types import Neurons, Progress, Tap, silent


def dump(
    *,
    model: str,
    data: DataSettings,
    directory: str,
    engine: EngineSettings = EngineSettings(),
    taps: TapSettings = TapSettings(),
    force: bool = False,
    neurons: str | None = None,
    progress: Progress = silent,
) -> Dumped:
    """Tables V, Z and L of all samples as .npy shards in `directory`.

    neurons : a file that `score` wrote; V then holds its best neurons only. Raises InputError.
    """
    read = [Path(model), *files_named(data, engine), *([] if neurons is None else [Path(neurons)])]
    check_folder(directory, read)
    check_directory(Path(directory), force)
    check_paths(OutputSettings(), model, data, engine)
    job = open_whole(model, data, engine, taps, progress, watch=neurons is None)
    require_no_boxes(job.subject, "dumping tables")
    chosen = None if neurons is None else _best_neurons(neurons)
    watched = job.taps if chosen is None else ()
    tables, size = write_dump(
        directory, job.subject, job.splits.fit, job.engine, watched, chosen, force=force
    )
    return Dumped(
        directory=directory,
        shards=len(tables.shards),
        samples=sum(tables.shards),
        neurons=tables.columns,
        bytes=size,
        seconds=job.run.seconds,
        notes=job.splits.notes,
    )


def _best_neurons(path: str) -> Neurons:
    """The best neurons that a file of scores lists, each once."""
    require_regular(path, DataError)
    try:
        with Path(path).open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            taps = [Tap(**{**t, "shape": tuple(t["shape"])}) for t in json.loads(str(file["header"]))["taps"]]
            pairs = np.unique(np.stack([file["best_tap"], file["best_index"]], axis=1), axis=0)
            used = np.unique(pairs[:, 0])
            tap_of = np.searchsorted(used, pairs[:, 0]).astype(np.int32)
            return Neurons(tuple(taps[t] for t in used), tap_of, pairs[:, 1].astype(np.int64))
    except (KeyError, TypeError, IndexError, AttributeError, *DAMAGE) as error:
        raise DataError(
            "this is not a file of scores", where=path, hint="make one with `onnxtweak score -o FILE`"
        ) from error
