"""What needs a model file but no samples: `inspect` and `apply`."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np

from onnxtweak.engine.harmless import harmless
from onnxtweak.engine.session import Port
from onnxtweak.engine.subject import (
    Opened,
    Subject,
    choose_taps,
    made_up_samples,
    measured,
    open_model,
    watchable,
)
from onnxtweak.errors import InputError, MachineError, ModelError
from onnxtweak.model.file import check_model_output
from onnxtweak.model.tweak_file import load
from onnxtweak.model.undo import tweaks_inside
from onnxtweak.outcomes import Applied, Inspection, Value
from onnxtweak.pipeline.deliver import splice_in, summary, write_proven
from onnxtweak.pipeline.undo import about
from onnxtweak.settings import EngineSettings, OutputSettings, TapSettings
from onnxtweak.types import FileRef, Progress, Tweak, silent
from onnxtweak.verify import (
    as_subject,
    check_checker,
    check_neutral,
    check_shadow,
    check_unharmed,
    require,
)


def inspect(
    *, model: str, taps: TapSettings = TapSettings(), engine: EngineSettings = EngineSettings()
) -> Inspection:
    """What is in a model: logits and how they were found, what can be watched, tweaks already inside.

    Hidden tensors are measured by running made-up samples; where that is not possible (no runtime, inputs of
    unknown size) they are listed without shapes, and a note says why. Raises ModelError for no classifier.
    """
    opened = open_model(model, taps)
    proto = opened.model.proto
    found = watchable(opened)
    notes, shapes, chosen, classes = [], {}, (), opened.logits.classes
    try:
        feeds = made_up_samples(opened, {})
        engine = replace(engine, device="cpu")
        subject, shapes = measured(opened, [c.name for c in found], feeds, engine)
        classes = subject.classes
        watched = harmless(subject, choose_taps(opened, found, shapes, taps), feeds, engine)
        chosen = watched.taps
        notes += watched.notes
    except (MachineError, InputError) as error:
        notes.append(f"{error}; {error.hint}" if error.hint else str(error))
    measurable = [c for c in found if not shapes or shapes.get(c.name) is not None]
    return Inspection(
        model=FileRef(str(opened.model.path), opened.model.sha256),
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
        tweaks=tuple(map(about, tweaks_inside(proto))),
        notes=tuple(notes),
    )


def _values(ports: tuple[Port, ...]) -> tuple[Value, ...]:
    return tuple((port.name, port.dtype, port.shape) for port in ports)


def _shape_row(found: tuple[str, tuple[int, ...]] | None) -> tuple:
    if found is None:
        return ("?", None, 0)
    return (found[0], found[1], int(np.prod(found[1], dtype=np.int64)))


def apply(
    *,
    model: str,
    tweak: str,
    output: OutputSettings,
    scale: float = 1.0,
    shadow: bool = False,
    engine: EngineSettings = EngineSettings(),
    progress: Progress = silent,
) -> Applied:
    """Write a saved tweak into its base. The same tweak at scale 1 gives the same bytes as when it was made.

    shadow : behind the base's bytes, as one more output, so that both can be compared in one pass.

    Raises InputError when they do not belong together, VerificationError when a proof fails.
    """
    begin = time.perf_counter()
    loaded = load(tweak)
    opened = open_model(model, TapSettings(logits=loaded.logits))
    check_model_output(opened.model, output.output, force=output.force)
    feeds = made_up_for(opened, loaded)
    subject, _ = measured(opened, (), feeds, engine)
    require_classes(subject, loaded)
    data = splice_in(subject, loaded, scale, shadow)
    checks = (
        check_neutral(subject, loaded, feeds, engine),
        check_checker(opened.model, data),
        check_unharmed(opened.model, data),
    )
    if shadow:
        checks += (check_shadow(subject, loaded, data, scale, feeds, engine),)
    require(checks)
    tweaked = as_subject(subject, data)
    checks += (write_proven(tweaked, output, feeds, engine),)
    return Applied(
        model=FileRef(str(opened.model.path), opened.model.sha256),
        output=FileRef(output.output, tweaked.model.sha256),
        tweak=summary(loaded),
        checks=checks,
        seconds={"all": time.perf_counter() - begin},
    )


def require_classes(subject: Subject, tweak: Tweak) -> None:
    """Raise ModelError where the tweak has another number of classes than the model."""
    if tweak.classes != subject.classes:
        raise ModelError(
            f"the tweak has {tweak.classes:,} classes, the model {subject.classes:,}",
            where=subject.logits,
            hint="the tweak file was changed after it was saved; save it again",
        )


def made_up_for(opened: Opened, tweak: Tweak) -> dict[str, np.ndarray]:
    """Made-up samples in the shapes that the tweak was made with, where the model leaves its sizes open."""
    try:
        return made_up_samples(opened, tweak.provenance.get("inputs", {}))
    except ModelError as error:
        raise ModelError(
            "neither model nor tweak says how large the input is, so the result cannot be proven",
            where=opened.model.path,
            hint="make the tweak again with this version",
        ) from error
