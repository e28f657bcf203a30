"""A score pass cut, killed, resumed and shared gives the bits of one that ran through."""

from __future__ import annotations

import os
import random
import signal
import socket
from dataclasses import replace

import numpy as np
import pytest

from onnxtweak import commands
from onnxtweak.engine.kept import kept_results
from onnxtweak.engine.scoring import checkpoint
from onnxtweak.engine.scoring.scoring import from_model, theta_blocks, theta_sweeps
from onnxtweak.engine.scoring.sweep import ScoringTask
from onnxtweak.errors import MachineError
from onnxtweak.settings import (
    DataSettings,
    EngineSettings,
    FitSettings,
    Preprocess,
    RetrainSettings,
    TapSettings,
    TargetSettings,
)
from onnxtweak.stages.open_job import prepare
from onnxtweak.stages.score import score_neurons
from onnxtweak.types import silent
from tests.engine.test_shared_sweep import machines
from tests.support import forked
from tests.support.weak_class import weak_cnn

ENGINE = EngineSettings(device="cpu", backend="numpy", shard=64)
TARGETS = np.array([0, 2])
RIDGE = RetrainSettings(ridge=(0.1,))  # where it is not about what is learnt


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    model, data = weak_cnn(tmp_path_factory.mktemp("scoring"), n=500)
    return str(model), DataSettings((str(data),))


def ask(samples, engine):
    model, data = samples
    job = prepare(model, data, engine, TapSettings(), silent)
    return score_neurons(job, TARGETS, "signed", 50), job.engine.stats


def states_of(samples, engine):
    """Theta's state of every tap, and what the base predicts."""
    job = prepare(*samples, engine, TapSettings(), silent)
    blocks = theta_blocks(job.taps, len(TARGETS), job.engine)
    labels, read = job.splits.fit.labels, from_model(job.subject, job.splits.fit, job.engine, job.taps)
    (made,) = theta_sweeps(read, blocks, ScoringTask(labels, TARGETS, "signed"), job.engine)
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
    monkeypatch.setattr(kept_results, "_RARITY", 0)  # save after every shard
    save, saved = checkpoint.Checkpoint.save, []

    def dies(self, get):
        save(self, get)
        saved.append(get().at)
        if len(saved) == at:
            raise Killed

    monkeypatch.setattr(checkpoint.Checkpoint, "save", dies)
    with pytest.raises(Killed):
        ask(samples, engine)
    monkeypatch.setattr(checkpoint.Checkpoint, "save", save)
    resumed, stats = ask(samples, replace(engine, resume=True))
    assert stats.passes[0] == ("score", 300 - saved[-1]) and saved[-1] == 64 * at
    same(resumed, whole)


def test_a_finished_pass_is_not_run_again(samples, tmp_path):
    engine = replace(ENGINE, work_dir=str(tmp_path))
    first, _ = ask(samples, engine)
    again, stats = ask(samples, replace(engine, resume=True))
    same(first, again)
    assert stats.passes == [("score, cached", 0)]


def test_without_resume_nothing_old_is_used(samples, tmp_path):
    engine = replace(ENGINE, work_dir=str(tmp_path))
    ask(samples, engine)
    _, stats = ask(samples, engine)
    assert stats.passes[0] == ("score", 300)


def test_a_damaged_or_foreign_checkpoint_is_not_used(samples, tmp_path):
    engine = replace(ENGINE, work_dir=str(tmp_path))
    whole, _ = ask(samples, engine)
    for file in tmp_path.iterdir():
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    again, stats = ask(samples, replace(engine, resume=True))
    same(whole, again)
    assert stats.passes[0] == ("score", 300)


def test_the_size_of_a_shard_moves_only_the_last_digits_of_sums(samples):
    one = states_of(samples, replace(ENGINE, shard=32))
    other = states_of(samples, replace(ENGINE, shard=4096))
    for a, b in zip(one, other, strict=True):
        np.testing.assert_array_equal(a.count_hi, b.count_hi)
        np.testing.assert_allclose(a.hi, b.hi, rtol=1e-4)
        np.testing.assert_allclose(a.total, b.total, rtol=1e-5)


