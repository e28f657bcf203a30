"""Does `fit --slice` close the gap between the sexes on Adult (UCI census income), at what cost in accuracy?

    python -m benchmarks.science.slices.adult FOLDER [--seeds 5] [--write PREDICTIONS]

FOLDER holds adult.data and adult.test as UCI gives them. An MLP of two hidden layers of 100 is trained on two
thirds of adult.data, without a framework; the last third is what `fit` learns from, and adult.test what the
chosen file is read on, once, through plain ONNX Runtime. Equal opportunity: the share of those who earn more
than 50,000 that the model finds, of men less of women. A column says sex and income. `--slice` gets that of
women who earn more, with up to .8 points of overall accuracy allowed (`--max-overall-drop`); the strength at
which the tweak is applied (`apply --scale`) is the one whose gap on the learning samples is the smallest.
Beside it: `--slice` with the column alone, which makes the worst group better; and what a threshold for each
sex would do, chosen in the same way.

--write: logits, labels and sex of both parts for each seed, for benchmarks/science/slices/adult_peer.py.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnxruntime

import onnxtweak
from benchmarks.science.digit_mlp import as_onnx, train

NUMBERS = (0, 2, 4, 10, 11, 12)  # columns of numbers; the others are names
SEX, INCOME, LAYERS = 9, 14, 2
GOAL = "income=Female more"
DROPS = (0.2, 0.4, 0.8)  # percentage points
STRENGTHS = tuple(k / 20 for k in range(1, 21))
NAMES = ("base", f"--slice '{GOAL}'", "--slice income", "a threshold for each sex")


def read(path: Path) -> list[list[str]]:
    """The lines as cells; those that are no sample left out."""
    lines = (line.strip().rstrip(".").split(", ") for line in path.read_text().splitlines())
    return [cells for cells in lines if len(cells) == INCOME + 1 and cells[0].isdecimal()]


def encoded(rows: list[list[str]], like: list[list[str]]) -> np.ndarray:
    """(N, features) float32: numbers standardised, sums by their logarithm; names one-hot."""
    columns = []
    for place in range(INCOME):
        own, known = ([row[place] for row in each] for each in (rows, like))
        if place in NUMBERS:
            one, other = (np.array(each, np.float64) for each in (own, known))
            if place in (2, 10, 11):
                one, other = np.log1p(one), np.log1p(other)
            columns.append(((one - other.mean()) / other.std())[:, None])
        else:
            columns.append(np.array(own)[:, None] == np.unique(known))
    return np.concatenate(columns, axis=1).astype(np.float32)


@dataclass(frozen=True, eq=False)
class Part:
    """Samples. x (N, features) float32; y (N,) int64; women (N,) bool; Z (N, 2) : the base's logits."""

    x: np.ndarray
    y: np.ndarray
    women: np.ndarray
    Z: np.ndarray | None = None

    def rows(self, chosen: np.ndarray) -> Part:
        """Some of them."""
        return Part(self.x[chosen], self.y[chosen], self.women[chosen])


def part_of(rows: list[list[str]], like: list[list[str]]) -> Part:
    """The lines of a file. like : those that say how columns are encoded."""
    income, sex = ([row[place] for row in rows] for place in (INCOME, SEX))
    return Part(
        encoded(rows, like), np.array([">" in one for one in income], np.int64), np.array(sex) == "Female"
    )


def logits(path: Path, x: np.ndarray) -> np.ndarray:
    """What a file puts out."""
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": x})[0]


def figures(Z: np.ndarray, part: Part) -> tuple[float, float]:
    """Accuracy under logits Z (N, 2), and the gap in equal opportunity: of men less of women."""
    found = Z.argmax(axis=1)
    rates = [found[(part.y == 1) & (part.women == who)].mean() for who in (False, True)]
    return float((found == part.y).mean()), float(rates[0] - rates[1])


