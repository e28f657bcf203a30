"""How do all methods compare on the same samples? One sweep over the neurons serves them, in each repeat."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np

from onnxtweak.bounded import require_number
from onnxtweak.data.splits import View
from onnxtweak.errors import DataError, InputError, ModelError, UsageError
from onnxtweak.goal import ResolvedGoal
from onnxtweak.method.compare.comparison import DROPS, MethodOutcome, MethodResult, judge
from onnxtweak.method.compare.inputs import CompareInputs
from onnxtweak.method.compare.methods import METHODS, NOT_WRITTEN, WITHOUT_NEURONS
from onnxtweak.method.compare.repair import Reranking
from onnxtweak.method.compare.standings import MethodRun, interval, interval_note, standings, support
from onnxtweak.method.metrics import measure, read_metric, reading_of
from onnxtweak.method.selection.active_neurons import active_neurons
from onnxtweak.method.selection.candidates import Candidates
from onnxtweak.method.selection.numbering import drawn_at_random
from onnxtweak.method.selection.ranking import Ranking, candidates_wanted, empty_ranking, united
from onnxtweak.method.table import all_neurons, most_neurons, take, union
from onnxtweak.method.tuning.operating_point import OperatingPoint
from onnxtweak.metric.kinds import Predictions
from onnxtweak.model.file.model_file import ModelSource
from onnxtweak.model.inspect.taps import penultimate_name
from onnxtweak.patch import no_patch
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
from onnxtweak.stages.choose_neurons import choose_neurons
from onnxtweak.stages.deliver import check_outputs, deliver
from onnxtweak.stages.gather import gather_table, learning_samples, mirrored_views, require_room
from onnxtweak.stages.head_check import require_one_row
from onnxtweak.stages.judge_promises import judge_method
from onnxtweak.stages.open_for_tables import NO_HIDDEN, open_for_tables
from onnxtweak.stages.open_job import Job, run_facts
from onnxtweak.stages.plan_passes import PassRequest
from onnxtweak.stages.preprocessing_check import require_sound_base
from onnxtweak.stages.proposal import Proposal
from onnxtweak.stages.rank import rank_neurons
from onnxtweak.stages.score import score_neurons
from onnxtweak.standings import Comparison
from onnxtweak.types import MetricReading, Metrics, Neurons, Progress, silent
from onnxtweak.verdict import BASE

# Theta of every class takes memory in proportion to their number: beyond this, AAN is left out.
_SCORED_CLASSES = 100
_ACTIVE = 1000
_WIDEST_PENULTIMATE = 4096

Method = Callable[[CompareInputs], MethodResult]


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
    methods : names; empty: all. write : the method whose patch on the first split goes to `output`.

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
        require_one_row(job.subject, "a comparison")
        views = _views(job)
        if repeat == 0:
            check_outputs(job, output)
            first = require_sound_base(job)
            goal = choose_metric(job, choose_goal(job, targets, settings, all_unless_named=True), settings)
        inputs, neurons, notes = gather_inputs(job, taps, goal, join, settings, job.seed)
        test, shown = inputs.test, goal.head.predict(inputs.test.Z)
        before.append(measure(shown, test.labels, goal, test.Z))
        if repeat == 0 and goal.metric is not None:
            of_base = read_metric(goal.metric, Predictions(test.labels, shown, test.Z), test.groups)
        if not job.taps:
            refused |= dict.fromkeys(chosen.keys() - WITHOUT_NEURONS, NO_HIDDEN)
        able = {name: method for name, method in chosen.items() if name not in refused}
        for name, result, run in _try_methods(inputs, able, refused, job):
            runs[name].append(run)
            if name == write and repeat == 0:
                control = runs["bias"][0].outcome.bias
                written = deliver(job, _proposal(inputs, neurons, name, result, run.outcome, control), output)
        if write in refused:
            raise ModelError(
                f"{write!r} does not apply to this model: {refused[write]}",
                where="--write",
                hint=f"write another method, such as {' or '.join(list(able)[:3])}",
            )
    notes = (*first.splits.notes, *notes, interval_note(bool(data.test), repeats))
    return Comparison(
        model=job.model,
        targets=tuple(job.names[j] for j in goal.targets),
        repeats=repeats,
        samples={role: len(view) for role, view in views.items()},
        before={
            "overall": interval([m.overall for m in before], [m.samples for m in before]),
            "target": interval([m.target for m in before], [support(m, goal) for m in before]),
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


def passes(request: PassRequest) -> None:
    """The passes over samples that one repeat would make."""
    job, join, settings = request.job, request.settings(JoinSettings, "join"), request.settings(FitSettings)
    check_metric(settings, TargetSettings())
    watched = request.table_neurons(settings)
    classes, few = _scored_classes(job, request.chosen)
    active = min(_ACTIVE, job.neurons)
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


def _try_methods(
    inputs: CompareInputs, methods: dict[str, Method], refused: dict[str, str], job: Job
) -> Iterator[tuple[str, MethodResult, MethodRun]]:
    """Each method's name, result and run, the bias first; one that cannot be used goes to `refused`."""
    progress, control = job.engine.progress, None
    progress.start("compare", len(methods), "methods")
    for name, method in methods.items():
        begin = time.perf_counter()
        try:
            result = method(inputs)
        except ModelError as error:
            refused[name] = str(error)
            continue
        seconds = time.perf_counter() - begin
        outcome = judge(result, inputs.test, inputs.goal, inputs.settings.margin)
        control = outcome if control is None else control
        changes = outcome.delivered and bool(result.parameters or outcome.bias.any())
        verdict = judge_method(
            name if changes else BASE, outcome, control, inputs.test, inputs.goal, job.names
        )
        metric = None
        if inputs.goal.metric is not None and outcome.made is not None:
            metric = reading_of(inputs.goal.metric, outcome.made, groups=inputs.test.groups)
        progress.advance(1)
        kept = replace(outcome, made=None)  # as large as the logits, which nothing needs any more
        yield name, result, MethodRun(kept, verdict, result.parameters, seconds, result.note, metric)
    progress.finish()


