"""Table 3.11, Fig. 3.11: times of training, retraining, join, SR and augmentation; seconds per 1,000
iterations.

CNN-3 on CIFAR-10, one thread each, in turns: one round on the base of each seed. Commands are timed as a user
calls them, from opening the files to the proofs of the new one.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from math import log10

import numpy as np

import onnxtweak
from benchmarks.science.thesis.data import NAMES, as_file, divide
from benchmarks.science.thesis.methods import weakest
from benchmarks.science.thesis.nets import build
from benchmarks.science.thesis.pictures import curves
from benchmarks.science.thesis.recipes import retrainings
from benchmarks.science.thesis.scores import ENGINE
from benchmarks.science.thesis.sizes import Options, base_recipe
from benchmarks.science.thesis.tables import Page, command, grid, sizes_told
from benchmarks.science.thesis.thesis_numbers import TABLE_3_11_GOOGLENET, TABLE_3_11_JOIN
from benchmarks.science.thesis.train import learn, trained
from benchmarks.science.thesis.words import flow
from benchmarks.speed.learning_speed import augment_seconds, minibatch_retrain_seconds
from onnxtweak.method.table import all_neurons, gather
from onnxtweak.settings import DataSettings, TapSettings
from onnxtweak.stages.open_for_tables import open_for_tables
from onnxtweak.theta.gaps import reciprocal_gaps
from onnxtweak.theta.numba import backend as numba_backend
from onnxtweak.types import silent

# Iterations that are timed of what goes through the net, and of what does not.
_THROUGH = {"quick": 20, "default": 50, "full": 200}
_ON_TABLES = 1000
_BATCH = 64
# Samples of the thesis's join, and of the table that theta alone is timed on.
_THESIS_SAMPLES, _THETA_SAMPLES = 73_257, 1024
# Stages of a command that run the net.
_RUNS = ("score", "collect", "validate", "screen", "test: base", "test: tweaked")


@dataclass(frozen=True)
class Took:
    """Seconds: of all of it, of running the net, of 1,000 iterations; NaN: there are none. target,
    overall."""

    whole: float
    running: float
    per_thousand: float
    target: float = float("nan")
    overall: float = float("nan")


Round = dict[str, Took]


def run(options: Options) -> Page:
    rounds, theta = [], []
    for seed in options.seeds:
        rounds.append(_round(options, seed))
        theta.append(_theta_seconds(options, seed))
        print(f"# table_3_11: seed {seed} done", flush=True)
    return page(rounds, theta, options)


def page(rounds: Sequence[Round], theta: Sequence[float], options: Options) -> Page:
    """theta : seconds of each seed, see `_theta_seconds`."""
    done = _THROUGH[options.sizes.name]
    blocks = [
        flow(
            f"""{sizes_told(options, "cnn3")} Medians over the seeds, least and most in brackets; one thread
            of a machine that is shared, so ratios of one run say more than seconds. Per 1,000 iterations of
            batch {_BATCH}: training and retraining timed over {done}, the rest over {_ON_TABLES:,}; SR by
            minibatches is the thesis's way, onnxtweak goes to the optimum instead. *Running the net* is the
            part of the seconds in which samples go through the base or the new file."""
        ),
        _table(rounds),
        _theta_said(theta),
        "![Target accuracy against seconds](pictures/table_3_11_times.svg)",
        "\n".join(_said(rounds)),
    ]
    raw = {
        "rounds": [{name: asdict(took) for name, took in of.items()} for of in rounds],
        "theta_seconds": theta,
    }
    points = [
        (name, [(log10(_median(rounds, name, "whole")), 100 * _mean(rounds, name, "target"))])
        for name in rounds[0]
        if not np.isnan(_mean(rounds, name, "target"))
    ]
    svg = curves(
        points, "log10 of seconds", "weakest class, %", "Target accuracy against seconds", joined=False
    )
    title = "Table 3.11, Fig. 3.11: times"
    return Page("table_3_11", title, blocks, raw, {"table_3_11_times": svg})


def _round(options: Options, seed: int) -> Round:
    recipe, size = base_recipe(options, "cnn3", seed), options.sizes.nets["cnn3"]
    base, of = trained(recipe, options.data, options.work), divide(recipe.sample, options.data)
    target = weakest(base, of.y_held)
    own, again = of.y_test == target[0], retrainings(recipe, target, size.more)
    step = _step_seconds(options, seed)

    def through(net, whole: float) -> Took:
        right = net.test.argmax(axis=1) == of.y_test
        return Took(whole, whole, step, float(right[own].mean()), float(right.mean()))

    retrained = trained(again["Retraining-1"], options.data, options.work)
    anew = trained(again["Retraining-3"], options.data, options.work)
    found: Round = {
        "training the base": through(base, base.seconds),
        "Retraining-1": through(retrained, retrained.seconds),
        "Retraining-3 (anew)": through(anew, anew.seconds),
    }
    found |= _commands(options, seed, NAMES["cifar10"][target[0]])
    slow = minibatch_retrain_seconds(_ON_TABLES, _BATCH)
    found["SR by minibatches"] = Took(float("nan"), float("nan"), slow)
    augment = augment_seconds(_ON_TABLES, _BATCH, np)
    found["augment (AAN)"] = replace(found["augment (AAN)"], per_thousand=augment)
    return found


def _commands(options: Options, seed: int, target: str) -> Round:
    """Every command once, its file written and proven."""
    recipe = base_recipe(options, "cnn3", seed)
    base = trained(recipe, options.data, options.work)
    samples = as_file(recipe.sample, options.data, options.work)
    path = options.work / "written" / f"{recipe.name}-timed.onnx"
    path.parent.mkdir(parents=True, exist_ok=True)
    shared = {
        "data": f"{samples}#fit",
        "test": f"{samples}#test",
        "seed": seed,
        "device": "cpu",
        "threads": 1,
        "output": str(path),
        "force": True,
    }
    calls = {
        "join": lambda: onnxtweak.join(base.model, target=target, **shared),
        "SR-1, to the optimum": lambda: onnxtweak.retrain(base.model, target=target, penalty=1, **shared),
        "augment (AAN)": lambda: onnxtweak.augment(base.model, **shared),
        "fit": lambda: onnxtweak.fit(base.model, target=target, **shared),
    }
    own = NAMES["cifar10"].index(target)
    found = {}
    for name, call in calls.items():
        since = time.perf_counter()
        made = call()
        whole = time.perf_counter() - since
        running = sum(made.run.seconds.get(stage, 0.0) for stage in _RUNS)
        found[name] = Took(
            whole, running, float("nan"), float(made.after.per_class[own]), float(made.after.overall)
        )
    return found


def _step_seconds(options: Options, seed: int) -> float:
    """1,000 iterations of training the base; a penalty on some samples costs nothing more."""
    recipe = base_recipe(options, "cnn3", seed)
    of = divide(recipe.sample, options.data)
    few = replace(of, x_held=of.x_held[:_BATCH], y_held=of.y_held[:_BATCH])
    net = build("cnn3", "cifar10", of.x_train.shape[1:], of.classes)
    ones, count = np.ones(len(of.y_train)), _THROUGH[options.sizes.name]
    seconds = []
    for iterations in (2, 2, count):  # the first warms up
        rows = np.resize(np.arange(len(of.y_train)), iterations * _BATCH)
        since = time.perf_counter()
        learn(net, few, rows, ones, 1, _BATCH, recipe.rate, seed)
        seconds.append(time.perf_counter() - since)
    return (seconds[2] - seconds[1]) / (count - 2) * 1000


def _theta_seconds(options: Options, seed: int) -> float:
    """Theta of CNN-3's 45,056 neurons for 10 classes and the thesis's samples, without running the net."""
    recipe = base_recipe(options, "cnn3", seed)
    model = trained(recipe, options.data, options.work).model
    samples = as_file(recipe.sample, options.data, options.work)
    data = DataSettings((f"{samples}#fit",), seed=seed)
    job = open_for_tables(str(model), data, ENGINE, TapSettings(), silent)
    view = replace(job.splits.fit, rows=job.splits.fit.rows[:_THETA_SAMPLES])
    table = gather(job.subject, view, all_neurons(job.taps), job.engine, "collect")
    classes, neurons = np.arange(10), table.T.shape[1]
    gaps = reciprocal_gaps(table.Z, table.labels, classes)
    hi, lo = np.zeros((10, neurons), np.float32), np.zeros((10, neurons), np.float32)
    total, peak = np.zeros((10, neurons)), np.zeros((10, neurons), np.float32)
    bad, spent = np.zeros(neurons, bool), 0.0
    for start in range(0, len(table.labels), _BATCH):
        part = slice(start, start + _BATCH)
        V = np.ascontiguousarray(table.T[part])
        since = time.perf_counter()
        numba_backend.fold_limits(V, gaps.limit[part], hi, lo, bad)
        numba_backend.fold_sums(V, table.labels[part], total, peak)
        numba_backend.find_survivors(V, gaps.wanted[part], hi, lo)
        if start:  # the first compiles
            spent += time.perf_counter() - since
    return spent / (len(table.labels) - _BATCH) * _THESIS_SAMPLES


def _table(rounds: Sequence[Round]) -> str:
    step = _median(rounds, "training the base", "per_thousand")
    rows = []
    for name in rounds[0]:
        each = _median(rounds, name, "per_thousand")
        rows.append(
            [
                name,
                _spread(rounds, name, "whole"),
                _spread(rounds, name, "running"),
                _spread(rounds, name, "per_thousand"),
                "" if np.isnan(each) else f"{step / each:,.0f}",
                *(_percent(_mean(rounds, name, what)) for what in ("target", "overall")),
            ]
        )
    head = ["what", "seconds", "of these running the net", "per 1,000 iterations", "times as fast"]
    return grid([*head, "weakest class", "overall"], rows)


def _theta_said(theta: Sequence[float]) -> str:
    return flow(
        f"""The thesis's join takes {TABLE_3_11_JOIN} s on four GTX 1080 Ti for 45,056 neurons, 73,257 images
        and 10 classes, the forward pass left out. Theta for as much, of values that lie in memory, takes
        {np.median(theta):.1f} s on one core here ({min(theta):.1f} to {max(theta):.1f}; timed on
        {_THETA_SAMPLES:,} images). Its other time, {TABLE_3_11_GOOGLENET:,} s for GoogLeNet on ImageNet with
        table V on disk, has no counterpart at this size."""
    )


def _said(rounds: Sequence[Round]) -> list[str]:
    """What the numbers say, in sentences that depend on them."""
    base, again = (_median(rounds, name, "whole") for name in ("training the base", "Retraining-1"))
    whole = {name: _median(rounds, name, "whole") for name in ("join", "SR-1, to the optimum", "fit")}
    told = ", ".join(f"{name} {again / seconds:.1f}" for name, seconds in whole.items())
    share = _median(rounds, "join", "running") / whole["join"]
    step, slow = (
        _median(rounds, name, "per_thousand") for name in ("training the base", "SR by minibatches")
    )
    return [
        flow(
            f"""- Against Retraining-1 ({again:.0f} s), whole commands are as many times as fast: {told};
            training the base took {base:.0f} s."""
        ),
        f"- Of a join's seconds, {share:.0%} go by while samples run through a net.",
        f"- An iteration of SR by minibatches costs a {step / slow:,.0f}th of one through the net.",
    ]


def _percent(share: float) -> str:
    return "" if np.isnan(share) else f"{share * 100:.1f}"


def _spread(rounds: Sequence[Round], name: str, what: str) -> str:
    values = [getattr(of[name], what) for of in rounds]
    if np.isnan(values).any():
        return ""
    digits = 1 if np.median(values) >= 1 else 2
    return f"{np.median(values):.{digits}f} ({min(values):.{digits}f}, {max(values):.{digits}f})"


def _median(rounds: Sequence[Round], name: str, what: str) -> float:
    return float(np.median([getattr(of[name], what) for of in rounds]))


def _mean(rounds: Sequence[Round], name: str, what: str) -> float:
    return float(np.mean([getattr(of[name], what) for of in rounds]))


if __name__ == "__main__":
    command(run, __doc__)
