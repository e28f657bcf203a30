"""Every command for real, on the digits that come with onnxtweak; the base stays as it was, byte for byte."""

from __future__ import annotations

import hashlib
import json

import numpy as np
import pytest

from onnxtweak.cli.main import main
from onnxtweak.demo_files import demo_files


def digest(path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture(autouse=True)
def originals():
    files = demo_files()
    before = digest(files.model), digest(files.data)
    yield
    assert (digest(files.model), digest(files.data)) == before


@pytest.fixture
def digits() -> list[str]:
    """Model and samples of a command that learns."""
    files = demo_files()
    return [str(files.model), "-d", f"{files.data}#fit"]


@pytest.fixture
def told(capsys):
    """Run a command that must succeed; returns its JSON."""

    def run(*arguments) -> dict:
        assert main([*map(str, arguments), "-f", "json"]) == 0, capsys.readouterr().err
        return json.loads(capsys.readouterr().out)

    return run


def test_demo_improves_its_target_and_says_what_to_do_next(tmp_path, capsys):
    assert main(["demo", "-o", str(tmp_path / "demo")]) == 0
    out, err = capsys.readouterr()
    assert "> 8 " in out
    assert "bias only" in out
    assert err.splitlines()[-1] == f"next: onnxtweak inspect {tmp_path / 'demo' / 'tweaked.onnx'}"
    assert sorted(path.name for path in (tmp_path / "demo").iterdir()) == [
        "tweak.safetensors",
        "tweaked.onnx",
    ]


def test_join_is_what_its_file_does(digits, told, tmp_path):
    out, test = tmp_path / "out.onnx", f"{demo_files().data}#test"
    made = told("join", *digits, "--test", test, "-t", "8", "-o", out)
    assert made["after"]["target"] > made["before"]["target"]
    assert made["output"] == {"path": str(out), "sha256": digest(out)}
    assert made["fixed"] - made["broken"] == round(
        (made["after"]["overall"] - made["before"]["overall"]) * 500
    )
    assert all(check["passed"] for check in made["checks"])

    measured = told("evaluate", out, "-d", test, "-t", "8")["metrics"]
    assert {key: measured[key] for key in made["after"]} == made["after"]
    base = told("evaluate", digits[0], "-d", test, "-t", "8")["metrics"]
    assert {key: base[key] for key in made["before"]} == made["before"]


def test_two_runs_give_the_same_bytes_and_apply_gives_them_again(digits, told, tmp_path):
    first, second, again, none = (tmp_path / f"{name}.onnx" for name in ("first", "second", "again", "none"))
    told("join", *digits, "--worst", 2, "-o", first, "--tweak", tmp_path / "first.safetensors")
    told("join", *digits, "--worst", 2, "-o", second, "--tweak", tmp_path / "second.safetensors")
    assert digest(first) == digest(second)
    assert digest(tmp_path / "first.safetensors") == digest(tmp_path / "second.safetensors")

    told("apply", digits[0], tmp_path / "first.safetensors", "-o", again)
    assert digest(again) == digest(first)

    test = f"{demo_files().data}#test"
    told("apply", digits[0], tmp_path / "first.safetensors", "-o", none, "--scale", 0)
    assert told("evaluate", none, "-d", test)["metrics"] == told("evaluate", digits[0], "-d", test)["metrics"]


def test_inspect_finds_the_tweak_that_join_left(digits, told, tmp_path):
    assert told("inspect", digits[0])["tweaks"] == []
    made = told("join", *digits, "-t", "8", "-o", tmp_path / "out.onnx")
    (inside,) = told("inspect", tmp_path / "out.onnx")["tweaks"]
    assert inside["kind"] == "join"
    assert inside["base_sha256"] == made["model"]["sha256"]


def test_scores_name_the_neurons_that_dump_keeps(digits, told, tmp_path):
    scored = told("score", *digits, "-t", "8", "-t", "9", "-n", 5, "-o", tmp_path / "scores.npz")
    assert scored["neurons"] == 2048
    with np.load(tmp_path / "scores.npz") as file:
        assert file["weight"].shape == (2, 2048)
    kept = told("dump", *digits, "-o", tmp_path / "few", "--neurons", tmp_path / "scores.npz")
    assert 5 <= kept["neurons"] <= 10
    assert kept["samples"] == 600


def test_scores_from_a_dump_are_the_scores_from_the_model(digits, told, tmp_path):
    told("dump", *digits, "-o", tmp_path / "tables")
    straight = told("score", *digits, "-t", "8", "-o", tmp_path / "straight.npz")
    dumped = told("score", digits[0], "-d", tmp_path / "tables", "-t", "8", "-o", tmp_path / "dumped.npz")
    assert straight["top"] == dumped["top"]
    with np.load(tmp_path / "straight.npz") as one, np.load(tmp_path / "dumped.npz") as other:
        assert np.array_equal(one["weight"], other["weight"])
        assert np.array_equal(one["count"], other["count"])
