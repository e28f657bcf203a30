"""How does one model serve many tweaks? It gets a slot, and each tweak an adapter that fills it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from onnxtweak.bounded import require_number
from onnxtweak.engine.opened import opened_model
from onnxtweak.engine.subject import Subject
from onnxtweak.errors import UsageError
from onnxtweak.model.edit.slot import Slot, adapter_bytes, fill, slot_inside, with_slot
from onnxtweak.model.edit.splice import require_same_base, splice_to_run
from onnxtweak.model.edit.tweak_file import load
from onnxtweak.model.file.model_file import ModelFile, read_model
from onnxtweak.model.file.output_file import Delivery, write_atomic
from onnxtweak.model.file.output_paths import (
    check_distinct,
    check_model_output,
    check_output,
    external_copies,
)
from onnxtweak.patch import Tweak
from onnxtweak.results import Applied
from onnxtweak.settings import FINITE, EngineSettings, OutputSettings
from onnxtweak.stages.checks import (
    as_subject,
    check_checker,
    check_close,
    check_silenced,
    check_unharmed,
    require,
    run_batch,
)
from onnxtweak.stages.deliver import write_checked
from onnxtweak.stages.head_check import require_no_boxes
from onnxtweak.stages.open_job import file_ref, model_ref
from onnxtweak.stages.open_tweak import open_subject, recorded_taps
from onnxtweak.stages.preprocess_record import shared_by
from onnxtweak.types import PLACE, Check, FileRef, Progress, Tap, silent


def slot(
    *,
    model: str,
    tweaks: Sequence[str],
    output: OutputSettings,
    scale: float = 1.0,
    engine: EngineSettings = EngineSettings(),
    progress: Progress = silent,
) -> Applied:
    """Write `model` with a slot that takes any of the tweaks, and an adapter of each tweak beside it.

    The adapters are named like the tweak files, with `.onnx_adapter`. Where the model has a slot already, the
    output is the adapter of the one tweak given. Raises InputError where tweaks and model do not belong
    together, VerificationError when a check fails; nothing is written then.
    """
    require_number(scale, FINITE, "--scale")
    begin = time.perf_counter()
    loaded = [load(tweak) for tweak in tweaks]
    file = read_model(model)
    protect = [*file.files, *map(Path, tweaks)]
    existing = slot_inside(file.proto)
    if existing is not None:
        return _adapter_alone(file, existing, loaded, output, scale, begin, protect)
    for tweak in loaded:
        require_same_base(file, tweak)
    places = [Path(output.path).parent / f"{Path(tweak).stem}.onnx_adapter" for tweak in tweaks]
    if len(set(places)) < len(places):
        raise UsageError("two tweak files have the same name", hint="rename one: so would their adapters")
    check_model_output(file, output.path, force=output.force, protect=tweaks)
    copies = [copy for _, copy in external_copies(file, Path(output.path))]
    check_distinct([output.path, *copies, *places])
    for place in places:
        check_output(place, force=output.force, protect=protect)
    taps = recorded_taps(loaded[0].logits, loaded[0].provenance)
    subject, feeds = open_subject(opened_model(file, taps), loaded, engine)
    require_no_boxes(subject, "a slot")
    data = _slotted(subject, loaded)
    slotted = as_subject(subject, data)
    empty = slot_inside(slotted.model.proto)
    assert empty is not None  # it was just added
    filled = [fill(empty, tweak, scale) for tweak in loaded]
    checks = [
        check_silenced(subject, slotted, feeds, engine),
        check_checker(file, data),
        check_unharmed(file, data),
        *(
            _check_filled(subject, slotted, tweak, arrays, scale, feeds, engine)
            for tweak, arrays in zip(loaded, filled, strict=True)
        ),
    ]
    require(tuple(checks))
    adapters = [adapter_bytes(arrays) for arrays in filled]
    with Delivery(force=output.force, protect=protect) as delivery:
        checks.append(write_checked(delivery, subject, slotted, output, feeds, engine))
        for place, content in zip(places, adapters, strict=True):
            delivery.add(place, [content])
        delivery.commit()
    return Applied(
        model=model_ref(file),
        output=FileRef(output.path, slotted.model.sha256),
        tweak={"kind": "slot", "parameters": 0, "synapses": None},
        checks=tuple(checks),
        seconds={"all": time.perf_counter() - begin},
        adapters=tuple(map(file_ref, places)),
    )


def _slotted(subject: Subject, tweaks: Sequence[Tweak]) -> bytes:
    """The model with a slot on all taps that the tweaks read."""
    taps: dict[Tap, None] = {}
    for tweak in tweaks:
        if tweak.logits != tweaks[0].logits:
            raise UsageError("the tweaks change different logits", hint="make a model with a slot for each")
        taps |= dict.fromkeys(tap for tap in tweak.neurons.taps if tap.pool != PLACE)
    biases = [tweak.patch.output_bias for tweak in tweaks if tweak.patch.as_linear(tweak.classes) is not None]
    bias = any(bias is not None and np.any(bias) for bias in biases)
    if not taps and not bias:
        raise UsageError(
            "no tweak changes anything, so a slot would have nothing to take",
            hint="the base was the best when they were made: use it as it is",
        )
    return with_slot(
        subject.model,
        tuple(taps),
        logits=subject.logits,
        classes=subject.classes,
        logits_format=subject.logits_format,
        bias=bias,
        provenance=shared_by(tweaks),
    )


def _check_filled(
    base: Subject,
    slotted: Subject,
    tweak: Tweak,
    arrays: dict[str, np.ndarray],
    scale: float,
    feeds: dict[str, np.ndarray],
    engine: EngineSettings,
) -> Check:
    """The filled slot computes the same logits as the tweak written into the model."""
    constant = as_subject(base, splice_to_run(base.model, tweak, base.logits_format, scale=scale))
    expected, _ = run_batch(constant, feeds, engine)
    found, _ = run_batch(slotted, feeds, engine, arrays)
    return check_close("slot", f"filled with the tweak '{tweak.kind}' it", expected, found, base.dtype)


def _adapter_alone(
    file: ModelFile,
    existing: Slot,
    tweaks: Sequence[Tweak],
    output: OutputSettings,
    scale: float,
    begin: float,
    protect: Sequence[Path],
) -> Applied:
    """An adapter for a slot that the model has already."""
    if len(tweaks) > 1:
        raise UsageError(
            "the model has a slot already, so -o names one adapter", hint="give one tweak at a time"
        )
    arrays = fill(existing, tweaks[0], scale)
    content = adapter_bytes(arrays)
    write_atomic(output.path, [content], force=output.force, protect=protect)
    written = file_ref(output.path)
    return Applied(
        model=model_ref(file),
        output=written,
        tweak={"kind": tweaks[0].kind, "parameters": sum(map(np.count_nonzero, arrays.values()))},
        checks=(Check("slot", True, "the tweak was made for the base of this slot and fits into it"),),
        seconds={"all": time.perf_counter() - begin},
        adapters=(written,),
    )
