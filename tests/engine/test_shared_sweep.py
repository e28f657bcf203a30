"""A sweep that Dask workers share: however many, wherever, and whichever dies, the bits are the same."""

from __future__ import annotations

import shutil
import time
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from onnxtweak.engine.kept import kept_results
from onnxtweak.engine.machine.memory_plan import TapSlice
from onnxtweak.engine.scoring import parted, shared_sweep
from onnxtweak.engine.scoring.finish import TargetGaps
from onnxtweak.engine.scoring.sweep import Sweep, merge
from onnxtweak.engine.shared import by_ranges
from onnxtweak.engine.shared.by_ranges import ranges_of
from onnxtweak.errors import DataError
from onnxtweak.settings import DataSettings, EngineSettings, TapSettings
from onnxtweak.stages.open_job import prepare
from onnxtweak.stages.score import score_neurons
from onnxtweak.theta.state import sweep_state
from onnxtweak.theta.survivors import Survivors
from onnxtweak.types import Tap, silent
from tests.support import forked
from tests.support.weak_class import weak_cnn

ENGINE = EngineSettings(device="cpu", backend="numpy", shard=16, batch=8, threads=1)
TARGETS = np.array([0, 2])


def block_of(*sizes):
    taps = [Tap(f"t{k}", "Relu", (size,)) for k, size in enumerate(sizes)]
    numbers = np.cumsum([0, *sizes])
    return tuple(
        TapSlice(tap, 0, size, int(at)) for tap, size, at in zip(taps, sizes, numbers[:-1], strict=True)
    )


@pytest.fixture(autouse=True)
def small_ranges(monkeypatch):
    monkeypatch.setattr(by_ranges, "_LEAST", 1)


def test_small_states_are_not_cut(monkeypatch):
    block = block_of(3000, 1000)
    assert len(ranges_of(block, 64, 20)) == 64
    monkeypatch.setattr(by_ranges, "_LEAST", 40_000)
    assert len(ranges_of(block, 64, 20)) == 2
    monkeypatch.setattr(by_ranges, "_LEAST", 10**6)
    assert ranges_of(block, 64, 20) == [block]


@pytest.mark.parametrize("sizes", [(5,), (3, 4), (2500, 1, 3000)])
@pytest.mark.parametrize("count", [1, 2, 3, 4, 64])
def test_ranges_are_the_whole_block_in_order(sizes, count):
    block = block_of(*sizes)
    ranges = ranges_of(block, count, 1)
    assert 1 <= len(ranges) <= count and all(ranges)
    numbers = [n for part in ranges for s in part for n in range(s.number, s.number + len(s))]
    assert numbers == list(range(sum(sizes)))
    places = [(s.tap.name, k) for part in ranges for s in part for k in range(s.start, s.stop)]
    assert places == [(s.tap.name, k) for s in block for k in range(len(s))]


def a_shard(block, seed):
    """Numbers as a shard gives them; the values exceed the limits so far here and there."""
    rng = np.random.default_rng(seed)
    states, survivors = [], []
    for part in block:
        state = sweep_state(len(part), 2)
        for array in (state.hi, state.lo, state.total, state.peak):
            array[:] = rng.standard_normal(array.shape)
        state.bad[:] = rng.random(len(part)) < 0.1
        one = Survivors(10**6)
        found = rng.integers(0, 2, 50), rng.integers(0, len(part), 50), rng.standard_normal(50) * 3
        one.restore(*(a.astype(kind) for a, kind in zip(found, ("i4", "i4", "f4"), strict=True)), False)
        states.append(state)
        survivors.append(one)
    return Sweep(block, states, [], survivors, np.empty(0, np.int64), [])


def equal(one, other):
    for a, b in zip(one.states, other.states, strict=True):
        for name, value in vars(a).items():
            np.testing.assert_array_equal(value, getattr(b, name), err_msg=name)


