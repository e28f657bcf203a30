"""Gates: which side of the limit a figure lies on, and what has no figure."""

from __future__ import annotations

import pytest

from onnxtweak.recipe import GATES, Gates
from onnxtweak.recipe.gates import judged

MADE = {
    "before": {"overall": 0.80, "target": 0.50, "per_class": [0.9, 0.7, None]},
    "after": {"overall": 0.79, "target": 0.60, "per_class": [0.8, 0.9, 0.5]},
    "E": 5.0,
    "fixed": 30,
    "broken": 10,
    "mcnemar_p": 0.002,
    "evidence": {"latency": {"increase": 3.0}},
    "answer": "fit",
    "metric": {"gain": 12.5, "limit": 0.01, "at_most": True, "after": {"at_cut": {"rate": 0.005}}},
    "listed": {
        "must": {"samples": 50, "right": 49},
        "lock": {"right": 400, "broken": 4},
        "keep": {"right": 200, "broken": 10},
    },
    "verdict": {
        "promises": [
            {"name": "classes", "state": "not kept"},
            {"name": "bias", "state": "not kept"},  # which is no harm
            {"name": "overall", "state": "not shown"},
            {"name": "targets", "state": "not shown"},
        ],
        "groups": [
            {"name": "a", "wanted": False, "change": -4.0},
            {"name": "b", "wanted": True, "change": 7.0},
            {"name": "c", "wanted": False, "change": 2.0},
        ],
    },
}


def asked(result, **gates):
    """What those gates say that are asked for."""
    found = judged(Gates(**gates), result)
    return [gate for gate in found if gate["name"].replace("-", "_") in gates]


@pytest.mark.parametrize(
    ("gate", "measured", "kept", "missed"),
    [
        ("min_target_gain", 10.0, 10.0, 10.1),
        ("max_overall_drop", 1.0, 1.0, 0.9),
        ("max_class_drop", 10.0, 10.0, 9.9),
        ("min_slice_gain", 7.0, 7.0, 7.1),
        ("min_metric_gain", 12.5, 12.5, 12.6),
        ("max_limit_excess", -0.5, 0.0, -0.6),
        ("max_group_drop", 4.0, 4.0, 3.9),
        ("max_E", 5.0, 5.0, 4.9),
        ("max_latency_increase", 3.0, 3.0, 2.9),
        ("min_mcnemar", 0.998, 0.998, 0.999),
        ("max_not_kept", 1, 1, 0),
        ("max_not_shown", 2, 2, 1),
        ("min_must_fixed", 0.98, 0.98, 1),
        ("min_must_fixed", 49, 49, 50),
        ("max_lock_broken", 0.01, 0.01, 0.009),
        ("max_lock_broken", 4, 4, 3),
        ("max_lock_broken", 4, 4, 0),
        ("max_keep_changed", 0.05, 0.05, 0.049),
    ],
)
def test_each_gate_has_its_figure_and_its_side(gate, measured, kept, missed):
    (found,) = asked(MADE, **{gate: kept})
    assert found["name"] == gate.replace("_", "-")
    assert found["measured"] == pytest.approx(measured)
    assert found["passed"]
    (found,) = asked(MADE, **{gate: missed})
    assert not found["passed"]


@pytest.mark.parametrize("gate", ["min_must_fixed", "max_lock_broken"])
def test_a_gate_on_samples_that_were_not_listed_does_not_pass(gate):
    (found,) = asked({**MADE, "listed": None}, **{gate: 1})
    assert found["measured"] is None and not found["passed"]


def test_all_gates_are_known_and_none_means_none():
    assert set(GATES) == {
        "min-target-gain", "max-overall-drop", "max-class-drop", "max-E", "max-latency-increase",
        "min-mcnemar", "refuse-copy", "max-not-kept", "max-not-shown", "min-must-fixed",
        "max-lock-broken", "max-keep-changed", "min-slice-gain", "max-group-drop", "min-metric-gain",
            "max-limit-excess",
    }  # fmt: skip
    assert [gate["name"] for gate in judged(Gates(), MADE)] == ["max-not-kept", "refuse-copy"]


