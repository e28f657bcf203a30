"""How does text on the command line become a number, a size, a list?

Each class is a click type: `convert` returns the value, or fails with a sentence that shows a valid one.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import click

from onnxtweak import quantities
from onnxtweak.bounded import ranges_of


class Size(click.ParamType):
    """Bytes: `4GiB`, `500MB`, `1.5g`; a bare number is bytes, a bare letter the binary unit."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if isinstance(value, int):
            return value
        try:
            return quantities.size(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


class Numbers(click.ParamType):
    """Numbers separated by commas: `0.5`, `1,10,20`, `1/255`. Gives a tuple; settings check the range."""

    name = "numbers"

    def __init__(self, *, whole: bool = False) -> None:
        self.whole = whole

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if isinstance(value, tuple):
            return value
        return tuple(self._number(part, param, ctx) for part in value.split(","))

    def _number(self, text: str, param: click.Parameter | None, ctx: click.Context | None) -> float:
        try:
            return int(text) if self.whole else quantities.number(text)
        except ValueError as error:
            wrong = f"{text.strip()!r} is not a whole number" if self.whole else str(error)
            self.fail(wrong, param, ctx)


class Words(click.ParamType):
    """Some of a few words, separated by commas: `mean,max`. Gives a tuple."""

    name = "words"

    def __init__(self, known: Sequence[str]) -> None:
        self.known = known

    def get_metavar(self, param: click.Parameter, ctx: click.Context | None = None) -> str:
        return f"[{'|'.join(self.known)}],..."

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        words = value if isinstance(value, tuple) else tuple(part.strip() for part in value.split(","))
        for word in words:
            if word not in self.known:
                self.fail(f"{word!r} is not one of {', '.join(self.known)}", param, ctx)
        return words


class Number(Numbers):
    """A single number: `0.5` or `1/255`."""

    name = "number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return value if isinstance(value, int | float) else self._number(value, param, ctx)


class Whole(click.IntRange):
    """A whole number that fills a field of settings. Its lower limit is shown; settings check the range."""

    def __init__(self, kind: type, field: str) -> None:
        least = ranges_of(kind)[field].least
        super().__init__(min=None if least is None else int(least))

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return click.INT.convert(value, param, ctx)


class Limit(Number):
    """A number, or `none`."""

    name = "number|none"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return None if value == "none" else super().convert(value, param, ctx)


class ClassAxis(click.ParamType):
    """A number of an axis, or `none`, which gives 0."""

    name = "N|none"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return 0 if value == "none" else click.INT.convert(value, param, ctx)


class NamedNumber(click.ParamType):
    """`NAME=VALUE`: `sr=16000`, `state=0`, `training=false`. Gives a pair."""

    name = "NAME=VALUE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if isinstance(value, tuple):
            return value
        word, sign, text = value.rpartition("=")  # names of tensors may hold an equals sign
        if not sign or not word:
            self.fail(f"{value!r} names no value; write it like sr=16000", param, ctx)
        try:
            return word.strip(), quantities.plain_number(text)
        except ValueError as error:
            self.fail(str(error), param, ctx)


class HeightWidth(click.ParamType):
    """`HxW` in pixels, or one number for a square: `224x224`, `32`."""

    name = "HxW"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if isinstance(value, tuple):
            return value
        try:
            return quantities.height_width(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


class Device(click.ParamType):
    """`auto`, `cpu`, `cuda`, `cuda:0` or `cuda:0,1`."""

    name = "device"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not re.fullmatch(r"auto|cpu|cuda(:[0-9]+(,[0-9]+)*)?", value):
            self.fail(f"{value!r} is not a device; write auto, cpu, cuda, cuda:0 or cuda:0,1", param, ctx)
        return value
