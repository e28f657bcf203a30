"""What do the methods of a comparison get of a job? Tables of all neurons that any reads, and ranks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from onnxtweak.data.splits import FIT, View
from onnxtweak.errors import DataError, ModelError
from onnxtweak.goal import ResolvedGoal
from onnxtweak.method.compare.inputs import CompareInputs
from onnxtweak.method.selection.active_neurons import active_neurons
from onnxtweak.method.selection.candidates import Candidates
from onnxtweak.method.selection.numbering import drawn_at_random
from onnxtweak.method.selection.ranking import Ranking, candidates_wanted, empty_ranking, united
from onnxtweak.method.table import all_neurons, most_neurons, union
from onnxtweak.model.inspect.layer_inputs import penultimate_name
from onnxtweak.settings import FitSettings, JoinSettings, TapSettings
from onnxtweak.stages.choose_neurons import choose_neurons
from onnxtweak.stages.gather import gather_table, learning_samples
from onnxtweak.stages.objects.anchors import that_count
from onnxtweak.stages.open_job import Job
from onnxtweak.stages.rank import rank_neurons
from onnxtweak.stages.score import score_neurons
from onnxtweak.types import Neurons

# Theta of every class takes memory in proportion to their number: beyond this, AAN is left out.
_SCORED_CLASSES = 100
ACTIVE = 1000
_WIDEST_PENULTIMATE = 4096


def scored_classes(job: Job, targets: np.ndarray | None) -> tuple[np.ndarray | None, bool]:
    """Classes (c,) that neurons are scored for, None where not known yet; and whether these are all."""
    present = job.splits.fit.classes
    if len(present) > _SCORED_CLASSES:
        return targets, False
    return present if targets is None else np.union1d(present, targets), True


def views_of(job: Job) -> dict[str, View]:
    """The samples by their role. Raises DataError without test."""
    splits = job.splits
    if splits.test is None:
        raise DataError("`compare` needs test samples", hint="give them with --test, or leave out --val")
    at_anchors = job.subject.detector is not None and not job.head.several
    test = that_count(splits.test) if at_anchors else splits.test
    return {"fit": splits.fit, "validation": splits.validation, "test": test}


def gather_inputs(
    job: Job,
    taps: TapSettings,
    goal: ResolvedGoal,
    join: JoinSettings,
    settings: FitSettings,
    seed: int,
) -> tuple[CompareInputs, Neurons, tuple[str, ...]]:
    """All that the methods need of the model: one sweep scores the neurons, one reads the chosen ones.

    Also returns the neurons of the tables' columns, and notes.
    """
    targets = goal.targets
    watched = choose_neurons(job, taps, settings.neurons)
    active = min(ACTIVE, job.neurons)
    rankings, best, classes = _ranked(job, goal, join, active)
    helpless = [job.names[j] for j, r in zip(targets, rankings, strict=True) if not len(r.weight)]
    if job.taps and len(helpless) == len(targets):
        raise ModelError(
            "no hidden neuron can raise any target without breaking a sample that is right",
            hint="watch other tensors with --taps, or give more samples",
        )
    groups = {
        "watched": watched.neurons,
        "joined": united(rankings),
        "random": drawn_at_random(job.taps, max(join.count) * len(targets), seed),
    }
    last = penultimate_name(job.opened.model.graph, job.subject.logits)
    for tap in job.taps:
        whole = tap if job.subject.sizes else replace(tap, pool="none")
        if tap.name == last and whole.neurons <= _WIDEST_PENULTIMATE:
            groups["penultimate"] = all_neurons([whole])
    if best is not None:
        names = [job.names[j] for j in classes]
        groups["active"], _ = active_neurons(best, job.taps, names, "auto", active)
    neurons, columns = union(groups)
    views = views_of(job)
    if job.subject.sizes:  # of which there are many more to test than to learn from
        left = most_neurons(len(neurons), job.engine) - len(views["fit"]) - len(views["validation"])
        views["test"] = views["test"].spread_out(max(FIT, left))
    passes = {"fit": "collect", "validation": "validate", "test": "test"}
    tables = {role: gather_table(job, view, neurons, passes[role]) for role, view in views.items()}
    learnt = tables["fit"], tables["validation"]
    learning, notes = learning_samples(job, learnt, neurons, settings, picked=watched.picked)
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
        learning=learning,
        join=join,
        settings=settings,
        seed=seed,
        engine=job.engine,
    )
    if job.taps and helpless:
        notes += (f"no neuron can raise {', '.join(helpless)} alone: no synapses there",)
    return inputs, neurons, notes


def _ranked(
    job: Job, goal: ResolvedGoal, join: JoinSettings, active: int
) -> tuple[list[Ranking], Sequence[Candidates] | None, np.ndarray]:
    """The neurons of each target, best first; the best of all classes, None where not all were scored; which.

    active : how many neurons of each class are wanted.
    """
    classes, few = scored_classes(job, goal.targets)
    assert classes is not None  # the targets are known
    if not job.taps:
        return [empty_ranking((), join.criterion) for _ in goal.targets], None, classes
    best = score_neurons(job, classes, join.theta, max(candidates_wanted(join), active)).best
    of_targets = [best[k] for k in np.searchsorted(classes, goal.targets)]
    return rank_neurons(job, of_targets, goal, join, skip=True), best if few else None, classes
