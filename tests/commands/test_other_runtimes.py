"""A tweaked file in other runtimes, beside its base: what differs, what does not run, what is not there."""

from __future__ import annotations

import json

import numpy as np
import onnx
import pytest
from click.testing import CliRunner

from onnxtweak import commands
from onnxtweak.cli.main import program
from onnxtweak.demo_files import demo_files
from onnxtweak.engine.runtimes import run_apart
from onnxtweak.engine.runtimes.run_apart import PACKAGES, RunApart, is_installed
from onnxtweak.engine.subject import Subject
from onnxtweak.errors import UsageError
from onnxtweak.settings import DataSettings, EngineSettings, MatchSettings, OutputSettings
from onnxtweak.stages.other_models import runtimes
from tests.support.rounded import rounded

ENGINE = EngineSettings(backend="numpy")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A tweaked CNN, its base, and samples."""
    folder = tmp_path_factory.mktemp("runtimes")
    demo = demo_files()
    onnx.save(rounded(onnx.load(demo.model), 3), folder / "model.onnx")
    with np.load(demo.data) as digits:
        np.savez(folder / "data.npz", x=digits["x_train"], y=digits["y_train"])
    result = commands.match(
        model=str(folder / "model.onnx"),
        data=DataSettings((str(folder / "data.npz"),)),
        settings=MatchSettings(str(demo.model)),
        engine=ENGINE,
        output=OutputSettings(str(folder / "tweaked.onnx")),
    )
    assert result.verdict.answer == "match"
    return folder


def verify(folder, *names, data="data.npz[0:120]"):
    samples = DataSettings((str(folder / data.replace("[", "#[")),))
    return commands.verify(tweaked=str(folder / "tweaked.onnx"), data=samples, engine=ENGINE, runtimes=names)


def answers(version, values):
    return RunApart(version, None if values is None else np.asarray(values, np.float32))


@pytest.fixture(scope="module")
def compared(made):
    """Verified in every runtime that is installed, on the command line: the result, and what is told."""
    names, found, real = [name for name in PACKAGES if is_installed(name)], [], commands.verify
    words = ["verify", str(made / "tweaked.onnx"), "-d", f"{made / 'data.npz'}#[0:120]"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(commands, "verify", lambda **given: found.append(real(**given)) or found[-1])
        ran = CliRunner().invoke(program, [*words, "--runtime", ",".join(names), "-f", "json"])
    assert ran.exit_code == 0, ran.output
    return found[0], json.loads(ran.stdout)


@pytest.mark.parametrize("name", PACKAGES)
def test_file_and_base_agree_with_onnx_runtime(name, compared):
    if not is_installed(name):
        pytest.skip(f"{PACKAGES[name][1]} is not installed; the extra `runtimes` has it")
    found, told = compared
    assert [one["name"] for one in told["runtimes"]] == [one.name for one in found.runtimes]
    (check,) = [check for check in found.checks if check.name == f"runtime {name}"]
    assert check.passed, check.detail
    (ran,) = [one for one in found.runtimes if one.name == name]
    assert ran.samples == 120 and ran.version
    assert ran.tweaked.largest < 0.05 and ran.tweaked.differ <= 3


def test_a_runtime_that_is_not_there_is_named_and_counts_as_nothing(made, monkeypatch):
    monkeypatch.setattr(runtimes, "is_installed", lambda name: False)
    found = verify(made, "openvino")
    (missing,) = [one for one in found.unchecked if one.name == "runtime openvino"]
    assert "pip install 'onnxtweak[runtimes]'" in missing.reason
    assert not found.runtimes


@pytest.mark.parametrize(
    ("base", "tweaked", "passed", "said"),
    [
        ([[1, 0], [0, 1]], [[1, 0], [0, 1]], True, "0 decisions differ"),
        ([[1, 0], [0, 1]], [[0, 1], [1, 0]], False, "2 decisions differ"),
        ([[1, 0.1], [0, 1]], [[1, 0.3], [0, 1]], True, "values by up to 0.3"),  # the base is off too
        ([[1, 0], [0, 1]], [[1, 0.01], [0, 1]], False, "values by up to 0.01"),
        ([[1, 0], [0, 1]], None, False, "runs the base, and not this file"),
        (None, None, None, "does not run the base"),
        (None, [[1, 0], [0, 1]], None, "does not run the base"),
        ([[1, 0, 0], [0, 1, 0]], [[1, 0], [0, 1]], None, "does not run the base"),
    ],
)
def test_what_is_held_against_the_file(base, tweaked, passed, said):
    usual = {key: answers("1.0", [[1, 0], [0, 1]]) for key in ("base", "tweaked")}
    answered = {"base": answers("2.0", base), "tweaked": answers("2.0", tweaked)}
    subject = Subject(None, "logits", "float32", (2,), "NC", None)
    question = runtimes._RuntimeQuestion({}, {}, [], 2, subject)
    _, check = runtimes._judged("other", answered, usual, question)
    assert getattr(check, "passed", None) is passed
    assert said in getattr(check, "detail", "") + getattr(check, "reason", "")


def test_a_runtime_that_crashes_does_not_take_the_command_with_it(made, tmp_path, monkeypatch):
    package = tmp_path / "cv2"
    package.mkdir()
    (package / "__init__.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    found = run_apart.run_apart("opencv", made / "model.onnx", "logits", [])
    assert found.values is None and "ended with code -11" in found.failed


def test_a_refusal_is_told_in_one_line(made):
    found = run_apart.run_apart("onnxruntime", made / "data.npz", "logits", [])
    assert found.values is None and "\n" not in found.failed and found.version


def test_a_runtime_that_nobody_knows_is_refused_on_the_command_line(made):
    words = ["verify", str(made / "tweaked.onnx"), "-d", f"{made / 'data.npz'}#[0:60]"]
    ran = CliRunner().invoke(program, [*words, "--runtime", "torch"])
    assert "is not one of onnxruntime, onnx, openvino, opencv" in ran.output


def test_without_samples_there_is_nothing_to_compare(made):
    with pytest.raises(UsageError, match="only be compared on samples"):
        commands.verify(tweaked=str(made / "tweaked.onnx"), runtimes=("onnx",))


def test_doctor_lists_them():
    asked = {"installed": {"openvino": "2026.4"}, "gpus": 0, "probe": lambda name: {"failed": "not tried"}}
    found = {one.name: one.detail for one in commands.doctor(**asked).findings}
    assert found["openvino, to compare with"] == "2026.4"
    assert "not installed" in found["opencv, to compare with"]
