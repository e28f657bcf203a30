"""Theta of positions that count unequally: METHOD 2 and 3 with weighted sums, written out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from onnxtweak.data.splits import View
from onnxtweak.data.stratified import Thinned
from onnxtweak.method.table import all_neurons, gather
from onnxtweak.settings import DataSettings, EngineSettings, TapSettings
from onnxtweak.stages.open_job import prepare
from onnxtweak.stages.score import score_neurons
from onnxtweak.types import silent
from tests.support.at_positions import LACKING, model_at_positions


@pytest.mark.parametrize("backend", ["numpy", "numba"])
def test_counts_and_lifts_are_weighted_sums(tmp_path, backend):
    made = model_at_positions("tokens", tmp_path, samples=80)
    settings = EngineSettings(backend=backend, device="cpu")
    job = prepare(str(made.model), DataSettings((str(made.data),)), settings, TapSettings(), silent)
    rows = job.splits.fit.rows[::2]
    weight = np.random.default_rng(0).integers(1, 5, len(rows)).astype(np.float64)
    thinned = Thinned(rows, weight * 2.5, np.ones(len(rows), bool))
    fit = View(job.splits.fit.dataset, rows, thinned)
    job = replace(job, splits=replace(job.splits, fit=fit))
    found = score_neurons(job, np.array([LACKING]), "signed", 100).best[0]
    table = gather(job.subject, fit, all_neurons(job.taps), job.engine, "all")
    V, Z, own = table.T.astype(np.float64), table.Z.astype(np.float64), table.labels == LACKING
    others = np.delete(Z, LACKING, axis=1)
    gap = others.max(axis=1) - Z[:, LACKING]
    rival = np.delete(np.arange(Z.shape[1]), LACKING)[others.argmax(axis=1)]
    breaks = ~own & (rival == table.labels) & (gap > 0)
    ratio = V / gap[:, None]
    safe = own & (gap < 0)
    most = np.maximum(ratio[breaks].max(axis=0, initial=0), ratio[safe].max(axis=0, initial=0))
    wanted = own & (gap > 0)
    count = (weight[wanted, None] * (ratio[wanted] > most)).sum(axis=0)
    mean = (weight[own, None] * V[own]).sum(axis=0) / weight[own].sum()
    assert (V >= 0).all() and (weight > 1).any()  # behind a Relu a positive weight is what helps
    up = found.weight > 0
    assert up.sum() > 5 and np.array_equal(found.count[up], count[found.number[up]])
    assert found.lift[up] == pytest.approx((found.weight * mean[found.number])[up], rel=1e-5)


def test_whole_repetitions_stand_for_weights_on_average():
    weight = np.repeat([1.0, 1.5, 2.25, 400.0], 2000)
    times = Thinned(np.arange(8000), weight * 3, np.ones(8000, bool)).times.reshape(4, -1)
    assert times.mean(axis=1) == pytest.approx([1, 1.5, 2.25, 50], rel=0.05) and times.min() == 1
