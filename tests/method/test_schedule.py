"""The schedule: its language, its ranking, and stages that need no model (oracle 12)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from onnxtweak.engine.backends import open_backend
from onnxtweak.engine.passes import Engine, RunStats
from onnxtweak.errors import UsageError
from onnxtweak.goal import ResolvedGoal, worst
from onnxtweak.method.retrain.schedule import (
    NeuronPool,
    from_pool,
    from_table,
    parse_schedule,
    run_schedule,
)
from onnxtweak.method.retrain.synapses_by_class import NO_SYNAPSES, SynapsesByClass
from onnxtweak.method.table import Table
from onnxtweak.settings import EngineSettings, JoinSettings, RetrainSettings
from onnxtweak.types import silent

JOIN = JoinSettings(count=(1, 3, 6), scale=(0, 1, 3, 10))
ENGINE = Engine(EngineSettings(), open_backend(EngineSettings(backend="numpy")), silent, RunStats())


def a_pool(seed: int = 0, classes: int = 6, neurons: int = 24) -> NeuronPool:
    """Logits that know some classes badly, and neurons that know them better."""
    rng = np.random.default_rng(seed)
    # Some classes are told apart less well than others.
    strength = np.linspace(0.3, 3, classes)

    def split(samples):
        labels = rng.integers(0, classes, samples)
        Z = rng.normal(size=(samples, classes))
        Z[np.arange(samples), labels] += strength[labels]
        T = np.maximum(rng.normal(size=(samples, neurons)), 0)
        T[np.arange(samples), labels] += 1.5
        return Table(T.astype(np.float32), Z.astype(np.float32), labels)

    return NeuronPool(split(600), split(500), ResolvedGoal(np.arange(classes)), tuple("abcdef"[:classes]))


def right(Z: np.ndarray, table: Table) -> int:
    return int((Z.argmax(axis=1) == table.labels).sum())


def test_a_schedule_is_read():
    assert [
        str(stage) for stage in parse_schedule("J100 R100, j50 r50 J10")
    ] == "J100 R100 J50 R50 J10".split()


@pytest.mark.parametrize("text", ["J10 X5", "J", "J-3", "J0", "10J", "J10R10", "J1.5", "", "  "])
def test_a_typo_is_named(text):
    with pytest.raises(UsageError) as caught:
        parse_schedule(text)
    assert caught.value.hint
    assert text.split()[-1] in str(caught.value) if text.strip() else "empty" in str(caught.value)


def test_a_schedule_starts_with_a_join():
    with pytest.raises(UsageError, match="nothing to retrain"):
        parse_schedule("R10 J10")


def test_the_worst_classes_are_found_and_ties_go_to_the_lower_number():
    labels = np.repeat(np.arange(4), 10)
    predicted = labels.copy()
    predicted[[0, 10, 11, 20]] = 3
    assert worst(np.arange(4), predicted, labels, 1).tolist() == [1]
    assert worst(np.arange(4), predicted, labels, 2).tolist() == [0, 1]
    assert worst(np.array([2, 3]), predicted, labels, 9).tolist() == [2, 3]


def test_no_stage_loses_what_an_earlier_one_gained():
    pool = a_pool()
    grown, log = run_schedule(parse_schedule("J4 R4 J2 R2 J1"), pool, JOIN, RetrainSettings(), ENGINE)
    overall = [log[0].overall[0], *(done.overall[1] for done in log)]
    assert overall == sorted(overall)
    assert overall[-1] > overall[0] + 0.05
    assert [len(done.classes) for done in log] == [4, 4, 2, 2, 1]
    assert right(from_pool(pool)(grown)[1], pool.validation) == pytest.approx(overall[-1] * 500)


def test_synapses_accumulate_and_a_neuron_appears_once_a_class():
    pool = a_pool(1)
    first, _ = run_schedule(parse_schedule("J2"), pool, JOIN, RetrainSettings(), ENGINE)
    all_of_it, _ = run_schedule(parse_schedule("J2 J3 J3"), pool, JOIN, RetrainSettings(), ENGINE)
    assert set(first.column) <= set(all_of_it.column)
    for j, column in all_of_it.column.items():
        assert len(set(column)) == len(column)
        assert set(first.column.get(j, ())) <= set(column)
    column, synapses = all_of_it.flat()
    assert len(column) == len(synapses.target) == len(synapses.weight)
    assert (np.diff(synapses.target) >= 0).all()


def test_the_logits_are_the_bases_plus_the_synapses():
    pool = a_pool(2)
    grown, _ = run_schedule(parse_schedule("J3 R3"), pool, JOIN, RetrainSettings(), ENGINE)
    column, synapses = grown.flat()
    expected = pool.fit.Z.astype(np.float64)
    for k, j, w in zip(column, synapses.target, synapses.weight, strict=True):
        expected[:, j] += pool.fit.T[:, k] * w
    assert from_pool(pool)(grown)[0] == pytest.approx(expected, abs=1e-4)
    assert np.array_equal(from_pool(pool)(NO_SYNAPSES)[0], pool.fit.Z)


def test_only_candidates_are_picked_and_a_wide_stage_says_so():
    pool = replace(a_pool(), goal=ResolvedGoal(np.array([1, 4])))
    grown, log = run_schedule(parse_schedule("J100 R100"), pool, JOIN, RetrainSettings(), ENGINE)
    assert set(grown.column) <= {1, 4}
    assert "only 2 classes" in log[0].notes[0]


def test_a_stage_that_costs_a_class_too_much_is_undone():
    pool = a_pool()
    pool = replace(pool, goal=replace(pool.goal, max_class_drop=0.0))
    grown, _ = run_schedule(parse_schedule("J4 R4 J2"), pool, JOIN, RetrainSettings(), ENGINE)
    Z = from_pool(pool)(grown)[1]
    labels = pool.validation.labels
    for j in range(6):
        own = labels == j
        assert (Z[own].argmax(axis=1) == j).sum() >= (pool.validation.Z[own].argmax(axis=1) == j).sum()


def test_a_class_without_a_useful_neuron_is_told():
    pool = a_pool()
    T = pool.fit.T.copy()
    T[pool.fit.labels == 0] = 0
    spoiled = replace(pool, fit=replace(pool.fit, T=T), goal=ResolvedGoal(np.array([0])))
    grown, log = run_schedule(parse_schedule("J1 R1"), spoiled, JOIN, RetrainSettings(), ENGINE)
    assert not grown.column
    assert "class a" in log[0].notes[0]
    assert "nothing to retrain" in " ".join(log[1].notes)


def test_a_neuron_joined_again_adds_up():
    pool = a_pool()
    one = np.array([3])
    grown = SynapsesByClass({0: one}, {0: np.array([0.5])}, {0: np.array([1.0])}, {0: one})
    assert from_pool(pool)(grown)[0][:, 0] == pytest.approx(
        pool.fit.Z[:, 0] + 0.5 * pool.fit.T[:, 3], abs=1e-5
    )
    assert not grown.without([0]).column


def test_a_table_is_read_whole_or_by_rows():
    table = a_pool().fit
    got = list(from_table(table)("score", (), None))
    assert np.array_equal(np.concatenate([g.V[0] for g in got]), table.T)
    some = np.array([5, 17, 400])
    (only,) = from_table(table)("count", (), some)
    assert np.array_equal(only.Z, table.Z[some]) and np.array_equal(only.labels, table.labels[some])
    only.V[0][:] = 0  # theta may write into what it is given
    assert table.T[some].any()
