"""The verdict: each promise in each state from counts, and what is named first."""

from __future__ import annotations

import numpy as np
import pytest

from onnxtweak.goal import ResolvedGoal, Slice
from onnxtweak.head import Decisions
from onnxtweak.method.metrics import metric_change
from onnxtweak.metric.asked import metric_of
from onnxtweak.metric.kinds import Predictions
from onnxtweak.sample_counts import LabelCounts, SampleCounts, SliceCounts
from onnxtweak.stages.judge_promises import Shown, answer_of, depend_on_groups, judge_promises, learnt_on
from onnxtweak.types import AtCut, MetricChange, MetricReading
from onnxtweak.verdict import (
    BASE,
    COPY,
    KEPT,
    NOT_KEPT,
    NOT_SHOWN,
    Asked,
    Promise,
    _state,
    group_changes,
    of_listed,
    reached,
    with_listed,
)
from tests.support.results import a_verdict

MANY = (1000, 1000, 1000)


def promise(verdict, name):
    return next(one for one in verdict.promises if one.name == name)


@pytest.mark.parametrize(
    ("fixed", "broken", "state"),
    [((0, 0, 60), (0, 0, 5), KEPT), ((0, 0, 20), (0, 0, 15), NOT_SHOWN), ((0, 0, 5), (0, 0, 60), NOT_KEPT)],
)
def test_targets_go_up_go_down_or_nobody_knows(fixed, broken, state):
    found = promise(a_verdict(fixed, broken, MANY), "targets")
    assert (found.state, found.limit, found.samples) == (state, 0.0, 1000)
    assert found.change == pytest.approx((fixed[2] - broken[2]) / 10)
    assert found.interval[0] < found.change < found.interval[1]


@pytest.mark.parametrize(
    ("allowed", "broken", "state"),
    [(0.0, 0, KEPT), (0.0, 60, NOT_SHOWN), (0.0, 150, NOT_KEPT), (5.0, 150, KEPT), (-1.0, 0, KEPT),
     (-2.5, 0, NOT_SHOWN), (-4.0, 0, NOT_KEPT)],
)  # fmt: skip
def test_overall_accuracy_is_kept_within_the_drop_allowed(allowed, broken, state):
    found = promise(a_verdict((0, 0, 60), (broken, 0, 0), MANY, overall=allowed), "overall")
    assert found.state == state and found.limit == -allowed


def test_an_unlimited_overall_drop_is_no_promise():
    assert {p.name for p in a_verdict(samples=MANY, overall=100.0).promises} == {"targets", "bias"}


@pytest.mark.parametrize(
    ("broken", "samples", "state"),
    [((10, 0, 0), MANY, KEPT), ((55, 0, 0), MANY, NOT_SHOWN), ((150, 0, 0), MANY, NOT_KEPT),
     ((3, 0, 0), (10, 1000, 1000), NOT_SHOWN), ((0, 0, 0), (10, 10, 10), NOT_SHOWN)],
)  # fmt: skip
def test_a_class_is_ruined_only_beyond_chance(broken, samples, state):
    verdict = a_verdict((0, 0, 60), broken, samples, each=5.0)
    assert promise(verdict, "classes").state == state
    if broken[0]:
        assert verdict.worst.name == "ant"
        assert verdict.worst.change == pytest.approx(-broken[0] / samples[0] * 100)


def test_what_would_be_regretted_comes_first():
    verdict = a_verdict((0, 0, 90), (200, 0, 0), MANY, each=5.0, ahead=(0, 0, 5), behind=(0, 0, 5))
    assert [(p.name, p.state) for p in verdict.promises] == [
        ("classes", NOT_KEPT), ("overall", NOT_KEPT), ("bias", NOT_SHOWN), ("targets", KEPT),
    ]  # fmt: skip
    assert verdict.state == NOT_KEPT


def test_a_class_that_surely_lost_is_named_before_one_of_few_samples():
    verdict = a_verdict((0, 0, 9), (1, 140, 0), (1, 500, 500))
    assert (verdict.worst.name, verdict.worst.surely) == ("bee", True)
    unsure = a_verdict((0, 0, 9), (1, 2, 0), (1, 500, 500))
    assert (unsure.worst.name, unsure.worst.change, unsure.worst.surely) == ("ant", -100.0, False)
    assert a_verdict((0, 0, 9), (0, 0, 0), MANY).worst is None


