"""Who may judge what is learnt from samples that a net knows by heart? See docs/lab_book.md.

    python benchmarks/science/fit/memorised.py MODEL.onnx NET.npz#held --own NET.npz#seen [--learn 1500]
        [--temperature T]

A linear patch on the widest family is learnt from the net's own training images, or from these and their
mirror images, at every ridge. The ridge (by log-loss) and the bias of a target (no overall loss allowed, a
margin of one standard error) are then set on samples that the weights have not been fitted to: the own
images, their mirror images, or `--learn` samples that the net has never seen. Everything is read on folds of
the other unseen samples, for the two classes that do worst there; standard errors are over the folds.
--temperature is what logits are divided by before anything is learnt, instead of what the judged samples say.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

import numpy as np
from contest import TAPS, ZERO, interval, jobs, weakest

from onnxtweak.goal import ResolvedGoal
from onnxtweak.method.compare.comparison import CURVE, readings
from onnxtweak.method.fit.candidate import FitCandidate
from onnxtweak.method.fit.learning import Learning
from onnxtweak.method.fit.linear import fit_linear
from onnxtweak.method.metrics import measure
from onnxtweak.method.softmax import log_loss
from onnxtweak.method.table import Table
from onnxtweak.method.temperature import fit_temperature
from onnxtweak.method.tuning.target_bias import set_target_bias
from onnxtweak.settings import FitSettings
from onnxtweak.stages.choose_neurons import choose_neurons
from onnxtweak.stages.gather import gather_table, gather_tables, learning_samples

RIDGES = (30.0, 10.0, 3.0, 1.0, 0.3, 0.1, 0.03, 0.01)
OWN, MIRROR, UNSEEN = "its own images", "their mirror images", "unseen images"


@dataclass(frozen=True)
class Judge:
    """Samples (n), and their logits (n, C) under each patch, from weights that were not fitted to them."""

    base: np.ndarray
    labels: np.ndarray
    held_out: list[np.ndarray]

    def losses(self) -> np.ndarray:
        """Log-loss of each patch, at the temperature that the judge finds the base to have."""
        temperature = fit_temperature(self.base, self.labels)
        return np.array([log_loss(Z / Z.dtype.type(temperature), self.labels) for Z in self.held_out])


def paths(
    learning: Learning, columns: np.ndarray, temperature: float | None
) -> dict[str, list[FitCandidate]]:
    """A patch at each ridge, learnt from the own images alone, and from them and their mirror images.

    learning : judged on copies, so that its copies are the images themselves.
    """
    own = Learning(learning.copies, learning.judged)
    found = {}
    for name, each in ((OWN, own), (f"these and {MIRROR}", learning)):
        folds = each.folds(None, 0)
        cool, divisor = each.cooled(folds)
        rows, of_rows = cool.rows(folds)
        if temperature is not None:
            rows, divisor = rows.cooled(temperature / divisor), temperature
        found[name] = [
            fit_linear(rows, columns, name, of_rows, ridges=(ridge,)).warmed(divisor) for ridge in RIDGES
        ]
    return found


def reading(path: list[FitCandidate], judge: Judge, test: Table, columns: np.ndarray, targets) -> list:
    """The ridge, and of each target [at no overall loss, overall gained, target] in percent."""
    place = int(judge.losses().argmin())
    Z, rows = path[place].patch.applied(test.Z, test.T[:, columns]), []
    for target in targets:
        goal = ResolvedGoal(np.array([target]))
        choice = set_target_bias(judge.held_out[place], judge.base, judge.labels, goal)
        answer = Z + choice.bias.astype(Z.dtype) if choice.holds else test.Z
        was, now = (measure(each.argmax(axis=1), test.labels, goal, each) for each in (test.Z, answer))
        at = readings(Z, test.Z, test.labels, goal, CURVE)[ZERO]
        rows.append([at * 100, (now.overall - was.overall) * 100, now.target * 100])
    return [RIDGES[place], rows]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("pool", help="labelled samples that the base has not seen")
    parser.add_argument("--own", required=True, help="the base's own training images")
    parser.add_argument("--learn", type=int, default=1500)
    parser.add_argument("--temperature", type=float)
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.set_defaults(pixel_scale=None, mean=None, std=None)
    asked = parser.parse_args()
    made: dict[tuple[str, str], list] = {}
    path: dict[str, list[FitCandidate]] = {}
    for job, unseen in jobs(asked):
        watched = choose_neurons(job, TAPS, FitSettings.neurons)
        if not path:
            settings = FitSettings(mirror="on")
            learning, notes = learning_samples(
                job, gather_tables(job, watched.neurons), watched.neurons, settings
            )
            print("; ".join(notes))
            columns = max(watched.families.values(), key=len)
            path, samples = paths(learning, columns, asked.temperature), len(learning.table.labels)
        test, others = (
            gather_table(job, view, watched.neurons, "test") for view in (job.splits.test, unseen)
        )
        targets = weakest(job, unseen, 2)
        for name, each in path.items():
            own = slice(-samples, None)
            judges = {
                OWN: Judge(learning.copies.Z, learning.copies.labels, [one.held_out[own] for one in each]),
                UNSEEN: Judge(
                    others.Z,
                    others.labels,
                    [one.patch.applied(others.Z, others.T[:, columns]) for one in each],
                ),
            }
            if name != OWN:
                held_out = [one.held_out[:samples] for one in each]
                judges[MIRROR] = Judge(learning.table.Z, learning.table.labels, held_out)
            for by, judge in judges.items():
                made.setdefault((name, by), []).append(reading(each, judge, test, columns, targets))
    print("| learnt from | judged by | ridges | targets at no overall loss | delivered: overall | targets |")
    print("|---|---|---|---|---|---|")
    for (name, by), rows in made.items():
        ridges = ", ".join(f"{ridge:g}" for ridge in sorted({ridge for ridge, _ in rows}))
        cube = np.array([each for _, each in rows])
        print(f"| {name} | {by} | {ridges} | {' | '.join(interval(cube[..., i]) for i in range(3))} |")


if __name__ == "__main__":
    main()
