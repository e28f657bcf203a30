"""Fit, the whole story: tables gathered, all classes fitted jointly, the surplus spent, spliced, proven."""

from __future__ import annotations

import time
from dataclasses import asdict

import numpy as np

from onnxtweak.head import Head
from onnxtweak.method.fit.fit import Fitted, fit_all
from onnxtweak.method.table import Table, take
from onnxtweak.method.tuning.certificate import certify
from onnxtweak.patch import DensePatch, Patch, bias_patch, no_patch
from onnxtweak.results import Result
from onnxtweak.settings import (
    DataSettings,
    EngineSettings,
    FitSettings,
    OutputSettings,
    TapSettings,
    TargetSettings,
)
from onnxtweak.stages.choose_goal import choose_goal
from onnxtweak.stages.choose_neurons import choose_neurons
from onnxtweak.stages.deliver import Proposal, check_outputs, deliver
from onnxtweak.stages.gather import gather_tables, learnt_from
from onnxtweak.stages.open_job import Job, open_for_tables
from onnxtweak.stages.plan_passes import PassRequest
from onnxtweak.types import Neurons, Progress, silent


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

    taps : without selectors the channel means of all activations and the penultimate tensor are watched.
    Raises InputError for what cannot be used, VerificationError when a proof fails; nothing is written then.
    """
    begin = time.perf_counter()
    job = open_for_tables(model, data, engine, taps, progress)
    check_outputs(job, output)
    goal = choose_goal(
        job,
        targets,
        max_overall_drop=settings.max_overall_drop,
        max_class_drop=settings.max_class_drop,
        all_unless_named=True,
    )
    watched = choose_neurons(job, taps, settings.neurons)
    tables = gather_tables(job, watched.neurons)
    table, judged, notes = learnt_from(
        job, tables, picked=watched.picked, keep_validation=settings.certify is not None
    )
    since = time.perf_counter()
    found = fit_all(
        table,
        watched.families,
        goal,
        settings,
        judged=judged,
        seed=data.seed,
        progress=progress,
    )
    job.engine.stats.seconds["fit"] = time.perf_counter() - since
    validation = tables[1]
    columns, patch = patch_of(found, goal.targets, job.subject.classes)
    if settings.certify is not None and patch is not None:
        patch, said = _certified(validation, columns, patch, settings.certify, goal.head)
        notes += said
    neurons = take(watched.neurons, columns)
    if patch is None:
        neurons = take(neurons, np.empty(0, np.int64))
    made = Proposal(
        command="fit",
        goal=goal,
        neurons=neurons,
        patch=no_patch() if patch is None else patch,
        base=validation.Z,
        tweaked=validation.Z if patch is None else validation.patched(columns, patch),
        bias=found.control,
        settings={"seed": data.seed, **asdict(settings)},
        n=(len(neurons),) * len(goal),
        scale=_scales(neurons, patch, goal.targets),
        theta="none",
        criterion="held-out log-loss",
        scored=watched.scored,
        curve=found.choice.trials,
        notes=(
            *job.splits.notes,
            *notes,
            *found.notes,
            *_biases(job, found, goal.targets),
        ),
    )
    return deliver(job, made, output, begin)


def passes(request: PassRequest) -> None:
    """The passes over samples that a fit would make."""
    splits, kept = request.job.splits, request.table_neurons(request.settings(FitSettings))
    for name, view in (("collect", splits.fit), ("validate", splits.validation)):
        request.planner.gather(name, view, kept)
    request.planner.delivery()


def patch_of(found: Fitted, targets: np.ndarray, classes: int) -> tuple[np.ndarray, DensePatch | None]:
    """Columns of the table that the answer reads, and its patch; None for the base.

    Neurons without weight are left out.
    """
    none = np.empty(0, np.int64)
    bias = np.zeros(classes)
    bias[targets] = found.bias
    if found.candidate is None:
        return none, bias_patch(bias) if found.kind == "bias" else None
    used, patch = found.candidate.patch.on_used_neurons()
    return found.candidate.columns[used], patch.with_bias(bias)


def _certified(
    validation: Table, columns: np.ndarray, patch: DensePatch, level: float, head: Head
) -> tuple[DensePatch | None, tuple[str, ...]]:
    """The patch at the largest scale that keeps the expected harm below the level; None for scale 0."""
    found = certify(validation.Z, validation.patched(columns, patch), validation.labels, level, head)
    said = (
        f"certified: at scale {found.scale:.3g} at most {level:.2%} of samples like these are expected to"
        f" become wrong that the base has right (conformal risk control on {found.samples:,} validation"
        f" samples that nothing was fitted to, {found.broken:,} of them broken)"
    )
    if found.scale == 0:
        return None, (
            f"{found.samples:,} validation samples cannot certify {level:.2%}: the answer is the base",
        )
    return patch.scaled(found.scale), (said,)


def _scales(neurons: Neurons, patch: Patch | None, targets: np.ndarray) -> tuple[float, ...]:
    """1 for a patch that reads neurons; the biases of one that does not; 0 for the base."""
    if patch is None or patch.output_bias is None:
        return (0.0,) * len(targets)
    return (1.0,) * len(targets) if len(neurons) else tuple(float(b) for b in patch.output_bias[targets])


def _biases(job: Job, found: Fitted, targets: np.ndarray) -> tuple[str, ...]:
    if not found.bias.any():
        return ()
    each = ", ".join(f"{job.names[j]} {b:+.3g}" for j, b in zip(targets, found.bias, strict=True))
    return (f"biases that spend the surplus: {each}" if found.kind == "fit" else f"biases: {each}",)
