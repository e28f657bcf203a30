"""Help fits a screen, and nothing is hidden: `--help-all` has the rest."""

from __future__ import annotations

import re

import click
import pytest

from onnxtweak.cli.main import SECTIONS, main, program

COMMANDS = list(program.commands)


@pytest.fixture(autouse=True)
def eighty_columns(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")


def said(capsys, *arguments: str) -> str:
    assert main(arguments) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("name", COMMANDS)
def test_it_fits_a_screen(capsys, name):
    short = said(capsys, name, "--help")
    assert len(short.splitlines()) <= 40
    assert f"Example:\n    onnxtweak {name}" in short


@pytest.mark.parametrize("name", COMMANDS)
def test_what_is_left_out_is_a_word_away(capsys, name):
    short, whole = said(capsys, name, "--help"), said(capsys, name, "--help-all")
    options = {param.opts[-1] for param in program.commands[name].params if isinstance(param, click.Option)}
    assert options <= set(re.findall(r"--[a-z-]+", whole))
    if short != whole:
        listed = set(re.findall(r"^  (?:-\w, )?(--[a-z-]+)", short, re.MULTILINE))
        assert f"{len(options - listed)} more, about" in short and f"onnxtweak {name}" in short


def test_required_options_are_common(capsys):
    for name, command in program.commands.items():
        short = said(capsys, name, "-h")
        for param in command.params:
            if isinstance(param, click.Option) and param.required:
                assert param.opts[-1] in short, (name, param.opts)


def test_fit_leads_the_commands_that_improve_a_model(capsys):
    listed = said(capsys, "--help")
    assert SECTIONS["Improve a model"][0].name == "fit"
    assert len(listed.splitlines()) <= 48
    assert "..." not in listed.replace("[ARGS]...", "")  # no sentence is cut off
    order = [listed.index(f"\n{heading}:") for heading in SECTIONS]
    assert order == sorted(order)


@pytest.mark.parametrize(("option", "shown"), [("--threshold", "--help-all"), ("--pixel-scale", "--help")])
def test_hints_name_the_help_that_shows_the_option(capsys, option, shown):
    assert main(["evaluate", "model.onnx", "-d", "x.npz", option, "abc"]) == 2
    assert f"`onnxtweak evaluate {shown}` shows how to use it" in capsys.readouterr().err


def test_the_common_help_says_what_may_be_lost_by_default(capsys):
    for command, classes in (("fit", "5"), ("join", "none")):
        assert main([command, "--help"]) == 0
        said = " ".join(capsys.readouterr().out.split())
        assert "accuracy that may be lost [default: 0]." in said
        assert f"none: no limit [default: {classes}]." in said