_PROGRAM = """
import os, signal, sys
from onnxtweak import commands
from onnxtweak.engine import session
from onnxtweak.engine.kept import kept_results
from onnxtweak.model.file import output_file
from onnxtweak.settings import *
from onnxtweak.stages import preprocessing_check

command, model, data, out, work, last = sys.argv[1:]
events = 0

def mortal(function):
    def run(*arguments, **options):
        global events
        events += 1
        if events == int(last):
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*arguments, **options)
    return run

kept_results._RARITY = 0
preprocessing_check.likely_mistake = lambda *_, **__: None  # its runs are no passes
session.Session.run_into = mortal(session.Session.run_into)  # every batch of every pass
output_file.os.replace = mortal(os.replace)  # written, but not in its place
join = JoinSettings(criterion="net-gain", count=(1, 5))
options = {"settings": join}
if command == "retrain":
    options = {"settings": RetrainSettings(ridge=(0.1,)), "join": join}
getattr(commands, command)(
    model=model,
    data=DataSettings((data,)),
    engine=EngineSettings(device="cpu", backend="numpy", shard=32, batch=8, work_dir=work, resume=True),
    targets=TargetSettings(("2",)),
    output=OutputSettings(out, force=True),
    **options,
)
print(events)
"""


@pytest.mark.parametrize("command", ["join", "retrain"])
def test_kill_9_at_random_moments_then_resume_gives_the_same_file(samples, tmp_path, command):
    model, data = samples
    moments, out = random.Random(command), tmp_path / "killed.onnx"

    def run(work, out, last):
        return forked.run(_PROGRAM, command, model, data.data[0], out, work, last)

    undisturbed = run(tmp_path / "other", tmp_path / "whole.onnx", 0)
    left = int(undisturbed.stdout)
    assert left > 60  # batches and saves: the score pass is less than half of them
    work, died = tmp_path / "work", 0
    for _ in range(6):
        killed = run(work, out, moments.randint(1, left // 3))
        died += killed.returncode == -signal.SIGKILL
        if killed.returncode == 0:
            out.unlink()
        else:
            assert not out.exists()
    assert died >= 3
    resumed = run(work, out, 0)
    assert out.read_bytes() == (tmp_path / "whole.onnx").read_bytes()
    assert int(resumed.stdout) < left
    assert not [file for file in (*tmp_path.iterdir(), *work.iterdir()) if ".part" in file.name]


@pytest.mark.parametrize("command", ["retrain", "fit", "compare", "augment"])
def test_tables_are_collected_once(samples, tmp_path, command):
    options = {} if command == "augment" else {"targets": TargetSettings(("2",))}
    few = {"settings": FitSettings(neurons=10, hidden=0), "taps": TapSettings(pool=("mean",))}
    options |= {"compare": {"methods": ("bias",)}, "retrain": {"settings": RIDGE}, "fit": few}.get(
        command, {}
    )
    engine = replace(ENGINE, work_dir=str(tmp_path / "work"), resume=True)
    first, second, plain = (
        getattr(commands, command)(model=samples[0], data=samples[1], engine=one, **options)
        for one in (engine, engine, ENGINE)
    )
    collected = ("collect", 300) in first.run.passes and ("validate", 100) in first.run.passes
    assert collected and first.run.passes == tuple((n, c) for n, c in plain.run.passes if n != "count")
    assert {("collect, cached", 0), ("validate, cached", 0)} <= set(second.run.passes)
    for one in (second, plain):
        if command == "compare":
            assert [s.target for s in one.standings] == [s.target for s in first.standings]
        else:
            assert str(one.after) == str(first.after)


def test_a_damaged_shard_of_a_table_is_collected_again(samples, tmp_path):
    engine = replace(ENGINE, work_dir=str(tmp_path), resume=True)

    def ask():
        return commands.retrain(
            model=samples[0],
            data=samples[1],
            engine=engine,
            targets=TargetSettings(("2",)),
            settings=RIDGE,
        )

    first = ask()
    shards = sorted(tmp_path.glob("pass-*-00002.npz"))
    assert shards
    for file in shards:
        file.write_bytes(file.read_bytes()[:100])
    again = ask()
    assert ("collect", 300 - 2 * 64) in again.run.passes
    assert again.after.overall == first.after.overall


def test_what_is_done_to_the_samples_is_part_of_the_question(samples, tmp_path):
    engine = replace(ENGINE, work_dir=str(tmp_path), resume=True)
    model, data = samples
    for scale in (None, 0.5):
        changed = replace(data, preprocess=Preprocess(pixel_scale=scale))
        _, stats = ask((model, changed), engine)
        assert stats.passes[0] == ("score", 300)


def test_workers_without_dask_are_told_what_to_install(samples, monkeypatch):
    from onnxtweak.engine.workers import dask_cluster

    monkeypatch.setattr(dask_cluster, "distributed", None)
    with pytest.raises(MachineError, match="Dask is not installed"):
        ask(samples, replace(ENGINE, workers=2))


@pytest.mark.filterwarnings("default")  # of Dask's own
def test_two_workers_one_killed_midway_give_the_bits_of_one_process(samples, monkeypatch):
    pytest.importorskip("distributed", reason="the extra `dask` is not installed")
    from onnxtweak.engine.scoring import shared_sweep

    engine = replace(ENGINE, shard=16)
    whole, _ = ask(samples, engine)
    merge, killed = shared_sweep.merge, []

    def kills(sweep, *others):
        merge(sweep, *others)
        if not killed and sweep.at >= 96:
            for process in _children():
                killed.append(process)
                os.kill(process, signal.SIGKILL)
                break

    monkeypatch.setattr(shared_sweep, "merge", kills)
    with forked.forked_workers():
        shared, stats = ask(samples, replace(engine, workers=2))
    same(shared, whole)
    assert killed and stats.passes[0] == ("score, 2 workers", 300)


@pytest.mark.filterwarnings("default")  # of Dask's own
def test_workers_of_a_scheduler_give_the_bits_of_one_process(samples, tmp_path, monkeypatch):
    """Whether this process reaches them, or they are asked for by the scheduler."""
    pytest.importorskip("distributed", reason="the extra `dask` is not installed")
    from onnxtweak.engine.workers import dask_cluster

    found, reached = [], [False, True]

    def within_reach(workers):
        found.append(real(workers))
        return reached.pop()

    real = dask_cluster._within_reach
    monkeypatch.setattr(dask_cluster, "_within_reach", within_reach)
    with machines(tmp_path, 2) as (scheduler, _):
        both = [ask(samples, replace(ENGINE, scheduler=scheduler)) for _ in range(2)]
    whole, _ = ask(samples, ENGINE)
    for shared, stats in both:
        same(shared, whole)
        assert stats.passes[0] == ("score, 2 workers", 300)
    assert found == [True, True] and not reached


def test_workers_that_do_not_answer_are_out_of_reach():
    pytest.importorskip("distributed", reason="the extra `dask` is not installed")
    from onnxtweak.engine.workers.dask_cluster import _within_reach

    with socket.create_server(("127.0.0.1", 0)) as server:
        there = f"tcp://127.0.0.1:{server.getsockname()[1]}"
        assert _within_reach([there])
    assert not _within_reach([there]) and not _within_reach(["inproc://10.0.0.1/1/2"])


def _children() -> list[int]:
    """Worker processes that Dask's nannies started for this one, as forks of the server of forks."""
    import psutil

    found = psutil.Process().children(recursive=True)
    alive = [p for p in found if p.status() != psutil.STATUS_ZOMBIE]
    return [p.pid for p in alive if p.parent().pid != os.getpid()]
