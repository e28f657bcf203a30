"""Which hidden tensors does a job watch? Those selected that can be read without changing the logits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from onnxtweak.engine.measure import Shapes
from onnxtweak.engine.opened import Opened
from onnxtweak.engine.subject import Subject, choose_taps, hidden, measured
from onnxtweak.engine.tap_safety import SafeTaps, safe_taps
from onnxtweak.errors import ModelError
from onnxtweak.model.inspect.taps import TapCandidate
from onnxtweak.settings import EngineSettings, TapSettings

_SUGGESTED, _TRIED = 3, 6  # operators


@dataclass(frozen=True)
class Hidden:
    """Hidden tensors of a model and what was measured of them."""

    found: Sequence[TapCandidate]
    shapes: Shapes


def watch_taps(
    opened: Opened,
    subject: Subject,
    tensors: Hidden,
    samples: Mapping[str, np.ndarray],
    taps: TapSettings,
    settings: EngineSettings,
) -> SafeTaps:
    """The taps that the settings select, but for those that cannot be read without changing the logits.

    samples : some, rows by input. Raises ModelError where none is left, or nothing is selected, naming
    operators whose tensors can be read.
    """
    try:
        return safe_taps(subject, choose_taps(opened, tensors.found, tensors.shapes, taps), samples, settings)
    except ModelError as error:
        if "--taps" not in error.hint or (error.where.startswith("--taps") and ":" not in error.hint):
            raise
        working = _working(opened, subject, samples, taps, settings)
        hint = "no hidden tensor can be read without changing this model's logits; only a bias could be set"
        if working:
            hint = f"choose tensors by operator: {' or '.join(f'--taps op:{op}' for op in working)}"
        raise ModelError(error.what, where=error.where, hint=hint) from error


def _working(
    opened: Opened,
    subject: Subject,
    samples: Mapping[str, np.ndarray],
    taps: TapSettings,
    settings: EngineSettings,
) -> list[str]:
    """Operators all of whose tensors can be read, the most frequent first."""
    found = hidden(opened)
    few = {name: rows[: subject.batch or 3] for name, rows in samples.items()}
    shapes = measured(opened, [c.name for c in found], few, settings)[1]
    every = choose_taps(opened, found, shapes, replace(taps, taps=("*",)))
    working: list[str] = []
    for op, _ in Counter(tap.op for tap in every).most_common(_TRIED):
        try:
            group = [tap for tap in every if tap.op == op]
            whole = safe_taps(subject, group, samples, settings).left_out == ()
        except ModelError:
            whole = False
        working += [op] if whole else []
    return working[:_SUGGESTED]
