"""What became of listed samples? Counted on the written file, and named where it is not what was asked."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ListedSample:
    """One of them. row : in the data. where : its place in its file. label : the class that it should be.

    before, after : classes that base and file show, by name. rivals : classes whose scores are not below that
    of its label in the file. picture : a PNG as a data URI.
    """

    row: int
    where: str
    label: str
    before: str
    after: str
    rivals: tuple[str, ...] = ()
    picture: str | None = None


@dataclass(frozen=True)
class MustOutcome:
    """Samples that had to become right.

    already_right : under the base. right : in the file. fixed : of these, how many the base gets wrong.
    infeasible : how many the file gets wrong. named : the first of these. shown : the first that were fixed.
    """

    samples: int
    already_right: int
    right: int
    fixed: int
    infeasible: int
    named: tuple[ListedSample, ...] = ()
    shown: tuple[ListedSample, ...] = ()


@dataclass(frozen=True)
class GuardOutcome:
    """Samples that had to stay.

    samples : how many. right : those that the base gets right, which count; of
    samples to keep all do. broken : of these, how many the file gets wrong, or decides otherwise. named : the
    first of them.
    """

    samples: int
    right: int
    broken: int
    named: tuple[ListedSample, ...] = ()


@dataclass(frozen=True)
class ListedOutcome:
    """All of them. must, lock, keep : None where there are none. form : of the patch for must-samples and
    lock-samples, in words; empty where there are none.

    held_out : what a linear patch did to samples held out, as shares: must-samples "fixed", samples that
    should stay "broken"; None where there were too few to tell. bias : what the best biases come to, "right"
    must-samples and guarded samples "broken", of those in the tables.
    """

    must: MustOutcome | None
    lock: GuardOutcome | None
    keep: GuardOutcome | None
    form: str
    held_out: dict[str, float] | None
    bias: dict[str, int] | None
