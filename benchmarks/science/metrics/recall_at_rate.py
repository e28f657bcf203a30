"""How much recall does `fit --metric recall@fpr=0.01` find, and is the limit kept on new samples?

Detectors are frozen encoders with a weak head (`detectors.py`). Their samples are divided anew a hundred
times: a part, the calibration samples, goes to `fit`, which reads what the head reads; the rest is the test.
Beside the written file, run by ONNX Runtime and cut where it always was (a probability of 0.5):

- the base at its own cut, and at the best cut for the test samples themselves, which nobody knows;
- the base's best cut on the calibration samples with the same margin (what `fit` calls the best biases);
- a fresh logistic regression by scikit-learn on the same hidden features and samples, standardised, its cut
  set on its cross-validated scores with the same margin.

    python -m benchmarks.science.metrics.recall_at_rate LETTER.npz [SPAM.onnx SPAM.npz] [--repeats N]

Writes nothing; prints a table for benchmarks/RESULTS.md. --hidden N : units of the hidden layer that `fit`
tries as well.
"""

from __future__ import annotations

import argparse
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
import onnx
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import onnxtweak
from benchmarks.science.metrics.detectors import HIDDEN, Detector, letter_detectors, mail_detectors, outputs
from onnxtweak.metric.asked import metric_of
from onnxtweak.metric.kinds import Predictions
from onnxtweak.metric.rate import RecallAt

LIMIT, LEVEL = 0.01, 0.8413
LETTERS, FEW = "BGR", 150
WAYS = ("base", "its best cut", "cut on calibration", "fit", "fresh head")


def at_cut(metric: RecallAt, score: np.ndarray, cut: float, y: np.ndarray) -> tuple[float, float, bool]:
    """Recall and false-positive rate in percent above a cut, and whether the limit is kept."""
    Z = np.column_stack([np.zeros(len(score)), score])
    recall, false, samples = metric.at_cut(Predictions(y, (score > cut).astype(np.int64), Z))
    return 100 * recall, 100 * false / samples, false <= LIMIT * samples


def of_one(
    detector: Detector,
    features: np.ndarray,
    rows: tuple[np.ndarray, np.ndarray],
    folder: Path,
    options: dict[str, int],
) -> tuple[list[tuple[float, float, bool]], str]:
    """What every one of WAYS does on the test samples, and the answer of `fit`. rows : calibration, test.

    options : more of those of `fit`.
    """
    metric = metric_of(f"recall@fpr={LIMIT}", ("0", "1"))
    assert isinstance(metric, RecallAt)
    calibration, test = rows
    x, y = detector.x[test], detector.y[test]
    model, data, new = (str(folder / name) for name in ("base.onnx", "data.npz", "new.onnx"))
    onnx.save(detector.model, model)
    np.savez(data, x=detector.x[calibration], y=detector.y[calibration])
    score = _log_odds(outputs(detector.model, detector.x)[0][:, 0])
    # `fit` learns from its validation split as well, a fourth of the samples; it has no test split.
    made = onnxtweak.fit(
        model,
        data=f"{data}#[:{len(calibration) * 3 // 4}]",
        val=f"{data}#[{len(calibration) * 3 // 4}:]",
        metric=metric.name,
        taps=HIDDEN,
        output=new,
        force=True,
        threads=1,
        **options,
        anyway=True,  # heads of few samples hardly ever say 1, which looks like samples prepared wrongly
    )
    known = score[calibration], detector.y[calibration]
    own = metric.cut(np.column_stack([np.zeros(len(known[0])), known[0]]), known[1], LEVEL)
    base = at_cut(metric, score[test], 0.0, y)
    Z = np.column_stack([np.zeros(len(test)), score[test]])
    best = 100 * metric.value(Predictions(y, (score[test] > 0).astype(np.int64), Z)), 100 * LIMIT, True
    found = at_cut(metric, outputs(onnx.load(new), x)[0][:, 0], 0.5, y)
    head = make_pipeline(StandardScaler(), LogisticRegression(max_iter=3000))
    held_out = cross_val_predict(
        head, features[calibration], detector.y[calibration], cv=5, method="decision_function"
    )
    head.fit(features[calibration], detector.y[calibration])
    cut = metric.cut(np.column_stack([np.zeros(len(held_out)), held_out]), detector.y[calibration], LEVEL)
    fresh = at_cut(metric, head.decision_function(features[test]), cut, y)
    return [base, best, at_cut(metric, score[test], own, y), found, fresh], made.verdict.answer


def _log_odds(p: np.ndarray) -> np.ndarray:
    p = np.clip(p.astype(np.float64), 1e-12, 1 - 1e-7)
    return np.log(p / (1 - p))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("files", nargs="+")
    parser.add_argument("--repeats", type=int, default=100)
    parser.add_argument("--letters", default=LETTERS, help="a detector for each of them")
    parser.add_argument("--hidden", type=int, default=0, help="units of the hidden layer that `fit` tries")
    asked = parser.parse_args()
    warnings.filterwarnings("ignore")
    detectors = letter_detectors(asked.files[0], asked.letters, FEW)
    if len(asked.files) == 3:
        detectors += mail_detectors(*asked.files[1:], FEW)
    print("| detector | " + " | ".join(WAYS) + " | answers of fit |\n|---|" + "--:|" * len(WAYS) + "---|")
    begin = time.perf_counter()
    for detector in detectors:
        features, found, answers = detector.features(), [], []
        for seed in range(asked.repeats):
            order = np.random.default_rng(1000 + seed).permutation(len(detector.y))
            half = min(len(order) // 2, 4000)
            with tempfile.TemporaryDirectory() as folder:
                options = {"seed": seed, "hidden": asked.hidden}
                rows = order[:half], order[half:]
                ways, answer = of_one(detector, features, rows, Path(folder), options)
            found.append(ways)
            answers.append(answer)
        figures = np.array(found, np.float64)
        cells = [
            f"{recall:.1f} at {rate:.2f} ({kept:.0%})"
            for recall, rate, kept in zip(*figures.mean(axis=0).T, strict=True)
        ]
        counted = ", ".join(f"{answer} {answers.count(answer)}" for answer in dict.fromkeys(answers))
        print(f"| {detector.name} | " + " | ".join(cells) + f" | {counted} |", flush=True)
    print(f"\n{time.perf_counter() - begin:.0f} s in all")


if __name__ == "__main__":
    main()
