"""The goal in words: what should be better first, then what must not get worse."""

from __future__ import annotations

import numpy as np
import pytest

from onnxtweak.goal import ResolvedGoal, Slice
from onnxtweak.head import ONE_LABEL, SEVERAL_LABELS
from onnxtweak.metric.asked import metric_of

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
