"""A run that is killed after whatever it has saved goes on from there, and writes the same bytes."""

from __future__ import annotations

import os
from dataclasses import replace

import numpy as np
import onnx
import pytest

from onnxtweak import commands
from onnxtweak.engine.kept import kept_results, saved_arrays
from onnxtweak.engine.scoring import checkpoint
from onnxtweak.engine.shared import kept_shards
from onnxtweak.method.fit import fit, metric_judge, trainings
from onnxtweak.method.fit.several import hidden
from onnxtweak.method.tuning import bias_control, by_head
from onnxtweak.settings import (
    AugmentSettings,
    DataSettings,
    EngineSettings,
    FitSettings,
    JoinSettings,
    MatchSettings,
    OutputSettings,
    RetrainSettings,
    TargetSettings,
)
from onnxtweak.stages import score
from onnxtweak.stages.lists import make_right
from tests.support.rounded import rounded
from tests.support.weak_class import TARGET, carry_out, more_samples

SCREENED = FitSettings(neurons=6, hidden=0, folds=3)
# The command, its settings, and the kinds of files that it saves.
JOBS = {
    "fit": (commands.fit, {"settings": SCREENED}, {"screen", "made", "pass"}),
    "fit with an MLP": (commands.fit, {"settings": FitSettings(neurons=6, hidden=2)}, {"made"}),
    "fit within a budget": (commands.fit, {"settings": FitSettings(neurons=6, budget=12, folds=3)}, {"made"}),
    "fit with few synapses": (commands.fit, {"settings": FitSettings(neurons=6, synapses=2)}, {"made"}),
    "fit of listed samples": (
        commands.fit,
        {
            "settings": FitSettings(neurons=6),
            "data": DataSettings(must=("must.npz",), lock=("lock.npz",)),
            "targets": TargetSettings(),
        },
        {"pass", "made"},
    ),
    "retrain by a schedule": (
        commands.retrain,
        {
            "join": JoinSettings(count=(1, 2)),
            "settings": RetrainSettings(schedule="J2 R2 J1"),
            "targets": TargetSettings(("0", str(TARGET))),
        },
        {"made"},
    ),
    "augment": (commands.augment, {"settings": AugmentSettings(neurons=9, iterations=20)}, {"made"}),
    "fit for a metric": (
        commands.fit,
        {"settings": FitSettings(neurons=6, hidden=0, folds=2, metric="f1"), "targets": TargetSettings()},
        {"made"},
    ),
    "fit of a slice": (
        commands.fit,
        {
            "settings": FitSettings(neurons=6, hidden=0, folds=2, slice="even=1"),
            "data": DataSettings(("even.npz",)),
            "targets": TargetSettings(),
        },
        {"made"},
    ),
    "join": (
        commands.join,
        {"settings": JoinSettings(count=(1, 2)), "targets": TargetSettings((str(TARGET),))},
        {"score", "pass", "made"},
    ),
    "match": (commands.match, {"settings": MatchSettings("reference.onnx", neurons=6)}, {"made"}),
    "retrain": (
        commands.retrain,
        {"join": JoinSettings(count=(1, 2)), "targets": TargetSettings(("0", str(TARGET)))},
        {"half", "score", "pass", "made"},
    ),
}


# Saves of each kind after which a run ends: others cost more time than they tell.
ENDED = {1, 2, 6, 18, 54}


# What sets biases and operating points: what it found is kept as well.
BIASES = (
    (fit, "set_target_bias"),
    (bias_control, "_overall_bias"),
    (metric_judge, "tune"),
    (by_head, "choose_rising"),
    (by_head, "best_bias"),
)


class Killed(BaseException):
    """What ends a run, wherever it is."""


@pytest.fixture
def saved(monkeypatch):
    """The names of files as they are saved; after the first of each kind, and some later, the run ends."""
    names, plain = [], saved_arrays.save_arrays

    def save(path, arrays):
        plain(path, arrays)
        names.append(path.name)
        kind, _, _ = path.name.partition("-")
        known = sum(name.startswith(kind) for name in names)
        if kind == "screen" or known in ENDED:
            raise Killed

    for module in (checkpoint, kept_results, kept_shards, score):
        monkeypatch.setattr(module, "save_arrays", save)
    monkeypatch.setattr(kept_results, "_LONG", 0)  # everything is kept
    monkeypatch.setattr(kept_results, "_RARITY", 0)
    monkeypatch.setattr(hidden, "DECAYS", (1.0,))
    monkeypatch.setattr(trainings, "AT_ONCE", 1)  # so that the one that ends a run is the last
    return names


@pytest.mark.parametrize("job", JOBS)
def test_killed_after_whatever_was_saved(job, cnn, tmp_path, saved, monkeypatch):
    command, changes, kinds = JOBS[job]
    model, data = cnn
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(make_right, "_FIRST", 20)  # so that there are passes over the others
    x, y = more_samples(model, 60, seed=5)
    np.savez("must.npz", x=x[:4], y=(y[:4] + 1) % 4)
    np.savez("lock.npz", x=x[4:], y=y[4:])
    with np.load(data) as held:
        np.savez("even.npz", **held, even=np.arange(len(held["y"])) % 2)
    if command is commands.match:
        os.link(model, "reference.onnx")
        onnx.save(rounded(onnx.load(model), 4), "model.onnx")
        model = "model.onnx"

    def run(written, engine):
        if "targets" in changes or command is commands.fit:
            return carry_out(command, model, data, written, engine=engine, **changes)
        samples, output = DataSettings((str(data),)), OutputSettings(str(written))
        return command(model=str(model), data=samples, engine=engine, output=output, **changes)

    engine = EngineSettings(backend="numpy", threads=1, shard=200)
    run(tmp_path / "whole.onnx", engine)
    assert not saved
    engine = EngineSettings(
        backend="numpy", threads=1, shard=200, work_dir=str(tmp_path / "work"), resume=True
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
    assert all(saved.count(name) == 1 for name in saved if name.startswith(("made", "pass")))
    assert not list((tmp_path / "work").glob("steps-*")), "what is finished needs no state"
    for module, name in BIASES:
        monkeypatch.setattr(module, name, None)
    count = len(saved)
    again = run(tmp_path / "again.onnx", engine)
    assert (tmp_path / "again.onnx").read_bytes() == (tmp_path / "whole.onnx").read_bytes()
    assert len(saved) == count and not [what for what, samples in again.run.passes if samples]


def test_compare_killed_after_whatever_was_saved(cnn, tmp_path, saved):
    methods = ("REPAIR", "DFR", "join", "SR-1", "schedule", "fit")

    def run(engine):
        quick = {"join": JoinSettings(count=(1,), scale=(0, 1)), "settings": FitSettings(hidden=0, folds=3)}
        made = carry_out(commands.compare, *cnn, methods=methods, engine=engine, **quick)
        return [repr(replace(one, seconds=0)) for one in made.standings]

    engine = EngineSettings(backend="numpy", threads=1)
    whole = run(engine)
    for _ in range(60):
        try:
            assert run(replace(engine, work_dir=str(tmp_path / "work"), resume=True)) == whole
            break
        except Killed:
            continue
    assert len({name for name in saved if name.startswith("made")}) > len(methods)
    assert all(saved.count(name) == 1 for name in saved if name.startswith("made"))
