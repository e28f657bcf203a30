"""A recipe from file to artefacts: gates, caching, the same bytes, nothing half-written."""

from __future__ import annotations

import hashlib
import json
import shutil
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest

from onnxtweak.cli.main import main
from onnxtweak.commands import init, plan, run
from onnxtweak.errors import DataError, OutputError
from onnxtweak.settings import DataSettings, OutputSettings, TargetSettings
from tests.support.weak_class import TARGET, weak_cnn

ALWAYS = {"a.json", "a.html", "metrics.json", "summary.md", "junit.xml", "provenance.json", "SHA256SUMS"}


@pytest.fixture
def recipe(tmp_path) -> Path:
    """A recipe with one tweak, `a`, for a model and samples beside it."""
    return _recipe(tmp_path)


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """A folder with that recipe, which has been run."""
    folder = tmp_path_factory.mktemp("finished")
    run(recipe=str(_recipe(folder)))
    return folder


@pytest.fixture
def carried_out(finished, tmp_path) -> Path:
    """The recipe of a copy of it."""
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    return tmp_path / "tweak.toml"


def _recipe(folder: Path) -> Path:
    weak_cnn(folder)
    path = folder / "tweak.toml"
    path.write_text(
        '[model]\npath = "model.onnx"\n[data]\ndata = "data.npz"\n'
        f'[[tweak]]\nname = "a"\ntarget = "{TARGET}"\ncount = [1, 10]\n'
    )
    return path


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def failures(build: Path) -> set[str]:
    """Cases of junit.xml that failed."""
    cases = ET.parse(build / "junit.xml").getroot().iter("testcase")
    return {case.get("name") for case in cases if case.find("failure") is not None}


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


class Told:
    """Progress that remembers what was reused and which passes ran."""

    def __init__(self):
        self.reused, self.remade, self.passes = [], [], []

    def start(self, what, total, unit="samples"):
        self.passes.append(what)

    def advance(self, count): ...

    def finish(self): ...

    def reuse(self, what):
        self.reused.append(what)

    def remake(self, what):
        self.remade.append(what)


def test_all_artefacts_agree(recipe, tmp_path):
    made = run(recipe=str(recipe), changes=["gates.min-target-gain=0", "gates.max-latency-increase=100000"])
    build = tmp_path / "build"
    assert not made.failed and made.shipped
    assert names(build) == ALWAYS | {"a.onnx", "a.safetensors"}
    sums = dict(line.split("  ")[::-1] for line in (build / "SHA256SUMS").read_text().splitlines())
    assert {name: digest(build / name) for name in sums} == sums
    assert set(sums) == names(build) - {"SHA256SUMS"}
    result = json.loads((build / "a.json").read_text())
    assert result["schema"] == 1 and result["command"] == "join"
    assert result["output"] == {"path": str(build / "a.onnx"), "sha256": sums["a.onnx"]}
    assert [gate["name"] for gate in result["gates"]] == [
        "min-target-gain", "max-latency-increase", "max-not-kept", "refuse-copy",
    ]  # fmt: skip
    statement = json.loads((build / "provenance.json").read_text())
    assert {s["name"]: s["digest"]["sha256"] for s in statement["subject"]} == {
        name: sums[name] for name in ("a.onnx", "a.safetensors")
    }
    materials = {
        m["name"]: m["digest"]["sha256"]
        for m in statement["predicate"]["buildDefinition"]["resolvedDependencies"]
    }
    assert materials["model.onnx"] == digest(tmp_path / "model.onnx")
    assert materials["tweak.toml"] == digest(recipe)
    suites = ET.parse(build / "junit.xml").getroot()
    cases = 4 + len(result["checks"]) + len(result["verdict"]["promises"])
    assert int(suites.get("tests")) == cases
    # What a join promises and does not keep: a bias does more for the target.
    assert failures(build) == {"better than the best bias"}
    metrics = json.loads((build / "metrics.json").read_text())
    assert metrics["a.after.target"] == result["after"]["target"]
    assert all(isinstance(value, int | float) for value in metrics.values())
    summary = (build / "summary.md").read_text()
    assert "| a |" in summary
    assert all(name in summary for name in names(build))
    assert "4 of 4 gates passed" in (build / "a.html").read_text(encoding="utf-8")


