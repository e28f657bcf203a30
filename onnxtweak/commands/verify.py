"""How is a tweaked file verified again? By every check that the file, its base and samples allow."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from onnxtweak.data.splits import View
from onnxtweak.engine.answer.shown import shown_pass
from onnxtweak.engine.opened import opened_model
from onnxtweak.engine.passes import Engine
from onnxtweak.engine.shared.logits import joined_logits, logits_pass
from onnxtweak.engine.shared.shards import by_shards, captured_shards
from onnxtweak.engine.subject import Subject, few_samples, made_up_samples, measured, smallest_samples
from onnxtweak.engine.tap_safety import neutral_samples
from onnxtweak.errors import MachineError, ModelError, UsageError
from onnxtweak.goal import ResolvedGoal
from onnxtweak.method.metrics import measure
from onnxtweak.model.edit.record import recorded_tweak
from onnxtweak.model.file.model_file import ModelFile, read_model
from onnxtweak.model.file.tweak_metadata import COPY_HINT, TweakInside, tweaks_inside
from onnxtweak.other_answers import RuntimeRun
from onnxtweak.patch import Patch
from onnxtweak.results import Verified
from onnxtweak.settings import DataSettings, EngineSettings, HeadWord
from onnxtweak.stages.boxes.measure import require_measured_whole
from onnxtweak.stages.checks import (
    MANY,
    as_subject,
    check_answer,
    check_base,
    check_checker,
    check_difference,
    check_digests,
    check_record,
    check_reload,
    check_silenced,
    check_undone,
)
from onnxtweak.stages.companions import settle
from onnxtweak.stages.judge_promises import changes_by
from onnxtweak.stages.lines.read_lines import ShownBeside, changes_of_lines, said_of_lines
from onnxtweak.stages.lists.count_outcome import check_listed
from onnxtweak.stages.objects.outcome import boxes_verified
from onnxtweak.stages.on_samples.accuracy_check import check_accuracy, recorded_targets
from onnxtweak.stages.on_samples.simulation_check import check_simulation
from onnxtweak.stages.open_job import Job, model_ref, open_whole
from onnxtweak.stages.open_tweak import recorded_taps, with_recorded_readout
from onnxtweak.stages.other_models.rewritten import compare_rewritten
from onnxtweak.stages.other_models.runtimes import check_runtimes
from onnxtweak.stages.preprocess_record import as_recorded
from onnxtweak.stages.preprocessing_check import doubts
from onnxtweak.types import Check, FileRef, Metrics, Neurons, Progress, Unchecked, silent
from onnxtweak.verdict import GroupChange

# Accuracy before and after, if it was measured, what became of groups, and what was counted.
_Measured = tuple[Metrics | None, Metrics | None, tuple[GroupChange, ...], str]
# Checks that compare with the rebuilt base: of the files, of how they run, and of how they run on samples.
_FILES, _RUNS, _SAMPLES = ("base", "checker", "unharmed"), ("neutral", "reload"), ("accuracy",)


def verify(
    *,
    tweaked: str,
    base: str | None = None,
    same_as: str | None = None,
    data: DataSettings | None = None,
    engine: EngineSettings = EngineSettings(),
    runtimes: Sequence[str] = (),
    progress: Progress = silent,
) -> Verified:
    """Make every check of the tweaked file that is possible with what is given; a failed one raises nothing.

    The base is rebuilt from the file itself, and compared with `base` where that is given. With samples the
    last tweak is also simulated from tables, and the accuracy before and after is measured and compared with
    what was recorded; listed samples are counted. What cannot be checked is listed under `unchecked`.

    same_as : a tweaked file that `tweaked` was made of by another tool, which needs leave no record in it:
    only whether the decisions and the gain are still there is checked then, on samples that need no labels.
    runtimes : in which file and base are run too, on some of the samples (`settings.RuntimeName`).

    Raises ModelError where the file is not a model or has no tweak inside, DataError for unusable samples.
    """
    if runtimes and (data is None or not data.data or same_as is not None):
        hint = "give samples with -d DATA, and a file as onnxtweak wrote it"
        raise UsageError("other runtimes can only be compared on samples", where="--runtime", hint=hint)
    if same_as is not None:
        return _verify_rewritten(tweaked, same_as, data, engine, progress)
    begin = time.perf_counter()
    model = read_model(tweaked)
    named = None if base is None else read_model(base)
    try:
        inside = tweaks_inside(model.proto)
    except ModelError as error:
        unread = (Check("record", False, error.what),)
        return Verified(model_ref(model), None, (), unread, None, None, {"all": time.perf_counter() - begin})
    if not inside:
        hint = COPY_HINT
        if named is not None and named.sha256 == model.sha256:
            hint = f"it is a copy of {named.path.name}, byte for byte: {COPY_HINT}"
        raise ModelError("the model has no tweak inside", where=tweaked, hint=hint)
    undone, earlier = check_undone(model.data, inside)
    # Bytes are compared where the tweaks come off; where they do not, another tool wrote the file anew.
    files = (model.data, *earlier) if undone.passed else ()
    made: list[Check | Unchecked] = [undone, *check_digests(model, inside, files)]
    source, notes, ran = None, list[str](), list[RuntimeRun]()
    measured: _Measured = (None, None, (), "samples")
    runs = _RUNS if data is None else (*_RUNS, *_SAMPLES)
    if not undone.passed:
        made += [Unchecked(name, "the base could not be rebuilt") for name in (*_FILES, *runs)]
    else:
        rebuilt = model.holding(earlier[-1])
        source = FileRef("" if named is None else str(named.path), rebuilt.sha256)
        made.append(check_base(inside[0].base_sha256, rebuilt, "the rebuilt file"))
        if named is not None:
            made.append(check_base(inside[0].base_sha256, named, named.path.name))
        made += [check_checker(rebuilt, model.data), check_difference(rebuilt, model.data)]
        try:
            run = _Run(model, inside, earlier, engine, data, progress, runtimes, base, ran)
            measured = _run_checks(run, made, notes) or measured
        except Exception as error:  # a damaged file may fail in any way while it runs, and that is not news
            damaged = any(isinstance(check, Check) and not check.passed for check in made)
            if not damaged and (data is not None or not isinstance(error, MachineError | ModelError)):
                raise
            done = {check.name for check in made}
            made += [Unchecked(name, _why(error)) for name in runs if name not in done]
    before, after, groups, unit = measured
    return Verified(
        model=model_ref(model),
        base=source,
        tweaks=tuple(tweak.facts for tweak in inside),
        checks=tuple(check for check in made if isinstance(check, Check)),
        before=before,
        after=after,
        seconds={"all": time.perf_counter() - begin},
        notes=tuple(notes),
        unchecked=tuple(check for check in made if isinstance(check, Unchecked)),
        runtimes=tuple(ran),
        groups=groups,
        unit=unit,
    )


def _verify_rewritten(
    file: str, same_as: str, data: DataSettings | None, engine: EngineSettings, progress: Progress
) -> Verified:
    """The file beside the tweaked one that it was made of."""
    begin = time.perf_counter()
    if data is None or not data.data:
        hint = "give samples with -d DATA; they need no labels"
        raise UsageError("two files can only be compared on samples", where="--same-as", hint=hint)
    model = read_model(same_as)
    inside = tweaks_inside(model.proto)
    if not inside:
        raise ModelError("the model has no tweak inside", where=same_as, hint=COPY_HINT)
    undone, earlier = check_undone(model.data, inside)
    if not undone.passed:
        hint = "name the file as onnxtweak wrote it"
        raise ModelError(
            f"the base cannot be rebuilt from this file: {undone.detail}", where=same_as, hint=hint
        )
    last = inside[-1]
    head: HeadWord | None = "labels" if last.provenance.get("several_labels") else None
    data, notes = as_recorded(replace(data, unlabelled=True, head=data.head or head), model)
    settings = recorded_taps(last.logits, last.provenance)
    job = open_whole(model, data, engine, settings, progress, watch=False)
    base = as_subject(job.subject, earlier[-1])
    job = replace(job, subject=_as_tweaked(job.subject, last))
    found, checks = compare_rewritten(job, base, file, recorded_targets(last.provenance))
    return Verified(
        model=model_ref(read_model(file)),
        base=FileRef("", inside[0].base_sha256),
        tweaks=tuple(tweak.facts for tweak in inside),
        checks=checks,
        before=None,
        after=None,
        seconds={"all": time.perf_counter() - begin},
        notes=(*notes, *job.splits.notes),
        rewritten=found,
    )


def _as_tweaked(file: Subject, last: TweakInside) -> Subject:
    """The file by its tweaked logits: those of a shadow are an output of their own."""
    return file if last.shadow is None else replace(file, logits=last.shadow, answer=None)


def _why(error: Exception) -> str:
    hint = getattr(error, "hint", "")
    return f"the file cannot be run: {error}" + (f"; {hint}" if hint else "")


@dataclass(frozen=True)
class _Run:
    """A file, the tweaks inside it, and the earlier files without them, the latest first.

    runtimes : in which it is run too. base : as named by the user. ran : what they came to, once they ran.
    """

    model: ModelFile
    inside: tuple[TweakInside, ...]
    earlier: tuple[bytes, ...]
    engine: EngineSettings
    data: DataSettings | None
    progress: Progress
    runtimes: Sequence[str]
    base: str | None
    ran: list[RuntimeRun]


def _run_checks(run: _Run, made: list[Check | Unchecked], notes: list[str]) -> _Measured | None:
    """Add the checks for which the model has to run, and what is to be said of the samples."""
    last = run.inside[-1]
    job = None
    if run.data is None:
        taps = recorded_taps(last.logits, last.provenance)
        opened = opened_model(run.model, taps).recorded(last.provenance)
        opened = with_recorded_readout(opened, last.provenance)
        feeds = made_up_samples(opened, last.provenance.get("inputs", {}))
        file = settle(measured(opened, (), feeds, run.engine)[0], feeds, run.engine).subject
        small = feeds
    else:
        data, recorded = as_recorded(run.data, run.model)
        notes.extend(recorded)
        settings = recorded_taps(last.logits, last.provenance)
        job = open_whole(run.model, data, run.engine, settings, run.progress, watch=False)
        file = job.subject
        feeds = few_samples(job.opened, job.splits.fit, neutral_samples(job.subject))
        small = smallest_samples(job.opened, job.splits.fit, MANY)
    base, former = as_subject(file, run.earlier[-1]), as_subject(file, run.earlier[0])
    made.append(check_silenced(base, file, feeds, run.engine))
    made.extend(_record_checks(file, run))
    path = Path(run.model.path)
    made.append(check_reload(path, base, file, small, run.engine))
    return None if job is None else _on_samples(run, job, (base, former), made, notes)


def _in_other_runtimes(run: _Run, job: Job) -> Iterator[Check | Unchecked]:
    """The file beside its base in each runtime that was asked for."""
    base: bytes | Path = run.earlier[-1]
    if run.runtimes and run.model.external:
        if run.base is None:
            reason = "the base has weights beside it: name it with --base"
            yield from (Unchecked(f"runtime {name}", reason) for name in run.runtimes)
            return
        base = Path(run.base)
    if run.runtimes:
        ran, checks = check_runtimes(job, base, run.inside[-1].shadow, run.runtimes)
        run.ran.extend(ran)
        yield from checks


def _patched_shards(
    subject: Subject, view: View, engine: Engine, what: str, neurons: Neurons, patch: Patch
) -> Iterator[np.ndarray]:
    """Logits of each shard with a patch that reads these neurons, of which there may be none."""
    for shard in captured_shards(subject, view, engine, what, neurons=neurons):
        values = ((got.Z, got.V[0] if got.V else np.empty((len(got.Z), 0), got.Z.dtype)) for got in shard)
        yield np.concatenate([patch.applied(Z, T) for Z, T in values])


def _record_checks(file: Subject, run: _Run) -> Iterator[Check]:
    files = (run.model.data, *run.earlier)
    for number, tweak in enumerate(reversed(run.inside)):
        check = check_record(as_subject(file, files[number + 1]), tweak, files[number])
        if check is not None:
            yield check


def _on_samples(
    run: _Run,
    job: Job,
    originals: tuple[Subject, Subject],
    made: list[Check | Unchecked],
    notes: list[str],
) -> _Measured:
    """Accuracy before and after, of groups too; is it the recorded one, and do tables predict this file?

    originals : the base, and the file before its last tweak.
    """
    file, view, engine = job.subject, job.splits.fit, job.engine
    base, former = originals
    if file.detector is not None:
        require_measured_whole(job.origin.data)
        made.extend(_in_other_runtimes(run, job))
        before_boxes, after_boxes, check = boxes_verified(job, base, run.inside[-1])
        made.append(check)
        return before_boxes, after_boxes, (), "samples"
    before = shown_pass(base, view, engine, "base")
    notes.extend(doubts(replace(job, subject=base), view, before.classes))
    tweaked = _as_tweaked(file, run.inside[-1])
    after = shown_pass(tweaked, view, engine, "tweaked")
    made.append(check_answer(tweaked, before, after))
    made.extend(check_listed(replace(job, subject=base), tweaked))
    made.extend(_in_other_runtimes(run, job))
    start = before.Z if len(run.inside) == 1 else logits_pass(former, view, engine, "before the last tweak")
    tweak = recorded_tweak(run.inside[-1])
    if tweak is not None:
        patch = tweak.patch.scaled(run.inside[-1].scale)
        work = partial(_patched_shards, neurons=tweak.neurons, patch=patch)
        shards = by_shards(work, former, view, engine, "simulate")
        predicted_Z = joined_logits(file, len(view), engine, shards)
        made.append(check_simulation(file, predicted_Z, after.Z, view.labels, start))
    made.append(check_accuracy(run.inside[-1], view, file, (start, after.Z)))
    lines = changes_of_lines(view, tweaked.readout, ShownBeside(before, after, before.classes), None)
    notes.extend(said_of_lines(lines, of_all=True))
    no_target = ResolvedGoal(np.empty(0, np.int64), file.head)
    metrics_before, metrics_after = (
        measure(shown.classes, view.labels, no_target, shown.Z) for shown in (before, after)
    )
    groups = changes_by(job.origin.data.by, view, (before.classes, after.classes), None, job.head)
    return metrics_before, metrics_after, groups, file.rows
