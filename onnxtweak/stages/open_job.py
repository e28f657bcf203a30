"""What does a command need to run a model? A job: model and samples opened, checked against each other."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from onnxtweak._version import __version__
from onnxtweak.data.dataset import Dataset
from onnxtweak.data.labels import number_by_labels
from onnxtweak.data.samples import Value
from onnxtweak.data.splits import Splits, open_splits, unsplit
from onnxtweak.engine.answer.answered import answered
from onnxtweak.engine.backends import open_backend
from onnxtweak.engine.machine.memory_plan import model_room, too_little
from onnxtweak.engine.opened import Opened, open_model, starting
from onnxtweak.engine.passes import Engine, RunStats, bytes_at_positions, known_by_memory
from onnxtweak.engine.scoring.scoring import shard_for
from onnxtweak.engine.session import runtime_version
from onnxtweak.engine.subject import Subject, few_samples, hidden, measured, watchable
from onnxtweak.engine.tap_safety import SafeTaps, trial_samples
from onnxtweak.engine.workers.processes import Crew
from onnxtweak.errors import DataError
from onnxtweak.goal import class_names
from onnxtweak.head import Head
from onnxtweak.model.file.external_data import hash_file
from onnxtweak.model.file.model_file import ModelFile, ModelSource
from onnxtweak.model.inspect.taps import candidates_note
from onnxtweak.results import RunFacts
from onnxtweak.settings import DataSettings, EngineSettings, TapSettings
from onnxtweak.stages.boxes.settle_boxes import settle_boxes
from onnxtweak.stages.companions import TRIED, settle
from onnxtweak.stages.head_check import (
    also_changed,
    check_labels_fit,
    has_several,
    known_head,
    labelled_for,
    require_declared_type,
)
from onnxtweak.stages.lines.settle_lines import settle_lines
from onnxtweak.stages.preprocess_record import as_recorded, explaining
from onnxtweak.stages.rows.own_positions import positions_of_each, require_one_size
from onnxtweak.stages.rows.unlabelled import rows_without_labels
from onnxtweak.stages.watch_taps import Hidden, watch_taps
from onnxtweak.types import FileRef, Progress, Tap

# Selectors that choose nothing but activations and block outputs: only those have to be measured.
_MAPS = {"activations", "stages", "blocks"}


@dataclass(frozen=True)
class OpenedFrom:
    """What a job was opened from.

    whole : `data` is not split, all of it is fit. alone : whether samples are run one at a time, because
    answers depend on the batch.
    """

    data: DataSettings
    taps: TapSettings
    whole: bool
    alone: bool = False


@dataclass(frozen=True)
class Job:
    """A model, its samples, and what is watched.

    names : of all classes. begin : `time.perf_counter` when opening began.
    """

    opened: Opened
    subject: Subject
    splits: Splits
    taps: tuple[Tap, ...]
    names: tuple[str, ...]
    engine: Engine
    origin: OpenedFrom
    begin: float

    @property
    def model(self) -> FileRef:
        """The base."""
        return model_ref(self.opened.model)

    @property
    def head(self) -> Head:
        """How the base's logits become the answer that it shows."""
        return self.subject.head

    @property
    def answer_record(self) -> dict[str, Any]:
        """For the provenance: what cannot be seen in the model's logits alone."""
        record: dict[str, Any] = {"several_labels": True} if self.head.several else {}
        if self.subject.detector is not None:
            record = {"detector": self.subject.detector.record}
        if self.subject.readout is not None:
            record["readout"] = self.subject.readout.record
        answer = self.subject.answer
        if answer is not None and answer.kind == "number" and answer.cut > 0:
            record["threshold"] = answer.cut
        return record

    @property
    def files_read(self) -> tuple[Path, ...]:
        """The files of the samples, which no output may replace."""
        parts = (part for dataset in _datasets(self.splits) for part in dataset.parts)
        return tuple({path: None for part in parts for path in part.read})

    @property
    def neurons(self) -> int:
        """How many neurons are watched."""
        return sum(tap.neurons for tap in self.taps)

    @property
    def samples(self) -> dict[str, int]:
        """How many samples each split has, by its role, and each list; stand-ins do not count."""
        splits, own = self.splits, int(self.has_data)
        found = {"fit": own * len(splits.fit), "validation": own * len(splits.validation)}
        found["test"] = 0 if splits.test is None else len(splits.test)
        return found | {role: len(view) for role, view in splits.listed.items()}

    @property
    def has_data(self) -> bool:
        """Whether there are labelled samples beside those that are listed."""
        return bool(self.origin.data.data)

    @property
    def seed(self) -> int:
        """Seed of the split, and of everything random after it."""
        return self.origin.data.seed

    def cache_key(self, **facts: Any) -> str:
        """The `cache_key` of what is computed with the model. facts : what it depends on besides the job."""
        return cache_key(
            {
                "prepared": self.engine.prepared,
                "base": self.opened.model.base_sha256,
                "logits": self.subject.logits,
                **({"alone": True} if self.origin.alone else {}),
                **facts,
            }
        )

    @property
    def run(self) -> RunFacts:
        """What has been run so far."""
        return run_facts(self.engine, self.begin)

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """Learn inside: where the back end computes, the seconds added to the statistics."""
        begin = time.perf_counter()
        with self.engine.backend.learning():
            yield
        self.engine.stats.seconds[name] = time.perf_counter() - begin


