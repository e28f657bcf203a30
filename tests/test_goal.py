"""The goal: in words, which classes it is about, and what no class may lose."""

from __future__ import annotations

import numpy as np
import pytest

from onnxtweak.errors import DataError, UsageError
from onnxtweak.goal import ResolvedGoal, Slice, class_names, find_targets, worst
from onnxtweak.head import ONE_LABEL, SEVERAL_LABELS
from onnxtweak.metric.asked import metric_of
from onnxtweak.metric.lines import CHARACTERS
from onnxtweak.settings import TargetSettings

NAMES = [*"abcdefgh"]
SITE = Slice("site", ("kyoto", "oslo"), 1, named=True)


@pytest.mark.parametrize(
    ("targets", "limits", "listed", "said"),
    [
        ([2], {}, {}, "raise c; keep overall accuracy"),
        ([0, 2], {"max_overall_drop": 1.5}, {}, "raise a and c; lose at most 1.5 points overall"),
        ([0, 2, 3], {"max_overall_drop": -2}, {}, "raise a, c and d; gain at least 2 points overall"),
        ([*range(6)], {"max_overall_drop": 100}, {}, "raise a, b, c, d, e and 1 more class"),
        ([*range(8)], {}, {}, "raise overall accuracy"),
        (
            [1],
            {"max_class_drop": 5.0},
            {},
            "raise b; keep overall accuracy; lose at most 5 points in any class",
        ),
        ([1], {"max_class_drop": 0.0}, {}, "raise b; keep overall accuracy; lose nothing in any class"),
        ([1], {"max_class_drop": 100.0}, {}, "raise b; keep overall accuracy"),
        ([], {}, {"must": 40, "lock": 1}, "make 40 listed samples right; keep 1 listed sample right"),
        ([1], {}, {"keep": 3}, "raise b; keep overall accuracy; keep the decision on 3 listed samples"),
        (
            [*range(8)],
            {"slice": SITE, "max_class_drop": 5.0},
            {},
            "raise site=oslo, of whatever class; keep overall accuracy;"
            " lose at most 5 points in any class or group of site",
        ),
    ],
)
def test_a_goal_is_a_sentence(targets, limits, listed, said):
    goal = ResolvedGoal(np.array(targets, np.int64), **limits)
    assert goal.sentence(NAMES, listed) == said


@pytest.mark.parametrize(
    ("head", "metric", "drop", "said"),
    [
        (SEVERAL_LABELS, "f1", 0.0, "raise macro F1"),
        (SEVERAL_LABELS, "f1", -2.0, "raise macro F1; gain at least 2 points overall"),
        (SEVERAL_LABELS, "map", 0.0, "raise mean average precision; keep overall F1"),
        (ONE_LABEL, "overall", 0.0, "raise accuracy"),
        (ONE_LABEL, "f1", 0.0, "raise macro F1; keep overall accuracy"),
    ],
)
def test_what_should_rise_is_not_kept_as_well(head, metric, drop, said):
    asked = metric_of(metric, NAMES, several=head.several)
    assert ResolvedGoal(np.arange(8), head, drop, metric=asked).sentence(NAMES) == said


def test_a_metric_that_should_fall_a_limit_and_agreement_are_said():
    everyone = np.arange(8)
    assert ResolvedGoal(everyone, max_overall_drop=100, metric=CHARACTERS).sentence(NAMES) == (
        "lower character error rate"
    )
    limited = metric_of("recall@fpr=0.02", ["ham", "spam"])
    assert ResolvedGoal(everyone, max_overall_drop=100, metric=limited).sentence(["ham", "spam"]) == (
        "raise recall of class spam; false-positive rate at most 2 %"
    )
    matched = ResolvedGoal(np.arange(3), max_class_drop=2.0, reference="old.onnx")
    assert matched.sentence(NAMES) == (
        "decide as old.onnx does; lose at most 2 points of agreement in any class"
    )
    assert ResolvedGoal(np.arange(1)).sentence(["only"]) == "raise only"


FIT, VALIDATION = np.array([0, 1, 2, 3, 3, 5]), np.array([0, 0, 1, 1, 2, 2, 3, 4])


def targets(*words, worst=None, predicted=None):
    asked = TargetSettings(targets=words, worst=worst)
    return find_targets(asked, ["cat", "dog", "2", "1", "eel", "fox"], FIT, VALIDATION, predicted).tolist()


def test_targets_are_found_by_name_and_else_by_number():
    assert targets("dog", "cat", "0") == [0, 1]
    assert targets("2", "1") == [2, 3]  # which are names, and 3 is none
    assert targets("3") == [3]


