"""How is a second model run on the samples of a job? Its inputs take the same, by name or by place."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from onnxtweak.data.open_data import fed_to
from onnxtweak.data.splits import View
from onnxtweak.engine.answer.answered import answered
from onnxtweak.engine.answer.shown import ShownClasses, shown_pass
from onnxtweak.engine.opened import Opened, open_model, starting
from onnxtweak.engine.subject import Subject, few_samples, measured
from onnxtweak.errors import DataError, ModelError
from onnxtweak.settings import TapSettings
from onnxtweak.stages.companions import TRIED, settle
from onnxtweak.stages.open_job import Job
from onnxtweak.stages.preprocess_record import recorded_preprocess


@dataclass(frozen=True, eq=False)
class OtherModel:
    """A second model beside a job. names : of the job's inputs, by input of the model that takes the same."""

    job: Job
    opened: Opened
    subject: Subject
    names: dict[str, str]

    def shown(self, view: View, what: str) -> ShownClasses:
        """Its scores and decisions on a view of the job's samples. what : the pass's name in progress."""
        return shown_pass(
            self.subject, _as_taken(self.job, self.opened, self.names, view), self.job.engine, what
        )


def open_other(job: Job, path: str, role: str) -> OtherModel:
    """Open a model for the samples of a job. role : what messages call it, such as "reference".

    Samples are prepared as the model's own record says, else as for the job. Raises ModelError where it has
    other classes, or takes other samples.
    """
    settings = job.engine.settings
    opened = open_model(path, TapSettings())
    known = {port.name for port in opened.declared_inputs}
    opened = opened.given({k: v for k, v in job.opened.constants.items() if k in known})
    names = _matched_inputs(job, opened, role)
    view = _as_taken(job, opened, names, job.splits.fit)
    with starting(opened, f"start the {role}", job.engine.progress):
        threshold = job.answer_record.get("threshold")
        opened = answered(opened, view, settings, threshold, several=job.head.several)
        subject, _ = measured(opened, (), few_samples(opened, view, 3), settings)
        subject = settle(subject, few_samples(opened, view, TRIED), settings).subject
    subject = _with_named_classes(job, subject)
    _require_same_classes(job, subject, opened, role)
    return OtherModel(job, opened, subject, names)


def _with_named_classes(job: Job, subject: Subject) -> Subject:
    """The subject with the job's classes and one for all others, where labels name few of its many."""
    readout = job.subject.readout
    if readout is None or not readout.rest or subject.classes != readout.columns or subject.answer is None:
        return subject
    answer = replace(subject.answer, labels=readout.source, rest=True)
    return replace(subject, shape=job.subject.shape, readout=readout, answer=answer)


def _matched_inputs(job: Job, opened: Opened, role: str) -> dict[str, str]:
    """The job's input for each of the model's: of the same name, or else in the same place."""
    own, others = job.splits.fit.dataset.inputs, [spec.name for spec in opened.specs]
    if set(own) == set(others):
        return {name: name for name in others}
    if len(own) != len(others):
        raise ModelError(
            f"the {role} has {len(others)} inputs ({', '.join(others)}), but the samples feed "
            f"{len(own)} ({', '.join(own)})",
            where=opened.model.path,
            hint="give a model with the same inputs, or values for those that are the same for all samples: "
            "--input NAME=VALUE",
        )
    return dict(zip(others, own, strict=True))


def _as_taken(job: Job, opened: Opened, names: dict[str, str], view: View) -> View:
    """The same samples as the model's inputs. Raises ModelError where they do not fit."""
    recorded = recorded_preprocess(opened.model)
    preprocess = job.origin.data.preprocess if recorded is None else recorded
    try:
        return replace(view, dataset=fed_to(view.dataset, opened.specs, names, preprocess))
    except DataError as error:
        raise ModelError(
            f"the samples do not fit this model's inputs: {error.what}",
            where=opened.model.path,
            hint="give a model that takes the same samples as the one that is patched",
        ) from error


def _require_same_classes(job: Job, subject: Subject, opened: Opened, role: str) -> None:
    """Raise ModelError for another number of classes, or other names of them."""
    own = job.opened.answer.labels if job.opened.answer is not None else None
    others = opened.answer.labels if opened.answer is not None else None
    if subject.classes != job.subject.classes:
        what = f"the {role} has {subject.classes:,} classes, but the model has {job.subject.classes:,}"
    elif own is not None and others is not None and not np.array_equal(own, others):
        what = f"the {role} calls its classes differently than the model"
    else:
        return
    raise ModelError(
        what, where=opened.model.path, hint="give a model of the same classes, in the same order"
    )
