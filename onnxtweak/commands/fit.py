"""How does `fit` make a tweak? It fits a patch to tables, for all classes, and spends the surplus."""

from __future__ import annotations

from dataclasses import asdict, replace

import numpy as np

from onnxtweak.engine.answer.shown import equivalent_cut
from onnxtweak.errors import UsageError
from onnxtweak.goal import ResolvedGoal
from onnxtweak.method.fit.by_goal import fit_goal
from onnxtweak.method.fit.fit import Fitted
from onnxtweak.method.listed.problem import Earlier, Repaired
from onnxtweak.method.table import Table, take
from onnxtweak.method.tuning.certificate import certify
from onnxtweak.metric.rate import RecallAt
from onnxtweak.model.file.model_file import ModelSource
from onnxtweak.patch import DensePatch, no_patch
from onnxtweak.results import Result
from onnxtweak.settings import (
    DataSettings,
    EngineSettings,
    FitSettings,
    OutputSettings,
    TapSettings,
    TargetSettings,
)
from onnxtweak.stages.check_paths import check_paths
from onnxtweak.stages.choose_goal import (
    check_metric,
    check_slice,
    choose_goal,
    choose_metric,
    choose_slice,
    with_slice_read,
)
from onnxtweak.stages.choose_neurons import TableNeurons, choose_neurons
from onnxtweak.stages.deliver import check_outputs, deliver
from onnxtweak.stages.gather import gather_tables, learning_samples, learnt_kept, mirrored_views
from onnxtweak.stages.head_check import require_of_labels
from onnxtweak.stages.lists.base_decisions import base_decisions
from onnxtweak.stages.lists.count_outcome import Listing
from onnxtweak.stages.lists.imitate import imitated_samples, input_tap, with_inputs
from onnxtweak.stages.lists.keep_decisions import LearntFrom, keep_decisions
from onnxtweak.stages.lists.make_right import make_right
from onnxtweak.stages.objects.propose import propose_boxes
from onnxtweak.stages.open_for_tables import open_for_tables
from onnxtweak.stages.open_job import Job
from onnxtweak.stages.plan_passes import PassRequest
from onnxtweak.stages.preprocessing_check import require_sound_base
from onnxtweak.stages.proposal import Proposal, for_tensor
from onnxtweak.types import Progress, silent

# Biases that a note lists.
_NAMED = 10
_ALL_RIGHT = "every must-sample is right already: nothing has to change"
_CUT_BEFORE = (
    "must-samples were made right after the cut of the metric was set, and may take its rate beyond the"
    " limit: what makes them right moves samples like them too"
)


def fit(
    *,
    model: ModelSource,
    data: DataSettings,
    engine: EngineSettings = EngineSettings(),
    taps: TapSettings = TapSettings(taps=()),
    targets: TargetSettings = TargetSettings(),
    settings: FitSettings = FitSettings(),
    output: OutputSettings = OutputSettings(),
    progress: Progress = silent,
) -> Result:
    """The best patch that the tables allow for the target classes (METHOD 7); without any, for all classes.

    With a slice among the settings, for a group of samples instead (METHOD 7.5); with a metric, for that.

    taps : without selectors all activations, maps as channel means, and the penultimate tensor are watched.
    A model without a hidden tensor gets biases alone. Listed samples are made right on top of that; without
    targets, nothing else is learnt (METHOD 14).
    Raises InputError for what cannot be used, VerificationError when a check fails; nothing is written then.
    """
    check_paths(output, model, data, engine, settings.metric)
    _require_compatible(data, targets, settings)
    data = with_slice_read(data, settings, targets)
    job = open_for_tables(model, data, engine, taps, progress)
    check_outputs(job, output)
    require_of_labels(job.subject, settings)
    job = require_sound_base(job)
    if job.subject.detector is not None:
        return deliver(job, propose_boxes(job, taps, targets, settings, progress), output)
    decided = base_decisions(job)
    goal = choose_metric(job, choose_goal(job, targets, settings, all_unless_named=True), settings)
    watched = with_inputs(job, choose_neurons(job, taps, settings.neurons))
    tables = gather_tables(job, watched.neurons)
    repairs = bool(data.must or data.lock)
    if repairs and not _betters(targets, settings):
        goal = replace(goal, targets=goal.targets[:0])
        proposal = _nothing_yet(goal, settings, watched, tables[1])
        earlier = Earlier.of(watched.neurons.index[:0], None, job.subject.classes)
    else:
        learning, notes = learning_samples(job, tables, watched.neurons, settings, picked=watched.picked)
        goal, learning, said = choose_slice(job, goal, settings, learning)
        everyone = targets == TargetSettings()
        kept = LearntFrom(job, decided, learning, goal)
        kept = keep_decisions(kept, tables, watched.neurons, every_class_wanted=everyone)
        job, decided = kept.job, kept.decided
        with job.timed("fit"):
            found = fit_goal(
                kept.learning, watched.families, kept.goal, settings, seed=data.seed, progress=progress
            )
        proposal = _proposal(job, goal, settings, watched, tables[1], found, (*kept.notes, *said, *notes))
        earlier = Earlier.of(*found.patch, job.subject.classes)
    if decided is not None:
        repaired = None
        if repairs:
            repaired = make_right(job, watched, decided, tables[0] if job.has_data else None, earlier)
            proposal = _on_top(proposal, watched, tables[1], repaired)
        proposal = replace(proposal, listing=Listing(decided, repaired))
    return deliver(job, proposal, output)


