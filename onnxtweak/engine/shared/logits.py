"""What are a model's logits of all samples of a view? Plain inference."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from onnxtweak.data.splits import View
from onnxtweak.engine.passes import Engine
from onnxtweak.engine.shared.kept_shards import kept_by_shards
from onnxtweak.engine.shared.shards import captured_shards
from onnxtweak.engine.subject import Subject


def logits_pass(subject: Subject, view: View, engine: Engine, what: str) -> np.ndarray:
    """Plain inference: Z (N, C) float32, or float64 where the model's logits are."""
    Z = np.empty((len(view.rows), subject.classes), np.float64 if subject.dtype == "float64" else np.float32)
    at = 0
    for (part,) in kept_by_shards(_logits, subject, view, engine, what, "logits"):
        Z[at : at + len(part)] = part
        at += len(part)
    return Z


def _logits(subject: Subject, view: View, engine: Engine, what: str) -> Iterator[tuple[np.ndarray]]:
    for shard in captured_shards(subject, view, engine, what):
        yield (np.concatenate([got.Z.copy() for got in shard]),)
