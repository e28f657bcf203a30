"""One process for each GPU: the whole way that `--device cuda:0,1` takes, with CPU sessions for CUDA's."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from threading import Thread
from types import SimpleNamespace

import numpy as np
import pytest

from onnxtweak.engine.kept import kept_results
from onnxtweak.engine.machine.memory_plan import cut_taps
from onnxtweak.engine.passes import Engine
from onnxtweak.engine.scoring import scoring, shared_sweep
from onnxtweak.engine.scoring.sweep import ScoringTask
from onnxtweak.engine.workers import dask_cluster, gpu_processes, processes, shared_memory
from onnxtweak.engine.workers.shielded import shielded
from onnxtweak.errors import MachineError
from onnxtweak.settings import DataSettings, EngineSettings, TapSettings
from onnxtweak.stages.open_job import prepare
from onnxtweak.types import silent
from tests.support.forked import context
from tests.support.weak_class import weak_cnn

ROOT = Path(__file__).resolve().parents[2]
TARGETS = np.array([0, 2])


@dataclass(frozen=True)
class OnCpu:
    """Opens the samples where a GPU was given, writes down which, and runs the model on the CPU.

    room : bytes that the process may lend; None: as many as it likes. dies_at : the shard that kills it.
    """

    samples: scoring.ModelSamples
    notes: str
    room: int | None = None
    dies_at: int | None = None

    def __call__(self, engine: Engine) -> scoring.Read:
        shared_memory._LEAST = 1  # the arrays of a small model are lent too
        if self.room is not None:
            import resource

            resource.setrlimit(resource.RLIMIT_FSIZE, (self.room, resource.RLIM_INFINITY))
        # No test may need a GPU: this is the only place where the process differs from the real one.
        assert engine.settings.device == "cuda" and engine.backend.name == "numpy"
        Path(self.notes, f"{os.getpid()}").write_text(os.environ["CUDA_VISIBLE_DEVICES"])
        read = self.samples(replace(engine, settings=replace(engine.settings, device="cpu")))
        return partial(self.read, read)

    @property
    def files(self):
        return self.samples.files

    def read(self, read, what, taps, chosen):
        if self.dies_at is not None and chosen[0] == self.dies_at:
            os.kill(os.getpid(), signal.SIGKILL)
        return read(what, taps, chosen)


def job_of(folder, **settings):
    model, data = weak_cnn(folder, n=300)
    engine = EngineSettings(device="cpu", backend="numpy", shard=32, batch=8, threads=1, **settings)
    return prepare(str(model), DataSettings((str(data),)), engine, TapSettings(), silent)


def samples_of(job):
    return scoring.ModelSamples(job.subject, job.splits.fit, job.taps)


def on(job, device):
    """The job's engine with GPUs, and processes for them."""
    settings = replace(job.engine.settings, device=device)
    return replace(job.engine, settings=settings, crew=processes.Crew(settings))


def swept(job, engine, reopen=None, neurons=None, cache_key=None):
    fit = job.splits.fit
    read = scoring.from_model(job.subject, fit, job.engine, job.taps)
    blocks = cut_taps(job.taps, 1, EngineSettings(memory=8 * neurons)) if neurons else None
    blocks = blocks or scoring.theta_blocks(job.taps, len(TARGETS), engine)
    return list(
        scoring.theta_sweeps(
            read, blocks, ScoringTask(fit.labels, TARGETS, "signed", cache_key), engine, reopen=reopen
        )
    )


STATE = ("hi", "lo", "count_hi", "count_lo", "total", "peak", "bad", "seen", "gap")


def same(ones, others):
    assert len(ones) == len(others)
    for one, other in zip(ones, others, strict=True):
        np.testing.assert_array_equal(one.predicted, other.predicted)
        for a, b in zip(one.states, other.states, strict=True):
            assert b.hi.any()
            for name in STATE:
                np.testing.assert_array_equal(getattr(a, name), getattr(b, name), err_msg=name)


@pytest.fixture
def looks(monkeypatch):
    """What the shared pass looks at of what it was lent: one entry for each shard."""
    found = []

    look = shared_memory.Borrower.look

    def counts(self, lent):
        found.append(lent)
        return look(self, lent)

    monkeypatch.setattr(shared_memory.Borrower, "look", counts)
    monkeypatch.setattr(processes, "gpu_count", lambda: 3)
    return found


@pytest.fixture(scope="module", autouse=True)
def little_to_look_at():
    """What was there before can be no garbage of these tests: `held` need not look at it each time."""
    gc.collect()
    gc.freeze()


def held():
    """Memory without a name that this process looks into."""
    gc.collect()
    looks = Path("/proc/self/maps")
    return looks.exists() and any(name in looks.read_text() for name in ("memfd:onnxtweak", "/dev/shm/#"))


@pytest.fixture
def forked(monkeypatch):
    """Processes that need not load everything anew; those of one of `test_two_gpus_...` are the real ones."""
    server = context()
    monkeypatch.setattr(gpu_processes.multiprocessing, "get_context", lambda _: server)


