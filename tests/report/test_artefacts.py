"""Files for other programs: valid whatever is in them."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET

from onnxtweak.report import artefacts
from onnxtweak.report.text import layout, runs
from tests.support.results import a_plan, a_run


def test_junit_has_a_case_for_each_gate_and_check():
    root = ET.fromstring(artefacts.junit(a_run(passed=False).results))
    cases = [
        (case.get("classname"), case.get("name"), case.find("failure") is None)
        for case in root.iter("testcase")
    ]
    assert cases == [("cats.gates", "max-E", False), ("cats.checks", "neutral", True)]
    assert root.get("failures") == "1" and root.get("tests") == "2"


def test_hostile_words_stay_words():
    made = a_run(passed=False).results
    made["cats"]["checks"][0] = {"name": 'a"><b>', "passed": False, "detail": "]]>\x00\ud800<x>&"}
    root = ET.fromstring(artefacts.junit(made).encode("utf-8"))
    assert root.find(".//testcase[2]").get("name") == 'a"><b>'
    assert "]]>" in root.find(".//testcase[2]/failure").text


def test_metrics_leave_out_what_is_no_number():
    made = a_run().results
    made["cats"]["after"]["target"] = None
    found = json.loads(artefacts.metrics(made))
    assert found["cats.before.target"] == 0.5 and found["cats.E"] == 0.5
    assert "cats.after.target" not in found


def test_provenance_is_a_statement():
    made = json.loads(artefacts.provenance([("m.onnx", "a" * 64)], {"base": "b" * 64}, {"seed": 0}, "1.2"))
    assert made["_type"] == "https://in-toto.io/Statement/v1"
    assert made["subject"] == [{"name": "m.onnx", "digest": {"sha256": "a" * 64}}]
    assert made["predicate"]["buildDefinition"]["externalParameters"] == {"seed": 0}
    assert artefacts.sums([("m.onnx", "a" * 64)]) == f"{'a' * 64}  m.onnx\n"


def test_a_run_is_told_with_its_gates():
    said = layout.markdown(runs.ran(a_run(passed=False)))
    assert "| cats | 50.0 | 75.0 | 80.0 | 80.0 | 0.50 | 3 | 1 | 0 of 1 |" in said
    assert "**FAILED**" in said
    assert "FAILED" not in layout.terminal(runs.ran(a_run()))
    assert "the worst" not in layout.terminal(runs.planned(a_plan()))
