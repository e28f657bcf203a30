"""Does `fit --slice` raise a rare sub-class at no overall loss, and by more than its controls?

For each of five seeds an MLP is trained on 2,000 digits, 5 % of which are of a sub-class: one digit, rotated,
mirrored or upside down. It is patched with 1,000 other samples, 50 of them of the sub-class, and tested on
9,000 more (450). Beside it: the best biases of all classes for the same goal, under the same limits on the
learning samples, and the joint fit without groups (`fit` for all classes, same samples).

    python -m benchmarks.science.slices.rare_subclass MNIST.npz [--column]

MNIST.npz : uint8 images and labels x_train, y_train, x_test, y_test. --column : ask for the worst group of a
column instead. Writes nothing; prints a table for benchmarks/RESULTS.md.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import numpy as np

import onnxtweak
from benchmarks.science.digit_mlp import as_onnx, train
from benchmarks.science.slices.rare_digits import CASES, Digits, draw

TRAINING, LEARNING, TEST = (2000, 100), (1000, 50), (9000, 450)
LAYERS = 2
NAMES = ("base", "fit --slice", "biases", "joint fit")


def accuracies(model: Path, data: Path, digits: Digits) -> tuple[float, float]:
    """Overall and of the sub-class, in percent."""
    found = onnxtweak.evaluate(model, data=data, by="kind")
    rare = next(group for group in found.groups if group.name == "rare")
    assert rare.samples == digits.rare.sum()
    return found.metrics.overall * 100, rare.accuracy * 100


def of_seed(mnist: dict[str, np.ndarray], seed: int, goal: str, folder: Path) -> list[tuple[float, float]]:
    """Overall and sub-class accuracy on test, in percent, of everything in NAMES."""
    rng = np.random.default_rng(seed)
    images, labels = mnist["x_train"], mnist["y_train"]
    order = rng.permutation(len(labels))
    own, others = order[: len(order) // 2], order[len(order) // 2 :]
    learnt = draw(images[own], labels[own], TRAINING, seed, rng)
    net = train(learnt.x, learnt.y, LAYERS, seed)
    learning = draw(images[others], labels[others], LEARNING, seed, rng)
    test = draw(mnist["x_test"], mnist["y_test"], TEST, seed, rng)
    model, learn, judge = (folder / name for name in ("base.onnx", "learn.npz", "test.npz"))
    model.write_bytes(as_onnx(net).SerializeToString())
    learning.save(str(learn))
    test.save(str(judge))
    asked = {"data": str(learn), "test": str(judge), "seed": seed, "force": True}
    sliced, joint = folder / "slice.onnx", folder / "joint.onnx"
    made = onnxtweak.fit(model, slice=goal, output=sliced, **asked)
    onnxtweak.fit(model, output=joint, **asked)
    biased = made.bias_control
    against = next((promise for promise in made.verdict.promises if promise.name == "bias"), None)
    rows = [accuracies(model, judge, test), accuracies(sliced, judge, test)]
    behind = 0.0 if against is None or against.change is None else against.change
    rows.append((biased.overall * 100, rows[1][1] - behind))
    return [*rows, accuracies(joint, judge, test)]


def main(arguments: list[str]) -> None:
    """Print the table."""
    with np.load(arguments[0]) as held:
        mnist = {name: held[name] for name in held.files}
    goal = "kind" if "--column" in arguments else "kind=rare"
    print("| sub-class | " + " | ".join(NAMES) + " |\n|---|" + "--:|" * len(NAMES))
    all_rows, begin = [], time.perf_counter()
    for seed, (digit, kind) in enumerate(CASES):
        with tempfile.TemporaryDirectory() as folder:
            rows = of_seed(mnist, seed, goal, Path(folder))
        all_rows.append(rows)
        cells = " | ".join(f"{overall:.1f} / {rare:.1f}" for overall, rare in rows)
        print(f"| {digit}, {kind} (seed {seed}) | {cells} |", flush=True)
    changes = np.array(all_rows) - np.array(all_rows)[:, :1]
    cells = " | ".join(f"{overall:+.2f} / {rare:+.1f}" for overall, rare in changes.mean(axis=0)[1:])
    print(f"| mean change | | {cells} |")
    print(f"\n{time.perf_counter() - begin:.0f} s in all")


if __name__ == "__main__":
    main(sys.argv[1:])
