"""Which hidden tensors does a job watch? Those selected that can be read without changing the logits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from onnxtweak.engine.measure import Shapes
from onnxtweak.engine.opened import Opened
from onnxtweak.engine.subject import Subject, choose_taps, hidden, measured, sizes_of
from onnxtweak.engine.tap_safety import SafeTaps, readable_operators, safe_taps
from onnxtweak.errors import ModelError
from onnxtweak.model.edit.positions.read_nodes import RESIZES_FROM, way_at_positions
from onnxtweak.model.inspect.layer_inputs import penultimate_name
from onnxtweak.model.inspect.taps import TapCandidate, select
from onnxtweak.quantities import number_of
from onnxtweak.settings import EngineSettings, TapSettings
from onnxtweak.types import Progress, Tap, silent

NONE_READABLE = (
    "no hidden tensor can be read without changing this model's logits; `onnxtweak fit` sets the "
    "best biases, "
    "without --taps"
)
_SUGGESTED = 3  # operators, or maps


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
    progress: Progress = silent,
) -> SafeTaps:
    """The taps that the settings select, but for those that cannot be read without changing the logits.

    samples : some, rows by input. progress : of trying them. Raises ModelError where none is left, or nothing
    is selected, naming operators whose tensors can be read.
    """
    try:
        chosen = choose_taps(opened, tensors.found, tensors.shapes, taps)
        safe = safe_taps(subject, chosen, samples, settings, progress)
        return replace(safe, others=_not_resized(opened, tensors, taps))
    except ModelError as error:
        if "--taps" not in error.hint or (error.where.startswith("--taps") and ":" not in error.hint):
            raise
        every = _all_taps(opened, subject, samples, taps, settings)
        working = readable_operators(subject, every, samples, settings, progress)[:_SUGGESTED]
        hint = NONE_READABLE
        if working:
            hint = f"choose tensors by operator: {' or '.join(f'--taps op:{op}' for op in working)}"
        raise ModelError(error.what, where=error.where, hint=hint) from error


def _not_resized(opened: Opened, tensors: Hidden, taps: TapSettings) -> tuple[str, ...]:
    """A note on selected maps of other positions than the scores, which the model's opset cannot resize."""
    graph, logits = opened.model.graph, tensors.shapes.get(opened.logits.name)
    if not opened.logits.at_positions or opened.detector or graph.opset >= RESIZES_FROM or logits is None:
        return ()
    penultimate = penultimate_name(graph, opened.logits.name)
    chosen = select(tensors.found, tensors.shapes, taps.taps, ("none",), penultimate, graph)
    sizes = sizes_of(logits[1], opened.logits.layout or "")
    left = [f"`{tap.name}`" for tap in chosen if way_at_positions(sizes, tap) == "resized"]
    if not left:
        return ()
    named = ", ".join(left[:_SUGGESTED]) + (", ..." if len(left) > _SUGGESTED else "")
    return (
        f"{number_of(len(left), 'hidden map')} of other sizes than the scores left out ({named}): opset "
        f"{graph.opset} cannot resize them; exported with opset {RESIZES_FROM} or newer, the model has "
        "them read too",
    )


def _all_taps(
    opened: Opened,
    subject: Subject,
    samples: Mapping[str, np.ndarray],
    taps: TapSettings,
    settings: EngineSettings,
) -> tuple[Tap, ...]:
    """Taps of all hidden tensors."""
    found = hidden(opened)
    few = {name: rows[: subject.batch or 3] for name, rows in samples.items()}
    shapes = measured(opened, [c.name for c in found], few, settings)[1]
    return choose_taps(opened, found, shapes, replace(taps, taps=("*",)))
