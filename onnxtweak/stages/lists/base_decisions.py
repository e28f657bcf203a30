"""What does the base decide for listed samples, and do two lists contradict each other?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from hashlib import sha256

import numpy as np

from onnxtweak.data.dataset import Dataset
from onnxtweak.data.splits import View
from onnxtweak.engine.answer.shown import ShownClasses, shown_pass
from onnxtweak.engine.machine.memory_plan import table_room
from onnxtweak.engine.subject import Subject
from onnxtweak.errors import DataError
from onnxtweak.stages.open_job import Job

# Logits that differ by less than this part of the largest may come from the same sample in another batch.
_SAME = 1e-3
# Pairs of samples that are compared at a time.
_PAIRS = 1 << 20


@dataclass(frozen=True, eq=False)
class BaseDecisions:
    """The classes (N,) int64, or marks (N, C), that the base shows of listed samples, by role."""

    shown: Mapping[str, np.ndarray]

    def guarded(self, role: str, view: View) -> View:
        """The samples of a role that a patch must not change: lock-samples that are right, all kept ones.

        Their labels are the base's decisions.
        """
        shown, labels = self.shown[role], view.dataset.labels.copy()
        if role == "keep":
            stays = shown >= 0 if shown.ndim == 1 else np.ones(len(shown), bool)
            labels[view.rows] = shown
        else:
            stays = right_rows(shown, view.labels)
            several = view.dataset.several
            labels[view.rows] = np.where(view.labels < 0, view.labels, shown) if several else shown
        return View(replace(view.dataset, labels=labels), view.rows[stays])


def base_decisions(job: Job) -> BaseDecisions | None:
    """One pass of the base over each list; None without any.

    Raises DataError where two samples contradict each other.
    """
    listed = job.splits.listed
    if not listed:
        return None
    none = np.empty((0, job.subject.classes) if job.head.several else 0, np.int64)
    found: dict[str, list[np.ndarray]] = {role: [none] for role in listed}
    must = None if "must" not in listed else _MustSamples(listed["must"], _places(listed["must"]), [])
    for role, view in listed.items():
        for part, shown in decided_by(job, job.subject, view, f"base: {role}"):
            found[role].append(shown.classes)
            if role == "must" and must is not None:
                must.Z.append(shown.Z)
            elif role == "lock" and must is not None:
                must.require_agreement(part, shown.Z)
    return BaseDecisions({role: np.concatenate(parts) for role, parts in found.items()})


def right_rows(shown: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Which samples are right, (N,) bool; with several labels at once, on all that are known.

    shown, labels (N,) int64 : classes; or (N, C), marks.
    """
    right: np.ndarray = shown == labels
    if right.ndim == 2:
        right = np.asarray((right | (labels < 0)).all(axis=1))
    return right


