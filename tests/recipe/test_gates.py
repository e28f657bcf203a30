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
}


@pytest.mark.parametrize(
    ("gate", "measured", "kept", "missed"),
    [
        ("min_target_gain", 10.0, 10.0, 10.1),
        ("max_overall_drop", 1.0, 1.0, 0.9),
        ("max_class_drop", 10.0, 10.0, 9.9),
        ("max_E", 5.0, 5.0, 4.9),
        ("max_latency_increase", 3.0, 3.0, 2.9),
        ("min_mcnemar", 0.998, 0.998, 0.999),
    ],
)
def test_each_gate_has_its_figure_and_its_side(gate, measured, kept, missed):
    (found,) = judged(Gates(**{gate: kept}), MADE)
    assert found["name"] == gate.replace("_", "-")
    assert found["measured"] == pytest.approx(measured)
    assert found["passed"]
    (found,) = judged(Gates(**{gate: missed}), MADE)
    assert not found["passed"]


def test_all_gates_are_known_and_none_means_none():
    assert set(GATES) == {
        "min-target-gain", "max-overall-drop", "max-class-drop", "max-E", "max-latency-increase",
        "min-mcnemar",
    }  # fmt: skip
    assert judged(Gates(), MADE) == []


def test_what_cannot_be_measured_does_not_pass():
    nothing = {**MADE, "evidence": {}, "before": {**MADE["before"], "target": None}}
    found = judged(Gates(min_target_gain=0, max_latency_increase=99), nothing)
    assert [gate["passed"] for gate in found] == [False, False]


def test_confidence_in_harm_is_no_confidence():
    (found,) = judged(Gates(min_mcnemar=0.5), {**MADE, "fixed": 10, "broken": 30})
    assert found["measured"] == 0 and not found["passed"]
