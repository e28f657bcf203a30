"""`report` from files: what it accepts, what it refuses, what it leaves behind."""

from __future__ import annotations

import json

import pytest

from onnxtweak.commands import join, report
from onnxtweak.errors import DataError, OutputError
from onnxtweak.report import schema
from onnxtweak.settings import DataSettings, OutputSettings, TargetSettings
from onnxtweak.stages.check_paths import check_paths
from tests.support.report_pages import a_document
from tests.support.weak_class import TARGET, weak_cnn


def written(folder, text: str) -> str:
    (folder / "result.json").write_text(text, encoding="utf-8")
    return str(folder / "result.json")


def test_the_same_result_gives_the_same_page(tmp_path):
    source = written(tmp_path, json.dumps(a_document()))
    one, two = (
        report(results=[source], output=OutputSettings(str(tmp_path / n))) for n in ("a.html", "b.html")
    )
    assert one.output.sha256 == two.output.sha256
    assert one.made_by == "join"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("[1]", "not a result"),
        ('{"schema": 2}', "schema 2"),
        ('{"schema": 1}', "not a result"),
        ('{"schema": 1, "command": "evaluate", "metrics": 5}', "damaged"),
    ],
)
def test_other_files_are_refused(tmp_path, text, said):
    with pytest.raises(DataError, match=said):
        report(results=[written(tmp_path, text)], output=OutputSettings(str(tmp_path / "r.html")))
    assert not (tmp_path / "r.html").exists()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("before", {"overall": "<b>", "target": 0, "per_class": []}),
        ("model", None),
        ("classes", [1]),
        ("curve", [{"drop": None, "target": 1}]),
        (
            "evidence",
            {
                "graph": {
                    "places": [{"name": "a", "op": "b", "role": "c"}],
                    "edges": [[0, 5, 0]],
                    "left_out": 0,
                }
            },
        ),
        ("evidence", {"theta": [{"edges": [0, 1], "counts": [1], "cut": 1, "nought": 0}] * 2}),
        ("evidence", []),
    ],
)
def test_damage_is_named(tmp_path, key, value):
    source = written(tmp_path, json.dumps(a_document() | {key: value}))
    with pytest.raises(DataError, match="damaged"):
        report(results=[source], output=OutputSettings(str(tmp_path / "r.html")))


def test_neither_the_result_nor_an_existing_file_is_overwritten(tmp_path):
    source = written(tmp_path, json.dumps(a_document()))
    with pytest.raises(OutputError):
        report(results=[source], output=OutputSettings(source, force=True))
    (tmp_path / "r.html").write_text("mine")
    with pytest.raises(OutputError):
        report(results=[source], output=OutputSettings(str(tmp_path / "r.html")))
    assert (tmp_path / "r.html").read_text() == "mine"


def test_a_job_draws_itself_and_its_json_draws_the_same(tmp_path):
    model, data = weak_cnn(tmp_path)
    made = join(
        model=str(model),
        data=DataSettings((str(data),)),
        targets=TargetSettings((str(TARGET),)),
        output=OutputSettings(str(tmp_path / "o.onnx"), report=str(tmp_path / "o.html")),
    )
    source = written(tmp_path, schema.dumps(schema.document("join", made)))
    report(results=[source], output=OutputSettings(str(tmp_path / "again.html")))
    assert (tmp_path / "o.html").read_bytes() == (tmp_path / "again.html").read_bytes()
    found = made.evidence
    assert {"graph", "latency", "samples", "layers", "theta", "trials", "confusion"} <= set(found)
    assert sum(found["fixed"]) == made.measured.fixed and sum(found["broken"]) == made.measured.broken
    assert sum(layer["synapses"] for layer in found["layers"]) == len(made.tweak["synapses"])
    assert found["size"]["after"] > found["size"]["before"]
    assert found["latency"]["before"] > 0
    changed = [*found["samples"]["fixed"], *found["samples"]["broken"]]
    assert changed and all(sample["picture"].startswith("data:image/png") for sample in changed)
    assert {place["role"] for place in found["graph"]["places"]} >= {"input", "added", "read", "output"}


def test_without_a_reader_nothing_is_measured_for_the_pictures(tmp_path):
    model, data = weak_cnn(tmp_path)
    made = join(model=str(model), data=DataSettings((str(data),)), targets=TargetSettings((str(TARGET),)))
    assert "latency" not in made.evidence and "samples" not in made.evidence
    assert made.evidence["confusion"]["before"].sum(axis=0)[2] == made.before.samples


def test_results_stand_side_by_side(tmp_path):
    sources = []
    for seed in (0, 1):
        (tmp_path / f"seed{seed}.json").write_text(json.dumps(a_document(seed=seed)))
        sources.append(str(tmp_path / f"seed{seed}.json"))
    made = report(results=sources, output=OutputSettings(str(tmp_path / "r.html")))
    html = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert "2 results side by side" in html and "seed0" in html and "seed1" in html
    assert [one.path for one in made.results] == sources and made.made_by == "join"
    (tmp_path / "i.json").write_text('{"schema": 1, "command": "inspect"}')
    with pytest.raises(DataError, match="`inspect` cannot stand beside others"):
        report(results=[*sources, str(tmp_path / "i.json")], output=OutputSettings(str(tmp_path / "s.html")))
    assert not (tmp_path / "s.html").exists()


def test_title_and_date_are_an_authors(tmp_path):
    source = written(tmp_path, json.dumps(a_document()))
    pages = {}
    for name, more in (("bare", {}), ("titled", {"title": "Cats & <dogs>", "date": "3 May"})):
        report(results=[source], output=OutputSettings(str(tmp_path / name)), **more)
        pages[name] = (tmp_path / name).read_text(encoding="utf-8")
    assert "Cats &amp; &lt;dogs&gt; · 3 May" in pages["titled"]
    assert "<title>Cats &amp; &lt;dogs&gt;</title>" in pages["titled"]
    assert "class=imprint" not in pages["bare"]


@pytest.mark.parametrize("name", ["r.pdf", "r.json", "r.png"])
def test_a_page_is_written_under_the_name_of_a_page(tmp_path, name):
    source = written(tmp_path, json.dumps(a_document()))
    with pytest.raises(OutputError, match="a report is an HTML page") as caught:
        report(results=[source], output=OutputSettings(str(tmp_path / name)))
    assert "*.html" in str(caught.value.hint)
    with pytest.raises(OutputError, match="a report is an HTML page"):
        check_paths(OutputSettings(report=str(tmp_path / name)), source, DataSettings(()))
    assert not (tmp_path / name).exists()


@pytest.mark.parametrize(("name", "begins"), [("R.HTML", "<!doctype html>"), ("CARD.MD", "---")])
def test_the_name_says_which_form_is_written(tmp_path, name, begins):
    source = written(tmp_path, json.dumps(a_document()))
    report(results=[source], output=OutputSettings(str(tmp_path / name)))
    assert (tmp_path / name).read_text(encoding="utf-8").lower().startswith(begins)
