"""Every method on the same samples, the whole story: one sweep of V for all, then arithmetic, repeated."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from onnxtweak.data.splits import View
from onnxtweak.errors import DataError, InputError, ModelError, UsageError
from onnxtweak.goal import Goal
from onnxtweak.method.compare.comparison import DROPS, MethodOutcome, MethodResult, judge
from onnxtweak.method.compare.inputs import CompareInputs
from onnxtweak.method.compare.methods import METHODS
from onnxtweak.method.compare.standings import interval, standings, support
from onnxtweak.method.metrics import measure
from onnxtweak.method.selection.active_neurons import active_neurons
from onnxtweak.method.selection.ranking import candidates_wanted, united
from onnxtweak.method.table import all_neurons, most_neurons, take
from onnxtweak.model.inspect.taps import penultimate_name
from onnxtweak.patch import no_patch
from onnxtweak.results import Comparison, Result
from onnxtweak.settings import (
    DataSettings,
    EngineSettings,
    FitSettings,
    JoinSettings,
    OutputSettings,
    TapSettings,
    TargetSettings,
)
from onnxtweak.stages.choose_goal import choose_goal
from onnxtweak.stages.choose_neurons import choose_neurons
from onnxtweak.stages.deliver import Proposal, check_outputs, deliver
from onnxtweak.stages.gather import gather_table, learnt_from
from onnxtweak.stages.open_job import Job, open_for_tables, run_facts
from onnxtweak.stages.plan_passes import PassRequest
from onnxtweak.stages.rank import rank_neurons
from onnxtweak.stages.score import score_neurons
from onnxtweak.types import Metrics, Neurons, Progress, silent

# Theta for every class costs memory in their number; beyond this AAN is left out.
_SCORED_CLASSES = 100
_ACTIVE = 1000
_WIDEST_PENULTIMATE = 4096


def compare(
    *,
    model: str,
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

    Without targets the overall accuracy is the aim: all classes are targets, and nothing is spent. taps :
    what fit learns from; the others watch all activations. methods : names; empty: all. The targets are those
    of the first repeat. write : the method whose patch on the first split goes to `output`. Raises
    InputError for what cannot be used, VerificationError when the proof of what is written fails.
    """
    begin = time.perf_counter()
    wanted = _wanted(methods, write, output)
    written: Result | None = None
    before: list[Metrics] = []
    outcomes: dict[str, list[tuple[MethodOutcome, int, float, str]]] = {name: [] for name in wanted}
    refused: dict[str, str] = {}
    for repeat in range(repeats):
        job = open_for_tables(model, replace(data, seed=data.seed + repeat), engine, taps, progress)
        views = _views(job)
        check_outputs(job, output)
        if repeat == 0:
            drop = settings.max_overall_drop
            goal = choose_goal(job, targets, max_overall_drop=drop, all_unless_named=True)
        inputs, neurons, notes = gather_inputs(job, taps, goal, join, settings, data.seed + repeat)
        test = inputs.test
        before.append(measure(goal.head.predict(test.Z), test.labels, goal, test.Z.shape[1]))
        progress.start("compare", len(wanted), "methods")
        for name, try_method in wanted.items():
            since = time.perf_counter()
            try:
                result = try_method(inputs)
            except ModelError as error:
                refused[name] = str(error)
                continue
            spent = time.perf_counter() - since
            outcome = judge(result, test, goal, settings.margin)
            outcomes[name].append((outcome, result.parameters, spent, result.note))
            progress.advance(1)
            if name == write and repeat == 0:
                bias = outcomes["bias"][0][0].bias
                written = _deliver(job, inputs, neurons, name, result, outcome, bias, output)
        progress.finish()
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
        standings=standings(outcomes, refused, goal),
        run=run_facts(job.engine, begin),
        output=None if written is None else written.output,
        checks=() if written is None else written.checks,
        notes=(*job.splits.notes, *notes, *_said(data, repeats)),
    )


def passes(request: PassRequest) -> None:
    """The passes over samples that one repeat would make."""
    job, join = request.job, request.settings(JoinSettings, "join")
    kept = request.table_neurons(request.settings(FitSettings))
    splits, present = job.splits, np.unique(job.splits.fit.labels)
    few = len(present) <= _SCORED_CLASSES
    scored = present if few else request.chosen
    if few and request.chosen is not None:
        scored = np.union1d(present, request.chosen)
    active = min(_ACTIVE, sum(tap.neurons for tap in job.taps))
    count = request.count if scored is None else len(scored)
    request.planner.score(count, join.theta, max(candidates_wanted(join), active), scored)
    request.search(join)
    # Watched, joined, random and active neurons; fewer where groups share some.
    most = kept + 2 * max(join.count) * request.count + (active if few else 0)
    for name, view in (("collect", splits.fit), ("validate", splits.validation), ("test", splits.test)):
        if view is not None:
            request.planner.gather(name, view, most)


def _views(job: Job) -> dict[str, View]:
    """The samples by their role. Raises DataError where none are for test."""
    splits = job.splits
    if splits.test is None:
        raise DataError("comparing needs test samples", hint="give them with --test, or leave out --val")
    return {"fit": splits.fit, "validation": splits.validation, "test": splits.test}


