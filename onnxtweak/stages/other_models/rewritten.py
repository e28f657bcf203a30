"""Does a file that another tool made of a tweaked one decide as it does? And is the gain still there?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from onnxtweak.engine.answer.shown import shown_pass
from onnxtweak.engine.subject import Subject
from onnxtweak.other_answers import Rewritten
from onnxtweak.quantities import number_of
from onnxtweak.stages.head_check import require_no_boxes
from onnxtweak.stages.open_job import Job, model_ref
from onnxtweak.stages.other_models.open_other import open_other
from onnxtweak.types import Check

# The share of what the tweak changed, and of what it gained, that has to be left.
_KEPT = 0.9
# The share of the decisions that the tweak changed that has to stay where labels show that the gain did:
# rounding turns those that were close, but not most of them.
_MOST = 0.5
# Standard errors of the difference by which a gain may be missed: of a small one a sample or two is a tenth.
_CHANCE = 1.0


@dataclass(frozen=True, eq=False)
class _Answers:
    """What the base, the tweaked file and the rewritten one decide, each (N,) int64, and labels if any.

    Of several labels at once, the marks of those that are known, one after the other.
    """

    base: np.ndarray
    tweaked: np.ndarray
    rewritten: np.ndarray
    labels: np.ndarray | None

    def accuracy(self, rows: np.ndarray) -> dict[str, float] | None:
        """Of each file, over some samples, (N,) bool; None without labels, or without such samples."""
        if self.labels is None or not rows.any():
            return None
        each = {"base": self.base, "tweaked": self.tweaked, "rewritten": self.rewritten}
        return {name: float((found == self.labels)[rows].mean()) for name, found in each.items()}


def compare_rewritten(
    job: Job, base: Subject, path: str, targets: tuple[int, ...]
) -> tuple[Rewritten, tuple[Check, ...]]:
    """What became of the decisions of the job's model, which is tweaked, in the file at `path`.

    base : the model without its tweaks. targets : classes that the last tweak was made for. Raises ModelError
    where the file takes other samples, or has other classes.
    """
    require_no_boxes(job.subject, "comparing a rewritten file")
    other = open_other(job, path, "rewritten file")
    view, engine = job.splits.fit, job.engine
    shown = {
        "base": shown_pass(base, view, engine, "base"),
        "tweaked": shown_pass(job.subject, view, engine, "tweaked"),
        "rewritten": other.shown(view, "rewritten"),
    }
    labelled = view.dataset.labelled
    labels, number = view.labels if labelled else None, view.labels
    several = job.head.several
    known = np.ones(shown["base"].classes.shape, bool)
    if several:
        known = known if labels is None else labels >= 0
        number = np.nonzero(known)[1]
    base_classes, tweaked, rewritten = (each.classes[known] for each in shown.values())
    answers = _Answers(base_classes, tweaked, rewritten, None if labels is None else labels[known])
    changed, same = answers.base != answers.tweaked, answers.tweaked == answers.rewritten
    all_rows = np.ones(len(changed), bool)
    own = np.isin(number, targets) if labelled else ~all_rows
    found = Rewritten(
        tweaked=model_ref(job.opened.model),
        samples=len(view),
        same=float(same.mean()),
        largest=_apart(shown["tweaked"].Z, shown["rewritten"].Z, several=several),
        changed=int(changed.sum()),
        kept=int((changed & same).sum()),
        accuracy=answers.accuracy(all_rows),
        targets=answers.accuracy(own) if not own.all() else None,
    )
    counted = f"{len(changed):,} {job.subject.unit}"
    return found, tuple(_checks(found, answers, {"overall": all_rows, "targets": own}, counted))


def _apart(one: np.ndarray, other: np.ndarray, *, several: bool) -> float:
    """The largest difference of logits (N, C) less their mean over the classes, of the largest of `one`.

    several : whether each decides for itself, so that their mean does too.
    """
    wide = [Z.astype(np.float64) for Z in (one, other)]
    wide = wide if several else [Z - Z.mean(axis=1, keepdims=True) for Z in wide]
    found = np.abs(wide[0] - wide[1]).max(initial=0.0) / max(float(np.abs(wide[0]).max(initial=0.0)), 1e-300)
    return float(found)


def _checks(
    found: Rewritten, answers: _Answers, rows: Mapping[str, np.ndarray], counted: str
) -> Iterator[Check]:
    """With labels the gain decides, if most of what the tweak changed stays; without, nearly all of it.

    counted : what is decided, and how often, in words.
    """
    share = found.kept / found.changed if found.changed else 1.0
    said = (
        f"the same on {found.same:.2%} of {counted}, logits within {found.largest:.1g} of the "
        f"largest; of {number_of(found.changed, 'decision')} that the tweak changed, {found.kept:,} stay"
    )
    yield Check("decisions", share >= (_KEPT if answers.labels is None else _MOST), said)
    if answers.labels is None:
        return
    passed, details = True, []
    for name, accuracy in (("overall", found.accuracy), ("targets", found.targets)):
        if accuracy is None:
            continue
        gained, left = (accuracy[key] - accuracy["base"] for key in ("tweaked", "rewritten"))
        allowed = max((1 - _KEPT) * max(gained, 0.0), _CHANCE * _error(answers, rows[name]))
        passed = passed and gained - left <= allowed
        details.append(f"{name} {gained * 100:+.1f} points by the tweak, {left * 100:+.1f} are left")
    yield Check("gain", passed, "; ".join(details))


def _error(answers: _Answers, rows: np.ndarray) -> float:
    """The standard error of the difference of accuracy between tweaked and rewritten file, paired."""
    labels = answers.labels
    assert labels is not None  # only then is there an accuracy
    change = (answers.rewritten == labels)[rows].astype(np.float64) - (answers.tweaked == labels)[rows]
    return float(change.std() / np.sqrt(len(change)))
