"""Which back end is opened, the errors when none is, and whole passes with the GPU's back end on the CPU."""

import importlib.util
import os
import sys

import numpy as np
import pytest

import onnxtweak.theta.cupy
from onnxtweak.engine import backends
from onnxtweak.engine.backends import open_backend
from onnxtweak.engine.machine import gpu
from onnxtweak.engine.machine.gpu import gpu_count, gpu_numbers
from onnxtweak.engine.scoring.scoring import from_model, theta_blocks, theta_sweeps
from onnxtweak.engine.scoring.sweep import ScoringTask
from onnxtweak.engine.workers import gpu_processes
from onnxtweak.errors import MachineError
from onnxtweak.settings import DataSettings, EngineSettings, TapSettings
from onnxtweak.stages.open_job import prepare
from onnxtweak.theta import numpy_backend
from onnxtweak.types import silent
from tests.support import cupy_on_cpu
from tests.support.weak_class import weak_cnn


@pytest.fixture
def gpu_on_cpu(monkeypatch):
    """One GPU answers: its kernels are compiled for the CPU."""
    if cupy_on_cpu.compiler() is None:
        pytest.skip("no C++ compiler")
    monkeypatch.setitem(sys.modules, "cupy", cupy_on_cpu)
    monkeypatch.setattr(backends, "gpu_count", lambda: 1)
    for name in ("folds", "backend"):
        path = os.path.join(os.path.dirname(numpy_backend.__file__), "cupy", f"{name}.py")
        spec = importlib.util.spec_from_file_location(f"onnxtweak.theta.cupy.{name}", path)
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, spec.name, module)
        monkeypatch.setattr(onnxtweak.theta.cupy, name, module, raising=False)
        spec.loader.exec_module(module)


def test_devices_are_numbered_as_cuda_does():
    named = [gpu_numbers(device) for device in ("cpu", "auto", "cuda", "cuda:2", "cuda:0,3")]
    assert named == [(), (0,), (0,), (2,), (0, 3)]


def test_without_a_driver_no_gpu_answers(monkeypatch):
    def missing(name):
        raise OSError(name)

    monkeypatch.setattr(gpu.ctypes, "CDLL", missing)
    assert gpu_count.__wrapped__() == 0


@pytest.mark.parametrize("installed", [False, True])
def test_a_gpu_back_end_that_cannot_be_had_is_an_error_with_a_reason(monkeypatch, installed):
    monkeypatch.setattr(backends, "find_spec", lambda name: object() if installed else None)
    monkeypatch.setattr(backends, "gpu_count", lambda: 0)
    with pytest.raises(MachineError, match="GPU 0 does not answer" if installed else "CuPy is not") as caught:
        open_backend(EngineSettings(backend="cupy"))
    assert caught.value.exit_code == 4 and caught.value.hint


def test_auto_prefers_a_gpu_and_does_not_require_one(monkeypatch, gpu_on_cpu):
    assert open_backend(EngineSettings()).name == "cupy"
    assert open_backend(EngineSettings(device="cpu")).name == "numba"
    monkeypatch.setattr(backends, "gpu_count", lambda: 0)
    assert open_backend(EngineSettings()).name == "numba"


def test_a_gpu_that_computes_wrong_results_is_not_used(monkeypatch, gpu_on_cpu):
    monkeypatch.setattr(sys.modules["onnxtweak.theta.cupy.folds"], "fold_limits", lambda *state: None)
    with pytest.raises(MachineError, match="wrong results"):
        open_backend(EngineSettings(backend="cupy"))


def test_samples_are_copied_to_the_gpu_for_a_session_there(gpu_on_cpu):
    made = open_backend(EngineSettings(backend="cupy"))
    samples = np.arange(12, dtype=np.float32).reshape(3, 4)
    fed = made.feed(samples, "cuda:0")
    np.testing.assert_array_equal(fed, samples)
    assert not np.shares_memory(fed, samples)
    assert made.feed(samples, "cpu") is samples
    words = np.array(["a", "b"], object)
    assert made.feed(words, "cuda:0") is words


def test_a_full_gpu_is_told_in_plain_words(monkeypatch, gpu_on_cpu):
    made = open_backend(EngineSettings(backend="cupy"))

    def full(*shape):
        raise cupy_on_cpu.cuda.memory.OutOfMemoryError

    monkeypatch.setattr(cupy_on_cpu, "empty", full)
    with pytest.raises(MachineError, match="memory is full"):
        made.buffer((2, 3), "cuda:0")
    with pytest.raises(MachineError, match="memory is full"), made.learning():
        full()


def test_learners_give_the_gpu_s_memory_back(gpu_on_cpu):
    made = open_backend(EngineSettings(backend="cupy"))
    assert (made.where, made.gpu_learning_bytes) == ("cuda:0", 2**29)
    cupy_on_cpu.freed.clear()
    with made.learning():
        made.place(np.ones((2, 3), np.float32))
        assert not cupy_on_cpu.freed
    assert cupy_on_cpu.freed == ["all blocks"]


@pytest.mark.parametrize("theta", ["signed", "thesis"])
def test_a_pass_with_the_gpu_back_end_gives_the_cpus_bits(tmp_path, gpu_on_cpu, theta):
    model, data = weak_cnn(tmp_path, n=200)
    found = {}
    for backend in ("numpy", "cupy"):
        engine = EngineSettings(device="cpu", backend=backend, shard=64)
        job = prepare(str(model), DataSettings((str(data),)), engine, TapSettings(), silent)
        assert job.engine.backend.name == backend
        targets, fit = np.array([0, 2]), job.splits.fit
        blocks = theta_blocks(job.taps, 2, job.engine)
        read = from_model(job.subject, fit, job.engine, job.taps)
        (made,) = theta_sweeps(read, blocks, ScoringTask(fit.labels, targets, theta), job.engine)
        found[backend] = made.states
    for ours, theirs in zip(found["cupy"], found["numpy"], strict=True):
        assert theirs.count_hi.any()
        for name in ("hi", "lo", "count_hi", "count_lo", "total", "peak", "bad", "seen", "gap"):
            np.testing.assert_array_equal(getattr(ours, name), getattr(theirs, name), err_msg=name)


def test_one_process_per_gpu_sees_that_gpu_alone(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5,7")
    with gpu_processes.gpu_processes((0, 2)) as gpus:
        seen = {gpus.submit(os.getenv, "CUDA_VISIBLE_DEVICES").result() for _ in range(40)}
    assert seen <= {"4", "7"} and seen


def test_a_gpu_process_that_dies_is_told():
    with pytest.raises(MachineError, match="died"), gpu_processes.gpu_processes((None,)) as gpus:
        gpus.submit(os._exit, 1).result()
