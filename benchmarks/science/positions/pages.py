"""Pages to try `fit` of a finder of text on: lines in several styles, and which pixels lie inside of them.

    unzip -j rapidocr_onnxruntime-1.4.4-py3-none-any.whl '*det_infer.onnx'     # of the PyPI package
    mv ch_PP-OCRv4_det_infer.onnx finder.onnx
    python benchmarks/science/positions/pages.py draw FONTS FOLDER [--pages 300] [--seed 0]
    onnxtweak fit finder.onnx -d FOLDER/learn.csv --test FOLDER/test.csv --keep FOLDER/keep.csv \\
        --pixel-scale 1/255 --mean .5,.5,.5 --std .5,.5,.5 --hidden 0 -o better.onnx
    python benchmarks/science/positions/pages.py read FOLDER/test.csv finder.onnx better.onnx
    python benchmarks/science/positions/pages.py read FOLDER/other.csv finder.onnx better.onnx

FONTS is a folder with DejaVuSans.ttf and LiberationSerif-Regular.ttf somewhere in it. A page has lines of
Python's own manual (`pydoc_data.topics`) in one style, and a size of its own. Its mask is what such networks
are trained on: white inside of each line's box after that was shrunk by 0.4 (DB, Liao et al. 2020). FOLDER
gets four lists of picture, mask and style: `learn` and `test`, and in other styles `keep`, without masks,
and `other`; `test` and `other` are of chapters that the two others have nothing of. `read` runs files by
ONNX Runtime alone: IoU and F1 of all pixels that they show as text, style by style.
"""

from __future__ import annotations

import argparse
import csv
import re
from pathlib import Path

import numpy as np
import onnxruntime as ort
from PIL import Image, ImageDraw, ImageFilter, ImageFont

FONTS = ("DejaVuSans.ttf", "LiberationSerif-Regular.ttf")
STYLES = ("plain", "light on dark", "tiny", "faint", "blurred", "spaced")
OTHER = ("noisy", "striped", "large")  # that nothing is learnt of
SHRUNK, STEP, CUT = 0.4, 32, 0.5  # of a box; sizes are multiples of; from which a pixel is shown as text
MARGIN = 3  # pixels around a line that its box has, so that masks cover as much as the network shows


def words_of(part: int, parts: int) -> list[str]:
    """The words of one of some parts of a text, none of which is in another."""
    from pydoc_data.topics import topics

    names = [name for number, name in enumerate(sorted(topics)) if number % parts == part]
    return [word for name in names for word in re.findall(r"[A-Za-z][a-z]*[,.;]?", topics[name])]


