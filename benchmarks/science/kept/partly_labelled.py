"""What does a fit unlearn where labels name four of ten classes, nothing kept, by default, with `--keep`?

    python -m benchmarks.science.kept.partly_labelled FOLDER NET [NET ...] [--seeds 3] [--keep 600]

FOLDER holds NET.onnx and NET.npz (x, y) for each net (`science/fit/public_nets.py` makes them). Samples of
the classes 2, 3, 5 and 7 are halved: one half, with labels, to learn from, the other to test on. Of those of
the six other classes --keep are listed to be kept, without labels; the rest shows what was unlearnt. Read on
the written files through plain ONNX Runtime; each seed draws anew. Prints a table for benchmarks/RESULTS.md.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

import onnxtweak
from benchmarks.science.fit.halves import shown

NAMED = (2, 3, 5, 7)


def one_draw(model: Path, x: np.ndarray, y: np.ndarray, seed: int, kept: int) -> dict[str, list[float]]:
    """For each way: points gained on the named classes, on the others, and % of these decided otherwise."""
    rng = np.random.default_rng(seed)
    named = np.isin(y, NAMED)
    learn, test = (np.sort(rows) for rows in np.array_split(rng.permutation(np.flatnonzero(named)), 2))
    keep, others = (np.sort(rows) for rows in np.split(rng.permutation(np.flatnonzero(~named)), [kept]))
    before, found = shown(model, x), {}
    with tempfile.TemporaryDirectory() as place:
        files = {name: Path(place) / f"{name}.npz" for name in ("learn", "test", "keep")}
        np.savez(files["learn"], x=x[learn], y=y[learn])
        np.savez(files["test"], x=x[test], y=y[test])
        np.savez(files["keep"], x=x[keep])
        for way, asked in {"none": "none", "default": None, "keep": files["keep"]}.items():
            options: dict[str, Any] = {} if asked is None else {"keep": asked}
            out = Path(place) / f"{way}.onnx"
            onnxtweak.fit(model, data=files["learn"], test=files["test"], output=out, seed=seed, **options)
            after = shown(out, x)
            gains = [
                float((after[rows] == y[rows]).mean() - (before[rows] == y[rows]).mean()) * 100
                for rows in (test, others)
            ]
            found[way] = [*gains, float((after[others] != before[others]).mean()) * 100]
    return found


def main() -> None:
    """The table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("nets", nargs="+")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--keep", type=int, default=600)
    asked = parser.parse_args()
    print(f"| net | --keep none | by default | --keep {asked.keep} samples |\n|---|--:|--:|--:|")
    for net in asked.nets:
        with np.load(asked.folder / f"{net}.npz") as held:
            x, y = held["x"], held["y"]
        draws = [
            one_draw(asked.folder / f"{net}.onnx", x, y, seed, asked.keep) for seed in range(asked.seeds)
        ]
        means = {way: np.mean([draw[way] for draw in draws], axis=0) for way in draws[0]}
        cells = " | ".join(
            f"{gain:+.1f} / {loss:+.1f} ({share:.1f} %)" for gain, loss, share in means.values()
        )
        print(f"| {net} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
