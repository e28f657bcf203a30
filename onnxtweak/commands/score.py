"""How is every neuron scored? By theta for the targets, over samples or over a dump of the model."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from onnxtweak.engine.backends import open_backend
from onnxtweak.engine.dump import dumped_batches, dumped_labels, is_dump, read_dump
from onnxtweak.engine.kept.npz import npz
from onnxtweak.engine.passes import Captured, Engine, RunStats
from onnxtweak.engine.scoring.score_file import ScoreTables
from onnxtweak.engine.scoring.scoring import from_model
from onnxtweak.engine.scoring.sweep import Read, ScoringTask
from onnxtweak.errors import DataError
from onnxtweak.goal import class_names, find_targets
from onnxtweak.head import ONE_LABEL, SEVERAL_LABELS, Head
from onnxtweak.method.selection.candidates import Theta
from onnxtweak.method.selection.ranking import Ranking, rank, united
from onnxtweak.model.file.model_file import ModelSource, read_model
from onnxtweak.model.file.output_file import write_atomic
from onnxtweak.model.file.output_paths import check_output
from onnxtweak.results import Scored
from onnxtweak.settings import (
    DataSettings,
    EngineSettings,
    JoinSettings,
    OutputSettings,
    TapSettings,
    TargetSettings,
)
from onnxtweak.stages.check_paths import check_paths, files_named
from onnxtweak.stages.head_check import require_no_boxes
from onnxtweak.stages.open_job import file_ref, open_whole, run_facts
from onnxtweak.stages.plan_passes import PassRequest
from onnxtweak.stages.preprocessing_check import require_sound_base
from onnxtweak.stages.score import score_batches, score_neurons
from onnxtweak.types import Progress, Tap, silent

_SHOWN = 5  # rows of the ranking shown per target
_DUMP_BATCH = 256


def score(
    *,
    model: ModelSource,
    data: DataSettings,
    engine: EngineSettings = EngineSettings(),
    taps: TapSettings = TapSettings(),
    targets: TargetSettings,
    settings: JoinSettings = JoinSettings(),
    output: OutputSettings = OutputSettings(),
    progress: Progress = silent,
) -> Scored:
    """Theta of every neuron for the targets, over all samples of `data`, or over a dump of this model.

    settings : only `theta`, `criterion` and the largest `count` are used. Raises InputError.
    """
    begin = time.perf_counter()
    check_paths(output, model, data, engine)
    source = _open_source(model, data, engine, taps, progress)
    protect = [*source.files, *files_named(data, engine)]
    if output.output is not None:
        check_output(output.output, force=output.force, protect=protect)
    predicted = None
    if targets.worst is not None and not targets.targets:
        batches = source.read("find the worst", (), None)
        predicted = np.concatenate([source.head.predict(batch.Z) for batch in batches])
    chosen = find_targets(targets, source.names, source.labels, source.labels, predicted)
    names = tuple(source.names[j] for j in chosen)
    criterion = "auto" if settings.criterion == "net-gain" else settings.criterion
    tables = None if output.output is None else ScoreTables(Path(output.output))
    written = None
    try:
        found = source.score(chosen, settings.theta, max(settings.count), tables)
        rankings = [
            rank(best, source.taps, criterion, max(settings.count), f"class {name}")
            for best, name in zip(found.best, names, strict=True)
        ]
        if tables is not None:
            header = _header(rankings, source.taps, chosen, names, settings.theta)
            contents = npz(tables.arrays | header)
            write_atomic(output.path, contents, force=output.force, protect=protect)
            written = file_ref(output.path)
    finally:
        if tables is not None:
            tables.close()
    return Scored(
        output=written,
        neurons=sum(tap.neurons for tap in source.taps),
        targets=names,
        top=tuple(_rows(rankings, names)),
        dropped=found.dropped,
        run=run_facts(source.engine, begin),
        notes=source.notes,
    )


def passes(request: PassRequest) -> None:
    """The pass over samples that scoring would make."""
    settings = request.settings(JoinSettings)
    request.planner.score(request.count, settings.theta, max(settings.count), request.chosen)


@dataclass(frozen=True)
class _ScoreSource:
    """What can be scored: samples of a job, or a dump.

    score : as `score_neurons`, without its job. labels (N,) int64. names : of all classes. files : that are
    read. head : how logits become decisions. notes : to tell.
    """

    read: Read
    score: Callable[[np.ndarray, str, int, ScoreTables | None], Theta]
    labels: np.ndarray
    taps: tuple[Tap, ...]
    names: tuple[str, ...]
    engine: Engine
    files: tuple[Path, ...]
    head: Head
    notes: tuple[str, ...] = ()


def _open_source(
    model: ModelSource, data: DataSettings, engine: EngineSettings, taps: TapSettings, progress: Progress
) -> _ScoreSource:
    if len(data.data) != 1 or not is_dump(data.data[0]):
        job = open_whole(model, data, engine, taps, progress)
        require_no_boxes(job.subject, "scoring")
        job = require_sound_base(job)
        view = job.splits.fit
        read = from_model(job.subject, view, job.engine, job.taps)
        score, labels = partial(score_neurons, job), view.labels
        files = (*job.opened.model.files, *job.files_read)
        known = job.names, job.engine, files, job.head, job.splits.notes
        return _ScoreSource(read, score, labels, job.taps, *known)
    dump = read_dump(str(data.data[0]))
    base = read_model(model)
    if dump.base_sha256 != base.base_sha256:
        raise DataError(
            f"the dump belongs to another model: sha256 {dump.base_sha256[:12]}, not {base.base_sha256[:12]}",
            where=dump.directory,
            hint="dump this model, or give the model that was dumped",
        )
    if dump.neurons is not None:
        raise DataError(
            "the dump holds chosen neurons only: they cannot be compared with the others",
            where=dump.directory,
            hint="dump again without --neurons",
        )
    runner = Engine(engine, open_backend(engine), progress, RunStats())
    labels = dumped_labels(dump)
    head = SEVERAL_LABELS if dump.several else ONE_LABEL

    def batches(what: str, taps: Sequence[Tap], chosen: np.ndarray | None) -> Generator[Captured]:
        wanted = [dump.taps.index(tap) for tap in taps]
        count = len(labels) if chosen is None else len(chosen)
        progress.start(what, count)
        for batch in dumped_batches(dump, _DUMP_BATCH, chosen):
            yield replace(batch, V=tuple(batch.V[k] for k in wanted))
            progress.advance(len(batch.labels))
        progress.finish()
        runner.stats.passes.append((what, count))

    def score_dump(targets: np.ndarray, theta: str, most: int, tables: ScoreTables | None) -> Theta:
        task = ScoringTask(labels, np.asarray(targets, np.int64), theta, head=head)
        return score_batches(batches, dump.taps, task, most, runner, tables=tables)

    names, files = class_names(dump.names, dump.classes), (*base.files, *dump.files)
    return _ScoreSource(batches, score_dump, labels, dump.taps, names, runner, files, head)


def _header(
    rankings: Sequence[Ranking], taps: Sequence[Tap], targets: np.ndarray, names: Sequence[str], theta: str
) -> dict[str, np.ndarray]:
    """What the file holds beside weight, count, lift (c, M) over all taps end to end: the best neurons."""
    best = united(rankings)
    order = {tap: number for number, tap in enumerate(taps)}
    header = {"taps": [asdict(tap) for tap in taps], "targets": list(names), "theta": theta}
    return {
        "targets": targets,
        "best_tap": np.array([order[best.taps[t]] for t in best.tap_of], np.int32),
        "best_index": best.index,
        "header": np.array(json.dumps(header, sort_keys=True)),
    }


def _rows(rankings: Sequence[Ranking], names: Sequence[str]) -> Iterator[dict[str, Any]]:
    for ranking, name in zip(rankings, names, strict=True):
        best = ranking.first(_SHOWN)
        for k in range(len(best.weight)):
            yield {
                "tap": best.neurons.taps[best.neurons.tap_of[k]].name,
                "index": int(best.neurons.index[k]),
                "target": name,
                "weight": float(best.weight[k]),
                "count": int(best.count[k]),
                "lift": float(best.lift[k]),
            }
