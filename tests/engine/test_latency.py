"""Latency of a tweaked model against its base."""

from __future__ import annotations

import numpy as np

from onnxtweak.engine import latency
from onnxtweak.engine.latency import paired_latency
from onnxtweak.engine.opened import open_model
from onnxtweak.engine.subject import measured
from onnxtweak.settings import EngineSettings, TapSettings
from tests.support.nets import mlp, random_inputs


def test_a_model_against_itself_once_memory_is_free(tmp_path, monkeypatch):
    steps, opening = [], latency.open_session
    monkeypatch.setattr(latency, "malloc_trim", lambda: steps.append("freed"))
    monkeypatch.setattr(latency, "open_session", lambda *how: (steps.append("open"), opening(*how))[1])
    proto = mlp()
    (tmp_path / "m.onnx").write_bytes(proto.SerializeToString())
    opened = open_model(tmp_path / "m.onnx", TapSettings())
    feeds = random_inputs(proto, 3, 0)
    subject, _ = measured(opened, (), feeds, EngineSettings())
    found = paired_latency(subject, subject, feeds)
    assert found.before > 0 and found.after > 0
    assert found.turns >= 7
    assert np.isfinite(found.increase) and steps == ["freed", "open", "open"]
