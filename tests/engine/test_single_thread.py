"""Does linear algebra keep to one core where it is asked to, and get the others back?"""

from __future__ import annotations

import numpy as np
from threadpoolctl import threadpool_info, threadpool_limits

from onnxtweak.engine.machine.single_thread import single_thread
from onnxtweak.method import augment
from onnxtweak.method.table import Table
from onnxtweak.settings import AugmentSettings


def threads():
    return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}


def test_one_thread_within_and_as_many_as_before_afterwards():
    with threadpool_limits(2, user_api="blas"):
        before = threads()
        with single_thread():
            assert threads() == {1}
        assert threads() == before


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
