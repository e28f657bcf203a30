"""`fit --slice`: rows of a group are weighted, and the answer is judged by that group on samples held out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from onnxtweak.engine.machine.single_thread import side_by_side
from onnxtweak.errors import DataError
from onnxtweak.goal import ResolvedGoal, Slice
from onnxtweak.method.fit import linear, weighted
from onnxtweak.method.fit.by_goal import fit_goal
from onnxtweak.method.fit.fit import fit_all
from onnxtweak.method.fit.learning import Learning
from onnxtweak.method.fit.linear import fit_linear, search_ridges
from onnxtweak.method.fit.slice_judge import SliceJudge
from onnxtweak.method.fit.weighted import Judged
from onnxtweak.method.folds import Folds
from onnxtweak.method.solvers.design import design
from onnxtweak.method.solvers.multinomial import multinomial
from onnxtweak.method.table import Table, stacked
from onnxtweak.method.tuning.bias_control import overall_bias
from onnxtweak.method.tuning.target_bias import BiasChoice
from onnxtweak.settings import FitSettings
from tests.support.learning import learning
from tests.support.short_trainings import short_trainings

QUICK = FitSettings(hidden=0, max_class_drop=None)
RARE = Slice("kind", ("usual", "rare"), 1, named=True)


def samples(n: int, seed: int, share: float = 0.06) -> Table:
    """Two classes. The base reads one neuron; in a rare group of class 1 it points the other way, as another
    neuron, which means nothing elsewhere, tells."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, n)
    rare = (rng.random(n) < 2 * share) & (labels == 1)
    clear = (2 * labels - 1) * np.where(rare, -0.4, 1.2)
    first = clear + rng.normal(size=n)
    second = np.where(rare, 1.5, 0) + rng.normal(size=n)
    T = np.column_stack([first, second, rng.normal(size=(n, 6))]).astype(np.float32)
    Z = np.column_stack([-first, first]).astype(np.float32)
    return Table(T, Z, labels.astype(np.int64), None, rare.astype(np.int64))


def right(found, table: Table) -> np.ndarray:
    if found.candidate is None:
        return (table.Z + found.bias).argmax(axis=1) == table.labels
    patch = found.candidate.patch.with_bias(found.bias)
    return table.patched(found.candidate.columns, patch).argmax(axis=1) == table.labels


@pytest.mark.parametrize("hidden", [0, 8])
def test_the_slice_gains_more_than_the_joint_fit_gives_it(hidden):
    table, test = samples(1500, 0), samples(20_000, 1)
    goal = ResolvedGoal(np.array([0, 1]), max_overall_drop=1.0, slice=RARE)
    settings = FitSettings(hidden=hidden, max_class_drop=None, folds=3)
    with short_trainings(400):
        found = fit_goal(learning(table), {"all": np.arange(8)}, goal, settings)
        joint = fit_all(learning(table), {"all": np.arange(8)}, ResolvedGoal(goal.targets), settings)
    rare, was = test.slices == 1, test.Z.argmax(axis=1) == test.labels
    assert found.kind == "fit"
    assert right(found, test)[rare].mean() > right(joint, test)[rare].mean() + 0.05
    assert right(found, test).mean() > was.mean() - 0.01
    assert any("the slice weighted" in note and "held out, kind=rare" in note for note in found.notes)
    assert any(note.startswith("biases of all classes: held out") for note in found.notes)


def test_neurons_that_tell_nothing_of_a_slice_do_no_harm():
    """What is left for them is to shift a class, and that no further than costs nothing."""
    table, test = samples(1500, 0), samples(20_000, 1)
    goal, was = ResolvedGoal(np.array([0, 1]), slice=RARE), test.Z.argmax(axis=1) == test.labels
    for seed in range(3, 7):
        T = np.random.default_rng(seed).normal(size=(21_500, 8)).astype(np.float32)
        blind, new = replace(table, T=T[:1500]), replace(test, T=T[1500:])
        now = right(fit_goal(learning(blind), {"all": np.arange(8)}, goal, QUICK), new)
        assert now.mean() > was.mean() - 0.005


