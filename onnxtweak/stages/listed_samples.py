"""How are listed samples made right, and counted again on the written file (METHOD 14)?"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256

import numpy as np

from onnxtweak.data.splits import View
from onnxtweak.data.thumbnails import thumbnail
from onnxtweak.engine.answer.shown import ShownClasses, shown_pass
from onnxtweak.engine.machine.memory_plan import table_room
from onnxtweak.engine.passes import capture
from onnxtweak.engine.subject import Subject
from onnxtweak.errors import DataError
from onnxtweak.listed import GuardOutcome, ListedOutcome, ListedSample, MustOutcome
from onnxtweak.method.listed.problem import Earlier, ListedProblem, Repaired
from onnxtweak.method.solvers.squared_hinge import lead
from onnxtweak.method.table import Table, most_neurons, stacked
from onnxtweak.method.temperature import fit_temperature
from onnxtweak.patch import DensePatch
from onnxtweak.stages.gather import gather_table
from onnxtweak.stages.open_job import Job
from onnxtweak.types import Check, Neurons

# Guarded samples of the first table, at most; passes over the others keep those that a patch breaks, so many
# each time, the worst first.
_FIRST, _VIOLATED, _ROUNDS = 20_000, 5_000, 4
# Samples that are named, and those that are shown with a picture.
_NAMED, _SHOWN = 100, 12
# Logits that differ by less than this part of the largest may come from the same sample in another batch.
_SAME = 1e-3


@dataclass(frozen=True, eq=False)
class BaseDecisions:
    """The classes (N,) int64 that the base shows of listed samples, by role."""

    shown: Mapping[str, np.ndarray]

    def guarded(self, role: str, view: View) -> View:
        """The samples of a role that a patch must not change: lock-samples that are right, all kept ones.

        Their labels are the base's decisions.
        """
        shown = self.shown[role]
        stays = shown == view.labels if role == "lock" else shown >= 0
        labels = view.dataset.labels.copy()
        labels[view.rows] = shown
        return View(replace(view.dataset, labels=labels), view.rows[stays])


def base_decisions(job: Job) -> BaseDecisions | None:
    """One pass of the base over each list; None without any.

    Raises DataError where two samples contradict each other.
    """
    listed = job.splits.listed
    if not listed:
        return None
    found: dict[str, list[np.ndarray]] = {role: [] for role in listed}
    must = listed.get("must")
    seen = None
    for role, view in listed.items():
        for part, shown in _decided(job, job.subject, view, f"base: {role}"):
            found[role].append(shown.classes)
            if role == "must":
                seen = shown.Z if seen is None else np.concatenate([seen, shown.Z])
            elif role == "lock" and must is not None and seen is not None:
                _require_agreement(must, seen, part, shown.Z)
    if must is not None:
        _require_one_label(must)
    return BaseDecisions({role: np.concatenate(parts) for role, parts in found.items()})


def _decided(job: Job, subject: Subject, view: View, what: str) -> Iterator[tuple[View, ShownClasses]]:
    """Parts of a view and what the model shows of them; so many samples at a time that memory holds it."""
    each = max(table_room(job.engine.settings.memory, job.engine.reserved_bytes) // (16 * subject.classes), 1)
    for start in range(0, len(view), each):
        part = replace(view, rows=view.rows[start : start + each])
        yield part, shown_pass(subject, part, job.engine, what)


def _contents(view: View) -> list[bytes]:
    """A digest of the inputs of each sample."""
    found = []
    for feeds, labels, _ in view.batches(256):
        for k in range(len(labels)):
            digest = sha256()
            for name in sorted(feeds):
                value = feeds[name][k]
                digest.update(repr(value.tolist()).encode() if value.dtype.kind == "O" else value.tobytes())
            found.append(digest.digest())
    return found


def _require_one_label(must: View) -> None:
    """Raise DataError for two must-samples that are identical but for their labels."""
    first: dict[bytes, int] = {}
    for k, content in enumerate(_contents(must)):
        other = first.setdefault(content, k)
        if must.labels[other] != must.labels[k]:
            _contradict("two must-samples are identical but for their labels", (must, other), (must, k))


def _require_agreement(must: View, Z: np.ndarray, lock: View, other_Z: np.ndarray) -> None:
    """Raise DataError for a must-sample that is a lock-sample with another label. Z (n, C) : logits of each.

    Identical samples have nearly the same logits: only those that do are read again.
    """
    way = np.cos(np.arange(Z.shape[1]) + 1.0)  # any direction in which logits differ
    along, others = np.nan_to_num(Z @ way), np.nan_to_num(other_Z @ way)
    order = np.argsort(along)
    near = _SAME * max(1.0, float(np.abs(along).max(initial=0.0)))
    first = np.searchsorted(along[order], others - near, "left")
    last = np.searchsorted(along[order], others + near, "right")
    pairs = [
        (int(m), int(k))
        for k in np.flatnonzero(last > first)
        for m in order[first[k] : last[k]]
        if must.labels[m] != lock.labels[k] and np.allclose(Z[m], other_Z[k], rtol=_SAME, atol=near)
    ]
    for m, k in pairs:
        one, other = (replace(view, rows=view.rows[[at]]) for view, at in ((must, m), (lock, k)))
        if _contents(one) == _contents(other):
            _contradict("a must-sample is a lock-sample too, with another label", (must, m), (lock, k))


def _contradict(what: str, *places: tuple[View, int]) -> None:
    said = [f"{view.dataset.locate(int(view.rows[k]))} is {view.labels[k]}" for view, k in places]
    raise DataError(what, where="; ".join(said), hint="take one of them off its list, or correct its label")


# ---------------------------------------------------------------------------------------- learning


def make_right(
    job: Job, neurons: Neurons, decided: BaseDecisions, data: Table | None, earlier: Earlier
) -> Repaired:
    """The patch that makes must-samples right and leaves guarded ones so, on top of an earlier one.

    data : rows of the fit split, of which those that are right are guarded too.
    """
    listed = job.splits.listed
    guards = [decided.guarded(role, listed[role]) for role in ("lock", "keep") if role in listed]
    room = min(most_neurons(len(neurons), job.engine), _FIRST) // max(len(guards), 1)
    first = [view.spread_out(max(room, 1)) for view in guards]
    must = gather_table(job, listed["must"], neurons, "must") if "must" in listed else None
    tables = [gather_table(job, view, neurons, "guarded") for view in first]
    known = stacked([table for table in (must, *tables, data) if table is not None])
    temperature = fit_temperature(known.Z, known.labels)
    none = known.rows(np.empty(0, np.int64))
    problem = ListedProblem(earlier.over(must or none), earlier.over(none), temperature, job.head)
    for table in tables:
        problem = problem.with_guarded(earlier.over(table))
    if data is not None:  # what is wrong in the data is no promise
        over = earlier.over(data)
        problem = problem.with_guarded(over.rows(np.flatnonzero(job.head.right(over.Z, over.labels))))
    found = problem.solved()
    rest = [_without(view, part.rows) for view, part in zip(guards, first, strict=True)]
    for _ in range(_ROUNDS):
        near = problem.temperature * found.form.margin / 2
        violated = [_violated(job, view, neurons, earlier, (found.patch, near)) for view in rest if len(view)]
        if not any(len(rows) for _, rows in violated):
            break
        for table, _ in violated:
            problem = problem.with_guarded(table)
        taken = np.concatenate([rows for _, rows in violated])
        rest = [_without(view, taken) for view in rest]
        found = problem.solved(found)
    return problem.repaired(found, earlier)


def _without(view: View, rows: np.ndarray) -> View:
    return replace(view, rows=np.setdiff1d(view.rows, rows))


def _violated(
    job: Job, view: View, neurons: Neurons, earlier: Earlier, repair: tuple[DensePatch, float]
) -> tuple[Table, np.ndarray]:
    """Samples (n,) of a view that a patch breaks or nearly so, the worst first; and their rows in the data.

    repair : the patch, and the lead of the logits below which a sample that it moved down is nearly broken.
    None where it breaks none: nothing is left to be done then.
    """
    patch, near = repair
    parts: list[tuple[Table, np.ndarray, np.ndarray]] = []
    chosen = neurons if len(neurons) else None
    for got in capture(job.subject, view, job.engine, "look for broken samples", neurons=chosen):
        T = got.V[0] if chosen is not None else np.empty((len(got.labels), 0), np.float32)
        table = earlier.over(Table(T, got.Z, got.labels))
        ahead = lead(patch.applied(table.Z, T), got.labels)
        low = np.flatnonzero((ahead <= 0) | ((ahead < near) & (ahead < lead(table.Z, got.labels))))
        parts.append((table.rows(low), got.rows[low], ahead[low]))
    table, rows, ahead = (
        stacked([part[0] for part in parts]),
        np.concatenate([part[1] for part in parts]),
        np.concatenate([part[2] for part in parts]),
    )
    worst = np.argsort(ahead, kind="stable")[: _VIOLATED if (ahead <= 0).any() else 0]
    return table.rows(worst), rows[worst]


# ---------------------------------------------------------------------------------------- counting


@dataclass(frozen=True, eq=False)
class Listing:
    """What is known of listed samples before the file is written: the base's decisions, what was learnt."""

    decided: BaseDecisions
    repaired: Repaired