def test_a_copy_is_refused_unless_the_recipe_takes_it():
    copy = MADE | {"answer": "base", "verdict": {"promises": []}}
    assert {gate["name"]: gate["passed"] for gate in judged(Gates(), copy)} == {
        "max-not-kept": True,
        "refuse-copy": False,
    }
    assert all(gate["passed"] for gate in judged(Gates(refuse_copy=False), copy))
    assert all(gate["passed"] for gate in judged(Gates(max_not_kept=1), MADE))


def test_what_cannot_be_measured_does_not_pass():
    nothing = {**MADE, "evidence": {}, "before": {**MADE["before"], "target": None}}
    found = asked(nothing, min_target_gain=0, max_latency_increase=99)
    assert [gate["passed"] for gate in found] == [False, False]
    found = asked({**MADE, "verdict": {"promises": []}}, min_slice_gain=-99, max_group_drop=99)
    assert [gate["passed"] for gate in found] == [False, False]


def test_confidence_in_harm_is_no_confidence():
    (found,) = asked({**MADE, "fixed": 10, "broken": 30}, min_mcnemar=0.5)
    assert found["measured"] == 0 and not found["passed"]


def test_nothing_lost_has_no_minus_sign():
    (found,) = asked({**MADE, "after": MADE["before"]}, max_overall_drop=0.5)
    assert str(found["measured"]) == "0.0"


@pytest.mark.parametrize(
    ("rate", "limit", "at_most", "excess"),
    [(0.03, 0.01, True, 2.0), (0.85, 0.9, False, 5.0), (0.95, 0.9, False, -5.0), (None, 0.9, False, 0.0)],
)
def test_a_limit_is_exceeded_from_its_own_side(rate, limit, at_most, excess):
    metric = {"gain": 1.0, "limit": limit, "at_most": at_most, "after": {"at_cut": {"rate": rate}}}
    (found,) = asked({**MADE, "metric": metric}, max_limit_excess=1.0)
    assert found["measured"] == pytest.approx(excess) and found["passed"] == (excess < 1)


@pytest.mark.parametrize(
    ("changes", "gates"),
    [
        ({"metric": None}, {"max_limit_excess": 99, "min_metric_gain": -99}),
        ({"metric": {"gain": 1.0, "after": {"at_cut": None}}}, {"max_limit_excess": 99}),
        ({"after": {"overall": None, "target": None}}, {"min_target_gain": -99, "max_overall_drop": 99}),
        ({"before": {"per_class": [None, 0.5]}, "after": {"per_class": [0.5, None]}}, {"max_class_drop": 99}),
        ({"evidence": {"latency": {}}}, {"max_latency_increase": 99}),
    ],
)
def test_a_figure_that_is_missing_on_one_side_is_none(changes, gates):
    found = asked({**MADE, **changes, "before": {**MADE["before"], **changes.get("before", {})}}, **gates)
    assert [(gate["measured"], gate["passed"]) for gate in found] == [(None, False)] * len(gates)


def test_a_class_without_a_sample_on_either_side_is_left_out():
    after = {**MADE["after"], "per_class": [None, 0.65, 0.5]}
    (found,) = asked({**MADE, "after": after}, max_class_drop=5.1)
    assert found["measured"] == pytest.approx(5.0) and found["passed"]


def test_of_several_groups_that_were_wanted_the_least_gain_counts():
    groups = [{"name": "a", "wanted": True, "change": change} for change in (3.0, 7.0)]
    (found,) = asked({**MADE, "verdict": {"promises": [], "groups": groups}}, min_slice_gain=5.0)
    assert found["measured"] == 3 and not found["passed"]


@pytest.mark.parametrize("gate", ["max_lock_broken", "max_keep_changed"])
def test_a_limit_of_one_or_none_is_a_count_and_a_share_lies_between(gate):
    role = "lock" if "lock" in gate else "keep"
    result = {**MADE, "listed": {role: {"right": 400, "broken": 4}}}
    assert [asked(result, **{gate: limit})[0]["measured"] for limit in (0, 1, 0.5)] == [4, 4, 0.01]
    nobody = {**MADE, "listed": {role: {"right": 0, "broken": 0}}}
    assert asked(nobody, **{gate: 0.5})[0]["measured"] == 0


def test_as_many_fixed_as_broken_are_no_confidence():
    (found,) = asked({**MADE, "fixed": 10, "broken": 10, "mcnemar_p": 0.1}, min_mcnemar=0.5)
    assert found["measured"] == 0 and not found["passed"]
