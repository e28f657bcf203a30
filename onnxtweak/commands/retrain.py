"""Synaptic retraining, the whole story: once after a join, or as a schedule of joins and retrainings."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from onnxtweak.errors import DataError, ModelError, UsageError
from onnxtweak.goal import Goal, worst
from onnxtweak.method.retrain.schedule import (
    NeuronPool,
    Stage,
    StageOutcome,
    parse_schedule,
    run_schedule,
)
from onnxtweak.method.retrain.weights import RetrainProblem, boosts, retrain_best
from onnxtweak.method.selection.candidates import Candidates
from onnxtweak.method.selection.ranking import Ranking, candidates_wanted, united
from onnxtweak.method.solvers.multi_target import TargetWeights
from onnxtweak.method.table import Table, most_neurons, take
from onnxtweak.method.tuning.bias_control import best_bias
from onnxtweak.method.tuning.boosted import boost_table
from onnxtweak.method.tuning.operating_point import OperatingPoint, choose
from onnxtweak.patch import Synapses
from onnxtweak.results import Result
from onnxtweak.settings import (
    DataSettings,
    EngineSettings,
    JoinSettings,
    OutputSettings,
    RetrainSettings,
    TapSettings,
    TargetSettings,
)
from onnxtweak.stages.choose_goal import choose_goal
from onnxtweak.stages.deliver import Proposal, check_outputs, deliver
from onnxtweak.stages.gather import gather_table
from onnxtweak.stages.open_job import Job, prepare
from onnxtweak.stages.plan_passes import PassRequest
from onnxtweak.stages.rank import rank_neurons
from onnxtweak.stages.sample_notes import notes_on_tables
from onnxtweak.stages.score import score_neurons
from onnxtweak.types import Neurons, Progress, Trial, silent


def retrain(
    *,
    model: str,
    data: DataSettings,
    engine: EngineSettings = EngineSettings(),
    taps: TapSettings = TapSettings(),
    targets: TargetSettings = TargetSettings(),
    settings: RetrainSettings = RetrainSettings(),
    join: JoinSettings = JoinSettings(),
    output: OutputSettings = OutputSettings(),
    progress: Progress = silent,
) -> Result:
    """Synaptic retraining (METHOD 5) of `model` for the target classes, or by `settings.schedule`.

    `join` says how neurons are chosen; its scales are those of a schedule's join stages. With a schedule, no
    target means that any class with samples may be picked.

    Raises InputError for what cannot be used, VerificationError when a proof fails; nothing is written then.
    """
    begin = time.perf_counter()
    stages = None if settings.schedule is None else parse_schedule(settings.schedule)
    job = prepare(model, data, engine, taps, progress)
    check_outputs(job, output)
    overall, single = join.max_overall_drop, join.max_class_drop
    if stages and targets == TargetSettings():
        goal = Goal(_every_class(job), job.head, overall, single)
    else:
        goal = choose_goal(job, targets, max_overall_drop=overall, max_class_drop=single)
    found = score_neurons(job, goal.targets, join.theta, candidates_wanted(join))
    if stages is None:
        made = _once(job, found.best, goal, settings, join)
    else:
        made = _scheduled(job, found.best, goal, stages, settings, join)
    notes = notes_on_tables(job, found, made.base, max(join.count))
    made = replace(made, notes=(*notes, *made.notes), settings={**made.settings, "seed": data.seed})
    return deliver(job, made, output, begin)


def passes(request: PassRequest) -> None:
    """The passes over samples that a retraining would make."""
    splits, join = request.job.splits, request.settings(JoinSettings, "join")
    request.ranking(join)
    for name, view in (("collect", splits.fit), ("validate", splits.validation)):
        request.planner.gather(name, view, max(join.count) * request.count)
    request.planner.delivery()


def _every_class(job: Job) -> np.ndarray:
    """Classes that a schedule may pick when none is named: those with fit and validation samples."""
    both = np.intersect1d(job.splits.fit.labels, job.splits.validation.labels)
    if not len(both):
        raise DataError("no class has both fit and validation samples", hint="give more samples")
    return both


# --------------------------------------------------------------------------- one join, one retraining


def _once(
    job: Job, best: Sequence[Candidates], goal: Goal, settings: RetrainSettings, join: JoinSettings
) -> Proposal:
    targets = goal.targets
    rankings = rank_neurons(job, best, goal, join)
    fit, validation = _tables(job, united(rankings), "-n")
    ends = np.cumsum([0, *(len(r.weight) for r in rankings)])
    since = time.perf_counter()
    found = {n: _retrained(fit, validation, targets, ends, n, settings) for n in join.count}
    job.engine.stats.seconds["retrain"] = time.perf_counter() - since
    # `choose` divides by n, as a join does; here the weights are whole.
    prefix = np.stack([boost * n for n, (_, boost) in found.items()], axis=2)
    table = boost_table(validation.Z, validation.labels, goal)
    scales = None if join.exact_scale else (0.0, *settings.scale)
    operation = choose(table, prefix, tuple(join.count), scales)
    neurons, synapses = _synapses(rankings, targets, operation, {n: made for n, (made, _) in found.items()})
    tweaked = validation.Z.copy()
    for t, j in enumerate(targets):
        column = found[int(operation.n[t])][1][:, t]
        tweaked[:, j] += (column * operation.scale[t]).astype(tweaked.dtype)
    ridges = {int(n): found[int(n)][0].ridge for n, s in zip(operation.n, operation.scale, strict=True) if s}
    return Proposal(
        command="retrain",
        goal=goal,
        neurons=neurons,
        patch=synapses,
        base=validation.Z,
        tweaked=tweaked,
        bias=best_bias(table),
        settings=_settings(settings, join) | {"ridge": sorted(set(ridges.values()))},
        n=tuple(int(n) for n in operation.n),
        scale=tuple(float(s) for s in operation.scale),
        theta=join.theta,
        criterion="/".join(dict.fromkeys(r.criterion for r in rankings)),
        scored=sum(tap.neurons for tap in job.taps),
        curve=operation.trials,
        notes=tuple(dict.fromkeys(made.note for made, _ in found.values() if made.note)),
        grid=operation.grid,
    )


def _retrained(
    fit: Table, validation: Table, targets: np.ndarray, ends: np.ndarray, n: int, settings: RetrainSettings
) -> tuple[TargetWeights, np.ndarray]:
    """The first n synapses of each target retrained: weights, and their boost on validation (N, c)."""
    problems = []
    for split in (fit, validation):
        tables = [split.T[:, a : min(a + n, b)] for a, b in zip(ends, ends[1:], strict=False)]
        problems.append(RetrainProblem.of(tables, split.Z, split.labels, targets, settings.penalty))
    made = retrain_best(problems[0], problems[1], settings.ridge)
    return made, boosts(problems[1].tables, made.weight)


def _synapses(
    rankings: Sequence[Ranking],
    targets: np.ndarray,
    operation: OperatingPoint,
    found: dict[int, TargetWeights],
) -> tuple[Neurons, Synapses]:
    """The synapses of the chosen point; a target at scale 0 gets none."""
    points = list(zip(operation.n, operation.scale, strict=True))
    chosen = [r.first(int(n) if scale else 0) for r, (n, scale) in zip(rankings, points, strict=True)]
    weights = [
        scale * found[int(n)].weight[t] if scale else np.empty(0) for t, (n, scale) in enumerate(points)
    ]
    return united(chosen), Synapses(
        target=np.repeat(np.asarray(targets, np.int64), [len(r.weight) for r in chosen]),
        weight=np.concatenate(weights),
        threshold=np.concatenate([r.weight for r in chosen]),
        count=np.concatenate([r.count for r in chosen]),
    )


# ---------------------------------------------------------------------------------------- a schedule


def _scheduled(
    job: Job,
    best: Sequence[Candidates],
    goal: Goal,
    stages: Sequence[Stage],
    settings: RetrainSettings,
    join: JoinSettings,
) -> Proposal:
    """Joins and retrainings in turn, all on one table: the best neurons of every class that may be picked."""
    # A class that no neuron can raise brings none to the pool: its join stage says so.
    rankings = [r for r in rank_neurons(job, best, goal, join, skip=True) if len(r.weight)]
    if not rankings:
        raise ModelError(
            "no hidden neuron can raise any class without breaking a sample that is right",
            hint="watch other tensors with --taps, or give more samples",
        )
    neurons = _distinct(united(rankings))
    fit, validation = _tables(job, neurons, "-n")
    pool = NeuronPool(fit, validation, goal, job.names)
    since = time.perf_counter()
    grown, log = run_schedule(stages, pool, join, settings, job.engine)
    job.engine.stats.seconds["schedule"] = time.perf_counter() - since
    columns, synapses = grown.flat()
    touched = np.unique(synapses.target)
    if not len(touched):
        narrow = min(stage.classes for stage in stages)
        touched = worst(goal.targets, goal.head.predict(validation.Z), validation.labels, narrow)
    goal = replace(goal, targets=touched)
    tweaked = grown.applied(validation.Z, validation.T)
    n = tuple(int((synapses.target == j).sum()) for j in touched)
    return Proposal(
        command="retrain",
        goal=goal,
        neurons=take(neurons, columns),
        patch=synapses,
        base=validation.Z,
        tweaked=tweaked,
        bias=best_bias(boost_table(validation.Z, validation.labels, goal)),
        settings=_settings(settings, join) | {"schedule": " ".join(map(str, stages)), "pool": len(neurons)},
        n=n,
        scale=tuple(float(k > 0) for k in n),
        theta=join.theta,
        criterion="/".join(dict.fromkeys(r.criterion for r in rankings)),
        scored=sum(tap.neurons for tap in job.taps),
        curve=_curve(validation, tweaked, goal),
        notes=(*_told(log, job.names), f"the stages chose from a pool of {len(neurons):,} neurons"),
    )


def _distinct(neurons: Neurons) -> Neurons:
    """Each neuron once, in the order of taps and indices."""
    order = np.lexsort((neurons.index, neurons.tap_of))
    tap_of, index = neurons.tap_of[order], neurons.index[order]
    first = np.r_[True, (np.diff(tap_of) != 0) | (np.diff(index) != 0)]
    return take(neurons, order[first])


def _curve(table: Table, tweaked: np.ndarray, goal: Goal) -> tuple[Trial, ...]:
    own = goal.wanted(table.labels)
    right = [goal.head.right(Z, table.labels) for Z in (table.Z, tweaked)]
    drop = float(right[0].mean() - right[1].mean()) * 100
    return Trial(0, 0.0, 0.0, float(right[0][own].mean())), Trial(0, 1.0, drop, float(right[1][own].mean()))


def _told(log: Sequence[StageOutcome], names: Sequence[str]) -> list[str]:
    """Each stage in a sentence, and what it wants to be known."""
    said = []
    for done in log:
        shown = ", ".join(names[j] for j in done.classes[:5])
        more = f" and {len(done.classes) - 5:,} more" if len(done.classes) > 5 else ""
        said.append(
            f"{done.stage} ({shown}{more}): on validation their accuracy {done.target[0]:.1%} -> "
            f"{done.target[1]:.1%}, overall {done.overall[0]:.1%} -> {done.overall[1]:.1%}"
        )
        said.extend(done.notes)
    return list(dict.fromkeys(said))


# ---------------------------------------------------------------------------------------- both


def _tables(job: Job, neurons: Neurons, where: str) -> tuple[Table, Table]:
    """Fit and validation tables of the chosen neurons: one pass each, after which the base is not run."""
    fit, validation = job.splits.fit, job.splits.validation
    most = most_neurons(len(fit) + len(validation), job.engine)
    if len(neurons) > most:
        raise UsageError(
            f"tables of {len(neurons):,} neurons for {len(fit) + len(validation):,} samples do not fit into"
            " the memory allowed",
            where=where,
            hint=f"{most:,} neurons would: use fewer a class (-n), fewer classes (-t), or raise --memory",
        )
    return (
        gather_table(job, fit, neurons, "collect"),
        gather_table(job, validation, neurons, "validate"),
    )


def _settings(settings: RetrainSettings, join: JoinSettings) -> dict:
    return {
        "theta": join.theta,
        "criterion": join.criterion,
        "max_overall_drop": join.max_overall_drop,
        "penalty": settings.penalty,
    }
