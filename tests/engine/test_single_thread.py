"""Does linear algebra keep to one core where it is asked to, and get the others back?"""

from __future__ import annotations

import os
import threading

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from onnxtweak.engine.machine.single_thread import side_by_side, single_thread, threads_for
from onnxtweak.method import augment
from onnxtweak.method.fit import linear
from onnxtweak.method.folds import Folds
from onnxtweak.method.table import Table
from onnxtweak.settings import AugmentSettings


def threads():
    return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}


def test_processes_that_share_the_tests_share_the_cores():
    processes = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    assert max(threads()) <= max((os.cpu_count() or 1) // processes, 1)


def test_one_thread_within_and_as_many_as_before_afterwards():
    with threadpool_limits(2, user_api="blas"):
        before = threads()
        with single_thread():
            assert threads() == {1}
        assert threads() == before


def test_small_products_take_one_thread_and_large_ones_what_there_are():
    with threadpool_limits(2, user_api="blas"):
        before = threads()
        with threads_for(1000 * 100 * 10):
            assert threads() == {1}
        with threads_for(10_000 * 1000 * 100):
            assert threads() == before


@pytest.mark.parametrize(("cores", "most", "at_once"), [(2, 2, 2), (2, 1, 1), (1, 2, 1)])
def test_tasks_take_a_core_each_and_no_more_are_begun_than_asked_for(cores, most, at_once):
    begun, meet = [], threading.Barrier(at_once)

    def task(item):
        begun.append(item)
        meet.wait(timeout=300)  # all that run at once come here
        return item, threads()

    with threadpool_limits(cores, user_api="blas"):
        before = threads()
        made = side_by_side(task, range(6), most)
        assert next(made) == (0, {1})
        assert sorted(begun) == list(range(at_once))
        assert [item for item, _ in made] == [1, 2, 3, 4, 5]
        assert threads() == before


@pytest.mark.parametrize("large", [False, True])
def test_folds_of_a_small_problem_are_solved_side_by_side_each_by_one_thread(monkeypatch, large):
    seen, solve = [], linear.multinomial

    def watched(*args, **settings):
        seen.append((threading.current_thread(), threads()))
        return solve(*args, **settings)

    monkeypatch.setattr(linear, "multinomial", watched)
    if large:
        monkeypatch.setattr(linear, "is_small", lambda products: False)
    rng = np.random.default_rng(0)
    labels = np.arange(90) % 3
    T, Z = rng.normal(size=(90, 5)).astype(np.float32), rng.normal(size=(90, 3)).astype(np.float32)
    table, folds = Table(T, Z, labels), Folds.of(labels, None, 0)
    with threadpool_limits(2, user_api="blas"):
        before = threads()
        found = linear.fit_linear(table, np.arange(5), "five neurons", folds)
    here = threading.current_thread()
    assert len(seen) > 5 and all((thread is here) == large for thread, _ in seen)
    assert all(count == (before if large else {1}) for _, count in seen)
    assert found.held_out.shape == (90, 3) and np.all(found.held_out != Z)


def test_minibatches_are_multiplied_by_one_thread(monkeypatch):
    seen, gradients = [], augment.gradients

    def watched(*args):
        seen.append(threads())
        return gradients(*args)

    monkeypatch.setattr(augment, "gradients", watched)
    rng = np.random.default_rng(0)
    T, Z = rng.normal(size=(64, 5)).astype(np.float32), rng.normal(size=(64, 3)).astype(np.float32)
    table = Table(T, Z, np.arange(64) % 3)
    with threadpool_limits(2, user_api="blas"):
        augment.train(table, table, AugmentSettings(hidden=4, iterations=3))
    assert seen and all(each == {1} for each in seen)
