"""How are the tables of chosen neurons gathered? In one pass each.

Tables that `--memory` cannot hold lie in files without a name, in the work directory or the folder of
temporary files, and are learnt from all the same.
"""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from onnxtweak.data.splits import View
from onnxtweak.engine.kept.kept_results import KeptResults
from onnxtweak.engine.machine.large_arrays import by_rows, require_free
from onnxtweak.engine.machine.memory_plan import not_held
from onnxtweak.engine.shared.logits import logits_folder
from onnxtweak.errors import UsageError
from onnxtweak.head import Head
from onnxtweak.method.fit.learning import Learning
from onnxtweak.method.folds import KeptArrays, not_kept
from onnxtweak.method.selection.numbering import digest_of_neurons
from onnxtweak.method.table import Table, TableFolder, gather, most_neurons, stacked
from onnxtweak.settings import FitSettings
from onnxtweak.stages.open_job import Job
from onnxtweak.stages.sample_notes import known_by_heart, seen_in_training
from onnxtweak.types import Neurons

# What learning from a table takes on the disk, in tables: it, fit and validation end to end, those turned to
# their axes, and the samples of a training; and what is as large as its logits.
ON_DISK, LOGITS_ON_DISK = 4, 12
# What learning several labels at once takes in memory of each mark, in bytes, wherever the logits lie: what
# is marked and shown, a byte each; of objects and of places on an axis also what is made of logits.
_OF_MARKS, _OF_ANCHORS = 24, 160
# Where there are more samples to fit to than this, `--mirror auto` does without copies of them: they would
# hardly teach more, and double the time.
_MOST_MIRRORED = 20_000


def learnt_kept(job: Job) -> int:
    """How many samples of the list `--keep` are learnt from: as many as there are others at most."""
    learnt = len(job.splits.fit) + len(job.splits.validation)
    kept = job.splits.listed.get("keep")
    return 0 if kept is None else min(len(kept), learnt)


def table_folder(job: Job, view: View, neurons: int, copies: int = 1) -> TableFolder:
    """Where a view's table lies: in memory, as far as that holds the job's tables and what is made of them.

    neurons : of the tables. copies : how often every sample stands in them. Raises OutputError where the
    folder has too little room.
    """
    samples = copies * (len(job.splits.fit) + len(job.splits.validation) + learnt_kept(job))
    classes, wanted = job.subject.classes, 0
    folder = Path(job.engine.settings.work_dir or tempfile.gettempdir())
    found = TableFolder()
    if neurons > most_neurons(samples, job.engine):
        found, wanted = TableFolder(folder), ON_DISK * neurons
    if neurons and (of_logits := logits_folder(samples, classes, job.engine)):
        found, wanted = replace(found, of_logits=of_logits), wanted + LOGITS_ON_DISK * classes
    if wanted:
        folder.mkdir(parents=True, exist_ok=True)
        require_free(folder, 4 * wanted * len(view))
    return found


def gather_table(job: Job, view: View, neurons: Neurons, what: str, copies: int = 1) -> Table:
    """`gather` over a view of the job's samples, with their groups, and how much each counts.

    copies : as of `table_folder`.
    """
    groups = view.groups(job.origin.data.group)
    weight = None if view.thinned is None else view.thinned.weight(view.rows)
    folder = table_folder(job, view, len(neurons), copies)
    table = gather(job.subject, view, neurons, job.engine, what, folder)
    return replace(table, groups=groups, weight=weight)


def kept_results(job: Job, what: str, **facts: Any) -> KeptArrays:
    """What hands out results that an earlier run kept in the work directory, and keeps new ones.

    what : they are. facts : what they depend on besides the job, as plain data.
    """
    settings = job.engine.settings
    if settings.work_dir is None:
        return not_kept
    return KeptResults(settings, job.cache_key(what=what, **facts), job.engine.progress)


def kept_from_tables(job: Job, neurons: Neurons, what: str) -> KeptArrays:
    """`kept_results` of what is learnt from tables of fit and validation samples."""
    return kept_results(job, what, samples=job.splits.digest, neurons=digest_of_neurons(neurons))


def gather_tables(job: Job, neurons: Neurons) -> tuple[Table, Table]:
    """Tables of fit and validation."""
    fit = gather_table(job, job.splits.fit, neurons, "collect")
    if job.splits.validation is job.splits.fit:
        return fit, fit
    return fit, gather_table(job, job.splits.validation, neurons, "validate")


