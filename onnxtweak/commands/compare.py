"""How do all methods compare on the same samples? One sweep over the neurons serves them, in each repeat."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from onnxtweak.bounded import require_number
from onnxtweak.engine.machine.large_arrays import by_rows
from onnxtweak.errors import InputError, ModelError, UsageError
from onnxtweak.method.compare.comparison import DROPS, MethodOutcome, MethodResult, metric_shown
from onnxtweak.method.compare.inputs import CompareInputs
from onnxtweak.method.compare.methods import (
    BETWEEN_CLASSES,
    METHODS,
    NOT_WRITTEN,
    OF_EACH_LABEL,
    WITHOUT_NEURONS,
)
from onnxtweak.method.compare.repair import Reranking
from onnxtweak.method.compare.standings import MethodRun, interval, interval_note, samples_of, standings
from onnxtweak.method.metrics import measure, read_metric
from onnxtweak.method.selection.ranking import candidates_wanted
from onnxtweak.method.table import take
from onnxtweak.method.tuning.operating_point import OperatingPoint
from onnxtweak.metric.kinds import Predictions
from onnxtweak.model.file.model_file import ModelSource
from onnxtweak.model.file.output_file import write_atomic
from onnxtweak.patch import Patch, no_patch
from onnxtweak.results import Result
from onnxtweak.settings import (
    COUNT,
    DataSettings,
    EngineSettings,
    FitSettings,
    JoinSettings,
    OutputSettings,
    TapSettings,
    TargetSettings,
)
from onnxtweak.stages.check_paths import check_paths
from onnxtweak.stages.choose_goal import check_metric, choose_goal, choose_metric
from onnxtweak.stages.comparing.gather_inputs import ACTIVE, gather_inputs, scored_classes, views_of
from onnxtweak.stages.comparing.try_methods import Method, try_methods
from onnxtweak.stages.deliver import check_outputs, deliver
from onnxtweak.stages.gather import mirrored_views
from onnxtweak.stages.objects.anchors import decided_anchors, said_of_anchors
from onnxtweak.stages.open_for_tables import NO_HIDDEN, open_for_tables
from onnxtweak.stages.open_job import Job, run_facts
from onnxtweak.stages.plan_passes import PassRequest
from onnxtweak.stages.preprocessing_check import require_sound_base
from onnxtweak.stages.proposal import Proposal, for_tensor
from onnxtweak.stages.report_page import page_of
from onnxtweak.standings import Comparison
from onnxtweak.types import MetricReading, Metrics, Neurons, Progress, silent


def compare(
    *,
    model: ModelSource,
    data: DataSettings,
    engine: EngineSettings = EngineSettings(),
    taps: TapSettings = TapSettings(taps=()),
    targets: TargetSettings = TargetSettings(),
    settings: FitSettings = FitSettings(),
    join: JoinSettings = JoinSettings(),
    repeats: int = 1,
    methods: Sequence[str] = (),
    write: str | None = None,
    output: OutputSettings = OutputSettings(),
    progress: Progress = silent,
) -> Comparison:
    """All methods of METHOD 8 for the target classes, on the same splits; seeds from `data.seed` on.

    Without targets the goal is overall accuracy: all classes are targets, and no surplus is spent. The
    targets are those of the first repeat. taps : what fit learns from; the others watch all activations.
    methods : names; empty: all. write : the method whose patch on the first split goes to `output`; the page
    of `output` is of the comparison.

    Raises InputError for what cannot be used, VerificationError when a check of what is written fails.
    """
    require_number(repeats, COUNT, "--repeats", whole=True)
    begin = time.perf_counter()
    check_metric(settings, targets)
    chosen = _chosen_methods(methods, write, output)
    check_paths(output, model, data, engine, settings.metric)
    written: Result | None = None
    before: list[Metrics] = []
    of_base: MetricReading | None = None
    runs: dict[str, list[MethodRun]] = {name: [] for name in chosen}
    refused: dict[str, str] = {}
    for repeat in range(repeats):
        job = open_for_tables(model, replace(data, seed=data.seed + repeat), engine, taps, progress)
        job = decided_anchors(job)
        views = views_of(job)
        if repeat == 0:
            check_outputs(job, output)
            first = require_sound_base(job)
            goal = choose_metric(job, choose_goal(job, targets, settings, all_unless_named=True), settings)
        inputs, neurons, notes = gather_inputs(job, taps, goal, join, settings, job.seed)
        test, shown = inputs.test, by_rows(goal.head.predict, inputs.test.Z)
        before.append(measure(shown, test.labels, goal, test.Z))
        if repeat == 0 and (metric := metric_shown(goal)) is not None:
            of_base = read_metric(metric, Predictions(test.labels, shown, test.Z), test.groups)
        if not job.taps:
            refused |= dict.fromkeys(chosen.keys() - WITHOUT_NEURONS, NO_HIDDEN)
        if job.head.several:
            refused |= dict.fromkeys(chosen.keys() - OF_EACH_LABEL, BETWEEN_CLASSES)
        able = {name: method for name, method in chosen.items() if name not in refused}
        for name, result, run in try_methods(inputs, able, refused, job):
            runs[name].append(run)
            if name == write and repeat == 0:
                control = runs["bias"][0].outcome.bias
                proposal = _proposal(inputs, neurons, job, name, result, run.outcome, control)
                written = deliver(job, proposal, replace(output, report=None))
        if write in refused:
            raise ModelError(
                f"{write!r} does not apply to this model: {refused[write]}",
                where="--write",
                hint=f"write another method, such as {' or '.join(list(able)[:3])}",
            )
    notes = (*first.splits.notes, *notes, interval_note(bool(data.test), repeats, job.subject.unit))
    notes += said_of_anchors(job)
    found = Comparison(
        model=job.model,
        targets=tuple(job.names[j] for j in goal.targets),
        repeats=repeats,
        samples={role: len(view) for role, view in views.items()} | {"test": len(inputs.test.labels)},
        before={
            "overall": interval([m.overall for m in before], samples_of(before)),
            "target": interval([m.target for m in before], samples_of(before, goal)),
        },
        drops=DROPS,
        standings=standings(runs, refused, goal),
        run=run_facts(job.engine, begin),
        output=None if written is None else written.output,
        checks=() if written is None else written.checks,
        notes=(*notes, f"goal: {goal.sentence(job.names)}"),
        verdict=None if written is None else written.verdict,
        metric=of_base,
    )
    if output.report is not None:
        page = page_of("compare", found, output.report)
        write_atomic(output.report, [page], force=output.force, protect=job.files_read)
    return found


def passes(request: PassRequest) -> None:
    """The passes over samples that one repeat would make."""
    job, join, settings = request.job, request.settings(JoinSettings, "join"), request.settings(FitSettings)
    check_metric(settings, TargetSettings())
    watched = request.table_neurons(settings)
    classes, few = scored_classes(job, request.chosen)
    active = min(ACTIVE, job.neurons)
    most = 0
    if job.taps:
        count = request.count if classes is None else len(classes)
        request.planner.score(count, join.theta, max(candidates_wanted(join), active), classes)
        request.search(join)
        # Watched, joined, random and active neurons; fewer where these groups overlap.
        most = watched + 2 * max(join.count) * request.count + (active if few else 0)
    request.planner.gather_tables(most)
    if job.splits.test is not None:
        request.planner.gather("test", job.splits.test, most)
    if most:
        request.planner.gather_mirrored(mirrored_views(job, settings), most)


def _proposal(
    inputs: CompareInputs,
    neurons: Neurons,
    job: Job,
    name: str,
    result: MethodResult,
    outcome: MethodOutcome,
    control: np.ndarray,
) -> Proposal:
    """One method's patch with the biases of its operating point. control (C,) : the best bias alone."""
    assert not isinstance(result.patch, Reranking)  # refused before anything was run
    columns = result.columns if outcome.delivered else result.columns[:0]
    patch: Patch = no_patch()
    if outcome.delivered:
        patch = for_tensor(result.patch.with_bias(outcome.bias), job.subject.readout)
    targets, base = len(inputs.goal), inputs.validation.Z
    return Proposal(
        command="compare",
        goal=inputs.goal,
        neurons=take(neurons, columns),
        patch=patch,
        base=base,
        tweaked=inputs.validation.patched(columns, patch) if outcome.delivered else base,
        bias=control,
        point=OperatingPoint(np.full(targets, len(columns)), np.ones(targets), ()),
        theta=inputs.join.theta,
        criterion=inputs.join.criterion,
        scored=len(neurons),
        settings={"method": name},
    )


def _chosen_methods(methods: Sequence[str], write: str | None, output: OutputSettings) -> dict[str, Method]:
    """The methods to try, by name: those named, the one to write, and the bias."""
    if (write is None) != (output.output is None and output.tweak is None):
        raise UsageError(
            "a method to write and a file to write it to belong together",
            where="--write",
            hint="give --write NAME with -o FILE, or neither",
        )
    names = (*methods, *([write] if write else []))
    unknown = [name for name in names if name not in METHODS]
    if unknown:
        raise InputError(
            f"unknown method {unknown[0]!r}", where="--method", hint=f"use one of {', '.join(METHODS)}"
        )
    if write in NOT_WRITTEN:
        raise UsageError(
            f"{write!r} sorts the logits, which no patch can do: it can be compared, not written",
            where="--write",
            hint="write another method, such as fit",
        )
    return {name: method for name, method in METHODS.items() if not methods or name in (*names, "bias")}
