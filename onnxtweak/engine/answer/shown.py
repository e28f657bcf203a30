"""Which classes do a model's own outputs show?"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from onnxtweak.data.splits import View
from onnxtweak.engine.machine.large_arrays import by_rows, let_go, taken
from onnxtweak.engine.passes import Engine, plan_of
from onnxtweak.engine.position_batches import position_batches, shard_ends
from onnxtweak.engine.session import Session, session_of
from onnxtweak.engine.shared.kept_shards import kept_by_shards
from onnxtweak.engine.shared.logits import new_logits
from onnxtweak.engine.shared.shards import joined
from onnxtweak.engine.subject import Subject, filled
from onnxtweak.head import ONE_LABEL, ROUNDING, Head, by_sample
from onnxtweak.settings import EngineSettings

_AT_POSITIONS = 7  # further copies of scores at positions while a batch is compared
_CLEAR = 1e-3  # by which a score is ahead of the next for more than rounding


@dataclass(frozen=True)
class ShownClasses:
    """What a model's own output shows of N samples.

    Z (N, C) : scores. classes (N,) int64 : shown; -1 for none of the classes; or (N, C), a mark for each
    class, where several are shown at once. contradicted (N,) bool : whether another class is shown than that
    of the highest score, ties aside. numbers (N,) int64 : the same as `classes`, but for classes that stand
    for all others: there, which of these it is. head : how scores become decisions.
    """

    Z: np.ndarray
    classes: np.ndarray
    contradicted: np.ndarray
    numbers: np.ndarray
    head: Head = ONE_LABEL

    def some(self, chosen: np.ndarray) -> ShownClasses:
        """What is shown of some samples, in the given order."""
        Z, classes = taken(self.Z, chosen), self.classes[chosen]
        return ShownClasses(Z, classes, self.contradicted[chosen], self.numbers[chosen], self.head)

    @property
    def undecided(self) -> np.ndarray:
        """Samples whose output cannot tell the highest scores apart, (N,) bool."""
        predicted, margin = by_rows(self.head.predict, self.Z), by_rows(self.head.margin, self.Z)
        unlike = (predicted != self.classes) & (margin > _CLEAR)
        found: np.ndarray = unlike.reshape(len(unlike), -1).any(axis=1) & ~self.contradicted
        return found


def shown_pass(subject: Subject, view: View, engine: Engine, what: str) -> ShownClasses:
    """Scores, and the classes that the model's own output shows, of a view's samples.

    what : the pass's name in the progress and in the statistics.
    """
    count, C = len(view.rows), subject.classes
    classes = np.empty((count, C) if subject.head.several else count, np.int64)
    rest = subject.readout is not None and subject.readout.rest
    numbers = np.empty(count, np.int64) if rest else classes
    Z = new_logits(subject, count, engine)
    shown = ShownClasses(Z, classes, np.empty(count, bool), numbers, subject.head)
    at = 0
    for part in kept_by_shards(_shards, subject, view, engine, what, "shown"):
        span = slice(at, at + len(part[0]))
        shown.Z[span], shown.classes[span], shown.contradicted[span], *own = part
        let_go(Z[span])
        if rest:
            (numbers[span],) = own
        at = span.stop
    return shown


_Part = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def _shards(subject: Subject, view: View, engine: Engine, what: str) -> Iterator[tuple[np.ndarray, ...]]:
    """`ShownClasses` of each shard, as a tuple; `numbers` only where they are not the classes."""
    begin = time.perf_counter()
    session, logits = _open(subject, engine.settings, subject.maps, len(view.samples))
    parts = 4 if subject.readout is not None and subject.readout.rest else 3
    ends, done, batches = set(shard_ends(view, engine.settings.shard).tolist()), 0, []
    with engine.passing(what, len(view.samples), session, begin):
        for part, count in _parts(subject, view, engine, session, logits):
            engine.progress.advance(count)
            batches.append(part)
            done += len(part[0])
            if done in ends:
                yield joined(batches)[:parts]
                batches = []


def _parts(
    subject: Subject, view: View, engine: Engine, session: Session, logits: str
) -> Iterator[tuple[_Part, int]]:
    """`ShownClasses` of each batch, as a tuple, and how many samples it has."""
    # At positions scores are held several times: as computed, shown, laid out in rows and compared.
    columns = subject.logits_format.columns(subject.classes)
    more = _AT_POSITIONS * columns if subject.sizes else 0
    plan = plan_of(subject, engine, more, len(view.samples), session.device)
    names, threads = [port.name for port in session.inputs], engine.settings.cores
    every = engine.settings.shard
    if subject.sizes:
        for batch in position_batches(subject, view, plan, names, threads, every):
            found = _run(subject, session, logits, batch.feeds)
            batch.require(len(found[0]))
            Z, classes, wrong, numbers = (each[batch.local] for each in found)
            yield (Z, classes, wrong, numbers), batch.samples
        return
    for feeds, labels, _ in view.dataset.batches(view.rows, plan.batch, every, threads):
        count = len(labels)
        whole = {name: filled(value, plan.batch if plan.fixed else count) for name, value in feeds.items()}
        found = _run(subject, session, logits, subject.feeding.fed(whole, names))
        Z, classes, wrong, numbers = (each[:count] for each in found)
        yield (Z, classes, wrong, numbers), count


@dataclass(frozen=True)
class ShownCut:
    """What a number that a model of two classes shows has to exceed for class 1.

    what : the number, in words. now : the model's own cut. instead : another, which does what a bias would.
    """

    what: str
    now: float
    instead: float


def equivalent_cut(
    subject: Subject, view: View, Z: np.ndarray, bias: np.ndarray, settings: EngineSettings
) -> ShownCut | None:
    """Where the model's own output would have to be cut to decide on a view's samples as with biases (2,).

    Z (N, 2) : scores of the view's samples. It lies between what is shown for the two samples between which
    the biases put the cut; None where all lie on one side.
    """
    score = Z[:, 1].astype(np.float64) - Z[:, 0]
    wanted = float(bias[0] - bias[1])
    order = np.argsort(score, kind="stable")
    place = int(np.searchsorted(score[order], wanted, side="right"))
    answer = subject.answer
    if place in (0, len(score)):
        return None
    if answer is None or answer.kind in ("label", "map"):
        return ShownCut("its score for class 1, less that for class 0,", 0.0, wanted)
    session, _ = _open(subject, settings)
    shown = []
    for row in order[place - 1 : place + 1]:
        feeds, _, _ = next(view.dataset.batches(view.rows[[row]], 1))
        whole = {name: filled(value, subject.batch or 1) for name, value in feeds.items()}
        needed = subject.feeding.fed(whole, [port.name for port in session.inputs])
        value = by_sample(session.run(needed, [answer.output])[0], subject.batch or 1)
        shown.append(np.asarray(value[0], np.float64).reshape(-1))
    if answer.kind == "number":
        return ShownCut(f"its output '{answer.output}'", answer.cut, float(np.mean(shown)))
    ends = np.array(shown)
    if np.allclose(ends.sum(axis=1), 1, atol=1e-3) and ends.min() >= 0:
        return ShownCut(f"class 1 in its output '{answer.output}'", 0.5, float(ends[:, 1].mean()))
    what = f"class 1, less class 0, in its output '{answer.output}'"
    return ShownCut(what, 0.0, float((ends[:, 1] - ends[:, 0]).mean()))


def _open(
    subject: Subject, settings: EngineSettings, values: int = 0, samples: int = 1
) -> tuple[Session, str]:
    """A session that outputs scores and answer, and the name of the output with the scores.

    values, samples : as of `session_of`.
    """
    exposed = subject.exposed(answer=True)
    model, logits = exposed.proto.SerializeToString(), exposed.logits
    del exposed
    return session_of(subject.model, model, settings, values, samples), logits


def _run(subject: Subject, session: Session, logits: str, fed: Mapping[str, Any]) -> _Part:
    """`ShownClasses` of all rows of a batch, as a tuple. fed : what the session takes."""
    if subject.answer is None:
        Z = session.run(fed, [logits])[0].reshape(-1, subject.classes)
        classes = subject.head.predict(Z)
        return Z, classes, np.zeros(len(Z), bool), classes
    scores, value = session.run(fed, [logits, subject.answer.output])
    Z = scores.reshape(-1, subject.classes)
    if not subject.sizes:
        value = by_sample(value, len(Z))
    shown = subject.answer.shown(value)
    wrong = subject.answer.contradicts(Z, value, ROUNDING[subject.dtype])
    return Z, subject.answer.numbered(shown), wrong, shown
