"""What became of listed samples? Counted on the written file, and named where it is not what was asked."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from onnxtweak.data.splits import View
from onnxtweak.data.thumbnails import thumbnail
from onnxtweak.engine.subject import Subject
from onnxtweak.head import SEVERAL_LABELS
from onnxtweak.listed import GuardOutcome, ListedOutcome, ListedSample, MustOutcome
from onnxtweak.method.listed.problem import Repaired
from onnxtweak.stages.lists.base_decisions import (
    BaseDecisions,
    base_decisions,
    decided_by,
    located,
    right_rows,
)
from onnxtweak.stages.open_job import Job
from onnxtweak.types import Check

# Samples that are named, and those that are shown with a picture.
_NAMED, _SHOWN = 100, 12


@dataclass(frozen=True, eq=False)
class Listing:
    """What is known of listed samples before the file is written.

    decided : by the base. repaired : what was learnt for must-samples and lock-samples, if there are any.
    """

    decided: BaseDecisions
    repaired: Repaired | None


def count_outcome(job: Job, tweaked: Subject, listing: Listing) -> ListedOutcome:
    """What the written file shows of every listed sample."""
    listed, decided, repaired = job.splits.listed, listing.decided, listing.repaired
    held = None if repaired is None else repaired.held_out
    return ListedOutcome(
        _must_outcome(job, tweaked, decided) if "must" in listed else None,
        _guard_outcome(job, tweaked, decided, "lock") if "lock" in listed else None,
        _guard_outcome(job, tweaked, decided, "keep") if "keep" in listed else None,
        "" if repaired is None else repaired.form,
        None if held is None else {"fixed": held.fixed, "broken": held.broken},
        None if repaired is None else repaired.control.counts,
    )


def check_listed(job: Job, tweaked: Subject) -> Iterator[Check]:
    """Is every must-sample right in the file, and no lock-sample wrong that the job's subject gets right?"""
    decided, listed = base_decisions(job), job.splits.listed
    if decided is not None and "must" in listed:
        must = _must_outcome(job, tweaked, decided)
        yield Check(
            "must", not must.infeasible, f"{must.right:,} of {must.samples:,} right{_first(must.named)}"
        )
    if decided is not None and "lock" in listed:
        lock = _guard_outcome(job, tweaked, decided, "lock")
        yield Check("lock", not lock.broken, f"{lock.broken:,} of {lock.right:,} broken{_first(lock.named)}")


def _first(named: Sequence[ListedSample]) -> str:
    return f"; the first: {named[0].where} is {named[0].label}, shown as {named[0].after}" if named else ""


def _must_outcome(job: Job, tweaked: Subject, decided: BaseDecisions) -> MustOutcome:
    view, before = job.splits.listed["must"], decided.shown["must"]
    parts = [shown for _, shown in decided_by(job, tweaked, view, "tweaked: must")]
    after, Z = (np.concatenate([getattr(part, key) for part in parts]) for key in ("classes", "Z"))
    was, now = (right_rows(shown, view.labels) for shown in (before, after))
    wrong = np.flatnonzero(~now)
    return MustOutcome(
        samples=len(view),
        already_right=int(was.sum()),
        right=int(now.sum()),
        fixed=int((~was & now).sum()),
        infeasible=len(wrong),
        named=tuple(_named(job, view, (before, after), int(k), Z[k]) for k in wrong[:_NAMED]),
        shown=tuple(_named(job, view, (before, after), int(k)) for k in np.flatnonzero(~was & now)[:_SHOWN]),
    )


def _guard_outcome(job: Job, tweaked: Subject, decided: BaseDecisions, role: str) -> GuardOutcome:
    whole = job.splits.listed[role]
    view = decided.guarded(role, whole)
    parts = [shown.classes for _, shown in decided_by(job, tweaked, view, f"tweaked: {role}")]
    after = np.concatenate(parts) if parts else view.labels
    broken = np.flatnonzero(~right_rows(after, view.labels))
    named = tuple(_named(job, view, (view.labels, after), int(k)) for k in broken[:_NAMED])
    return GuardOutcome(len(whole), len(view), len(broken), named)


def _named(
    job: Job, view: View, shown: tuple[np.ndarray, np.ndarray], k: int, Z: np.ndarray | None = None
) -> ListedSample:
    """Sample k of a view. shown (N,) : classes before and after. Z (C,) : its logits in the file."""
    row, where, label = int(view.rows[k]) // view.dataset.positions, located(view, k), view.labels[k]
    before, after = (_called(each[k], job.names) for each in shown)
    rivals = () if Z is None else tuple(job.names[i] for i in _rivals(Z, label))
    image = thumbnail(view.dataset, row) if k < _NAMED else None
    picture = None if image is None else f"data:image/png;base64,{base64.b64encode(image).decode()}"
    return ListedSample(row, where, _called(label, job.names), before, after, rivals, picture)


def _called(label: np.ndarray, names: Sequence[str]) -> str:
    """The class of a sample by name, or its several labels."""
    numbers = np.flatnonzero(label == 1) if label.ndim else label[None]
    return ", ".join(names[int(c)] for c in numbers if c >= 0) or "none"


def _rivals(Z: np.ndarray, label: np.ndarray) -> np.ndarray:
    """Classes (k,) whose scores (C,) are not below that of the label; of several, those decided wrongly."""
    order = np.argsort(-Z)
    found: np.ndarray = (
        (order != label) & (Z[order] >= Z[label]) if label.ndim == 0 else _wrong(Z, label)[order]
    )
    return order[found]


def _wrong(Z: np.ndarray, marks: np.ndarray) -> np.ndarray:
    """Which of several labels are decided wrongly, (C,) bool, by their scores."""
    return (SEVERAL_LABELS.predict(Z) != marks) & (marks >= 0)