def test_of_many_classes_at_their_limit_hardly_ever_one_looks_ruined():
    rng, wrong = np.random.default_rng(0), 0
    names, samples = tuple(map(str, range(200))), np.full(200, 100)
    for _ in range(40):
        broken = rng.binomial(100, 0.1, 200)
        fixed = rng.binomial(100, 0.05, 200)
        verdict = a_verdict(fixed, broken, samples, targets=(0,), names=names, each=5.0)
        wrong += promise(verdict, "classes").state == NOT_KEPT
    assert wrong <= 3  # at 95 % for each class alone, all forty


@pytest.mark.parametrize(
    ("ahead", "behind", "state"),
    [((0, 0, 50), (0, 0, 5), KEPT), ((0, 0, 5), (0, 0, 50), NOT_KEPT), ((0, 0, 9), (0, 0, 8), NOT_SHOWN),
     ((90, 0, 5), (5, 0, 5), KEPT),  # as many targets, and surely more of all samples
     ((0, 0, 50), (200, 0, 5), NOT_SHOWN),  # the targets are paid for
     ((30, 0, 50), (60, 0, 5), KEPT), ((60, 0, 5), (30, 0, 50), NOT_KEPT),  # overall it may be chance
     ((90, 0, 4), (5, 0, 6), NOT_SHOWN), ((5, 0, 6), (90, 0, 4), NOT_SHOWN),  # targets go the other way
     ((200, 0, 5), (0, 0, 50), NOT_SHOWN),
     ((5, 0, 5), (90, 0, 5), NOT_KEPT)],
)  # fmt: skip
def test_a_bias_is_the_rival(ahead, behind, state):
    verdict = a_verdict((0, 0, 60), (0, 0, 5), MANY, ahead=ahead, behind=behind)
    assert promise(verdict, "bias").state == state


def test_a_bias_does_not_promise_to_beat_itself():
    assert {p.name for p in a_verdict(answer="bias").promises} == {"overall", "targets"}


def test_where_every_class_is_a_target_overall_accuracy_is_said_once():
    verdict = a_verdict((40, 40, 40), (5, 5, 5), MANY, targets=(0, 1, 2))
    assert [p.asked for p in verdict.promises] == ["overall accuracy up", "better than the best bias"]
    assert not any(p.detail for p in verdict.promises)
    demanding = a_verdict((40, 40, 40), (5, 5, 5), MANY, targets=(0, 1, 2), overall=-9.0)
    assert promise(demanding, "targets").state == NOT_KEPT


def test_targets_that_fell_are_named():
    found = promise(a_verdict((0, 60, 3), (0, 0, 9), MANY, targets=(1, 2)), "targets")
    assert found.state == KEPT and found.detail == "1 of 2 targets fell: cat"


def test_validation_samples_show_nothing_to_be_kept():
    kept = a_verdict((0, 0, 60), (0, 0, 0), MANY, split="validation")
    assert {p.state for p in kept.promises} == {NOT_SHOWN}
    assert "there is no test split" in kept.cautions[0]
    assert a_verdict((0, 0, 0), (0, 0, 60), MANY, split="validation").state == NOT_KEPT


def test_targets_without_samples_are_not_shown():
    found = promise(a_verdict((0, 0, 0), (0, 0, 0), (50, 50, 0)), "targets")
    assert (found.state, found.change, found.interval) == (NOT_SHOWN, None, None)


def test_counts_come_from_the_classes_that_are_shown():
    labels = np.repeat([0, 1], 200)
    base, biased, tweaked = labels.copy(), labels.copy(), labels.copy()
    base[:80], biased[:40] = 1, 1
    base[200:203], tweaked[203:205] = -1, 0
    goal = ResolvedGoal(np.array([0]))
    made = judge_promises(Shown("test", labels, base, tweaked, biased), goal, ("ant", "bee"), "fit")
    changes = {p.name: p.change for p in made.promises}
    assert changes == pytest.approx({"targets": 40.0, "overall": 81 / 4, "bias": 20.0})
    assert made.state == KEPT and made.samples == 400
    copy = judge_promises(Shown("test", labels, base, base, biased), goal, ("ant", "bee"), "base")
    assert (copy.answer, copy.state, copy.promises) == ("base", COPY, ())


