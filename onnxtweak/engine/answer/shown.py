"""Which classes do a model's own outputs show?"""

from __future__ import annotations

import time
from collections.abc import Mapping

import numpy as np

from onnxtweak.data.splits import View
from onnxtweak.engine.passes import Engine, plan_of
from onnxtweak.engine.session import Session, open_session
from onnxtweak.engine.subject import Subject
from onnxtweak.settings import EngineSettings


def shown_classes(
    subject: Subject, feeds: Mapping[str, np.ndarray], settings: EngineSettings
) -> tuple[np.ndarray, np.ndarray]:
    """Scores Z (b, C) and the classes shown (b,) int64 for one batch."""
    session, logits = _open(subject, settings)
    return _run(subject, session, logits, feeds)


def shown_pass(subject: Subject, view: View, engine: Engine, what: str) -> tuple[np.ndarray, np.ndarray]:
    """Scores Z (N, C) of a view, and the classes (N,) int64 that the model's own output shows.

    what : the pass's name in the progress and in the statistics. -1 is shown for what is none of the classes.
    """
    begin = time.perf_counter()
    session, logits = _open(subject, engine.settings)
    engine.stats.device, engine.stats.providers = session.device, session.providers()
    plan = plan_of(subject, engine, 0, len(view.rows), session.device)
    wide = np.float64 if subject.dtype == "float64" else np.float32
    Z, shown = np.empty((len(view.rows), subject.classes), wide), np.empty(len(view.rows), np.int64)
    engine.progress.start(what, len(view.rows))
    at = 0
    for feeds, labels, _ in view.dataset.batches(view.rows, plan.batch, threads=engine.settings.cores):
        span = slice(at, at + len(labels))
        Z[span], shown[span] = _run(subject, session, logits, feeds, plan.batch if plan.fixed else None)
        engine.progress.advance(len(labels))
        at += len(labels)
    engine.progress.finish()
    engine.stats.passes.append((what, len(view.rows)))
    engine.stats.seconds[what] = engine.stats.seconds.get(what, 0.0) + time.perf_counter() - begin
    return Z, shown


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
) -> tuple[np.ndarray, np.ndarray]:
    """Scores (b, C) and classes (b,) for a batch; fixed : how many samples the model takes."""
    needed = {port.name: feeds[port.name] for port in session.inputs}
    count = len(next(iter(needed.values())))
    lack = -count % fixed if fixed else 0
    if lack:
        needed = {n: np.concatenate([v, np.repeat(v[-1:], lack, axis=0)]) for n, v in needed.items()}
    if subject.answer is None:
        Z = session.run(needed, [logits])[0].reshape(-1, subject.classes)[:count]
        return Z, subject.head.predict(Z)
    scores, value = session.run(needed, [logits, subject.answer.output])
    return scores.reshape(-1, subject.classes)[:count], subject.answer.classes(value)[:count]
