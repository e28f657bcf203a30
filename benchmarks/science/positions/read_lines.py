"""What do recognisers read in lists of lines? With plain ONNX Runtime and a decoder of its own, no onnxtweak.

    python benchmarks/science/positions/read_lines.py FOLDER reader.onnx better.onnx ...

FOLDER is one of `lines.py`. For each of its lists and each model: the character error rate and the share of
lines that are right, both in percent; for all models but the first also in how many of 1,000 resamples of the
lines its error rate is lower.
"""

from __future__ import annotations

import argparse
import csv
import math
from pathlib import Path

import numpy as np
import onnxruntime as ort
from PIL import Image

HEIGHT, WIDTH, TOGETHER = 48, 320, 16


def fed(file: Path) -> np.ndarray:
    """A picture as the recogniser takes it, (3, HEIGHT, WIDTH) float32."""
    picture = Image.open(file).convert("RGB")
    wide = min(math.ceil(picture.width * HEIGHT / picture.height), WIDTH)
    pixels = np.asarray(picture.resize((wide, HEIGHT), Image.Resampling.BILINEAR), np.float32)
    found = np.zeros((3, HEIGHT, WIDTH), np.float32)
    found[:, :, :wide] = (pixels.transpose(2, 0, 1) / 255 - 0.5) / 0.5
    return found


def read(session: ort.InferenceSession, files: list[Path]) -> list[str]:
    """What is read in each picture."""
    characters = ["", *session.get_modelmeta().custom_metadata_map["character"].split("\n"), " "]
    found = []
    for start in range(0, len(files), TOGETHER):
        x = np.stack([fed(file) for file in files[start : start + TOGETHER]])
        (p,) = session.run(None, {session.get_inputs()[0].name: x})
        for path in p.argmax(axis=2).tolist():
            text = [characters[n] for k, n in enumerate(path) if n and (not k or path[k - 1] != n)]
            found.append("".join(text))
    return found


def distance(one: str, other: str) -> int:
    """Levenshtein's distance."""
    row = list(range(len(other) + 1))
    for i, a in enumerate(one, 1):
        corner, row[0] = row[0], i
        for j, b in enumerate(other, 1):
            corner, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, corner + (a != b))
    return row[-1]


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("folder", type=Path)
    asked.add_argument("models", type=Path, nargs="+")
    asked.add_argument("--lists", nargs="+", default=["test", "unseen", "prose"])
    given = asked.parse_args()
    options = ort.SessionOptions()
    options.log_severity_level = 3
    sessions = [ort.InferenceSession(str(model), options) for model in given.models]
    draws = np.random.default_rng(0)
    for name in given.lists:
        with (given.folder / f"{name}.csv").open(encoding="utf-8") as listed:
            lines = list(csv.DictReader(listed))
        length = np.array([len(line["text"]) for line in lines])
        first = None
        for model, session in zip(given.models, sessions, strict=True):
            texts = read(session, [given.folder / line["image"] for line in lines])
            wrong = np.array([distance(line["text"], text) for line, text in zip(lines, texts, strict=True)])
            first = wrong if first is None else first
            weight = draws.multinomial(len(lines), np.full(len(lines), 1 / len(lines)), 1000)
            better = ((weight @ (first - wrong)) > 0).mean()
            rate, right = 100 * wrong.sum() / length.sum(), 100 * (wrong == 0).mean()
            print(
                f"{name:8} {model.name:24} cer {rate:5.2f}  lines {right:5.1f}  lower {better:.3f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