def test_the_answer_is_what_the_method_came_to():
    assert answer_of("fit", True, 5) == "fit"
    assert answer_of("fit", True, 0) == "bias"
    assert answer_of("join", False, 5) == "base"


@pytest.mark.parametrize(
    ("learnt", "test", "said"), [(0.99, 0.8, True), (0.82, 0.8, False), (0.8, 0.99, False), (0.7, 0.5, True)]
)
def test_a_base_that_knows_the_samples_is_pointed_out(learnt, test, said):
    def side(share, n=1000):
        return Decisions(np.arange(n) % 10, np.arange(n) < share * n, np.arange(n))

    assert bool(learnt_on(side(learnt), side(test))) == said


def test_another_mixture_of_classes_is_no_better_base():
    """Class 0 is easy and class 1 hard, alike on both sides; the learning samples are mostly easy."""
    easy, hard = np.arange(1000) < 980, np.arange(1000) < 500
    rows = np.arange(1100)
    learnt = Decisions(np.repeat([0, 1], [1000, 100]), np.concatenate([easy, hard[::10]]), rows)
    test = Decisions(np.repeat([0, 1], [100, 1000]), np.concatenate([easy[::10], hard]), rows)
    assert learnt_on(learnt, test) == ()


def shown(groups, repeat=1):
    """Of 400 samples of class 2, 60 fixed and 30 broken; repeated, as copies of one another."""
    was = np.arange(400) >= 60
    now = ~((np.arange(400) >= 60) & (np.arange(400) < 90))
    labels = np.full(400, 2)
    base, tweaked = (np.repeat(np.where(right, 2, 0), repeat) for right in (was, now))
    labels = np.repeat(labels, repeat)
    other = np.repeat([0, 1], 50)
    return Shown(
        "test",
        np.append(labels, other),
        np.append(base, other),
        np.append(tweaked, other),
        np.append(base, other),
        None if groups is None else np.append(groups, 10**6 + np.arange(100)),
    )


def test_copies_of_a_sample_are_no_evidence_once_they_are_a_group():
    """Five copies of each sample, grouped, say what the samples alone do; ungrouped they seem to say more."""
    goal, names = ResolvedGoal(np.array([2]), max_class_drop=5.0), ("ant", "bee", "cat")
    alone = promise(judge_promises(shown(None), goal, names, "fit"), "targets")
    copies = promise(judge_promises(shown(None, 5), goal, names, "fit"), "targets")
    grouped = promise(judge_promises(shown(np.repeat(np.arange(400), 5), 5), goal, names, "fit"), "targets")
    width = {name: p.interval[1] - p.interval[0] for name, p in (("1", alone), ("5", copies), ("g", grouped))}
    assert width["5"] < 0.5 * width["1"]
    assert width["g"] == pytest.approx(width["1"], rel=0.02)
    assert alone.change == copies.change == grouped.change == pytest.approx(7.5)
    assert grouped.samples == 2000


@pytest.mark.parametrize("name", ["targets", "overall", "bias"])
def test_groups_that_change_as_one_show_little(name):
    """Of eight tracks one is fixed as a whole: by sample a clear gain, by track none that is shown."""
    labels = np.repeat([2, 0], 400)
    tracks = np.arange(800) // 50
    base = np.where(tracks == 0, 1, labels)
    of = [
        Shown("test", labels, base, labels, base, groups)
        for groups in (None, tracks, np.zeros(800, np.int64), np.arange(800))
    ]
    goal, names = ResolvedGoal(np.array([2])), ("ant", "bee", "cat")
    by_sample, by_track, as_one, apart = (
        promise(judge_promises(each, goal, names, "fit"), name) for each in of
    )
    assert by_sample.state == apart.state == KEPT
    assert by_track.state == as_one.state == NOT_SHOWN
    assert apart.interval == pytest.approx(by_sample.interval, abs=0.02)
    assert as_one.interval[0] < by_track.interval[0] < by_sample.interval[0]


def test_groups_are_named_among_the_cautions():
    (found,) = depend_on_groups("patient", np.array([3, 3, 1]))
    assert "`patient`" in found and "rest on 2 groups" in found and "McNemar" in found
    assert depend_on_groups(None, None) == ()


