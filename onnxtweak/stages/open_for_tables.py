"""How is a job opened whose method learns from tables? It watches what tables hold, or nothing at all."""

from __future__ import annotations

from dataclasses import replace

from onnxtweak.engine.opened import open_model
from onnxtweak.engine.subject import few_samples, front_of, hidden
from onnxtweak.engine.tap_safety import neutral_samples, require_neutral
from onnxtweak.errors import ModelError
from onnxtweak.model.file.model_file import ModelSource
from onnxtweak.model.file.tweak_metadata import tweaks_inside
from onnxtweak.settings import DataSettings, EngineSettings, TapSettings
from onnxtweak.stages.open_job import Job, prepare
from onnxtweak.stages.watch_taps import NONE_READABLE
from onnxtweak.types import Progress

NO_HIDDEN = "no hidden tensor lies between the model's input and its logits: only biases can be set"
_NONE_READABLE = "no hidden tensor can be read without changing the model's logits: only biases are set"
_NO_USUAL = "the model has no activation and no penultimate tensor: only biases are set; --taps names others"


def open_for_tables(
    model: ModelSource, data: DataSettings, settings: EngineSettings, taps: TapSettings, progress: Progress
) -> Job:
    """`prepare`, where no selector means the activations and, if there is one, the penultimate tensor.

    Where there are scores at positions it also means the front, if there is one. A model that has none of
    them, or none that can be read, has no taps then, and a note says so: its biases can still be set. Raises
    ModelError where not even these can, because the runtime would compute the base otherwise.
    """
    if taps.taps:
        return prepare(model, data, settings, taps, progress)
    opened = open_model(model, taps)
    added = tuple(tweak.prefix for tweak in tweaks_inside(opened.model.proto))
    none = all(candidate.name.startswith(added) for candidate in hidden(opened))
    note = NO_HIDDEN if none else _NO_USUAL
    usual: tuple[tuple[str, ...], ...] = (("activations", "penultimate"), ("activations",), ("penultimate",))
    if opened.detector is not None:  # whose scores come from several maps
        usual = usual[1:2]
    front = front_of(opened)
    if opened.detector is None and opened.may_be_at_positions and front:
        usual = (*((*selectors, "front") for selectors in usual[:2]), *usual)
    for selectors in () if none else usual:
        try:
            job = prepare(model, data, settings, replace(taps, taps=selectors), progress)
            own = job.taps if job.subject.sizes else tuple(tap for tap in job.taps if tap.name not in front)
            return replace(job, taps=own)
        except ModelError as error:
            if error.hint == NONE_READABLE:
                note = _NONE_READABLE
                break
            if "--taps" not in error.where:
                raise
    job = prepare(model, data, settings, taps, progress, watch=False)
    feeds = few_samples(job.opened, job.splits.fit, neutral_samples(job.subject))
    require_neutral(job.subject, feeds, job.engine.settings)
    return replace(job, splits=replace(job.splits, notes=(*job.splits.notes, note)))
