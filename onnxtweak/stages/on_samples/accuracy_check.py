"""Is a tweaked file still as accurate as when it was made? Its record holds the result on validation samples.

On the same samples the counts must come out again. On others, accuracy must not fall against the file without
its last tweak by more than was allowed, or by more than it fell on validation, and 3 standard errors: of the
drop on these samples, paired, or of the difference between the two drops. Several decisions on one sample, on
its positions or labels, go wrong together: their errors are counted by sample.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from onnxtweak.data.splits import View
from onnxtweak.engine.machine.large_arrays import by_rows
from onnxtweak.engine.subject import Subject
from onnxtweak.goal import ResolvedGoal
from onnxtweak.method.metrics import fixed_and_broken
from onnxtweak.model.file.tweak_metadata import TweakInside
from onnxtweak.stages.on_samples.simulation_check import ties
from onnxtweak.types import Check, Unchecked

_STANDARD_ERRORS = 3
_NAME = "accuracy"


@dataclass(frozen=True)
class _Counts:
    """Decisions, how many were right before, and how many were fixed and broken since.

    together : the variance of the drop, as a multiple of that of decisions that do not depend on each other.
    """

    samples: int
    right: int
    fixed: int
    broken: int
    together: float = 1.0

    @classmethod
    def of(cls, before: np.ndarray, after: np.ndarray, samples: np.ndarray | None = None) -> _Counts:
        """before, after (M,) bool : which decisions are right. samples (M,) : of each; None: its own."""
        alone = cls(len(before), int(before.sum()), *fixed_and_broken(before, after))
        if samples is None or not alone.variance:
            return alone
        _, which, sizes = np.unique(samples, return_inverse=True, return_counts=True)
        lost = np.bincount(which, before.astype(float) - after) - alone.drop * sizes
        few = len(sizes) / max(len(sizes) - 1, 1)
        variance = few * float(lost @ lost) / alone.samples**2
        return replace(alone, together=max(variance / alone.variance, 1.0))

    @property
    def plain(self) -> list[int]:
        return [self.samples, self.right, self.fixed, self.broken]

    @property
    def now(self) -> int:
        return self.right + self.fixed - self.broken

    @property
    def drop(self) -> float:
        """Share of the samples that was lost; negative where it was gained."""
        return (self.broken - self.fixed) / self.samples

    @property
    def variance(self) -> float:
        """Of `drop`."""
        return self.together * ((self.fixed + self.broken) / self.samples - self.drop**2) / self.samples

    def __str__(self) -> str:
        return f"{self.right / self.samples * 100:.1f} -> {self.now / self.samples * 100:.1f} %"


def recorded_result(
    validation: View, base: np.ndarray, tweaked: np.ndarray, goal: ResolvedGoal
) -> dict[str, Any]:
    """What the provenance says about validation samples, for `check_accuracy` to compare with.

    base, tweaked (N, C) : their logits without and with the tweak, from tables.
    """
    head, labels = goal.head, validation.labels
    before, after = (head.decisions(by_rows(head.predict, Z), labels) for Z in (base, tweaked))
    targets = {}
    for number in goal.targets.tolist():
        own = before.number == number
        targets[str(number)] = _Counts.of(before.right[own], after.right[own]).plain
    return {
        "data_sha256": validation.digest,
        "all": _Counts.of(before.right, after.right).plain,
        "targets": targets,
        "max_overall_drop": float(goal.max_overall_drop) if math.isfinite(goal.max_overall_drop) else 100.0,
    }


def recorded_targets(provenance: Mapping[str, Any]) -> tuple[int, ...]:
    """The classes that a tweak was made for, by its provenance; none where that does not say."""
    record = _record(provenance)
    return () if record is None else record.targets


def check_accuracy(
    inside: TweakInside, view: View, file: Subject, logits: tuple[np.ndarray, np.ndarray]
) -> Check | Unchecked:
    """The accuracy of a file on `view` against what was recorded.

    logits : two (N, C), of the file without its last tweak and of the file itself.
    """
    head, dtype = file.head, file.dtype
    record = _record(inside.provenance)
    if record is None:
        return Unchecked(_NAME, "the record holds no result: an older version wrote it, or it is a slot's")
    if inside.kind == "match":
        return Unchecked(
            _NAME,
            "what was recorded is agreement with a reference, which is not at hand here: `match COPY"
            " --reference MODEL -d DATA` measures it",
        )
    if inside.scale != 1:
        return Unchecked(_NAME, f"the result was recorded at scale 1, the tweak has scale {inside.scale:g}")
    if (several := bool(inside.provenance.get("several_labels"))) != head.several:
        kinds = "several labels at once", "one class for each sample"
        then, now = kinds if several else reversed(kinds)
        return Unchecked(_NAME, f"the tweak was learnt from samples with {then}, and these have {now}")
    before, after = (head.decisions(by_rows(head.predict, Z), view.labels) for Z in logits)
    of = None
    if head.several or view.dataset.sizes:
        of = view.rows[before.of] // view.dataset.positions

    def counted(own: np.ndarray) -> _Counts:
        return _Counts.of(before.right[own], after.right[own], None if of is None else of[own])

    every = np.ones(len(before.right), bool)
    found = {"overall": (counted(every), record.all, record.max_overall_drop / 100)}
    own = np.isin(before.number, record.targets)
    if own.any() and not own.all():
        found["targets"] = (counted(own), record.pooled, 0.0)
    if record.data_sha256 == view.digest:
        return _check_same(found, (ties(head, logits[0], dtype), ties(head, logits[1], dtype)))
    return _check_similar(found, "decisions on labels" if head.several else file.rows)


def _check_same(found: Mapping[str, tuple[_Counts, _Counts, float]], close: tuple[int, int]) -> Check:
    """The recorded samples. found : counts and those recorded. close : decisions that rounding may change."""
    passed, details = True, []
    for name, (now, then, _) in found.items():
        differ = abs(now.right - then.right), abs(now.now - then.now)
        passed = passed and now.samples == then.samples and differ[0] <= close[0] and differ[1] <= close[1]
        details.append(
            f"{name} {now.right} -> {now.now} of {now.samples}, recorded {then.right} -> {then.now}"
        )
    return Check(_NAME, passed, f"right on the recorded validation samples: {'; '.join(details)}")


def _check_similar(found: Mapping[str, tuple[_Counts, _Counts, float]], unit: str) -> Check:
    """Other samples. found : counts, those recorded, and the share that may be lost; overall, of targets.

    unit : what is counted.
    """
    passed, details = True, []
    for name, (now, then, limit) in found.items():
        allowed = max(
            limit + _STANDARD_ERRORS * math.sqrt(now.variance),
            then.drop + _STANDARD_ERRORS * math.sqrt(now.variance + now.together * then.variance),
        )
        passed = passed and now.drop <= allowed
        least = max(now.right / now.samples - allowed, 0.0) * 100
        details.append(f"{name} {now}, expected at least {least:.1f} % (validation: {then})")
    return Check(_NAME, passed, f"on {found['overall'][0].samples:,} {unit} {'; '.join(details)}")


@dataclass(frozen=True)
class _Record:
    """A recorded result. all, pooled : counts over all samples, and over those of the target classes."""

    data_sha256: str
    all: _Counts
    pooled: _Counts
    targets: tuple[int, ...]
    max_overall_drop: float


def _record(provenance: Mapping[str, Any]) -> _Record | None:
    """The result in a provenance; None where there is none that makes sense."""
    try:
        read = provenance["validation"]
        each = {int(number): list(map(int, counts)) for number, counts in read["targets"].items()}
        pooled = _Counts(*np.sum([*each.values(), [0] * 4], axis=0).tolist())
        counts = _Counts(*map(int, read["all"]))
        drop = float(read["max_overall_drop"])
        sound = counts.samples > 0 and pooled.samples > 0 and math.isfinite(drop)
        return _Record(str(read["data_sha256"]), counts, pooled, tuple(each), drop) if sound else None
    except (LookupError, TypeError, ValueError, AttributeError, OverflowError):
        return None