def sliced(change, groups=None):
    """The verdict on a slice of 300 samples, and two other groups of 1,000. change : of each, in points."""
    sizes = (300, 1000, 1000)
    codes = np.repeat([0, 1, 2], sizes)
    labels = np.arange(len(codes)) % 3
    base = labels.copy()
    tweaked = labels.copy()
    wrong = (labels + 1) % 3
    for code, (size, points) in enumerate(zip(sizes, change, strict=True)):
        rows = np.flatnonzero(codes == code)[: round(abs(points) / 100 * size)]
        (base if points > 0 else tweaked)[rows] = wrong[rows]
    goal = ResolvedGoal(
        np.arange(3), max_class_drop=5.0, slice=Slice("site", ("kyoto", "lima", "oslo"), 0, True)
    )
    return judge_promises(
        Shown("test", labels, base, tweaked, base, groups, codes), goal, ("ant", "bee", "cat"), "fit"
    )


def test_a_slice_is_judged_by_its_own_samples():
    verdict = sliced((20, 0, 1))
    assert promise(verdict, "targets").asked == "better on site=kyoto"
    assert (
        promise(verdict, "targets").change == pytest.approx(20.0)
        and promise(verdict, "targets").samples == 300
    )
    assert promise(verdict, "bias").change == pytest.approx(20.0)
    assert promise(verdict, "overall").change == pytest.approx(7000 / 2300)
    assert {p.name: p.state for p in verdict.promises}["groups"] == KEPT
    assert [(g.name, g.samples, round(g.change), g.wanted) for g in verdict.groups] == [
        ("kyoto", 300, 20, True), ("oslo", 1000, 1, False), ("lima", 1000, 0, False),
    ]  # fmt: skip
    assert verdict.groups[0].before == pytest.approx(0.8) and verdict.groups[0].after == 1.0
    low, high = verdict.groups[0].interval
    assert low < 20 < high


@pytest.mark.parametrize(("change", "state"), [(-2, KEPT), (-5, NOT_SHOWN), (-12, NOT_KEPT)])
def test_no_other_group_may_pay_more_than_a_class(change, state):
    verdict = sliced((20, change, 0))
    found = promise(verdict, "groups")
    assert (found.state, found.change) == (state, pytest.approx(change))
    assert (
        found.detail == "the worst is lima" and found.asked == "no group of `site` loses more than 5 points"
    )


def test_groups_that_depend_on_one_another_widen_the_slice_too():
    tracks = np.arange(2300) // 60
    narrow, wide = (promise(sliced((20, 0, 0), groups), "targets").interval for groups in (None, tracks))
    assert wide[0] < narrow[0] < narrow[1] < wide[1]


