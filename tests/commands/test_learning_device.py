"""A run on a GPU learns there, and says so; the file it writes is the CPU's but for rounding."""

from contextlib import contextmanager
from functools import partial

import numpy as np
import onnx
import pytest

from onnxtweak.commands.augment import augment
from onnxtweak.commands.compare import compare
from onnxtweak.commands.fit import fit
from onnxtweak.commands.retrain import retrain
from onnxtweak.engine import passes
from onnxtweak.engine.workers.learning_device import LearningDevice
from onnxtweak.report.text.summary import result
from onnxtweak.settings import (
    AugmentSettings,
    DataSettings,
    FitSettings,
    JoinSettings,
    OutputSettings,
    RetrainSettings,
    TargetSettings,
)
from onnxtweak.stages import open_job
from onnxtweak.theta.numpy_backend import NumpyBackend
from tests.support import device_arrays
from tests.support.weak_class import TARGET, carry_out, more_samples, run, weak_mlp


class BackendOnGpu(NumpyBackend):
    """Theta by NumPy, learners by the stand-in for CuPy. learnt : how often they did."""

    xp, where, gpu_learning_bytes, learnt = device_arrays, "cuda:0", 2**30, 0

    @contextmanager
    def learning(self):
        type(self).learnt += 1
        yield


@pytest.fixture
def on_gpu(monkeypatch):
    """Called, it lets a GPU answer from then on, for tables of any size."""

    def answers():
        monkeypatch.setattr(open_job, "open_backend", lambda settings: BackendOnGpu())
        monkeypatch.setattr(passes, "LearningDevice", partial(LearningDevice, least=0))

    return answers


def augmented(model, data, written):
    settings = AugmentSettings(hidden=8, iterations=40, neurons=20)
    samples, output = DataSettings(data=(str(data),)), OutputSettings(str(written))
    return augment(model=str(model), data=samples, settings=settings, output=output)


def fitted(model, data, written):
    return carry_out(fit, model, data, written, settings=FitSettings(hidden=8, folds=2))


def retrained(model, data, written):
    join, settings = JoinSettings(count=(3,)), RetrainSettings(ridge=(0.1,))
    targets = TargetSettings((str(TARGET), str(TARGET + 1)))
    return carry_out(retrain, model, data, written, targets=targets, join=join, settings=settings)


@pytest.mark.parametrize("command", [fitted, augmented, retrained])
def test_a_run_on_a_gpu_learns_there(tmp_path, on_gpu, command):
    model, data = weak_mlp(tmp_path, n=500)
    here = command(model, data, tmp_path / "here.onnx")
    assert here.run.device["learning"] == "cpu"
    on_gpu()
    before, there = BackendOnGpu.learnt, command(model, data, tmp_path / "there.onnx")
    assert BackendOnGpu.learnt == before + 1
    assert there.run.device["learning"] in ("cuda:0", "cuda:0 and cpu")  # biases alone need no GPU
    said = [text for block in result(there) if hasattr(block, "pairs") for _, text in block.pairs]
    assert any("cuda:0" in text for text in said), said
    assert there.verdict == here.verdict
    x, _ = more_samples(model, 50, seed=9)
    tweaked = [run(onnx.load(tmp_path / name), x) for name in ("here.onnx", "there.onnx")]
    assert np.allclose(*tweaked, atol=1e-3)
    assert not np.allclose(tweaked[0], run(onnx.load(model), x), atol=1e-2)  # something was learnt


def test_a_comparison_learns_there_too(tmp_path, on_gpu):
    model, data = weak_mlp(tmp_path, n=300)
    on_gpu()
    made = carry_out(compare, model, data, settings=FitSettings(hidden=0, folds=2), methods=("fit",))
    assert "cuda:0" in made.run.device["learning"]
