"""The options of `fit` and `compare` become their settings."""

from __future__ import annotations

import pytest

from onnxtweak import settings
from onnxtweak.cli.main import main

FIT = ["fit", "m.onnx", "-d", "a.npz", "-o", "out.onnx"]
COMPARE = ["compare", "m.onnx", "-d", "a.npz"]


def test_fit_has_no_limit_on_its_size_by_default(commands):
    assert main([*FIT, "-t", "cat"]) == 0
    assert commands.settings["settings"] == settings.FitSettings()


def test_fit_takes_limits(commands):
    more = ["--budget", "300", "--synapses", "40", "--max-class-drop", "2", "--max-overall-drop", "-1"]
    assert main([*FIT, "--worst", "2", *more]) == 0
    expected = settings.FitSettings(max_overall_drop=-1, max_class_drop=2, budget=300, synapses=40)
    assert commands.settings["settings"] == expected


@pytest.mark.parametrize("command", [FIT, COMPARE])
def test_a_metric_is_part_of_what_is_fitted(commands, command):
    assert main([*command, "--metric", "recall@fpr=1%"]) == 0
    assert commands.settings["settings"].metric == "recall@fpr=1%"


@pytest.mark.parametrize("command", [FIT, COMPARE])
def test_no_target_means_all_classes(commands, command):
    assert main(command) == 0
    assert commands.settings["targets"] == settings.TargetSettings()


@pytest.mark.parametrize(
    "more, said",
    [
        (["-t", "cat", "--worst", "2"], "exclude each other"),
        (["--budget", "0"], "0 is less than 1 (--budget)"),
        (["--synapses", "-1"], "-1 is less than 1 (--synapses)"),
        (["--certify", "0"], "not greater than 0"),
        (["--hidden", "many"], "'many' is not a valid integer"),
    ],
)
def test_fit_refuses(commands, capsys, more, said):
    assert main([*FIT, *more]) == 2
    assert said in capsys.readouterr().err
    assert commands.asked is None
