"""How are the tables of chosen neurons gathered? In one pass each, cached in the work directory by shards.

A run that is killed while it collects resumes after the last complete shard. A cached table belongs to one
model, samples, preprocessing, neurons and device.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np

from onnxtweak.data.splits import View
from onnxtweak.engine.passes import Engine
from onnxtweak.engine.scoring.checkpoint import load_arrays, save_arrays
from onnxtweak.errors import UsageError
from onnxtweak.method.table import Table, gather, most_neurons, stacked
from onnxtweak.stages.open_job import Job
from onnxtweak.stages.sample_notes import seen_in_training
from onnxtweak.types import Neurons

# A complete table larger than this is not left in the work directory: reading it takes long as well.
_LARGEST = 2**30


def table_limit(job: Job) -> int:
    """How many neurons the tables of fit and validation can hold. Raises UsageError for none."""
    return most_neurons(len(job.splits.fit) + len(job.splits.validation), job.engine)


def require_room(neurons: int, most: int, samples: int, where: str, hint: str) -> None:
    """Raise UsageError where tables of so many neurons need more memory than allowed, which holds `most`."""
    if neurons > most:
        raise UsageError(
            f"tables of {neurons:,} neurons for {samples:,} samples do not fit into the memory allowed",
            where=where,
            hint=hint,
        )


class TableShards:
    """The shards of one table, a file each."""

    def __init__(self, folder: Path, cache_key: str, engine: Engine) -> None:
        """cache_key : digest of what the table depends on. engine : for size of shards, reuse, progress."""
        self._folder, self._name = folder, f"table-{cache_key}-{engine.settings.shard}"
        self._resume, self._progress = engine.settings.resume, engine.progress

    def _file(self, number: int) -> Path:
        return self._folder / f"{self._name}-{number:05}.npz"

    def known(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """T and Z of the first shards, up to the first that is missing or damaged."""
        number = 0
        while (held := self._read(number)) is not None:
            try:
                part = held["T"], held["Z"]
            except KeyError:
                return
            yield part
            number += 1

    def _read(self, number: int) -> dict[str, np.ndarray] | None:
        file, what = self._file(number), "a table of chosen neurons"
        return load_arrays(file, look=self._resume, what=what, progress=self._progress)

    def add(self, number: int, T: np.ndarray, Z: np.ndarray) -> None:
        """Write a shard, whole or not at all."""
        save_arrays(self._file(number), {"T": T, "Z": Z})

    def clear(self) -> None:
        """Delete all files."""
        for file in self._folder.glob(f"{self._name}-*.npz"):
            file.unlink(missing_ok=True)


def gather_table(job: Job, view: View, neurons: Neurons, what: str) -> Table:
    """`gather` over a view of the job's samples."""
    settings = job.engine.settings
    if settings.work_dir is None or not len(neurons):
        return gather(job.subject, view, neurons, job.engine, what)
    cache_key = job.cache_key(
        rows=hashlib.sha256(view.dataset.digest.encode() + view.rows.astype("<i8").tobytes()).hexdigest(),
        taps=[asdict(tap) for tap in neurons.taps],
        tap_of=neurons.tap_of.tolist(),
        index=neurons.index.tolist(),
    )
    shards = TableShards(Path(settings.work_dir), cache_key, job.engine)
    table = gather(job.subject, view, neurons, job.engine, what, shards)
    if table.T.nbytes > _LARGEST:
        shards.clear()
    return table


def gather_tables(job: Job, neurons: Neurons) -> tuple[Table, Table]:
    """Tables of fit and validation."""
    fit = gather_table(job, job.splits.fit, neurons, "collect")
    if job.splits.validation is job.splits.fit:
        return fit, fit
    return fit, gather_table(job, job.splits.validation, neurons, "validate")


def learning_table(
    job: Job, tables: tuple[Table, Table], *, picked: bool = False, keep_validation: bool = False
) -> tuple[Table, np.ndarray, tuple[str, ...]]:
    """The samples that weights are fitted to, which of them (N,) bool choices are judged on, and notes.

    Weights are fitted to validation too, unless results are reported on it for want of a test split, or a
    certificate needs it. Choices are not judged on fit samples that the base has memorised, or that the
    neurons were chosen by.
    """
    fit = tables[0]
    right = [job.head.right(t.Z, t.labels) for t in tables]
    seen = seen_in_training(*right)
    notes = (f"{seen}; samples held out from training give better patches",) if seen else ()
    if job.splits.test is None or keep_validation:
        return fit, np.ones(len(fit.labels), bool), notes
    table = stacked(tables)
    memorised = right[0].mean() > right[1].mean() and bool(seen)
    if not memorised and not picked:
        return table, np.ones(len(table.labels), bool), notes
    reason = seen if memorised else "the neurons were chosen by the fit samples"
    judged = np.arange(len(table.labels)) >= len(fit.labels)
    return table, judged, (f"{reason}, so choices are judged on validation alone",)