def passes(request: PassRequest) -> None:
    """The passes over samples that a fit would make."""
    planner, listed, settings = request.planner, request.job.splits.listed, request.settings(FitSettings)
    check_metric(settings, TargetSettings())
    require_of_labels(request.job.subject, settings)
    check_slice(request.job, settings)
    for role, view in listed.items():
        planner.logits(f"base: {role}", view)
    neurons = request.table_neurons(settings)
    neurons += sum(tap.neurons for tap in input_tap(request.job, neurons))
    planner.gather_tables(neurons)
    learns = settings.slice is not None or settings.metric is not None
    repairs = "must" in listed or "lock" in listed
    if neurons and not (repairs and request.every_class and not learns):
        planner.gather_mirrored(mirrored_views(request.job, settings), neurons)
    for role, view in listed.items():
        learnt = learnt_kept(request.job) if role == "keep" and not repairs else len(view)
        planner.gather(role, view.spread_out(learnt), neurons)
        planner.logits(f"tweaked: {role}", view)
    if "must" in listed and "lock" in listed:
        imitated = imitated_samples(listed["must"], listed["lock"])
        if imitated is not None and neurons:
            planner.gather("imitations", imitated, neurons)
    planner.delivery()


def _proposal(
    job: Job,
    goal: ResolvedGoal,
    settings: FitSettings,
    watched: TableNeurons,
    validation: Table,
    found: Fitted,
    notes: tuple[str, ...],
) -> Proposal:
    """The patch that was found, certified where that is asked for; or the base."""
    columns, patch = found.patch
    patch = None if patch is None else for_tensor(patch, job.subject.readout)
    if settings.certify is not None and patch is not None:
        patch, note = _certified(job, validation, columns, patch, settings.certify)
        notes += (note,)
    return replace(
        Proposal.of_fit(goal, watched, validation, (columns, patch), found.control, found.choice.trials),
        settings=asdict(settings),
        notes=(*notes, *found.notes, *_bias_notes(job, found), *_cut_note(job, goal, found, validation)),
    )


def _require_compatible(data: DataSettings, targets: TargetSettings, settings: FitSettings) -> None:
    """Raise UsageError for options that make no sense together."""
    if not (data.must or data.lock):
        return
    limits = {"--budget": settings.budget, "--synapses": settings.synapses, "--certify": settings.certify}
    given = [name for name, value in limits.items() if value is not None]
    if given:
        hint = "leave one of them out: what listed samples need is not known beforehand"
        raise UsageError("not possible together with --must and --lock", where=given[0], hint=hint)
    better = _betters(targets, settings)
    if not data.must and not better:
        what = "nothing has to become better: --lock only says what may not get worse"
        raise UsageError(what, hint="list samples with --must, or name classes with --target")
    if not data.data and better:
        which, where = ("classes", "--target") if settings.slice is None else ("a group", "--slice")
        which, where = (which, where) if settings.metric is None else ("a metric", "--metric")
        hint = "give labelled samples with -d DATA"
        raise UsageError(f"{which} cannot be improved on listed samples alone", where=where, hint=hint)


