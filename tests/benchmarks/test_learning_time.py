"""Do the benchmark of learning time and the oracles of scikit-learn run, and are their figures right?"""

from __future__ import annotations

import importlib
import sys
from dataclasses import replace
from queue import SimpleQueue
from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks.science.fit.oracles import ORACLES
from onnxtweak.method.compare.inputs import CompareInputs
from onnxtweak.method.table import Table
from tests.support.few_folds import three_folds


@pytest.fixture
def benchmark(monkeypatch):
    """The benchmark, which sets the number of threads when it is loaded."""
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.setenv(variable, "1")
    return importlib.import_module("benchmarks.speed.learning_time")


def test_fit_learns_more_than_the_base_knows_and_no_less_than_logistic_regression(
    benchmark, monkeypatch, capsys
):
    def here(*args):
        """What a process of its own would find."""
        found = SimpleQueue()
        benchmark.measure(found, *args)
        return found.get_nowait()

    size = ["--rows", "800", "--neurons", "60", "--classes", "5", "--case", "noisy", "--threads", "1"]
    goals = [word for goal in ("target", "slice", "f1") for word in ("--goal", goal)]
    monkeypatch.setattr(sys, "argv", ["learning_time.py", *size, "--hidden", "0", "--linear", *goals])
    monkeypatch.setattr(benchmark, "measured", here)
    with three_folds():
        benchmark.main()
    told = capsys.readouterr().out
    rows = [line.split("|") for line in told.splitlines() if line.startswith("| noisy")]
    timed = ["fit, target", "fit, slice", "fit, f1", "linear alone", "scikit-learn, one C"]
    assert [row[2].strip() for row in rows] == timed
    loss, base = ([float(row[place]) for row in rows] for place in (6, 7))
    assert loss[0] < base[0] - 0.1 and loss[0] <= loss[-1]
    assert len(set(base)) == 1 and all(float(row[5]) > 0 for row in rows)


def test_each_runs_in_a_process_of_its_own(benchmark):
    found = benchmark.measured(("noisy", 100, 8, 3), benchmark.of_linear)
    assert found["answer"].startswith("all") and found["peak"] > 0 and found["loss"] > 0


@pytest.mark.parametrize("name", ORACLES)
@pytest.mark.parametrize("classes", [2, 4])
def test_oracles_learn_from_neurons_and_leave_classes_without_samples_behind(name, classes):
    rng = np.random.default_rng(0)

    def one(samples):
        labels = rng.integers(0, classes, samples)
        T = rng.normal(size=(samples, 6)).astype(np.float32)
        T[:, 0] += 3 * (labels == 0)
        Z = rng.normal(size=(samples, classes + 1)).astype(np.float32)  # the last class has no sample
        Z[np.arange(samples), labels] += 1
        return Table(T, Z, labels)

    fit, validation, new = one(400), one(200), one(400)
    families = {"all": np.arange(6)}
    inputs = SimpleNamespace(fit=fit, validation=validation, families=families, temperature=1.0)
    inputs.result = lambda *args: CompareInputs.result(inputs, *args)
    result = ORACLES[name](inputs)
    Z = result.patch.applied(new.Z, new.T)
    assert (Z.argmax(axis=1) == new.labels).mean() > (new.Z.argmax(axis=1) == new.labels).mean() + 0.05
    assert (Z.argmax(axis=1) < classes).all() and result.parameters > 0
    assert replace(result, note="").held_out.shape == validation.Z.shape