def count_outcome(job: Job, tweaked: Subject, listing: Listing) -> ListedOutcome:
    """What the written file shows of every listed sample."""
    listed, decided, repaired = job.splits.listed, listing.decided, listing.repaired
    held = repaired.found.held_out
    return ListedOutcome(
        _must_outcome(job, tweaked, decided) if "must" in listed else None,
        _guard_outcome(job, tweaked, decided, "lock") if "lock" in listed else None,
        _guard_outcome(job, tweaked, decided, "keep") if "keep" in listed else None,
        repaired.found.form.name,
        None if held is None else {"fixed": held.fixed, "broken": held.broken},
        repaired.control,
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
    parts = [shown for _, shown in _decided(job, tweaked, view, "tweaked: must")]
    after, Z = (np.concatenate([getattr(part, key) for part in parts]) for key in ("classes", "Z"))
    was, now = before == view.labels, after == view.labels
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
    after = np.concatenate(
        [shown.classes for _, shown in _decided(job, tweaked, view, f"tweaked: {role}")] or [np.empty(0, int)]
    )
    broken = np.flatnonzero(after != view.labels)
    named = tuple(_named(job, view, (view.labels, after), int(k)) for k in broken[:_NAMED])
    return GuardOutcome(len(whole), len(view), len(broken), named)


def _named(
    job: Job, view: View, shown: tuple[np.ndarray, np.ndarray], k: int, Z: np.ndarray | None = None
) -> ListedSample:
    """Sample k of a view. shown (N,) : classes before and after. Z (C,) : its logits in the file."""
    row, label = int(view.rows[k]), int(view.labels[k])
    before, after = (job.names[each[k]] if each[k] >= 0 else "none" for each in shown)
    rivals = (
        () if Z is None else tuple(job.names[i] for i in np.argsort(-Z) if i != label and Z[i] >= Z[label])
    )
    image = thumbnail(view.dataset, row) if k < _NAMED else None
    picture = None if image is None else f"data:image/png;base64,{base64.b64encode(image).decode()}"
    return ListedSample(row, view.dataset.locate(row), job.names[label], before, after, rivals, picture)