def test_a_slice_that_nothing_is_judged_by_is_refused():
    table = samples(300, 0)
    some = Learning(table, table.slices == 0)
    with pytest.raises(DataError, match="the slice kind=rare has no sample to judge by"):
        fit_goal(some, {"all": np.arange(8)}, ResolvedGoal(np.array([0, 1]), slice=RARE), QUICK)


def test_biases_are_the_answer_where_there_is_no_neuron_and_they_help():
    table = samples(3000, 0, share=0.2)
    shifted = Table(table.T, table.Z - np.array([0, 1.5], np.float32), table.labels, None, table.slices)
    goal = ResolvedGoal(np.array([0, 1]), slice=RARE)
    found = fit_goal(learning(shifted), {}, goal, QUICK)
    assert found.kind == "bias" and found.bias.any()
    rare = table.slices == 1
    assert right(found, shifted)[rare].mean() > (shifted.Z.argmax(axis=1) == 1)[rare].mean()


def test_one_group_gains_no_more_than_the_other_may_lose():
    """Of two groups that need opposite answers one can only gain what the other loses."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 1000).astype(np.int64)
    slices = (rng.random(1000) < 0.3).astype(np.int64)
    tells = (2 * labels - 1) * np.where(slices == 1, -1.0, 1.0)
    T = (tells + rng.normal(size=1000) / 2)[:, None].astype(np.float32)
    Z = np.column_stack([-T[:, 0], T[:, 0]])
    table, was = Table(T, Z, labels, None, slices), Z.argmax(axis=1) == labels

    def changes(**drops) -> tuple[float, float]:
        """Of the slice and of the others, in points."""
        goal = ResolvedGoal(np.array([0, 1]), slice=RARE, **drops)
        now = right(fit_goal(learning(table), {"all": np.arange(1)}, goal, QUICK), table)
        gained = now.astype(int) - was
        return gained[slices == 1].mean() * 100, gained[slices == 0].mean() * 100

    free = changes(max_overall_drop=100.0)
    assert free[0] > 80 and free[1] < -80
    # The overall accuracy may fall; but no group by more than a class may.
    bound = changes(max_overall_drop=100.0, max_class_drop=5.0)
    assert bound[1] > -6 and bound[0] < 20
    assert changes()[1] > -1


def test_a_weight_counts_as_copies_do():
    table = samples(400, 0)
    weight = np.where(table.slices == 1, 3.0, 1.0)
    copied = table.rows(np.repeat(np.arange(400), weight.astype(int)))
    weighted = Table(table.T, table.Z, table.labels, weight=weight)

    def fitted(of: Table):
        number = np.arange(len(of.labels)) % 2
        return fit_linear(of, np.arange(8), "all", Folds(number, np.ones(len(number), bool)), ridges=(0.1,))

    one, many = fitted(weighted), fitted(copied)
    # Columns are standardised without weights: the two differ by that alone.
    np.testing.assert_allclose(
        weighted.patched(one.columns, one.patch), weighted.patched(many.columns, many.patch), atol=0.15
    )
    plain = fitted(table)
    moved = weighted.patched(one.columns, one.patch) - table.patched(plain.columns, plain.patch)
    assert np.abs(moved).max() > 0.3
    bias = [
        overall_bias(t.Z, t.labels, ResolvedGoal(np.array([0, 1])), w)
        for t, w in ((table, weight.astype(np.int64)), (copied, None))
    ]
    np.testing.assert_allclose(*bias)


def test_each_weight_goes_on_where_the_last_one_ended(monkeypatch):
    """The columns are made ready once, and each fold begins at its own last weights, never at another's."""
    table = samples(400, 0)
    weight, folds = np.where(table.slices == 1, 3.0, 1.0), Folds.of(table.labels, None, 0)
    made, starts = [], []
    monkeypatch.setattr(linear, "design", lambda *of, **how: made.append(of) or design(*of, **how))

    def solved(*of, **how):
        starts.append(how["start"])
        return multinomial(*of, **how)

    monkeypatch.setattr(linear, "multinomial", solved)
    monkeypatch.setattr(linear, "AT_ONCE", 1)  # so that folds begin in order
    _, path = search_ridges(table, np.arange(8), "all", folds, ridges=(0.01,)).crossed()
    starts.clear()
    again = path.weighted(weight, "all").searched((0.01,))
    found, _ = again.crossed()
    assert len(made) == 1
    searched, crossed = starts[: len(path.numbers)], starts[len(path.numbers) :]
    for k, start in zip(path.numbers, searched, strict=True):
        np.testing.assert_array_equal(start, path.reached[k])
    for k, start in zip(folds.numbers, crossed, strict=True):
        np.testing.assert_array_equal(start, again.reached[k] if k in path.numbers else path.ended[k])
    cold = fit_linear(replace(table, weight=weight), np.arange(8), "all", folds, ridges=(0.01,))
    np.testing.assert_allclose(found.held_out, cold.held_out, atol=0.05)


