"""What fit learns from tables, and when it answers with less."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from onnxtweak.goal import ResolvedGoal
from onnxtweak.method.augment import train
from onnxtweak.method.fit import fit, mlp, trainings
from onnxtweak.method.fit.candidate import WORTH_HIDDEN, WORTH_READING, FitCandidate, simplest
from onnxtweak.method.fit.fit import Settling, fit_all, settle, try_all
from onnxtweak.method.fit.learning import Learning
from onnxtweak.method.fit.linear import TOGETHER, fit_linear, search_families, search_ridges
from onnxtweak.method.fit.small import fit_small, pursue, shrink
from onnxtweak.method.fit.trainings import DECAYS
from onnxtweak.method.folds import Folds, fold_numbers, folds_for
from onnxtweak.method.softmax import log_loss, log_losses, softmax
from onnxtweak.method.solvers.multinomial import multinomial
from onnxtweak.method.table import Table
from onnxtweak.method.temperature import losses_cooled
from onnxtweak.patch import Linear
from onnxtweak.settings import FitSettings
from onnxtweak.types import silent
from tests.support.learning import learning
from tests.support.short_trainings import short_trainings

SETTINGS = FitSettings(margin=1.0)
LINEAR = replace(SETTINGS, hidden=0)


def tables(samples, *, seed=0, strength=1.0, lack=1.0, noise=20, classes=4):
    """A base that ignores 5 telling neurons of 5 + `noise`, and holds class 0 back by `lack`."""
    rng = np.random.default_rng(seed)
    fixed = np.random.default_rng(77)
    T = rng.normal(size=(samples, 5 + noise)).astype(np.float32)
    Z = rng.normal(size=(samples, classes)) * 2
    W = fixed.normal(size=(5, classes)) * strength
    labels = (Z + T[:, :5] @ W + rng.gumbel(size=Z.shape)).argmax(axis=1)
    Z[:, 0] -= lack
    return Table(T, Z.astype(np.float32), labels)


def applied(found, table, targets):
    Z = table.Z.copy()
    if found.kind == "fit":
        patch = found.candidate.patch
        Z = Z + (table.T[:, found.candidate.columns] @ patch.weight + patch.bias).astype(np.float32)
    Z += found.bias.astype(np.float32)
    return Z.argmax(axis=1) == table.labels


TARGETS = np.array([0])


def test_telling_neurons_lift_the_target_far_above_the_bias_at_the_same_overall_accuracy():
    fit, test = tables(3000, lack=2.0), tables(5000, seed=1, lack=2.0)
    found = fit_all(learning(fit), {"all": np.arange(25)}, ResolvedGoal(TARGETS), SETTINGS)
    assert found.kind == "fit"
    was, now = test.Z.argmax(axis=1) == test.labels, applied(found, test, TARGETS)
    biased = test.Z.copy()
    biased[:, 0] += np.float32(found.control[0])
    control = biased.argmax(axis=1) == test.labels
    own = test.labels == 0
    assert now.mean() >= was.mean() - 0.005
    assert now[own].mean() > control[own].mean() + 0.15


def test_held_out_logits_foretell_new_samples():
    fit, test = tables(2000), tables(20_000, seed=1)
    found = fit_linear(fit, np.arange(25), "all", Folds.of(fit.labels, 5, 0))
    new = test.Z + test.T @ found.patch.weight + found.patch.bias
    assert found.loss == pytest.approx(log_loss(new, test.labels), abs=0.03)
    assert log_loss(fit.Z + fit.T @ found.patch.weight + found.patch.bias, fit.labels) < found.loss


def test_useless_neurons_leave_the_bias():
    fit = tables(2000, strength=0.0, lack=2.0)
    found = fit_all(learning(fit), {"all": np.arange(25)}, ResolvedGoal(TARGETS), LINEAR)
    assert found.kind in ("bias", "fit")
    assert found.bias[0] > 0
    if found.kind == "fit":
        assert found.candidate.columns.size == 0


def test_nothing_to_gain_leaves_the_base_or_a_bias_that_costs_nothing():
    test = tables(20_000, seed=1000, strength=0.0, lack=0.0)
    was = (test.Z.argmax(axis=1) == test.labels).mean()
    kinds, lost = [], []
    for seed in range(8):
        fit = tables(1500, seed=seed, strength=0.0, lack=0.0)
        found = fit_all(learning(fit), {"all": np.arange(25)}, ResolvedGoal(TARGETS), LINEAR)
        kinds.append(found.kind)
        lost.append(was - applied(found, test, TARGETS).mean())
        assert found.kind != "base" or "the answer is the base" in found.notes[-1]
    assert kinds.count("base") >= 4 and kinds.count("fit") <= 1
    assert np.mean(lost) < 0.003


def test_the_family_of_lower_held_out_loss_is_chosen():
    fit = tables(1200, lack=1.0)
    found = fit_all(
        learning(fit), {"noise": np.arange(5, 25), "telling": np.arange(5)}, ResolvedGoal(TARGETS), LINEAR
    )
    assert "telling" in found.candidate.name
    assert any("noise" in note for note in found.notes)


def test_a_class_without_samples_keeps_its_logit():
    fit = tables(1500, classes=5)
    fit = fit.rows(np.flatnonzero(fit.labels != 3))
    found = fit_linear(fit, np.arange(25), "all", Folds.of(fit.labels, 5, 0))
    assert (found.patch.weight[:, 3] == 0).all() and found.patch.bias[3] == 0
    assert np.array_equal(found.held_out[:, 3], fit.Z[:, 3])


def test_all_classes_as_targets_are_fitted_and_get_no_bias():
    fit, test = tables(1000), tables(4000, seed=1)
    targets = np.arange(4)
    found = fit_all(learning(fit), {"all": np.arange(25)}, ResolvedGoal(targets), LINEAR)
    assert found.kind == "fit" and not found.bias.any()
    assert applied(found, test, targets).mean() > (test.Z.argmax(axis=1) == test.labels).mean() + 0.05


def test_the_same_seed_gives_the_same_patch():
    fit = tables(500)
    small = replace(SETTINGS, hidden=8, folds=3)
    one, other = (
        fit_all(learning(fit), {"all": np.arange(25)}, ResolvedGoal(TARGETS), small, seed=3) for _ in range(2)
    )
    assert np.array_equal(one.candidate.patch.weight, other.candidate.patch.weight)
    assert np.array_equal(one.bias, other.bias)


def test_choices_are_judged_on_the_samples_named():
    """Half of the samples are memorised: the base is sure and right on them."""
    fit = tables(800, lack=2.0)
    Z = fit.Z.copy()
    seen = np.arange(800) < 300
    Z[np.flatnonzero(seen), fit.labels[seen]] += 20
    some = Learning(Table(fit.T, Z, fit.labels), ~seen)
    found = fit_all(some, {"all": np.arange(25)}, ResolvedGoal(TARGETS), LINEAR)
    assert len(found.choice.right) == 500


def test_a_patch_that_costs_a_class_too_much_is_weakened():
    fit, test = tables(3000, lack=2.0), tables(6000, seed=1, lack=2.0)
    free, sparing = (
        fit_all(learning(fit), {"all": np.arange(25)}, ResolvedGoal(TARGETS, max_class_drop=drop), LINEAR)
        for drop in (None, 3.0)
    )
    was = test.Z.argmax(axis=1) == test.labels
    lost = [
        max(was[test.labels == c].mean() - applied(found, test, TARGETS)[test.labels == c].mean()
            for c in range(4))
        for found in (free, sparing)
    ]  # fmt: skip
    assert sparing.kind == "fit"
    assert lost[1] < 0.07 < lost[0]


def test_a_budget_is_kept_and_the_telling_neurons_are_found():
    fit, test = tables(1000, noise=40), tables(4000, seed=1, noise=40)
    found = fit_all(
        learning(fit), {"all": np.arange(45)}, ResolvedGoal(TARGETS), replace(SETTINGS, budget=24)
    )
    patch = found.candidate.patch
    assert patch.weight.size + patch.bias.size <= 24
    assert set(found.candidate.columns) == {0, 1, 2, 3, 4}
    assert applied(found, test, TARGETS)[test.labels == 0].mean() > 0.9


@pytest.mark.parametrize("choose", [pursue, shrink])
def test_held_out_logits_of_pursuit_know_nothing_of_their_samples(choose):
    """On labels that no neuron tells of, choosing neurons must not seem to help."""
    fit = tables(600, strength=0.0, lack=0.0, noise=200)
    folds = Folds.of(fit.labels, 5, 0)
    found = fit_small(fit, np.arange(205), 10, folds, choose, "choosing", ridges=(0.01,))
    assert found.loss > log_loss(fit.Z, fit.labels)


@pytest.mark.parametrize("folds", [2, 5])
def test_folds_are_even_and_every_class_is_spread(folds):
    labels = np.repeat([0, 1, 2], [50, 11, 1])
    fold = fold_numbers(labels, folds, 0)
    sizes = np.bincount(fold, minlength=folds)
    assert np.ptp(sizes) <= 1
    assert np.ptp(np.bincount(fold[labels == 1], minlength=folds)) <= 1
    assert not np.array_equal(fold, fold_numbers(labels, folds, 1))


def numbers(found):
    patch = found.candidate.patch
    return np.count_nonzero(patch.weight) + np.count_nonzero(patch.bias)


@pytest.mark.parametrize("budget", [1, 2, 3, 4, 7, 8, 18])
def test_a_budget_is_never_exceeded_however_small(budget):
    fit = tables(800, lack=2.0)
    found = fit_all(
        learning(fit), {"all": np.arange(25)}, ResolvedGoal(TARGETS), replace(SETTINGS, budget=budget)
    )
    bias = np.zeros(4) if found.candidate is None else found.candidate.patch.bias.copy()
    bias += found.bias
    weights = 0 if found.candidate is None else np.count_nonzero(found.candidate.patch.weight)
    assert weights + np.count_nonzero(bias) <= budget
    assert found.kind != "base"


def test_a_budget_of_less_than_a_number_a_target_leaves_the_base_and_says_so():
    fit = tables(1200, lack=2.0)
    found = fit_all(
        learning(fit), {"all": np.arange(25)}, ResolvedGoal(np.array([0, 2])), replace(SETTINGS, budget=1)
    )
    assert found.kind == "base"
    assert "a budget of 1 number does not cover a bias for each of 2 targets" in found.notes[-1]


def test_where_no_neuron_for_all_classes_is_affordable_the_targets_get_synapses():
    fit, test = tables(3000, lack=2.0, classes=12), tables(6000, seed=1, lack=2.0, classes=12)
    found = fit_all(learning(fit), {"all": np.arange(25)}, ResolvedGoal(TARGETS), replace(SETTINGS, budget=6))
    assert found.kind == "fit" and numbers(found) <= 6
    assert np.flatnonzero(found.candidate.patch.weight.any(axis=0)).tolist() == [0]
    was, now = test.Z.argmax(axis=1) == test.labels, applied(found, test, TARGETS)
    own = test.labels == 0
    assert now[own].mean() > was[own].mean() + 0.1 and now.mean() >= was.mean() - 0.01


def test_synapses_are_limited_but_not_biases():
    fit = tables(600, lack=2.0)
    found = fit_all(
        learning(fit), {"all": np.arange(25)}, ResolvedGoal(TARGETS), replace(SETTINGS, synapses=9)
    )
    assert 0 < np.count_nonzero(found.candidate.patch.weight) <= 9


@pytest.mark.parametrize("choose", [pursue, shrink])
def test_small_patches_find_the_telling_neurons(choose):
    fit = tables(2000, noise=60)
    assert [chosen.tolist() for chosen in choose(fit, 5, [0.1, 1e-3])] == 2 * [[0, 1, 2, 3, 4]]


def test_all_classes_are_judged_by_the_overall_accuracy_against_a_bias_for_each():
    fit, test = tables(1200, lack=2.0), tables(4000, seed=1, lack=2.0)
    found = fit_all(
        learning(fit), {"all": np.arange(25)}, ResolvedGoal(np.arange(4), max_class_drop=5.0), LINEAR
    )
    was, now = test.Z.argmax(axis=1) == test.labels, applied(found, test, np.arange(4))
    biased = (test.Z + found.control.astype(np.float32)).argmax(axis=1) == test.labels
    assert found.kind == "fit" and found.control.any()
    assert now.mean() > biased.mean() > was.mean()


def test_all_classes_with_nothing_to_learn_leave_a_bias_or_the_base():
    fit = tables(1500, strength=0.0, lack=2.0)
    found = fit_all(learning(fit), {"all": np.arange(25)}, ResolvedGoal(np.arange(4)), LINEAR)
    assert found.kind == "bias" and found.bias[0] > found.bias[1]
    even = tables(1500, strength=0.0, lack=0.0)
    assert fit_all(learning(even), {"all": np.arange(25)}, ResolvedGoal(np.arange(4)), LINEAR).kind == "base"


@pytest.mark.parametrize("spoil", ["constant", "collinear", "separable", "few"])
def test_awkward_tables_give_finite_weights(spoil):
    fit = tables(600)
    T, Z = fit.T.copy(), fit.Z.copy()
    if spoil == "constant":
        T[:, 5:] = 3.0
    if spoil == "collinear":
        T[:, 5:10] = T[:, :5]
    if spoil == "separable":
        T[:, 0] = (fit.labels == 0) * 100.0
        Z[:] = 0
    table = Table(T, Z, fit.labels).rows(np.arange(12 if spoil == "few" else 150))
    for budget in (None, 20):
        folds = None if spoil == "few" else 3
        settings = replace(SETTINGS, budget=budget, hidden=4, folds=folds)
        with short_trainings():
            found = fit_all(learning(table), {"all": np.arange(25)}, ResolvedGoal(TARGETS), settings)
        assert np.isfinite(found.bias).all()
        if found.candidate is not None:
            assert all(np.isfinite(part).all() for part in vars(found.candidate.patch).values())


def test_where_all_target_samples_are_right_already_all_samples_decide():
    """As on samples that the base has nearly all memorised."""
    fit = tables(1200, lack=0.0)
    Z = fit.Z.copy()
    own = np.flatnonzero(fit.labels == 0)
    Z[own, 0] += 20
    table = Table(fit.T, Z, fit.labels)
    assert (Z.argmax(axis=1) == fit.labels)[own].all()
    found = fit_all(learning(table), {"all": np.arange(25)}, ResolvedGoal(TARGETS), LINEAR)
    assert found.kind == "fit"
    assert (
        found.choice.right[own].all() and found.choice.right.mean() > (Z.argmax(axis=1) == fit.labels).mean()
    )


def turned(table, *, places):
    """The table as of mirrored images: pairs of neurons have changed places, or else signs; labels stay."""
    T = table.T[:, np.arange(60) ^ 1] if places else -table.T
    return Table(T, table.Z, table.labels)


def symmetric(samples, seed):
    """Two neurons tell class 0, by their sum, so that a mirror that swaps them changes nothing."""
    rng = np.random.default_rng(seed)
    T = rng.normal(size=(samples, 60)).astype(np.float32)
    Z = rng.normal(size=(samples, 3))
    labels = (Z + np.outer(T[:, :2].sum(axis=1), [1.5, 0, 0]) + rng.gumbel(size=Z.shape)).argmax(axis=1)
    return Table(T, Z.astype(np.float32), labels)


@pytest.mark.parametrize("hidden", [0, 8])
def test_mirrored_copies_are_learnt_from_where_samples_held_out_prefer_it(hidden):
    fit, settings = symmetric(300, 0), replace(SETTINGS, hidden=hidden)
    for places in (True, False):
        some = learning(fit, copies=turned(fit, places=places))
        found = try_all(some, {"all": np.arange(60)}, Folds.of(fit.labels, 5, 0), hidden=settings.hidden)
        assert ("mirrored too" in found[1].name) is places
        assert any("mirrored too" in other for other in found[1].behind) is not places
        assert all(candidate.held_out.shape == fit.Z.shape for candidate in found)
        if places:
            weight = found[1].patch.weight
            assert np.allclose(weight[0::2], weight[1::2], atol=0.01)  # neither side is preferred


@pytest.mark.parametrize("budget", [None, 12])
def test_mirrored_copies_are_learnt_from_in_any_case_where_asked(budget):
    fit = symmetric(300, 0)
    settings = replace(LINEAR, budget=budget)
    plain = fit_all(learning(fit), {"all": np.arange(60)}, ResolvedGoal(TARGETS), settings)
    wrong = learning(fit, copies=turned(fit, places=False), always=True)
    found = fit_all(wrong, {"all": np.arange(60)}, ResolvedGoal(TARGETS), settings)
    offered = replace(wrong, always=False)
    assert plain.kind == "fit" and found.kind != "fit"  # a neuron and its negative cancel out
    assert fit_all(offered, {"all": np.arange(60)}, ResolvedGoal(TARGETS), settings).kind == "fit"


def test_copies_are_judged_on_where_the_base_knows_the_samples_by_heart():
    fit = symmetric(300, 0)
    by_heart = Table(fit.T, np.eye(3, dtype=np.float32)[fit.labels] * 20, fit.labels)
    some = learning(by_heart, copies=turned(fit, places=True), always=True)
    found = fit_all(some, {"all": np.arange(60)}, ResolvedGoal(TARGETS), LINEAR)
    other = fit_all(some.judged_on_copies, {"all": np.arange(60)}, ResolvedGoal(TARGETS), LINEAR)
    assert (found.kind, other.kind) == ("base", "fit")


def test_a_copy_is_held_out_with_its_original_and_never_judged_on():
    folds = Folds.of(np.arange(40) % 4, 5, 0, judged=np.arange(40) < 30).doubled
    assert np.array_equal(folds.number[:40], folds.number[40:])
    assert folds.judged.sum() == 30 and not folds.judged[40:].any()


def test_of_families_that_do_as_well_the_smallest_is_chosen():
    fit = tables(1500)
    families = {"telling": np.arange(5), "telling and noise": np.arange(25)}
    found = fit_all(learning(fit), families, ResolvedGoal(TARGETS), LINEAR)
    assert found.candidate.name.startswith("telling, ridge")


def test_columns_of_all_families_are_tried_together_where_the_first_do_not_suffice():
    fit = tables(1500)
    families = {"some": np.arange(1), "one": np.arange(3), "other": np.array([0, 3, 4, 5])}
    paths = search_families(fit, families, Folds.of(fit.labels, None, 0), silent)
    assert paths[0].name == TOGETHER and paths[0].columns.tolist() == list(range(6))
    assert paths[0].loss < min(path.loss for path in paths[1][:3])
    enough = {"telling": np.arange(5), "noise": np.append(0, np.arange(6, 9)), "more": np.arange(6, 12)}
    best, tried = search_families(fit, enough, Folds.of(fit.labels, None, 0), silent)
    assert best.name == "telling" and len(tried) == 3


def test_a_class_that_is_held_out_whole_does_not_spoil_the_held_out_loss():
    rng = np.random.default_rng(0)
    labels = np.append(rng.integers(0, 4, 396), [4, 5, 6, 7])  # four classes of one sample each
    Z = (3 * np.eye(8)[labels] + rng.normal(size=(400, 8))).astype(np.float32)
    table = Table(np.zeros((400, 0), np.float32), Z, labels)
    found = fit_linear(table, np.empty(0, np.int64), "biases", Folds.of(labels, 5, 0))
    single = log_losses(found.held_out[396:], labels[396:])
    assert single.max() < log_losses(Z[396:], labels[396:]).max() + 3  # 10 more, if biases flee from it


def test_few_samples_of_a_class_deserve_more_folds_but_many_samples_do_not():
    assert [folds_for(np.arange(n) % 100) for n in (2000, 5000, 8000, 20_000)] == [20, 10, 5, 5]
    assert [folds_for(np.minimum(np.arange(n), 10)) for n in (20_000, 20_001)] == [20, 5]
    assert [folds_for(np.arange(n) % 1000) for n in (2000, 2001)] == [20, 5]  # of more logits, no more either


def test_of_a_poor_base_the_loss_that_is_left_counts():
    base, small, large = np.full(100, 2.0), np.full(100, 0.13), np.full(100, 0.1)  # a third more of the loss
    assert simplest([small, large], base, WORTH_READING) == 1
    assert simplest([large + 0.009, large], base, WORTH_READING) == 0


def test_hidden_units_are_worth_less_of_the_loss_than_further_columns():
    base, small, large = np.ones(100), np.full(100, 0.53), np.full(100, 0.5)  # 6 % of what is saved
    assert simplest([small, large], base, WORTH_READING) == 0
    assert simplest([small, large], base, WORTH_HIDDEN) == 1
    noisy = small + np.resize([0.5, -0.5], 100)  # which may be chance
    assert simplest([noisy, large], base, WORTH_HIDDEN) == 0


def test_of_equal_numbers_of_target_samples_the_lower_log_loss_decides():
    """A bias gets all target samples right, and a patch the same; the patch says all else more surely."""
    labels = np.arange(600) % 3
    Z = 2.0 * np.eye(3)[labels]
    Z[labels == 0] = [0, 0.5, 0]
    Z[labels == 2, :2] = [0, 2.2]
    table = Table(np.zeros((600, 0), np.float32), Z.astype(np.float32), labels)
    surer = np.where((labels < 2)[:, None], 0.5 * np.eye(3)[labels], 0) + np.array([1, 0, 0])
    held_out = table.Z + surer.astype(np.float32)
    patch = FitCandidate("patch", np.arange(0), held_out, 0.1, nothing)
    answers = [settle(table, tried, ResolvedGoal(TARGETS)).kind for tried in ([patch], [])]
    assert answers == ["fit", "bias"]


def test_a_patch_that_is_only_surer_of_what_the_base_gets_right_is_none():
    labels = np.arange(600) % 3
    table = Table(np.zeros((600, 0), np.float32), (2 * np.eye(3)[labels]).astype(np.float32), labels)
    surer = FitCandidate("patch", np.arange(0), 2 * table.Z, 0.1, nothing)
    assert settle(table, [surer], ResolvedGoal(TARGETS)).kind == "base"


def test_a_patch_that_decides_better_may_be_too_sure_of_it():
    rng = np.random.default_rng(0)
    true = rng.normal(0, 2, (900, 3))
    labels = (true + rng.gumbel(size=true.shape)).argmax(axis=1)
    base = (true + rng.normal(0, 2, true.shape)).astype(np.float32)
    table = Table(np.zeros((900, 0), np.float32), base, labels)
    sure = FitCandidate("patch", np.arange(0), (6 * true).astype(np.float32), 0.1, nothing)
    assert log_loss(sure.held_out, labels) > log_loss(base, labels)
    assert settle(table, [sure], ResolvedGoal(np.arange(3))).kind == "fit"


def nothing():
    return Linear(np.zeros((0, 3)), np.zeros(3)), ()


@pytest.mark.parametrize(("fewer", "more", "ahead"), [(1, 40, True), (8, 40, False), (1, 1, False)])
def test_target_samples_have_a_veto_only_where_they_are_surely_fewer(fewer, more, ahead):
    labels = np.arange(1000) % 20
    table = Table(np.zeros((1000, 0), np.float32), np.zeros((1000, 20), np.float32), labels)
    settling = Settling(table, ResolvedGoal(TARGETS), Folds.of(labels, 5, 0), 1.0, only_targets=False)
    bias, patch = np.ones(1000, bool), np.ones(1000, bool)
    bias[np.flatnonzero(labels == 1)[:3]] = patch[np.flatnonzero(labels == 1)[:3]] = False
    patch[np.flatnonzero(labels == 0)[:fewer]] = False
    bias[np.flatnonzero(labels > 1)[:more]] = False
    fallback = settling.with_bias(table.Z)
    chosen = replace(fallback, right=patch, holds=True)
    for sharper in (None, asked_in_vain):  # only equal numbers ask for it
        assert settling.ahead(chosen, replace(fallback, right=bias, holds=True), sharper) is ahead


def asked_in_vain() -> bool:
    raise AssertionError("the log-loss was asked for without a tie")


def test_the_loss_of_a_candidate_is_made_once(monkeypatch):
    """Of 50,000 samples and 1,000 classes each reading of the logits takes a second and 400 MB."""
    table = tables(600, noise=60, classes=3)
    folds = Folds.of(table.labels, 5, seed=0)
    tried = try_all(Learning(table, folds.judged), {"all": np.arange(table.T.shape[1])}, folds, hidden=0)
    read = []
    monkeypatch.setattr(fit, "losses_cooled", lambda *logits: read.append(logits) or losses_cooled(*logits))
    settle(table, tried, ResolvedGoal(TARGETS), folds=folds)
    assert len(read) == 1 + len(tried)  # the base, and each candidate


def test_what_a_fold_holds_out_has_not_leaked_into_its_weights():
    table = tables(600, noise=60)
    folds = Folds.of(table.labels, 10, seed=0)
    found = fit_linear(table, np.arange(table.T.shape[1]), "all", folds)
    ridge = float(found.name.split()[-1])
    logits = table.Z.copy()
    for k in folds.numbers:
        options = {"ridge": ridge, "sample_weight": folds.learning_weight(k), "tolerance": 1e-10}
        exact = multinomial(table.T, table.Z, table.labels, **options)
        rows = folds.held_out(k)
        logits[rows] += exact.scores[rows].astype(logits.dtype)
    assert found.loss == pytest.approx(losses_cooled(logits, table.labels).mean(), abs=1e-3)


def test_an_mlp_that_the_first_folds_speak_against_is_trained_no_further(monkeypatch):
    trained = []

    def counted(*args, **options):
        trained.append(args)
        return train(*args, **options)

    monkeypatch.setattr(trainings, "train", counted)
    table = tables(600, noise=40)
    columns = np.arange(table.T.shape[1])
    folds = Folds.of(table.labels, 5, seed=0)
    path = search_ridges(table, columns, "all", folds)
    straight = path.candidate()
    small = partial(mlp.fit_mlp, path, hidden=32)
    assert small(straight, decays=(0.1,)) == []
    assert len(trained) == 1
    useless = replace(straight, held_out=np.zeros_like(straight.held_out))  # and one that it does not
    assert len(small(useless, decays=(1.0,))) == 2
    assert len(trained) == 6
    first, flattered = folds.held_out(0), straight.held_out.copy()  # and one that the first speaks for alone
    flattered[first] = 0.25 * flattered[first] + 0.75 * table.Z[first]
    assert small(replace(straight, held_out=flattered), decays=(0.1,)) == []
    assert len(trained) == 6 + 3
    assert len(small(straight, decays=(0.1,), always=True)) == 2  # of use to a goal, perhaps


def test_decays_that_are_tried_together_end_where_each_would(monkeypatch):
    table = tables(400, noise=5)
    folds = Folds.of(table.labels, 5, seed=0)

    def best(small):
        monkeypatch.setattr(trainings, "_SMALL", small)
        found = trainings.Trainings.of(table, table.labels, folds, 8, kept=lambda _, make: make())
        rows = folds.held_out(found.first)
        tried = found.best(DECAYS, lambda logits: log_loss(logits, table.labels[rows]), silent)
        return *tried, found.iterations

    together, alone = best(2**30), best(0)
    assert together[0] == alone[0] and together[1].tobytes() == alone[1].tobytes()
    assert together[2] == alone[2]


def test_the_mlp_of_all_samples_is_trained_as_long_as_those_that_were_judged(monkeypatch):
    ended = []

    def watched(*args, **options):
        found = train(*args, **options)
        ended.append((len(args[0].labels), found.best.iteration, found.checkpoints[-1].iteration))
        return found

    monkeypatch.setattr(trainings, "train", watched)
    table = tables(600, noise=10)
    path = search_ridges(table, np.arange(15), "all", Folds.of(table.labels, 5, seed=0))
    candidate, _ = mlp.fit_mlp(path, path.candidate(), hidden=8, decays=(1.0,), always=True)
    judged = [best for _, best, _ in ended]
    assert len(judged) == 5 and min(judged) < max(judged)
    assert candidate.patch is not None
    samples, _, last = ended[5]
    assert (samples, last) == (600, int(np.median(judged)))


def test_every_mlp_expects_each_class_as_often_as_it_occurs():
    """Steps on few samples leave the last biases anywhere: judged and written patch would differ by them."""
    table = tables(600, noise=10)
    folds = Folds.of(table.labels, 5, seed=0).coarse
    path = search_ridges(table, np.arange(15), "all", folds)
    trained = trainings.Trainings.of(table, table.labels, folds, 8, kept=path.kept)
    trained.best((1.0,), lambda logits: 0.0, silent)
    list(trained.held_out(1.0, table.Z[folds.held_out(trained.first)], silent))
    p = softmax(table.patched(None, trained.whole(1.0)).astype(np.float64))
    assert p.mean(axis=0) == pytest.approx(np.bincount(table.labels) / 600, abs=1e-3)


def test_classes_are_expected_as_often_as_they_occur_and_others_left_alone():
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(500, 4)).astype(np.float32) * 3, rng.choice(3, 500, p=[0.7, 0.2, 0.1])
    weight = rng.uniform(0.5, 2, 500)
    bias = trainings.class_biases(logits, labels, weight)
    p = softmax((logits + bias)[:, :3].astype(np.float64))
    assert weight @ p == pytest.approx(np.bincount(labels, weight), rel=1e-4)
    assert bias[3] == 0 and bias[:3].sum() == pytest.approx(0, abs=1e-9)


def test_every_label_of_an_mlp_is_expected_as_often_as_it_is_there():
    rng = np.random.default_rng(0)
    logits, marks = rng.normal(size=(500, 4)) * 3, (rng.random((500, 4)) < [0.2, 0.7, 0, 1]).astype(float)
    marks[:100, 1] = -1
    weight = rng.uniform(0.5, 2, 500)
    bias = trainings.label_biases(logits, marks, weight)
    p, known = 1 / (1 + np.exp(-logits - bias)), marks >= 0
    for c in (0, 1):
        own = weight * known[:, c]
        assert (own @ p[:, c]) == pytest.approx(own @ marks[:, c], rel=1e-4)
    assert bias[2] == bias[3] == 0
