"""Results go to stdout in the chosen format, closing messages to stderr."""

from __future__ import annotations

import json

import pytest

from onnxtweak.cli.main import main
from onnxtweak.cli.output import require_passed
from onnxtweak.errors import VerificationError
from onnxtweak.types import Check

COMMANDS = {
    "demo": "demo",
    "inspect": "inspect m.onnx",
    "evaluate": "evaluate m.onnx -d a.npz",
    "join": "join m.onnx -d a.npz -t cat -o out.onnx",
    "retrain": "retrain m.onnx -d a.npz -t cat -o out.onnx",
    "augment": "augment m.onnx -d a.npz -o out.onnx",
    "apply": "apply m.onnx t.safetensors -o out.onnx",
    "dump": "dump m.onnx -d a.npz -o tables",
    "score": "score m.onnx -d a.npz -t cat -o s.npz",
    "report": "report r.json -o r.html",
    "init": "init m.onnx -d a.npz -o tweak.toml",
    "run": "run tweak.toml",
    "doctor": "doctor",
}


@pytest.mark.parametrize("command", COMMANDS)
def test_json_is_one_document(commands, capsys, command):
    assert main([*COMMANDS[command].split(), "-f", "json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["schema"] == 1
    assert document["command"] == ("join" if command == "demo" else command)


@pytest.mark.parametrize("command", COMMANDS)
def test_text_fits_80_columns_and_has_no_colour_in_a_pipe(commands, capsys, command):
    assert main(COMMANDS[command].split()) == 0
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 80
    assert "\x1b" not in out


@pytest.mark.parametrize("command", COMMANDS)
def test_markdown_starts_with_a_heading(commands, capsys, command):
    assert main([*COMMANDS[command].split(), "-f", "markdown"]) == 0
    assert capsys.readouterr().out.startswith("### ")


@pytest.mark.parametrize("command", COMMANDS)
def test_quiet_says_nothing_on_stderr(commands, capsys, command):
    assert main([*COMMANDS[command].split(), "-q"]) == 0
    out, err = capsys.readouterr()
    assert out
    assert err == ""


def test_join_closes_with_verdict_and_next_command(commands, capsys):
    main(COMMANDS["join"].split())
    *_, verdict, following = capsys.readouterr().err.splitlines()
    assert verdict.startswith(
        "3 promises not shown; test: targets 50.0 -> 75.0 % (bias alone 75.0 %), overall 83.3 -> 91.7 %, "
        "1 of 1 checks passed ("
    )
    assert following == "next: onnxtweak inspect out.onnx"


def test_verbose_lists_stages_and_checks(commands, capsys):
    main([*COMMANDS["join"].split(), "-v"])
    err = capsys.readouterr().err
    assert "capture and score: 1.5 s\n" in err
    assert "check neutral: passed (logits bit-equal at scale 0)\n" in err


def test_notes_reach_those_who_read_json(commands, capsys):
    main([*COMMANDS["join"].split(), "-f", "json"])
    assert "note: the classes are few\n" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "advice"), [("accuracy", "let `fit` stay clear with --margin 1"), ("delta", "changed after")]
)
def test_the_hint_on_a_failed_check_is_for_its_cause(name, advice):
    with pytest.raises(VerificationError, match=f"check `{name}` failed") as raised:
        require_passed([Check(name, False, "too little")], "m.onnx")
    assert advice in raised.value.hint
