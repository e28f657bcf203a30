"""How every tweak ends: spliced in, proven, measured on test, written; the same for every method."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from onnxtweak._version import __version__
from onnxtweak.data.splits import View
from onnxtweak.engine.passes import logits_pass
from onnxtweak.engine.subject import Subject, few_samples
from onnxtweak.goal import Goal
from onnxtweak.method.metrics import fixed_and_broken, harm, mcnemar, measure
from onnxtweak.method.tuning.bias_control import bias_predictions
from onnxtweak.model.edit.splice import splice
from onnxtweak.model.edit.tweak_file import save
from onnxtweak.model.file.output_file import check_model_output, check_output, write_model
from onnxtweak.patch import Patch, Tweak
from onnxtweak.results import Choice, Measurement, Result
from onnxtweak.settings import EngineSettings, OutputSettings
from onnxtweak.stages import report_data
from onnxtweak.stages.checks import (
    as_subject,
    check_checker,
    check_neutral,
    check_reload,
    check_simulation,
    check_unharmed,
    require,
)
from onnxtweak.stages.open_job import Job, run_facts
from onnxtweak.stages.report_page import write_page
from onnxtweak.types import Check, FileRef, Neurons, Trial

# Samples of the neutral check: enough to meet every kernel path, few enough to cost nothing.
_NEUTRAL_SAMPLES = 256


@dataclass(frozen=True)
class Proposal:
    """What a method made, and what its tables foretell.

    goal : what it was made for. neurons, patch : the tweak. base (N, C), tweaked (N, C) : validation logits
    without and with it, from tables. bias (c,) : the control. settings : for the provenance. grid : all that
    was tried. theta_counts : a histogram per target. The rest as in `Choice`.
    """

    command: str
    goal: Goal
    neurons: Neurons
    patch: Patch
    base: np.ndarray
    tweaked: np.ndarray
    bias: np.ndarray
    settings: dict[str, Any]
    n: tuple[int, ...]
    scale: tuple[float, ...]
    theta: str
    criterion: str
    scored: int
    curve: tuple[Trial, ...]
    notes: tuple[str, ...]
    grid: tuple[Trial, ...] = ()
    theta_counts: tuple[dict[str, Any], ...] = ()


def check_outputs(job: Job, output: OutputSettings) -> None:
    """Raise OutputError before the work begins, when its result could not be written."""
    if output.output is not None:
        check_model_output(job.opened.model, output.output, force=output.force)
    if output.tweak is not None:
        check_output(output.tweak, force=output.force, protect=job.opened.model.files)
    if output.report is not None:
        check_output(output.report, force=output.force, protect=job.opened.model.files)


def deliver(job: Job, made: Proposal, output: OutputSettings, begin: float) -> Result:
    """Write the patch into the base if it changes anything, and report. begin : `perf_counter` at the start.

    Raises VerificationError, and writes nothing, when a proof fails.
    """
    tweak = make_tweak(job, made, output.recipe)
    changes = made.patch.changes_logits
    if changes:
        data = splice_in(job.subject, tweak)
        checks = _proofs(job, made, tweak, data)
        require(checks)
    else:
        data = job.opened.model.data
        checks = (Check("unharmed", True, "nothing tried did better: the output is a copy of the base"),)
    tweaked = as_subject(job.subject, data)
    judged = _judge(job, made, tweaked)
    pictured = _evidence(job, made, tweak, tweaked, judged, output)
    written = None
    if output.output is not None:
        feeds = few_samples(job.opened, job.splits.fit, 3)
        checks += (write_proven(tweaked, output, feeds, job.engine.settings),)
        written = FileRef(output.output, tweaked.model.sha256)
    if output.tweak is not None:
        save(tweak, output.tweak, output.force)
    result = Result(
        command=made.command,
        model=job.model,
        output=written,
        tweak=summary(tweak),
        choice=Choice(
            targets=tuple(job.names[j] for j in made.goal.targets),
            n=made.n,
            scale=made.scale,
            theta=made.theta,
            criterion=made.criterion,
            neurons=made.scored,
            curve=made.curve,
        ),
        samples=_sizes(job),
        measured=judged.measured,
        run=run_facts(job.engine, begin),
        checks=checks,
        classes=job.names,
        notes=made.notes + (() if changes else ("no tweak: the base was best on validation",)),
        evidence=pictured,
    )
    if output.report is not None:
        write_page(result, output.report, force=output.force)
    return result


def make_tweak(job: Job, made: Proposal, recipe: str | None = None) -> Tweak:
    """The patch tied to its base, with what it was made from; nothing in it changes from run to run.

    recipe : sha256 of the recipe that asked for it.
    """
    feeds = {spec.name: [spec.dtype, list(spec.shape or ())] for spec in job.opened.specs}
    return Tweak(
        kind=made.command,
        base_sha256=job.opened.model.base_sha256,
        logits=job.subject.logits,
        classes=job.subject.classes,
        neurons=made.neurons,
        patch=made.patch,
        provenance={
            "onnxtweak": __version__,
            "data_sha256": job.splits.digest,
            "samples": _sizes(job),
            "targets": [job.names[j] for j in made.goal.targets],
            "inputs": feeds,
            "logits_dtype": job.subject.dtype,
            "logits_layout": job.subject.layout,
            **({} if recipe is None else {"recipe_sha256": recipe}),
            **made.settings,
        },
    )


def splice_in(subject: Subject, tweak: Tweak, scale: float = 1.0, shadow: bool = False) -> bytes:
    """The tweaked model's bytes."""
    return splice(subject.model, tweak, subject.logits_format, scale=scale, shadow=shadow)