def prepare(
    model: ModelSource,
    data: DataSettings,
    settings: EngineSettings,
    taps: TapSettings,
    progress: Progress,
    *,
    watch: bool = True,
) -> Job:
    """Open model and data, measure the hidden tensors on real samples, choose the taps.

    watch : whether taps are wanted.
    """
    begin = time.perf_counter()
    opened = open_model(model, taps).given(dict(data.inputs))
    data, notes = as_recorded(labelled_for(opened, data), opened.model)
    with explaining(notes):
        splits = _opened_splits(opened, data, settings, progress, whole=False)
    splits = replace(splits, notes=(*notes, *splits.notes))
    origin = OpenedFrom(data, taps, whole=False)
    return _job(opened, splits, settings, progress, origin, begin, watch)


def _opened_splits(
    opened: Opened, data: DataSettings, settings: EngineSettings, progress: Progress, whole: bool
) -> Splits:
    """The samples that a model takes. whole : all of `data` is fit."""
    read = unsplit if whole else open_splits
    return read(data, opened.specs, settings.memory, progress, several=opened.may_have_several_labels)


def _job(
    opened: Opened,
    splits: Splits,
    settings: EngineSettings,
    progress: Progress,
    origin: OpenedFrom,
    begin: float,
    watch: bool = True,
) -> Job:
    taps = origin.taps
    most = max(map(len, splits.views))
    batch = None if settings.batch is None else min(settings.batch, most)
    settings = replace(settings, shard=shard_for(len(splits.fit), settings.shard), batch=batch)
    opened = opened.given(_constants(splits))
    kind = known_head(opened)
    require_one_size(opened, splits)
    several = has_several(kind, splits.fit.dataset, origin.data)
    with starting(opened, "start the model", progress):
        opened = answered(opened, splits.fit, settings, taps.threshold, several=several)
    splits = _numbered(splits, opened)
    # Measured even where nothing is watched: the largest hidden tensor decides the batch size.
    found = watchable(opened) if watch else hidden(opened)
    bounded = (*settings.notes, *(candidates_note(found) if watch else ()))
    if set(taps.taps) <= _MAPS:
        found = tuple(c for c in found if c.activation or c.block) or found
    few = few_samples(opened, splits.fit, 3)
    with starting(opened, "measure hidden tensors", progress):
        subject, shapes = measured(opened, [c.name for c in found], few, settings)
    settled = settle(subject, few_samples(opened, splits.fit, TRIED), settings)
    subject = settled.subject
    require_declared_type(opened, subject)
    reserved = _reserved_bytes(subject, splits, settings)
    how = asdict(origin.data.preprocess), dict(opened.constants)
    prepared_as = cache_key({"onnxtweak": __version__, "fed": how, "on": [settings.device, settings.batch]})
    backend, crew = open_backend(settings), Crew(settings)
    opened_engine = Engine(settings, backend, progress, RunStats(), reserved, crew, prepared_as)
    engine = known_by_memory(opened_engine, subject)
    splits = positions_of_each(splits, subject, engine, origin.data.seed, whole=origin.whole)
    splits = rows_without_labels(splits, subject, engine, origin.data.seed, whole=origin.whole)
    if subject.detector is not None:
        splits, subject = settle_boxes(splits, subject, few, engine, origin.data, whole=origin.whole)
    else:
        splits, subject = settle_lines(splits, subject, engine, origin.data, whole=origin.whole)
    said = [note for data in _datasets(splits) for note in check_labels_fit(kind, data, subject, opened)]
    said += also_changed(opened)
    # The notes begin with how samples are prepared: a wrong scale or layout shows here.
    prepared = [line.removeprefix("note: ") for line in splits.fit.dataset.describe().splitlines()]
    fixed = [f"`{name}` is {one.value} for all samples" for name, one in subject.feeding.constants.items()]
    notes = (*bounded, *settled.notes, *prepared, *fixed, *said, *splits.notes)
    splits = replace(splits, notes=tuple(dict.fromkeys(notes)))
    watched = SafeTaps((), ())
    if watch:
        tried = few_samples(opened, splits.fit, trial_samples(subject))
        watched = watch_taps(opened, subject, Hidden(found, shapes), tried, taps, settings, progress)
        splits = replace(splits, notes=(*splits.notes, *watched.notes))
    origin = replace(origin, alone=settled.alone)
    short = filter(None, [too_little(settings.memory, reserved + bytes_at_positions(subject, watched.taps))])
    splits = replace(splits, notes=(*splits.notes, *short))
    names = class_names(splits.classes, subject.classes)
    engine = known_by_memory(opened_engine, subject, watched.taps)
    return Job(opened, subject, splits, watched.taps, names, engine, origin, begin)