def _contradictory(view: View, one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Where labels, of one sample each or of (N,), contradict each other; what is not known does not."""
    differ = (one != other) & (one >= 0) & (other >= 0)
    return np.asarray(differ.any(axis=-1) if view.dataset.several else differ)


def decided_by(job: Job, subject: Subject, view: View, what: str) -> Iterator[tuple[View, ShownClasses]]:
    """Parts of a view and what the model shows of them; so many samples at a time that memory holds it."""
    each = max(table_room(job.engine.settings.memory, job.engine.reserved_bytes) // (16 * subject.classes), 1)
    for start in range(0, len(view), each):
        part = replace(view, rows=view.rows[start : start + each])
        yield part, shown_pass(subject, part, job.engine, what)


def contents(view: View) -> list[bytes]:
    """A digest of the inputs of each sample; at positions, with the position behind it."""
    if view.dataset.sizes:
        of, place = np.divmod(view.rows, view.dataset.positions)
        samples = dict(zip(view.samples.tolist(), _digests(view.dataset, view.samples), strict=True))
        return [samples[k] + p.to_bytes(8) for k, p in zip(of.tolist(), place.tolist(), strict=True)]
    return _digests(view.dataset, view.rows)


def located(view: View, k: int) -> str:
    """How a message names sample k of a view, or its position."""
    row, place = divmod(int(view.rows[k]), view.dataset.positions)
    return view.dataset.place(row) + (f", position {place}" if view.dataset.sizes else "")


def _digests(dataset: Dataset, samples: np.ndarray) -> list[bytes]:
    """A digest of the inputs of each of some samples (n,) int64."""
    found = []
    for feeds, _, chunk in dataset.batches(samples, 256):
        for k in range(len(chunk)):
            digest = sha256()
            for name in sorted(feeds):
                value = feeds[name][k]
                digest.update(repr(value.tolist()).encode() if value.dtype.kind == "O" else value.tobytes())
            found.append(digest.digest())
    return found


def _places(must: View) -> dict[bytes, int]:
    """Each must-sample by its contents. Raises DataError for two that are identical but for their labels."""
    first: dict[bytes, int] = {}
    labels = must.labels
    for k, content in enumerate(contents(must)):
        other = first.setdefault(content, k)
        if _contradictory(must, labels[other], labels[k]):
            _contradict("two must-samples are identical but for their labels", (must, other), (must, k))
    return first


@dataclass(frozen=True, eq=False)
class _MustSamples:
    """Must-samples, by their contents, and their logits, (n, C) each."""

    view: View
    places: Mapping[bytes, int]
    Z: list[np.ndarray]

    def require_agreement(self, lock: View, Z: np.ndarray) -> None:
        """Raise DataError for one that is a lock-sample with another label. Z (n, C) : of lock-samples.

        Identical samples have nearly the same logits: only those that do are read again.
        """
        labels, of_lock = self.view.labels, lock.labels
        near = replace(lock, rows=lock.rows[self._near(Z, of_lock)])
        for k, content in enumerate(contents(near)):
            m = self.places.get(content)
            if m is not None and _contradictory(lock, labels[m], near.labels[k]):
                what = "a must-sample is a lock-sample too, with another label"
                _contradict(what, (self.view, m), (near, k))

    def _near(self, Z: np.ndarray, of_lock: np.ndarray) -> np.ndarray:
        """Lock-samples, ascending, with the logits Z (n, C) of a must-sample that has another label."""
        own, labels = np.concatenate(self.Z), self.view.labels
        way = np.cos(np.arange(Z.shape[1]) + 1.0)  # any direction in which logits differ
        along, others = np.nan_to_num(own @ way), np.nan_to_num(Z @ way)
        order = np.argsort(along)
        near = _SAME * max(1.0, float(np.abs(along).max(initial=0.0)))
        first = np.searchsorted(along[order], others - near, "left")
        pairs = np.searchsorted(along[order], others + near, "right") - first
        found = []
        ends = np.searchsorted(np.cumsum(pairs), np.arange(_PAIRS, pairs.sum() + _PAIRS, _PAIRS), "right")
        for start, end in zip((0, *ends), ends, strict=False):
            k = np.repeat(np.arange(start, end), pairs[start:end])
            m = order[first[k] + _counted_up(pairs[start:end])]
            other = _contradictory(self.view, labels[m], of_lock[k])
            k, m = k[other], m[other]
            found.append(k[(np.abs(own[m] - Z[k]) <= near + _SAME * np.abs(Z[k])).all(axis=1)])
        return np.unique(np.concatenate([np.empty(0, np.int64), *found]))


def _in_words(view: View, k: int) -> str:
    """The label of a sample, by its number; of several the labels that are marked."""
    label = view.labels[k]
    return str(np.flatnonzero(label == 1).tolist()) if view.dataset.several else str(label)


def _counted_up(counts: np.ndarray) -> np.ndarray:
    """0, 1, ... counts[0] - 1, 0, 1, ... counts[1] - 1, and so on."""
    return np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)


def _contradict(what: str, *places: tuple[View, int]) -> None:
    said = [f"{located(view, k)} is {_in_words(view, k)}" for view, k in places]
    raise DataError(what, where="; ".join(said), hint="take one of them off its list, or correct its label")
