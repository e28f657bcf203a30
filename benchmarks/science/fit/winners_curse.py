"""Does the operating point keep its promise on test? Three ways of setting it, on the same samples.

    python benchmarks/science/fit/winners_curse.py MODEL.onnx -d held-out.npz --test test.npz --seeds 20

For the bias alone and for a linear fit on channel means: the point chosen on a quarter that the weights have
not seen, without a margin; cross-fitted on all samples, without; cross-fitted, with margins of half and of a
whole standard error. Shown is what is lost of the overall accuracy on test (0 was asked for), how often more
than 0.2 points are, and the gain of the target. The target is each of the weakest classes in turn.
"""

from __future__ import annotations

import argparse

import numpy as np

from onnxtweak.goal import ResolvedGoal
from onnxtweak.method.fit.linear import fit_linear
from onnxtweak.method.folds import Folds
from onnxtweak.method.table import Table, gather, stacked
from onnxtweak.method.tuning.target_bias import set_target_bias
from onnxtweak.settings import (
    DataSettings,
    EngineSettings,
    FitSettings,
    Preprocess,
    TapSettings,
    TargetSettings,
)
from onnxtweak.stages.choose_goal import choose_goal
from onnxtweak.stages.choose_neurons import choose_neurons
from onnxtweak.stages.open_for_tables import open_for_tables
from onnxtweak.types import silent

WAYS = {
    "a quarter, no margin": 0.0,
    "cross-fitted, no margin": 0.0,
    "cross-fitted, margin 0.5": 0.5,
    "cross-fitted, margin 1": 1.0,
}


def readings(whole: Table, test: Table, channels: np.ndarray, targets: np.ndarray, seed: int) -> list:
    """(what, way, points of overall accuracy lost, points of target accuracy gained) for one resample."""
    rows = np.random.default_rng(seed).choice(len(whole.labels), int(0.8 * len(whole.labels)), replace=False)
    table = whole.rows(rows).columns(channels)
    folds = Folds.of(table.labels, 4, seed)
    found = fit_linear(table, np.arange(len(channels)), "channels", folds)
    quarter = np.flatnonzero(folds.number == 0)
    Z_test = {"bias": test.Z, "fit": test.columns(channels).patched(found.columns, found.patch)}
    was = test.Z.argmax(axis=1) == test.labels
    made = []
    for target in targets:
        own, one = test.labels == target, ResolvedGoal(np.array([target]))
        for what, held in (("bias", table.Z), ("fit", found.held_out)):
            for way, margin in WAYS.items():
                chosen_on = quarter if "quarter" in way else slice(None)
                point = set_target_bias(
                    held[chosen_on], table.Z[chosen_on], table.labels[chosen_on], one, margin=margin
                )
                bias = point.bias if point.holds else np.zeros(test.Z.shape[1])
                Z = Z_test[what] if point.holds else test.Z
                now = one.head.predict_biased(Z, bias) == test.labels
                lost, gained = was.mean() - now.mean(), now[own].mean() - was[own].mean()
                made.append((what, way, lost * 100, gained * 100))
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("-d", "--data", action="append", required=True)
    parser.add_argument("--test", action="append", required=True)
    parser.add_argument("--classes", type=int, default=3)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--pixel-scale", type=float)
    parser.add_argument("--mean", type=lambda text: tuple(map(float, text.split(","))))
    parser.add_argument("--std", type=lambda text: tuple(map(float, text.split(","))))
    asked = parser.parse_args()
    preprocess = Preprocess(pixel_scale=asked.pixel_scale, mean=asked.mean, std=asked.std)
    data = DataSettings(tuple(asked.data), test=tuple(asked.test), preprocess=preprocess)
    taps = TapSettings(taps=())
    job = open_for_tables(asked.model, data, EngineSettings(device="cpu", threads=1), taps, silent)
    targets = choose_goal(job, TargetSettings(worst=asked.classes), FitSettings()).targets
    watched = choose_neurons(job, taps, 2000)
    views = (job.splits.fit, job.splits.validation, job.splits.test)
    fit, validation, test = (gather(job.subject, v, watched.neurons, job.engine, "collect") for v in views)
    whole, channels = stacked((fit, validation)), watched.families["channel means"]
    rows = [row for seed in range(asked.seeds) for row in readings(whole, test, channels, targets, seed)]
    print("| | operating point | overall lost | lost more than 0.2 | target gained |\n|---|---|---|---|---|")
    for what in ("bias", "fit"):
        for way in WAYS:
            of = np.array([row[2:] for row in rows if row[:2] == (what, way)])
            share = (of[:, 0] > 0.2).mean() * 100
            print(f"| {what} | {way} | {of[:, 0].mean():+.2f} | {share:.0f} % | {of[:, 1].mean():+.1f} |")


if __name__ == "__main__":
    main()