def learning_samples(
    job: Job,
    tables: tuple[Table, Table],
    neurons: Neurons,
    settings: FitSettings,
    *,
    picked: bool = False,
    decided: bool = False,
) -> tuple[Learning, tuple[str, ...]]:
    """The samples that weights are fitted to, with mirrored copies where `fit` may use them; and notes.

    tables : of fit and validation, of these neurons. picked : those were chosen by the fit samples. decided :
    labels are what a reference decides, and being right on all is no sign of training. Weights are fitted to
    validation too, unless results are reported on it for want of a test split, or a certificate needs it.
    Choices are not judged on fit samples that the base has memorised, or that the neurons were chosen by;
    with `--mirror on` they are judged on the copies where the base knows all samples by heart.
    Raises UsageError where mirrored copies are asked for that cannot be had.
    """
    table, judged, notes = _learning_table(job, tables, picked, decided, len(_learnt(job, settings)))
    each = _OF_ANCHORS if job.subject.detector is not None or table.places else _OF_MARKS
    size = each * table.labels.size * job.head.several
    engine, what = job.engine, f"learning {job.subject.classes:,} labels of a sample"
    beyond = not_held(what, size, engine.settings.memory, engine.reserved_bytes)
    notes = notes if beyond is None else (*notes, beyond)
    copies = _mirrored_copies(job, neurons, settings)
    kept = kept_from_tables(job, neurons, "fit")
    learning = Learning(table, judged, copies, settings.mirror == "on", kept)
    if copies is None or not judged.any():
        return learning, notes
    known = known_by_heart(*(_right(job.head, one, judged) for one in (table, copies)))
    if known and learning.always:
        return learning.judged_on_copies, (*notes, f"{known}; choices are judged on these")
    advice = "if images are as likely the other way round, --mirror on judges by these"
    return learning, (*notes, f"{known}; {advice}") if known else notes


def _right(head: Head, table: Table, chosen: np.ndarray) -> np.ndarray:
    """Which decisions on samples that are chosen, (N,) bool, are right."""
    return head.decisions(by_rows(head.predict, table.Z)[chosen], table.labels[chosen]).right


def mirrored_views(job: Job, settings: FitSettings) -> tuple[View, ...]:
    """The samples whose mirrored copies `fit` tries. Raises UsageError where it has to and cannot."""
    if job.head.several:
        return ()
    mirrored = [(view.dataset.mirrored, view.rows) for view in _learnt(job, settings)]
    views = tuple(View(dataset, rows) for dataset, rows in mirrored if dataset is not None)
    if settings.mirror == "on":
        if not views:
            raise UsageError(
                "mirrored copies do not work with labels at positions yet"
                if job.subject.sizes
                else "the model takes no images that could be mirrored",
                where="--mirror on",
                hint="leave it out: --mirror auto does what is possible",
            )
        return views
    small = settings.budget is not None or settings.synapses is not None
    many = job.samples["fit"] > _MOST_MIRRORED
    return () if settings.mirror == "off" or small or many else views


def _learnt(job: Job, settings: FitSettings) -> tuple[View, ...]:
    """The splits that weights are fitted to."""
    fit_alone = job.splits.test is None or settings.certify is not None
    return (job.splits.fit,) if fit_alone else (job.splits.fit, job.splits.validation)


def _mirrored_copies(job: Job, neurons: Neurons, settings: FitSettings) -> Table | None:
    """The table of mirrored copies of what weights are fitted to, where they are wanted."""
    views = mirrored_views(job, settings)
    if not views or not len(neurons):
        return None
    return stacked([gather_table(job, view, neurons, "mirror", copies=2) for view in views])


def _learning_table(
    job: Job, tables: tuple[Table, Table], picked: bool, decided: bool, splits: int
) -> tuple[Table, np.ndarray, tuple[str, ...]]:
    """The samples that weights are fitted to, which of them (N,) bool choices are judged on, and notes.

    picked, decided : as of `learning_samples`. splits : that weights are fitted to, 1 or 2.
    """
    fit, thinned = tables[0], job.splits.fit.thinned
    alike = np.ones(len(fit.labels), bool)
    if thinned is not None:
        alike = thinned.may_be_judged_on(job.splits.fit.rows)
    right = [_right(job.head, fit, alike), _right(job.head, tables[1], np.ones(len(tables[1].labels), bool))]
    seen = "" if decided and all(each.all() for each in right) else seen_in_training(*right)
    notes = (f"{seen}; samples held out from training give better patches",) if seen else ()
    if splits == 1:
        return fit, alike, notes
    table = stacked(tables)
    alike = np.append(alike, np.ones(len(table.labels) - len(alike), bool))
    memorised = right[0].mean() > right[1].mean() and bool(seen)
    if not memorised and not picked:
        return table, alike, notes
    reason = seen if memorised else "the neurons were chosen by the fit samples"
    judged = np.arange(len(table.labels)) >= len(fit.labels)
    return table, judged, (f"{reason}, so choices are judged on validation alone",)
