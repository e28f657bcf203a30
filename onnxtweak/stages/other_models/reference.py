"""What does a reference decide on the samples of a job? Its decisions become the labels (METHOD 16)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from onnxtweak.data.splits import Splits, View
from onnxtweak.engine.answer.shown import ShownClasses
from onnxtweak.engine.machine.large_arrays import end_to_end
from onnxtweak.errors import DataError
from onnxtweak.method.chance import standing
from onnxtweak.other_answers import MatchOutcome
from onnxtweak.stages.likely_mistake import TRIED, predictions, spread
from onnxtweak.stages.open_job import Job, model_ref
from onnxtweak.stages.other_models.open_other import OtherModel, open_other
from onnxtweak.types import FileRef

_ROLE = "reference"


@dataclass(frozen=True, eq=False)
class Matching:
    """A job whose labels are the decisions of a reference. reference : its file.

    truth : the splits with the labels that the samples came with. shown : what the reference shows, by split.
    """

    job: Job
    truth: Splits
    reference: FileRef
    shown: Mapping[str, ShownClasses]

    @property
    def learnt(self) -> np.ndarray:
        """Logits (N, C) of the reference on fit and validation samples, one behind the other."""
        return end_to_end([self.shown[role].Z for role in ("fit", "validation")])

    def outcome(self, split: str, answers: Mapping[str, np.ndarray]) -> MatchOutcome:
        """What became of the decisions on a split. answers : classes (N,) of "base", "tweaked" and "bias"."""
        view, decided = _roles(self.job.splits)[split], self.shown[split].classes
        agreement = {name: float((classes == decided).mean()) for name, classes in answers.items()}
        dataset = _roles(self.truth)[split].dataset
        labels = dataset.labels[view.rows] if dataset.labelled else None
        right = None
        if labels is not None:
            each, known = {"reference": decided, **answers}, labels >= 0
            right = {name: float((classes == labels)[known].mean()) for name, classes in each.items()}
        return MatchOutcome(self.reference, agreement, right)


def match_samples(job: Job, path: str) -> Matching:
    """Run the reference over all samples of a job, and take its decisions for their labels.

    Samples for which it shows none of the classes are left out. Raises ModelError where it does not fit the
    job, DataError where the two agree no more than by chance.
    """
    other = open_other(job, path, _ROLE)
    shown = {role: other.shown(view, f"{_ROLE}: {role}") for role, view in _roles(job.splits).items()}
    kept: dict[str, np.ndarray]
    kept = {role: np.all(each.classes.reshape(len(each.Z), -1) >= 0, axis=1) for role, each in shown.items()}
    splits = _decided(job.splits, shown, kept)
    shown = {
        role: each if kept[role].all() else each.some(np.flatnonzero(kept[role]))
        for role, each in shown.items()
    }
    undecided = sum(int((~each).sum()) for each in kept.values())
    notes = [f"the labels are what the reference {path} decides; none are needed"]
    if undecided:
        notes.append(f"{undecided:,} samples are left out: the reference shows no class for them")
    matched = replace(job, splits=replace(splits, notes=(*splits.notes, *notes)))
    _require_likeness(matched, other)
    return Matching(matched, job.splits, model_ref(other.opened.model), shown)


def _roles(splits: Splits) -> dict[str, View]:
    found = {"fit": splits.fit, "validation": splits.validation}
    return found if splits.test is None else {**found, "test": splits.test}


def _decided(splits: Splits, shown: Mapping[str, ShownClasses], kept: Mapping[str, np.ndarray]) -> Splits:
    """The splits with the reference's decisions as labels."""
    labels = {id(view.dataset): view.dataset.labels.copy() for view in splits.views}
    views = {}
    for role, view in _roles(splits).items():
        labels[id(view.dataset)][view.rows[kept[role]]] = shown[role].classes[kept[role]]
    datasets = {
        id(view.dataset): replace(view.dataset, labels=labels[id(view.dataset)], labelled=True)
        for view in splits.views
    }
    for role, view in _roles(splits).items():
        views[role] = replace(view, dataset=datasets[id(view.dataset)], rows=view.rows[kept[role]])
    return replace(splits, fit=views["fit"], validation=views["validation"], test=views.get("test"))


def _require_likeness(job: Job, other: OtherModel) -> None:
    """Raise DataError where the model and the reference have little to do with each other."""
    view = spread(job.splits.fit, TRIED)
    # Marks are decisions between two, whichever label they are about.
    classes = 2 if job.head.several else job.subject.classes
    found = standing(predictions(job, view).reshape(-1), view.labels.reshape(-1), classes)
    if not found.guesses:
        return
    said = (
        f"the model decides as the reference does on {found.accuracy:.1%} of {len(view):,} "
        f"{job.subject.rows}, no more often than by chance"
    )
    if not job.origin.data.anyway:
        raise DataError(
            said,
            where=other.opened.model.path,
            hint="check that both are models of the same classes, in the same order, and that both take the "
            "samples as they are prepared here; or go on with --anyway",
        )
