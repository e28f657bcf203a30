"""How does augmentation make a tweak? It trains an MLP on active neurons, for all classes at once."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from onnxtweak.engine.machine.large_arrays import any_in_columns
from onnxtweak.errors import ModelError, UsageError
from onnxtweak.goal import ResolvedGoal
from onnxtweak.method.augment import Trained, train_calibrated, training_library
from onnxtweak.method.folds import KeptArrays
from onnxtweak.method.metrics import before_and_after, fixed_and_broken
from onnxtweak.method.selection.active_neurons import active_neurons
from onnxtweak.method.table import Table, take
from onnxtweak.method.tuning.bias_control import overall_bias
from onnxtweak.method.tuning.label_point import best_thresholds
from onnxtweak.method.tuning.operating_point import OperatingPoint
from onnxtweak.metric.several import drawn_f1, f1_of
from onnxtweak.model.file.model_file import ModelSource
from onnxtweak.patch import no_patch
from onnxtweak.results import Result
from onnxtweak.settings import AugmentSettings, DataSettings, EngineSettings, OutputSettings, TapSettings
from onnxtweak.stages.check_paths import check_paths
from onnxtweak.stages.deliver import check_outputs, deliver
from onnxtweak.stages.gather import gather_tables, kept_from_tables, kept_results
from onnxtweak.stages.objects.anchors import decided_anchors
from onnxtweak.stages.open_job import Job, prepare
from onnxtweak.stages.plan_passes import PassRequest
from onnxtweak.stages.preprocessing_check import require_sound_base
from onnxtweak.stages.proposal import Proposal, for_tensor
from onnxtweak.stages.score import score_neurons
from onnxtweak.types import Neurons, Progress, silent

# Which scales of the MLP are tried, in this order.
_SCALES = (1.0, 0.75, 0.5, 0.25)
_RESAMPLES = 200  # in which one F1 is compared with another
# How many neurons feed the MLP by default.
_NEURONS = 1000


def augment(
    *,
    model: ModelSource,
    data: DataSettings,
    engine: EngineSettings = EngineSettings(),
    taps: TapSettings = TapSettings(),
    settings: AugmentSettings = AugmentSettings(),
    output: OutputSettings = OutputSettings(),
    progress: Progress = silent,
) -> Result:
    """Augment `model` for all its classes at once (METHOD 6); `data.seed` also seeds the training.

    Raises InputError for what cannot be used, VerificationError when a check fails; nothing is written then.
    """
    check_paths(output, model, data, engine)
    job = decided_anchors(prepare(model, data, engine, taps, progress))
    check_outputs(job, output)
    job = require_sound_base(job)
    count = _how_many(job, settings)
    goal = ResolvedGoal(job.splits.fit.classes, job.head, max_class_drop=settings.max_class_drop)
    names = [job.names[j] for j in goal.targets]
    theta = score_neurons(job, goal.targets, settings.theta, count)
    neurons, helpless = active_neurons(theta.best, job.taps, names, settings.criterion, count)
    neurons, fit, validation = _without_dead(neurons, *gather_tables(job, neurons))
    with job.timed("train"):
        trained = _trained(job, (fit, validation), goal, settings, kept_from_tables(job, neurons, "augment"))
        trained = replace(trained, patch=for_tensor(trained.patch, job.subject.readout))
    proposal = _proposal(job, goal, settings, neurons, trained, validation)
    notes = _notes(job, trained, validation.labels, len(neurons), count, helpless)
    return deliver(job, replace(proposal, notes=notes), output)


def passes(request: PassRequest) -> None:
    """The passes over samples that an augmentation would make."""
    settings, present = request.settings(AugmentSettings), request.job.splits.fit.classes
    count = _how_many(request.job, settings)
    request.planner.score(len(present), settings.theta, count, present)
    request.planner.gather_tables(count)
    request.planner.delivery()


def _how_many(job: Job, settings: AugmentSettings) -> int:
    """How many neurons to choose. Raises UsageError for more than there are."""
    count = min(job.neurons, _NEURONS) if settings.neurons is None else settings.neurons
    if count > job.neurons:
        raise UsageError(
            f"{count:,} neurons asked for, but only {job.neurons:,} are watched",
            where="--neurons",
            hint="ask for fewer, or watch more tensors with --taps",
        )
    return count


def _trained(
    job: Job, tables: tuple[Table, Table], goal: ResolvedGoal, settings: AugmentSettings, kept: KeptArrays
) -> Trained:
    """The MLP, as an earlier run has trained it, if one has."""
    backend, seed, progress = job.engine.backend, job.seed, job.engine.progress

    def new() -> dict[str, np.ndarray]:
        xp = training_library(tables[0], settings)
        found = train_calibrated(*tables, goal, settings, seed=seed, xp=xp, progress=progress)
        return found.arrays

    name = f"{backend.name} {settings} {goal.targets.tolist()} {seed} {[each.digest for each in tables]}"
    return Trained.of_arrays(kept(name, new))


def _without_dead(neurons: Neurons, fit: Table, validation: Table) -> tuple[Neurons, Table, Table]:
    """Neurons and tables without those that are zero on all samples of a split: dead, or not finite there."""
    alive = np.flatnonzero(np.logical_and(*(any_in_columns(table.T) for table in (fit, validation))))
    if not len(alive):
        raise ModelError(
            "every active neuron is zero on all samples of the fit or the validation split",
            hint="give more validation samples, or watch other tensors with --taps",
        )
    if len(alive) == len(neurons):
        return neurons, fit, validation
    return take(neurons, alive), fit.columns(alive), validation.columns(alive)


def _proposal(
    job: Job,
    goal: ResolvedGoal,
    settings: AugmentSettings,
    neurons: Neurons,
    trained: Trained,
    validation: Table,
) -> Proposal:
    """The trained MLP at the largest scale that is allowed; or the base."""
    nothing = replace(validation, Z=np.zeros_like(validation.Z, np.float32))
    boost, count = nothing.patched(None, trained.patch), len(neurons)
    scale = (_scales if goal.head.several else _scale)(validation, boost, goal)
    patch = trained.patch.by_class(goal.on_all_classes(scale, validation.Z.shape[1]))
    kept, of = kept_results(job, "augment"), (validation.Z, validation.labels, goal)
    control = best_thresholds(*of) if goal.head.several else overall_bias(*of, None, kept)
    trials = before_and_after(validation, validation.Z + boost, goal, count)
    return Proposal(
        command="augment",
        goal=goal,
        neurons=neurons if scale.any() else take(neurons, np.empty(0, np.int64)),
        patch=patch if scale.any() else no_patch(),
        base=validation.Z,
        tweaked=validation.patched(None, patch),
        bias=control,
        point=OperatingPoint(np.where(scale != 0, count, 0), scale, trials),
        theta=settings.theta,
        criterion=settings.criterion,
        scored=job.neurons,
        settings={
            "theta": settings.theta,
            "criterion": settings.criterion,
            "neurons": count,
            "hidden": settings.hidden,
            "max_class_drop": settings.max_class_drop,
            "iterations": trained.best.iteration,
        },
    )


def _scale(table: Table, boost: np.ndarray, goal: ResolvedGoal) -> np.ndarray:
    """The largest scale of the MLP's boost (N, C) that is allowed and better than the base, or 0; (c,) alike.

    Better means that overall accuracy on validation gains more than one standard error of the difference.
    """
    labels = table.labels
    before = goal.head.predict(table.Z)
    for scale in _SCALES:
        after = goal.head.predict(table.Z + scale * boost)
        if goal.classes_hold(before == labels, after == labels, labels, table.Z.shape[1]):
            fixed, broken = fixed_and_broken(before == labels, after == labels)
            return np.full(len(goal), scale if fixed - broken > np.sqrt(fixed + broken) else 0.0)
    return np.zeros(len(goal))


def _scales(table: Table, boost: np.ndarray, goal: ResolvedGoal) -> np.ndarray:
    """1 for each label whose F1 on validation gains more than a standard error by the MLP, else 0; (c,)."""
    shown = tuple(goal.head.predict(Z)[:, goal.targets] for Z in (table.Z, table.Z + boost))
    marks = table.labels[:, goal.targets]
    was, now = (f1_of(each, marks) for each in shown)
    drawn = drawn_f1(shown, marks, table.groups, many=_RESAMPLES)
    return (now - was > np.std(drawn[:, 1] - drawn[:, 0], axis=0)).astype(np.float64)


def _notes(
    job: Job, trained: Trained, labels: np.ndarray, neurons: int, wanted: int, helpless: tuple[str, ...]
) -> tuple[str, ...]:
    """How training went, and what could not be had. labels : of validation. neurons : of those `wanted`."""
    decisions = len(job.head.decisions(labels, labels).right)
    right = "decisions right" if job.head.several else "accuracy"
    base, best, last = trained.checkpoints[0], trained.best, trained.checkpoints[-1]
    notes = [
        f"trained for {last.iteration:,} iterations, best on validation after {best.iteration:,}: "
        f"cross-entropy {base.loss:.4f} -> {best.loss:.4f}, "
        f"{right} {base.right / decisions:.1%} -> {best.right / decisions:.1%}; all classes are targets"
    ]
    if absent := len(job.names) - len(job.splits.fit.classes):
        classes = "class" if absent == 1 else "classes"
        notes.append(f"{absent:,} {classes} without fit samples: logits unchanged")
    if neurons < wanted:
        notes.append(f"only {neurons:,} neurons can raise a class without breaking a sample; all are used")
    if helpless:
        notes.append(f"no neuron can raise {', '.join(helpless)} alone")
    return tuple(notes)
