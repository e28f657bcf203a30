"""What does OxonFair reach on Adult, from the same net and the same samples? Runs with OxonFair's own Python.

    python benchmarks/science/slices/adult_peer.py PREDICTIONS [--gap 0.015]

PREDICTIONS is what `benchmarks.science.slices.adult --write` wrote. OxonFair chooses a threshold for each
sex on the samples that `fit` learnt from, for the best accuracy at which the gap is at most --gap there; it
needs to know the sex of every sample that is classified. Read on adult.test, as everything else.
"""

import argparse
from pathlib import Path

import numpy as np
from oxonfair import DataDict, FairPredictor
from oxonfair import group_metrics as gm


def probabilities(Z: np.ndarray) -> np.ndarray:
    """Of two classes, (N, 2)."""
    shares = np.exp(Z - Z.max(axis=1, keepdims=True))
    return shares / shares.sum(axis=1, keepdims=True)


def main() -> None:
    """A column for benchmarks/RESULTS.md."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("predictions", type=Path)
    parser.add_argument("--gap", type=float, default=0.015)
    asked = parser.parse_args()
    found = []
    for path in sorted(asked.predictions.glob("*.npz")):
        held = np.load(path)
        learn, test = (
            DataDict(held[f"y_{name}"], probabilities(held[f"Z_{name}"]), held[f"women_{name}"].astype(int))
            for name in ("learn", "test")
        )
        fair = FairPredictor(None, learn)
        fair.fit(gm.accuracy, gm.equal_opportunity, asked.gap)
        shown, y, women = np.asarray(fair.predict(test)).ravel(), held["y_test"], held["women_test"]
        gap = shown[(y == 1) & ~women].mean() - shown[(y == 1) & women].mean()
        found.append(((shown == y).mean() * 100, gap))
        print(f"| {path.stem} | {found[-1][0]:.2f} / {gap:+.3f} |", flush=True)
    accuracy, gaps = np.array(found).T
    print(f"| mean; size of the gap | {accuracy.mean():.2f} / {np.abs(gaps).mean():.3f} |")


if __name__ == "__main__":
    main()
