"""How long does `fit` learn on a table, beside scikit-learn's multinomial logistic regression on the same?

    python benchmarks/speed/learning_time.py [--rows 10000] [--neurons 2000] [--classes 50]
        [--case telling --case noisy ...] [--goal target --goal slice --goal f1 ...] [--hidden 96]
        [--families 2] [--threads 2] [--linear] [--sklearn-iterations 100]

Tables are made up: a mixture of Gaussians, one per class, seen through rectified neurons that share their
inputs and have noise of their own; a base that knows half of the inputs, its logits divided by 138. Cases:

    telling      neurons tell much that the base does not know, so that weak ridges are tried as well
    noisy        they tell little
    separable    the base is right on every sample
    rare         as noisy, but one class has 20 samples, so that there may be 20 folds
    awkward      a quarter of the columns twice, an eighth constant, scales from 1e-4 to 1e4

Goals: `target` is class 0, `slice` a tenth of the rows drawn at random, any other word one of --metric.

`fit` is the product's own path from table to answer (`method.fit.by_goal.fit_goal` at its defaults: the first
half of the columns and all of them as families, ridges, folds, the MLP, the operating point), and then the
patch. scikit-learn is one fit of LogisticRegression (L-BFGS, its defaults) on the same rows: standardised
columns and the calibrated logits, float32, at the ridge that `fit` chose (C = 1 / (ridge * rows)); no choice
of C, no folds. On the largest tables its usual 100 iterations take longer than `fit`: fewer can be asked for,
or 0. Both are judged on 5,000 new samples, in nats. With --linear the linear patch alone, without the MLP and
without biases that spend the surplus, is timed as well. Each runs in a process of its own; peak
memory is that process's, the table included. On a busy machine seconds of the processor, of all threads, tell
more than those of the clock: two cores of one's own take half of them, at best.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import platform
import re
import resource
import sys
import time
import warnings
from dataclasses import replace
from pathlib import Path

THREADS = [sys.argv[at + 1] for at, word in enumerate(sys.argv[:-1]) if word == "--threads"] or ["2"]
for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = THREADS[-1]  # before NumPy loads its BLAS

import numpy as np  # noqa: E402

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from onnxtweak.goal import ResolvedGoal, Slice  # noqa: E402
from onnxtweak.method.fit.by_goal import fit_goal  # noqa: E402
from onnxtweak.method.fit.learning import Learning  # noqa: E402
from onnxtweak.method.fit.linear import fit_linear  # noqa: E402
from onnxtweak.method.folds import Folds  # noqa: E402
from onnxtweak.method.softmax import log_loss  # noqa: E402
from onnxtweak.method.solvers.standard import mean_and_scale, standardised  # noqa: E402
from onnxtweak.method.table import Table  # noqa: E402
from onnxtweak.method.temperature import fit_temperature  # noqa: E402
from onnxtweak.metric.asked import metric_of  # noqa: E402
from onnxtweak.settings import FitSettings  # noqa: E402

SPREAD = {"telling": 0.55, "noisy": 0.3, "rare": 0.3, "separable": 3.0, "awkward": 0.35}
LATENT, NOISE, TEMPERATURE, NEW = 64, 0.5, 1 / 138, 5000


def tables(case: str, rows: int, neurons: int, classes: int) -> tuple[Table, Table]:
    """The table to learn from, and one of new samples."""
    rng = np.random.default_rng(0)
    means = rng.standard_normal((classes, LATENT), np.float32) * SPREAD[case]
    mix = rng.standard_normal((LATENT, neurons), np.float32) / np.float32(np.sqrt(LATENT))
    scale = 10 ** rng.uniform(-4, 4, neurons).astype(np.float32)
    known = slice(0, LATENT // 2)

    def one(samples: int) -> Table:
        labels = rng.integers(0, classes, samples)
        if case == "rare":
            labels[np.flatnonzero(labels == classes - 1)[20:]] = 0
        hidden = means[labels] + rng.standard_normal((samples, LATENT), np.float32)
        T = hidden @ mix
        T += NOISE * rng.standard_normal(T.shape, np.float32)
        np.maximum(T, 0, out=T)
        if case == "awkward":
            quarter = neurons // 4
            T[:, quarter : 2 * quarter] = T[:, :quarter]
            T[:, 2 * quarter : 5 * quarter // 2] = 1
            T *= scale
        Z = hidden[:, known] @ means[:, known].T - (means[:, known] ** 2).sum(axis=1) / 2
        return Table(T, Z * np.float32(TEMPERATURE), labels)

    return one(rows), one(NEW)


def asked(what: str, table: Table) -> tuple[ResolvedGoal, Learning]:
    """The goal, and what is learnt from. what : as of --goal."""
    learning, drop = Learning(table, np.ones(len(table.labels), bool)), FitSettings.max_class_drop
    if what == "target":
        return ResolvedGoal(np.array([0]), max_class_drop=drop), learning
    goal = ResolvedGoal(np.unique(table.labels), max_class_drop=drop)
    if what != "slice":
        return replace(goal, metric=metric_of(what, list(map(str, range(table.Z.shape[1]))))), learning
    groups = (np.random.default_rng(1).random(len(table.labels)) < 0.1).astype(np.int64)
    return replace(goal, slice=Slice("group", ("most", "some"), 1, named=True)), learning.sliced(groups)


def of_fit(table: Table, new: Table, families: int, hidden: int, what: str) -> dict[str, object]:
    """The product's path, and how its patch does without the biases that spend the surplus."""
    columns = np.arange(table.T.shape[1])
    parts = {"half": columns[: len(columns) // 2], "all": columns}
    named = {name: parts[name] for name in list(parts)[-families:]}
    goal, learning = asked(what, table)
    found = fit_goal(learning, named, goal, FitSettings(hidden=hidden))
    Z = new.Z
    if found.candidate is not None:
        Z = new.patched(found.candidate.columns, found.candidate.patch)
    tau = fit_temperature(table.Z, table.labels)
    tried = re.search(r", ridge ([0-9.e-]+)", "\n".join(found.notes))
    ridge = float(tried[1]) if tried else 0.0
    return {"loss": log_loss(Z / tau, new.labels), "answer": found.notes[-1], "ridge": ridge}


def of_linear(table: Table, new: Table) -> dict[str, object]:
    """The linear patch of all columns alone: every ridge, every fold."""
    tau = fit_temperature(table.Z, table.labels)
    folds = Folds.of(table.labels, None, 0)
    found = fit_linear(table.cooled(tau), np.arange(table.T.shape[1]), "all", folds)
    Z = new.cooled(tau).patched(found.columns, found.patch)
    return {"loss": log_loss(Z, new.labels), "answer": found.name}


def of_sklearn(table: Table, new: Table, ridge: float, iterations: int) -> dict[str, object]:
    """One multinomial logistic regression."""
    from sklearn.linear_model import LogisticRegression

    tau = fit_temperature(table.Z, table.labels)
    mean, scale = mean_and_scale(table.T)
    X, other = (
        np.hstack([standardised(each.T, mean, 1 / scale), each.cooled(tau).Z]) for each in (table, new)
    )
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        model = LogisticRegression(C=1 / (ridge * len(X)), max_iter=iterations).fit(X, table.labels)
    scores = np.full((len(other), table.Z.shape[1]), -1e3)
    scores[:, model.classes_] = model.decision_function(other)
    note = "; did not converge" if any("converge" in str(each.message) for each in said) else ""
    return {"loss": log_loss(scores, new.labels), "answer": f"{model.n_iter_.max()} iterations{note}"}


def measure(queue, size, function, *args) -> None:
    """Run one of the above in this process and put its figures into the queue."""
    table, new = tables(*size)
    tau = fit_temperature(table.Z, table.labels)
    base = log_loss(new.Z / tau, new.labels)
    clock, processor = time.perf_counter(), time.process_time()
    figures = function(table, new, *args)
    figures["seconds"] = time.perf_counter() - clock
    figures["processor"] = time.process_time() - processor
    figures["peak"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    queue.put(figures | {"base": base})


def measured(*args) -> dict:
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    child = context.Process(target=measure, args=(queue, *args))
    child.start()
    while child.is_alive() and queue.empty():
        time.sleep(0.1)
    figures = queue.get(timeout=10)
    child.join()
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--neurons", type=int, default=2000)
    parser.add_argument("--classes", type=int, default=50)
    parser.add_argument("--case", action="append", choices=SPREAD)
    parser.add_argument("--goal", action="append", metavar="target|slice|METRIC")
    parser.add_argument("--hidden", type=int, default=FitSettings.hidden)
    parser.add_argument("--families", type=int, default=2, choices=(1, 2))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--linear", action="store_true")
    parser.add_argument("--sklearn-iterations", type=int, default=100)
    args = parser.parse_args()
    print(
        f"{args.rows:,} rows, {args.neurons:,} neurons, {args.classes:,} classes, {args.threads} threads,"
        f" {platform.machine()}, load {os.getloadavg()[0]:.1f}, NumPy {np.__version__}\n"
    )
    print("| case | what | seconds | of the processor | peak GiB | log-loss | base's | answer |")
    print("|---|---|--:|--:|--:|--:|--:|---|")
    for case in args.case or list(SPREAD):
        size = case, args.rows, args.neurons, args.classes
        goals = args.goal or ["target"]
        wanted = {f"fit, {goal}": (of_fit, args.families, args.hidden, goal) for goal in goals}
        wanted |= {"linear alone": (of_linear,)} if args.linear else {}
        if args.sklearn_iterations:
            wanted["scikit-learn, one C"] = (of_sklearn, args.sklearn_iterations)
        ridge = 0.0
        for what, (function, *more) in wanted.items():
            run = measured(size, function, *((ridge, *more) if function is of_sklearn else more))
            ridge = run.get("ridge", ridge)
            print(
                f"| {case} | {what} | {run['seconds']:.1f} | {run['processor']:.1f} | {run['peak']:.2f} |"
                f" {run['loss']:.4f} | {run['base']:.4f} | {run['answer']} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