def _betters(targets: TargetSettings, settings: FitSettings) -> bool:
    """Whether something should become better beside listed samples."""
    return targets != TargetSettings() or settings.slice is not None or settings.metric is not None


def _nothing_yet(
    goal: ResolvedGoal, settings: FitSettings, watched: TableNeurons, validation: Table
) -> Proposal:
    """The base, where only listed samples are learnt."""
    nothing, bias = (np.empty(0, np.int64), None), np.zeros(validation.Z.shape[1])
    proposal = Proposal.of_fit(goal, watched, validation, nothing, bias, ())
    return replace(proposal, criterion="listed samples", settings=asdict(settings))


def _on_top(proposal: Proposal, watched: TableNeurons, validation: Table, repaired: Repaired) -> Proposal:
    """The proposal with what listed samples need added to it."""
    used, patch = repaired.patch.on_used_neurons()
    notes = repaired.notes if repaired.changes else (_ALL_RIGHT,)
    if repaired.changes and isinstance(proposal.goal.metric, RecallAt):
        notes = (*notes, _CUT_BEFORE)
    return replace(
        proposal,
        neurons=take(watched.neurons, used),
        patch=patch if repaired.changes else no_patch(),
        tweaked=validation.patched(used, patch),
        bias=proposal.bias if len(proposal.goal) else repaired.control.bias,
        point=proposal.point,
        notes=(*proposal.notes, *notes),
    )


def _certified(
    job: Job, validation: Table, columns: np.ndarray, patch: DensePatch, level: float
) -> tuple[DensePatch | None, str]:
    """The patch at the largest scale that keeps the expected harm below the level, None for 0; and a note."""
    tweaked, groups, labels = validation.patched(columns, patch), validation.groups, validation.labels
    found = certify(validation.Z, tweaked, labels, level, job.head, groups)
    of = "samples" if job.origin.data.group is None else "groups of samples"
    unit, decided = job.subject.unit, len(job.head.decisions(labels, labels).of)
    if found.scale == 0:
        return None, f"{found.samples:,} validation {of} cannot certify {level:.2%}: the base is kept"
    return patch.scaled(found.scale), (
        f"certified: at scale {found.scale:.3g} at most {level:.2%} of {unit} like these are expected to"
        f" become wrong that the base has right (conformal risk control on {found.samples:,} validation"
        f" {of} that nothing was fitted to, {found.broken:,} of {decided:,} {unit} broken)"
    )


def _cut_note(job: Job, goal: ResolvedGoal, found: Fitted, validation: Table) -> tuple[str, ...]:
    """Where the base alone would have to be cut for its best at the metric, where that is known to move."""
    binary = len(found.control) == 2 and not job.subject.sizes and not job.head.several
    if goal.metric is None or not binary or not found.control.any() or not job.has_data:
        return ()
    cut = equivalent_cut(job.subject, job.splits.validation, validation.Z, found.control, job.engine.settings)
    if cut is None:
        return ()
    alike = "the new file decides as" if found.kind == "bias" else "the best biases alone decide as"
    return (
        f"threshold: {alike} the base would if {cut.what} had to exceed {cut.instead:.5g} for class "
        f"{job.names[1]}, instead of {cut.now:.5g}",
    )


def _bias_notes(job: Job, found: Fitted) -> tuple[str, ...]:
    raised = np.flatnonzero(found.bias)
    if not len(raised):
        return ()
    biases = ", ".join(f"{job.names[j]} {found.bias[j]:+.3g}" for j in raised[:_NAMED])
    biases += f" and {len(raised) - _NAMED:,} more" if len(raised) > _NAMED else ""
    if job.head.several:
        return (f"biases that set thresholds: {biases}",)
    return (f"biases that spend the surplus: {biases}" if found.kind == "fit" else f"biases: {biases}",)
