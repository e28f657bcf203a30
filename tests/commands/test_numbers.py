"""Numbers that are given beside the settings are refused in the same words, before anything is read."""

from __future__ import annotations

import math

import numpy as np
import pytest

import onnxtweak
from onnxtweak import commands
from onnxtweak.commands.dry_run import forecast
from onnxtweak.errors import InputError, UsageError
from onnxtweak.settings import DataSettings, EngineSettings, OutputSettings

NOWHERE = OutputSettings("none/out.onnx")
NEITHER = [math.nan, math.inf, -math.inf, True, "2", [2], np.float32("nan"), 1j]
NO_COUNT = [*NEITHER, 0, -1, 1.5, 10**10]


def refused(call, value, option):
    with pytest.raises(UsageError, match=r"is not a|is less than|is greater than") as caught:
        call()
    assert caught.value.where == option and caught.value.hint.startswith("give a number ")
    assert (repr(value) if isinstance(value, str | bool) else "") in caught.value.what


@pytest.mark.parametrize("value", NEITHER, ids=repr)
def test_scale(value):
    refused(lambda: onnxtweak.apply("none", "none", "out.onnx", scale=value), value, "--scale")
    refused(
        lambda: commands.slot(model="none", tweaks=["none"], output=NOWHERE, scale=value), value, "--scale"
    )


@pytest.mark.parametrize("value", NO_COUNT, ids=repr)
def test_steps_and_repeats(value):
    refused(lambda: onnxtweak.revert("none", "out.onnx", steps=value), value, "--steps")
    refused(lambda: onnxtweak.compare("none", data="none.npz", repeats=value), value, "--repeats")
    data = DataSettings(("none.npz",))
    refused(
        lambda: forecast(command="compare", model="none", data=data, repeats=value),
        value,
        "--repeats",
    )


@pytest.mark.parametrize("value", [True, "3", np.float32("nan"), 1j], ids=repr)
def test_settings_take_numbers_alone(value):
    refused(lambda: EngineSettings(threads=value), value, "--threads")


def test_numbers_of_numpy_are_numbers():
    assert EngineSettings(threads=np.int64(1)).cores == 1
    with pytest.raises(InputError, match="no such file"):
        onnxtweak.apply("none", "none", "out.onnx", scale=np.float32(0.5))
