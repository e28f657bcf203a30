"""What does a model compute for real samples, where it may be patched and where it shows its answer?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from onnxtweak.engine.opened import Opened, fixed_batch, require_class_scores
from onnxtweak.engine.session import session_of
from onnxtweak.head import ROUNDING, Scale, by_sample, on_logit_scale
from onnxtweak.model.edit.expose import expose_values
from onnxtweak.model.graph import GraphIndex
from onnxtweak.model.inspect.tail import is_unbounded, shown_outputs
from onnxtweak.settings import EngineSettings

_TOGETHER = 8  # samples that run together: enough to save calls, few enough for any memory
_SUMS_AGREE = 1e-3
_USUAL_SUMS = (1.0, 100.0)
_SLACK = 1e-6
_MOST_VOTES = 16  # numbers that votes may be; and the share of samples from which on probabilities are stuck
_OFTEN = 0.1


@dataclass(frozen=True)
class Observed:
    """What a model computes for n real samples.

    x (n, R) float64 : the tensor that may be patched. shape : of one sample of it. dtype : its NumPy name.
    outputs : values of the outputs that depend on it, by name. scale : what the tensor seems to hold.
    """

    x: np.ndarray
    shape: tuple[int, ...]
    dtype: str
    outputs: dict[str, Any]
    scale: Scale

    @property
    def stuck(self) -> str:
        """Why no patch could move the probabilities, in words; empty where one can."""
        if self.scale == "logit" or self.x.shape[1] < 2:
            return ""
        count = len(self.x)
        second, first = np.partition(self.x, -2, axis=1)[:, -2:].T
        if self.scale == "probability":
            alike = second == 0
            votes = np.unique(self.x).size <= _MOST_VOTES and alike.mean() > _OFTEN
            return f"they are votes, all for one class on {alike.sum()} of {count} samples" if votes else ""
        alike = (second == 1) | (first == 0)
        full = alike.mean() > _OFTEN
        return (
            f"several classes have the same probability, 0 or 1, on {alike.sum()} of {count} samples"
            if full
            else ""
        )

    @property
    def on_logit_scale(self) -> np.ndarray:
        """The tensor (n, R), with probabilities as logits."""
        return on_logit_scale(self.x, self.scale)


def observe(opened: Opened, name: str, feeds: Mapping[str, np.ndarray], settings: EngineSettings) -> Observed:
    """Tensor `name`, and the outputs that depend on it, on real samples.

    feeds : samples by input name. Raises ModelError where the tensor is not one row of scores per sample.
    """
    graph, known = opened.model.graph, {port.name for port in opened.needed}
    outputs = tuple(o for o in shown_outputs(graph, name) if graph.needed_inputs([o]) <= known)
    for cast in (False, True):
        exposed = expose_values(graph, name, outputs, cast=cast)
        session = session_of(opened.model, exposed.proto, settings)
        dtypes = {port.name: port.dtype for port in session.outputs}
        if not cast:
            dtype = dtypes[exposed.logits] or ""
        if dtype != "bfloat16":  # which NumPy does not know
            break
    if dtype not in ROUNDING:
        require_class_scores(None, opened, name)
    names = [port.name for port in session.inputs]
    size = fixed_batch(opened) or _TOGETHER
    count = len(next(iter(feeds.values())))
    parts: list[list[Any]] = []
    samples = 0
    for start in range(0, count, size):
        part = {name: rows[start : start + size] for name, rows in feeds.items()}
        together = len(next(iter(part.values())))
        samples += together
        scores, *values = session.run(opened.feeding.fed(part, names), [exposed.logits, *outputs])
        parts.append([scores, *(by_sample(value, together) for value in values)])
    x, *shown = (joined(column) for column in zip(*parts, strict=True))
    one_row_each = x.ndim >= 1 and len(x) == samples and x.size
    shape = require_class_scores(tuple(x.shape[1:]) if one_row_each else None, opened, name)
    rows = x.reshape(len(x), -1).astype(np.float64)
    by_name = dict(zip(outputs, shown, strict=True))
    return Observed(rows, shape, dtype, by_name, _scale(graph, name, rows))


def joined(parts: Sequence[Any]) -> Any:
    """The batches of one output as one; a list where it is no array."""
    if all(isinstance(part, np.ndarray) and part.ndim for part in parts):
        return np.concatenate(parts)
    return [row for part in parts for row in np.atleast_1d(part)] if parts else []


def _scale(graph: GraphIndex, name: str, x: np.ndarray) -> Scale:
    """What a tensor (n, R) of a model holds, by its values on real samples.

    Rows that all have the same sum are probabilities, in whatever unit; a single row, where a model takes no
    more at a time, is one where its sum is 1 or 100. Other numbers between 0 and 1 are
    probabilities each for itself, unless they could be any numbers.
    """
    if not np.isfinite(x).all() or x.min() < 0:
        return "logit"
    sums = x.sum(axis=1)
    alike = np.ptp(sums) if len(x) > 1 else np.abs(sums[0] - np.array(_USUAL_SUMS)).min()
    if x.shape[1] > 1 and sums.min() > 0 and alike <= _SUMS_AGREE * sums.mean():
        return "probability"
    return "odds" if x.max() <= 1 + _SLACK and not is_unbounded(graph, name) else "logit"
