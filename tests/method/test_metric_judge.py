"""`fit --metric`: candidates and operating points are chosen for the metric, on samples held out."""

from __future__ import annotations

import numpy as np
import pytest

from onnxtweak.goal import ResolvedGoal
from onnxtweak.method.fit.by_goal import fit_goal
from onnxtweak.method.fit.candidate import FitCandidate
from onnxtweak.method.fit.metric_judge import MetricJudge
from onnxtweak.method.fit.weighted import Judged
from onnxtweak.method.folds import Folds
from onnxtweak.method.table import Table
from onnxtweak.method.tuning.target_bias import BiasChoice
from onnxtweak.metric.asked import metric_of
from onnxtweak.metric.kinds import Predictions
from onnxtweak.settings import FitSettings
from tests.support.learning import learning

QUICK = FitSettings(hidden=0, max_class_drop=None)
TWO = ["ham", "spam"]


def detector(n: int, seed: int, told: float = 1.6) -> Table:
    """Two classes, one in five spam. The base reads one neuron of two that tell; it says spam often."""
    rng = np.random.default_rng(seed)
    labels = (rng.random(n) < 0.2).astype(np.int64)
    T = rng.normal(size=(n, 6))
    T[:, :2] += told * labels[:, None]
    Z = np.column_stack([np.zeros(n), 1.2 * T[:, 0] - 0.3])
    return Table(T.astype(np.float32), Z.astype(np.float32), labels)


def classes(n: int, seed: int) -> Table:
    """Four classes, the last rare; the base lacks a neuron that tells it from the third."""
    rng = np.random.default_rng(seed)
    labels = rng.choice(4, n, p=[0.4, 0.3, 0.25, 0.05])
    T = rng.normal(size=(n, 8)) * 0.9
    T[np.arange(n), labels] += 1.5
    T[:, 4] += 2.0 * (labels == 3)
    Z = 1.5 * T[:, :4] + np.array([0.5, 0.5, 0.5, -1.5])
    return Table(T.astype(np.float32), Z.astype(np.float32), labels.astype(np.int64))


def said_of(found, table: Table) -> Predictions:
    Z = table.Z + found.bias
    if found.candidate is not None:
        Z = table.patched(found.candidate.columns, found.candidate.patch.with_bias(found.bias))
    return Predictions(table.labels, Z.argmax(axis=1), Z)


def base(table: Table) -> Predictions:
    return Predictions(table.labels, table.Z.argmax(axis=1), table.Z)


def fitted(table: Table, metric, settings: FitSettings = QUICK, drop: float = 100.0, columns=8):
    drops = {"max_overall_drop": drop, "max_class_drop": settings.max_class_drop}
    goal = ResolvedGoal(np.arange(table.Z.shape[1]), metric=metric, **drops)
    families = {"all": np.arange(columns)} if columns else {}
    return fit_goal(learning(table), families, goal, settings)


@pytest.mark.parametrize("word", ["balanced", "worst", "f1", "iou"])
def test_a_metric_gains_more_than_biases_give_it(word):
    metric = metric_of(word, [f"class {c}" for c in range(4)])
    table, test = classes(2000, 0), classes(10_000, 1)
    found = fitted(table, metric)
    assert found.kind == "fit"
    control = Predictions(test.labels, (test.Z + found.control).argmax(axis=1), test.Z)
    values = [metric.value(each) for each in (base(test), control, said_of(found, test))]
    assert values[0] < values[1] < values[2] - 0.02
    assert any("the metric weighted" in note and f"held out, {word}" in note for note in found.notes)


def test_the_limit_is_kept_with_more_recall_than_a_better_cut_alone_gives():
    metric = metric_of("recall@fpr=0.02", TWO)
    kept, recall = [], []
    for seed in range(6):
        table, test = detector(1200, seed), detector(10_000, 100 + seed)
        found = fitted(table, metric, columns=6)
        assert found.kind == "fit"
        own, false, samples = metric.at_cut(said_of(found, test))
        cut_alone = Predictions(test.labels, (test.Z + found.control).argmax(axis=1), test.Z)
        kept.append(false <= 0.02 * samples)
        recall.append((own, metric.at_cut(cut_alone)[0]))
        was = metric.at_cut(base(test))
        assert was[1] > 0.1 * was[2]  # the base's own cut is far off
    assert np.mean(kept) >= 0.7 and np.mean(recall, axis=0)[0] > np.mean(recall, axis=0)[1] + 0.1


def test_a_base_that_keeps_the_limit_by_luck_alone_is_given_a_margin():
    """Its own cut lies where these samples just keep the limit, as every second set of new ones would not."""
    metric, table = metric_of("recall@fpr=0.02", TWO), detector(2000, 0)
    negative = np.sort(table.Z[table.labels == 0, 1])[::-1]
    Z = table.Z - np.array([0, negative[int(0.02 * len(negative))]], np.float32)
    blind = Table(np.zeros((2000, 1), np.float32), Z, table.labels)
    _, false, samples = metric.at_cut(base(blind))
    assert false == int(0.02 * samples)
    found = fitted(blind, metric, columns=0)
    assert found.kind == "bias" and found.bias[1] < 0
    clear = Table(blind.T, Z - np.array([0, 0.6], np.float32), table.labels)
    assert metric.at_cut(base(clear))[1] < 0.4 * false
    assert fitted(clear, metric_of("recall@fpr=0.0201", TWO), columns=0).bias[1] >= 0


