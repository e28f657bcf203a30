"""What is in a model, and can it be tweaked? Its inputs, logits, taps and tweaks, with or without samples."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from onnxtweak.data.open_data import read_sources
from onnxtweak.data.samples import Reading
from onnxtweak.data.splits import View
from onnxtweak.engine.answer.several_labels import settle_several
from onnxtweak.engine.answer.tail import settle_answer
from onnxtweak.engine.measure import Shapes
from onnxtweak.engine.opened import Opened, open_model
from onnxtweak.engine.session import Port
from onnxtweak.engine.subject import Subject, few_samples, hidden, made_up_samples, measured
from onnxtweak.errors import InputError, MachineError, ModelError
from onnxtweak.model.edit.revert import rewriting
from onnxtweak.model.file.model_file import ModelSource
from onnxtweak.model.file.tweak_metadata import tweaks_inside
from onnxtweak.model.head_kind import HeadKind, head_kind
from onnxtweak.model.inspect.graph_checks import quantises
from onnxtweak.model.inspect.taps import candidates_note
from onnxtweak.model.logits_format import NO_AXIS
from onnxtweak.results import Inspection, Value
from onnxtweak.settings import DataSettings, EngineSettings, TapSettings
from onnxtweak.stages.lines.find_alphabet import with_alphabet
from onnxtweak.stages.open_for_tables import NO_HIDDEN
from onnxtweak.stages.open_job import model_ref
from onnxtweak.stages.other_models.quantising import HOW_TO_QUANTISE
from onnxtweak.stages.preprocess_record import as_recorded, explaining
from onnxtweak.stages.watch_taps import Hidden, watch_taps
from onnxtweak.types import Tap

_MOST_NODES = 50_000  # of a model that is started only to measure it


def inspect(
    *,
    model: ModelSource,
    data: DataSettings | None = None,
    taps: TapSettings = TapSettings(),
    engine: EngineSettings = EngineSettings(),
) -> Inspection:
    """What is in a model: logits and how they were found, tensors that can be watched, tweaks already inside.

    Hidden tensors are measured by running a few samples of `data`, or without it made-up ones; where that is
    not possible (no runtime, inputs of unknown size) they are listed without shapes, and a note says why.
    Raises ModelError without logits, DataError for samples that do not fit the model.
    """
    opened = open_model(model, taps).given({} if data is None else dict(data.inputs))
    proto = opened.model.proto
    found = hidden(opened)
    kind = head_kind(opened.model.graph, opened.logits, opened.detector)
    notes = [kind.said] if kind.said else []
    notes += _guessed(opened, kind, taps)
    characters = with_alphabet(DataSettings(), opened).alphabet
    if characters is not None:
        notes.append(
            f"its metadata name {len(characters):,} characters: labels of `evaluate` and `fit` may be texts,"
            " what stands in each line (docs/howto/text.md)"
        )
    notes += [] if found else [f"{NO_HIDDEN}, with `onnxtweak fit`"]
    notes += candidates_note(found)
    inside = tweaks_inside(proto)
    if said := rewriting(opened.model, inside):
        notes.append(
            f"{said}; `onnxtweak verify THIS --same-as TWEAKED -d DATA` tells whether its gain is left"
        )
    elif inside and not quantises(opened.model.graph):
        notes.append(HOW_TO_QUANTISE)
    shapes: Shapes = {}
    chosen: tuple[Tap, ...] = ()
    classes = _declared_classes(opened)
    samples = None
    if data is not None:
        data, recorded = as_recorded(data, opened.model)
        with explaining(recorded):
            samples, opened = _few(opened, data, engine)
        notes += recorded
    try:
        _require_startable(opened)
        feeds = _made_up(opened) if samples is None else samples
        engine = replace(engine, device="cpu")
        settle = settle_several if kind.kind == "several labels at positions" else settle_answer
        opened = settle(opened, feeds, engine, taps.threshold)
        found = hidden(opened)
        subject, shapes = measured(opened, [c.name for c in found], feeds, engine)
        classes = subject.classes
        notes += [] if kind.said and subject.detector is None else _at_positions(subject)
        if found:
            watched = watch_taps(opened, subject, Hidden(found, shapes), feeds, taps, engine)
            chosen = watched.taps
            notes += watched.notes
    except (MachineError, InputError) as error:
        notes += [] if shapes else _at_unknown_positions(opened, kind)
        notes.append(f"{error}; {error.hint}" if error.hint else str(error))
    measurable = [c for c in found if not shapes or shapes.get(c.name) is not None]
    return Inspection(
        model=model_ref(opened.model),
        opset={entry.domain: entry.version for entry in proto.opset_import},
        ir_version=proto.ir_version,
        producer=f"{proto.producer_name} {proto.producer_version}".strip(),
        inputs=_values(opened, opened.declared_inputs),
        outputs=_values(opened, opened.declared_outputs),
        logits=(opened.logits.name, opened.logits.rule, _explain(opened, kind)),
        kind=kind.kind,
        class_axis=_class_axis(opened, kind),
        classes=classes,
        taps=chosen,
        candidates=tuple((c.name, c.op, *_shape_row(shapes.get(c.name)), c.activation) for c in measurable),
        neurons=sum(tap.neurons for tap in chosen),
        tweaks=tuple(tweak.facts for tweak in inside),
        notes=tuple(notes),
    )


def _at_positions(subject: Subject) -> list[str]:
    """Which labels a model wants that decides at every position."""
    if not subject.sizes:
        return []
    if (found := subject.detector) is not None:
        besides = "" if found.background is None else f", class {found.background} being the background"
        return [f"{subject.positions:,} anchors on {len(found.levels)} levels{besides}"]
    sizes = [str(size) for size in subject.sizes]
    own = iter(sizes)
    marks = [str(subject.classes) if axis == "C" else next(own) for axis in subject.layout if axis in "CP"]
    where = f"{'x'.join(sizes)} positions"
    if not subject.several:
        return [_classes_taken(where, sizes)]
    return [_marks_taken(where, sizes if subject.classes == 1 else marks, str(subject.classes))]


def _at_unknown_positions(opened: Opened, kind: HeadKind) -> list[str]:
    """The same of a model that could not be run, as far as its graph tells."""
    shape, axis = opened.logits.shape, opened.logits.axis
    if kind.kind not in ("positions", "several labels at positions") or shape is None or axis is None:
        return []
    if kind.said:  # why it takes none
        return []
    axes = range(1, len(shape))
    places = [number for number in axes if number != axis and shape[number] != 1]
    letters = dict(zip(places, {1: "T", 2: "HW"}.get(len(places), "DHWXYZ"), strict=False)) | {axis: "C"}
    named = {n: str(shape[n]) if isinstance(shape[n], int) else letters.get(n, "...") for n in axes}
    sizes = [named[number] for number in places]
    if kind.kind == "positions":
        return [_classes_taken("the positions", sizes)]
    if axis == NO_AXIS or shape[axis] == 1:
        return [_marks_taken("the positions", sizes if axis or len(shape) < 4 else ["..."], "1")]
    return [_marks_taken("the positions", [named[n] for n in axes if named[n] != "1"], named[axis])]


def _classes_taken(where: str, sizes: list[str]) -> str:
    """Which labels say a class at each position."""
    return (
        f"a class for each of {where} of a sample: `evaluate` and `fit` take labels of shape "
        f"(N, {', '.join(sizes)}), -1 where there is none"
    )


def _marks_taken(where: str, sizes: list[str], labels: str) -> str:
    """Which labels mark what is there at each position. sizes : of the axes of marks, as scores have them."""
    each = "one label, there or not," if labels == "1" else f"{labels} labels at once, each there or not,"
    return (
        f"{each} at each of {where} of a sample: `evaluate` and `fit` take labels of "
        f"shape (N, {', '.join(sizes)}), 1, 0, and -1 where it is not known"
    )


def _class_axis(opened: Opened, kind: HeadKind) -> int | None:
    """Which axis counts the classes where positions have them; None where none does, or nobody knows."""
    if kind.kind not in ("positions", "several labels at positions"):
        return None
    return opened.logits.axis or None


def _guessed(opened: Opened, kind: HeadKind, taps: TapSettings) -> list[str]:
    """A note where no softmax tells which axis of scores at positions counts the classes."""
    logits = opened.logits
    sure = logits.chooses or logits.rule == "before Sigmoid" or taps.class_axis is not None
    if kind.kind != "positions" or kind.said or sure or not logits.axis or tweaks_inside(opened.model.proto):
        return []
    return [f"that axis {logits.axis} counts the classes is a guess: --class-axis N says otherwise"]


def _declared_classes(opened: Opened) -> int | None:
    """How many classes there are, as far as the file tells, whatever sizes other axes have."""
    logits = opened.logits
    if logits.classes is not None or logits.shape is None or not logits.axis or opened.detector is not None:
        return logits.classes
    size = logits.shape[logits.axis]
    return size if isinstance(size, int) else None


def _require_startable(opened: Opened) -> None:
    """Raise ModelError for a model that the runtime would take minutes to start."""
    count = len(opened.model.graph.nodes)
    if count > _MOST_NODES:
        raise ModelError(
            f"hidden tensors are not measured: ONNX Runtime takes minutes to start {count:,} nodes",
            hint="commands that make a tweak do it, and need that time at their start",
        )


def _explain(opened: Opened, kind: HeadKind) -> str:
    """Where the logits are; with a condition where they may be none."""
    if kind.kind in ("one label", "several labels", "several labels at positions", "boxes"):
        return opened.logits.explain
    return f"{opened.logits.name!r}, if these are class scores: {opened.logits.rule}"


def _few(opened: Opened, data: DataSettings, engine: EngineSettings) -> tuple[dict[str, np.ndarray], Opened]:
    """A few samples, and the model with the values that the data gives to all of them."""
    reading = Reading(data.preprocess, engine.memory, boxes=opened.detector is not None)
    dataset = read_sources(data.data, opened.specs, reading)
    opened = opened.given(dataset.constants)
    return few_samples(opened, View(dataset, np.arange(len(dataset))), 3), opened


def _made_up(opened: Opened) -> dict[str, np.ndarray]:
    unknown = [p.name for p in opened.inputs if opened.model.graph.declared_shape(p.name) is None]
    if unknown:
        raise ModelError(
            "the model does not say which shape its input has, so its hidden tensors cannot be measured",
            where=f"input {unknown[0]} of {opened.model.path}",
            hint="give samples with -d DATA",
        )
    return made_up_samples(opened, {})


def _values(opened: Opened, ports: tuple[Port, ...]) -> tuple[Value, ...]:
    """Inputs or outputs as declared; a shape of None where not even the number of axes is."""
    declared = opened.model.graph.declared_shape
    return tuple((p.name, p.dtype, None if declared(p.name) is None else p.shape) for p in ports)


def _shape_row(found: tuple[str, tuple[int, ...]] | None) -> tuple[str, tuple[int, ...] | None, int]:
    if found is None:
        return ("?", None, 0)
    return (found[0], found[1], int(np.prod(found[1], dtype=np.int64)))
