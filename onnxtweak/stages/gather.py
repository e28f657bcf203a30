"""Tables of chosen neurons, kept shard by shard for the next run where asked to, as theta is.

A run that is killed while it collects goes on at the last whole shard. What is kept belongs to one question:
model, samples, what is done to them, neurons, device.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np

from onnxtweak.data.splits import View
from onnxtweak.engine.scoring.checkpoint import load_arrays, save_arrays
from onnxtweak.method.table import Table, gather, stacked
from onnxtweak.stages.open_job import Job
from onnxtweak.stages.sample_notes import seen_in_training
from onnxtweak.types import Neurons

# A whole table larger than this is not left in the work directory: reading it takes long as well.
_LARGEST = 2**30


class TableShards:
    """The shards of one table, a file each."""

    def __init__(self, folder: Path, cache_key: str, size: int, resume: bool) -> None:
        """cache_key : digest of what the table depends on. size : samples per shard. resume : reuse files."""
        self._folder, self._name, self._resume = folder, f"table-{cache_key}-{size}", resume

    def _file(self, number: int) -> Path:
        return self._folder / f"{self._name}-{number:05}.npz"

    def known(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """T and Z of the first shards, as many as there are without a gap or damage."""
        number = 0
        while (held := load_arrays(self._file(number), look=self._resume)) is not None:
            try:
                part = held["T"], held["Z"]
            except KeyError:
                return
            yield part
            number += 1

    def add(self, number: int, T: np.ndarray, Z: np.ndarray) -> None:
        """Write a shard, whole or not at all."""
        save_arrays(self._file(number), {"T": T, "Z": Z})

    def clear(self) -> None:
        """Take all files away."""
        for file in self._folder.glob(f"{self._name}-*.npz"):
            file.unlink(missing_ok=True)


def gather_table(job: Job, view: View, neurons: Neurons, what: str) -> Table:
    """`gather` over a view of the job's samples."""
    settings = job.engine.settings
    if settings.work_dir is None or not len(neurons):
        return gather(job.subject, view, neurons, job.engine, what)
    facts = {
        **job.cache_facts,
        "rows": hashlib.sha256(view.dataset.digest.encode() + view.rows.astype("<i8").tobytes()).hexdigest(),
        "taps": [asdict(tap) for tap in neurons.taps],
        "tap_of": neurons.tap_of.tolist(),
        "index": neurons.index.tolist(),
    }
    cache_key = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32]
    shards = TableShards(Path(settings.work_dir), cache_key, settings.shard, settings.resume)
    table = gather(job.subject, view, neurons, job.engine, what, shards)
    if table.T.nbytes > _LARGEST:
        shards.clear()
    return table


def gather_tables(job: Job, neurons: Neurons) -> tuple[Table, Table]:
    """Tables of fit and validation."""
    return (
        gather_table(job, job.splits.fit, neurons, "collect"),
        gather_table(job, job.splits.validation, neurons, "validate"),
    )


def learnt_from(
    job: Job, tables: tuple[Table, Table], *, picked: bool = False, keep_validation: bool = False
) -> tuple[Table, np.ndarray, tuple[str, ...]]:
    """The samples that weights are fitted to, which of them choices are judged on, and notes.

    Validation is fitted to as well, unless results are reported on it for want of a test split, or a
    certificate needs it. Fit samples that the base has memorised, or that picked the neurons, are fitted to
    but not judged on.
    """
    fit = tables[0]
    right = [job.head.right(t.Z, t.labels) for t in tables]
    said = seen_in_training(*right)
    told = (f"{said}; samples held out from training give better patches",) if said else ()
    if job.splits.test is None or keep_validation:
        return fit, np.ones(len(fit.labels), bool), told
    table = stacked(tables)
    memorised = right[0].mean() > right[1].mean() and bool(said)
    if not memorised and not picked:
        return table, np.ones(len(table.labels), bool), told
    why = said if memorised else "the neurons were chosen by the fit samples"
    judged = np.arange(len(table.labels)) >= len(fit.labels)
    return table, judged, (f"{why}, so choices are judged on validation alone",)
