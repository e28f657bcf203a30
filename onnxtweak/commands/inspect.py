"""What is in a model, and can it be tweaked? Its inputs, logits, taps and tweaks, without samples."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from onnxtweak.engine.answer.tail import settle_answer
from onnxtweak.engine.measure import Shapes
from onnxtweak.engine.opened import open_model
from onnxtweak.engine.session import Port
from onnxtweak.engine.subject import choose_taps, hidden, made_up_samples, measured
from onnxtweak.engine.tap_safety import safe_taps
from onnxtweak.errors import InputError, MachineError
from onnxtweak.model.file.tweak_metadata import tweaks_inside
from onnxtweak.results import Inspection, Value
from onnxtweak.settings import EngineSettings, TapSettings
from onnxtweak.stages.open_for_tables import NO_HIDDEN
from onnxtweak.stages.open_job import model_ref
from onnxtweak.types import Tap


def inspect(
    *, model: str, taps: TapSettings = TapSettings(), engine: EngineSettings = EngineSettings()
) -> Inspection:
    """What is in a model: logits and how they were found, tensors that can be watched, tweaks already inside.

    Hidden tensors are measured by running made-up samples; where that is not possible (no runtime, inputs of
    unknown size) they are listed without shapes, and a note says why. Raises ModelError without logits.
    """
    opened = open_model(model, taps)
    proto = opened.model.proto
    found = hidden(opened)
    notes = [] if found else [f"{NO_HIDDEN}, with `onnxtweak fit`"]
    shapes: Shapes = {}
    chosen: tuple[Tap, ...] = ()
    classes = opened.logits.classes
    try:
        feeds = made_up_samples(opened, {})
        engine = replace(engine, device="cpu")
        opened = settle_answer(opened, feeds, engine, taps.threshold)
        found = hidden(opened)
        subject, shapes = measured(opened, [c.name for c in found], feeds, engine)
        classes = subject.classes
        if found:
            watched = safe_taps(subject, choose_taps(opened, found, shapes, taps), feeds, engine)
            chosen = watched.taps
            notes += watched.notes
    except (MachineError, InputError) as error:
        notes.append(f"{error}; {error.hint}" if error.hint else str(error))
    measurable = [c for c in found if not shapes or shapes.get(c.name) is not None]
    return Inspection(
        model=model_ref(opened.model),
        opset={entry.domain: entry.version for entry in proto.opset_import},
        ir_version=proto.ir_version,
        producer=f"{proto.producer_name} {proto.producer_version}".strip(),
        inputs=_values(opened.declared_inputs),
        outputs=_values(opened.declared_outputs),
        logits=(opened.logits.name, opened.logits.rule, opened.logits.explain),
        classes=classes,
        taps=chosen,
        candidates=tuple((c.name, c.op, *_shape_row(shapes.get(c.name)), c.activation) for c in measurable),
        neurons=sum(tap.neurons for tap in chosen),
        tweaks=tuple(tweak.facts for tweak in tweaks_inside(proto)),
        notes=tuple(notes),
    )


def _values(ports: tuple[Port, ...]) -> tuple[Value, ...]:
    return tuple((port.name, port.dtype, port.shape) for port in ports)


def _shape_row(found: tuple[str, tuple[int, ...]] | None) -> tuple[str, tuple[int, ...] | None, int]:
    if found is None:
        return ("?", None, 0)
    return (found[0], found[1], int(np.prod(found[1], dtype=np.int64)))
