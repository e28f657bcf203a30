"""How much slower does a tweak make its base? Both run in turns, so that what disturbs one disturbs both."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from onnxtweak.engine.session import Session, open_session
from onnxtweak.engine.subject import Subject
from onnxtweak.settings import EngineSettings

_SECONDS = 0.4  # a measurement takes about this long, and at least so many turns
_FEWEST, _MOST = 7, 400
_WARM_UP = 3


@dataclass(frozen=True)
class Latency:
    """One sample, one CPU thread. before, after : medians in microseconds.

    increase : median over the turns of what the tweaked model took more than its base, in percent.
    """

    before: float
    after: float
    increase: float
    turns: int


def paired_latency(base: Subject, tweaked: Subject, feeds: Mapping[str, np.ndarray]) -> Latency:
    """Time single samples (the models' own batch where it is fixed) on one CPU thread.

    feeds : a batch of at least one sample by input name. Raises ModelError where a file does not load.
    """
    one = EngineSettings(device="cpu", threads=1)
    sessions = [
        open_session(subject.model.data, subject.model.folder, one, subject.model.path)
        for subject in (base, tweaked)
    ]
    size = base.batch or 1
    cut = {port.name: feeds[port.name][:size] for port in sessions[0].inputs}
    for session in sessions * _WARM_UP:
        session.run(cut)
    taken: list[tuple[float, float]] = []
    begin = time.perf_counter()
    while len(taken) < _FEWEST or (len(taken) < _MOST and time.perf_counter() - begin < _SECONDS):
        first, second = (0, 1) if len(taken) % 2 == 0 else (1, 0)
        seconds = {first: _timed(sessions[first], cut), second: _timed(sessions[second], cut)}
        taken.append((seconds[0], seconds[1]))
    before, after = np.array(taken).T
    middle = float(np.median(before))
    return Latency(
        before=middle * 1e6,
        after=float(np.median(after)) * 1e6,
        increase=float(np.median(after - before)) / middle * 100,
        turns=len(taken),
    )


def _timed(session: Session, feeds: Mapping[str, np.ndarray]) -> float:
    begin = time.perf_counter()
    session.run(feeds)
    return time.perf_counter() - begin
