"""Augmentation with active neurons, the whole story: score all classes, train on tables, splice, prove."""

from __future__ import annotations

import time

import numpy as np

from onnxtweak.errors import ModelError, UsageError
from onnxtweak.goal import Goal
from onnxtweak.head import Head
from onnxtweak.method.augment import Trained, train
from onnxtweak.method.metrics import fixed_and_broken
from onnxtweak.method.selection.active_neurons import active_neurons
from onnxtweak.method.table import Table, most_neurons, take
from onnxtweak.method.tuning.bias_control import overall_bias
from onnxtweak.patch import no_patch
from onnxtweak.results import Result
from onnxtweak.settings import AugmentSettings, DataSettings, EngineSettings, OutputSettings, TapSettings
from onnxtweak.stages.deliver import Proposal, check_outputs, deliver
from onnxtweak.stages.gather import gather_table
from onnxtweak.stages.open_job import Job, prepare
from onnxtweak.stages.plan_passes import PassRequest
from onnxtweak.stages.score import score_neurons
from onnxtweak.types import Neurons, Progress, Trial, silent

# How much of the MLP is tried, whole first, where single classes must not lose too much.
_SCALES = (1.0, 0.75, 0.5, 0.25)
# Neurons that feed the MLP when nobody says how many.
_NEURONS = 1000


def augment(
    *,
    model: str,
    data: DataSettings,
    engine: EngineSettings = EngineSettings(),
    taps: TapSettings = TapSettings(),
    settings: AugmentSettings = AugmentSettings(),
    output: OutputSettings = OutputSettings(),
    progress: Progress = silent,
) -> Result:
    """Augment `model` for all its classes at once (METHOD 6); `data.seed` also seeds the training.

    Raises InputError for what cannot be used, VerificationError when a proof fails; nothing is written then.
    """
    begin = time.perf_counter()
    job = prepare(model, data, engine, taps, progress)
    check_outputs(job, output)
    count = _how_many(job, settings)
    fit, validation = job.splits.fit, job.splits.validation
    goal = Goal(np.unique(fit.labels), job.head, max_class_drop=settings.max_class_drop)
    present = goal.targets
    found = score_neurons(job, present, settings.theta, count)
    names = [job.names[j] for j in present]
    neurons, helpless = active_neurons(found.best, job.taps, names, settings.criterion, count)
    fit_table = gather_table(job, fit, neurons, "collect")
    table = gather_table(job, validation, neurons, "validate")
    # A neuron that is zero on all of a split is dead there, or was not finite: see `gather`.
    alive = np.flatnonzero(fit_table.T.any(axis=0) & table.T.any(axis=0))
    if not len(alive):
        raise ModelError(
            "every active neuron is zero on all validation samples",
            hint="give more validation samples, or watch other tensors with --taps",
        )
    if len(alive) < len(neurons):
        neurons, fit_table, table = take(neurons, alive), fit_table.columns(alive), table.columns(alive)
    since = time.perf_counter()
    trained = train(
        fit_table,
        table,
        settings,
        head=job.head,
        seed=data.seed,
        xp=job.engine.backend.xp,
        progress=progress,
    )
    job.engine.stats.seconds["train"] = time.perf_counter() - since
    scale = _scale(table, trained.patch.delta(table.T), goal)
    patch = trained.patch.scaled(scale)
    tweaked = patch.applied(table.Z, table.T)
    made = Proposal(
        command="augment",
        goal=goal,
        neurons=neurons if scale else Neurons((), np.empty(0, np.int32), np.empty(0, np.int64)),
        patch=patch if scale else no_patch(),
        base=table.Z,
        tweaked=tweaked,
        bias=overall_bias(table.Z, table.labels, goal),
        settings={
            "theta": settings.theta,
            "criterion": settings.criterion,
            "neurons": len(neurons),
            "hidden": settings.hidden,
            "max_class_drop": settings.max_class_drop,
            "iterations": trained.best.iteration,
            "seed": data.seed,
        },
        n=(len(neurons) if scale else 0,) * len(present),
        scale=(scale,) * len(present),
        theta=settings.theta,
        criterion=settings.criterion,
        scored=sum(tap.neurons for tap in job.taps),
        curve=_curve(table, table.Z + trained.patch.delta(table.T), goal.head, len(neurons)),
        notes=(
            *job.splits.notes,
            *_notes(job, trained, table, len(neurons), count, helpless),
        ),
    )
    return deliver(job, made, output, begin)


