"""How does `fit` make a tweak? It fits a patch to tables, for all classes, and spends the surplus."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np

from onnxtweak.goal import Goal
from onnxtweak.head import Head
from onnxtweak.method.fit.fit import Fitted, fit_all
from onnxtweak.method.fit.slices import fit_slice
from onnxtweak.method.table import Table, take
from onnxtweak.method.tuning.certificate import certify
from onnxtweak.method.tuning.operating_point import OperatingPoint
from onnxtweak.patch import DensePatch, bias_patch, no_patch
from onnxtweak.results import Result
from onnxtweak.settings import (
    DataSettings,
    EngineSettings,
    FitSettings,
    OutputSettings,
    TapSettings,
    TargetSettings,
)
from onnxtweak.stages.check_paths import check_paths
from onnxtweak.stages.choose_goal import choose_goal, choose_slice, with_slice_read
from onnxtweak.stages.choose_neurons import TableNeurons, choose_neurons
from onnxtweak.stages.deliver import Proposal, check_outputs, deliver
from onnxtweak.stages.gather import gather_tables, learning_samples, mirrored_views
from onnxtweak.stages.open_for_tables import open_for_tables
from onnxtweak.stages.open_job import Job
from onnxtweak.stages.plan_passes import PassRequest
from onnxtweak.stages.preprocessing_check import require_sound_base
from onnxtweak.types import Progress, silent

# Biases that a note lists.
_NAMED = 10


def fit(
    *,
    model: str,
    data: DataSettings,
    engine: EngineSettings = EngineSettings(),
    taps: TapSettings = TapSettings(taps=()),
    targets: TargetSettings = TargetSettings(),
    settings: FitSettings = FitSettings(),
    output: OutputSettings = OutputSettings(),
    progress: Progress = silent,
) -> Result:
    """The best patch that the tables allow for the target classes (METHOD 7); without any, for all classes.

    With a slice among the settings, for a group of samples instead (METHOD 7.5).

    taps : without selectors all activations, maps as channel means, and the penultimate tensor are watched.
    A model without a hidden tensor gets biases alone.
    Raises InputError for what cannot be used, VerificationError when a check fails; nothing is written then.
    """
    check_paths(output, model, data, engine)
    data = with_slice_read(data, settings, targets)
    job = open_for_tables(model, data, engine, taps, progress)
    check_outputs(job, output)
    job = require_sound_base(job)
    goal = choose_goal(job, targets, settings, all_unless_named=True)
    watched = choose_neurons(job, taps, settings.neurons)
    tables = gather_tables(job, watched.neurons)
    learning, notes = learning_samples(job, tables, watched.neurons, settings, picked=watched.picked)
    goal, learning, said = choose_slice(job, goal, settings, learning)
    with job.timed("fit"):
        found = (fit_all if goal.slice is None else fit_slice)(
            learning, watched.families, goal, settings, seed=data.seed, progress=progress
        )
    return deliver(job, _proposal(job, goal, settings, watched, tables[1], found, (*said, *notes)), output)


def passes(request: PassRequest) -> None:
    """The passes over samples that a fit would make."""
    settings = request.settings(FitSettings)
    neurons = request.table_neurons(settings)
    request.planner.gather_tables(neurons)
    if neurons:
        request.planner.gather_mirrored(mirrored_views(request.job, settings), neurons)
    request.planner.delivery()


def _proposal(
    job: Job,
    goal: Goal,
    settings: FitSettings,
    watched: TableNeurons,
    validation: Table,
    found: Fitted,
    notes: tuple[str, ...],
) -> Proposal:
    """The patch that was found, certified where that is asked for; or the base."""
    columns, patch = _patch_of(found)
    if settings.certify is not None and patch is not None:
        patch, note = _certified(validation, columns, patch, settings.certify, goal.head)
        notes += (note,)
    if patch is None:
        columns = columns[:0]
    number = len(columns)
    return Proposal(
        command="fit",
        goal=goal,
        neurons=take(watched.neurons, columns),
        patch=no_patch() if patch is None else patch,
        base=validation.Z,
        tweaked=validation.Z if patch is None else validation.patched(columns, patch),
        bias=found.control,
        point=OperatingPoint(
            np.full(len(goal), number), _scales(number, patch, goal.targets), found.choice.trials
        ),
        theta="none",
        criterion="held-out log-loss",
        scored=watched.scored,
        settings=asdict(settings),
        notes=(*notes, *found.notes, *_bias_notes(job, found)),
    )


def _patch_of(found: Fitted) -> tuple[np.ndarray, DensePatch | None]:
    """Columns of the table that the patch reads, and the patch; None for the base.

    Neurons without weight are left out.
    """
    if found.candidate is None:
        return np.empty(0, np.int64), bias_patch(found.bias) if found.kind == "bias" else None
    used, patch = found.candidate.patch.on_used_neurons()
    return found.candidate.columns[used], patch.with_bias(found.bias)


def _certified(
    validation: Table, columns: np.ndarray, patch: DensePatch, level: float, head: Head
) -> tuple[DensePatch | None, str]:
    """The patch at the largest scale that keeps the expected harm below the level, None for 0; and a note."""
    found = certify(validation.Z, validation.patched(columns, patch), validation.labels, level, head)
    if found.scale == 0:
        return None, f"{found.samples:,} validation samples cannot certify {level:.2%}: the base is kept"
    return patch.scaled(found.scale), (
        f"certified: at scale {found.scale:.3g} at most {level:.2%} of samples like these are expected to"
        f" become wrong that the base has right (conformal risk control on {found.samples:,} validation"
        f" samples that nothing was fitted to, {found.broken:,} of them broken)"
    )


def _scales(neurons: int, patch: DensePatch | None, targets: np.ndarray) -> np.ndarray:
    """(c,) float64: 1 for a patch that reads neurons; the biases of one that does not; 0 for the base."""
    if patch is None or patch.output_bias is None:
        return np.zeros(len(targets))
    return np.ones(len(targets)) if neurons else np.asarray(patch.output_bias[targets], np.float64)


def _bias_notes(job: Job, found: Fitted) -> tuple[str, ...]:
    raised = np.flatnonzero(found.bias)
    if not len(raised):
        return ()
    biases = ", ".join(f"{job.names[j]} {found.bias[j]:+.3g}" for j in raised[:_NAMED])
    biases += f" and {len(raised) - _NAMED:,} more" if len(raised) > _NAMED else ""
    return (f"biases that spend the surplus: {biases}" if found.kind == "fit" else f"biases: {biases}",)
