"""A score pass cut, killed, resumed and shared gives the bits of one that ran through."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from onnxtweak import pipeline
from onnxtweak.engine import checkpoint
from onnxtweak.engine.scoring import from_model, theta_blocks, theta_sweeps
from onnxtweak.errors import MachineError
from onnxtweak.pipeline.job import prepare
from onnxtweak.pipeline.scored import scored
from onnxtweak.settings import DataSettings, EngineSettings, OutputSettings, TapSettings, TargetSettings
from onnxtweak.types import silent
from tests.weak import weak_cnn

ENGINE = EngineSettings(device="cpu", backend="numpy", shard=64)
TARGETS = np.array([0, 2])


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    model, data = weak_cnn(tmp_path_factory.mktemp("scoring"), n=500)
    return str(model), DataSettings((str(data),))


def ask(samples, engine):
    model, data = samples
    job = prepare(model, data, engine, TapSettings(), silent)
    return scored(job, TARGETS, "signed", 50), job.engine.ledger


def states_of(samples, engine):
    """Theta's state of every tap, and what the base predicts."""
    job = prepare(*samples, engine, TapSettings(), silent)
    blocks = theta_blocks(job.taps, len(TARGETS), job.engine)
    labels, read = job.splits.fit.labels, from_model(job.subject, job.splits.fit, job.engine, job.taps)
    (made,) = theta_sweeps(read, blocks, labels, TARGETS, "signed", job.engine)
    return made.states


def same(one, other):
    np.testing.assert_array_equal(one.predicted, other.predicted)
    assert one.dropped == other.dropped
    for what in ("best", "sizes"):
        for a, b in zip(getattr(one, what), getattr(other, what), strict=True):
            for name, value in vars(a).items():
                np.testing.assert_array_equal(value, getattr(b, name), err_msg=f"{what} {name}")


class Killed(Exception):
    pass


@pytest.mark.parametrize("backend", ["numpy", "numba"])
@pytest.mark.parametrize("at", [1, 3, 4])
def test_a_pass_that_died_is_resumed_to_the_same_bits(samples, tmp_path, monkeypatch, backend, at):
    engine = replace(ENGINE, backend=backend, work_dir=str(tmp_path))
    whole, _ = ask(samples, replace(engine, work_dir=None))
    monkeypatch.setattr(checkpoint, "_RARITY", 0)  # save after every shard
    save, saved = checkpoint.Checkpoint.save, []

    def dies(self, sweep, host_state):
        save(self, sweep, host_state)
        saved.append(sweep.at)
        if len(saved) == at:
            raise Killed

    monkeypatch.setattr(checkpoint.Checkpoint, "save", dies)
    with pytest.raises(Killed):
        ask(samples, engine)
    monkeypatch.setattr(checkpoint.Checkpoint, "save", save)
    resumed, ledger = ask(samples, replace(engine, resume=True))
    assert ledger.passes[0] == ("score", 300 - saved[-1]) and saved[-1] == 64 * at
    same(resumed, whole)


def test_a_finished_pass_is_not_run_again(samples, tmp_path):
    engine = replace(ENGINE, work_dir=str(tmp_path))
    first, _ = ask(samples, engine)
    again, ledger = ask(samples, replace(engine, resume=True))
    same(first, again)
    assert ledger.passes == [("score, cached", 0)]


def test_without_resume_nothing_old_is_used(samples, tmp_path):
    engine = replace(ENGINE, work_dir=str(tmp_path))
    ask(samples, engine)
    _, ledger = ask(samples, engine)
    assert ledger.passes[0] == ("score", 300)


def test_a_damaged_or_foreign_checkpoint_is_not_used(samples, tmp_path):
    engine = replace(ENGINE, work_dir=str(tmp_path))
    whole, _ = ask(samples, engine)
    for file in tmp_path.iterdir():
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    again, ledger = ask(samples, replace(engine, resume=True))
    same(whole, again)
    assert ledger.passes[0] == ("score", 300)


