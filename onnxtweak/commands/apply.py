"""How is a saved tweak applied? It is written into the model that it was made for."""

from __future__ import annotations

import time

import numpy as np

from onnxtweak.bounded import require_number
from onnxtweak.engine.opened import opened_model
from onnxtweak.engine.subject import Subject
from onnxtweak.model.edit.splice import require_same_base
from onnxtweak.model.edit.tweak_file import load
from onnxtweak.model.file.model_file import ModelSource, read_model
from onnxtweak.model.file.output_file import Delivery
from onnxtweak.model.file.output_paths import check_model_output
from onnxtweak.patch import Tweak
from onnxtweak.results import Applied
from onnxtweak.settings import FINITE, EngineSettings, OutputSettings
from onnxtweak.stages.checks import (
    as_subject,
    check_checker,
    check_neutral,
    check_shadow,
    check_unharmed,
    require,
)
from onnxtweak.stages.deliver import summary, write_checked
from onnxtweak.stages.open_job import model_ref
from onnxtweak.stages.open_tweak import open_subject, recorded_taps
from onnxtweak.stages.preprocess_record import note_of
from onnxtweak.stages.proposal import splice_in
from onnxtweak.types import Check, FileRef, Progress, silent


def apply(
    *,
    model: ModelSource,
    tweak: str | Tweak,
    output: OutputSettings,
    scale: float = 1.0,
    shadow: bool = False,
    engine: EngineSettings = EngineSettings(),
    progress: Progress = silent,
) -> Applied:
    """Write a tweak, or the file that holds it, into its base. Scale 1 gives the bytes of when it was made.

    shadow : leave the base's logits as they are, and add the tweaked logits as one more output.

    Raises InputError where tweak and model do not belong together, VerificationError when a check fails.
    """
    require_number(scale, FINITE, "--scale")
    begin = time.perf_counter()
    loaded = tweak if isinstance(tweak, Tweak) else load(tweak)
    protect = [] if isinstance(tweak, Tweak) else [tweak]
    file = read_model(model)
    require_same_base(file, loaded)
    opened = opened_model(file, recorded_taps(loaded.logits, loaded.provenance))
    check_model_output(opened.model, output.path, force=output.force, protect=protect)
    subject, feeds = open_subject(opened, [loaded], engine)
    if not loaded.patch.changes_logits and not shadow:
        data = opened.model.data  # as the command did that saved it
        nothing = "the tweak changes nothing: the output is a copy of the base"
        checks: tuple[Check, ...] = (Check("unharmed", True, nothing),)
    else:
        data = splice_in(subject, loaded, scale, shadow)
        checks = _proofs(subject, loaded, data, feeds, engine)
    if shadow:
        checks += (check_shadow(subject, loaded, data, scale, feeds, engine),)
    require(checks)
    tweaked = as_subject(subject, data)
    with Delivery(force=output.force, protect=protect) as delivery:
        checks += (write_checked(delivery, subject, tweaked, output, feeds, engine),)
        delivery.commit()
    return Applied(
        model=model_ref(opened.model),
        output=FileRef(output.path, tweaked.model.sha256),
        tweak=summary(loaded),
        checks=checks,
        seconds={"all": time.perf_counter() - begin},
        notes=note_of(loaded),
    )


def _proofs(
    subject: Subject, loaded: Tweak, data: bytes, feeds: dict[str, np.ndarray], engine: EngineSettings
) -> tuple[Check, ...]:
    return (
        check_neutral(subject, loaded, feeds, engine),
        check_checker(subject.model, data),
        check_unharmed(subject.model, data),
    )