def _scored_classes(job: Job, targets: np.ndarray | None) -> tuple[np.ndarray | None, bool]:
    """Classes (c,) that neurons are scored for, None where not known yet; and whether these are all."""
    present = np.unique(job.splits.fit.labels)
    if len(present) > _SCORED_CLASSES:
        return targets, False
    return present if targets is None else np.union1d(present, targets), True


def _views(job: Job) -> dict[str, View]:
    """The samples by their role. Raises DataError where there are none for test."""
    splits = job.splits
    if splits.test is None:
        raise DataError("`compare` needs test samples", hint="give them with --test, or leave out --val")
    return {"fit": splits.fit, "validation": splits.validation, "test": splits.test}


def gather_inputs(
    job: Job,
    taps: TapSettings,
    goal: ResolvedGoal,
    join: JoinSettings,
    settings: FitSettings,
    seed: int,
) -> tuple[CompareInputs, Neurons, tuple[str, ...]]:
    """All that the methods need of the model: one sweep scores the neurons, one reads the chosen ones.

    Also returns the neurons of the tables' columns, and notes.
    """
    targets = goal.targets
    watched = choose_neurons(job, taps, settings.neurons)
    active = min(_ACTIVE, job.neurons)
    rankings, best, classes = _ranked(job, goal, join, active)
    helpless = [job.names[j] for j, r in zip(targets, rankings, strict=True) if not len(r.weight)]
    if job.taps and len(helpless) == len(targets):
        raise ModelError(
            "no hidden neuron can raise any target without breaking a sample that is right",
            hint="watch other tensors with --taps, or give more samples",
        )
    groups = {
        "watched": watched.neurons,
        "joined": united(rankings),
        "random": drawn_at_random(job.taps, max(join.count) * len(targets), seed),
    }
    last = penultimate_name(job.opened.model.graph, job.subject.logits)
    for tap in job.taps:
        if tap.name == last and int(np.prod(tap.shape)) <= _WIDEST_PENULTIMATE:
            groups["penultimate"] = all_neurons([replace(tap, pool="none")])
    if best is not None:
        names = [job.names[j] for j in classes]
        groups["active"], _ = active_neurons(best, job.taps, names, "auto", active)
    neurons, columns = union(groups)
    views, samples = _views(job), sum(job.samples.values())
    most = most_neurons(samples, job.engine)
    hint = f"raise it, give fewer samples, or at most {max(most // 3, 1):,} --neurons"
    require_room(len(neurons), most, samples, "--memory", hint)
    passes = {"fit": "collect", "validation": "validate", "test": "test"}
    tables = {role: gather_table(job, view, neurons, passes[role]) for role, view in views.items()}
    learnt = tables["fit"], tables["validation"]
    learning, notes = learning_samples(job, learnt, neurons, settings, picked=watched.picked)
    ends = np.cumsum([len(r.weight) for r in rankings])
    inputs = CompareInputs(
        **tables,
        goal=goal,
        families={name: columns["watched"][c] for name, c in watched.families.items()},
        penultimate=columns.get("penultimate"),
        random=columns["random"],
        active=columns.get("active"),
        rankings=rankings,
        joined=np.split(columns["joined"], ends[:-1]),
        learning=learning,
        join=join,
        settings=settings,
        seed=seed,
        engine=job.engine,
    )
    if job.taps and helpless:
        notes += (f"no neuron can raise {', '.join(helpless)} alone: no synapses there",)
    return inputs, neurons, notes


def _ranked(
    job: Job, goal: ResolvedGoal, join: JoinSettings, active: int
) -> tuple[list[Ranking], Sequence[Candidates] | None, np.ndarray]:
    """The neurons of each target, best first; the best of all classes, None where not all were scored; which.

    active : how many neurons of each class are wanted.
    """
    classes, few = _scored_classes(job, goal.targets)
    assert classes is not None  # the targets are known
    if not job.taps:
        return [empty_ranking((), join.criterion) for _ in goal.targets], None, classes
    best = score_neurons(job, classes, join.theta, max(candidates_wanted(join), active)).best
    of_targets = [best[k] for k in np.searchsorted(classes, goal.targets)]
    return rank_neurons(job, of_targets, goal, join, skip=True), best if few else None, classes


def _proposal(
    inputs: CompareInputs,
    neurons: Neurons,
    name: str,
    result: MethodResult,
    outcome: MethodOutcome,
    control: np.ndarray,
) -> Proposal:
    """One method's patch with the biases of its operating point. control (C,) : the best bias alone."""
    assert not isinstance(result.patch, Reranking)  # refused before anything was run
    columns = result.columns if outcome.delivered else result.columns[:0]
    patch = result.patch.with_bias(outcome.bias) if outcome.delivered else no_patch()
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
