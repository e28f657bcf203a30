"""Learners on a GPU learn what they do on the CPU: by CuPy where one answers, by its stand-in anywhere."""

import importlib.util
from dataclasses import replace

import numpy as np
import pytest

from onnxtweak.engine.workers.learning_device import LearningDevice, on_host
from onnxtweak.method.augment import train, training_library
from onnxtweak.method.fit.linear import search_ridges
from onnxtweak.method.fit.several.weights import design_of_marks
from onnxtweak.method.folds import Folds
from onnxtweak.method.retrain.weights import RetrainProblem, retrain_best
from onnxtweak.method.softmax import softmax
from onnxtweak.method.solvers.design import design
from onnxtweak.method.solvers.logistic import logistic
from onnxtweak.method.solvers.multinomial import multinomial
from onnxtweak.method.solvers.regression import moments
from onnxtweak.method.table import Table, stacked
from onnxtweak.settings import AugmentSettings
from tests.support import device_arrays

# What a GPU's order of summing may change, as docs/howto/scale.md states it: of logits, in nats.
CLOSE = 1e-3


def cupy_that_answers():
    if importlib.util.find_spec("cupy") is None:
        return None
    import cupy

    try:
        return cupy if cupy.arange(3).sum() == 3 else None
    except Exception:
        return None


@pytest.fixture(scope="module", params=["stand-in", "GPU"])
def xp(request):
    if request.param == "stand-in":
        return device_arrays
    found = cupy_that_answers()
    if found is None:
        pytest.skip("no GPU answers")
    return found


@pytest.fixture(scope="module")
def table():
    rng = np.random.default_rng(0)
    T = rng.normal(size=(300, 7)).astype(np.float32) @ rng.normal(size=(7, 7)).astype(np.float32) + 3
    T = np.column_stack([T, np.ones(300, np.float32)])  # a constant
    Z = rng.normal(size=(300, 4)).astype(np.float32)
    labels = (Z + T[:, :7] @ rng.normal(size=(7, 4)) + rng.gumbel(size=(300, 4))).argmax(axis=1)
    return Table(T, Z, labels)


def on(xp, table, least=0):
    return replace(table, device=LearningDevice(xp, 2**30, "cuda:0", least))


PROBLEMS = {
    "all classes": {},
    "some samples": {"sample_weight": np.arange(300) % 3 * 1.0},
    "some classes": {"free": np.array([0, 2])},
}


@pytest.mark.parametrize("problem", PROBLEMS)
def test_the_joint_fit(xp, table, problem):
    of = PROBLEMS[problem]
    here, there = (
        multinomial(design(table.T, xp=library), table.Z, table.labels, ridge=0.01, **of)
        for library in (np, xp)
    )
    again = multinomial(design(table.T, xp=xp), table.Z, table.labels, ridge=0.01, **of)
    assert np.array_equal(again.axes, there.axes)  # the same device gives the same bits
    assert np.allclose(here.scores, there.scores, atol=CLOSE)
    assert np.allclose(table.T @ there.weight + there.bias, there.scores, atol=CLOSE)
    # From what is known at one ridge to the next; without weights a sample still gets its scores.
    start = there.axes if of else there
    again = multinomial(design(table.T, xp=xp), table.Z, table.labels, ridge=0.001, **of, start=start)
    cold = multinomial(table.T, table.Z, table.labels, ridge=0.001, **of)
    assert again.loss == pytest.approx(cold.loss, abs=1e-5)
    assert isinstance(again.axes, np.ndarray)


def test_shares_of_classes_and_what_logits_lack(xp, table):
    shares = softmax(table.Z[:, ::-1].astype(np.float64))
    made = design(table.T), design(table.T, xp=xp)
    here, there = (multinomial(each, table.Z, shares, ridge=0.01) for each in made)
    assert np.allclose(here.scores, there.scores, atol=CLOSE)
    rows, lacking = np.arange(0, 300, 2), table.Z[:, ::-1] - table.Z
    for chosen in (None, rows):
        here, there = (each.in_units(moments(each, lacking, chosen).regressed(0.1, each.xp)) for each in made)
        assert all(np.allclose(a, b, atol=CLOSE) for a, b in zip(here, there, strict=True))


