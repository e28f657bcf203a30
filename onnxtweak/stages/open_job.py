"""What every command that runs a model begins with: model and samples opened, checked against each other."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from onnxtweak._version import __version__
from onnxtweak.data.dataset import check_labels
from onnxtweak.data.labels import read_names
from onnxtweak.data.open_data import open_data
from onnxtweak.data.splits import Splits, View, open_splits
from onnxtweak.engine.backends import open_backend
from onnxtweak.engine.memory_plan import model_room, too_little
from onnxtweak.engine.passes import Engine, RunStats
from onnxtweak.engine.scoring.scoring import from_model, shard_for
from onnxtweak.engine.scoring.sweep import Read
from onnxtweak.engine.session import runtime_version
from onnxtweak.engine.subject import (
    Opened,
    Subject,
    choose_taps,
    few_samples,
    hidden,
    measured,
    open_model,
    watchable,
)
from onnxtweak.engine.tap_safety import safe_taps
from onnxtweak.errors import ModelError
from onnxtweak.goal import class_names
from onnxtweak.head import Head
from onnxtweak.model.file.external_data import hash_file
from onnxtweak.results import RunFacts
from onnxtweak.settings import DataSettings, EngineSettings, TapSettings
from onnxtweak.types import FileRef, Progress, Tap

# Selectors that never choose anything but activations and block outputs: only those need be measured.
_MAPS = {"activations", "stages", "blocks"}


@dataclass(frozen=True)
class FitSamples:
    """How a worker opens the fit samples of a job again. whole : they are all samples of `data`, unsplit."""

    model: str
    data: DataSettings
    taps: TapSettings
    whole: bool

    def __call__(self, engine: Engine) -> Read:
        """Batches of them."""
        make = open_whole if self.whole else prepare
        job = make(self.model, self.data, engine.settings, self.taps, engine.progress)
        engine = replace(engine, reserved_bytes=job.engine.reserved_bytes)
        return from_model(job.subject, job.splits.fit, engine, job.taps)


@dataclass(frozen=True)
class Job:
    """A model, its samples, and what is watched. names : of all classes."""

    opened: Opened
    subject: Subject
    splits: Splits
    taps: tuple[Tap, ...]
    names: tuple[str, ...]
    engine: Engine
    reopen: FitSamples | None = None

    @property
    def model(self) -> FileRef:
        """The base."""
        return FileRef(str(self.opened.model.path), self.opened.model.sha256)

    @property
    def head(self) -> Head:
        """How the base's logits become the answer that it shows."""
        return self.subject.head

    @property
    def cache_facts(self) -> dict[str, Any]:
        """What everything computed with the model depends on, in plain data; part of every cache key."""
        fed = None if self.reopen is None else asdict(self.reopen.data.preprocess)
        return {
            "onnxtweak": __version__,
            "base": self.opened.model.base_sha256,
            "logits": self.subject.logits,
            "fed": fed,
            "device": self.engine.settings.device,
        }

    @property
    def machine(self) -> dict[str, Any]:
        """Where the model and the arithmetic really ran."""
        return machine(self.engine)


def prepare(
    model: str, data: DataSettings, settings: EngineSettings, taps: TapSettings, progress: Progress
) -> Job:
    """Open model and data, measure the hidden tensors on real samples, choose the taps."""
    opened = open_model(model, taps)
    splits = open_splits(data, opened.specs, settings.memory)
    job = _job(opened, splits, settings, taps, progress, watch=True)
    return replace(job, reopen=FitSamples(model, data, taps, whole=False))


