"""How much do the hidden neurons tell about corrupted digits, and from how many labels?

    python -m benchmarks.science.must_lock.ceiling DATA NETS [--draw 0]

For the cases of `repair`: corrupted test digits put right by a logistic regression on all hidden neurons,
without the base's logits, from so many random labels of theirs (ridges .01 and .1 on the mean loss; the
better of the two on the test digits, so that these are bounds, and no method). Beside them `fit --must`
with 100, 300 and 1,000 must-samples and 6,000 lock-samples. Prints rows for benchmarks/RESULTS.md: points
gained on the corrupted digits that were not learnt from.
"""

from __future__ import annotations

import argparse
import tempfile
import warnings
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from benchmarks.science.must_lock.corruptions import CORRUPTIONS
from benchmarks.science.must_lock.repair import CASES, LOCK, net_of, repaired, shown

LABELS, MUST, RIDGES = (100, 300, 1000, 5000), (100, 300, 1000), (0.01, 0.1)


def hidden_values(model: Path, x: np.ndarray) -> np.ndarray:
    """Values (N, K) of all hidden neurons of an MLP that `digit_mlp` wrote, for x (N, features)."""
    held = {one.name: numpy_helper.to_array(one) for one in onnx.load(model).graph.initializer}
    found = []
    for k in range(1, len(held) // 2):
        x = np.maximum(x @ held[f"w{k}"] + held[f"b{k}"], 0)
        found.append(x)
    return np.concatenate(found, axis=1)


def bound(values: np.ndarray, labels: np.ndarray, learnt: np.ndarray, right: np.ndarray) -> float:
    """Points that a regression from some samples gains on the others. right (N,) bool : what the base has."""
    others = np.setdiff1d(np.arange(len(labels)), learnt)
    scaler = StandardScaler().fit(values[learnt])
    gained = []
    for ridge in RIDGES:
        made = LogisticRegression(C=1 / (ridge * len(learnt)), max_iter=200)
        made.fit(scaler.transform(values[learnt]), labels[learnt])
        now = made.predict(scaler.transform(values[others])) == labels[others]
        gained.append((now.mean() - right[others].mean()) * 100)
    return max(gained)


def main() -> None:
    """A row for each case."""
    warnings.simplefilter("ignore", ConvergenceWarning)
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("nets", type=Path)
    parser.add_argument("--draw", type=int, default=0)
    asked = parser.parse_args()
    mnist = dict(np.load(asked.data / "mnist.npz"))
    clean, labels = mnist["x_test"].astype(np.float32) / 255, mnist["y_test"].astype(np.int64)
    for layers, corruption, severity in CASES:
        model, rng = net_of(layers, asked.nets, mnist), np.random.default_rng(asked.draw)
        spoiled = CORRUPTIONS[corruption](clean, rng, severity).reshape(-1, 784)
        right = shown(model, spoiled) == labels
        order = rng.permutation(len(labels))
        values = hidden_values(model, spoiled)
        bounds = [bound(values, labels, order[:count], right) for count in LABELS]
        lock = np.sort(rng.choice(len(mnist["x_train"]), LOCK, replace=False))
        locked = mnist["x_train"][lock].reshape(-1, 784).astype(np.float32) / 255
        lists = {"lock": (locked, mnist["y_train"][lock].astype(np.int64))}
        gained = []
        for count in MUST:
            must = np.sort(order[~right[order]][:count])
            others = np.setdiff1d(np.arange(len(labels)), must)
            with tempfile.TemporaryDirectory() as place:
                lists["must"] = spoiled[must], labels[must]
                path, found, _ = repaired(model, Path(place), lists)
                now = shown(path, spoiled) == labels
                kept = shown(path, clean.reshape(-1, 784)) == labels
            was = shown(model, clean.reshape(-1, 784)) == labels
            gained.append(
                f"{(now[others].mean() - right[others].mean()) * 100:+.1f}"
                f" ({(kept.mean() - was.mean()) * 100:+.2f}; {found.listed.must.infeasible})"
            )
        cells = " | ".join([*(f"{each:+.1f}" for each in bounds), *gained])
        print(
            f"| {layers} layers, {corruption} {severity:g} | {right.mean() * 100:.1f} | {cells} |", flush=True
        )


if __name__ == "__main__":
    main()