def test_several_labels(xp, table):
    marks = (table.Z[:, :2] + table.T[:, :2] > 3).astype(np.int64)
    marks[::7] = -1
    solved = []
    for each in (table, on(xp, table)):
        made = design_of_marks(each, np.arange(8), np.array([0, 1]))
        first = logistic(made, each.Z[:, :2], marks, 0.1)
        solved.append(logistic(made, each.Z[:, :2], marks, np.array([0.01, 0.1]), start=first))
    assert np.allclose(solved[0].scores, solved[1].scores, atol=CLOSE)


@pytest.mark.parametrize("columns", [None, ([0, 1, 2], [1, 2, 5])], ids=["own neurons", "shared neurons"])
def test_synapses_retrained(xp, table, columns):
    tables = [table.T[:, :3], table.T[:, 3:6]] if columns is None else [table.T[:, c] for c in columns]
    known = None if columns is None else [np.array(c) for c in columns]
    problem = RetrainProblem.of(tables, table.Z, table.labels, np.array([0, 2]), 2.0, known)
    device = LearningDevice(xp, 2**30, "cuda:0", least=0)
    for intercept in (False, True):
        here, there = (
            retrain_best(problem, problem, (0.1, 0.01), intercept=intercept, device=each)
            for each in (None, device)
        )
        assert here.ridge == there.ridge
        for ours, theirs in zip((*here.weight, here.bias), (*there.weight, there.bias), strict=True):
            assert np.allclose(ours, theirs, atol=CLOSE)
    assert device.used == {"cuda:0"}


def test_the_mlp(xp, table):
    settings = AugmentSettings(hidden=8, iterations=60, batch=32)
    fit, validation = table.rows(np.arange(200)), table.rows(np.arange(200, 300))
    here, there, again = (train(fit, validation, settings, xp=library) for library in (np, xp, xp))
    added = [made.patch.delta(validation.T) for made in (here, there, again)]
    assert np.allclose(added[0], added[1], atol=CLOSE)
    assert np.array_equal(added[1], added[2])  # the same device gives the same bits


def test_a_ridge_is_searched_for_where_the_table_says(xp, table):
    folds = Folds.of(table.labels, 5, 0)
    far = on(xp, table)
    whole = stacked((far.rows(np.arange(100)), far.rows(np.arange(100, 300))))
    paths = [search_ridges(each, np.arange(8), "all", folds) for each in (table, whole)]
    assert paths[0].ridge == paths[1].ridge
    here, there = (path.candidate() for path in paths)
    assert np.allclose(here.held_out, there.held_out, atol=CLOSE)
    assert np.allclose(here.patch.weight, there.patch.weight, atol=CLOSE)
    assert far.device.used == {"cuda:0"} and table.device.used == {"cpu"}
    assert paths[1].design.xp is xp


def test_small_tables_and_those_without_room_stay_on_the_cpu(table):
    there = replace(table, device=LearningDevice(device_arrays, 2**30, "cuda:0", least=300 * 8 * 4))
    assert there.device.for_solver(300, 8, 4) is device_arrays
    assert there.device.for_solver(299, 8, 4) is np
    assert replace(there.device, room=10_000).for_solver(300, 8, 4) is np
    assert LearningDevice().for_solver(10**6, 10**4, 10**3) is np
    assert there.device.used == {"cpu", "cuda:0"}
    # Of training, a minibatch counts, not the table.
    settings = AugmentSettings(hidden=40, batch=30)
    assert training_library(there, settings) is device_arrays
    assert training_library(there, replace(settings, batch=29)) is np


def test_the_stand_in_is_as_strict_as_cupy(table):
    far = device_arrays.asarray(table.Z)
    for mixed in (
        lambda: far + table.Z,
        lambda: np.asarray(far),
        lambda: far[table.labels],
        lambda: device_arrays.exp(table.Z, out=far),
    ):
        with pytest.raises(TypeError):
            mixed()
    assert on_host(far + np.float32(1)).dtype == np.float32
