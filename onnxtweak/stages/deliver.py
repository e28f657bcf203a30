"""How is a tweak delivered? Spliced in, checked, measured on test and written, alike for every method."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from onnxtweak._version import __version__
from onnxtweak.data.splits import View
from onnxtweak.engine.answer.shown import ShownClasses, shown_pass
from onnxtweak.engine.machine.large_arrays import by_rows, sums_by_rows
from onnxtweak.engine.shared.logits import logits_pass
from onnxtweak.engine.subject import Subject, few_samples, smallest_samples
from onnxtweak.engine.tap_safety import neutral_samples
from onnxtweak.method.metrics import fixed_and_broken, harm, mcnemar, measure, metric_change
from onnxtweak.metric.kinds import Predictions
from onnxtweak.model.edit.tweak_file import tweak_bytes
from onnxtweak.model.file.output_file import Delivery, also_written
from onnxtweak.model.file.output_paths import (
    check_distinct,
    check_model_output,
    check_output,
    external_copies,
)
from onnxtweak.patch import Tweak
from onnxtweak.quantities import number_of
from onnxtweak.results import Choice, Measurement, Result
from onnxtweak.settings import EngineSettings, OutputSettings
from onnxtweak.stages import report_data
from onnxtweak.stages.checks import (
    MANY,
    as_subject,
    check_answer,
    check_checker,
    check_neutral,
    check_reload,
    check_unharmed,
    require,
)
from onnxtweak.stages.judge_promises import (
    Shown,
    answer_of,
    changes_by,
    depend_on_groups,
    judge_promises,
    learnt_on,
    promises_of,
)
from onnxtweak.stages.lines.read_lines import ShownBeside, changes_of_lines, said_of_lines
from onnxtweak.stages.lists.count_outcome import count_outcome
from onnxtweak.stages.objects.anchors import measured_names
from onnxtweak.stages.objects.outcome import boxes_outcome
from onnxtweak.stages.on_samples.accuracy_check import recorded_result
from onnxtweak.stages.on_samples.simulation_check import check_simulation
from onnxtweak.stages.open_job import Job
from onnxtweak.stages.other_models.quantising import notes_on_quantising
from onnxtweak.stages.preprocess_record import inputs_of, provenance_of
from onnxtweak.stages.proposal import Outcome, Proposal, splice_in
from onnxtweak.stages.report_page import page_of
from onnxtweak.types import Check, FileRef


def check_outputs(job: Job, output: OutputSettings, *, model: bool = True) -> None:
    """Raise OutputError, before the work begins, where its result could not be written.

    model : whether `output.output` will be one.
    """
    base, read = job.opened.model, job.files_read
    beside = [path for path in (output.tweak, output.report) if path is not None]
    if output.output is not None and not model:
        beside = [output.output, *beside]
    elif output.output is not None:
        check_model_output(base, output.output, force=output.force, protect=read)
        copies = [copy for _, copy in external_copies(base, Path(output.output))]
        check_distinct([output.output, *copies, *beside])
    for path in beside:
        check_output(path, force=output.force, protect=[*base.files, *read])


def deliver(job: Job, proposal: Proposal, output: OutputSettings) -> Result:
    """Write the patch into the base if it changes anything, and report; all files appear together.

    Raises VerificationError, and writes nothing, when a check fails.
    """
    tweak = make_tweak(job, proposal, output.recipe)
    tweaked, checks = _splice_and_check(job, proposal, tweak)
    outcome = _measure_outcome(job, proposal, tweaked)
    evidence = _evidence(job, proposal, tweak, tweaked, outcome, output)
    about_file: tuple[str, ...]
    about_file = () if proposal.patch.changes_logits else ("no tweak: the base was best on validation",)
    with Delivery(force=output.force, protect=job.files_read) as delivery:
        checks += (outcome.check,)
        if output.output is not None:
            feeds = smallest_samples(job.opened, job.splits.fit, MANY)
            checks += (write_checked(delivery, job.subject, tweaked, output, feeds, job.engine.settings),)
            about_file += _on_quantising(job, proposal, tweaked)
        if output.tweak is not None:
            delivery.add(output.tweak, [tweak_bytes(tweak)])
        result = Result(
            command=proposal.command,
            model=job.model,
            output=None if output.output is None else FileRef(output.output, tweaked.model.sha256),
            tweak=summary(tweak),
            choice=_choice(job, proposal),
            samples=job.samples,
            measured=outcome.measured,
            run=job.run,
            checks=checks,
            classes=measured_names(job),
            notes=(*job.splits.notes, *proposal.notes, *about_file, *outcome.notes, *_on_workers(job)),
            evidence=evidence,
            listed=outcome.listed,
            metric=outcome.metric,
            made=tweak,
            matched=outcome.matched,
        )
        if output.report is not None:
            delivery.add(output.report, [page_of(result.command, result, output.report)])
        delivery.commit()
    return result


def _on_workers(job: Job) -> tuple[str, ...]:
    """A note where starting workers on this machine took longer than what they did."""
    crew = job.engine.crew
    if crew is None or not job.engine.settings.workers or crew.working >= crew.starting:
        return ()
    return (
        f"starting the workers took {crew.starting:.1f} s, the passes that they shared {crew.working:.1f} s:"
        " a job of this size is done sooner without --workers",
    )


def _on_quantising(job: Job, proposal: Proposal, tweaked: Subject) -> tuple[str, ...]:
    if not proposal.patch.changes_logits:
        return ()
    feeds = smallest_samples(job.opened, job.splits.validation, neutral_samples(job.subject))
    return notes_on_quantising(job.subject, tweaked, feeds, job.engine.settings)


def _choice(job: Job, proposal: Proposal) -> Choice:
    return Choice(
        targets=tuple(job.names[j] for j in proposal.goal.targets),
        n=tuple(proposal.point.n.tolist()),
        scale=tuple(proposal.point.scale.tolist()),
        theta=proposal.theta,
        criterion=proposal.criterion,
        neurons=proposal.scored,
        curve=proposal.point.trials,
    )


def make_tweak(job: Job, proposal: Proposal, recipe: str | None = None) -> Tweak:
    """The patch tied to its base, with its provenance; the same in every run.

    recipe : sha256 of the recipe's tweak that it was made for.
    """
    return Tweak(
        kind=proposal.command,
        base_sha256=job.opened.model.base_sha256,
        logits=job.subject.logits,
        classes=job.subject.classes,
        neurons=proposal.neurons,
        patch=proposal.patch.as_written(job.subject.dtype),
        provenance={
            "onnxtweak": __version__,
            "data_sha256": job.splits.digest,
            "samples": job.samples,
            "targets": [job.names[j] for j in proposal.goal.targets],
            "inputs": inputs_of(job.opened, few_samples(job.opened, job.splits.fit, 1)),
            **({"constants": dict(job.opened.constants)} if job.opened.constants else {}),
            "logits_dtype": job.subject.dtype,
            "logits_layout": job.subject.layout,
            **job.answer_record,
            "validation": recorded_result(
                job.splits.validation, proposal.base, proposal.tweaked, proposal.goal
            ),
            **provenance_of(job.origin.data.preprocess),
            **({} if recipe is None else {"recipe_sha256": recipe}),
            **proposal.settings,
            "seed": job.seed,
        },
    )


def summary(tweak: Tweak) -> dict[str, Any]:
    """A tweak for JSON: kind, number of parameters, and its synapses (None where the patch is dense)."""
    patch, neurons = tweak.patch, tweak.neurons
    synapses, connections = None, patch.listed
    if connections is not None:
        places = zip(neurons.tap_of, neurons.index, connections, strict=True)
        synapses = [{"tap": neurons.taps[t].name, "index": int(index), **one} for t, index, one in places]
    return {"kind": tweak.kind, "parameters": patch.parameters, "synapses": synapses}


def write_checked(
    delivery: Delivery,
    base: Subject,
    tweaked: Subject,
    output: OutputSettings,
    feeds: dict[str, np.ndarray],
    engine: EngineSettings,
) -> Check:
    """Write the model to be delivered, unless it does not load from there."""
    place, copies = delivery.add_model(tweaked.model, output.path, [tweaked.model.data])
    check = check_reload(place, base, tweaked, feeds, engine)
    require((check,))
    return replace(check, detail=check.detail + also_written(copies))


def _splice_and_check(job: Job, proposal: Proposal, tweak: Tweak) -> tuple[Subject, tuple[Check, ...]]:
    """The tweaked model and the checks that it passed; the base itself where the patch changes nothing."""
    base, subject = job.opened.model, job.subject
    if not proposal.patch.changes_logits:
        copied = Check("unharmed", True, "nothing that was tried is better: the output is a copy of the base")
        return subject, (copied,)
    data = splice_in(subject, tweak)
    tweaked, validation = as_subject(subject, data), job.splits.validation
    feeds = few_samples(job.opened, validation, neutral_samples(subject))
    expected, own = proposal.tweaked, proposal.base
    if subject.of_classes is not subject:  # the patch moves one factor of what is shown
        own = logits_pass(subject.of_classes, validation, job.engine, "simulate: base")
        expected = by_rows(lambda Z, now, was: Z + (now - was), own, proposal.tweaked, proposal.base)
    measured = logits_pass(tweaked.of_classes, validation, job.engine, "simulate")
    checks = (
        check_neutral(subject, tweak, feeds, job.engine.settings),
        check_simulation(subject, expected, measured, validation.labels, own),
        check_checker(base, data),
        check_unharmed(base, data),
    )
    require(checks)
    return tweaked, checks


def _measure_outcome(job: Job, proposal: Proposal, tweaked: Subject) -> Outcome:
    """Measured on test if there is one, which is used here for the first and only time."""
    if job.subject.detector is not None:
        return boxes_outcome(job, proposal, tweaked)
    listed = None if proposal.listing is None else count_outcome(job, tweaked, proposal.listing)
    view, split = job.splits.test, "test"
    if view is None:
        view, split = job.splits.validation, "validation" if job.has_data else "listed"
    base = shown_pass(job.subject, view, job.engine, f"{split}: base")
    patched = shown_pass(tweaked, view, job.engine, f"{split}: tweaked")
    check = check_answer(job.subject, base, patched)
    require((check,))
    labels, goal = view.labels, proposal.goal
    predicted = base.classes, patched.classes
    with_bias = by_rows(lambda Z: Z + proposal.bias.astype(Z.dtype), base.Z)
    biased, Z = by_rows(job.head.predict, with_bias), (base.Z, patched.Z, with_bias)
    made = [Predictions(labels, *each) for each in zip((*predicted, biased), Z, strict=True)]
    before, after, control = (measure(each.predicted, labels, goal, each.Z) for each in made)
    fixed, broken = fixed_and_broken(*(job.head.decisions(each, labels).right for each in predicted))
    p, E = mcnemar(fixed, broken), harm(before, after)
    method = proposal.settings.get("method", proposal.command)  # `compare` writes those of other names
    answer = answer_of(method, proposal.patch.changes_logits, len(proposal.neurons))
    column = None if goal.slice is None else goal.slice.column
    groups = view.groups(job.origin.data.group), view.groups(column)
    metric = None
    if goal.metric is not None:
        metric = metric_change(goal.metric, (made[0], made[1], made[2]), groups[0])
    beside = ShownBeside(base, patched, biased)
    lines = changes_of_lines(view, job.subject.readout, beside, job.origin.data.group)
    # What texts say of a copy is told, but not what it is judged by.
    judged_by_lines = bool(lines) and metric is None and goal.reference is None
    metric = lines[0] if judged_by_lines else metric
    touched = sums_by_rows(np.not_equal, base.Z, patched.Z) > 0
    shown = Shown(split, labels, *predicted, biased, *groups, job.subject.unit, metric, touched)
    cautions = _cautions(job, proposal, view, base.classes)
    promises = () if listed is None else tuple(promises_of(listed, goal.max_class_drop))
    verdict = judge_promises(shown, goal, job.names, answer, cautions, promises)
    measured_by = [name for name in job.origin.data.by if name != column]
    by_group = changes_by(measured_by, view, predicted, groups[0], job.head)
    verdict = replace(verdict, groups=(*verdict.groups, *by_group))
    measured = Measurement(split, before, after, control, fixed, broken, p, E, verdict)
    answers = {"base": predicted[0], "tweaked": predicted[1], "bias": biased}
    matched = None if proposal.matching is None else proposal.matching.outcome(split, answers)
    notes, scores = (
        (*_notes_on_ties(base, patched), *said_of_lines(lines, of_all=not judged_by_lines)),
        (base.Z, patched.Z),
    )
    return Outcome(measured, view, predicted, scores, check, notes, listed, metric, matched)


def _cautions(job: Job, proposal: Proposal, view: View, shown: np.ndarray) -> tuple[str, ...]:
    """Does the base, which shows (N,) `shown`, know what was chosen on? Do samples belong together?"""
    validation, group = job.splits.validation, job.origin.data.group
    grouped = depend_on_groups(group, view.groups(group)) if proposal.patch.changes_logits else ()
    if view is validation:
        return grouped
    head = proposal.goal.head
    learnt = head.decisions(by_rows(head.predict, proposal.base), validation.labels)
    return (*learnt_on(learnt, head.decisions(shown, view.labels)), *grouped)


def _notes_on_ties(base: ShownClasses, tweaked: ShownClasses) -> tuple[str, ...]:
    """A note where outputs are too coarse to tell the highest scores apart."""
    ties = int((base.undecided | tweaked.undecided).sum())
    if not ties:
        return ()
    return (
        f"on {ties:,} of {number_of(len(base.Z), 'sample')} the model's output shows classes as equal that"
        " its scores tell apart: what is shown counts",
    )


def _evidence(
    job: Job, proposal: Proposal, tweak: Tweak, tweaked: Subject, outcome: Outcome, output: OutputSettings
) -> dict[str, Any]:
    """What a report is drawn from; what takes time is left out where no report is wanted."""
    labels, predicted = outcome.view.labels, outcome.predicted
    decided = [job.head.decisions(each, labels) for each in predicted]
    found = report_data.of_predictions((outcome.measured.before, outcome.measured.after), decided)
    truth = job.splits.validation.labels
    found |= report_data.of_choice(proposal.base, proposal.tweaked, truth, proposal.goal, proposal.bias)
    found |= {"trials": report_data.of_trials(proposal.point.grid), "theta": proposal.theta_counts}
    found |= report_data.of_tweak(tweak, job.subject, tweaked)
    if output.evidence or output.report is not None:
        found |= report_data.of_runs(job, tweaked, outcome.view, predicted, proposal.goal)
        found |= {} if outcome.pictures is None else outcome.pictures(proposal.goal)
        if proposal.patch.changes_logits and outcome.scores is not None:
            found |= report_data.of_strengths(outcome.scores, predicted, labels, proposal.goal)
    return found
