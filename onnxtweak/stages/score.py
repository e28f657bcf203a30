"""How is every neuron scored over the fit samples? By theta, cached in the work directory if there is one.

A cached result belongs to exactly one model, samples, taps, targets, kind of theta and device: where one of
them changes, or the file is damaged, scoring starts again. It is written after every block of neurons.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from onnxtweak.data.splits import View
from onnxtweak.engine.kept.saved_arrays import load_arrays, save_arrays
from onnxtweak.engine.machine.memory_plan import Block
from onnxtweak.engine.passes import Engine
from onnxtweak.engine.position_batches import shard_ends
from onnxtweak.engine.scoring.score_file import ScoreTables
from onnxtweak.engine.scoring.scoring import ModelSamples, theta_blocks, theta_sweeps
from onnxtweak.engine.scoring.sweep import Read, Reopen, ScoringTask
from onnxtweak.method.selection.candidates import Candidates, Theta, ThetaSizes, add_block, no_theta
from onnxtweak.stages.open_job import Job
from onnxtweak.types import Progress, Tap, silent

# How many of the best neurons are cached, of all targets together and of each, even where fewer are wanted: a
# later run with larger -n needs no new pass.
_CACHED, _CACHED_EACH = 200_000, 2_000


def scored_view(job: Job) -> View:
    """The fit samples that theta is over: positions as often as they count, so that counts are weighted."""
    fit = job.splits.fit
    if fit.thinned is None:
        return fit
    times = fit.thinned.times[np.searchsorted(fit.thinned.rows, fit.rows)]
    return View(fit.dataset, np.repeat(fit.rows, times))


def score_neurons(
    job: Job, targets: np.ndarray, theta: str, most: int, tables: ScoreTables | None = None
) -> Theta:
    """Theta for target classes (c,) over the fit samples of a job.

    most : how many of the best neurons of each target are needed. tables : where all scores are written.
    """
    fit, engine = scored_view(job), job.engine
    key = None if engine.settings.work_dir is None else _cache_key(job, targets, theta)
    ends = shard_ends(fit, engine.settings.shard)
    task = ScoringTask(fit.labels, np.asarray(targets, np.int64), theta, key, job.head, ends)
    reopen = ModelSamples(job.subject, fit, job.taps)
    return score_batches(reopen(engine), job.taps, task, most, engine, reopen=reopen, tables=tables)


def score_batches(
    read: Read,
    taps: Sequence[Tap],
    task: ScoringTask,
    most: int,
    engine: Engine,
    *,
    reopen: Reopen | None = None,
    tables: ScoreTables | None = None,
) -> Theta:
    """Theta over any samples. most, tables : as in `score_neurons`; the rest as in `theta_sweeps`."""
    settings, targets = engine.settings, task.targets
    blocks = theta_blocks(taps, len(targets), engine)
    most = _cached_count(most, len(targets))
    found, done = no_theta(len(targets), most), 0
    file = None
    if settings.work_dir is not None and task.cache_key is not None:
        file = _file(settings.work_dir, task.cache_key)
    if tables is not None:
        size = len(targets), sum(tap.neurons for tap in taps)
        tables.begin(size, file and file.with_suffix(".tables"), settings.resume, engine.progress)
    if file is not None and settings.resume:
        known = _read(file, blocks, most, engine.progress)
        if known is not None and (tables is None or tables.hold(_neurons(blocks[: known[1]]))):
            found, done = known
            engine.progress.reuse("score")
            engine.stats.passes.append(("score, cached", 0))
    for block in theta_sweeps(read, blocks, task, engine, reopen=reopen, done=done):
        found = add_block(found, block, None if tables is None else tables.put, settings.threads)
        ends = block.ends
        del block  # frees its memory for the next one
        if not ends:
            continue
        done += 1
        if file is not None:
            if tables is not None:
                tables.flush()
            _write(file, found, blocks, done)
    return found


def scores_cached(job: Job, targets: np.ndarray, theta: str, most: int) -> bool:
    """Whether `score_neurons` would find the whole result in the work directory."""
    settings = job.engine.settings
    if settings.work_dir is None or not settings.resume:
        return False
    blocks = theta_blocks(job.taps, len(targets), job.engine)
    file = _file(settings.work_dir, _cache_key(job, targets, theta))
    known = _read(file, blocks, _cached_count(most, len(targets)))
    return known is not None and known[1] == len(blocks)


def _cached_count(most: int, targets: int) -> int:
    return max(most, min(_CACHED_EACH, _CACHED // targets))


def _file(folder: str, key: str) -> Path:
    return Path(folder) / f"score-{key}.npz"


def _cache_key(job: Job, targets: np.ndarray, theta: str) -> str:
    """Digest of everything that theta depends on."""
    return job.cache_key(
        samples=job.splits.digest,
        taps=[asdict(tap) for tap in job.taps],
        targets=targets.tolist(),
        theta=theta,
        **({} if job.splits.fit.thinned is None else {"weighted": True}),
    )


def _read(
    file: Path, blocks: Sequence[Block], most: int, progress: Progress = silent
) -> tuple[Theta, int] | None:
    """The cached theta, and of how many blocks; None where it cannot be used here."""
    found = load_arrays(file, look=True, what="scores", progress=progress)
    if found is None:
        return None
    try:
        done, whole = int(found["done"]), bool(found["whole"])
        if int(found["most"]) < most or not (whole or np.array_equal(found["cuts"], _cuts(blocks))):
            return None
        best = _split(found, "best", ("number", "weight", "count", "lift"))
        sizes = _split(found, "sizes", ("bins", "counts"))
        theta = Theta(
            tuple(Candidates(*parts) for parts in best),
            tuple(
                ThetaSizes(bins, counts, int(n))
                for (bins, counts), n in zip(sizes, found["nought"], strict=True)
            ),
            int(found["most"]),
            int(found["dropped"]),
            found["predicted"],
        )
        return theta, len(blocks) if whole else done
    except (ValueError, KeyError):
        return None


def _neurons(blocks: Sequence[Block]) -> int:
    return sum(len(part) for block in blocks for part in block)


def _write(file: Path, found: Theta, blocks: Sequence[Block], done: int) -> None:
    arrays = {
        "done": done,
        "whole": done == len(blocks),
        "cuts": _cuts(blocks),
        "most": found.most,
        "dropped": found.dropped,
        "predicted": found.predicted,
        "nought": np.array([sizes.nought for sizes in found.sizes], np.int64),
        **_joined(found.best, "best", ("number", "weight", "count", "lift")),
        **_joined(found.sizes, "sizes", ("bins", "counts")),
    }
    save_arrays(file, arrays)


def _joined(
    parts: Sequence[Candidates | ThetaSizes], what: str, names: Sequence[str]
) -> dict[str, np.ndarray]:
    """The arrays of all targets end to end, and where each ends."""
    ends = np.cumsum([len(getattr(part, names[0])) for part in parts])
    arrays = {f"{what}.{name}": np.concatenate([getattr(part, name) for part in parts]) for name in names}
    return {f"{what}.ends": ends, **arrays}


def _split(found: dict[str, np.ndarray], what: str, names: Sequence[str]) -> list[tuple[np.ndarray, ...]]:
    ends = found[f"{what}.ends"][:-1]
    return list(zip(*(np.split(found[f"{what}.{name}"], ends) for name in names), strict=True))


def _cuts(blocks: Sequence[Block]) -> np.ndarray:
    """(slices, 3) int64: block, first neuron, and one past the last, numbered through all taps."""
    return np.array(
        [(k, s.number, s.number + len(s)) for k, block in enumerate(blocks) for s in block], np.int64
    ).reshape(-1, 3)
