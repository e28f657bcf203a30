"""Results are shown in notebooks, saved, and put into DataFrames."""

from __future__ import annotations

import re
import sys
from html.parser import HTMLParser

import numpy as np
import pytest

import onnxtweak
from onnxtweak.errors import MachineError, ModelError, OutputError
from onnxtweak.verdict import COPY
from tests.support.plain_session import plain_session
from tests.support.weak_class import TARGET, weak_mlp

ASKED = {"target": TARGET, "count": 5, "max_overall_drop": 0.5}
HOSTILE = "<script>alert(1)</script>\u202e\"'|</td>"


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    """A folder, a model, samples, and a result whose model was written."""
    folder = tmp_path_factory.mktemp("case")
    model, data = weak_mlp(folder)
    return folder, model, data, onnxtweak.join(model, data=data, output=folder / "o.onnx", **ASKED)


class Elements(HTMLParser):
    """The elements and the text of a fragment; `depth` is 0 again where all are closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.names: list[str] = []
        self.attributes: set[str] = set()
        self.said = ""
        self.depth = 0
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.names.append(tag)
        self.attributes |= {name for name, _ in attrs}
        self.depth += 1

    def handle_endtag(self, tag):
        self.depth -= 1

    def handle_data(self, data):
        self.said += data


def test_the_model_of_a_result_can_be_saved_later(case, tmp_path):
    folder, model, data, written = case
    made = onnxtweak.join(model, data=data, **ASKED)
    assert made.output is None
    saved = made.save(tmp_path / "later.onnx")
    expected = (folder / "o.onnx").read_bytes()
    assert (tmp_path / "later.onnx").read_bytes() == expected == made.to_bytes()
    assert saved.sha256 == written.output.sha256
    session = plain_session(made.to_bytes())
    with np.load(data) as held:
        x = next(held[name] for name in held.files if name.startswith("x"))
    assert session.run(None, {session.get_inputs()[0].name: x[:8]})[0].shape[0] == 8
    with pytest.raises(OutputError, match="already exists"):
        made.save(tmp_path / "later.onnx")
    made.save(tmp_path / "later.onnx", force=True)
    with pytest.raises(OutputError, match="would replace a file it is made from"):
        made.save(model, force=True)


def test_it_may_be_saved_from_another_folder(case, tmp_path, monkeypatch):
    folder, model, data, _ = case
    monkeypatch.chdir(folder)
    made = onnxtweak.join(model.name, data=data, **ASKED)
    assert made.model.path == model.name
    monkeypatch.chdir(tmp_path)
    made.save("o.onnx")
    assert (tmp_path / "o.onnx").read_bytes() == (folder / "o.onnx").read_bytes()


def test_a_result_that_changes_nothing_saves_the_base(case, tmp_path):
    _, model, data, _ = case
    made = onnxtweak.join(model, data=data, target=TARGET, count=1, scale=0, max_overall_drop=0)
    assert made.verdict.state == COPY
    made.save(tmp_path / "copy.onnx")
    assert (tmp_path / "copy.onnx").read_bytes() == made.to_bytes() == model.read_bytes()


def test_a_base_that_has_changed_is_not_patched(tmp_path):
    model, data = weak_mlp(tmp_path)
    made = onnxtweak.join(model, data=data, **ASKED)
    model.write_bytes(model.read_bytes() + b"\x32\x00")
    for write in (made.to_bytes, lambda: made.save(tmp_path / "o.onnx")):
        with pytest.raises(ModelError):
            write()
    assert not (tmp_path / "o.onnx").exists()


def test_results_are_shown_as_the_terminal_shows_them(case):
    _, model, data, made = case
    shown = Elements(made._repr_html_())
    assert shown.depth == 0 and "Verdict on" in shown.said and "bias only" in shown.said
    assert "Accuracy on the test split, in percent" in shown.said
    for other in (
        onnxtweak.evaluate(model, data=data),
        onnxtweak.inspect(model),
        onnxtweak.compare(model, data=data, target=TARGET, methods=["bias", "join"]),
    ):
        found = Elements(other._repr_html_())
        assert found.depth == 0 and "table" in found.names
        assert re.match(r"<(Evaluation|Inspection|Comparison) of ", repr(other)) and len(repr(other)) < 200


def test_hostile_names_stay_text(case):
    _, model, data, _ = case
    names = [f"{HOSTILE} {number}" for number in range(onnxtweak.inspect(model).classes)]
    made = onnxtweak.join(model, data=data, names=names, **ASKED)
    for noun in (made, onnxtweak.evaluate(model, data=data, names=names)):
        found = Elements(noun._repr_html_())
        assert set(found.names) <= {*"div p strong em details summary table thead tbody tr th td".split()}
        assert found.attributes <= {"class", "style"}
        assert "<script>alert(1)</script>" in found.said and "\u202e" not in found.said
        assert found.depth == 0


def test_frames(case):
    pandas = pytest.importorskip("pandas")
    _, model, data, made = case
    found = made.to_frame()
    assert isinstance(found, pandas.DataFrame) and found.index.name == "class"
    assert list(found.columns) == ["samples", "base", "tweaked", "change", "bias_only", "target"]
    assert list(found.index) == list(made.classes) and list(found.index[found.target]) == [str(TARGET)]
    assert found.tweaked[str(TARGET)] == made.after.per_class[TARGET]
    assert np.allclose(found.change, 100 * (found.tweaked - found.base), equal_nan=True)
    measured = onnxtweak.evaluate(model, data=data).to_frame()
    assert measured.samples.sum() == measured.predicted.sum()
    compared = onnxtweak.compare(model, data=data, target=TARGET, methods=["bias", "join"]).to_frame()
    assert list(compared.index) == ["bias", "join"] and "at_0" in compared


def test_frames_need_pandas(case, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    monkeypatch.delitem(sys.modules, "onnxtweak.api.frames", raising=False)
    with pytest.raises(MachineError, match="needs pandas") as raised:
        case[3].to_frame()
    assert "pip install pandas" in raised.value.hint
