"""Results as JSON, schema 1."""

from __future__ import annotations

import json

import numpy as np

from onnxtweak.report import schema
from tests.support import results

PROMISED = set(
    "schema command model output answer verdict tweak targets n scale theta criterion neurons samples split "
    "before after bias_control fixed broken mcnemar_p E curve seconds passes device checks".split()
)
ORDER = [
    "schema", "command", "model", "output", "answer", "verdict", "tweak", "targets", "n", "scale", "theta",
    "criterion", "neurons", "samples", "split", "before", "after", "bias_control", "fixed", "broken",
    "mcnemar_p", "E", "curve", "seconds", "passes", "device", "checks", "classes", "notes",
]  # fmt: skip


def read(noun, command="join"):
    return json.loads(schema.dumps(schema.document(command, noun)))


def test_a_result_has_the_promised_keys_and_names_for_its_numbers():
    made = read(results.a_result())
    assert set(made) == PROMISED | {"classes", "notes"}
    assert made["schema"] == 1
    assert made["model"] == {"path": "base.onnx", "sha256": "a" * 64}
    assert made["before"] == {"overall": 10 / 12, "target": 0.5, "per_class": [1.0, 1.0, 0.5]}
    assert set(made["after"]) == set(made["bias_control"]) == {"overall", "target", "per_class"}
    assert made["curve"] == [{"drop": 0.0, "target": 0.5}, {"drop": -8.3, "target": 0.75}]
    assert made["passes"][0] == {"name": "capture and score", "samples": 30}
    assert made["checks"] == [{"name": "neutral", "passed": True, "detail": "logits bit-equal at scale 0"}]
    assert made["tweak"]["synapses"][0]["index"] == 7


def test_the_verdict_is_one_list_of_promises():
    made = read(results.a_result(verdict=results.a_verdict(answer="fit", each=5.0)), "fit")
    assert made["answer"] == made["verdict"]["answer"] == "fit"
    assert list(made["verdict"]) == [
        "answer", "state", "split", "samples", "promises", "worst", "cautions", "groups", "goal", "unit",
    ]  # fmt: skip
    assert made["verdict"]["state"] == "not shown" and made["verdict"]["worst"] is None
    assert {tuple(promise) for promise in made["verdict"]["promises"]} == {
        ("name", "asked", "state", "change", "limit", "interval", "samples", "detail")
    }
    assert {promise["name"] for promise in made["verdict"]["promises"]} == {
        "classes", "overall", "targets", "bias",
    }  # fmt: skip


def test_a_result_is_flat_and_its_keys_keep_their_order():
    assert list(read(results.a_result())) == ORDER
    assert list(read(results.a_result(evidence={"size": 1}))) == [*ORDER, "evidence"]


def test_other_results_are_flat_too():
    made = read(results.a_score(), "score")
    assert list(made) == [
        "schema", "command", "output", "neurons", "targets", "top", "dropped", "seconds", "passes", "device",
        "notes",
    ]  # fmt: skip
    assert made["passes"] == [["score", 1000]]
    assert list(read(results.a_comparison(), "compare")) == [
        "schema", "command", "model", "targets", "repeats", "samples", "before", "drops", "standings",
        "seconds", "passes", "device", "output", "checks", "notes", "verdict", "metric",
    ]  # fmt: skip


def test_what_json_cannot_say_is_null():
    unseen = results.metrics([[4, 0, 0], [0, 4, 0], [0, 0, 0]])
    made = read(results.a_result(before=unseen, E=float("inf"), output=None))
    assert made["before"] == {"overall": 1.0, "target": None, "per_class": [1.0, 1.0, None]}
    assert made["E"] is None
    assert made["output"] is None


def test_an_evaluation_adds_samples_and_confusion():
    made = read(results.an_evaluation(), "evaluate")
    assert made["metrics"]["samples"] == 12
    assert made["metrics"]["confusion"] == [[4, 0, 0], [0, 4, 0], [1, 1, 2]]
    assert made["command"] == "evaluate"


def test_an_inspection_is_written_field_by_field():
    made = read(results.an_inspection(), "inspect")
    assert made["inputs"] == [["image", "float32", [None, 3, 32, 32]]]
    assert made["taps"][0]["name"] == "relu"
    assert made["opset"] == {"": 17}


def test_plain_values():
    assert schema.plain({1: (np.float32(0.5), np.array([np.nan, 2.0]), {3})}) == {
        "1": [0.5, [None, 2.0], [3]]
    }
