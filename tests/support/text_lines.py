"""A model that reads lines of text: a class for each of 298 characters, a space and the blank, by CTC.

A line is a row of vectors, two or three for each character and one or two of none between; or a picture of
it, as recognisers take them. The model reads them well but for `0`, for which it mostly says `O`. It knows
more characters than most lines are made of.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto
from PIL import Image

from tests.support.nets import NetBuilder
from tests.support.plain_session import plain_session

POSITIONS, FEATURES, HIDDEN = 30, 10, 24
HIGH, WIDE = 4, 8  # pixels of a feature at a position, in a picture
PICTURE = (48, 320)  # pixels
USED = "abO01l"
OTHERS = "xyz "  # that only lines to keep have, which have no `0`
_RANGE = 4.0  # of a feature, from black to white
CHARACTERS = (*USED, *"xyz", *(chr(0x4E00 + number) for number in range(289)))
CLASSES = len(CHARACTERS) + 2  # the blank first, a space last


@dataclass(frozen=True)
class TextLines:
    """A model and its lines. x (N, ...) float32 : as it takes them. texts (N,) : what stands in them."""

    model: Path
    data: Path
    keep: Path
    x: np.ndarray
    texts: tuple[str, ...]


def text_lines(folder: Path, lines: int = 260, seed: int = 0, *, pictures: bool = False) -> TextLines:
    """The model, saved in a folder with lines of `USED`, and others, without their text, to keep."""
    rng = np.random.default_rng(seed)
    codes = rng.normal(0, 1, (CLASSES, FEATURES)).astype(np.float32)
    codes[0] = 0
    apart = rng.normal(0, 0.5, FEATURES)
    codes[_number("0")] = codes[_number("O")] + apart
    codes[_number("z")] = codes[_number("0")] + 1.5 * apart  # what tells `0` from `O` is found here, too
    net = NetBuilder(opset=12, seed=seed)  # whose softmax would flatten what it is told to
    first = rng.normal(0, 0.6, (FEATURES, HIDDEN)).astype(np.float32)
    shift = rng.normal(0, 0.3, HIDDEN).astype(np.float32)
    texts = [_text(rng, USED) for _ in range(lines)]
    x = np.stack([_line(text, codes, rng) for text in texts])
    others = np.stack([_line(_text(rng, "ab1l" + OTHERS), codes, rng) for _ in range(lines // 2)])
    known = sorted({0, *(_number(one) for one in USED + OTHERS)})
    rows = np.repeat(np.array(known), 40)
    seen = codes[rows] + rng.normal(0, 0.2, (len(rows), FEATURES)).astype(np.float32)
    hidden = np.maximum(seen @ first + shift, 0)
    wanted = np.where(rows == _number("0"), _number("O"), rows)  # which it never learnt
    goal = np.where(wanted[:, None] == np.arange(CLASSES), 6.0, 0.0)
    goal[wanted == _number("O"), _number("0")] = 5.0  # next to it, as look-alikes are
    solve = hidden.T @ hidden + 0.5 * np.eye(HIDDEN)
    second = np.linalg.solve(solve, hidden.T @ (goal - 1.0)).astype(np.float32)
    last = np.full(CLASSES, 1.0, np.float32)
    last[[number for number in range(CLASSES) if number not in known]] = -4.0
    last[_number("0")] = 1.0
    vectors, size = ("x", ["N", "T", FEATURES]) if not pictures else (_seen(net), ["N", 3, 48, "W"])
    hidden_name = net.op("Relu", net.op("Add", net.op("MatMul", vectors, net.const(first)), net.const(shift)))
    logits = net.op("Add", net.op("MatMul", hidden_name, net.const(second)), net.const(last))
    net.op("Softmax", logits, axis=2, name="answer")
    declared = {"x": (TensorProto.FLOAT, size)}
    proto = net.model(declared, {"answer": (TensorProto.FLOAT, ["N", "T", CLASSES])})
    onnx.helper.set_model_props(proto, {"character": "\n".join(CHARACTERS)})
    if pictures:
        data, keep = folder / "lines.csv", folder / "prose"
        x = _drawn(x, folder / "lines")
        _drawn(others, keep)
        with data.open("w", newline="", encoding="utf-8") as file:
            rows = [(f"lines/{number:03}.png", text) for number, text in enumerate(texts)]
            csv.writer(file).writerows([("image", "text"), *rows])
    else:
        data, keep = folder / "lines.npz", folder / "keep.npz"
        np.savez(data, x=x, y=np.array(texts))
        np.savez(keep, x=others)
    onnx.save(proto, folder / "reader.onnx")
    return TextLines(folder / "reader.onnx", data, keep, x, tuple(texts))


def read(model: Path, x: np.ndarray) -> list[str]:
    """What a file reads in lines, decoded here: runs of one class once, without the blank."""
    session = plain_session(str(model))
    (shown,) = session.run(None, {"x": x})
    characters = ["", *CHARACTERS, " "]
    found = []
    for path in shown.argmax(axis=2).tolist():
        text, before = "", 0
        for number in path:
            text += characters[number] if number != before else ""
            before = number
        found.append(text)
    return found


def _seen(net: NetBuilder) -> str:
    """The vectors in a picture: the mean of the pixels of each feature, at each position."""
    gray = net.op("ReduceMean", "x", axes=[1], keepdims=1)
    sizes = {"kernel_shape": [HIGH, WIDE], "strides": [HIGH, WIDE]}
    cells = net.op("Reshape", net.op("AveragePool", gray, **sizes), net.const([0, 12, -1], np.int64))
    cells = net.op("Gather", cells, net.const(np.arange(FEATURES), np.int64), axis=1)
    return net.op("Transpose", net.op("Mul", cells, net.const(_RANGE)), perm=[0, 2, 1])


def _drawn(x: np.ndarray, folder: Path) -> np.ndarray:
    """A picture of each line, without the blank positions at its end; all as the model takes them."""
    folder.mkdir()
    fed = np.full((len(x), 3, *PICTURE), (127 / 255 - 0.5) / 0.5, np.float32)
    for number, line in enumerate(x):
        used = int(np.flatnonzero(np.abs(line).max(axis=1) > 1).max(initial=0)) + 2
        cells = np.clip(line[:used].T / _RANGE, -1, 1) * 127.5 + 127.5
        pixels = np.full((PICTURE[0], used * WIDE), 127, np.uint8)
        pixels[: FEATURES * HIGH] = cells.round().repeat(HIGH, axis=0).repeat(WIDE, axis=1)
        Image.fromarray(pixels).save(folder / f"{number:03}.png")
        fed[number, :, :, : pixels.shape[1]] = (pixels.astype(np.float32) / 255 - 0.5) / 0.5
    return fed


def _number(character: str) -> int:
    return CLASSES - 1 if character == " " else 1 + CHARACTERS.index(character)


def _text(rng: np.random.Generator, characters: str) -> str:
    return "".join(rng.choice(list(characters), int(rng.integers(3, 7)))).strip() or characters[0]


def _line(text: str, codes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    numbers: list[int] = []
    for character in text:
        numbers += [0] * int(rng.integers(1, 3)) + [_number(character)] * int(rng.integers(2, 4))
    numbers = (numbers + [0] * POSITIONS)[:POSITIONS]
    return codes[numbers] + rng.normal(0, 0.2, (POSITIONS, FEATURES)).astype(np.float32)
