"""Every method on the same samples, the whole story: one sweep of V for all, then arithmetic, repeated."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from onnxtweak.errors import DataError, InputError, ModelError, UsageError
from onnxtweak.goal import Goal
from onnxtweak.method.compare.comparison import CURVE, DROPS, MethodOutcome, MethodResult, judge
from onnxtweak.method.compare.inputs import CompareInputs
from onnxtweak.method.compare.methods import METHODS
from onnxtweak.method.metrics import measure
from onnxtweak.method.selection.active_neurons import active_neurons
from onnxtweak.method.selection.ranking import candidates_wanted, united
from onnxtweak.method.table import all_neurons, most_neurons, take
from onnxtweak.model.inspect.graph import GraphIndex
from onnxtweak.model.inspect.taps import penultimate_name
from onnxtweak.patch import no_patch
from onnxtweak.results import Comparison, MethodStanding, Result
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
from onnxtweak.stages.open_job import Job, open_for_tables
from onnxtweak.stages.rank import rank_neurons
from onnxtweak.stages.score import score_neurons
from onnxtweak.types import Metrics, Neurons, Progress, silent

# Theta for every class costs memory in their number; beyond this AAN is left out.
SCORED_CLASSES = 100
ACTIVE = 1000
_WIDEST_PENULTIMATE = 4096


def compare(
    *,
    model: str,
    data: DataSettings,
    engine: EngineSettings = EngineSettings(),
    taps: TapSettings = TapSettings(taps=()),
    targets: TargetSettings = TargetSettings(),
    join: JoinSettings = JoinSettings(),
    fit: FitSettings = FitSettings(),
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
    goal = None
    for repeat in range(repeats):
        job = open_for_tables(model, replace(data, seed=data.seed + repeat), engine, taps, progress)
        if job.splits.test is None:
            raise DataError("comparing needs test samples", hint="give them with --test, or leave out --val")
        check_outputs(job, output)
        if goal is None:
            goal = choose_goal(job, targets, max_overall_drop=fit.max_overall_drop, all_unless_named=True)
        inputs, neurons, notes = gather_inputs(job, taps, goal, join, fit, data.seed + repeat)
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
            outcome = judge(result, test, goal, fit.margin)
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
        samples={
            "fit": len(job.splits.fit),
            "validation": len(job.splits.validation),
            "test": len(job.splits.test),
        },
        before={
            "overall": interval([m.overall for m in before], [m.samples for m in before]),
            "target": interval([m.target for m in before], [_support(m, goal) for m in before]),
        },
        drops=DROPS,
        standings=_standings(outcomes, refused, goal),
        seconds={**job.engine.ledger.seconds, "all": time.perf_counter() - begin},
        passes=tuple(job.engine.ledger.passes),
        device=job.machine,
        output=None if written is None else written.output,
        checks=() if written is None else written.checks,
        notes=(*job.splits.notes, *notes, *_said(data, repeats)),
    )


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
    few = len(present) <= SCORED_CLASSES
    classes = np.union1d(present, targets) if few else targets
    everything = all_neurons(job.taps)
    active = min(ACTIVE, len(everything))
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
    last = penultimate_name(GraphIndex(job.opened.model.proto), job.subject.logits)
    for tap in job.taps:
        if tap.name == last and int(np.prod(tap.shape)) <= _WIDEST_PENULTIMATE:
            groups["penultimate"] = all_neurons([replace(tap, pool="none")])
    if few:
        names = [job.names[j] for j in classes]
        groups["active"], _ = active_neurons(best, job.taps, names, "auto", active)
    neurons, columns = _union(groups)
    views = (job.splits.fit, job.splits.validation, job.splits.test)
    room = most_neurons(sum(map(len, views)), job.engine)
    if len(neurons) > room:
        raise InputError(
            f"tables of {len(neurons):,} neurons for {sum(map(len, views)):,} samples do not fit",
            where="--memory",
            hint=f"raise it, give fewer samples, or at most {max(room // 3, 1):,} --neurons",
        )
    tables = [
        gather_table(job, view, neurons, what)
        for view, what in zip(views, ("collect", "validate", "test"), strict=True)
    ]
    _, judged, notes = learnt_from(job, (tables[0], tables[1]), picked=watched.picked)
    ends = np.cumsum([len(r.weight) for r in rankings])
    inputs = CompareInputs(
        *tables,
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


def interval(values: Sequence[float], samples: Sequence[int] | None = None) -> tuple[float, float]:
    """Mean and its standard error over repeats; of a single share, from the samples (n,) it is of."""
    known = np.array([v for v in values if not np.isnan(v)])
    if not len(known):
        return float("nan"), float("nan")
    if len(known) > 1:
        return float(known.mean()), float(known.std(ddof=1) / np.sqrt(len(known)))
    share = float(known[0])
    if samples is None or not samples[0]:
        return share, float("nan")
    return share, float(np.sqrt(max(share * (1 - share), 0.0) / samples[0]))


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


def _support(metrics: Metrics, goal: Goal) -> int:
    return int(metrics.confusion[goal.targets].sum())


def _standings(outcomes: dict, refused: dict[str, str], goal: Goal) -> tuple[MethodStanding, ...]:
    bias = [outcome.at for outcome, *_ in outcomes["bias"]]
    made = []
    for name, rows in outcomes.items():
        if not rows:
            made.append(_absent(name, refused.get(name, "")))
            continue
        found = [outcome for outcome, *_ in rows]
        own = [_support(o.metrics, goal) for o in found]
        at = np.array([o.at for o in found])
        places = [CURVE.index(d) for d in DROPS]
        made.append(
            MethodStanding(
                method=name,
                overall=interval([o.metrics.overall for o in found], [o.metrics.samples for o in found]),
                target=interval([o.metrics.target for o in found], own),
                at=tuple(interval(at[:, p], own) for p in places),
                over_bias=tuple(interval(at[:, p] - np.array(bias)[:, p]) for p in places),
                curve=tuple((d, interval(at[:, p])[0]) for p, d in enumerate(CURVE)),
                fixed=float(np.mean([o.fixed for o in found])),
                broken=float(np.mean([o.broken for o in found])),
                mcnemar_p=float(np.median([o.mcnemar_p for o in found])),
                E=interval([o.E for o in found]),
                parameters=float(np.mean([row[1] for row in rows])),
                seconds=float(np.mean([row[2] for row in rows])),
                note=rows[-1][3],
            )
        )
    return tuple(made)


def _absent(name: str, reason: str) -> MethodStanding:
    nan = float("nan")
    unknown, nowhere = (nan, nan), ((nan, nan),) * len(DROPS)
    return MethodStanding(
        name, unknown, unknown, nowhere, nowhere, (), nan, nan, nan, unknown, nan, nan, reason
    )


def _said(data: DataSettings, repeats: int) -> tuple[str, ...]:
    if repeats == 1:
        return ("intervals are standard errors of a share of the test samples; --repeats gives better ones",)
    what = "fit and validation samples" if data.test else "all three splits"
    return (f"means of {repeats} splits, with the standard error over them; seeds change {what}",)