def by_metric(words, base, tweaked, bias=None, answer="fit", drops=(100.0, None)):
    """The verdict where a metric was the goal. base, tweaked, bias (N,) : scores of class 1 of two."""
    labels = np.tile([0, 0, 0, 1], len(base) // 4)
    metric = metric_of(words, ("ham", "spam"))
    made = []
    for score in (base, tweaked, base if bias is None else bias):
        Z = np.column_stack([np.zeros(len(score)), score])
        made.append(Predictions(labels, Z.argmax(axis=1), Z))
    change = metric_change(metric, tuple(made))
    shown = Shown("test", labels, *(each.predicted for each in made), metric=change)
    goal = ResolvedGoal(np.arange(2), max_overall_drop=drops[0], max_class_drop=drops[1], metric=metric)
    return judge_promises(shown, goal, ("ham", "spam"), answer)


def detected(told: float, cut: float, n: int = 4000) -> np.ndarray:
    labels = np.tile([0, 0, 0, 1], n // 4)
    return np.random.default_rng(0).normal(size=n) + told * labels - cut


def test_a_limit_and_the_metric_are_promises_of_their_own():
    verdict = by_metric("recall@fpr=0.05", detected(1.0, 1.0), detected(2.5, 2.3), detected(1.0, 2.3))
    assert [p.name for p in verdict.promises] == ["limit", "metric", "bias"]
    limit, metric, bias = verdict.promises
    assert {p.state for p in verdict.promises} == {KEPT}
    assert limit.asked == "false-positive rate at most 5 %" and limit.samples == 3000
    assert 3.4 < limit.change < 4.4 and limit.interval[0] > 0
    assert "false alarms among 3,000 samples; recall" in limit.detail
    assert metric.asked == "recall of class spam up" and metric.change > 30 < bias.change
    assert "per 100 samples (recall@fpr=0.05)" in metric.detail


def test_a_limit_that_is_exceeded_is_said_first():
    verdict = by_metric("recall@fpr=0.05", detected(1.0, 1.0), detected(2.5, 1.0))
    first = verdict.promises[0]
    assert first.name == "limit" and first.state == NOT_KEPT and first.change < -9
    assert verdict.state == NOT_KEPT


def test_a_limit_that_the_samples_cannot_tell_is_not_shown():
    verdict = by_metric("recall@fpr=0.05", detected(1.0, 1.0), detected(2.5, 1.65))
    assert promise(verdict, "limit").state == NOT_SHOWN


def test_a_precision_counts_from_the_other_side():
    good = promise(by_metric("recall@precision=0.8", detected(1.0, 1.0), detected(3.0, 2.3)), "limit")
    assert good.state == KEPT and good.change > 10 and good.asked == "precision at least 80 %"
    bad = promise(by_metric("recall@precision=0.99", detected(1.0, 1.0), detected(3.0, 2.0)), "limit")
    assert bad.state == NOT_KEPT and bad.change < 0


def test_a_cut_alone_promises_its_limit_alone():
    base = detected(1.0, 1.0)
    verdict = by_metric("recall@fpr=0.05", base, base - 1.3, base - 1.3, "bias")
    assert [p.name for p in verdict.promises] == ["limit"]


def test_a_metric_of_decisions_keeps_the_drops_beside_it():
    better = detected(2.0, 1.0)
    verdict = by_metric("f1", detected(1.0, 1.0), better, drops=(0.0, 5.0))
    assert {p.name for p in verdict.promises} == {"metric", "bias", "overall", "classes"}
    assert promise(verdict, "metric").state == KEPT and promise(verdict, "metric").change > 10
    same = by_metric("f1", better, better)
    assert promise(same, "metric").state == NOT_SHOWN and promise(same, "metric").interval == (0, 0)
    assert promise(by_metric("f1", better, detected(1.0, 1.0)), "metric").state == NOT_KEPT


@pytest.mark.parametrize(
    ("interval", "state"),
    [((-5.0, 9.0), KEPT), ((-5.1, 9.0), NOT_SHOWN), ((-9.0, -5.0), NOT_SHOWN), ((-9.0, -5.1), NOT_KEPT),
     ((-5.0, -5.0), KEPT), (None, NOT_SHOWN)],
)  # fmt: skip
def test_a_limit_that_is_just_reached_is_kept(interval, state):
    assert _state(interval, -5.0) == state


def test_promises_say_how_much_may_be_lost_and_has_to_be_gained():
    def asked(name, **given):
        found = promise(a_verdict((0, 0, 60), (0, 0, 0), MANY, **given), name)
        return found.asked, found.limit

    assert asked("overall") == ("overall accuracy kept", 0)
    assert asked("overall", overall=2.5) == ("overall loses at most 2.5 points", -2.5)
    assert asked("overall", overall=-2.5) == ("overall gains at least 2.5 points", 2.5)
    assert asked("targets", overall=-2.5) == ("better on cat", 0)
    everyone = {"targets": (0, 1, 2)}
    assert asked("targets", overall=-2.5, **everyone) == ("overall gains at least 2.5 points", 2.5)
    assert asked("targets", overall=2.5, **everyone) == ("overall accuracy up", 0)
    assert {p.name for p in a_verdict(samples=MANY, targets=()).promises} == {"overall"}


@pytest.mark.parametrize(
    ("broken", "samples", "detail"),
    [((150, 150, 0), MANY, "2 classes lost more, beyond chance"),
     ((150, 0, 0), MANY, ""), ((0, 0, 0), MANY, ""),
     ((3, 0, 0), (10, 1000, 1000), "1 of 3 classes has too few samples to tell"),
     ((3, 0, 0), (10, 10, 1000), "2 of 3 classes have too few samples to tell")],
)  # fmt: skip
def test_how_many_classes_lost_or_cannot_be_told_is_said(broken, samples, detail):
    assert promise(a_verdict((0, 0, 60), broken, samples, each=5.0), "classes").detail == detail


def test_the_worst_class_is_the_one_that_is_surely_beyond_its_limit():
    """Of many samples some are surely lost, but within the limit; of few more, which may be chance."""
    broken, samples = (30, 2, 0), (1000, 20, 1000)
    assert a_verdict((0, 0, 9), broken, samples).worst.name == "ant"
    assert a_verdict((0, 0, 9), broken, samples, each=5.0).worst.name == "bee"
    nobody = a_verdict((0, 0, 0), (0, 0, 0), (0, 0, 0), each=5.0)
    assert nobody.worst is None and {p.name for p in nobody.promises} == {"targets", "bias"}


def test_of_many_targets_a_few_are_named_and_of_one_nothing_but_its_change():
    names, samples = tuple("abcdef"), (100,) * 6
    for targets, said in (((1, 2, 3), "b, c, d"), ((1, 2, 3, 4), "b, c, d and 1 more")):
        found = promise(a_verdict((0,) * 6, (9,) * 6, samples, targets=targets, names=names), "targets")
        assert found.asked == f"better on {said}"
        assert found.detail == f"{len(targets)} of {len(targets)} targets fell: {said}"
    assert promise(a_verdict((0, 0, 0), (0, 0, 9), MANY), "targets").detail == ""
    assert promise(a_verdict((0, 9, 9), (0, 0, 0), MANY, targets=(1, 2)), "targets").detail == ""


@pytest.mark.parametrize(
    ("ahead", "behind", "detail"),
    [((0, 0, 50), (80, 0, 5), "overall -1.2 points against it"),
     ((30, 0, 30), (0, 0, 0), "overall +2.0 points"), ((0, 1, 0), (0, 0, 0), "")],
)  # fmt: skip
def test_what_a_bias_costs_or_gains_overall_is_said(ahead, behind, detail):
    found = promise(a_verdict((0, 0, 60), (0, 0, 5), MANY, ahead=ahead, behind=behind), "bias")
    assert found.detail.startswith(detail) and bool(found.detail) == bool(detail)
    nobody = a_verdict((9, 0, 0), (0, 0, 0), (1000, 1000, 0), ahead=(90, 0, 0), behind=(0, 0, 0))
    assert (promise(nobody, "bias").state, promise(nobody, "bias").change) == (KEPT, None)


def test_the_group_that_is_wanted_is_not_among_those_that_may_not_lose():
    verdict = sliced((-20, 0, 1))
    assert promise(verdict, "groups").state == KEPT and promise(verdict, "targets").state == NOT_KEPT
    assert [(g.name, g.before, g.after) for g in verdict.groups] == [
        ("oslo", 0.99, 1.0), ("kyoto", 1.0, 0.8), ("lima", 1.0, 1.0),
    ]  # fmt: skip
    assert group_changes(None) == []


def of_samples(state):
    return Promise("lock", "no lock-sample broken", state, 0.0, 0.0, None, 4)


def test_promises_about_listed_samples_stand_among_the_others():
    verdict = a_verdict((0, 0, 60), (0, 0, 0), MANY)
    assert with_listed(verdict, ()) is verdict and verdict.state == KEPT
    found = with_listed(verdict, [of_samples(KEPT), of_samples(NOT_KEPT)])
    assert found.state == NOT_KEPT == found.promises[0].state
    assert [p.state for p in found.promises[1:]] == [KEPT] * (1 + len(verdict.promises))


def test_listed_samples_alone_show_nothing_of_others():
    assert of_listed(BASE, 4, [of_samples(KEPT)]).state == COPY
    assert of_listed(BASE, 4, [of_samples(KEPT), of_samples(NOT_KEPT)]).state == NOT_KEPT
    for answer, state in (("fit", KEPT), (BASE, NOT_KEPT)):
        found = of_listed(answer, 4, [of_samples(state)])
        assert (found.answer, found.state, found.samples, found.split) == (answer, state, 4, "listed")
        assert "there are no other samples" in found.cautions[0]


def by_reading(
    rate=0.03, interval=(0.02, 0.06), answer="fit", sign=1, gain=(2.0, (0.5, 3.5)), over=None, **limit
):
    """The promises where a metric was the goal, of figures made up. rate : at the cut; None: no limit."""
    cut = None if rate is None else AtCut(0.75, rate, interval, 12, 400, True)
    before = MetricReading("m", "some metric", 0.25, None, sign)
    after = MetricReading("m", "some metric", 0.5, None, sign, cut)
    change = MetricChange(before, after, before, *gain, *(over or gain), "at most so much", **limit)
    asked, none = Asked(np.arange(3), 100.0, None, metric=change), np.zeros(3, np.int64)
    counts = SampleCounts(np.array(MANY), none, none, none, none)
    return reached(answer, "test", ("ant", "bee", "cat"), asked, counts, ()).promises


@pytest.mark.parametrize(
    ("limit", "at_most", "ends", "state"),
    [(0.05, True, (2.0, -1.0, 3.0), NOT_SHOWN), (0.06, True, (3.0, 0.0, 4.0), KEPT),
     (0.01, True, (-2.0, -5.0, -1.0), NOT_KEPT), (0.02, False, (1.0, 0.0, 4.0), KEPT),
     (0.07, False, (-4.0, -5.0, -1.0), NOT_KEPT)],
)  # fmt: skip
def test_how_far_a_rate_is_on_the_right_side_of_its_limit(limit, at_most, ends, state):
    (found,) = (p for p in by_reading(limit=limit, at_most=at_most) if p.name == "limit")
    assert (found.change, *found.interval) == pytest.approx(ends, abs=1e-9) and found.samples == 400
    assert found.detail == "3.00 % as measured, 12 false alarms among 400 samples; recall 75.0 %"
    assert found.asked == "at most so much"
    if abs(found.interval[0]) > 1e-9:  # what just reaches it may miss it by a rounding
        assert found.state == state


@pytest.mark.parametrize(
    ("gain", "state"),
    [((2.0, (0.5, 3.5)), KEPT), ((2.0, (0.0, 3.5)), NOT_SHOWN), ((-2.0, (-3.5, 0.0)), NOT_SHOWN),
     ((-2.0, (-3.5, -0.5)), NOT_KEPT), ((2.0, None), NOT_SHOWN)],
)  # fmt: skip
def test_a_metric_is_better_where_no_resample_says_otherwise(gain, state):
    for sign, way in ((1, "up"), (-1, "down")):
        other = (1.0, (0.5, 1.5))
        metric, bias = sorted(by_reading(None, gain=gain, over=other, sign=sign), key=lambda p: p.name)[::-1]
        assert (metric.name, metric.asked, metric.state) == ("metric", f"some metric {way}", state)
        assert (metric.change, metric.interval, metric.samples) == (*gain, 3000)
        assert metric.detail == "25.0 -> 50.0 per 100 samples (m)"
        assert (bias.name, bias.state, bias.change) == ("bias", KEPT, 1.0)
        assert [p.state for p in by_reading(None, over=gain) if p.name == "bias"] == [state]


def test_biases_are_not_promised_to_beat_themselves_nor_to_change_an_order_of_scores():
    def names(**given):
        return {p.name for p in by_reading(answer="bias", **given)}

    assert (names(), names(rate=None)) == ({"limit"}, {"metric"})
    assert {p.name for p in by_reading(interval=None)} == {"metric", "bias"}


def test_groups_may_lose_anything_where_a_class_may_and_have_f1_where_there_are_several_labels():
    none, samples, names = np.zeros(2, np.int64), np.array([50, 50]), ("kyoto", "oslo")
    counts = SampleCounts(samples, none, np.array([40, 0]), none, none)
    asked = Asked(np.arange(2), 100.0, None, SliceCounts("site", names, 1, samples, counts))
    assert {p.name for p in reached("fit", "test", names, asked, counts, ()).promises} == {"targets", "bias"}
    f1 = np.array([[0.5, 0.75], [0.25, 1.0], [0.5, 0.75]])
    labels = LabelCounts(samples, none, none, none, none, f1, np.stack([f1, f1]), np.ones(2, bool))
    found = group_changes(SliceCounts("site", names, 1, none, labels))
    assert [(g.name, g.before, g.after, g.change, g.wanted) for g in found] == [
        ("kyoto", 0.5, 0.25, -25.0, False), ("oslo", 0.75, 1.0, 25.0, True),
    ]  # fmt: skip
