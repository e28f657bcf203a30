"""Does PaddleOCR's classifier see which text lines stand on their heads, and where is it weak?

Draws text lines with Pillow's own font, half of them upside down, some small, faint or noisy, and writes

    OUT.npz    x_fit, y_fit, x_test, y_test (float32 [N, 3, 48, 192] in -1..1, int64 [N]) and the class names
    OUT.onnx   the classifier, as it lies in rapidocr_onnxruntime's wheel

then prints the accuracy for upright (0) and turned (180) lines. The package is never imported.
"""

from __future__ import annotations

import argparse
import importlib.util
import math
import random
import re
import sys
import zipfile
from pathlib import Path
from pydoc_data.topics import topics

import numpy as np
import onnxruntime
from PIL import Image, ImageDraw, ImageFont

MODEL = "rapidocr_onnxruntime/models/ch_ppocr_mobile_v2.0_cls_infer.onnx"
CLASSES = ("0", "180")
HEIGHT, WIDTH = 48, 192


def read_model(package: Path | None) -> bytes:
    """The classifier from a wheel, from the folder that holds the package, or from the installed package."""
    if package is None:
        spec = importlib.util.find_spec("rapidocr_onnxruntime")
        if spec is None or spec.origin is None:
            sys.exit(
                "error: rapidocr_onnxruntime is not installed\n"
                "hint: pip download --no-deps rapidocr_onnxruntime, then --package WHEEL"
            )
        package = Path(spec.origin).parents[1]
    try:
        parts = zipfile.Path(package) if package.is_file() else package
        return (parts / MODEL).read_bytes()
    except (OSError, KeyError, zipfile.BadZipFile) as problem:
        sys.exit(
            f"error: no {MODEL} ({package}: {problem})\n"
            "hint: give the wheel, or the folder it was unpacked to"
        )


def draw(words: list[str], chance: random.Random) -> Image.Image:
    """One upright text line, dark on light or the other way round, cut to its text."""
    text = " ".join(chance.choices(words, k=chance.randint(1, 3)))
    font = ImageFont.load_default(chance.choice((9, 11, 14, 20, 32)))
    paper = chance.randint(150, 255)
    ink = paper - chance.randint(40, 150)
    if chance.random() < 0.3:
        paper, ink = ink, paper
    left, top, right, bottom = font.getbbox(text)
    edge = chance.randint(1, 4)
    image = Image.new("L", (right - left + 2 * edge, bottom - top + 2 * edge), paper)
    ImageDraw.Draw(image).text((edge - left, edge - top), text, fill=ink, font=font)
    return image


def pixels(image: Image.Image, noise: float, rng: np.random.Generator) -> np.ndarray:
    """The classifier's input (3, 48, 192) float32: resized to its height, -1..1, zeros to the right."""
    width = min(WIDTH, math.ceil(HEIGHT * image.width / image.height))
    grey = np.asarray(image.resize((width, HEIGHT), Image.Resampling.BILINEAR), np.float32)
    grey = np.clip(grey + rng.normal(0, noise, grey.shape), 0, 255)
    row = np.zeros((3, HEIGHT, WIDTH), np.float32)
    row[:, :, :width] = grey / 127.5 - 1
    return row


def lines(count: int, words: list[str], seed: str) -> tuple[np.ndarray, np.ndarray]:
    """`count` lines, every second one turned: x (N, 3, 48, 192) float32 and y (N,) int64."""
    chance = random.Random(seed)
    rng = np.random.default_rng(chance.getrandbits(64))
    turned = np.arange(count) % 2
    x = np.empty((count, 3, HEIGHT, WIDTH), np.float32)
    for number in range(count):
        image = draw(words, chance)
        if turned[number]:
            image = image.transpose(Image.Transpose.ROTATE_180)
        x[number] = pixels(image, chance.choice((0, 10, 25)), rng)
    return x, turned.astype(np.int64)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="OUT.npz")
    parser.add_argument("--package", type=Path, help="rapidocr_onnxruntime's wheel, or the folder it lies in")
    parser.add_argument("--count", type=int, default=1000, help="lines for fit, and as many for test (1000)")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()

    model = read_model(options.package)
    vocabulary = sorted(set(re.findall(r"[A-Za-z]{3,9}", " ".join(topics.values()))))
    random.Random(options.seed).shuffle(vocabulary)
    half = len(vocabulary) // 2
    arrays = {"classes": np.array(CLASSES)}
    for side, words in {"fit": vocabulary[:half], "test": vocabulary[half:]}.items():
        arrays[f"x_{side}"], arrays[f"y_{side}"] = lines(options.count, words, f"{options.seed} {side}")
    np.savez_compressed(options.output, **arrays)
    options.output.with_suffix(".onnx").write_bytes(model)

    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    for side in ("fit", "test"):
        x, y = arrays[f"x_{side}"], arrays[f"y_{side}"]
        answers = [session.run(None, {"x": x[i : i + 32]})[0] for i in range(0, len(x), 32)]
        right = np.concatenate(answers).argmax(axis=1) == y
        classes = ", ".join(f"{name} {right[y == c].mean():.3f}" for c, name in enumerate(CLASSES))
        print(f"{side}: {len(y)} lines, right {right.mean():.3f} ({classes})")


if __name__ == "__main__":
    main()