def page(rng: np.random.Generator, style: str, font: Path, words: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """A page and its mask, (H, W) of bytes."""
    high, wide = (STEP * rng.integers(6, 11, 2)).tolist()
    size = int(rng.integers(*{"tiny": (7, 10), "large": (50, 80)}.get(style, (13, 24))))
    paper, ink = int(rng.integers(200, 256)), int(rng.integers(0, 90))
    if style == "light on dark":
        paper, ink = ink, paper
    if style == "faint":
        ink = paper - int(rng.integers(10, 25))
    ground, mask = np.full((high, wide), float(paper)), np.zeros((high, wide), np.uint8)
    if style == "noisy":
        ground += rng.normal(0, 60, ground.shape)
    if style == "striped":
        across, down = rng.uniform(0.3, 0.9), rng.uniform(-0.6, 0.6)
        ground -= 60 * (np.sin(across * np.arange(wide) + down * np.arange(high)[:, None]) > 0)
    picture = Image.fromarray(np.clip(ground, 0, 255).astype(np.uint8))
    draw, face, top = ImageDraw.Draw(picture), ImageFont.truetype(str(font), size), int(rng.integers(4, 20))
    above, below = face.getmetrics()
    while top + above + below + 4 < high:
        start, least = int(rng.integers(len(words) - 40)), int(rng.integers(4, max(2 * wide // size, 5)))
        line = words[start]
        while len(line) < least:
            start += 1
            line += " " + words[start]
        if style == "spaced":
            line = "   ".join(line.replace(" ", ""))
        while face.getlength(line) > wide - 12:
            line = line[:-1]
        length = int(face.getlength(line))
        left = int(rng.integers(4, wide - length - 4))
        draw.text((left, top), line, font=face, fill=ink)
        sides = np.array([length, above + below]) + 2 * MARGIN
        inward = round(sides.prod() * (1 - SHRUNK**2) / (2 * sides.sum())) - MARGIN
        mask[top + inward : top + above + below - inward, left + inward : left + length - inward] = 255
        top += above + below + int(rng.integers(size // 2, 2 * size))
    blur = rng.uniform(1.5, 2.5) if style == "blurred" else rng.uniform(0, 0.8)
    noisy = np.asarray(picture.filter(ImageFilter.GaussianBlur(blur)), np.float64)
    noisy = noisy + rng.normal(0, rng.uniform(0, 6), noisy.shape)
    return np.clip(noisy, 0, 255).round().astype(np.uint8), mask


def draw(fonts: Path, folder: Path, pages: int, seed: int) -> None:
    """Write all lists: of so many pages to learn from, and a third of that of each of the others."""
    rng, found = np.random.default_rng(seed), [next(fonts.rglob(name)) for name in FONTS]
    lists = {"learn": STYLES, "test": STYLES, "keep": OTHER, "other": OTHER}
    for place, (name, styles) in enumerate(lists.items()):
        words, rows, bare = words_of(place % 2, 2), list[tuple[str, ...]](), name == "keep"
        (folder / name).mkdir(parents=True, exist_ok=True)
        for number in range(pages if name == "learn" else pages // 3):
            style = styles[number % len(styles)]
            files = [f"{name}/{number:04}{kind}.png" for kind in ("", "-mask")]
            for file, array in zip(files, page(rng, style, found[number // 6 % 2], words), strict=True):
                Image.fromarray(array).save(folder / file)
            rows.append(tuple(files[:1]) if bare else (*files, style))
        with (folder / f"{name}.csv").open("w", newline="", encoding="utf-8") as listed:
            csv.writer(listed).writerows([("image",) if bare else ("image", "mask", "style"), *rows])


def read(listed: Path, models: list[Path]) -> None:
    """Print what files show of the pages of a list."""
    with listed.open(newline="", encoding="utf-8") as file:
        rows = [*csv.DictReader(file)]
    for model in models:
        session = ort.InferenceSession(str(model), providers=["CPUExecutionProvider"])
        counts = {row["style"]: np.zeros(3) for row in rows}
        for row in rows:
            pixels = np.asarray(Image.open(listed.parent / row["image"]).convert("RGB"), np.float32)
            mask = np.asarray(Image.open(listed.parent / row["mask"])) > 0
            (shown,) = session.run(None, {"x": ((pixels / 255 - 0.5) / 0.5).transpose(2, 0, 1)[None]})
            text = shown[0, 0] > CUT
            counts[row["style"]] += [(text & mask).sum(), text.sum(), mask.sum()]
        print(model.name)
        for name, (both, ours, theirs) in {**counts, "all": sum(counts.values())}.items():
            print(
                f"  {name:14} IoU {both / (ours + theirs - both):6.1%}  F1 {2 * both / (ours + theirs):6.1%}"
            )


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    jobs = asked.add_subparsers(dest="job", required=True)
    drawing = jobs.add_parser("draw")
    drawing.add_argument("fonts", type=Path)
    drawing.add_argument("folder", type=Path)
    drawing.add_argument("--pages", type=int, default=300)
    drawing.add_argument("--seed", type=int, default=0)
    reading = jobs.add_parser("read")
    reading.add_argument("list", type=Path)
    reading.add_argument("models", type=Path, nargs="+")
    given = asked.parse_args()
    if given.job == "draw":
        draw(given.fonts, given.folder, given.pages, given.seed)
    else:
        read(given.list, given.models)


if __name__ == "__main__":
    main()
