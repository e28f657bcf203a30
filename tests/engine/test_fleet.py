"""One process for each GPU: the whole way that `--device cuda:0,1` takes, with CPU sessions for CUDA's."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from onnxtweak.engine import checkpoint, scoring, spread
from onnxtweak.engine.passes import Engine
from onnxtweak.engine.plan import cut_taps
from onnxtweak.errors import MachineError
from onnxtweak.pipeline.job import FitSamples, prepare
from onnxtweak.settings import DataSettings, EngineSettings, TapSettings
from onnxtweak.types import silent
from tests.weak import weak_cnn

TARGETS = np.array([0, 2])


@dataclass(frozen=True)
class OnCpu:
    """Opens the samples where a GPU was given, writes down which, and runs the model on the CPU."""

    samples: FitSamples
    notes: str

    def __call__(self, engine: Engine) -> scoring.Read:
        # No test may need a GPU: this is the only place where the process differs from the real one.
        assert engine.settings.device == "cuda" and engine.backend.name == "numpy"
        Path(self.notes, f"{os.getpid()}").write_text(os.environ["CUDA_VISIBLE_DEVICES"])
        return self.samples(replace(engine, settings=replace(engine.settings, device="cpu")))


def job_of(folder, **settings):
    model, data = weak_cnn(folder, n=300)
    engine = EngineSettings(device="cpu", backend="numpy", shard=32, batch=8, threads=1, **settings)
    return prepare(str(model), DataSettings((str(data),)), engine, TapSettings(), silent)


def swept(job, engine, reopen=None, neurons=None, asked=None):
    fit = job.splits.fit
    read = scoring.from_model(job.subject, fit, job.engine, job.taps)
    blocks = cut_taps(job.taps, 1, EngineSettings(memory=8 * neurons)) if neurons else None
    blocks = blocks or scoring.theta_blocks(job.taps, len(TARGETS), engine)
    return list(
        scoring.theta_sweeps(read, blocks, fit.labels, TARGETS, "signed", engine, reopen=reopen, asked=asked)
    )


@pytest.mark.parametrize("neurons", [None, 300])
def test_two_gpus_give_the_bits_of_one_process(tmp_path, monkeypatch, neurons):
    job = job_of(tmp_path)
    (tmp_path / "notes").mkdir()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5,7")
    monkeypatch.setattr(spread, "gpu_count", lambda: 3)
    on_gpus = replace(job.engine, settings=replace(job.engine.settings, device="cuda:0,2"))
    parted = swept(job, on_gpus, OnCpu(job.reopen, str(tmp_path / "notes")), neurons)
    names = [name for name, _ in job.engine.ledger.passes]
    whole = swept(job, job.engine, None, neurons)
    seen = {file.read_text() for file in (tmp_path / "notes").iterdir()}
    assert seen and seen <= {"4", "7"}
    assert len(parted) == len(whole) == (1 if neurons is None else 2)
    assert sum("2 workers" in name for name in names) == len(parted)
    for one, other in zip(parted, whole, strict=True):
        np.testing.assert_array_equal(one.predicted, other.predicted)
        for a, b in zip(one.states, other.states, strict=True):
            assert b.hi.any()
            for name in ("hi", "lo", "count_hi", "count_lo", "total", "peak", "bad", "seen", "gap"):
                np.testing.assert_array_equal(getattr(a, name), getattr(b, name), err_msg=name)


class Killed(Exception):
    pass


def test_a_shared_pass_that_died_goes_on_after_its_last_whole_shard(tmp_path, monkeypatch):
    job = job_of(tmp_path, work_dir=str(tmp_path / "work"), resume=True)
    whole = swept(job, job.engine)
    monkeypatch.setattr(spread, "gpu_count", lambda: 2)
    monkeypatch.setattr(checkpoint, "_RARITY", 0)
    on_gpus = replace(job.engine, settings=replace(job.engine.settings, device="cuda:0,1"))
    merge, merged = spread.merge, []

    def dies(sweep, shard):
        if len(merged) == 2:
            raise Killed
        merge(sweep, shard)
        merged.append(sweep.at)

    monkeypatch.setattr(spread, "merge", dies)
    with pytest.raises(Killed):
        swept(job, on_gpus, OnCpu(job.reopen, str(tmp_path)), asked="this")
    monkeypatch.setattr(spread, "merge", merge)
    job.engine.ledger.passes.clear()
    resumed = swept(job, on_gpus, OnCpu(job.reopen, str(tmp_path)), asked="this")
    total = len(job.splits.fit)
    assert job.engine.ledger.passes[0] == ("score, 2 workers", total - 64)
    for a, b in zip(resumed[0].states, whole[0].states, strict=True):
        for name in ("hi", "lo", "count_hi", "count_lo", "total", "peak", "seen", "gap"):
            np.testing.assert_array_equal(getattr(a, name), getattr(b, name), err_msg=name)
    assert list((tmp_path / "work").iterdir()) == []


def test_a_gpu_that_is_not_there_is_told_before_anything_starts(tmp_path, monkeypatch):
    job = job_of(tmp_path)
    monkeypatch.setattr(spread, "gpu_count", lambda: 1)
    on_gpus = replace(job.engine, settings=replace(job.engine.settings, device="cuda:0,1"))
    with pytest.raises(MachineError, match="does not answer"):
        swept(job, on_gpus, OnCpu(job.reopen, str(tmp_path)))
