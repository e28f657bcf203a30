"""Pages of results that are no patch, and of several patches: whole, and safe whatever is written in them."""

from __future__ import annotations

import copy
import json

import numpy as np
import pytest

from onnxtweak.commands import evaluate
from onnxtweak.report import schema
from onnxtweak.report.changes import class_changes, in_a_sentence
from onnxtweak.report.page.document import drawn
from onnxtweak.settings import DataSettings
from tests.support import results
from tests.support.report_pages import Page, a_document
from tests.support.several_labels import LABELS, several_labels

HOSTILE = "</style><script>alert(1)</script>\u202e\"'><img src=x onerror=alert(1)>"

DOCUMENTS = {
    "evaluate": results.an_evaluation(),
    "compare": results.a_comparison(),
    "inspect": results.an_inspection(),
    "apply": results.an_applied(),
    "dump": results.a_dump(),
    "score": results.a_score(),
    "init": results.a_recipe_written(),
    "doctor": results.a_diagnosis("problem"),
    "report": results.a_report_page(),
}


def document(command: str):
    return json.loads(json.dumps(schema.document(command, DOCUMENTS[command])))


def text(html: str) -> str:
    seen = Page(html)
    assert not seen.open
    assert [tag for tag, _ in seen.tags].count("script") == 1
    assert not [key for _, attributes in seen.tags for key in attributes if key.startswith("on")]
    return " ".join(seen.text)


def poisoned(value):
    """The same with a hostile text in place of every one."""
    match value:
        case dict():
            return {key: poisoned(item) for key, item in value.items()}
        case list():
            return [poisoned(item) for item in value]
        case str():
            return HOSTILE
    return value


@pytest.mark.parametrize("command", DOCUMENTS)
def test_every_command_has_a_page(command):
    said = text(drawn([("r.json", document(command))]))
    assert command in said
    for word in ("None", "True", "nan", "{", "["):
        assert word not in said.split()


@pytest.mark.parametrize("command", DOCUMENTS)
def test_hostile_texts_stay_text(command):
    made = poisoned(document(command)) | {"schema": 1, "command": command}
    html = drawn([(HOSTILE, made)])
    text(html)
    assert "\u202e" not in html and "<img" not in html


def test_an_evaluation_shows_the_worst_class_first():
    made = document("evaluate")
    html = drawn([("r.json", made)])
    shares = dict(zip(made["classes"], made["metrics"]["per_class"], strict=True))
    worst, best = (pick((n for n in shares if shares[n] is not None), key=shares.get) for pick in (min, max))
    if shares[worst] < shares[best]:
        assert html.index(f"<bdi>{worst}</bdi>") < html.index(f"<bdi>{best}</bdi>")
    assert f"{made['metrics']['overall'] * 100:.1f} %" in text(html)


def test_a_comparison_leads_with_the_best():
    made = document("compare")
    best = max(made["standings"], key=lambda one: one["at"][0][0] or 0)
    assert f"Best at no overall loss: {best['method']}" in text(drawn([("r.json", made)]))


def test_a_run_shows_its_tweaks_side_by_side():
    made = json.loads(json.dumps(schema.document("run", results.a_run())))
    made["results"] = {name: a_document(seed=k) for k, name in enumerate(("one", "two"))}
    said = text(drawn([("run.json", made)]))
    assert "2 results side by side" in said and "one" in said and "two" in said


def test_side_by_side_says_where_figures_cannot_be_compared():
    one, two = a_document(), a_document(seed=1)
    assert "Take care" not in text(drawn([("a.json", one), ("b.json", one)]))
    two["model"]["sha256"] = "0" * 64
    two["split"] = "validation"
    said = text(drawn([("a.json", one), ("b.json", two)]))
    assert "their bases differ and they were not measured on the same samples" in said


def test_side_by_side_takes_classes_by_name_and_hostile_names():
    one, two = a_document(), copy.deepcopy(a_document(classes=5, seed=1))
    two["classes"][4] = HOSTILE
    html = drawn([(HOSTILE, one), ("b.json", two)])
    text(html)
    assert html.count("<tr data-c=") == 13 and "<img src=x" not in html


def test_who_gains_and_who_pays():
    made = a_document()
    made["classes"] = ["ant", "bee", "cat"]
    made["targets"] = ["bee"]
    for side, shares in (("before", (0.5, 0.5, 0.9)), ("after", (0.8, 0.6, 0.7))):
        made[side]["per_class"] = list(shares)
    made.pop("evidence")
    assert in_a_sentence(made) == "2 classes gain: bee (+10.0), ant (+30.0); 1 class pays: cat (-20.0)"
    assert [round(one.points) for one in class_changes(made)] == [30, 10, -20]
    made["after"] = made["before"]
    assert in_a_sentence(made) == "no class pays"
    made["before"]["per_class"] = [None, None, 1.0]
    assert [one.name for one in class_changes(made)] == ["cat"]
    assert np.isclose(class_changes(made)[0].points, 0)


def test_an_evaluation_of_several_labels_shows_each_the_worst_first(tmp_path):
    made = several_labels("sigmoid", tmp_path)
    said = evaluate(model=str(made.model), data=DataSettings((str(made.data),)))
    html = drawn([("r.json", json.loads(schema.dumps(schema.document("evaluate", said))))])
    shown = made.shown(made.model)
    f1 = [
        2 * (shown[:, c] & there[:, c]).sum() / (shown[:, c].sum() + there[:, c].sum())
        for there in [made.labels == 1]
        for c in range(LABELS)
    ]
    assert f"Macro F1 {np.mean(f1) * 100:.1f} % on {len(made.labels):,} samples" in text(html)
    order = sorted(range(LABELS), key=f1.__getitem__)
    assert html.index(f"<bdi>{order[0]}</bdi>") < html.index(f"<bdi>{order[-1]}</bdi>")
    assert "mean average precision" in text(html)


def test_side_by_side_says_which_figures_are_f1():
    one, two = a_document(), a_document(seed=1)
    for side in ("before", "after", "bias_control"):
        two[side]["measure"] = "F1"
    said = text(drawn([("a.json", one), ("b.json", two)]))
    assert "Take care" in said and "some figures are F1 and others accuracies" in said
    assert "accuracy or F1 in percent" in said
    alike = text(drawn([("a.json", two), ("b.json", two)]))
    assert "Overall and targets: F1 in percent" in alike and "some figures are F1" not in alike