def thresholds(learn: Part, test: Part) -> tuple[float, float]:
    """The figures of a bias for women, who have to be known: that with the smallest gap where it learns."""
    biases = np.linspace(0, 3, 61)
    gaps = [abs(figures(_biased(learn, bias), learn)[1]) for bias in biases]
    return figures(_biased(test, biases[int(np.argmin(gaps))]), test)


def _biased(part: Part, bias: float) -> np.ndarray:
    return part.Z + bias * np.outer(part.women, [0.0, 1.0])


def one_seed(seed: int, train_part: Part, test: Part, write: Path | None) -> list[tuple[float, float]]:
    """Figures on test of everything in `NAMES`."""
    order = np.random.default_rng(seed).permutation(len(train_part.y))
    own, learn = (train_part.rows(np.sort(rows)) for rows in np.split(order, [2 * len(order) // 3]))
    with tempfile.TemporaryDirectory() as place:
        base, data = Path(place) / "base.onnx", Path(place) / "learn.npz"
        base.write_bytes(as_onnx(train(own.x, own.y, LAYERS, seed, 2)).SerializeToString())
        sex, more = np.where(learn.women, "Female", "Male"), np.where(learn.y == 1, " more", " less")
        income = np.char.add(sex, more)
        np.savez(data, x=learn.x, y=learn.y, income=income)
        learn, test = (replace(part, Z=logits(base, part.x)) for part in (learn, test))
        if write is not None:
            write.mkdir(parents=True, exist_ok=True)
            parts = {"learn": learn, "test": test}.items()
            np.savez(
                write / f"{seed}.npz",
                **{
                    f"{key}_{name}": getattr(part, key) for name, part in parts for key in ("Z", "y", "women")
                },
            )
        names = ("out.onnx", "scaled.onnx", "worst.onnx", "out.tweak")
        out, scaled, worst, tweak = (Path(place) / name for name in names)
        asked = {"data": data, "seed": seed, "force": True}
        best, chosen, taken = None, learn.Z, (0.0, 0.0)
        for allowed in DROPS:
            onnxtweak.fit(base, slice=GOAL, max_overall_drop=allowed, output=out, tweak=tweak, **asked)
            added = logits(out, learn.x) - learn.Z
            gaps = [abs(figures(learn.Z + scale * added, learn)[1]) for scale in STRENGTHS]
            if tweak.exists() and (best is None or min(gaps) < best):
                best, taken = min(gaps), (allowed, STRENGTHS[int(np.argmin(gaps))])
                onnxtweak.apply(base, tweak, scaled, scale=taken[1], force=True)
                chosen = logits(scaled, test.x)
        onnxtweak.fit(base, slice="income", max_overall_drop=DROPS[-1], output=worst, **asked)
        print(f"seed {seed}: drop {taken[0]:g}, scale {taken[1]:g}", file=sys.stderr)
        found = [figures(Z, test) for Z in (test.Z, chosen, logits(worst, test.x))]
    return [*found, thresholds(learn, test)]


def main() -> None:
    """A table for benchmarks/RESULTS.md."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--write", type=Path)
    asked = parser.parse_args()
    rows = {name: read(asked.folder / name) for name in ("adult.data", "adult.test")}
    whole, test = (part_of(each, rows["adult.data"]) for each in rows.values())
    print("| seed | " + " | ".join(NAMES) + " |\n|---|" + "--:|" * len(NAMES))
    every = []
    for seed in range(asked.seeds):
        every.append(one_seed(seed, whole, test, asked.write))
        cells = " | ".join(f"{accuracy * 100:.2f} / {gap:+.3f}" for accuracy, gap in every[-1])
        print(f"| {seed} | {cells} |", flush=True)
    accuracy, size = np.array(every)[:, :, 0].mean(axis=0), np.abs(np.array(every)[:, :, 1]).mean(axis=0)
    cells = " | ".join(f"{a * 100:.2f} / {gap:.3f}" for a, gap in zip(accuracy, size, strict=True))
    print(f"| mean; size of the gap | {cells} |")


if __name__ == "__main__":
    main()