def gather_inputs(
    job: Job,
    taps: TapSettings,
    goal: Goal,
    join: JoinSettings,
    fit: FitSettings,
    seed: int,
) -> tuple[CompareInputs, Neurons, tuple[str, ...]]:
    """All that the methods need of the model: one sweep that scores all neurons, one that keeps some.

    Also the neurons that the tables' columns are, and notes.
    """
    targets = goal.targets
    watched = choose_neurons(job, taps, fit.neurons)
    present = np.unique(job.splits.fit.labels)
    few = len(present) <= _SCORED_CLASSES
    classes = np.union1d(present, targets) if few else targets
    everything = all_neurons(job.taps)
    active = min(_ACTIVE, len(everything))
    best = score_neurons(job, classes, join.theta, max(candidates_wanted(join), active)).best
    of_targets = [best[int(np.flatnonzero(classes == j)[0])] for j in targets]
    rankings = rank_neurons(job, of_targets, goal, join, skip=True)
    helpless = [job.names[j] for j, r in zip(targets, rankings, strict=True) if not len(r.weight)]
    if len(helpless) == len(targets):
        raise ModelError(
            "no hidden neuron can raise any target without breaking a sample that is right",
            hint="watch other tensors with --taps, or give more samples",
        )
    draw = np.random.default_rng(seed).permutation(len(everything))[: max(join.count) * len(targets)]
    groups = {
        "watched": watched.neurons,
        "joined": united(rankings),
        "random": take(everything, np.sort(draw)),
    }
    last = penultimate_name(job.opened.model.graph, job.subject.logits)
    for tap in job.taps:
        if tap.name == last and int(np.prod(tap.shape)) <= _WIDEST_PENULTIMATE:
            groups["penultimate"] = all_neurons([replace(tap, pool="none")])
    if few:
        names = [job.names[j] for j in classes]
        groups["active"], _ = active_neurons(best, job.taps, names, "auto", active)
    neurons, columns = _union(groups)
    views = _views(job)
    samples = sum(len(view) for view in views.values())
    room = most_neurons(samples, job.engine)
    if len(neurons) > room:
        raise InputError(
            f"tables of {len(neurons):,} neurons for {samples:,} samples do not fit into the memory allowed",
            where="--memory",
            hint=f"raise it, give fewer samples, or at most {max(room // 3, 1):,} --neurons",
        )
    passes = {"fit": "collect", "validation": "validate", "test": "test"}
    tables = {role: gather_table(job, view, neurons, passes[role]) for role, view in views.items()}
    _, judged, notes = learnt_from(job, (tables["fit"], tables["validation"]), picked=watched.picked)
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
        judged=judged,
        join=join,
        settings=fit,
        seed=seed,
        engine=job.engine,
    )
    if helpless:
        notes += (f"no neuron can raise {', '.join(helpless)} alone: no synapses there",)
    return inputs, neurons, notes


def _deliver(
    job: Job,
    inputs: CompareInputs,
    neurons: Neurons,
    name: str,
    result: MethodResult,
    outcome: MethodOutcome,
    control: np.ndarray,
    output: OutputSettings,
) -> Result:
    """One method's patch, spliced, proven and written as any other. At its own operating point."""
    whole = np.zeros(inputs.classes)
    whole[inputs.goal.targets] = outcome.bias
    columns = result.columns if outcome.delivered else result.columns[:0]
    patch = result.patch.with_bias(whole) if outcome.delivered else no_patch()
    kept = take(neurons, columns)
    base = inputs.validation.Z
    made = Proposal(
        command="compare",
        goal=inputs.goal,
        neurons=kept,
        patch=patch,
        base=base,
        tweaked=inputs.validation.patched(columns, patch) if outcome.delivered else base,
        bias=control,
        settings={"method": name, "seed": inputs.seed},
        n=(len(kept),) * len(inputs.goal),
        scale=(1.0,) * len(inputs.goal),
        theta=inputs.join.theta,
        criterion=inputs.join.criterion,
        scored=len(neurons),
        curve=(),
        notes=(),
    )
    return deliver(job, made, output, time.perf_counter())


def _wanted(methods: Sequence[str], write: str | None, output: OutputSettings) -> dict[str, Callable]:
    if (write is None) != (output.output is None and output.tweak is None):
        raise UsageError(
            "a method to write and a file to write it to belong together",
            where="--write",
            hint="give --write NAME with -o FILE, or neither",
        )
    methods = methods if write is None or not methods else (*methods, write)
    unknown = [name for name in (*methods, *([write] if write else [])) if name not in METHODS]
    if unknown:
        raise InputError(
            f"there is no method {unknown[0]!r}", where="--method", hint=f"one of {', '.join(METHODS)}"
        )
    return {name: made for name, made in METHODS.items() if not methods or name in (*methods, "bias")}


def _union(groups: dict[str, Neurons]) -> tuple[Neurons, dict[str, np.ndarray]]:
    """All neurons of some groups, each once, and the columns of each group."""
    place: dict[tuple, int] = {}
    taps: dict = {}
    columns = {}
    for name, group in groups.items():
        number = [taps.setdefault(tap, len(taps)) for tap in group.taps]
        keys = [(number[t], int(i)) for t, i in zip(group.tap_of, group.index, strict=True)]
        columns[name] = np.array([place.setdefault(key, len(place)) for key in keys], np.int64)
    tap_of = np.array([t for t, _ in place], np.int32)
    index = np.array([i for _, i in place], np.int64)
    return Neurons(tuple(taps), tap_of, index), columns


def _said(data: DataSettings, repeats: int) -> tuple[str, ...]:
    if repeats == 1:
        return ("intervals are standard errors of a share of the test samples; --repeats gives better ones",)
    what = "fit and validation samples" if data.test else "all three splits"
    return (f"means of {repeats} splits, with the standard error over them; seeds change {what}",)
