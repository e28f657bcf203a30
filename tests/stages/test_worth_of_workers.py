"""A job whose workers took longer to start than to do what they were for says so."""

from contextlib import contextmanager
from types import SimpleNamespace

import pytest

from onnxtweak.engine.workers import processes
from onnxtweak.engine.workers.processes import Crew
from onnxtweak.settings import EngineSettings
from onnxtweak.stages.deliver import _on_workers


@pytest.mark.parametrize(
    ("asked", "starting", "working", "told"),
    [
        ({"workers": 2}, 9.0, 4.0, True),
        ({"workers": 2}, 4.0, 9.0, False),
        ({"scheduler": "tcp://head:8786"}, 9.0, 4.0, False),  # they run already
        ({}, 0.0, 0.0, False),
    ],
)
def test_workers_that_were_not_worth_their_start(monkeypatch, asked, starting, working, told):
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(processes, "time", SimpleNamespace(perf_counter=lambda: clock.now))

    @contextmanager
    def started(settings):
        clock.now += starting
        yield processes.Workers(of=None)

    monkeypatch.setattr(processes, "open_workers", started)
    settings = EngineSettings(**asked)
    crew = Crew(settings)
    for _ in range(2 if asked else 0):
        with crew.at_work():
            clock.now += working / 2
    notes = _on_workers(SimpleNamespace(engine=SimpleNamespace(crew=crew, settings=settings)))
    assert bool(notes) == told
    assert not told or ("9.0 s" in notes[0] and "4.0 s" in notes[0] and "without --workers" in notes[0])
