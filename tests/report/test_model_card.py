"""A model card's section: metadata that can be read, and what was promised."""

from __future__ import annotations

import json

import pytest

from onnxtweak.commands import report
from onnxtweak.errors import DataError
from onnxtweak.report import schema
from onnxtweak.report.model_card import model_card
from onnxtweak.settings import OutputSettings
from onnxtweak.verdict import copied
from tests.support.report_pages import a_document


def metadata(card: str):
    yaml = pytest.importorskip("yaml", reason="no PyYAML: install the extra `dev`")
    start, text, _ = card.split("---\n", 2)
    assert not start
    return yaml.safe_load(text)


@pytest.mark.parametrize("name", ["digits", 'a "quoted": name\n---\n- x', "\u202e\ud800#"])
def test_the_metadata_is_what_was_measured(name):
    made = a_document()
    read = metadata(model_card(made, name))
    (model,) = read["model-index"]
    assert "\u202e" not in model["name"] and (name != "digits" or model["name"] == name)
    (result,) = model["results"]
    assert result["task"]["type"] and result["dataset"]["name"] == "the test samples"
    values = [metric["value"] for metric in result["metrics"]]
    assert values == pytest.approx([made["after"]["overall"], made["after"]["target"]], abs=1e-6)
    assert read["library_name"] == "onnx" and "onnxtweak" in read["tags"]


def test_the_section_says_who_gains_and_who_pays():
    made = a_document()
    made["classes"][0] = made["targets"][0] = "cats | <b>dogs</b>"
    card = model_card(made)
    assert "### Patched with onnxtweak" in card and "| promise |" in card
    assert "cats \\| &lt;b>dogs&lt;/b>" in card and "sha256 " in card
    assert card.startswith("---\nlibrary_name: onnx") and 'name: "out"' in card


def test_a_copy_promises_nothing():
    card = model_card(a_document(verdict=schema.plain(copied("test", 12)), answer="base"))
    assert "a copy of the base" in card and "| promise |" not in card


def test_report_writes_it_where_the_name_ends_so(tmp_path):
    (tmp_path / "r.json").write_text(json.dumps(a_document()))
    source, card = str(tmp_path / "r.json"), str(tmp_path / "card.md")
    report(results=[source], output=OutputSettings(card), title="Digits")
    assert 'name: "Digits"' in (tmp_path / "card.md").read_text(encoding="utf-8")
    (tmp_path / "i.json").write_text('{"schema": 1, "command": "inspect"}')
    for results in ([source, source], [str(tmp_path / "i.json")]):
        with pytest.raises(DataError, match="about one result that has a patch"):
            report(results=results, output=OutputSettings(card, force=True))


def test_figures_of_several_labels_are_called_f1():
    made = a_document()
    for side in ("before", "after", "bias_control"):
        made[side]["measure"] = "F1"
    card = model_card(made)
    (model,) = metadata(card)["model-index"]
    assert [one["type"] for one in model["results"][0]["metrics"]] == ["f1", "f1"]
    assert "### F1 on the test samples" in card and "Accuracy" not in card