@pytest.mark.parametrize("count", [1, 2, 5])
def test_ranges_merged_apart_are_what_is_merged_as_a_whole(count):
    block = block_of(700, 30, 400)
    ranges, shards = ranges_of(block, count, 1), [a_shard(block, seed) for seed in range(5)]
    whole = parted.merge_parts(None, [a_shard(block, 0)])
    for seed in range(1, 5):
        merge(whole, a_shard(block, seed))
    cuts = [parted.cut(shard, ranges) for shard in shards]
    apart = []
    for k in range(len(ranges)):
        first = parted.merge_parts(None, [parts[k] for parts in cuts[:3]])
        apart.append(parted.merge_parts(first, [parts[k] for parts in cuts[3:]]))
    equal(parted.joined(apart, block), whole)
    of = TargetGaps(np.array([3, 4]), np.array([0.5, 0.25]))
    counted = [parted.count_part(part, of) for part in apart]
    all_counted = parted.count_part(whole, of)
    assert all_counted.done and all(part.done for part in counted)
    assert sum(int(state.count_hi.sum()) for state in all_counted.sweep.states) > 0
    equal(parted.joined([part.sweep for part in counted], block), all_counted.sweep)
    # Dask may make a call again: what it was given is as it was.
    again = [parted.merge_parts(None, [parts[k] for parts in cuts[:3]]) for k in range(len(ranges))]
    for part, other in zip(again, apart, strict=True):
        assert not any(np.shares_memory(a.hi, b.hi) for a, b in zip(part.states, other.states, strict=True))
    for seed, shard in enumerate(shards):
        equal(shard, a_shard(block, seed))


def test_a_range_of_which_survivors_were_dropped_is_not_counted():
    block = block_of(40)
    shard = a_shard(block, 0)
    shard.survivors[0].overflowed = True
    merged = parted.merge_parts(None, [parted.cut(shard, ranges_of(block, 2, 1))[0]])
    assert not parted.count_part(merged, TargetGaps(np.ones(2, np.int64), np.ones(2))).done


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shared")
    model, data = weak_cnn(folder, n=300)
    return str(model), DataSettings((str(data),))


def ask(samples, engine, scheduler=None):
    job = prepare(*samples, replace(engine, scheduler=scheduler), TapSettings(), silent)
    return score_neurons(job, TARGETS, "signed", 50), job.engine.stats.passes


def same(one, other):
    np.testing.assert_array_equal(one.predicted, other.predicted)
    for what in ("best", "sizes"):
        for a, b in zip(getattr(one, what), getattr(other, what), strict=True):
            for name, value in vars(a).items():
                np.testing.assert_array_equal(value, getattr(b, name), err_msg=f"{what} {name}")


@contextmanager
def threads(count):
    """A scheduler whose workers are threads of this process: a change to what a call is given would show."""
    distributed = pytest.importorskip("distributed", reason="the extra `dask` is not installed")
    with distributed.LocalCluster(
        n_workers=count,
        processes=False,
        threads_per_worker=1,
        protocol="tcp://",
        dashboard_address=None,
        scheduler_kwargs={"dashboard_address": "127.0.0.1:0"},
    ) as cluster:
        yield cluster.scheduler_address


@pytest.mark.filterwarnings("default")  # of Dask's own
@pytest.mark.parametrize("count", [1, 2, 4])
def test_one_two_and_four_workers_give_the_bits_of_none(samples, count):
    whole, _ = ask(samples, ENGINE)
    with threads(count) as scheduler:
        shared, passes = ask(samples, ENGINE, scheduler)
    same(shared, whole)
    assert passes == [(f"score, {count} workers", 180)]


@pytest.mark.filterwarnings("default")
def test_what_does_not_survive_is_counted_by_workers_too(samples, monkeypatch):
    whole, _ = ask(samples, ENGINE)
    monkeypatch.setattr("onnxtweak.engine.scoring.sweep.survivor_room", lambda block, *_: [0] * len(block))
    alone, passes = ask(samples, ENGINE)
    wrong = passes[1]
    assert wrong[0] == "count" and wrong[1] > ENGINE.shard
    with threads(2) as scheduler:
        shared, passes = ask(samples, ENGINE, scheduler)
    assert passes == [("score, 2 workers", 180), ("count, 2 workers", wrong[1])]
    same(shared, whole)
    same(alone, whole)