def test_where_neurons_tell_nothing_the_answer_is_the_cut():
    """Mostly: chance makes some of a few patches look a little better, which then does no harm either."""
    metric, kinds = metric_of("recall@fpr=0.02", TWO), []
    for seed in range(6):
        both = [detector(n, seed + n) for n in (1000, 10_000)]
        draw = np.random.default_rng(seed).normal
        table, test = (
            Table(draw(size=(len(one.labels), 6)).astype(np.float32), one.Z, one.labels) for one in both
        )
        found = fitted(table, metric, columns=6)
        kinds.append(found.kind)
        assert metric.value(said_of(found, test)) == pytest.approx(metric.value(base(test)), abs=0.01)
    assert kinds.count("bias") >= 4 and set(kinds) <= {"bias", "fit"}
    alone = fitted(table, metric, columns=0)
    assert alone.kind == "bias" and alone.bias[1] < 0 and alone.bias[0] == 0


def test_a_base_at_its_best_is_kept():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 1500)
    Z = (rng.normal(size=(1500, 3)) + 2 * np.eye(3)[labels]).astype(np.float32)
    table = Table(rng.normal(size=(1500, 4)).astype(np.float32), Z, labels)
    found = fitted(table, metric_of("balanced", list("abc")), columns=4)
    assert found.kind == "base" and "nothing helped the metric" in found.notes[-1]


def test_a_precision_that_nothing_reaches_leaves_the_base():
    table = detector(1500, 0, told=0.0)
    found = fitted(table, metric_of("recall@precision=0.9", TWO), columns=6)
    assert found.kind == "base" and not found.bias.any()
    assert any("no cut is sure to keep a precision at least 90 %" in note for note in found.notes)


def test_the_drops_allowed_hold():
    metric = metric_of("worst", [f"class {c}" for c in range(4)])
    table, test = classes(1500, 0), classes(10_000, 1)
    was = base(test)
    drops = []
    for drop in (0.0, 100.0):
        now = said_of(fitted(table, metric, drop=drop, columns=0), test)
        drops.append(((was.predicted == test.labels).mean() - (now.predicted == test.labels).mean()) * 100)
    assert drops[0] < 0.5 < 1.0 < drops[1]
    limited = FitSettings(hidden=0, max_class_drop=3.0)
    now = said_of(fitted(table, metric, limited, columns=0), test)
    lost = [
        ((was.predicted == c) & (test.labels == c)).sum() - ((now.predicted == c) & (test.labels == c)).sum()
        for c in range(4)
    ]
    assert max(lost[c] / (test.labels == c).sum() for c in range(4)) < 0.04


def test_overall_is_the_fit_without_a_metric():
    table = classes(1000, 0)
    asked = fitted(table, metric_of("overall", list("abcd")), drop=0.0)
    goal = ResolvedGoal(np.arange(4))
    plain = fit_goal(learning(table), {"all": np.arange(8)}, goal, QUICK)
    assert asked.kind == plain.kind and np.array_equal(asked.bias, plain.bias)


LABELS = np.arange(80) % 2
PLACES = np.arange(80) // 2  # each holds a sample of either class


def leading(right):
    """Logits under which these samples are right."""
    return np.column_stack([np.zeros(80), np.where(right == (LABELS == 1), 1, -1)]).astype(np.float32)


BASE, BETTER, BY_ONE = (
    leading(PLACES >= 10),
    leading(PLACES >= 4),
    leading((PLACES >= 10) | (LABELS + PLACES == 0)),
)


def judge(word="balanced"):
    """What it thinks where the base has a quarter of each class wrong."""
    table, metric = Table(np.zeros((80, 1), np.float32), BASE, LABELS), metric_of(word, TWO)
    goal = ResolvedGoal(np.arange(2), max_overall_drop=100.0, metric=metric)
    return MetricJudge(table, goal, Folds(PLACES % 2, np.ones(80, bool)), 1.0)


def judged(Z, holds=True):
    return Judged(None, BiasChoice(np.zeros(2), np.ones(80, bool), holds, ()), 0.0, Z)


def test_a_metric_gains_where_most_resamples_say_so():
    """Of a single sample more than a third of the resamples know nothing."""
    own = judge()
    assert [own.gains_surely(judged(Z)) for Z in (BETTER, BY_ONE, BASE)] == [True, False, False]
    assert not own.gains_surely(judged(leading(PLACES >= 20)))


def test_a_patch_has_to_be_ahead_of_biases_that_keep_the_limits():
    own = judge()
    pairs = [(BETTER, BASE), (BETTER, BETTER), (BETTER, BY_ONE), (BASE, BETTER)]
    assert [own.ahead_of(judged(Z), judged(other)) for Z, other in pairs] == [True, False, True, False]
    assert own.ahead_of(judged(BASE), judged(BETTER, holds=False))


@pytest.mark.parametrize(
    ("limit", "base", "gains"), [(0.1, BASE, True), (0.9, BASE, False), (0.001, leading(LABELS == 0), False)]
)
def test_a_base_that_misses_the_limit_loses_to_whatever_keeps_it(limit, base, gains, monkeypatch):
    """Ten false alarms of forty are too many for the first; the last has none, which no limit forbids."""
    own = judge(f"recall@fpr={limit}")
    monkeypatch.setattr(own, "base", base)
    assert own.gains_surely(judged(base)) == gains


def test_a_metric_is_asked_about_what_the_log_loss_shows_to_have_learnt():
    own = judge()
    base, better = (FitCandidate("", np.arange(1), Z, 0.0, lambda: None) for Z in (BASE, BETTER))
    assert own.told_something([base, better], base)
    assert not own.told_something([base], base) and not own.told_something([], base)