def _numbered(splits: Splits, opened: Opened) -> Splits:
    """The splits with the model's own labels as class numbers, where it names its classes."""
    labels = None if opened.answer is None else opened.answer.labels
    if labels is None or opened.logits.at_positions:
        return splits
    datasets = _datasets(splits)
    present = np.concatenate([dataset.labels[dataset.known] for dataset in datasets])
    found = {id(dataset): number_by_labels(dataset, labels, present) for dataset in datasets}
    changed = splits.with_views(lambda view: replace(view, dataset=found[id(view.dataset)]))
    notes = tuple(note for dataset in found.values() for note in dataset.notes)
    classes = next(iter(found.values())).classes
    return replace(changed, classes=classes, notes=tuple(dict.fromkeys((*splits.notes, *notes))))


def _constants(splits: Splits) -> dict[str, Value]:
    """The values that the data gives to inputs that are the same for all samples.

    Raises DataError where two splits give two.
    """
    first, *others = _datasets(splits)
    for other in others:
        if other.constants != first.constants:
            raise DataError(
                f"inputs that are the same for all samples differ: {dict(first.constants)} in "
                f"{first.parts[0].where}, {dict(other.constants)} here",
                where=other.parts[0].where,
                hint="use samples with the same values",
            )
    return dict(first.constants)


def _reserved_bytes(subject: Subject, splits: Splits, settings: EngineSettings) -> int:
    """Bytes of the model while it runs, and of samples that are in memory."""
    file = subject.model
    external = sum(external.size for external in file.external)
    model = model_room(len(file.data), external, subject.maps, subject.largest, subject.batch, settings)
    return model + sum(dataset.bytes_in_memory for dataset in _datasets(splits))


def _datasets(splits: Splits) -> tuple[Dataset, ...]:
    """The datasets of the splits, each once."""
    return tuple({id(view.dataset): view.dataset for view in splits.views}.values())


def open_whole(
    model: ModelSource,
    data: DataSettings,
    settings: EngineSettings,
    taps: TapSettings,
    progress: Progress,
    *,
    watch: bool = True,
) -> Job:
    """A job without a split: all samples of `data` are its fit view. watch : whether taps are wanted."""
    begin = time.perf_counter()
    opened = open_model(model, taps).given(dict(data.inputs))
    data, notes = as_recorded(labelled_for(opened, data), opened.model)
    with explaining(notes):
        splits = replace(_opened_splits(opened, data, settings, progress, whole=True), notes=notes)
    origin = OpenedFrom(data, taps, whole=True)
    return _job(opened, splits, settings, progress, origin, begin, watch)


def file_ref(path: str | Path) -> FileRef:
    """A file on disk and its digest."""
    return FileRef(str(path), hash_file(Path(path)))


def cache_key(facts: Mapping[str, Any]) -> str:
    """32 hex digits that change with each of the facts, which are plain data."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32]


def model_ref(model: ModelFile) -> FileRef:
    """A model that has been read, and its digest."""
    return FileRef(str(model.path), model.sha256)


def run_facts(engine: Engine, begin: float) -> RunFacts:
    """What has been run with `engine`, how long it took, and where. begin : `perf_counter` at the start."""
    stats = engine.stats
    device = {
        "device": stats.device,
        "backend": engine.backend.name,
        "onnxruntime": runtime_version(),
        "providers": dict(stats.providers),
        **({"learning": " and ".join(sorted(stats.learnt, reverse=True))} if stats.learnt else {}),
    }
    return RunFacts({**stats.seconds, "all": time.perf_counter() - begin}, tuple(stats.passes), device)
