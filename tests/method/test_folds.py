"""Folds: samples of one group are held out together, and nothing changes where there are no groups."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onnxtweak.errors import DataError
from onnxtweak.goal import ResolvedGoal
from onnxtweak.method.fit import trainings
from onnxtweak.method.fit.fit import fit_all
from onnxtweak.method.folds import Folds, fold_numbers, one_in
from onnxtweak.method.table import Table, stacked
from onnxtweak.settings import AugmentSettings, FitSettings
from tests.support.learning import learning
from tests.support.short_trainings import short_trainings


@settings(max_examples=40)
@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 12)), min_size=30, max_size=90), st.integers(0, 5)
)
def test_a_group_is_in_one_fold(rows, seed):
    labels, groups = np.array(rows).T
    if len(np.unique(groups)) < 2:
        return
    folds = Folds.of(labels, None, seed, groups=groups)
    for each in (folds, folds.coarse):
        assert all(len(np.unique(each.number[groups == group])) == 1 for group in np.unique(groups))
        assert 2 <= len(each.numbers)
    assert len(folds.numbers) <= len(np.unique(groups))
    stop = one_in(8, labels, seed, groups)
    assert 0 < stop.sum() < len(labels)
    assert not set(groups[stop]) & set(groups[~stop])


def test_folds_by_group_are_as_even_as_those_by_sample():
    labels = np.repeat(np.arange(4), 100)
    groups = np.arange(400) // 10
    number = Folds.of(labels, 5, 0, groups=groups).number
    counts = [np.bincount(labels[number == fold], minlength=4).tolist() for fold in range(5)]
    assert counts == [[20] * 4] * 5
    assert not np.array_equal(number, Folds.of(labels, 5, 1, groups=groups).number)


def test_samples_alone_are_dealt_as_ever():
    labels = np.arange(60) % 3
    np.testing.assert_array_equal(Folds.of(labels, 5, 3).number, fold_numbers(labels, 5, 3))
    np.testing.assert_array_equal(one_in(8, labels, 3), fold_numbers(labels, 8, 3) == 0)
    # In a single group there is nothing to keep apart.
    np.testing.assert_array_equal(one_in(8, labels, 3, np.zeros(60, np.int64)), one_in(8, labels, 3))


def test_one_group_cannot_be_held_out():
    with pytest.raises(DataError, match="of one group, so none can be held out"):
        Folds.of(np.arange(60) % 3, 5, 0, groups=np.zeros(60, np.int64))


def test_tables_carry_their_groups():
    rng = np.random.default_rng(0)
    tables = [
        Table(rng.normal(size=(6, 2)).astype(np.float32), rng.normal(size=(6, 3)), np.arange(6) % 3, codes)
        for codes in (np.arange(6) // 2, np.arange(6) // 3)
    ]
    both = stacked(tables)
    np.testing.assert_array_equal(both.groups, [0, 0, 1, 1, 2, 2, 0, 0, 0, 1, 1, 1])
    np.testing.assert_array_equal(both.rows(np.array([4, 11])).groups, [2, 1])
    np.testing.assert_array_equal(both.columns(np.array([0])).cooled(2.0).groups, both.groups)
    assert stacked([Table(t.T, t.Z, t.labels) for t in tables]).groups is None


def leaking(groups):
    """A table in which a neuron tells the group, whose labels are the same by chance alone."""
    rng = np.random.default_rng(1)
    codes = np.repeat(np.arange(40), 15)
    labels = rng.integers(0, 2, 40)[codes]
    T = rng.normal(size=(40, 30))[codes] + rng.normal(size=(600, 30)) / 10
    return Table(T.astype(np.float32), rng.normal(size=(600, 2)) / 10, labels, codes if groups else None)


@pytest.mark.parametrize("hidden", [0, 4])
def test_what_is_learnt_by_heart_about_a_group_is_not_taken_for_knowledge(hidden):
    """Held out sample by sample, such a patch looks perfect; held out by group, the base is the answer."""
    goal = ResolvedGoal(np.array([0, 1]))
    settings = FitSettings(hidden=hidden, folds=3)
    with short_trainings(200):
        found = {
            groups: fit_all(learning(leaking(groups)), {"all": np.arange(30)}, goal, settings)
            for groups in (False, True)
        }
    assert found[False].kind == "fit"
    assert found[True].kind != "fit"


@pytest.mark.parametrize("copies", [1, 2])
def test_a_group_teaches_a_hidden_layer_or_tells_when_to_stop_and_not_both(copies, monkeypatch):
    """Nor do a sample and its mirror image."""
    labels, groups, seen = np.arange(60) % 2, np.arange(60) // 5, []
    T = np.arange(60, dtype=np.float32)[:, None]
    table, folds = Table(T, np.zeros((60, 2)), labels, groups), Folds.of(labels, 3, 0, groups=groups)
    if copies == 2:
        table, folds = stacked((table, table)), folds.doubled
    monkeypatch.setattr(trainings, "train", lambda *parts, **_: seen.append(parts[:2]))
    made = trainings.Trainings.of(table, table.labels, folds, 4, kept=lambda _, make: make())
    for rows in (folds.learning(0), np.arange(60 * copies)):
        made._new(rows, [AugmentSettings()])
    (learnt, stopping), (everything, last) = seen
    assert not set(learnt.groups) & set(stopping.groups)
    assert sorted([*learnt.T[:, 0], *stopping.T[:, 0]]) == sorted(table.T[folds.learning(0), 0])
    assert np.unique(stopping.T, return_counts=True)[1].tolist() == [copies] * (len(stopping.T) // copies)
    assert everything is table and 0 < len(last.labels) < 20 * copies