def passes(request: PassRequest) -> None:
    """The passes over samples that an augmentation would make."""
    splits, settings = request.job.splits, request.settings(AugmentSettings)
    wanted, present = _how_many(request.job, settings), np.unique(splits.fit.labels)
    request.planner.score(len(present), settings.theta, wanted, present)
    for name, view in (("collect", splits.fit), ("validate", splits.validation)):
        request.planner.gather(name, view, wanted)
    request.planner.delivery()


def _how_many(job: Job, settings: AugmentSettings) -> int:
    """How many neurons to choose. Raises UsageError for more than there are, or than memory can hold."""
    there = sum(tap.neurons for tap in job.taps)
    asked = settings.neurons
    if asked is not None and asked > there:
        raise UsageError(
            f"{asked:,} neurons asked for, but only {there:,} are watched",
            where="--neurons",
            hint="ask for fewer, or watch more tensors with --taps",
        )
    count = min(there, _NEURONS) if asked is None else asked
    rows = len(job.splits.fit) + len(job.splits.validation)
    most = most_neurons(rows, job.engine)
    if count > most:
        raise UsageError(
            f"tables of {count:,} neurons for {rows:,} samples do not fit into the memory allowed",
            where="--neurons",
            hint=f"ask for at most {most:,} neurons, raise --memory, or give fewer samples",
        )
    return count


def _scale(table: Table, boost: np.ndarray, goal: Goal) -> float:
    """The largest part of the MLP's boost (N, C) that is allowed and better than the base, or 0.

    Better: the overall accuracy on validation gains more than one standard error of the difference.
    """
    labels = table.labels
    before = goal.head.predict(table.Z)
    for scale in _SCALES:
        after = goal.head.predict(table.Z + scale * boost)
        if goal.classes_hold(before == labels, after == labels, labels, table.Z.shape[1]):
            fixed, broken = fixed_and_broken(before, after, labels)
            return scale if fixed - broken > np.sqrt(fixed + broken) else 0.0
    return 0.0


def _curve(table: Table, tweaked: np.ndarray, head: Head, neurons: int) -> tuple[Trial, ...]:
    before, after = (float(head.right(Z, table.labels).mean()) for Z in (table.Z, tweaked))
    return Trial(0, 0.0, 0.0, before), Trial(neurons, 1.0, (before - after) * 100, after)


def _notes(
    job: Job, trained: Trained, table: Table, found: int, count: int, helpless: tuple[str, ...]
) -> list[str]:
    base, best, last = trained.checkpoints[0], trained.best, trained.checkpoints[-1]
    samples = len(table.labels)
    notes = [
        f"trained for {last.iteration:,} iterations, best on validation after {best.iteration:,}: "
        f"cross-entropy {base.loss:.4f} -> {best.loss:.4f}, "
        f"accuracy {base.right / samples:.1%} -> {best.right / samples:.1%}; all classes are targets"
    ]
    absent = len(job.names) - len(np.unique(job.splits.fit.labels))
    if absent:
        notes.append(
            f"{absent:,} {'class' if absent == 1 else 'classes'} without fit samples: nothing is added there"
        )
    if found < count:
        notes.append(
            f"only {found:,} neurons can raise a class without breaking a right sample; all are used"
        )
    if helpless:
        notes.append(f"no neuron can raise {', '.join(helpless)} alone")
    return notes
