"""Shell completion: answered from the line so far, without loading anything heavy."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from onnxtweak.cli import completion
from onnxtweak.cli.completion import COMPLETE
from onnxtweak.cli.main import PROGRAM, main
from tests.support.nets import cnn3

ASK = "import json, sys; from onnxtweak.cli.main import main; main(); print(json.dumps(sorted(sys.modules)))"


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "m.onnx"
    path.write_bytes(cnn3().SerializeToString())
    return path


def asked(monkeypatch, capsys, line: str) -> list[str]:
    words = line.split(" ")
    monkeypatch.setenv(COMPLETE, "bash_complete")
    monkeypatch.setenv("COMP_WORDS", line)
    monkeypatch.setenv("COMP_CWORD", str(len(words) - 1))
    main([])
    return [entry.partition(",")[2] for entry in capsys.readouterr().out.splitlines()]


def test_commands_and_options(monkeypatch, capsys):
    assert asked(monkeypatch, capsys, f"{PROGRAM} ins") == ["inspect"]
    assert "--max-overall-drop" in asked(monkeypatch, capsys, f"{PROGRAM} join m.onnx --max")


@pytest.mark.parametrize("command", ["join", "inspect", "score", "dump"])
def test_taps_are_tensors_of_the_model(monkeypatch, capsys, model, command):
    offered = asked(monkeypatch, capsys, f"{PROGRAM} {command} {model} --taps ")
    assert {"activations", "penultimate", "relu1", "op:Relu"} <= set(offered)
    assert asked(monkeypatch, capsys, f"{PROGRAM} {command} {model} --taps relu2") == ["relu2"]


def test_logits_are_tensors_too(monkeypatch, capsys, model):
    assert "logits" in asked(monkeypatch, capsys, f"{PROGRAM} evaluate {model} --logits l")


def test_targets_come_from_names_or_folders(monkeypatch, capsys, model, tmp_path):
    (tmp_path / "names.txt").write_text("cat\ncow\ndog\n")
    line = f"{PROGRAM} join {model} --names {tmp_path / 'names.txt'} -t c"
    assert asked(monkeypatch, capsys, line) == ["cat", "cow"]
    for name in ("ant", "bee"):
        (tmp_path / "pictures" / name).mkdir(parents=True)
    assert asked(monkeypatch, capsys, f"{PROGRAM} join {model} -d {tmp_path / 'pictures'} -t ") == [
        "ant",
        "bee",
    ]


@pytest.mark.parametrize("data", [b"", b"no model", b"\x3a\xff\xff\xff\xff\x0f\x00", b"\xff" * 40])
def test_what_is_no_model_offers_selectors_only(monkeypatch, capsys, tmp_path, data):
    (tmp_path / "m.onnx").write_bytes(data)
    offered = asked(monkeypatch, capsys, f"{PROGRAM} join {tmp_path / 'm.onnx'} --taps ")
    assert offered == ["activations", "stages", "blocks", "penultimate", "front"]


def test_names_that_break_the_protocol_are_left_out():
    assert [item.value for item in completion._offered(["a\nb", "ok", "a\x1b"], "")] == ["ok"]


def test_files_are_left_to_the_shell(monkeypatch, capsys):
    monkeypatch.setenv(COMPLETE, "bash_complete")
    monkeypatch.setenv("COMP_WORDS", f"{PROGRAM} join m.on")
    monkeypatch.setenv("COMP_CWORD", "2")
    main([])
    assert capsys.readouterr().out == "file,m.on\n"


def test_nothing_heavy_is_loaded(root, model):
    environment = {
        **os.environ,
        "PYTHONPATH": str(root),
        COMPLETE: "bash_complete",
        "COMP_WORDS": f"{PROGRAM} join {model} --taps r",
        "COMP_CWORD": "4",
    }
    ran = subprocess.run(
        [sys.executable, "-c", ASK], env=environment, capture_output=True, text=True, check=True
    )
    *offered, loaded = ran.stdout.splitlines()
    assert "plain,relu1" in offered
    assert not {"numpy", "onnx", "google", "onnxruntime"} & {
        name.split(".")[0] for name in json.loads(loaded)
    }


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_gets_its_script(capsys, shell):
    assert main(["completion", shell]) == 0
    said = capsys.readouterr().out
    assert COMPLETE in said and f"{shell}_complete" in said
