"""The page: whole, self-contained, and safe whatever classes and tensors are called."""

from __future__ import annotations

import base64
import hashlib
import re

import pytest

from onnxtweak.report import schema
from onnxtweak.report.markup import is_picture, safe, shortened
from onnxtweak.report.page.page import page
from onnxtweak.verdict import copied
from tests.support import results
from tests.support.report_pages import Page, a_document

HOSTILE = [
    "</style><script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' onload='alert(1)",
    "<svg/onload=alert(1)>&lt;b&gt;",
    "a\u202egnp.exe\x00\x1b[31m",
    "\ud800 lone",
    "x" * 5000,
    "",
]


def headings(seen: Page) -> str:
    return " ".join(seen.text)


def test_every_picture_is_there():
    seen = Page(page(a_document()))
    assert not seen.open
    text = headings(seen)
    for title in (
        "Classes", "Confusion, after minus before", "Targets against overall",
        "Overall accuracy over scale",
        "Targets for each n and scale", "Synapses per layer", "Theta of class 0",
        "The graph around the splice",
        "What if it were stronger, or weaker?",
        "Cost", "Samples that changed", "Where this comes from", "1 of 1 checks passed", "95 % interval",
    ):  # fmt: skip
        assert title in text, title


def badges(html: str) -> list[tuple[str, str]]:
    """Colour and words of every badge."""
    return re.findall(r'<span class="badge (\w+)-said">([^<]*)</span>', html)


def test_the_verdict_is_the_first_badge_and_the_first_section():
    gained = {"ahead": (0, 0, 90), "behind": (0, 0, 5)}
    judged = results.a_verdict((0, 0, 90), (200, 0, 5), (1000,) * 3, each=5.0, **gained)
    html = page(a_document(verdict=schema.plain(judged)))
    assert badges(html)[0] == ("loss", "✗ 2 of 4 promises not kept, 2 kept")
    text = headings(Page(html))
    assert text.index("no class loses more than 5 points; worst: ant") < text.index("Checks")
    order = ["Verdict", "What if it were stronger, or weaker?", "Classes", "Samples that changed", "Checks"]
    places = [html.index(f"<h2>{title}</h2>") for title in order]
    assert places == sorted(places)
    assert re.search(r"<h1><span[^>]*>✗ 2 of 4 promises not kept", html)


@pytest.mark.parametrize(("fixed", "broken", "colour"), [(90, 5, "gain"), (20, 15, "doubt"), (5, 90, "loss")])
def test_only_what_was_kept_is_green(fixed, broken, colour):
    judged = results.a_verdict((0, 0, fixed), (0, 0, broken), (1000,) * 3)
    assert badges(page(a_document(verdict=schema.plain(judged))))[0][0] == colour


def test_a_copy_is_called_a_copy():
    html = page(a_document(verdict=schema.plain(copied("test", 12)), answer="base"))
    assert badges(html)[0] == ("doubt", "– a copy of the base: nothing was changed")
    assert "the file is the base, byte for byte" in headings(Page(html))


def test_a_result_of_an_older_version_is_drawn_without_a_verdict():
    old = a_document()
    del old["verdict"], old["answer"]
    html = page(old)
    assert "<h2>Verdict</h2>" not in html and badges(html)[0] == ("gain", "✓ 1 of 1 checks passed")


def test_nothing_is_loaded_and_nothing_but_its_own_script_runs():
    html = page(a_document())
    seen = Page(html)
    names = [tag for tag, _ in seen.tags]
    assert not set(names) & {"link", "iframe", "object", "embed", "form", "base"}
    (script,) = re.findall(r"<script>(.*?)</script>", html, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}';" in html and names.count("script") == 1
    for tag, attributes in seen.tags:
        for name, value in attributes.items():
            assert not name.startswith("on"), (tag, name)
            assert name not in ("href", "srcset"), (tag, name)
            assert name != "src" or value.startswith("data:image/png;base64,")
    assert not re.search(r"url\(|@import|https?:", html)
    assert any("default-src 'none'" in (a.get("content") or "") for _, a in seen.tags)


