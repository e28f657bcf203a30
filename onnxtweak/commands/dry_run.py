"""What would a command do, and how long would it take? Model and samples are opened; nothing is written.

One list of passes for each command, in the order in which it makes them, planned by the functions that the
command itself uses; the dry run of a recipe asks here too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from onnxtweak.commands.augment import how_many
from onnxtweak.commands.compare import ACTIVE, SCORED_CLASSES
from onnxtweak.engine.dump import is_dump
from onnxtweak.errors import UsageError
from onnxtweak.method.selection.ranking import candidates_wanted
from onnxtweak.method.table import most_neurons
from onnxtweak.method.targets import every_class, find_targets
from onnxtweak.model.file.output_file import check_output
from onnxtweak.results import DryRun
from onnxtweak.settings import (
    AugmentSettings,
    DataSettings,
    EngineSettings,
    FitSettings,
    JoinSettings,
    OutputSettings,
    TapSettings,
    TargetSettings,
)
from onnxtweak.stages.choose_neurons import groups_of
from onnxtweak.stages.deliver import check_outputs
from onnxtweak.stages.open_job import Job, open_for_tables, open_whole, prepare
from onnxtweak.stages.plan_passes import Planner
from onnxtweak.types import Progress, silent


def forecast(
    command: str,
    *,
    model: str,
    data: DataSettings,
    engine: EngineSettings = EngineSettings(),
    taps: TapSettings | None = None,
    targets: TargetSettings = TargetSettings(),
    output: OutputSettings = OutputSettings(),
    progress: Progress = silent,
    repeats: int = 1,
    **options: Any,
) -> DryRun:
    """What `command` ("join", "retrain", "fit", "augment", "compare", "score") would do with these settings.

    options : settings of its method, as the command takes them. Raises InputError as the command would at its
    beginning.
    """
    job = open_job(command, model, data, engine, taps, progress)
    if command == "score":
        if output.output is not None:
            check_output(output.output, force=output.force, protect=[model])
    else:
        check_outputs(job, output)
    planner, said = foresee(command, job, targets, taps, options, repeats)
    settings = job.engine.settings
    views = {"fit": job.splits.fit, "validation": job.splits.validation, "test": job.splits.test}
    if command == "score":
        views = {"fit": job.splits.fit}
    return DryRun(
        command=command,
        model=job.model,
        samples={role: 0 if view is None else len(view) for role, view in views.items()},
        classes=job.subject.classes,
        targets=said,
        memory=settings.memory,
        shards=-(-len(job.splits.fit) // settings.shard),
        workers=planner.workers,
        cached=planner.cached,
        steps=tuple(planner.steps),
        seconds={"all": sum(step.seconds for step in planner.steps)},
        device=job.machine,
        notes=tuple(job.splits.notes),
        taken=job.engine.reserved_bytes,
    )


def open_job(
    command: str,
    model: str,
    data: DataSettings,
    engine: EngineSettings,
    taps: TapSettings | None,
    progress: Progress,
) -> Job:
    """The job that a command would open."""
    if command in ("fit", "compare"):
        return open_for_tables(model, data, engine, taps or TapSettings(taps=()), progress)
    if command != "score":
        return prepare(model, data, engine, taps or TapSettings(), progress)
    if len(data.data) == 1 and is_dump(data.data[0]):
        raise UsageError(
            "a dump is scored without the model: there is nothing to plan",
            where=data.data[0],
            hint="leave out --dry-run, or name the samples",
        )
    return open_whole(model, data, engine, taps or TapSettings(), progress)


def foresee(
    command: str,
    job: Job,
    targets: TargetSettings,
    taps: TapSettings | None,
    options: Mapping[str, Any],
    repeats: int = 1,
) -> tuple[Planner, str]:
    """The passes of a command on a job, and its targets in words."""
    planner = Planner(job)
    said, count, chosen = targets_of(job, targets)
    if targets.worst is not None:
        whole = job.splits.fit if command == "score" else job.splits.validation
        planner.logits("find the worst", whole)
    for _ in range(repeats):
        _STEPS[command](_Asked(planner, count, chosen, taps or TapSettings(taps=()), options))
    return planner, said


def targets_of(job: Job, targets: TargetSettings) -> tuple[str, int, np.ndarray | None]:
    """Targets in words, how many they are, and which (c,), where that is known before the model is run."""
    if targets.worst is not None:
        return f"the worst {targets.worst}", targets.worst, None
    fit, validation = job.splits.fit.labels, job.splits.validation.labels
    if targets == TargetSettings():
        everyone = every_class(fit, validation)
        return "all", len(everyone), everyone
    found = find_targets(targets, job.names, fit, validation, None)
    return ", ".join(job.names[j] for j in found), len(found), found


@dataclass(frozen=True)
class _Asked:
    """A command on a job. count : of targets; chosen (c,) : which, where that is known."""

    planner: Planner
    count: int
    chosen: np.ndarray | None
    taps: TapSettings
    options: Mapping[str, Any]

    @property
    def job(self) -> Job:
        return self.planner.job

    @property
    def join(self) -> JoinSettings:
        return self.options.get("join", JoinSettings())


def _join(asked: _Asked) -> None:
    splits, join = asked.job.splits, asked.join
    asked.planner.score(asked.count, join.theta, candidates_wanted(join), asked.chosen)
    _searched(asked)
    asked.planner.gather("validate", splits.validation, max(join.count) * asked.count)
    _deliver(asked.planner)


def _retrain(asked: _Asked) -> None:
    splits, join = asked.job.splits, asked.join
    asked.planner.score(asked.count, join.theta, candidates_wanted(join), asked.chosen)
    _searched(asked)
    for name, view in (("collect", splits.fit), ("validate", splits.validation)):
        asked.planner.gather(name, view, max(join.count) * asked.count)
    _deliver(asked.planner)


def _augment(asked: _Asked) -> None:
    splits, augment = asked.job.splits, asked.options.get("augment", AugmentSettings())
    wanted, present = how_many(asked.job, augment), np.unique(splits.fit.labels)
    asked.planner.score(len(present), augment.theta, wanted, present)
    for name, view in (("collect", splits.fit), ("validate", splits.validation)):
        asked.planner.gather(name, view, wanted)
    _deliver(asked.planner)


def _fit(asked: _Asked) -> None:
    splits, kept = asked.job.splits, _watched(asked)
    for name, view in (("collect", splits.fit), ("validate", splits.validation)):
        asked.planner.gather(name, view, kept)
    _deliver(asked.planner)


def _compare(asked: _Asked) -> None:
    job, join, kept = asked.job, asked.join, _watched(asked)
    splits, present = job.splits, np.unique(job.splits.fit.labels)
    scored = present if len(present) <= SCORED_CLASSES else asked.chosen
    if scored is present and asked.chosen is not None:
        scored = np.union1d(present, asked.chosen)
    active = min(ACTIVE, sum(tap.neurons for tap in job.taps))
    count = asked.count if scored is None else len(scored)
    asked.planner.score(count, join.theta, max(candidates_wanted(join), active), scored)
    _searched(asked)
    # Watched, joined, random, and active neurons; those that several of them name are fewer.
    most = kept + 2 * max(join.count) * asked.count + (active if len(present) <= SCORED_CLASSES else 0)
    for name, view in (("collect", splits.fit), ("validate", splits.validation), ("test", splits.test)):
        if view is not None:
            asked.planner.gather(name, view, most)


def _score(asked: _Asked) -> None:
    join = asked.join
    asked.planner.score(asked.count, join.theta, max(join.count), asked.chosen)


def _searched(asked: _Asked) -> None:
    if asked.join.criterion == "net-gain":
        asked.planner.gather("search", asked.job.splits.fit, candidates_wanted(asked.join) * asked.count)


def _watched(asked: _Asked) -> int:
    """The passes that choose the neurons of a table, and how many it holds."""
    job, fit = asked.job, asked.options.get("fit", FitSettings())
    rows = len(job.splits.fit) + len(job.splits.validation)
    limit = min(fit.neurons, most_neurons(rows, job.engine))
    first, maps = groups_of(job, asked.taps)
    kept = asked.planner.screen(first, limit)
    return kept + (asked.planner.screen(maps, limit - kept) if maps and kept < limit else 0)


def _deliver(planner: Planner) -> None:
    """What every patch is proven and measured by; left out where nothing helps and the base stays."""
    splits = planner.job.splits
    planner.logits("simulate", splits.validation)
    if splits.test is None:
        planner.logits("validation: tweaked", splits.validation)
    else:
        planner.logits("test: base", splits.test)
        planner.logits("test: tweaked", splits.test)


_STEPS: dict[str, Callable[[_Asked], None]] = {
    "join": _join,
    "retrain": _retrain,
    "fit": _fit,
    "augment": _augment,
    "compare": _compare,
    "score": _score,
}
