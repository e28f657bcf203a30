"""How does synaptic join make a tweak? The best neurons get synapses; validation chooses n and scale."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np

from onnxtweak.data.splits import View
from onnxtweak.engine.machine.large_arrays import with_added
from onnxtweak.engine.passes import Captured, Engine
from onnxtweak.engine.shared.kept_shards import kept_by_shards
from onnxtweak.engine.shared.logits import joined_logits
from onnxtweak.engine.shared.shards import captured_shards
from onnxtweak.engine.subject import Subject
from onnxtweak.goal import ResolvedGoal
from onnxtweak.method.folds import digest_of
from onnxtweak.method.join import join_synapses, prefix_sums
from onnxtweak.method.selection.candidates import Theta
from onnxtweak.method.selection.numbering import digest_of_neurons
from onnxtweak.method.selection.ranking import Ranking, candidates_wanted, united
from onnxtweak.method.tuning.by_head import choose_point, control_bias
from onnxtweak.method.tuning.operating_point import OperatingPoint
from onnxtweak.model.file.model_file import ModelSource
from onnxtweak.results import Result
from onnxtweak.settings import (
    DataSettings,
    EngineSettings,
    JoinSettings,
    OutputSettings,
    TapSettings,
    TargetSettings,
)
from onnxtweak.stages.check_paths import check_paths
from onnxtweak.stages.choose_goal import choose_goal
from onnxtweak.stages.deliver import check_outputs, deliver
from onnxtweak.stages.gather import kept_results
from onnxtweak.stages.objects.anchors import decided_anchors
from onnxtweak.stages.open_job import Job, prepare
from onnxtweak.stages.plan_passes import PassRequest
from onnxtweak.stages.preprocessing_check import require_sound_base
from onnxtweak.stages.proposal import Proposal
from onnxtweak.stages.rank import criterion_of, rank_neurons, ranking_provenance
from onnxtweak.stages.report_data import theta_histogram
from onnxtweak.stages.sample_notes import notes_on_tables
from onnxtweak.stages.score import score_neurons
from onnxtweak.types import Progress, silent


def join(
    *,
    model: ModelSource,
    data: DataSettings,
    engine: EngineSettings = EngineSettings(),
    taps: TapSettings = TapSettings(),
    targets: TargetSettings,
    settings: JoinSettings = JoinSettings(),
    output: OutputSettings = OutputSettings(),
    progress: Progress = silent,
) -> Result:
    """Synaptic join (METHOD 1 to 4) of `model` for the target classes.

    Raises InputError for what cannot be used, VerificationError when a check fails; nothing is written then.
    """
    check_paths(output, model, data, engine)
    job = decided_anchors(prepare(model, data, engine, taps, progress))
    check_outputs(job, output)
    job = require_sound_base(job)
    goal = choose_goal(job, targets, settings)
    theta = score_neurons(job, goal.targets, settings.theta, candidates_wanted(settings))
    rankings = rank_neurons(job, theta.best, goal, settings)
    Z, prefix = _validation_tables(job, rankings, settings)
    labels, scales = job.splits.validation.labels, None if settings.exact_scale else settings.scale
    point = choose_point(Z, labels, goal, prefix, settings.count, scales, kept_results(job, "join"))
    tweaked = _with_boost(Z, prefix, point, settings, goal.targets)
    proposal = _proposal(job, goal, settings, theta, rankings, point, (Z, tweaked))
    return deliver(job, proposal, output)


def passes(request: PassRequest) -> None:
    """The passes over samples that a join would make."""
    settings = request.settings(JoinSettings)
    request.ranking(settings)
    request.planner.gather("validate", request.job.splits.validation, max(settings.count) * request.count)
    request.planner.delivery()


def _validation_tables(
    job: Job, rankings: Sequence[Ranking], settings: JoinSettings
) -> tuple[np.ndarray, np.ndarray]:
    """Z (N, C) and the prefix sums (N, c, G) of validation, in one pass that stores no T."""
    work = partial(_prefix_shards, rankings=rankings, counts=settings.count)
    weights = [digest_of(one.weight) for one in rankings]
    made = f"prefix sums {settings.count} {digest_of_neurons(united(rankings))} {weights}"
    shards = kept_by_shards(work, job.subject, job.splits.validation, job.engine, "validate", made)
    prefix: list[np.ndarray] = []

    def logits() -> Iterator[np.ndarray]:
        for Z, sums in shards:
            prefix.append(sums.copy())
            yield Z

    Z = joined_logits(job.subject, len(job.splits.validation), job.engine, logits())
    return Z, np.concatenate(prefix)


def _prefix_shards(
    subject: Subject,
    view: View,
    engine: Engine,
    what: str,
    rankings: Sequence[Ranking],
    counts: Sequence[int],
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Z and the prefix sums of each shard of a view."""
    for shard in captured_shards(subject, view, engine, what, neurons=united(rankings)):
        logits: list[np.ndarray] = []
        prefix = prefix_sums(_read_values(shard, logits), rankings, counts)
        yield np.concatenate(logits), prefix


def _read_values(batches: Iterator[Captured], logits: list[np.ndarray]) -> Iterator[np.ndarray]:
    """T of each batch, whose Z is added to the list."""
    for got in batches:
        logits.append(got.Z.copy())
        yield got.V[0]


def _with_boost(
    Z: np.ndarray, prefix: np.ndarray, point: OperatingPoint, settings: JoinSettings, targets: np.ndarray
) -> np.ndarray:
    """Validation logits (N, C) with the chosen synapses, from tables."""
    each = [prefix[:, t, settings.count.index(int(n))] for t, n in enumerate(point.n)]
    return with_added(Z, np.column_stack(each) * (point.scale / point.n), targets)


def _proposal(
    job: Job,
    goal: ResolvedGoal,
    settings: JoinSettings,
    theta: Theta,
    rankings: Sequence[Ranking],
    point: OperatingPoint,
    logits: tuple[np.ndarray, np.ndarray],
) -> Proposal:
    """The synapses of the chosen point. logits (N, C) without and with them : of validation."""
    neurons, synapses = join_synapses(rankings, goal.targets, point)
    parts = zip(theta.sizes, rankings, point.n, point.scale, strict=True)
    return Proposal(
        command="join",
        goal=goal,
        neurons=neurons,
        patch=synapses,
        base=logits[0],
        tweaked=logits[1],
        bias=control_bias(logits[0], job.splits.validation.labels, goal, kept_results(job, "join")),
        point=point,
        theta=settings.theta,
        criterion=criterion_of(rankings),
        scored=job.neurons,
        settings=ranking_provenance(settings),
        notes=notes_on_tables(job, theta, logits[0], max(settings.count)),
        theta_counts=tuple(
            theta_histogram(sizes, ranking.first(int(n) if scale else 0).weight)
            for sizes, ranking, n, scale in parts
        ),
    )