def summary(tweak: Tweak) -> dict[str, Any]:
    """A tweak for JSON: kind, number of parameters, and its synapses (None where the patch is dense)."""
    patch, neurons = tweak.patch, tweak.neurons
    synapses, listed = None, patch.listed
    if listed is not None:
        places = zip(neurons.tap_of, neurons.index, listed, strict=True)
        synapses = [{"tap": neurons.taps[t].name, "index": int(index), **one} for t, index, one in places]
    return {
        "kind": tweak.kind,
        "parameters": patch.parameters,
        "synapses": synapses,
    }


def write_proven(
    tweaked: Subject, output: OutputSettings, feeds: dict[str, np.ndarray], engine: EngineSettings
) -> Check:
    """Write the model; taken away again when it does not load from there."""
    path = Path(output.path)
    created = write_model(tweaked.model, path, [tweaked.model.data], force=output.force)
    try:
        check = check_reload(path, tweaked.model.sha256, tweaked, feeds, engine)
        require((check,))
    except BaseException:
        for file in created:
            file.unlink(missing_ok=True)
        raise
    return check


def _proofs(job: Job, made: Proposal, tweak: Tweak, data: bytes) -> tuple[Check, ...]:
    feeds = few_samples(job.opened, job.splits.validation, _NEUTRAL_SAMPLES)
    validation = job.splits.validation
    measured = logits_pass(as_subject(job.subject, data), validation, job.engine, "simulate")
    return (
        check_neutral(job.subject, tweak, feeds, job.engine.settings),
        check_simulation(job.head, made.tweaked, measured, validation.labels, job.subject.dtype),
        check_checker(job.opened.model, data),
        check_unharmed(job.opened.model, data),
    )


@dataclass(frozen=True)
class _Judged:
    """What was measured, and on which samples. predicted : (N,) each, of base and tweaked file."""

    measured: Measurement
    view: View
    predicted: tuple[np.ndarray, np.ndarray]


def _judge(job: Job, made: Proposal, tweaked: Subject) -> _Judged:
    """On test if there is one: its samples are met here for the first and only time."""
    view, split = job.splits.test, "test"
    if view is None:
        view, split = job.splits.validation, "validation"
        Z, patched = made.base, logits_pass(tweaked, view, job.engine, "validation: tweaked")
    else:
        Z = logits_pass(job.subject, view, job.engine, "test: base")
        patched = logits_pass(tweaked, view, job.engine, "test: tweaked")
    labels, goal = view.labels, made.goal
    predicted = goal.head.predict(Z), goal.head.predict(patched)
    biased = bias_predictions(Z, labels, goal, made.bias)
    before, after, control = (
        measure(answer, labels, goal, job.subject.classes) for answer in (*predicted, biased)
    )
    fixed, broken = fixed_and_broken(*predicted, labels)
    p, E = mcnemar(fixed, broken), harm(before, after)
    return _Judged(Measurement(split, before, after, control, fixed, broken, p, E), view, predicted)


def _evidence(
    job: Job, made: Proposal, tweak: Tweak, tweaked: Subject, judged: _Judged, output: OutputSettings
) -> dict[str, Any]:
    """What the pictures need; what takes time only where somebody will look."""
    labels, predicted = judged.view.labels, judged.predicted
    found = report_data.of_predictions((judged.measured.before, judged.measured.after), predicted, labels)
    truth = job.splits.validation.labels
    found |= report_data.of_choice(made.base, made.tweaked, truth, made.goal, made.bias)
    found |= {"trials": report_data.of_trials(made.grid), "theta": made.theta_counts}
    found |= report_data.of_tweak(tweak, job.subject, tweaked)
    if output.evidence or output.report is not None:
        found |= report_data.of_runs(job, tweaked, judged.view, predicted, made.goal)
    return found


def _sizes(job: Job) -> dict[str, int]:
    views: dict[str, View | None] = {
        "fit": job.splits.fit,
        "validation": job.splits.validation,
        "test": job.splits.test,
    }
    return {name: 0 if view is None else len(view) for name, view in views.items()}
