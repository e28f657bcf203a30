"""The joint fit by chunks of rows: `multinomial`'s weights, and the same bits whoever makes the sums."""

from contextlib import closing, contextmanager

import numpy as np
import pytest

from onnxtweak.engine.workers import chunks, learning_device
from onnxtweak.engine.workers.chunks import Chunks
from onnxtweak.engine.workers.learning_device import LearningDevice
from onnxtweak.engine.workers.processes import Crew
from onnxtweak.method.fit.linear import search_ridges
from onnxtweak.method.folds import Folds
from onnxtweak.method.softmax import softmax
from onnxtweak.method.solvers.chunked import ChunkedProblem
from onnxtweak.method.solvers.design import design
from onnxtweak.method.solvers.multinomial import multinomial
from onnxtweak.method.solvers.regression import moments
from onnxtweak.method.table import Table
from onnxtweak.settings import EngineSettings

SAMPLES, CLASSES = 300, 4
EVERY = np.arange(CLASSES)


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    monkeypatch.setattr(chunks, "ROWS", 80)
    monkeypatch.setattr(learning_device, "ROWS", 80)
    monkeypatch.setattr(learning_device, "VERY_LARGE", 0)
    monkeypatch.setattr(chunks, "one_thread_for_good", lambda: None)  # workers are threads of this process


@pytest.fixture(scope="module")
def table():
    rng = np.random.default_rng(0)
    T = rng.normal(size=(SAMPLES, 6)).astype(np.float32) + 2
    Z = rng.normal(size=(SAMPLES, CLASSES)).astype(np.float32)
    labels = (Z + T @ rng.normal(size=(6, CLASSES)) + rng.gumbel(size=Z.shape)).argmax(axis=1)
    return Table(T, Z, labels)


def test_chunks_find_what_the_whole_does(table):
    made, weight = design(table.T), np.arange(SAMPLES) % 3 * 1.0
    shares = softmax(table.Z[:, ::-1].astype(np.float64))
    without_2 = np.where(table.labels == 2, 0.0, 1.0)
    for truth, free, weights in (
        (table.labels, EVERY, None),
        (table.labels, EVERY, weight),
        (table.labels, np.array([0, 3]), weight),
        (table.labels, EVERY, without_2),
        (shares, EVERY, weight),
    ):
        problem = ChunkedProblem.of(made, table.Z, truth, free, Chunks())
        whole = multinomial(made, table.Z, truth, ridge=0.01, free=free, sample_weight=weights)
        found = problem.solve(0.01, weights, None, 1e-8)
        assert found.loss == pytest.approx(whole.loss, abs=1e-6)
        assert np.allclose(found.scores, whole.scores, atol=2e-3)
        assert np.allclose(table.T @ found.weight + found.bias, found.scores, atol=1e-4)
        # On from there at another ridge, as from nothing.
        there = problem.solve(0.001, weights, found, 1e-8)
        assert there.loss == pytest.approx(problem.solve(0.001, weights, found.axes, 1e-8).loss, abs=1e-6)


def test_moments_are_those_of_the_whole(table):
    made, lacking, rows = design(table.T), table.Z[:, ::-1] - table.Z, np.arange(0, SAMPLES, 3)
    problem = ChunkedProblem.of(made, table.Z, table.labels, EVERY, Chunks())
    held = problem.held(lacking)
    for chosen in (None, rows):
        whole, found = moments(made, lacking, chosen), problem.moments(held, chosen)
        assert found.count == whole.count
        assert np.allclose(found.regressed(0.1), whole.regressed(0.1), atol=1e-5)


@contextmanager
def workers(count):
    """A crew of threads behind a scheduler, as if on other machines."""
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(
        n_workers=count,
        threads_per_worker=1,
        processes=False,
        dashboard_address=None,
        scheduler_kwargs={"dashboard_address": "127.0.0.1:0"},
    ) as cluster:
        crew = Crew(EngineSettings(scheduler=cluster.scheduler_address))
        with closing(crew._open):
            yield cluster, crew


def fitted(table, device):
    """What a family of neurons comes to, by samples held out."""
    on_device, folds = Table(table.T, table.Z, table.labels, device=device), Folds.of(table.labels, 2, 0)
    path = search_ridges(on_device, np.arange(6), "all", folds, ridges=(0.1,))
    assert path.chunked is not None
    return path.candidate().held_out


def test_one_two_and_four_workers_give_the_bits_of_none(table):
    here = fitted(table, LearningDevice())
    for count in (1, 2, 4):
        with workers(count) as (_, crew):
            device = LearningDevice(crew=crew)
            np.testing.assert_array_equal(fitted(table, device), here)
            assert f"{count} workers" in device.used


def test_workers_that_die_change_nothing(table, monkeypatch):
    made, evaluations, dead, sent = design(table.T), [], [], []
    expected = ChunkedProblem.of(made, table.Z, table.labels, EVERY, Chunks()).solve(0.01, None, None, 1e-8)
    each, send = Chunks.each, chunks._sent
    with workers(3) as (cluster, crew):

        def interrupted(self, *arguments):
            evaluations.append(None)
            if len(evaluations) in (1, 3):  # with the rows it holds, which nobody takes over
                dead.append(cluster.workers.pop(len(dead)))
                cluster.sync(dead[-1].close, nanny=False)
            return each(self, *arguments)

        def counted(*arguments):
            sent.append(arguments[-1])
            return send(*arguments)

        monkeypatch.setattr(Chunks, "each", interrupted)
        monkeypatch.setattr(chunks, "_sent", counted)
        problem = ChunkedProblem.of(made, table.Z, table.labels, EVERY, Chunks(crew))
        found = problem.solve(0.01, None, None, 1e-8)
    assert np.array_equal(found.axes, expected.axes) and found.loss == expected.loss
    assert len(dead) == 2 and len(sent) >= 2 * 4 + 2 * 2  # rows and weights, and those of a chunk of each


def test_only_very_large_tables_are_cut_and_only_other_machines_share(monkeypatch):
    monkeypatch.setattr(learning_device, "VERY_LARGE", 100 * 5 * 4)
    near, far = (Crew(EngineSettings(**settings)) for settings in ({"workers": 2}, {"scheduler": "x:1"}))
    assert LearningDevice().chunks(99, 5, 4) is None and LearningDevice().chunks(80, 50, 40) is None
    assert LearningDevice().chunks(100, 5, 4).crew is None
    assert LearningDevice(crew=near).chunks(100, 5, 4).crew is None
    assert LearningDevice(crew=far).chunks(100, 5, 4).crew is far