@pytest.mark.parametrize(
    ("words", "what", "hint"),
    [
        ((), "no target class", "--worst 3"),
        (("dig",), "no class 'dig'", "did you mean dog?"),
        (("6",), "no class '6'", "classes are cat ... fox, or numbers 0 to 5"),
        (("-1",), "no class '-1'", "did you mean 1?"),
        (("zebra",), "no class 'zebra'", "classes are cat ... fox, or numbers 0 to 5"),
    ],
)
def test_a_target_that_there_is_not_is_refused_with_those_that_there_are(words, what, hint):
    with pytest.raises(UsageError, match=what) as caught:
        targets(*words)
    assert hint in caught.value.hint


@pytest.mark.parametrize(("word", "role"), [("eel", "fit"), ("fox", "validation")])
def test_a_target_without_samples_is_refused(word, role):
    with pytest.raises(DataError, match=f"target class {word} has no {role} sample"):
        targets("cat", word)


def test_the_worst_classes_are_those_with_the_least_share_right():
    predicted = np.array([0, 1, 0, 0, 2, 2, 0, 4])  # right: half of 0, none of 1 and 3, all of 2 and 4
    assert targets(worst=1, predicted=predicted) == [1]
    assert targets(worst=2, predicted=predicted) == [1, 3]
    assert targets(worst=3, predicted=predicted) == [0, 1, 3]
    assert targets(worst=4, predicted=predicted) == [0, 1, 2, 3]
    with pytest.raises(UsageError, match="worst 5 of 4 classes"):
        targets(worst=5, predicted=predicted)
    with pytest.raises(UsageError, match="exclude each other"):
        targets("cat", worst=1, predicted=predicted)


def test_classes_have_their_names_or_else_their_numbers():
    assert (class_names(["cat", "dog"], 2), class_names(None, 2)) == (("cat", "dog"), ("0", "1"))


def test_the_worst_of_some_classes_leave_the_others_out():
    labels, predicted = np.array([0, 0, 0, 0, 1]), np.array([0, 0, 1, 1, 1])
    assert worst(np.array([0, 1]), predicted, labels, 1).tolist() == [0]  # of which more are right
    labels, predicted = np.array([0, 0, 1, 1, 2]), np.array([0, 0, 0, 1, 0])
    assert worst(np.array([0, 1]), predicted, labels, 1).tolist() == [1]
    assert worst(np.array([0, 4]), predicted, labels, 1).tolist() == [4]  # none of no sample is right
    marks = np.array([[1, 1, 0], [1, 0, 1], [0, 1, 1]])
    shown = np.array([[1, 0, 0], [1, 0, 1], [0, 1, 0]])  # F1 of 1, 2/3, 2/3
    assert worst(np.arange(3), shown, marks, 1).tolist() == [1]
    assert worst(np.array([0, 2]), shown, marks, 1).tolist() == [2]


def test_no_class_loses_more_than_it_may_with_a_margin_for_what_changed():
    """Of 100 samples of the first class 90 were right, of 10 of the second all, of the third none."""
    labels = np.repeat([0, 1], [100, 10])
    before = (np.arange(110) < 90) | (labels == 1)

    def hold(lost, gained=0, drop=10.0, of_second=0, **more):
        after = before.copy()
        after[:lost], after[90 : 90 + gained], after[100 : 100 + of_second] = False, True, False
        return ResolvedGoal(np.arange(2), max_class_drop=drop).classes_hold(before, after, labels, 3, **more)

    assert hold(10) and not hold(11)
    assert hold(11, 1) and hold(100, drop=None)
    # Of seven that changed 2.6 are a standard error; of four in a group, four.
    assert hold(7, margin=1.0) and not hold(8, margin=1.0)
    assert hold(8, margin=0.5) and not hold(9, margin=0.5)
    assert not hold(7, 3, margin=2.0) and hold(5, 1, margin=2.0)
    assert hold(5, margin=1.0, groups=np.arange(110) // 5) and not hold(
        6, margin=1.0, groups=np.zeros(110, int)
    )
    # Ten samples cannot tell whether 5 points are lost: one may be, and nothing is asked of it beyond.
    assert hold(0, drop=5.0, of_second=1, margin=1.0) and not hold(0, drop=5.0, of_second=2, margin=1.0)
    assert not hold(0, drop=5.0, of_second=1)
    assert hold(0, drop=10.0, of_second=0, margin=1.0) and not hold(0, of_second=1, margin=1.0)
    assert not hold(1, drop=0.0, margin=1.0)
