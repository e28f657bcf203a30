"""Lines of text to try a recogniser on: codes full of look-alikes, and prose, drawn in many fonts.

    pip download --no-deps -d fonts matplotlib font-roboto font-lato font-source-sans-pro \\
        font-source-serif-pro font-caladea font-hanken-grotesk font-manrope   # and unpack all of them
    python benchmarks/science/positions/lines.py fonts FOLDER

Codes are what a recogniser that knows language reads badly: O and 0, l, 1 and I, B and 8 side by side. Prose
is Python's own manual (`pydoc_data.topics`). A line is drawn dark on light at a random size, with a little
blur and noise. FOLDER gets five lists of pictures and their text: `codes` to learn from and `test`, in six
fonts; `unseen`, codes in four others; `keep` and `prose`, of different pages, the one in the six fonts, the
other in all ten.
"""

from __future__ import annotations

import argparse
import csv
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

HEIGHT, WIDTH = 48, 320  # as the recogniser's own program feeds it
LEARNT = (
    *("DejaVuSans.ttf", "DejaVuSansMono.ttf", "DejaVuSerif.ttf"),
    *("Roboto-Regular.ttf", "SourceSansPro-Regular.ttf", "Lato-Regular.ttf"),
)
UNSEEN = (
    *("SourceSerifPro-Regular.ttf", "HankenGrotesk-Regular.otf"),
    *("Caladea-Regular.ttf", "Manrope-Regular.ttf"),
)
COUNTS = {"codes": 3000, "test": 600, "unseen": 400, "keep": 400, "prose": 400}
_LOOK_ALIKES = "O0l1IB8"
_OTHERS = "ACDEFGHJKLMNPQRSTUVWXYZ2345679abdefghijkmnpqrtuy"


def codes(count: int, rng: np.random.Generator) -> list[str]:
    """Codes of 6 to 10 characters, one in eight of which are look-alikes."""
    made = []
    for _ in range(count):
        length = int(rng.integers(6, 11))
        pools = np.where(rng.random(length) < 0.12, _LOOK_ALIKES, _OTHERS)
        made.append("".join(pool[int(rng.integers(len(pool)))] for pool in pools.tolist()))
    return made


def prose(count: int, rng: np.random.Generator, part: int, parts: int) -> list[str]:
    """Lines of 10 to 17 characters from one of some parts of a text, none of which is in another."""
    from pydoc_data.topics import topics

    words: list[str] = []
    for number, name in enumerate(sorted(topics)):
        if number % parts == part:
            words += re.findall(r"[A-Za-z][a-z]*[,.;]?", topics[name])
    made = []
    for start in rng.integers(0, len(words) - 30, count).tolist():
        line = words[start]
        length = int(rng.integers(10, 18))
        while len(line) < length:
            start += 1
            line += " " + words[start]
        made.append(line[:17].rstrip())
    return made


def drawn(text: str, font: Path, rng: np.random.Generator) -> np.ndarray:
    """A line of text as a picture (HEIGHT, w) of bytes, w at most WIDTH."""
    size = int(rng.integers(22, 40))
    face = ImageFont.truetype(str(font), size)
    left, top, right, bottom = face.getbbox(text)
    around = rng.integers(2, 8, 4)
    paper, ink = int(rng.integers(200, 256)), int(rng.integers(0, 90))
    wide, high = int(right - left + around[0] + around[1]), int(bottom - top + around[2] + around[3])
    picture = Image.new("L", (wide, high), paper)
    ImageDraw.Draw(picture).text((int(around[0]) - left, int(around[2]) - top), text, font=face, fill=ink)
    picture = picture.filter(ImageFilter.GaussianBlur(float(rng.uniform(0, 1.0))))
    width = min(max(round(wide * HEIGHT / high), 8), WIDTH)
    picture = picture.resize((width, HEIGHT), Image.Resampling.BILINEAR)
    noisy = np.asarray(picture, np.float64) + rng.normal(0, rng.uniform(0, 8), (HEIGHT, width))
    return np.clip(noisy, 0, 255).round().astype(np.uint8)


def write(
    name: str, texts: Sequence[str], fonts: Sequence[Path], folder: Path, rng: np.random.Generator
) -> None:
    """A picture for each text, in one of the fonts, and the list of them, NAME.csv."""
    (folder / name).mkdir(parents=True, exist_ok=True)
    rows = [("image", "text")]
    for number, text in enumerate(texts):
        file = f"{name}/{number:04}.png"
        Image.fromarray(drawn(text, fonts[int(rng.integers(len(fonts)))], rng)).save(folder / file)
        rows.append((file, text))
    with (folder / f"{name}.csv").open("w", newline="", encoding="utf-8") as listed:
        csv.writer(listed).writerows(rows)


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("fonts", type=Path)
    asked.add_argument("folder", type=Path)
    asked.add_argument("--seed", type=int, default=1)
    given = asked.parse_args()
    learnt, unseen = ([next(given.fonts.rglob(name)) for name in names] for names in (LEARNT, UNSEEN))
    rng = np.random.default_rng(given.seed)
    for name in ("codes", "test"):
        write(name, codes(COUNTS[name], rng), learnt, given.folder, rng)
    write("unseen", codes(COUNTS["unseen"], rng), unseen, given.folder, rng)
    write("keep", prose(COUNTS["keep"], rng, 0, 2), learnt, given.folder, rng)
    write("prose", prose(COUNTS["prose"], rng, 1, 2), [*learnt, *unseen], given.folder, rng)


if __name__ == "__main__":
    main()
