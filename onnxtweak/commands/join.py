"""`join`: synapses from the best neurons to the target logits, n and scale chosen on validation."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np

from onnxtweak.engine.passes import capture
from onnxtweak.method.join import join_synapses, prefix_sums
from onnxtweak.method.selection.ranking import Ranking, candidates_wanted, united
from onnxtweak.method.tuning.bias_control import best_bias
from onnxtweak.method.tuning.boosted import boost_table
from onnxtweak.method.tuning.operating_point import OperatingPoint, choose
from onnxtweak.results import Result
from onnxtweak.settings import (
    DataSettings,
    EngineSettings,
    JoinSettings,
    OutputSettings,
    TapSettings,
    TargetSettings,
)
from onnxtweak.stages.choose_goal import choose_goal
from onnxtweak.stages.deliver import Proposal, check_outputs, deliver
from onnxtweak.stages.open_job import Job, prepare
from onnxtweak.stages.plan_passes import PassRequest
from onnxtweak.stages.rank import rank_neurons
from onnxtweak.stages.report_data import theta_histogram
from onnxtweak.stages.sample_notes import notes_on_tables
from onnxtweak.stages.score import score_neurons
from onnxtweak.types import Progress, silent


def join(
    *,
    model: str,
    data: DataSettings,
    engine: EngineSettings = EngineSettings(),
    taps: TapSettings = TapSettings(),
    targets: TargetSettings,
    settings: JoinSettings = JoinSettings(),
    output: OutputSettings = OutputSettings(),
    progress: Progress = silent,
) -> Result:
    """Synaptic join (METHOD 1 to 4) of `model` for the target classes.

    Raises InputError for what cannot be used, VerificationError when a proof fails; nothing is written then.
    """
    begin = time.perf_counter()
    job = prepare(model, data, engine, taps, progress)
    check_outputs(job, output)
    goal = choose_goal(
        job, targets, max_overall_drop=settings.max_overall_drop, max_class_drop=settings.max_class_drop
    )
    found = score_neurons(job, goal.targets, settings.theta, candidates_wanted(settings))
    rankings = rank_neurons(job, found.best, goal, settings)
    Z, prefix = _validation_tables(job, rankings, settings)
    table = boost_table(Z, job.splits.validation.labels, goal)
    scales = None if settings.exact_scale else tuple(settings.scale)
    operation = choose(table, prefix, tuple(settings.count), scales)
    neurons, synapses = join_synapses(rankings, goal.targets, operation)
    made = Proposal(
        command="join",
        goal=goal,
        neurons=neurons,
        patch=synapses,
        base=Z,
        tweaked=_with_boost(Z, prefix, operation, settings, goal.targets),
        bias=best_bias(table),
        settings={
            "theta": settings.theta,
            "criterion": settings.criterion,
            "max_overall_drop": settings.max_overall_drop,
            "seed": data.seed,
        },
        n=tuple(int(n) for n in operation.n),
        scale=tuple(float(s) for s in operation.scale),
        theta=settings.theta,
        criterion="/".join(dict.fromkeys(r.criterion for r in rankings)),
        scored=sum(tap.neurons for tap in job.taps),
        curve=operation.trials,
        notes=notes_on_tables(job, found, Z, max(settings.count)),
        grid=operation.grid,
        theta_counts=tuple(
            theta_histogram(sizes, ranking.first(int(n) if scale else 0).weight)
            for sizes, ranking, n, scale in zip(
                found.sizes, rankings, operation.n, operation.scale, strict=True
            )
        ),
    )
    return deliver(job, made, output, begin)


def passes(request: PassRequest) -> None:
    """The passes over samples that a join would make."""
    settings = request.settings(JoinSettings)
    request.ranking(settings)
    request.planner.gather("validate", request.job.splits.validation, max(settings.count) * request.count)
    request.planner.delivery()


def _validation_tables(
    job: Job, rankings: Sequence[Ranking], settings: JoinSettings
) -> tuple[np.ndarray, np.ndarray]:
    """Z (N, C) and the prefix sums (N, c, G) of validation: one pass, T itself is not kept."""
    logits: list[np.ndarray] = []

    def tables():
        for got in capture(
            job.subject, job.splits.validation, job.engine, "validate", neurons=united(rankings)
        ):
            logits.append(got.Z.copy())
            yield got.V[0]

    prefix = prefix_sums(tables(), rankings, settings.count)
    return np.concatenate(logits), prefix


def _with_boost(
    Z: np.ndarray, prefix: np.ndarray, operation: OperatingPoint, settings: JoinSettings, targets: np.ndarray
) -> np.ndarray:
    """Validation logits with the chosen synapses, from tables."""
    tweaked = Z.copy()
    for t, target in enumerate(targets):
        column = prefix[:, t, settings.count.index(int(operation.n[t]))]
        tweaked[:, target] += (column * (operation.scale[t] / operation.n[t])).astype(Z.dtype)
    return tweaked
