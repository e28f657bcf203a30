"""Large models show that they are being started; the others do so without a word."""

from __future__ import annotations

import time

from onnxtweak import commands, types
from onnxtweak.engine import opened as starting
from onnxtweak.settings import DataSettings, EngineSettings, TargetSettings
from tests.support.weak_class import TARGET, weak_cnn


class Told:
    """What progress is told of, by what it is about."""

    def __init__(self):
        self.told: list[tuple] = []

    def start(self, what, total, unit="samples"):
        self.told.append((what, total, unit))

    def advance(self, count):
        self.told.append((count,))

    def finish(self):
        self.told.append(("end",))

    def reuse(self, what): ...

    def remake(self, what): ...


def test_of_many_nodes_time_is_shown(monkeypatch):
    class Opened:
        class model:
            class graph:
                nodes = range(50_000)

    monkeypatch.setattr(types, "_TICK", 0.01)
    told = Told()
    with starting.starting(Opened, "start the model", told):
        until = time.monotonic() + 300
        while told.told.count((0,)) < 4 and time.monotonic() < until:
            time.sleep(0.01)
    assert told.told[0] == ("start the model", 0, "nodes")
    assert told.told[-2:] == [(50_000,), ("end",)] and told.told.count((0,)) > 3
    Opened.model.graph.nodes = range(100)
    told = Told()
    with starting.starting(Opened, "start the model", told):
        pass
    assert told.told == []


def test_a_job_shows_both_times_that_it_waits(tmp_path, monkeypatch):
    weak_cnn(tmp_path, n=120)
    monkeypatch.setattr(starting, "MANY_NODES", 1)
    told = Told()
    commands.join(
        model=str(tmp_path / "model.onnx"),
        data=DataSettings((str(tmp_path / "data.npz"),)),
        targets=TargetSettings((str(TARGET),)),
        engine=EngineSettings(threads=1, backend="numpy"),
        progress=told,
    )
    started = [each[0] for each in told.told if len(each) == 3]
    assert started[:2] == ["start the model", "measure hidden tensors"]