def test_a_gate_that_is_not_met_keeps_the_models_back(carried_out, tmp_path):
    recipe, strict = carried_out, ["gates.min-target-gain=99"]
    assert "a.onnx" in names(tmp_path / "build")
    made = run(recipe=str(recipe), changes=strict)
    assert made.failed == ("a: min-target-gain",) and not made.shipped
    assert names(tmp_path / "build") == ALWAYS  # the models of the run before are gone with their vouchers
    assert json.loads((tmp_path / "build" / "a.json").read_text())["output"] is None
    assert failures(tmp_path / "build") == {"better than the best bias", "min-target-gain"}
    made = run(recipe=str(recipe), changes=strict, keep=True)
    assert made.failed and made.shipped
    assert "a.onnx" in names(tmp_path / "build")


def test_what_was_made_is_found_again(carried_out, tmp_path):
    recipe, second = carried_out, Told()
    model = digest(tmp_path / "build" / "a.onnx")
    again = run(recipe=str(recipe), changes=["gates.max-E=99"], progress=second)
    assert again.cached == ("a",) and second.reused == ["a"] and not second.passes
    assert digest(tmp_path / "build" / "a.onnx") == model
    # Another grid: the tweak is made anew, from the same scores and the same test of the base.
    third = Told()
    assert run(recipe=str(recipe), changes=["tweak.a.count=[5]"], progress=third).cached == ()
    assert third.reused == ["score", "test: base"] and third.passes
    assert not set(third.reused) & set(third.passes)


def test_the_same_inputs_give_the_same_bytes(carried_out, tmp_path):
    recipe = carried_out
    run(recipe=str(recipe), directory=str(tmp_path / "one"))
    run(recipe=str(recipe), changes=["output.cache=other"], directory=str(tmp_path / "two"))
    for name in ("a.onnx", "a.safetensors", "provenance.json"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes(), name


@pytest.mark.parametrize("harm", ["model", "score"])
def test_a_damaged_cache_is_made_again(carried_out, tmp_path, harm):
    recipe = carried_out
    model = digest(tmp_path / "build" / "a.onnx")
    for path in (tmp_path / ".onnxtweak").rglob("*"):
        if path.is_file() and (harm == "model" or path.suffix == ".npz" or path.name == "result.json"):
            path.write_bytes(path.read_bytes()[:100])
    assert run(recipe=str(recipe)).cached == ()
    assert digest(tmp_path / "build" / "a.onnx") == model


def test_several_tweaks_and_methods(recipe, tmp_path):
    more = (
        f'[[tweak]]\nname = "b"\nmethod = "retrain"\ntarget = "{TARGET}"\n'
        'taps = "penultimate"\n[tweak.join]\ncount = 5\n'
    )
    recipe.write_text(recipe.read_text() + more)
    made = run(recipe=str(recipe))
    assert {name: document["command"] for name, document in made.results.items()} == {
        "a": "join",
        "b": "retrain",
    }
    assert {"a.onnx", "b.onnx"} <= names(tmp_path / "build")


def test_a_dry_run_writes_nothing(recipe, tmp_path):
    before = names(tmp_path)
    planned = plan(recipe=str(recipe), changes=["gates.max-E=2"])
    assert names(tmp_path) == before
    (one,) = planned.tweaks
    assert one["targets"] == str(TARGET) and one["neurons"] > 0 and not one["cached"]
    assert [step.name for step in one["steps"]][:2] == ["score", "validate"]
    assert one["passes"] == len(one["steps"]) and one["seconds"] > 0 and one["state_bytes"] > 0
    assert sum(planned.samples.values()) == 600 and min(planned.samples.values()) > 0
    assert planned.gates == {"max-E": 2.0, "max-not-kept": 0, "refuse-copy": 0}
    run(recipe=str(recipe))
    assert plan(recipe=str(recipe)).tweaks[0]["cached"]


def test_files_of_others_are_not_replaced(recipe, tmp_path):
    (tmp_path / "build").mkdir()
    (tmp_path / "build" / "a.onnx").write_text("mine")
    with pytest.raises(OutputError, match="no run wrote it"):
        run(recipe=str(recipe))
    assert names(tmp_path / "build") == {"a.onnx"}
    run(recipe=str(recipe), force=True)
    assert (tmp_path / "build" / "a.onnx").read_bytes() != b"mine"


def test_the_base_is_never_replaced(recipe, tmp_path):
    with pytest.raises(OutputError, match="replace the base"):
        run(recipe=str(recipe), changes=["output.directory=.", "tweak.a.name=model"], force=True)


def test_a_failure_leaves_nothing_behind(recipe, tmp_path):
    with pytest.raises(DataError):
        run(recipe=str(recipe), changes=["data.test=none.npz"])
    assert not (tmp_path / "build").exists()
    assert not [path for path in tmp_path.iterdir() if path.name.endswith(".partial")]


def test_the_command_ends_with_one_when_a_gate_is_not_met(recipe, tmp_path, capsys):
    assert main(["run", str(recipe), "--set", "gates.min-target-gain=99", "-q"]) == 1
    captured = capsys.readouterr()
    assert captured.err.startswith("error: gates failed: a: min-target-gain")
    assert "FAILED" in captured.out
    assert main(["run", str(recipe), "--dry-run", "-q"]) == 0
    assert main(["run", str(recipe), "--set", "gates.max-EE=1", "-q"]) == 2


def test_init_writes_what_run_carries_out(tmp_path, monkeypatch):
    weak_cnn(tmp_path)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "recipes").mkdir()
    made = init(
        model="model.onnx",
        data=DataSettings(("data.npz",), seed=1),
        targets=TargetSettings((str(TARGET),)),
        output=OutputSettings("recipes/tweak.toml"),
    )
    assert sum(made.samples.values()) == 600
    assert 'path = "../model.onnx"' in (tmp_path / "recipes" / "tweak.toml").read_text()
    ran = run(
        recipe="recipes/tweak.toml", changes=["gates.min-target-gain=-100", "gates.max-overall-drop=100"]
    )
    assert not ran.failed
    assert (tmp_path / "recipes" / "build" / "tweaked.onnx").is_file()
    with pytest.raises(OutputError):
        init(
            model="model.onnx", data=DataSettings(("data.npz",)), output=OutputSettings("recipes/tweak.toml")
        )


