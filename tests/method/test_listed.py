"""Listed samples on tables made here: what is feasible is reached, as a linear programme agrees."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import linprog

from onnxtweak.head import ONE_LABEL
from onnxtweak.method.listed.disturbance import _inverse
from onnxtweak.method.listed.forms import Alike, Both, OneByOne
from onnxtweak.method.listed.repair import repair
from onnxtweak.method.patch_sum import added
from onnxtweak.method.solvers.squared_hinge import ListedRows, _Hinges, lead, separate
from onnxtweak.method.table import Table, stacked
from onnxtweak.patch import Linear, Mlp


def right(table, patch):
    return ONE_LABEL.right(patch.applied(table.Z, table.T), table.labels)


def made(n, K=8, C=4, seed=0, shift=0.0):
    """A table whose base is right on all samples."""
    rng = np.random.default_rng(seed)
    T = rng.normal(size=(n, K)).astype(np.float32)
    Z = (3 * T[:, :C] + rng.normal(size=(n, C)) * 0.2).astype(np.float32)
    T[:, -1] = 0.1 * T[:, -1] + shift
    return Table(T, Z, Z.argmax(axis=1))


def relabelled(table, seed=1):
    """The same samples with other labels: the base is wrong on all of them."""
    step = np.random.default_rng(seed).integers(1, table.Z.shape[1], len(table.labels))
    return Table(table.T, table.Z, (table.labels + step) % table.Z.shape[1])


class Plain:
    """Columns as they are, and one of `bias`."""

    name, margin = "plain", 1.0

    def __init__(self, neurons, bias=1):
        self.width, self.bias = neurons + 1, bias

    def features(self, T):
        return np.hstack([T, np.full((len(T), 1), self.bias, np.float32)])

    def patch(self, U):
        return Linear(U[:-1], self.bias * U[-1])


def feasible(table, margin):
    """Whether weights and biases exist that make every row right, by HiGHS."""
    n, K = table.T.shape
    C = table.Z.shape[1]
    rows, bounds = [], []
    for r in range(n):
        for i in set(range(C)) - {int(table.labels[r])}:
            row = np.zeros((K + 1, C))
            row[:, i] = np.append(table.T[r], 1)
            row[:, table.labels[r]] = -np.append(table.T[r], 1)
            rows.append(row.ravel())
            bounds.append(table.Z[r, table.labels[r]] - table.Z[r, i] - margin)
    size = (K + 1) * C
    return linprog(np.zeros(size), np.array(rows), bounds, bounds=[(-1e4, 1e4)] * size).status == 0


@pytest.mark.parametrize("count", [3, 9, 14, 20, 30])
@pytest.mark.parametrize("seed", range(3))
def test_weights_separate_what_a_linear_programme_says_can_be_separated(count, seed):
    must = relabelled(made(count, K=5, seed=seed), seed)
    U = separate(
        ListedRows(must.T, must.Z, must.labels, np.ones(count, bool), np.zeros(count, bool), Plain(5))
    ).U
    done = bool((lead(Plain(5).patch(U).applied(must.Z, must.T), must.labels) > 0).all())
    assert done or not feasible(must, margin=0.05)
    assert not done or feasible(must, margin=0.0)


def test_the_least_weights_satisfy_the_conditions_of_optimality():
    """Against SciPy, on the same objective at the penalty where it stopped."""
    from scipy.optimize import minimize

    must = relabelled(made(6, seed=4))
    rows = ListedRows(must.T, must.Z, must.labels, np.ones(6, bool), np.zeros(6, bool), Plain(8, bias=0))

    def objective(flat, penalty):
        scores = must.Z + must.T @ flat.reshape(8, 4)
        hinges = np.maximum(0, 1.0 - (scores[range(6), must.labels][:, None] - scores))
        hinges[range(6), must.labels] = 0
        return penalty * (hinges**2).sum() + (flat**2).sum() / 2

    U = separate(rows).U[:-1]
    best = {p: minimize(objective, U.ravel(), args=(p,), tol=1e-12).x for p in (0.01, 0.1, 1.0, 10.0, 100.0)}
    assert min(np.abs(U.ravel() - x).max() for x in best.values()) < 0.01


def test_logits_that_lie_in_columns_are_solved_alike():
    must = relabelled(made(20, K=5, seed=1), 1)
    problem = _Hinges(must.T, must.Z, must.labels, 1.0, np.ones((20, 1)))
    columns = replace(problem, Z=np.asfortranarray(must.Z))
    nothing = np.zeros_like(columns.Z)
    values = [one.value(nothing, np.zeros((5, must.Z.shape[1]))) for one in (problem, columns)]
    assert values[0][0] == values[1][0]
    np.testing.assert_array_equal(values[0][1], values[1][1])


def test_every_must_row_is_right_and_no_guarded_row_breaks():
    guarded, must = made(400, K=40), relabelled(made(10, K=40, seed=5))
    found = repair(must, guarded, 1.0)
    assert found.feasible.all()
    assert right(must, found.patch).all() and right(guarded, found.patch).all()


def test_units_leave_other_samples_alone():
    guarded, must = made(2000, K=30), relabelled(made(20, K=30, seed=5))
    found = repair(must, guarded, 1.0)
    assert isinstance(found.form, OneByOne) and found.held_out.good <= 0
    others = made(2000, K=30, seed=9)
    assert right(must, found.patch).all()
    assert (~right(others, found.patch)).mean() <= 0.002
    assert (~right(others, repair(must, made(0, K=30), 1.0).patch)).mean() > 0.1


def test_what_must_samples_share_is_put_right_on_others():
    """Samples moved along one neuron, which the base takes for something else."""
    guarded, moved = made(3000, K=12), made(60, K=12, seed=2, shift=3.0)
    wrong = Table(moved.T, moved.Z, np.zeros(60, np.int64))
    wrong = wrong.rows(np.flatnonzero(~ONE_LABEL.right(wrong.Z, wrong.labels)))
    must, others = wrong.rows(np.arange(30)), wrong.rows(np.arange(30, len(wrong.labels)))
    found = repair(must, guarded, 1.0)
    assert isinstance(found.form, Alike | Both) and found.held_out.good > 0
    assert right(must, found.patch).all() and right(guarded, found.patch).mean() > 0.97
    assert right(others, found.patch).mean() > 0.7


def test_rows_alike_with_two_labels_are_infeasible_and_the_rest_is_made_right():
    guarded, must = made(300, K=40), relabelled(made(8, K=40, seed=6))
    twin = must.rows(np.array([0]))
    other = (twin.labels + 1) % 4
    other = np.where(other == twin.Z.argmax(axis=1), (other + 1) % 4, other)
    both = Table(
        np.concatenate([must.T, twin.T]), np.concatenate([must.Z, twin.Z]), np.append(must.labels, other)
    )
    found = repair(both, guarded, 1.0)
    assert not found.feasible[[0, 8]].all() and found.feasible[1:8].all()
    assert right(both, found.patch)[1:8].all() and right(guarded, found.patch).all()


@pytest.mark.parametrize(("neurons", "made_right"), [(40, True), (2, False)])
def test_a_must_row_goes_before_ten_guarded_ones(neurons, made_right):
    """One that is a guarded row too, with another label: among few neurons many more resemble it."""
    guarded = made(300, K=neurons, C=2)
    inside = guarded.rows(np.array([0]))
    must = Table(inside.T, inside.Z, 1 - inside.labels)
    found = repair(must, guarded, 1.0)
    broken = int((~right(guarded, found.patch)).sum())
    assert found.feasible.all() == right(must, found.patch).all() == made_right
    assert 0 < broken <= 10 if made_right else broken == 0
    assert found.spared == (0 if made_right else 1)


def test_a_linear_patch_has_units_for_what_it_leaves_wrong():
    """What must-samples share is put right by it; one that contradicts that may get a unit."""
    guarded, moved = made(3000, K=40), made(200, K=40, seed=2, shift=3.0)
    wrong = Table(moved.T, moved.Z, np.zeros(200, np.int64))
    wrong = wrong.rows(np.flatnonzero(~ONE_LABEL.right(wrong.Z, wrong.labels)))
    must = Table(wrong.T, wrong.Z, np.where(np.arange(len(wrong.labels)) == 7, 3, wrong.labels))
    found = repair(must, guarded, 1.0)
    assert found.feasible.all() and right(guarded, found.patch).all()
    assert not isinstance(found.form, Both) or found.form.single.width < 10


def test_more_guarded_rows_are_learnt_from_where_the_last_solution_ended():
    guarded, must = made(400, K=40), relabelled(made(10, K=40, seed=5))
    more = made(2000, K=40, seed=11)
    first = repair(must, guarded, 1.0)
    broken = more.rows(np.flatnonzero(~right(more, first.patch)))
    again = repair(must, stacked([guarded, broken]), 1.0, first)
    assert type(again.form) is type(first.form) and again.solved.stage >= first.solved.stage
    assert right(must, again.patch).all() and right(guarded, again.patch).all()
    assert right(broken, again.patch).sum() > len(broken.labels) // 2


def test_without_guarded_rows_a_single_row_can_be_made_right():
    must = relabelled(made(1))
    found = repair(must, must.rows(np.array([], np.int64)), 1.0)
    assert right(must, found.patch).all()


def test_without_neurons_biases_are_set():
    must, guarded = relabelled(made(1)), made(50)
    none = np.empty(0, np.int64)
    patch = repair(must.columns(none), guarded.columns(none), 1.0).patch
    assert isinstance(patch, Linear) and patch.weight.shape == (0, 4)


def test_a_triangle_is_inverted_half_by_half():
    lower = np.tril(np.random.default_rng(0).normal(size=(301, 301)) * 0.1) + 3 * np.eye(301)
    np.testing.assert_allclose(_inverse(lower) @ lower, np.eye(301), atol=1e-9)


@pytest.mark.parametrize("forms", ["ll", "lm", "ml", "mm", "bm"])
def test_the_sum_of_patches_adds_what_both_add(forms):
    rng = np.random.default_rng(0)
    T, Z = rng.normal(size=(20, 7)).astype(np.float32), rng.normal(size=(20, 3)).astype(np.float32)

    def patch(form, K):
        if form == "m":
            return Mlp(*(rng.normal(size=shape) for shape in ((K, 5), (5,), (5, 3), (3,))))
        return Linear(rng.normal(size=(K, 3)) * (form == "l"), rng.normal(size=3))

    columns = np.array([4, 1, 6])
    one, other = patch(forms[0], 3), patch(forms[1], 7)
    expected = other.applied(one.applied(Z, T[:, columns]), T)
    np.testing.assert_allclose(added(one, columns, other, 7).applied(Z, T), expected, rtol=1e-4, atol=1e-4)
