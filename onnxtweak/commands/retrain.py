"""How does synaptic retraining make a tweak? Once after a join, or by a schedule of joins and retrainings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from onnxtweak.engine.machine.large_arrays import with_added
from onnxtweak.errors import DataError, ModelError
from onnxtweak.goal import ResolvedGoal, worst
from onnxtweak.method.folds import KeptArrays
from onnxtweak.method.metrics import before_and_after
from onnxtweak.method.retrain.schedule import (
    NeuronPool,
    Stage,
    StageOutcome,
    parse_schedule,
    run_schedule,
)
from onnxtweak.method.retrain.weights import boosts, problem_of, retrain_best, temperatures
from onnxtweak.method.selection.candidates import Candidates
from onnxtweak.method.selection.ranking import Ranking, candidates_wanted, united
from onnxtweak.method.solvers.multi_target import TargetWeights
from onnxtweak.method.table import Table, take
from onnxtweak.method.tuning.by_head import choose_point, control_bias
from onnxtweak.method.tuning.operating_point import OperatingPoint
from onnxtweak.model.file.model_file import ModelSource
from onnxtweak.patch import Synapses
from onnxtweak.quantities import number_of
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
from onnxtweak.stages.check_paths import check_paths
from onnxtweak.stages.choose_goal import choose_goal
from onnxtweak.stages.deliver import check_outputs, deliver
from onnxtweak.stages.gather import gather_tables, kept_from_tables
from onnxtweak.stages.objects.anchors import decided_anchors
from onnxtweak.stages.open_job import Job, prepare
from onnxtweak.stages.plan_passes import PassRequest
from onnxtweak.stages.preprocessing_check import require_sound_base
from onnxtweak.stages.proposal import Proposal
from onnxtweak.stages.rank import criterion_of, rank_neurons, ranking_provenance
from onnxtweak.stages.sample_notes import notes_on_tables
from onnxtweak.stages.score import score_neurons
from onnxtweak.types import Neurons, Progress, silent


def retrain(
    *,
    model: ModelSource,
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

    join : how neurons are chosen, and the scales of a schedule's join stages. Without targets a schedule
    may choose any class that has samples.

    Raises InputError for what cannot be used, VerificationError when a check fails; nothing is written then.
    """
    stages = None if settings.schedule is None else parse_schedule(settings.schedule)
    check_paths(output, model, data, engine)
    job = decided_anchors(prepare(model, data, engine, taps, progress))
    check_outputs(job, output)
    job = require_sound_base(job)
    if stages and targets == TargetSettings():
        goal = ResolvedGoal(_every_class(job), job.head, join.max_overall_drop, join.max_class_drop)
    else:
        goal = choose_goal(job, targets, join)
    theta = score_neurons(job, goal.targets, join.theta, candidates_wanted(join))
    if stages is None:
        proposal = _once(job, theta.best, goal, settings, join)
    else:
        proposal = _scheduled(job, theta.best, goal, stages, settings, join)
    notes = notes_on_tables(job, theta, proposal.base, max(join.count))
    return deliver(job, replace(proposal, notes=(*notes, *proposal.notes)), output)


def passes(request: PassRequest) -> None:
    """The passes over samples that a retraining would make."""
    join = request.settings(JoinSettings, "join")
    request.ranking(join)
    request.planner.gather_tables(max(join.count) * request.count)
    request.planner.delivery()


def _every_class(job: Job) -> np.ndarray:
    """Classes that a schedule may choose when none is named: those with fit and validation samples."""
    both = np.intersect1d(job.splits.fit.classes, job.splits.validation.classes)
    if not len(both):
        raise DataError("no class has both fit and validation samples", hint="give more samples")
    return both


def _once(
    job: Job, best: Sequence[Candidates], goal: ResolvedGoal, settings: RetrainSettings, join: JoinSettings
) -> Proposal:
    """The first n synapses of each target retrained, for the n and scale that validation chooses."""
    targets = goal.targets
    rankings = rank_neurons(job, best, goal, join)
    fit, validation = gather_tables(job, united(rankings))
    ends = np.cumsum([0, *(len(r.weight) for r in rankings)])
    kept = kept_from_tables(job, united(rankings), "retrain")
    with job.timed("retrain"):
        found = {n: _retrained((fit, validation), goal, ends, n, settings, kept) for n in join.count}
    # `choose` divides by n, as a join does; retrained weights are not to be divided.
    prefix = np.stack([boost * n for n, (_, boost) in found.items()], axis=2)
    scales = None if join.exact_scale else (0.0, *settings.scale)
    point = choose_point(validation.Z, validation.labels, goal, prefix, join.count, scales, kept)
    weights = {n: weights for n, (weights, _) in found.items()}
    neurons, synapses = _synapses(rankings, targets, point, weights)
    chosen = np.column_stack([found[int(n)][1][:, t] for t, n in enumerate(point.n)])
    tweaked = with_added(validation.Z, chosen * point.scale, targets)
    ridges = {weights[int(n)].ridge for n, scale in zip(point.n, point.scale, strict=True) if scale}
    return Proposal(
        command="retrain",
        goal=goal,
        neurons=neurons,
        patch=synapses,
        base=validation.Z,
        tweaked=tweaked,
        bias=control_bias(validation.Z, validation.labels, goal, kept),
        point=point,
        theta=join.theta,
        criterion=criterion_of(rankings),
        scored=job.neurons,
        settings=ranking_provenance(join) | {"penalty": settings.penalty, "ridge": sorted(ridges)},
        notes=tuple(dict.fromkeys(target.note for target in weights.values() if target.note)),
    )


