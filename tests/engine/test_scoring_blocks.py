"""Neurons scored block by block, within `--memory`, are the neurons scored all at once."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from onnxtweak import commands
from onnxtweak.engine.machine import memory_plan as plan
from onnxtweak.engine.scoring.scoring import theta_blocks
from onnxtweak.settings import (
    DataSettings,
    EngineSettings,
    JoinSettings,
    OutputSettings,
    TapSettings,
    TargetSettings,
)
from onnxtweak.stages.open_job import open_whole, prepare
from onnxtweak.stages.score import score_neurons
from onnxtweak.theta.state import bytes_per_neuron
from onnxtweak.types import silent
from tests.engine.test_shared_sweep import threads
from tests.support.nets import cnn3
from tests.support.weak_class import labelled, run, weak_cnn

ENGINE = EngineSettings(device="cpu", backend="numba", shard=64, batch=16)


@pytest.fixture(scope="module")
def few(tmp_path_factory):
    """A model with 4 classes and its samples."""
    model, data = weak_cnn(tmp_path_factory.mktemp("few"), n=400)
    return str(model), DataSettings((str(data),))


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """A model with 60 classes and its samples; some classes have none."""
    folder = tmp_path_factory.mktemp("many")
    proto = cnn3(60, 8, (4, 4, 8))
    x, _ = labelled(proto, np.zeros(60), 500)
    Z, rng = run(proto, x), np.random.default_rng(0)
    y = np.where(rng.random(500) < 0.7, Z.argmax(axis=1), rng.integers(0, 60, 500))
    (folder / "model.onnx").write_bytes(proto.SerializeToString())
    np.savez(folder / "data.npz", x=x, y=y)
    # The random net answers nearly always alike, which `score` would stop at.
    return str(folder / "model.onnx"), DataSettings((str(folder / "data.npz"),), anyway=True)


def asked(samples, engine, targets):
    job = open_whole(*samples, engine, TapSettings(), silent)
    if targets is None:
        targets = np.unique(job.splits.fit.labels)
    blocks = theta_blocks(job.taps, len(targets), job.engine)
    return score_neurons(job, targets, "signed", 20), blocks, job


def same(one, other):
    np.testing.assert_array_equal(one.predicted, other.predicted)
    assert one.dropped == other.dropped and len(one.best) == len(other.best)
    for what in ("best", "sizes"):
        for a, b in zip(getattr(one, what), getattr(other, what), strict=True):
            for name, value in vars(a).items():
                np.testing.assert_array_equal(value, getattr(b, name), err_msg=f"{what} {name}")


def memory_for(neurons: int, targets: int) -> int:
    """`--memory` in which the state of so many neurons just fits."""
    return int(neurons * bytes_per_neuron(targets) / plan._STATE_SHARE / plan._LEAST_SHARE) + 1


@pytest.mark.parametrize("neurons", [7, 64, 100, 211])
def test_blocks_of_few_targets_are_the_whole(few, neurons):
    whole, one, _ = asked(few, ENGINE, np.array([0, 2]))
    parted, blocks, job = asked(few, replace(ENGINE, memory=memory_for(neurons, 2)), np.array([0, 2]))
    total = sum(tap.neurons for tap in job.taps)
    assert len(one) == 1 and len(blocks) == -(-total // neurons)
    assert any(not stretch.whole for block in blocks for stretch in block)
    same(parted, whole)
    said = [name for name, _ in job.engine.stats.passes if name.startswith("score")]
    assert said == [f"score, block {k + 1} of {len(blocks)}" for k in range(len(blocks))]


@pytest.mark.parametrize("theta", ["signed", "thesis"])
def test_blocks_of_many_targets_are_the_whole(many, theta):
    model, data = many
    found = []
    for memory in (ENGINE.memory, memory_for(80, 60)):
        job = open_whole(model, data, replace(ENGINE, memory=memory), TapSettings(), silent)
        found.append(score_neurons(job, np.unique(job.splits.fit.labels), theta, 20))
    assert len(job.engine.stats.passes) > 3
    same(*found)


def test_blocks_whose_ratios_do_not_fit_are_counted_again(few, monkeypatch):
    whole, _, _ = asked(few, ENGINE, np.array([0, 2]))
    monkeypatch.setattr(plan, "_SURVIVOR_SHARE", 0.0)
    parted, blocks, job = asked(few, replace(ENGINE, memory=memory_for(100, 2)), np.array([0, 2]))
    names = [name for name, _ in job.engine.stats.passes]
    assert names.count("count") == len(blocks) > 1
    for a, b in zip(parted.best, whole.best, strict=True):
        np.testing.assert_array_equal(a.number, b.number)
        np.testing.assert_array_equal(a.count, b.count)
    # Only the samples that it needs: wrong ones of the targets.
    labels = job.splits.fit.labels
    wrong = int(((whole.predicted != labels) & np.isin(labels, [0, 2])).sum())
    assert {count for name, count in job.engine.stats.passes if name == "count"} == {wrong}
    assert 0 < wrong < len(labels) / 2


def test_a_join_within_little_memory_is_the_same_file(few, tmp_path):
    digests = []
    for name, memory in (("whole", ENGINE.memory), ("parted", memory_for(90, 1))):
        made = commands.join(
            model=few[0],
            data=few[1],
            engine=replace(ENGINE, memory=memory),
            targets=TargetSettings(("2",)),
            settings=JoinSettings(criterion="net-gain", count=(1, 5)),
            output=OutputSettings(str(tmp_path / f"{name}.onnx")),
        )
        digests.append((made.output.sha256, made.evidence["theta"]))
    np.testing.assert_equal(digests[0], digests[1])
    assert len(made.run.passes) > 5


def test_scores_on_disk_are_the_same_file(many, tmp_path):
    for name, memory in (("whole", ENGINE.memory), ("parted", memory_for(90, 10))):
        commands.score(
            model=many[0],
            data=many[1],
            engine=replace(ENGINE, memory=memory),
            targets=TargetSettings(worst=10),
            output=OutputSettings(str(tmp_path / f"{name}.npz")),
        )
    assert (tmp_path / "whole.npz").read_bytes() == (tmp_path / "parted.npz").read_bytes()
    with np.load(tmp_path / "whole.npz") as file:
        assert file["weight"].shape[0] == 10 and file["count"].any()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["parted.npz", "whole.npz"]


class Killed(Exception):
    pass


@pytest.mark.parametrize("written", [False, True])
def test_finished_blocks_are_not_swept_again(few, tmp_path, monkeypatch, written):
    from onnxtweak.stages import score as module

    engine = replace(ENGINE, memory=memory_for(100, 1), work_dir=str(tmp_path / "work"))

    def score(engine, name):
        return commands.score(
            model=few[0],
            data=few[1],
            engine=engine,
            targets=TargetSettings(("2",)),
            output=OutputSettings(str(tmp_path / name) if written else None),
        )

    whole = score(replace(engine, work_dir=None), "whole.npz")
    keep, kept = module._write, []

    def dies(*arguments):
        keep(*arguments)
        kept.append(arguments)
        if len(kept) == 2:
            raise Killed

    monkeypatch.setattr(module, "_write", dies)
    with pytest.raises(Killed):
        score(engine, "killed.npz")
    monkeypatch.setattr(module, "_write", keep)
    resumed = score(replace(engine, resume=True), "killed.npz")
    assert [name for name, _ in resumed.run.passes][:2] == ["score, cached", "score, block 3 of 4"]
    assert resumed.top == whole.top
    if written:
        assert (tmp_path / "killed.npz").read_bytes() == (tmp_path / "whole.npz").read_bytes()
    assert not [path for path in (tmp_path / "work").iterdir() if path.name.startswith("half-")]
    again = score(replace(engine, resume=True, memory=ENGINE.memory), "again.npz")  # however it is cut now
    assert again.run.passes == (("score, cached", 0),) and again.top == whole.top


@pytest.mark.filterwarnings("default")  # of Dask's own
def test_workers_take_blocks_too(few):
    engine = replace(ENGINE, shard=128)
    alone = prepare(*few, engine, TapSettings(), silent)
    with threads(2) as scheduler:
        parted = replace(engine, scheduler=scheduler, memory=memory_for(250, 2))
        job = prepare(*few, parted, TapSettings(), silent)
        shared, whole = (score_neurons(one, np.array([0, 2]), "signed", 20) for one in (job, alone))
    same(shared, whole)
    said = [name for name, _ in job.engine.stats.passes if not name.startswith("count")]
    assert said == [f"score, block {k} of 2, 2 workers" for k in (1, 2)]
