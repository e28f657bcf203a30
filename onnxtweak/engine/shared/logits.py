"""What are a model's logits of all samples of a view? Plain inference."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from onnxtweak.data.splits import View
from onnxtweak.engine.machine.large_arrays import let_go, new_array
from onnxtweak.engine.machine.memory_plan import table_room
from onnxtweak.engine.passes import Engine
from onnxtweak.engine.shared.kept_shards import kept_by_shards
from onnxtweak.engine.shared.shards import captured_shards
from onnxtweak.engine.subject import Subject

# Arrays as large as the logits that are made of them at a time.
_OF_LOGITS = 10


def logits_pass(subject: Subject, view: View, engine: Engine, what: str) -> np.ndarray:
    """Plain inference: Z (N, C) float32, or float64 where the model's logits are; where `new_logits` says."""
    shards = kept_by_shards(_logits, subject, view, engine, what, "logits")
    return joined_logits(subject, len(view.rows), engine, (part for (part,) in shards))


def joined_logits(subject: Subject, samples: int, engine: Engine, parts: Iterable[np.ndarray]) -> np.ndarray:
    """Logits (samples, C) that come part by part, where `new_logits` says."""
    Z, at = new_logits(subject, samples, engine), 0
    for part in parts:
        own = slice(at, at + len(part))
        Z[own] = part
        let_go(Z[own])
        at = own.stop
    return Z


def new_logits(subject: Subject, samples: int, engine: Engine) -> np.ndarray:
    """Room for logits (samples, C): in memory, or in a file where that cannot hold what is made of them.

    Raises OutputError where the disk is full.
    """
    kind = np.float64 if subject.dtype == "float64" else np.float32
    return new_array((samples, subject.classes), kind, logits_folder(samples, subject.classes, engine))


def logits_folder(samples: int, classes: int, engine: Engine) -> Path | None:
    """The folder of files for logits of so many samples, and what is made of them; None: memory holds it."""
    settings = engine.settings
    room = table_room(settings.memory, engine.reserved_bytes)
    if 4 * _OF_LOGITS * classes * samples <= room:
        return None
    folder = Path(settings.work_dir or tempfile.gettempdir())
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _logits(subject: Subject, view: View, engine: Engine, what: str) -> Iterator[tuple[np.ndarray]]:
    for shard in captured_shards(subject, view, engine, what):
        yield (np.concatenate([got.Z.copy() for got in shard]),)