def _retrained(
    splits: tuple[Table, Table],
    goal: ResolvedGoal,
    ends: np.ndarray,
    n: int,
    settings: RetrainSettings,
    kept: KeptArrays,
) -> tuple[TargetWeights, np.ndarray]:
    """The first n synapses of each target retrained: weights, and their boost (N, c) on validation."""
    problems, temperature = [], temperatures(splits[1].Z, splits[1].labels, goal)
    for split in splits:
        tables = [split.T[:, a : min(a + n, b)] for a, b in zip(ends, ends[1:], strict=False)]
        problems.append(problem_of(tables, split.Z, split.labels, goal, settings.penalty, temperature))
    name = f"{n} of {ends.tolist()} {goal.targets.tolist()} {settings} {[split.digest for split in splits]}"
    fit, validation = problems
    ridges, device = settings.ridge, splits[0].device
    weights = TargetWeights.of_arrays(
        kept(name, lambda: retrain_best(fit, validation, ridges, device=device).arrays)
    )
    return weights, boosts(problems[1].tables, weights.weight)


def _synapses(
    rankings: Sequence[Ranking],
    targets: np.ndarray,
    point: OperatingPoint,
    found: dict[int, TargetWeights],
) -> tuple[Neurons, Synapses]:
    """The synapses of the chosen point; a target at scale 0 gets none."""
    each = [(int(n), scale) for n, scale in zip(point.n, point.scale, strict=True)]
    chosen = [r.first(n if scale else 0) for r, (n, scale) in zip(rankings, each, strict=True)]
    weights = [scale * found[n].weight[t] if scale else np.empty(0) for t, (n, scale) in enumerate(each)]
    return united(chosen), Synapses(
        target=np.repeat(np.asarray(targets, np.int64), [len(r.weight) for r in chosen]),
        weight=np.concatenate(weights),
        threshold=np.concatenate([r.weight for r in chosen]),
        count=np.concatenate([r.count for r in chosen]),
    )


def _scheduled(
    job: Job,
    best: Sequence[Candidates],
    goal: ResolvedGoal,
    stages: Sequence[Stage],
    settings: RetrainSettings,
    join: JoinSettings,
) -> Proposal:
    """Joins and retrainings in turn, on tables of the best neurons of every class that may be chosen."""
    # A class that no neuron can raise adds none to the pool; a note of its join stage says so.
    rankings = [r for r in rank_neurons(job, best, goal, join, skip=True) if len(r.weight)]
    if not rankings:
        raise ModelError(
            "no hidden neuron can raise any class without breaking a sample that is right",
            hint="watch other tensors with --taps, or give more samples",
        )
    neurons = _distinct(united(rankings))
    fit, validation = gather_tables(job, neurons)
    kept = kept_from_tables(job, neurons, "schedule")
    pool = NeuronPool(fit, validation, goal, job.names, kept)
    with job.timed("schedule"):
        grown, outcomes = run_schedule(stages, pool, join, settings, job.engine)
    columns, synapses = grown.flat()
    touched = np.unique(synapses.target)
    if not len(touched):
        narrow = min(stage.classes for stage in stages)
        touched = worst(goal.targets, goal.head.predict(validation.Z), validation.labels, narrow)
    goal = replace(goal, targets=touched)
    tweaked = validation.patched(None, grown)
    trials = before_and_after(validation, tweaked, goal, 0)
    n = np.array([(synapses.target == j).sum() for j in touched], np.int64)
    return Proposal(
        command="retrain",
        goal=goal,
        neurons=take(neurons, columns),
        patch=synapses,
        base=validation.Z,
        tweaked=tweaked,
        bias=control_bias(validation.Z, validation.labels, goal, kept),
        point=OperatingPoint(n, (n > 0).astype(float), trials),
        theta=join.theta,
        criterion=criterion_of(rankings),
        scored=job.neurons,
        settings=ranking_provenance(join)
        | {"penalty": settings.penalty, "schedule": " ".join(map(str, stages)), "pool": len(neurons)},
        notes=(
            *_stage_notes(outcomes, job.names, goal.head.measure),
            f"the stages chose from {number_of(len(neurons), 'neuron')}",
        ),
    )


def _distinct(neurons: Neurons) -> Neurons:
    """Each neuron once, in the order of taps and indices."""
    order = np.lexsort((neurons.index, neurons.tap_of))
    tap_of, index = neurons.tap_of[order], neurons.index[order]
    first = np.r_[True, (np.diff(tap_of) != 0) | (np.diff(index) != 0)]
    return take(neurons, order[first])


def _stage_notes(outcomes: Sequence[StageOutcome], names: Sequence[str], measure: str) -> list[str]:
    """What each stage did, in a sentence, and its own notes. measure : what it is judged by, in words."""
    notes = []
    for done in outcomes:
        shown = ", ".join(names[j] for j in done.classes[:5])
        more = f" and {len(done.classes) - 5:,} more" if len(done.classes) > 5 else ""
        notes.append(
            f"{done.stage} ({shown}{more}): {measure} on validation {done.target[0]:.1%} -> "
            f"{done.target[1]:.1%}, overall {done.overall[0]:.1%} -> {done.overall[1]:.1%}"
        )
        notes.extend(done.notes)
    return list(dict.fromkeys(notes))
