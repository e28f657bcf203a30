"""What would a command do, and how long would it take? The dry run; nothing is written.

The passes of command NAME are planned by `onnxtweak.commands.NAME.passes`, in the order in which the command
makes them. The dry run of a recipe uses this too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from importlib import import_module
from types import ModuleType
from typing import Any

import numpy as np

from onnxtweak.bounded import require_number
from onnxtweak.engine.dump import is_dump
from onnxtweak.errors import UsageError
from onnxtweak.goal import every_class, find_targets
from onnxtweak.model.file.model_file import ModelSource
from onnxtweak.plans import DryRun
from onnxtweak.registry import METHODS
from onnxtweak.settings import (
    COUNT,
    DataSettings,
    EngineSettings,
    FitSettings,
    OutputSettings,
    TapSettings,
    TargetSettings,
)
from onnxtweak.stages.check_paths import check_paths
from onnxtweak.stages.choose_goal import with_slice_read
from onnxtweak.stages.deliver import check_outputs
from onnxtweak.stages.head_check import require_no_boxes
from onnxtweak.stages.open_for_tables import open_for_tables
from onnxtweak.stages.open_job import Job, open_whole, prepare
from onnxtweak.stages.plan_passes import PassRequest, Planner
from onnxtweak.stages.preprocessing_check import require_sound_base
from onnxtweak.types import Progress, silent


def forecast(
    command: str,
    *,
    model: ModelSource,
    data: DataSettings,
    engine: EngineSettings = EngineSettings(),
    taps: TapSettings | None = None,
    targets: TargetSettings = TargetSettings(),
    output: OutputSettings = OutputSettings(),
    progress: Progress = silent,
    repeats: int = 1,
    **options: Any,
) -> DryRun:
    """What `command` would do with these settings: a method of the registry, "compare" or "score".

    options : what else the command takes. Raises InputError as the command would, before any pass.
    """
    require_number(repeats, COUNT, "--repeats", whole=True)
    files = METHODS[command].files_of(options["settings"]) if command in METHODS and options else ()
    check_paths(output, model, data, engine, others=files)
    if command == "fit":
        data = with_slice_read(data, options.get("settings", FitSettings()), targets)
    job = open_job(command, model, data, engine, taps, progress)
    refused = {"match": "matching to a reference", "score": "scoring"}
    if command in refused:
        require_no_boxes(job.subject, refused[command])
    job = require_sound_base(job)
    check_outputs(job, output, model=command != "score")
    planner, shown = plan_command(command, job, targets, taps, options, repeats)
    settings = job.engine.settings
    samples = {"fit": job.samples["fit"]} if command == "score" else job.samples
    return DryRun(
        command=command,
        model=job.model,
        samples=samples,
        classes=job.subject.classes,
        targets=shown,
        memory=settings.memory,
        shards=-(-samples["fit"] // settings.shard),
        workers=planner.workers,
        cached=planner.cached,
        steps=tuple(planner.steps),
        seconds={"all": sum(step.seconds for step in planner.steps)},
        device=job.run.device,
        notes=tuple(job.splits.notes),
        taken=job.engine.reserved_bytes,
    )


def open_job(
    command: str,
    model: ModelSource,
    data: DataSettings,
    engine: EngineSettings,
    taps: TapSettings | None,
    progress: Progress,
) -> Job:
    """The job that a command would open."""
    data = replace(data, unlabelled=command in METHODS and METHODS[command].unlabelled)
    if command == "compare" or (command in METHODS and not METHODS[command].taps):
        return open_for_tables(model, data, engine, taps or TapSettings(taps=()), progress)
    if command in METHODS:
        return prepare(model, data, engine, taps or TapSettings(METHODS[command].taps), progress)
    if len(data.data) == 1 and is_dump(data.data[0]):
        raise UsageError(
            "scoring a dump does not run the model: there is nothing to plan",
            where=data.data[0],
            hint="leave out --dry-run, or give the samples themselves",
        )
    return open_whole(model, data, engine, taps or TapSettings(), progress)


def module_of(command: str) -> ModuleType:
    """The module of a command: its job is the function of the same name, its passes are `passes`."""
    return import_module(f"onnxtweak.commands.{command}")


def plan_command(
    command: str,
    job: Job,
    targets: TargetSettings,
    taps: TapSettings | None,
    options: Mapping[str, Any],
    repeats: int = 1,
) -> tuple[Planner, str]:
    """The passes of a command on a job, planned, and its targets in words."""
    planner = Planner(job)
    shown, count, chosen = targets_of(job, targets)
    if targets.worst is not None:
        view = job.splits.fit if command == "score" else job.splits.validation
        planner.logits("find the worst", view)
    for _ in range(repeats):
        module_of(command).passes(PassRequest(planner, count, chosen, taps or TapSettings(taps=()), options))
    return planner, shown


def targets_of(job: Job, targets: TargetSettings) -> tuple[str, int, np.ndarray | None]:
    """Targets in words, how many there are, and which (c,), where that is known before the model runs."""
    if targets.worst is not None:
        return f"the worst {targets.worst}", targets.worst, None
    fit, validation = job.splits.fit.labels, job.splits.validation.labels
    if targets == TargetSettings():
        classes = every_class(fit, validation)
        return "all", len(classes), classes
    found = find_targets(targets, job.names, fit, validation, None)
    return ", ".join(job.names[j] for j in found), len(found), found
