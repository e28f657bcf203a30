"""Which shards of a pass did an earlier run make? They lie in the work directory, and are not made again.

A shard's file belongs to one model, its samples and how they are prepared, what is made of them, and device:
one that another pass of the same run has made is as good as its own.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from onnxtweak.data.splits import View
from onnxtweak.engine.kept.saved_arrays import load_arrays, save_arrays
from onnxtweak.engine.passes import Engine
from onnxtweak.engine.position_batches import shard_ends
from onnxtweak.engine.shared.shards import PassWork, by_shards
from onnxtweak.engine.subject import Subject

Arrays = tuple[np.ndarray, ...]


def kept_by_shards(
    work: PassWork[Arrays], subject: Subject, view: View, engine: Engine, what: str, made: str
) -> Iterator[Arrays]:
    """`by_shards` of a pass that makes arrays, from where an earlier run ended.

    made : what they are, with all that they depend on besides model, samples and device. Raises OutputError
    where they cannot be saved.
    """
    folder, size = engine.settings.work_dir, engine.settings.shard
    if folder is None:
        yield from by_shards(work, subject, view, engine, what)
        return
    ends, name = shard_ends(view, size), f"pass-{_key(subject, view, engine, made)}-{size}"
    files = [Path(folder) / f"{name}-{number:05}.npz" for number in range(len(ends))]
    done = 0
    for file in files:
        found = load_arrays(
            file, look=engine.settings.resume, what="a part of a pass", progress=engine.progress
        )
        if found is None:
            break
        yield tuple(found.values())
        done += 1
    if done and done == len(ends):
        engine.progress.reuse(what)
        engine.stats.passes.append((f"{what}, cached", 0))
        return
    rest = View(view.dataset, view.rows[ends[done - 1] if done else 0 :])
    for number, arrays in enumerate(by_shards(work, subject, rest, engine, what), done):
        save_arrays(files[number], {str(place): array for place, array in enumerate(arrays)})
        yield arrays


def _key(subject: Subject, view: View, engine: Engine, made: str) -> str:
    plans = [plan for each in view.dataset.plans for plan in each.values()]
    facts = (
        engine.prepared,
        subject.model.base_sha256,
        (subject.logits, subject.layout, subject.batch, subject.sizes, subject.several),
        (subject.readout, subject.answer, subject.detector),
        subject.feeding,
        view.digest,
        [(plan.stored, plan.words, plan.flipped) for plan in plans],
        made,
    )
    return hashlib.sha256(repr(facts).encode("utf-8", "surrogatepass")).hexdigest()[:32]