def _job(
    opened: Opened,
    splits: Splits,
    settings: EngineSettings,
    taps: TapSettings,
    progress: Progress,
    watch: bool,
) -> Job:
    settings = replace(settings, shard=shard_for(len(splits.fit), settings.shard))
    # Measured even where nothing is watched: the largest hidden tensor decides the batch size.
    found = watchable(opened) if watch else hidden(opened)
    if set(taps.taps) <= _MAPS:
        found = tuple(c for c in found if c.activation or c.block) or found
    feeds = few_samples(opened, splits.fit, 3)
    subject, shapes = measured(opened, [c.name for c in found], feeds, settings)
    for view in (splits.fit, splits.validation, splits.test):
        if view is not None:
            check_labels(view.dataset, subject.classes)
    # What becomes of the samples on their way in is said first: a wrong scale or layout shows here.
    said = [line.removeprefix("note: ") for line in splits.fit.dataset.describe().splitlines()]
    splits = replace(splits, notes=tuple(dict.fromkeys((*said, *splits.notes))))
    chosen: tuple[Tap, ...] = ()
    if watch:
        watched = safe_taps(subject, choose_taps(opened, found, shapes, taps), feeds, settings)
        chosen, splits = watched.taps, replace(splits, notes=(*splits.notes, *watched.notes))
    reserved = _reserved_bytes(subject, splits, settings)
    short = too_little(settings.memory, reserved)
    if short is not None:
        splits = replace(splits, notes=(*splits.notes, short))
    return Job(
        opened,
        subject,
        splits,
        chosen,
        class_names(splits.classes, subject.classes),
        Engine(settings, open_backend(settings), progress, RunStats(), reserved),
    )


def _reserved_bytes(subject: Subject, splits: Splits, settings: EngineSettings) -> int:
    """Bytes of the model while it runs, and of samples that are in memory."""
    file = subject.model
    external = sum(external.size for external in file.external)
    model = model_room(len(file.data), external, subject.maps, subject.largest, subject.batch, settings)
    views = [view for view in (splits.fit, splits.validation, splits.test) if view is not None]
    return model + sum({id(view.dataset): view.dataset.bytes_in_memory for view in views}.values())


def open_whole(
    model: str,
    data: DataSettings,
    settings: EngineSettings,
    taps: TapSettings,
    progress: Progress,
    *,
    watch: bool = True,
) -> Job:
    """A job without a split: all samples of `data` are its fit view. watch : whether taps are wanted."""
    opened = open_model(model, taps)
    dataset = open_data(
        data.data,
        inputs=opened.specs,
        preprocess=data.preprocess,
        names=None if data.names is None else read_names(data.names),
        memory=settings.memory,
    )
    view = View(dataset, np.arange(len(dataset)))
    job = _job(opened, Splits(view, view, None, dataset.classes), settings, taps, progress, watch)
    return replace(job, reopen=FitSamples(model, data, taps, whole=True))


def file_ref(path: str | Path) -> FileRef:
    """A file on disk and its digest."""
    return FileRef(str(path), hash_file(Path(path)))


def machine(engine: Engine) -> dict[str, Any]:
    """Device, back end, runtime version, and how many nodes each execution provider got."""
    return {
        "device": engine.stats.device,
        "backend": engine.backend.name,
        "onnxruntime": runtime_version(),
        "providers": dict(engine.stats.providers),
    }


def run_facts(engine: Engine, begin: float) -> RunFacts:
    """What has been run with `engine`. begin : `perf_counter` at the start of the command."""
    seconds = {**engine.stats.seconds, "all": time.perf_counter() - begin}
    return RunFacts(seconds, tuple(engine.stats.passes), machine(engine))


def open_for_tables(
    model: str, data: DataSettings, settings: EngineSettings, taps: TapSettings, progress: Progress
) -> Job:
    """`prepare`, where no selector means the activations and, if there is one, the penultimate tensor."""
    if taps.taps:
        return prepare(model, data, settings, taps, progress)
    for selectors in (("activations", "penultimate"), ("activations",), ("penultimate",)):
        try:
            return prepare(model, data, settings, replace(taps, taps=selectors), progress)
        except ModelError as error:
            if "--taps" not in error.where:
                raise
            refused = error
    raise refused