def test_a_comparison_lies_beside_the_results(recipe, tmp_path):
    changes = [f"compare.target='{TARGET}'", "compare.methods=['bias', 'join']"]
    made = run(recipe=str(recipe), changes=changes)
    assert {"compare.json", "compare.md", "a.onnx"} <= names(tmp_path / "build")
    assert json.loads((tmp_path / "build" / "compare.json").read_text())["command"] == "compare"
    assert "compare.json" in (tmp_path / "build" / "SHA256SUMS").read_text()
    assert not made.cached
    assert run(recipe=str(recipe), changes=changes).cached == ("a", "compare")
    run(recipe=str(recipe))
    assert "compare.json" not in names(tmp_path / "build")


def test_another_column_makes_another_tweak(tmp_path):
    """A slice is by a column that may lie in a file of its own: where that changes, nothing is reused."""
    weak_cnn(tmp_path)
    with np.load(tmp_path / "data.npz") as held:
        labels = held["y"]
        np.save(tmp_path / "x.npy", held["x"])
        np.save(tmp_path / "y.npy", labels)
    rare = (labels == TARGET) & (np.arange(len(labels)) % 4 > 0)
    np.save(tmp_path / "kind.npy", np.where(rare, "rare", "usual"))
    path = tmp_path / "slices.toml"
    path.write_text(
        '[model]\npath = "model.onnx"\n[data]\ndata = "x.npy"\n[gates]\nrefuse-copy = false\n'
        "min-slice-gain = -50\nmax-not-kept = 9\n"
        '[[tweak]]\nname = "a"\nmethod = "fit"\nslice = "kind=rare"\nhidden = 0\nmax-overall-drop = 5\n'
        'max-class-drop = "none"\n'
    )
    made = run(recipe=str(path))
    assert made.cached == () and made.failed == ()
    groups = made.results["a"]["verdict"]["groups"]
    assert {group["name"]: group["wanted"] for group in groups} == {"rare": True, "usual": False}
    assert run(recipe=str(path)).cached == ("a",)
    assert plan(recipe=str(path)).tweaks[0]["cached"]
    np.save(tmp_path / "kind.npy", np.where(rare ^ (np.arange(len(labels)) % 16 == 1), "rare", "usual"))
    assert not plan(recipe=str(path)).tweaks[0]["cached"]
