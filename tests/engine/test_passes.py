"""What a pass yields: folds of the planned size, the same ones however the samples are read."""

from dataclasses import replace

import numpy as np
import pytest

from onnxtweak.engine import passes
from onnxtweak.engine.passes import Folding, capture
from onnxtweak.settings import DataSettings, EngineSettings, TapSettings
from onnxtweak.stages.open_job import prepare
from onnxtweak.types import silent
from tests.support.weak_class import weak_cnn


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    model, data = weak_cnn(tmp_path_factory.mktemp("job"), n=300)
    engine = EngineSettings(device="cpu", backend="numpy", batch=8, threads=1)
    return prepare(str(model), DataSettings((str(data),)), engine, TapSettings(), silent)


def folds(job, every):
    return [
        (got.Z.copy(), [V.copy() for V in got.V], got.labels, got.rows)
        for got in capture(
            job.subject, job.splits.fit, job.engine, "look", job.taps, folding=Folding(every=every)
        )
    ]


@pytest.mark.parametrize("every", [None, 100, 8])
@pytest.mark.parametrize("fixed", [False, True])
def test_reading_for_a_gpu_batch_by_batch_yields_the_same_folds(monkeypatch, job, every, fixed):
    if fixed:
        job = replace(job, subject=replace(job.subject, batch=7))
    monkeypatch.setattr(
        passes, "plan_of", lambda *a, fixed=fixed, **k: passes.BatchPlan(7 if fixed else 8, 56, fixed)
    )
    expected = folds(job, every)
    opened = passes.session_of
    monkeypatch.setattr(passes, "session_of", lambda *a: replace(opened(*a), device="cuda:0"))
    made = folds(job, every)
    samples = len(job.splits.fit.rows)
    sizes = [len(rows) for *_, rows in made]
    assert sum(sizes) == samples and max(sizes) == min(56, every or 56) and len(sizes) > 1
    assert np.concatenate([rows for *_, rows in made]).tolist() == job.splits.fit.rows.tolist()
    for (Z, V, labels, rows), (Z2, V2, labels2, rows2) in zip(made, expected, strict=True):
        for a, b in zip([Z, *V, labels, rows], [Z2, *V2, labels2, rows2], strict=True):
            np.testing.assert_array_equal(a, b)