class Killed(Exception):
    pass


@pytest.mark.filterwarnings("default")
def test_a_pass_by_ranges_that_died_goes_on_with_other_workers(samples, tmp_path, monkeypatch):
    engine = replace(ENGINE, work_dir=str(tmp_path))
    whole, _ = ask(samples, replace(engine, work_dir=None))
    monkeypatch.setattr(kept_results, "_RARITY", 0)
    real, taken = shared_sweep.merge, []

    def dies(seen, shard):
        if len(taken) == 6:
            raise Killed
        real(seen, shard)
        taken.append(seen.at)

    monkeypatch.setattr(shared_sweep, "merge", dies)
    with threads(2) as scheduler, pytest.raises(Killed):
        ask(samples, engine, scheduler)
    monkeypatch.setattr(shared_sweep, "merge", real)
    with threads(3) as scheduler:
        shared, passes = ask(samples, replace(engine, resume=True), scheduler)
    assert passes == [("score, 3 workers", 180 - 4 * 16)]  # four shards are merged, and saved, at a time
    same(shared, whole)


@contextmanager
def machines(folder, count):
    """A scheduler and workers that are processes with folders of their own, as on other machines."""
    distributed = pytest.importorskip("distributed", reason="the extra `dask` is not installed")
    file, running = folder / "scheduler.json", []

    def dask(name, part, *options):
        (folder / name).mkdir()
        here = ("--host", "127.0.0.1", "--scheduler-file", file)
        running.append(forked.dask(part, *options, *here, cwd=folder / name))

    dask("head", "scheduler", "--port", "0")
    for number in range(count):
        dask(f"worker-{number}", "worker", "--nthreads", "1", "--no-nanny")
    try:
        deadline = time.monotonic() + 300
        while not file.exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        with distributed.Client(scheduler_file=str(file), timeout="300s", set_as_default=False) as client:
            client.wait_for_workers(count, timeout=300)
            yield client.scheduler.address, running[1:]
    finally:
        for process in running:
            process.kill()
            process.wait()


@pytest.mark.filterwarnings("default")
def test_machines_with_folders_of_their_own_one_of_which_dies(samples, tmp_path, monkeypatch):
    whole, _ = ask(samples, ENGINE)
    monkeypatch.chdir(Path(samples[0]).parent)
    near = "model.onnx", DataSettings(("data.npz",))  # paths that mean nothing in the workers' folders
    real, killed = shared_sweep.merge, []

    def kills(seen, shard):
        real(seen, shard)
        if not killed and seen.at >= 96:
            killed.append(workers[0].pid)
            workers[0].kill()

    with machines(tmp_path, 2) as (scheduler, workers):
        shared, passes = ask(near, ENGINE, scheduler)
        same(shared, whole)
        monkeypatch.setattr(shared_sweep, "merge", kills)
        shared, passes = ask(near, ENGINE, scheduler)
    same(shared, whole)
    assert killed and passes == [("score, 2 workers", 180)]


@pytest.mark.filterwarnings("default")
def test_samples_that_a_worker_does_not_see_are_named(samples, tmp_path, monkeypatch):
    moved = tmp_path / "data.npz"
    shutil.copy(samples[1].data[0], moved)
    job = prepare(samples[0], DataSettings((str(moved),)), ENGINE, TapSettings(), silent)
    with threads(1) as scheduler:
        job = prepare(
            samples[0],
            DataSettings((str(moved),)),
            replace(ENGINE, scheduler=scheduler),
            TapSettings(),
            silent,
        )
        real = shared_sweep.packed

        def packed(*asked):
            found = real(*asked)
            moved.unlink()  # as where only this process sees it
            return found

        monkeypatch.setattr(shared_sweep, "packed", packed)
        with pytest.raises(DataError, match="on a worker there is no such file") as failed:
            score_neurons(job, TARGETS, "signed", 50)
    assert str(moved) in str(failed.value) and "same paths" in failed.value.hint
