"""Text on the command line becomes sizes, numbers, lists."""

from __future__ import annotations

import click
import pytest

from onnxtweak.cli.options.values import Device, HeightWidth, Number, Numbers, Size


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("4GiB", 4 * 1024**3),
        ("500MB", 500_000_000),
        ("1.5k", 1536),
        ("7", 7),
        ("64 MiB", 64 * 1024**2),
        ("2tb", 2 * 10**12),
        ("9B", 9),
    ],
)
def test_size(text, size):
    assert Size()(text) == size


@pytest.mark.parametrize("text", ["", "GiB", "4 apples", "-1", "0", "0.1", "1e9"])
def test_size_refuses(text):
    with pytest.raises(click.BadParameter):
        Size()(text)


def test_numbers():
    assert Numbers()("0.5, 1,1/4") == (0.5, 1.0, 0.25)
    assert Numbers(whole=True)("1,10,20") == (1, 10, 20)
    assert Number()("1/255") == 1 / 255


@pytest.mark.parametrize("text", ["", "1,", "a", "1/0", "nan", "inf", "1/2/3"])
def test_numbers_refuse(text):
    with pytest.raises(click.BadParameter):
        Numbers()(text)


def test_whole_numbers_are_whole():
    with pytest.raises(click.BadParameter, match="is not a whole number"):
        Numbers(whole=True)("1.5")


def test_height_and_width():
    assert HeightWidth()("224x160") == (224, 160)
    assert HeightWidth()("32") == (32, 32)
    for text in ("", "0x3", "3x", "axb", "-4"):
        with pytest.raises(click.BadParameter):
            HeightWidth()(text)


def test_device():
    assert [Device()(text) for text in ("auto", "cpu", "cuda", "cuda:0", "cuda:0,1")]
    for text in ("gpu", "cuda:", "cuda:a", "cpu:0"):
        with pytest.raises(click.BadParameter):
            Device()(text)
