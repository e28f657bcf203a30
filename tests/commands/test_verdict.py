"""The verdict of what commands write: a copy is a copy everywhere, and the class that pays is named."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from dataclasses import replace

import numpy as np
import pytest

from onnxtweak import commands
from onnxtweak.cli.main import main
from onnxtweak.settings import DataSettings, FitSettings, JoinSettings, OutputSettings
from onnxtweak.verdict import COPY
from tests.support.plain_session import plain_session
from tests.support.weak_class import TARGET, carry_out, weak_cnn

PAYING = JoinSettings(max_overall_drop=30.0)
NOTHING = JoinSettings(scale=(0.0,))  # a join that is not allowed to do anything


@pytest.fixture
def files(tmp_path):
    weak_cnn(tmp_path)
    return tmp_path / "model.onnx", tmp_path / "data.npz"


def shown(model, data) -> tuple[np.ndarray, np.ndarray]:
    """What a file answers through plain ONNX Runtime, and the labels."""
    with np.load(data) as file:
        x, y = file["x"], file["y"]
    session = plain_session(str(model))
    return session.run(None, {session.get_inputs()[0].name: x})[0].argmax(axis=1), y


def test_the_counts_are_those_of_the_written_file(files, tmp_path):
    model, data = files
    out = tmp_path / "out.onnx"
    test = DataSettings(data=(str(data),), test=(str(data),), anyway=True)
    made = carry_out(commands.join, model, data, out, data=test)
    (was, y), (now, _) = shown(model, data), shown(out, data)
    found = {promise.name: promise.change for promise in made.verdict.promises}
    own = y == TARGET
    assert found["overall"] == pytest.approx(((now == y).mean() - (was == y).mean()) * 100)
    assert found["targets"] == pytest.approx(((now == y)[own].mean() - (was == y)[own].mean()) * 100)
    each = [((now == y)[y == c].mean() - (was == y)[y == c].mean()) * 100 for c in np.unique(y)]
    assert made.verdict.worst is None or made.verdict.worst.change == pytest.approx(min(each))
    assert made.verdict.answer == "join"


def test_a_thesis_method_names_the_class_that_pays(files):
    model, data = files
    made = carry_out(commands.join, model, data, settings=PAYING)
    lost = (made.after.per_class - made.before.per_class) * 100
    assert "classes" not in {promise.name for promise in made.verdict.promises}  # no limit was asked
    assert made.verdict.worst.name == made.classes[int(np.nanargmin(lost))]
    assert made.verdict.worst.change == pytest.approx(np.nanmin(lost)) and made.verdict.worst.change < 0
    limited = replace(PAYING, max_class_drop=90.0)
    asked = carry_out(commands.join, model, data, settings=limited).verdict.promises
    assert "no class loses more than 90 points" in {promise.asked for promise in asked}


def test_a_patch_without_neurons_is_a_bias(files):
    model, data = files
    made = carry_out(commands.fit, model, data, settings=FitSettings(budget=1, max_overall_drop=20.0))
    assert made.verdict.answer == "bias" and len(made.tweak["synapses"] or ()) == 0


def test_a_copy_of_the_base_is_called_that_everywhere(files, tmp_path, capsys):
    model, data = files
    out, page = tmp_path / "copy.onnx", tmp_path / "page.html"
    made = carry_out(
        commands.join, model, data, settings=NOTHING, output=OutputSettings(str(out), report=str(page))
    )
    assert out.read_bytes() == model.read_bytes()
    assert (made.verdict.answer, made.verdict.state) == ("base", COPY)
    assert "a copy of the base: nothing was changed" in page.read_text(encoding="utf-8")
    given = [str(model), "-d", str(data), "-t", str(TARGET), "--scale", "0", "-o", str(out), "--force"]
    assert main(["join", *given]) == 0
    said = capsys.readouterr()
    assert said.out.startswith("Verdict: a copy of the base: nothing was changed\n")
    assert "tweaked" not in said.out and "a copy of the base: nothing was changed; test: " in said.err


def test_a_copy_says_too_that_the_base_knows_the_samples(files, tmp_path, capsys):
    model, data = files
    page, known = tmp_path / "page.html", tmp_path / "known.npz"
    own, y = shown(model, data)
    with np.load(data) as file:
        np.savez(known, x=file["x"], y=own)
    test = DataSettings(data=(str(known),), test=(str(data),), anyway=True)
    out = OutputSettings(str(tmp_path / "copy.onnx"), report=str(page))
    made = carry_out(commands.join, model, known, data=test, settings=NOTHING, output=out)
    said = f"the base is right on 100.0% of the samples that were chosen on, but on {(own == y).mean():.1%}"
    assert made.verdict.state == COPY and made.verdict.cautions[0].startswith(said)
    assert said in page.read_text(encoding="utf-8")
    given = [str(model), "-d", str(known), "--test", str(data), "-t", str(TARGET), "--scale", "0"]
    assert main(["join", *given, "-o", str(tmp_path / "again.onnx"), "--anyway"]) == 0
    assert said in " ".join(capsys.readouterr().out.split())


def test_verify_and_revert_of_a_copy_say_what_it_is(files, tmp_path, capsys):
    model, data = files
    out = tmp_path / "copy.onnx"
    carry_out(commands.join, model, data, out, settings=NOTHING)
    assert main(["verify", str(out), "--base", str(model)]) == 2
    said = capsys.readouterr().err
    assert "no tweak inside" in said and "it is a copy of model.onnx, byte for byte" in said
    for command in (["verify", str(out)], ["revert", str(out), "-o", str(tmp_path / "base.onnx")]):
        assert main(command) == 2
        said = capsys.readouterr().err
        assert "no tweak inside" in said and "is a copy of it" in said


@pytest.fixture
def copying(files, tmp_path):
    """A recipe whose tweak is a copy of the base."""
    path = tmp_path / "tweak.toml"
    path.write_text(
        '[model]\npath = "model.onnx"\n[data]\ndata = "data.npz"\n'
        f'[[tweak]]\nname = "a"\ntarget = "{TARGET}"\nscale = 0\n'
    )
    return path


def test_a_run_refuses_a_copy(copying, tmp_path, capsys):
    assert main(["run", str(copying), "-q"]) == 1
    said = capsys.readouterr()
    assert said.err.startswith("error: gates failed: a: refuse-copy")
    assert "refuse-copy = false" in said.err
    assert not (tmp_path / "build" / "a.onnx").exists()
    summary = (tmp_path / "build" / "summary.md").read_text(encoding="utf-8")
    assert (
        summary.startswith("### 1 of 2 gates FAILED: a: refuse-copy\n\n### Verdict\n")
        and "a copy of the base: nothing was changed" in summary
    )
    root = ET.parse(tmp_path / "build" / "junit.xml").getroot()
    (failed,) = [case for case in root.iter("testcase") if case.find("failure") is not None]
    assert failed.get("name") == "refuse-copy"
    made = json.loads((tmp_path / "build" / "a.json").read_text())
    assert made["answer"] == "base" and made["verdict"]["state"] == "copy"


def test_a_recipe_may_take_a_copy(copying, tmp_path, capsys):
    assert main(["run", str(copying), "--set", "gates.refuse-copy=false"]) == 0
    assert "every gate passed; a copy of the base: a (" in capsys.readouterr().err
    assert (tmp_path / "build" / "a.onnx").read_bytes() == (tmp_path / "model.onnx").read_bytes()


def test_a_recipe_with_validation_samples_alone_may_still_take_a_copy(copying, tmp_path, capsys):
    copying.write_text(
        copying.read_text().replace('data = "data.npz"', 'data = "data.npz"\nval = "data.npz"')
    )
    assert main(["run", str(copying), "--set", "gates.refuse-copy=false", "-q"]) == 0


def test_what_init_proposes_is_fit(files, tmp_path):
    model, data = files
    commands.init(
        model=str(model), data=DataSettings((str(data),)), output=OutputSettings(f"{tmp_path}/t.toml")
    )
    assert 'method = "fit"' in (tmp_path / "t.toml").read_text(encoding="utf-8")
