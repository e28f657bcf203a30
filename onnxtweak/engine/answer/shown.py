"""Which classes do a model's own outputs show?"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from onnxtweak.data.splits import View
from onnxtweak.engine.passes import Engine, plan_of
from onnxtweak.engine.session import Session, open_session
from onnxtweak.engine.subject import Subject
from onnxtweak.head import ONE_LABEL, ROUNDING
from onnxtweak.settings import EngineSettings

_CLEAR = 1e-3  # by which a score is ahead of the next for more than rounding


@dataclass(frozen=True)
class ShownClasses:
    """What a model's own output shows of N samples.

    Z (N, C) : scores. classes (N,) int64 : shown; -1 for none of the classes. contradicted (N,) bool :
    whether another class is shown than that of the highest score, ties aside.
    """

    Z: np.ndarray
    classes: np.ndarray
    contradicted: np.ndarray

    @property
    def undecided(self) -> np.ndarray:
        """Samples whose output cannot tell the highest scores apart, (N,) bool."""
        clear: np.ndarray = ONE_LABEL.margin(self.Z) > _CLEAR
        return (ONE_LABEL.predict(self.Z) != self.classes) & ~self.contradicted & clear


def shown_pass(subject: Subject, view: View, engine: Engine, what: str) -> ShownClasses:
    """Scores, and the classes that the model's own output shows, of a view's samples.

    what : the pass's name in the progress and in the statistics.
    """
    begin = time.perf_counter()
    session, logits = _open(subject, engine.settings)
    engine.stats.device, engine.stats.providers = session.device, session.providers()
    plan = plan_of(subject, engine, 0, len(view.rows), session.device)
    wide = np.float64 if subject.dtype == "float64" else np.float32
    count = len(view.rows)
    shown = ShownClasses(
        np.empty((count, subject.classes), wide), np.empty(count, np.int64), np.empty(count, bool)
    )
    engine.progress.start(what, len(view.rows))
    at = 0
    for feeds, labels, _ in view.dataset.batches(view.rows, plan.batch, threads=engine.settings.cores):
        span = slice(at, at + len(labels))
        part = _run(subject, session, logits, feeds, plan.batch if plan.fixed else None)
        shown.Z[span], shown.classes[span], shown.contradicted[span] = part
        engine.progress.advance(len(labels))
        at += len(labels)
    engine.progress.finish()
    engine.stats.passes.append((what, len(view.rows)))
    engine.stats.seconds[what] = engine.stats.seconds.get(what, 0.0) + time.perf_counter() - begin
    return shown


def _open(subject: Subject, settings: EngineSettings) -> tuple[Session, str]:
    """A session that outputs scores and answer, and the name of the output with the scores."""
    exposed = subject.exposed(answer=True)
    model, logits = exposed.proto.SerializeToString(), exposed.logits
    del exposed
    return open_session(model, subject.model.folder, settings, subject.model.path), logits


def _run(
    subject: Subject,
    session: Session,
    logits: str,
    feeds: Mapping[str, np.ndarray],
    fixed: int | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """`ShownClasses` of a batch, as a tuple. fixed : how many samples the model takes at a time."""
    needed = {port.name: feeds[port.name] for port in session.inputs}
    count = len(next(iter(needed.values())))
    lack = -count % fixed if fixed else 0
    if lack:
        needed = {n: np.concatenate([v, np.repeat(v[-1:], lack, axis=0)]) for n, v in needed.items()}
    if subject.answer is None:
        Z = session.run(needed, [logits])[0].reshape(-1, subject.classes)[:count]
        return Z, subject.head.predict(Z), np.zeros(count, bool)
    scores, value = session.run(needed, [logits, subject.answer.output])
    Z, value = scores.reshape(-1, subject.classes)[:count], value[:count]
    wrong = subject.answer.contradicts(Z, value, ROUNDING[subject.dtype])
    return Z, subject.answer.classes(value), wrong
