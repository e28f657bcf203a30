"""How does `match` make a tweak? It patches a copy towards the decisions of a reference, without labels."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

from onnxtweak.errors import UsageError
from onnxtweak.goal import ResolvedGoal, every_class
from onnxtweak.method.fit.fit import Fitted
from onnxtweak.method.match import match_reference
from onnxtweak.method.table import Table
from onnxtweak.model.file.model_file import ModelSource
from onnxtweak.results import Result
from onnxtweak.settings import (
    DataSettings,
    EngineSettings,
    FitSettings,
    MatchSettings,
    OutputSettings,
    TapSettings,
)
from onnxtweak.stages.check_paths import check_paths
from onnxtweak.stages.choose_neurons import TableNeurons, choose_neurons
from onnxtweak.stages.deliver import check_outputs, deliver
from onnxtweak.stages.gather import gather_tables, learning_samples
from onnxtweak.stages.head_check import require_no_boxes
from onnxtweak.stages.open_for_tables import open_for_tables
from onnxtweak.stages.other_models.reference import Matching, match_samples
from onnxtweak.stages.plan_passes import PassRequest
from onnxtweak.stages.preprocessing_check import require_sound_base
from onnxtweak.stages.proposal import Proposal, for_tensor
from onnxtweak.types import Progress, silent

# `match` learns as `fit` does, without mirrored copies.
_LEARNT = FitSettings(mirror="off")


def match(
    *,
    model: ModelSource,
    data: DataSettings,
    engine: EngineSettings = EngineSettings(),
    taps: TapSettings = TapSettings(taps=()),
    settings: MatchSettings = MatchSettings(),
    output: OutputSettings = OutputSettings(),
    progress: Progress = silent,
) -> Result:
    """The patch under which a copy decides most often as its reference does (METHOD 16).

    A quantised, pruned, converted or drifted model is the copy; samples need no labels, and where they have
    some, accuracies are told too. taps : as of `fit`.
    Raises InputError for what cannot be used, VerificationError when a check fails; nothing is written then.
    """
    if not settings.reference:
        hint = "name the model that decides right with --reference MODEL"
        raise UsageError("no reference", where="--reference", hint=hint)
    check_paths(output, model, data, engine, others=[settings.reference])
    data = replace(data, unlabelled=True)
    job = open_for_tables(model, data, engine, taps, progress)
    check_outputs(job, output)
    require_no_boxes(job.subject, "matching to a reference")
    matching = match_samples(require_sound_base(job), settings.reference)
    job = matching.job
    goal = ResolvedGoal(
        every_class(job.splits.fit.labels, job.splits.validation.labels),
        job.head,
        max_class_drop=settings.max_class_drop,
        reference=Path(settings.reference).name,
    )
    watched = choose_neurons(job, taps, settings.neurons)
    tables = gather_tables(job, watched.neurons)
    learning, notes = learning_samples(
        job, tables, watched.neurons, _LEARNT, picked=watched.picked, decided=True
    )
    with job.timed("match"):
        found = match_reference(
            learning,
            matching.learnt[: len(learning.table.labels)],
            watched.families,
            goal,
            replace(_LEARNT, margin=settings.margin),
            seed=data.seed,
            progress=progress,
        )
    found = replace(found, notes=(*notes, *found.notes))
    return deliver(job, _proposal(matching, goal, settings, watched, tables[1], found), output)


def passes(request: PassRequest) -> None:
    """The passes over samples that a match would make; the reference's count as the model's own."""
    planner, splits = request.planner, request.job.splits
    for role, view in (("fit", splits.fit), ("validation", splits.validation), ("test", splits.test)):
        if view is not None:
            planner.logits(f"reference: {role}", view)
    neurons = request.settings(MatchSettings).neurons
    planner.gather_tables(request.table_neurons(replace(_LEARNT, neurons=neurons)))
    planner.delivery()


def _proposal(
    matching: Matching,
    goal: ResolvedGoal,
    settings: MatchSettings,
    watched: TableNeurons,
    validation: Table,
    found: Fitted,
) -> Proposal:
    """What was found: a patch, a bias, or the copy as it is."""
    columns, patch = found.patch
    patch = None if patch is None else for_tensor(patch, matching.job.subject.readout)
    return replace(
        Proposal.of_fit(goal, watched, validation, (columns, patch), found.control, found.choice.trials),
        command="match",
        criterion="held-out agreement",
        # The reference counts by its contents: a path would make other bytes of the same file.
        settings={**asdict(settings), "reference": matching.reference.sha256},
        notes=found.notes,
        matching=matching,
    )
