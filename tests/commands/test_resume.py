"""A run that is killed after whatever it has saved goes on from there, and writes the same bytes."""

from __future__ import annotations

import os

import onnx
import pytest

from onnxtweak import commands
from onnxtweak.engine.scoring import checkpoint
from onnxtweak.method.fit import mlp
from onnxtweak.settings import (
    AugmentSettings,
    DataSettings,
    EngineSettings,
    FitSettings,
    JoinSettings,
    MatchSettings,
    OutputSettings,
    TargetSettings,
)
from onnxtweak.stages import choose_neurons, gather, score
from tests.support.rounded import rounded
from tests.support.weak_class import TARGET, carry_out

SCREENED = FitSettings(neurons=6, hidden=0, folds=3)
# The command, its settings, and the kinds of files that it saves.
JOBS = {
    "fit": (commands.fit, {"settings": SCREENED}, {"screen", "made", "table"}),
    "fit with an MLP": (commands.fit, {"settings": FitSettings(neurons=6, hidden=2)}, {"made"}),
    "augment": (commands.augment, {"settings": AugmentSettings(neurons=9, iterations=20)}, {"made"}),
    "match": (commands.match, {"settings": MatchSettings("reference.onnx", neurons=6)}, {"made"}),
    "retrain": (
        commands.retrain,
        {"join": JoinSettings(count=(1, 2)), "targets": TargetSettings(("0", str(TARGET)))},
        {"half", "score", "table", "made"},
    ),
}


class Killed(BaseException):
    """What ends a run, wherever it is."""


@pytest.fixture
def saved(monkeypatch):
    """The names of files as they are saved; where the last one was new, the run ends."""
    names, plain = [], checkpoint.save_arrays

    def save(path, arrays):
        plain(path, arrays)
        names.append(path.name)
        if names.count(path.name) == 1 or path.name.startswith("screen"):
            raise Killed

    for module in (checkpoint, choose_neurons, gather, score):
        monkeypatch.setattr(module, "save_arrays", save)
    monkeypatch.setattr(checkpoint, "_LONG", 0)  # everything is kept
    monkeypatch.setattr(checkpoint, "_RARITY", 0)
    monkeypatch.setattr(mlp, "DECAYS", (1.0,))
    monkeypatch.setattr(mlp, "AT_ONCE", 1)  # so that the one that ends a run is the last
    return names


@pytest.mark.parametrize("job", JOBS)
def test_killed_after_whatever_was_saved(job, cnn, tmp_path, saved, monkeypatch):
    command, changes, kinds = JOBS[job]
    model, data = cnn
    monkeypatch.chdir(tmp_path)
    if command is commands.match:
        os.link(model, "reference.onnx")
        onnx.save(rounded(onnx.load(model), 4), "model.onnx")
        model = "model.onnx"

    def run(written, engine):
        if "targets" in changes or command is commands.fit:
            return carry_out(command, model, data, written, engine=engine, **changes)
        samples, output = DataSettings((str(data),)), OutputSettings(str(written))
        return command(model=str(model), data=samples, engine=engine, output=output, **changes)

    engine = EngineSettings(backend="numpy", threads=1, shard=150)
    run(tmp_path / "whole.onnx", engine)
    assert not saved
    engine = EngineSettings(
        backend="numpy", threads=1, shard=150, work_dir=str(tmp_path / "work"), resume=True
    )
    for _ in range(60):
        try:
            resumed = run(tmp_path / "resumed.onnx", engine)
            break
        except Killed:
            assert not (tmp_path / "resumed.onnx").exists()
    assert kinds <= {name.partition("-")[0] for name in saved}
    assert (tmp_path / "resumed.onnx").read_bytes() == (tmp_path / "whole.onnx").read_bytes()
    passes = dict(resumed.run.passes)
    assert not {"screen", "base", "score", "collect"} & {name for name, samples in passes.items() if samples}
    assert all(saved.count(name) == 1 for name in saved if name.startswith(("made", "table")))