def test_patches_are_judged_side_by_side(monkeypatch):
    judged = []

    def watched(task, patches, most):
        judged.append((len(patches), most))
        return side_by_side(task, patches, most)

    monkeypatch.setattr(weighted, "side_by_side", watched)
    goal = ResolvedGoal(np.array([0, 1]), slice=RARE)
    fit_goal(learning(samples(300, 0)), {"all": np.arange(8)}, goal, QUICK)
    assert judged == [(1 + len(weighted.WEIGHTS), linear.AT_ONCE)]


def test_weights_go_to_the_slice_or_to_all_that_lag_behind():
    codes = np.repeat([0, 1, 2], [1000, 500, 500])
    was = np.concatenate([np.arange(1000) < 950, np.arange(500) < 300, np.arange(500) < 400])
    named = Slice("site", ("a", "b", "c"), 2, named=True)
    assert named.need(codes, was)[[0, 1000, 1500]].tolist() == [0, 0, 1]
    worst = Slice.worst("site", ("a", "b", "c"), codes, was)
    assert str(worst) == "site=b" and not worst.named
    first, second, third = 8.0 ** worst.need(codes, was)[[0, 1000, 1500]]
    assert first == 1 and second == pytest.approx(8.0) and 1 < third < 8
    each = worst.accuracies(codes, was)
    assert worst.rating(codes, was) == pytest.approx((each[1] + each.mean()) / 2)
    assert named.rating(codes, was) == pytest.approx(named.accuracies(codes, was)[2])


def test_few_samples_do_not_make_a_group_the_worst():
    codes = np.repeat([0, 1, 2], [1000, 500, 2])
    was = np.concatenate([np.arange(1000) < 950, np.arange(500) < 300, [False, False]])
    assert str(Slice.worst("site", ("a", "b", "c"), codes, was)) == "site=b"


def test_slices_of_a_table_stay_with_their_rows():
    table = samples(20, 0)
    both = stacked([table, table.rows(np.arange(5))])
    np.testing.assert_array_equal(both.slices, np.append(table.slices, table.slices[:5]))


def test_a_choice_is_judged_by_the_slice_and_by_every_group():
    """Of 90 samples of each group the base has 60 right, of the whole as many under each choice."""
    codes, place = np.repeat([0, 1], 90), np.tile(np.arange(90), 2)
    labels = place % 2
    Z = np.where(labels == 1, 1, -1)[:, None] * np.where(place < 60, 1, -1)[:, None] * [0, 1.0]
    table = Table(np.zeros((180, 1), np.float32), Z.astype(np.float32), labels, slices=codes)

    def asked(right, max_class_drop=None):
        """Whether a choice keeps the limits, gains, and is ahead of what the base does."""
        goal = ResolvedGoal(np.arange(2), max_class_drop=max_class_drop, slice=RARE)
        judge = SliceJudge(table, goal, Folds(place % 2, np.ones(180, bool)), 1.0)
        one, base = (
            Judged(None, BiasChoice(np.zeros(2), each, True, ()), 0.0, Z) for each in (right, judge.was)
        )
        return judge.keeps(one.choice), judge.gains_surely(one), judge.ahead_of(one, base)

    rare, other = codes == 1, codes == 0
    moved = (place < 75) & rare | (
        place < 45
    ) & other  # 15 of 100 with the 10 samples that each group is lent
    back = (place < 45) & rare | (place < 75) & other
    assert asked(moved) == asked(moved, 15.1) == (True, True, True)
    assert asked(moved, 14.9) == (False, True, True)
    assert asked(back) == asked(back, 15.1) == (True, False, False)
    assert asked(back, 14.9) == (False, False, False)