@pytest.mark.parametrize("neurons", [None, 300])
def test_two_gpus_give_the_bits_of_one_process(tmp_path, monkeypatch, looks, neurons, request):
    if neurons:
        request.getfixturevalue("forked")
    job = job_of(tmp_path)
    (tmp_path / "notes").mkdir()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5,7")
    on_gpus = on(job, "cuda:0,2")
    parted = swept(job, on_gpus, OnCpu(samples_of(job), str(tmp_path / "notes")), neurons)
    names = [name for name, _ in job.engine.stats.passes]
    whole = swept(job, job.engine, None, neurons)
    seen = {file.read_text() for file in (tmp_path / "notes").iterdir()}
    assert seen and seen <= {"4", "7"}
    assert len(parted) == (1 if neurons is None else 2)
    assert sum("2 workers" in name for name in names) == len(parted)
    same(parted, whole)
    shards = -(-len(job.splits.fit) // 32)
    assert not Path("/dev/shm").is_dir() or (len(looks) == shards * len(parted) and not held())


def test_without_room_to_lend_states_go_through_the_pipe(tmp_path, looks, forked):
    job = job_of(tmp_path)
    on_gpus = on(job, "cuda:0,1")
    parted = swept(job, on_gpus, OnCpu(samples_of(job), str(tmp_path), room=8192))
    same(parted, swept(job, job.engine))
    assert not looks


def test_a_shard_that_can_no_longer_be_looked_at_is_done_again(tmp_path, monkeypatch, looks, forked):
    job = job_of(tmp_path)
    on_gpus = on(job, "cuda:0,1")
    look = shared_memory.Borrower.look

    def is_gone(self, lent):
        found = look(self, lent)
        if len(looks) in (2, 3):
            raise FileNotFoundError
        return found

    monkeypatch.setattr(shared_memory.Borrower, "look", is_gone)
    same(swept(job, on_gpus, OnCpu(samples_of(job), str(tmp_path))), swept(job, job.engine))
    assert not Path("/dev/shm").is_dir() or len(looks) > 3


def test_a_process_that_is_killed_ends_the_run_which_is_resumed_to_the_same_bits(
    tmp_path, monkeypatch, looks, forked
):
    job = job_of(tmp_path, work_dir=str(tmp_path / "work"), resume=True)
    monkeypatch.setattr(kept_results, "_RARITY", 0)
    on_gpus = on(job, "cuda:0,1")
    with pytest.raises(MachineError, match="died"):
        swept(job, on_gpus, OnCpu(samples_of(job), str(tmp_path), dies_at=160), cache_key="this")
    assert not held()
    job.engine.stats.passes.clear()
    resumed = swept(job, on_gpus, OnCpu(samples_of(job), str(tmp_path)), cache_key="this")
    left = job.engine.stats.passes[0][1]
    assert 0 < left < len(job.splits.fit)
    same(resumed, swept(job, job.engine))


_PARENT = """
import os, time
from onnxtweak.engine.workers.gpu_processes import gpu_processes
if __name__ == "__main__":
    with gpu_processes((None, None)) as processes:
        print(*{processes.submit(os.getpid).result() for _ in range(20)}, flush=True)
        processes.submit(time.sleep, 600).result()
"""


def test_processes_end_with_a_parent_that_was_killed(tmp_path):
    program = tmp_path / "parent.py"
    program.write_text(_PARENT)
    command = [sys.executable, str(program)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as parent:
        started = [int(number) for number in parent.stdout.readline().split()]
        assert started and all(map(running, started))
        parent.kill()
    deadline = time.monotonic() + 300
    while any(map(running, started)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(running, started))


def running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


class Killed(Exception):
    pass


def test_a_shared_pass_that_died_goes_on_after_its_last_whole_shard(tmp_path, monkeypatch, forked):
    job = job_of(tmp_path, work_dir=str(tmp_path / "work"), resume=True)
    whole = swept(job, job.engine)
    monkeypatch.setattr(processes, "gpu_count", lambda: 2)
    monkeypatch.setattr(kept_results, "_RARITY", 0)
    on_gpus = on(job, "cuda:0,1")
    merge, merged = shared_sweep.merge, []

    def dies(sweep, *others):
        if len(merged) == 2:
            raise Killed
        merge(sweep, *others)
        merged.append(sweep.at)

    monkeypatch.setattr(shared_sweep, "merge", dies)
    with pytest.raises(Killed):
        swept(job, on_gpus, OnCpu(samples_of(job), str(tmp_path)), cache_key="this")
    monkeypatch.setattr(shared_sweep, "merge", merge)
    job.engine.stats.passes.clear()
    resumed = swept(job, on_gpus, OnCpu(samples_of(job), str(tmp_path)), cache_key="this")
    total = len(job.splits.fit)
    assert job.engine.stats.passes[0] == ("score, 2 workers", total - 64)
    same(resumed, whole)
    assert list((tmp_path / "work").iterdir()) == []


def test_a_gpu_that_is_not_there_is_told_before_anything_starts(tmp_path, monkeypatch):
    job = job_of(tmp_path)
    monkeypatch.setattr(processes, "gpu_count", lambda: 1)
    on_gpus = on(job, "cuda:0,1")
    with pytest.raises(MachineError, match="does not answer"):
        swept(job, on_gpus, OnCpu(samples_of(job), str(tmp_path)))


def test_local_workers_that_cannot_start_are_the_machine_s_failure(monkeypatch):
    def no_locks(**asked):
        raise RuntimeError("Nanny failed to start.")

    fake = SimpleNamespace(LocalCluster=no_locks)
    monkeypatch.setattr(dask_cluster, "distributed", fake)
    with (
        pytest.raises(MachineError, match="worker processes cannot be started: Nanny failed") as failed,
        processes.open_workers(EngineSettings(device="cpu", workers=1)),
    ):
        pass
    assert "/dev/shm" in failed.value.hint


@pytest.mark.skipif(not hasattr(signal, "pthread_sigmask"), reason="signals of POSIX")
def test_what_is_begun_under_the_shield_never_sees_ctrl_c():
    seen = []
    with shielded():
        thread = Thread(target=lambda: seen.append(signal.pthread_sigmask(signal.SIG_BLOCK, ())))
        thread.start()
        thread.join()
    assert signal.SIGINT in seen[0]
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, ())
