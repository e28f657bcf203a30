"""What could a linear patch gain at most if the corruption itself were known? A bound for `repair`.

    python -m benchmarks.science.must_lock.known DATA NETS [--draw 0]

8,000 training digits are corrupted for real, and a ridge regression on all hidden neurons, without the base's
logits, learns their labels (ridges .01 and .1; the better of the two on the digits that it is read on): no
must-samples, nothing that has to stay right, as many labels as it takes. So these are bounds, and no method.
For the cases of `repair`, and for noise and motion blur of other strengths. Prints rows for
benchmarks/RESULTS.md: corrupted test digits right under the base, in percent, and points gained.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from benchmarks.science.must_lock.ceiling import hidden_values
from benchmarks.science.must_lock.corruptions import CORRUPTIONS
from benchmarks.science.must_lock.repair import CASES, net_of, shown

COUNT, RIDGES, CLASSES = 8000, (0.01, 0.1), 10
STRENGTHS = {"noise": (0.3, 0.4, 0.6, 0.8, 1.0), "blur": (10, 18)}


def predictions(values: np.ndarray, labels: np.ndarray, others: np.ndarray, ridge: float) -> np.ndarray:
    """Classes (n,) of others (n, K) by a regression from values (N, K) and labels (N,)."""
    mean, scale = values.mean(axis=0), values.std(axis=0)
    scale[scale == 0] = np.inf
    X, Y = (np.pad((one - mean) / scale, ((0, 0), (0, 1)), constant_values=1) for one in (values, others))
    gram = X.T @ X / len(X) + ridge * np.eye(X.shape[1])
    return (Y @ np.linalg.solve(gram, X.T @ np.eye(CLASSES)[labels] / len(X))).argmax(axis=1)


def main() -> None:
    """A row for each case."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("nets", type=Path)
    parser.add_argument("--draw", type=int, default=0)
    asked = parser.parse_args()
    mnist = dict(np.load(asked.data / "mnist.npz"))
    test, labels = mnist["x_test"].astype(np.float32) / 255, mnist["y_test"].astype(np.int64)
    more = [(layers, name, each) for name, every in STRENGTHS.items() for each in every for layers in (3, 9)]
    for layers, corruption, severity in [*CASES, *more]:
        model, rng = net_of(layers, asked.nets, mnist), np.random.default_rng(asked.draw)
        spoil = CORRUPTIONS[corruption]
        spoiled = spoil(test, rng, severity).reshape(-1, 784).astype(np.float32)
        rows = rng.choice(len(mnist["x_train"]), COUNT, replace=False)
        learnt = spoil(mnist["x_train"][rows].astype(np.float32) / 255, rng, severity).reshape(-1, 784)
        known = mnist["y_train"][rows].astype(np.int64)
        values, others = (hidden_values(model, x.astype(np.float32)) for x in (learnt, spoiled))
        was = (shown(model, spoiled) == labels).mean()
        best = max((predictions(values, known, others, ridge) == labels).mean() for ridge in RIDGES)
        case = f"{layers} layers, {corruption} {severity:g}"
        print(f"| {case} | {was * 100:.1f} | {(best - was) * 100:+.1f} |", flush=True)


if __name__ == "__main__":
    main()
