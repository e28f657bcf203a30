"""The options of `retrain` and `augment` become their settings."""

from __future__ import annotations

import pytest

from onnxtweak import settings
from onnxtweak.cli.main import main

RETRAIN = ["retrain", "m.onnx", "-d", "a.npz", "-o", "out.onnx"]
AUGMENT = ["augment", "m.onnx", "-d", "a.npz", "-o", "out.onnx"]


def test_retrain_has_the_thesiss_penalty_by_default(commands):
    assert main([*RETRAIN, "-t", "cat"]) == 0
    assert commands.settings["settings"] == settings.RetrainSettings(penalty=2.0)
    assert commands.settings["join"] == settings.JoinSettings()


def test_retrain_takes_grids(commands):
    more = ["-n", "5,10", "--ridge", "0.1", "--ridge", "0.01", "--scale", "1", "--penalty", "1"]
    assert main([*RETRAIN, "--worst", "2", *more]) == 0
    assert commands.settings["join"].count == (5, 10)
    assert commands.settings["settings"] == settings.RetrainSettings(1.0, (0.1, 0.01), None, (1.0,))


def test_retrain_ranks_by_net_gain_if_asked(commands):
    assert main([*RETRAIN, "-t", "cat", "--criterion", "net-gain"]) == 0
    assert commands.settings["join"].criterion == "net-gain"


def test_a_schedule_needs_no_target(commands):
    assert main([*RETRAIN, "--schedule", "J5 R5 J1"]) == 0
    assert commands.settings["settings"].schedule == "J5 R5 J1"
    assert commands.settings["targets"] == settings.TargetSettings()


@pytest.mark.parametrize(
    "more, said",
    [
        ([], "no target class"),
        (["-t", "cat", "--scale", "1", "--exact-scale"], "exclude each other"),
        (["-t", "cat", "--penalty", "0"], "not greater than 0"),
        (["-t", "cat", "--ridge", "-1"], "less than 0"),
        (["-t", "cat", "--criterion", "best"], "'best' is not one of"),
    ],
)
def test_retrain_refuses(commands, capsys, more, said):
    assert main([*RETRAIN, *more]) == 2
    assert said in capsys.readouterr().err
    assert commands.asked is None


def test_augment_takes_a_size_by_name(commands):
    assert main([*AUGMENT, "--size", "googlenet", "--minibatch", "64", "--batch", "8"]) == 0
    assert commands.settings["settings"] == settings.AugmentSettings(neurons=6314, hidden=1024, batch=64)
    assert commands.settings["engine"].batch == 8


def test_augment_takes_a_size_by_numbers(commands):
    assert main([*AUGMENT, "--neurons", "10", "--hidden", "3", "--iterations", "7"]) == 0
    assert commands.settings["settings"] == settings.AugmentSettings(neurons=10, hidden=3, iterations=7)


def test_augment_refuses_two_sizes(commands, capsys):
    assert main([*AUGMENT, "--size", "cnn-3", "--hidden", "3"]) == 2
    assert "--size excludes --neurons and --hidden" in capsys.readouterr().err
