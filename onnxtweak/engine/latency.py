"""How much latency does a tweak add to its base? Both run in turns: what disturbs one disturbs both."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from onnx import ModelProto

from onnxtweak.engine.machine.malloc_trim import malloc_trim
from onnxtweak.engine.session import Session, open_session
from onnxtweak.engine.subject import Subject
from onnxtweak.errors import DataError
from onnxtweak.settings import EngineSettings

_SECONDS = 0.4  # of one measurement, about
_FEWEST, _MOST = 7, 400  # turns
_WARM_UP = 3


@dataclass(frozen=True)
class Latency:
    """Of one sample on one CPU thread. before, after : medians in microseconds.

    increase : median over the turns of (tweaked - base), in percent of the base's median.
    """

    before: float
    after: float
    increase: float
    turns: int


def paired_latency(base: Subject, tweaked: Subject, feeds: Mapping[str, np.ndarray]) -> Latency:
    """Time single samples (a whole batch where the batch size is fixed) on one CPU thread.

    feeds : at least one sample by input name. Raises ModelError when a model does not load.
    """
    malloc_trim()  # two sessions with stores of their own take the most memory where samples are large
    size = base.batch or 1
    samples = {name: rows[:size] for name, rows in feeds.items()}
    try:
        turns = [_warmed(subject, subject.model.data, samples) for subject in (base, tweaked)]
    except DataError:  # another output does not run on what its inputs were filled with
        turns = [_warmed(subject, subject.exposed().proto, samples) for subject in (base, tweaked)]
    times: list[tuple[float, float]] = []
    begin = time.perf_counter()
    while len(times) < _FEWEST or (len(times) < _MOST and time.perf_counter() - begin < _SECONDS):
        first, second = (0, 1) if len(times) % 2 == 0 else (1, 0)
        seconds = {each: _timed(*turns[each]) for each in (first, second)}
        times.append((seconds[0], seconds[1]))
    before, after = np.array(times).T
    median = float(np.median(before))
    return Latency(
        before=median * 1e6,
        after=float(np.median(after)) * 1e6,
        increase=float(np.median(after - before)) / median * 100,
        turns=len(times),
    )


def _warmed(
    subject: Subject, model: ModelProto | bytes, samples: Mapping[str, np.ndarray]
) -> tuple[Session, dict[str, np.ndarray]]:
    """A session that has run, and what it takes."""
    settings = EngineSettings(device="cpu", threads=1)
    session = open_session(model, subject.model.folder, settings, subject.model.path)
    fed = subject.feeding.filled(session, samples)
    for _ in range(_WARM_UP):
        session.run(fed)
    return session, fed


def _timed(session: Session, feeds: Mapping[str, np.ndarray]) -> float:
    begin = time.perf_counter()
    session.run(feeds)
    return time.perf_counter() - begin