def test_the_size_of_a_shard_moves_only_the_last_digits_of_sums(samples):
    one = states_of(samples, replace(ENGINE, shard=32))
    other = states_of(samples, replace(ENGINE, shard=4096))
    for a, b in zip(one, other, strict=True):
        np.testing.assert_array_equal(a.count_hi, b.count_hi)
        np.testing.assert_allclose(a.hi, b.hi, rtol=1e-4)
        np.testing.assert_allclose(a.total, b.total, rtol=1e-5)


_PROGRAM = """
import os, signal, sys
from onnxtweak import pipeline
from onnxtweak.engine import checkpoint, scoring
from onnxtweak.settings import *

model, data, out, work, folds, saves = sys.argv[1:]
left = {"fold": int(folds), "replace": int(saves)}

def mortal(name, function):
    def run(*arguments):
        left[name] -= 1
        if left[name] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*arguments)
    return run

checkpoint._RARITY = 0
scoring.fold = mortal("fold", scoring.fold)
checkpoint.os.replace = mortal("replace", os.replace)  # dies with the new state written but not in its place
pipeline.join(
    model=model,
    data=DataSettings((data,)),
    engine=EngineSettings(device="cpu", backend="numpy", shard=32, batch=8, work_dir=work, resume=True),
    targets=TargetSettings(("2",)),
    output=OutputSettings(out, force=True),
)
"""


def test_kill_9_at_random_moments_then_resume_gives_the_same_file(samples, tmp_path, root):
    model, data = samples
    pipeline.join(
        model=model,
        data=data,
        engine=replace(ENGINE, shard=32, batch=8),
        targets=TargetSettings(("2",)),
        output=OutputSettings(str(tmp_path / "whole.onnx")),
    )
    work, moments = tmp_path / "work", random.Random(0)
    arguments = [model, data.data[0], str(tmp_path / "killed.onnx"), str(work)]
    died = 0
    for _ in range(5):
        when = [str(moments.randint(1, 4)), str(moments.randint(1, 3))]
        process = subprocess.run([sys.executable, "-c", _PROGRAM, *arguments, *when], cwd=root, check=False)
        died += process.returncode == -signal.SIGKILL
        assert not (tmp_path / "killed.onnx").exists()
    assert died == 5
    subprocess.run([sys.executable, "-c", _PROGRAM, *arguments, "0", "0"], cwd=root, check=True)
    assert (tmp_path / "killed.onnx").read_bytes() == (tmp_path / "whole.onnx").read_bytes()
    assert not [file for file in (*tmp_path.iterdir(), *work.iterdir()) if ".part" in file.name]


def test_workers_without_dask_are_told_what_to_install(samples, monkeypatch):
    from onnxtweak.engine import spread

    monkeypatch.setattr(spread, "distributed", None)
    with pytest.raises(MachineError, match="Dask is not installed"):
        ask(samples, replace(ENGINE, workers=2))


@pytest.mark.filterwarnings("default")  # of Dask's own
def test_two_workers_one_killed_midway_give_the_bits_of_one_process(samples, monkeypatch):
    pytest.importorskip("distributed", reason="the extra `dask` is not installed")
    from onnxtweak.engine import spread

    engine = replace(ENGINE, shard=16)
    whole, _ = ask(samples, engine)
    merge, killed = spread.merge, []

    def kills(sweep, shard):
        merge(sweep, shard)
        if not killed and sweep.at >= 96:
            for process in _children():
                killed.append(process)
                os.kill(process, signal.SIGKILL)
                break

    monkeypatch.setattr(spread, "merge", kills)
    shared, ledger = ask(samples, replace(engine, workers=2))
    same(shared, whole)
    assert killed and ledger.passes[0] == ("score, 2 workers", 300)


def _children() -> list[int]:
    """Worker processes that Dask's nannies started for this one."""
    import psutil

    found = psutil.Process().children(recursive=True)
    return [p.pid for p in found if any("spawn_main" in word for word in p.cmdline())]