@pytest.mark.parametrize("name", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_names_stay_text(name):
    made = a_document()
    honest = [tag for tag, _ in Page(page(made)).tags]
    made["classes"][0] = made["targets"][0] = name
    made["model"]["path"] = f"folder/{name}.onnx"
    made["notes"] = [name]
    made["checks"][0]["detail"] = made["checks"][0]["name"] = name
    evidence = made["evidence"]
    for layer in evidence["layers"]:
        layer["tap"] = name
    for place in evidence["graph"]["places"]:
        place["name"] = place["op"] = place["role"] = name
    evidence["samples"]["fixed"][0]["where"] = name
    evidence["provenance"][name] = name
    made["device"][name] = name
    made["gates"] = [{"name": name, "limit": 1.0, "measured": 2.0, "passed": False}]
    html = page(made)
    html.encode("utf-8")
    seen = Page(html)
    assert {tag for tag, _ in seen.tags} <= set(honest) | {"small"}
    assert not [a for _, a in seen.tags if any(key.startswith("on") for key in a)]
    assert "\x00" not in html and "\u202e" not in html


def test_a_sample_shows_pictures_and_nothing_else():
    made = a_document()
    made["evidence"]["samples"]["fixed"][0]["picture"] = "https://example.org/x.png"
    assert "img" not in {tag for tag, _ in Page(page(made)).tags}
    assert not is_picture('data:image/png;base64,AAAA" onerror="x')
    assert not is_picture(None)


def test_without_evidence_the_numbers_remain():
    made = a_document()
    made.pop("evidence")
    text = headings(Page(page(made)))
    assert "Classes" in text
    assert "Confusion" not in text
    assert "Samples that changed" not in text


def test_gates_are_told_with_their_limits():
    gates = [
        {"name": "max-E", "limit": 0.5, "measured": 2.25, "passed": False},
        {"name": "min-target-gain", "limit": 1.0, "measured": 12.5, "passed": True},
    ]
    text = headings(Page(page(a_document(gates=gates))))
    assert "1 of 2 gates passed" in text
    assert re.search(r"failed\s+max-E\s+0\.5\s+2\.25\s", text)
    assert re.search(r"passed\s+min-target-gain\s+1\s+12\.5\s", text)


def test_a_gate_without_a_figure_is_drawn():
    """The gain of a class without test samples, say: it does not pass, and the page is still whole."""
    gates = [{"name": "min-target-gain", "limit": 1.0, "measured": None, "passed": False}]
    assert "min-target-gain" in page(a_document(gates=gates))


def test_hundreds_of_classes_fold():
    made = a_document(classes=400, each=10)
    html = page(made)
    assert "show all 400 classes" in html and html.count("class=more") == 360
    assert html.count('class="dumbbell"') == 400
    assert len(html) < 1_200_000
    assert "The 24 classes that changed most" in html


def test_classes_without_samples_and_no_output():
    made = a_document()
    for key in ("before", "after", "bias_control"):
        made[key]["per_class"][3] = None
    made["output"] = None
    made["before"]["target"] = None
    text = headings(Page(page(made)))
    assert "nothing" in text


def test_a_dense_patch_has_no_targets_of_its_own():
    made = a_document()
    made["tweak"]["synapses"] = None
    made["n"] = made["scale"] = made["curve"] = []
    made["evidence"].update(
        layers=[{"tap": "t", "op": "Relu", "shape": [4], "target": None, "synapses": 7}], trials=[]
    )
    assert "Synapses per layer" in headings(Page(page(made)))


def test_what_learnt_on_validation_is_not_judged_there():
    learnt, other = page(a_document(command="fit")), page(a_document())
    where = "validation samples, where settings were chosen"
    assert "held out in turn" in learnt and "chosen</li>" not in learnt and where not in learnt
    assert "chosen</li>" in other and where in other


def test_words():
    assert safe("<a b='\"'>") == "&lt;a b=&#x27;&quot;&#x27;&gt;"
    assert shortened("abcdefghij", 5) == "ab…ij"
    assert shortened("abc", 5) == "abc"


def reprs(html: str) -> list[str]:
    """Words that only Python would write: quotes within brackets, None, nan, True and False."""
    text = " ".join(Page(html).text)
    return re.findall(r"[\[{(]['\"]|\{\}|\[\]|\bNone\b|\bnan\b|\binf\b|\bTrue\b|\bFalse\b|array\(", text)


def a_strange_document():
    made = a_document()
    made["device"] = {"device": "cpu", "providers": {"CPUExecutionProvider": 3, "Other": 1}, "spare": None}
    made["evidence"]["provenance"] |= {
        "exact_scale": True, "max_class_drop": None, "count": [1, 10], "samples": {"fit": 3}, "margin": 0.5,
        "inputs": {"x": ["float32", [3]]}, "hidden": 0,
    }  # fmt: skip
    return made


def test_the_page_speaks_no_python():
    html = page(a_strange_document())
    assert not reprs(html)
    text = " ".join(Page(html).text)
    assert "CPUExecutionProvider 3, Other 1" in text and "exact scale yes" in text


@pytest.mark.parametrize("key", [*a_document()["evidence"], None])
def test_it_speaks_none_where_evidence_is_missing(key):
    made = a_strange_document()
    made["evidence"] = {} if key is None else {k: v for k, v in made["evidence"].items() if k != key}
    assert not reprs(page(made))


def test_it_speaks_none_where_a_number_is_missing():
    made = a_strange_document()
    for name in ("before", "after", "bias_control"):
        made[name]["target"] = None
    made |= {"E": None, "mcnemar_p": None, "seconds": {"all": None}}
    made["gates"] = [{"name": "max-E", "limit": 1.0, "measured": None, "passed": False}]
    for theta in made["evidence"]["theta"]:
        theta["cut"] = None
    html = page(made)
    assert not reprs(html) and "The cut is" not in " ".join(Page(html).text)


def test_samples_stand_by_class_with_file_names():
    made = a_document()
    samples = made["evidence"]["samples"]
    one = samples["fixed"][0]
    samples["fixed"] = [one | {"label": 5, "row": 9}, one | {"where": "images/cat/photo 7.png"}]
    samples["broken"] = [one | {"label": 5, "before": 5, "after": 2, "row": 4}]
    html = page(made)
    text = headings(Page(html)).split("Samples that changed")[1].split("Checks")[0]
    assert "photo 7.png" in text and "images/cat" not in text and "row 9" in text
    target, other = (text.index(f"Class  {name}") for name in ("class 0", "class 5"))
    assert target < text.index("photo 7.png") < other < text.index("row 9") < text.index("row 4")
    assert 'title="images/cat/photo 7.png"' in html
