"""Files for other programs: valid whatever is in them."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET

from onnxtweak.report import artefacts, schema
from onnxtweak.report.text import layout, runs
from onnxtweak.verdict import copied
from tests.support.results import a_plan, a_run, a_verdict


def test_junit_has_a_case_for_each_gate_and_check():
    root = ET.fromstring(artefacts.junit(a_run(passed=False).results))
    cases = [
        (case.get("classname"), case.get("name"), case.find("failure") is None)
        for case in root.iter("testcase")
    ]
    assert cases == [("cats.gates", "max-E", False), ("cats.checks", "neutral", True)]
    assert root.get("failures") == "1" and root.get("tests") == "2"


def judged_run(verdict, **changes):
    """A run whose tweak has this verdict."""
    made = a_run(**changes)
    made.results["cats"]["verdict"] = schema.plain(verdict)
    made.results["cats"]["answer"] = verdict.answer
    return made


def test_promises_are_cases_and_what_is_not_shown_is_skipped():
    judged = a_verdict((0, 0, 90), (200, 0, 5), (1000,) * 3, each=5.0, ahead=(0, 0, 1), behind=(0, 0, 1))
    made = judged_run(judged)
    root = ET.fromstring(artefacts.junit(made.results))
    ends = {
        case.get("name"): [child.tag for child in case]
        for case in root.iter("testcase")
        if case.get("classname") == "cats.verdict"
    }
    assert ends == {
        "no class loses more than 5 points": ["failure"],
        "overall accuracy kept": ["failure"],
        "better than the best bias": ["skipped"],
        "better on cat": [],
    }
    assert (root.get("failures"), root.get("skipped")) == ("2", "1")
    assert "worst: ant: -20.0 points (-23.0 to -16.9)" in root.find(".//failure").text
    found = json.loads(artefacts.metrics(made.results))
    counts = [found[f"cats.promises.{state}"] for state in ("kept", "not_kept", "not_shown")]
    assert counts == [1, 2, 1]
    said = layout.markdown(runs.ran(made))
    assert said.startswith("### Every gate passed (1)\n\n### Verdict\n")
    assert said.index("### Gates") < said.index("### Cost")
    assert (
        "| **cats** | **no class loses more than 5 points; worst: ant** | **-20.0** | **-23.0 to -16.9** |"
        " **NOT KEPT** |"
    ) in said


def test_a_copy_is_a_copy_in_summary_and_junit():
    made = judged_run(copied("test", 12))
    assert "| cats | a copy of the base: nothing was changed |" in layout.markdown(runs.ran(made))
    root = ET.fromstring(artefacts.junit(made.results))
    assert root.find(".//skipped").get("message") == "a copy of the base: nothing was changed"


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
