"""Every method on one base, for each of its weakest classes and for all of them: see docs/lab_book.md.

    python benchmarks/science/fit/contest.py MODEL.onnx NET.npz#held
        [--own NET.npz#seen] [--mirror on] [--learn 5000] [--folds 5]

The labelled samples that the base has not seen are cut into folds. Each fold is the test set once; the
methods learn from up to `--learn` of the others, a quarter of which validate. With --own they learn from
those samples instead, which are the base's own training samples. So every sample is met on test exactly once,
and the standard error over folds covers both what was learnt from and what was tested on.

The targets of a fold are the classes that do worst on its validation samples (with --own, where all of those
may be right: on samples of other folds). What does not depend on the target is fitted once per fold. All
methods are read at the same overall accuracy on test, and at their own operating point, which is set without
the test samples. --mirror is as of `fit`; where that judges on mirror images, the biases and the random
neurons do as well. With --oracles two classifiers of scikit-learn on the same tables stand beside them.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import replace

import numpy as np
from oracles import ORACLES

from onnxtweak.data.splits import View, stratified_split
from onnxtweak.engine.shared.logits import logits_pass
from onnxtweak.errors import ModelError
from onnxtweak.goal import ResolvedGoal, every_class
from onnxtweak.method.compare.comparison import CURVE, MethodResult, judge
from onnxtweak.method.compare.inputs import CompareInputs
from onnxtweak.method.compare.methods import METHODS, result_of_fit
from onnxtweak.method.fit.fit import settle, try_all
from onnxtweak.method.folds import fold_numbers
from onnxtweak.method.metrics import measure
from onnxtweak.method.table import Table
from onnxtweak.settings import (
    DataSettings,
    EngineSettings,
    FitSettings,
    JoinSettings,
    Preprocess,
    TapSettings,
)
from onnxtweak.stages.comparing.gather_inputs import gather_inputs
from onnxtweak.stages.open_for_tables import open_for_tables
from onnxtweak.stages.open_job import Job
from onnxtweak.types import silent

ONCE = (
    "all-class bias",
    "logit adjustment",
    "REPAIR",
    "tau-norm",
    "LWS",
    "cRT",
    "DFR",
    "random-n refit",
    "AAN",
)
PER_TARGET = ("bias", "join", "join + bias", "SR-1", "SR-2", "schedule", "OMP-n")
ALL_CLASSES = ("bias", "cRT", "random-n refit", "AAN")
MARGINS = (0.0, 0.5, 1.0)
ZERO = CURVE.index(0.0)
TAPS, JOIN = TapSettings(taps=()), JoinSettings()


def jobs(asked: argparse.Namespace):
    """For each fold a job whose test view is that fold, and samples to find the weakest classes on."""
    statistics = {} if asked.mean is None else {"mean": asked.mean, "std": asked.std}
    data = DataSettings(
        (asked.own or asked.pool,),
        test=(asked.pool,),
        preprocess=Preprocess(pixel_scale=asked.pixel_scale, **statistics),
    )
    engine = EngineSettings(device="cpu", threads=asked.threads)
    job = open_for_tables(asked.model, data, engine, TAPS, silent)
    pool, source = job.splits.test.dataset, job.splits.fit.dataset
    fold = fold_numbers(pool.labels, asked.folds, 0)
    for k in range(asked.folds):
        others = np.flatnonzero(fold != k)
        if asked.own:
            learn = np.arange(len(source))
        else:
            learn = np.random.default_rng(k).permutation(others)[: asked.learn]
        fit, validation = (learn[rows] for rows in stratified_split(source.labels[learn], (3, 1), k))
        views = [View(source, np.sort(rows)) for rows in (fit, validation)]
        splits = replace(
            job.splits,
            fit=views[0],
            validation=views[1],
            test=View(pool, np.flatnonzero(fold == k)),
            notes=(),
        )
        unseen = View(pool, others[: asked.learn]) if asked.own else views[1]
        yield replace(job, splits=splits), unseen


def weakest(job: Job, view: View, count: int) -> np.ndarray:
    """The classes that the base does worst on, ascending."""
    right = logits_pass(job.subject, view, job.engine, "find the worst").argmax(axis=1) == view.labels
    classes = np.unique(view.labels)
    share = [right[view.labels == c].mean() for c in classes]
    return np.sort(classes[np.argsort(share, kind="stable")[:count]])


def contest(asked: argparse.Namespace) -> dict:
    """Readings of every method: for each fold and target [at no overall loss, overall, targets]."""
    rows: dict[str, list] = {}
    overall: dict[str, list] = {}
    margins: dict[str, list] = {}
    kinds, names, sizes, seconds, chosen = {"one": [], "all": []}, [], [], {}, []
    for seed, (job, unseen) in enumerate(jobs(asked)):
        began = time.perf_counter()
        targets = weakest(job, unseen, asked.classes)
        settings = FitSettings(margin=asked.margin, mirror=asked.mirror)
        of, _, _ = gather_inputs(job, TAPS, ResolvedGoal(targets), JOIN, settings, seed)
        clock("passes", began, seconds)
        table, test = of.learning.table, of.test
        since = time.perf_counter()
        tried = try_all(of.learning, of.families, of.learning.folds(settings.folds, seed))
        clock("fit", since, seconds)
        chosen.append(min(tried, key=lambda one: one.loss).name)
        shared = results_of(of, (*ONCE, *(ORACLES if asked.oracles else ())), seconds)
        for i, target in enumerate(targets):
            names.append(job.names[target])
            one = ResolvedGoal(np.array([target]))
            here = replace(of, goal=one, rankings=[of.rankings[i]], joined=[of.joined[i]])
            results = results_of(here, PER_TARGET, seconds) | shared
            found = settle(table, tried, one, judged=of.judged, margin=settings.margin)
            results["fit"] = result_of_fit(table, found, one)
            kinds["one"].append(found.kind)
            add_base(rows, test, one)
            for name, result in results.items():
                made = judge(result, test, one, settings.margin)
                reading = [float(made.at[ZERO]), made.metrics.overall, made.metrics.target]
                rows.setdefault(name, []).append(reading)
            for margin in MARGINS:
                found = settle(table, tried, one, judged=of.judged, margin=margin)
                both = {"bias": results["bias"], "fit": result_of_fit(table, found, one)}
                for name, result in both.items():
                    made = judge(result, test, one, margin).metrics
                    margins.setdefault(f"{name}, margin {margin:g}", []).append([made.overall, made.target])
        for_all(of, tried, shared, overall, kinds, seconds)
        sizes = [len(view) for view in (job.splits.fit, job.splits.validation, job.splits.test)]
        print(f"# fold {seed}: {time.perf_counter() - began:.0f} s", file=sys.stderr, flush=True)
    return {
        "model": asked.model,
        "own": bool(asked.own),
        "folds": asked.folds,
        "targets": names,
        "samples": sizes,
        "kinds": {what: {kind: of.count(kind) for kind in sorted(set(of))} for what, of in kinds.items()},
        "chosen": chosen,
        "rows": rows,
        "overall": overall,
        "margins": margins,
        "seconds": seconds,
    }


def for_all(
    of: CompareInputs, tried, shared: dict[str, MethodResult], overall: dict, kinds: dict, seconds: dict
) -> None:
    """The same with all classes as targets: what matters is the overall accuracy."""
    every = ResolvedGoal(every_class(of.fit.labels, of.validation.labels))
    table = of.learning.table
    whole = replace(of, goal=every)
    results = {"bias": METHODS["bias"](whole)}
    results |= {name: shared[name] for name in (*ALL_CLASSES, *ORACLES) if name in shared}
    found = settle(table, tried, every, judged=of.judged, margin=of.settings.margin)
    results["fit"] = result_of_fit(table, found, every)
    kinds["all"].append(found.kind)
    base = measure(every.head.predict(of.test.Z), of.test.labels, every, of.test.Z)
    overall.setdefault("base", []).append(base.overall)
    for name, result in results.items():
        made = judge(result, of.test, every, of.settings.margin)
        overall.setdefault(name, []).append(made.metrics.overall)


def results_of(of: CompareInputs, methods, seconds: dict) -> dict[str, MethodResult]:
    found = {}
    for name in methods:
        since = time.perf_counter()
        try:
            found[name] = (METHODS | ORACLES)[name](of)
        except ModelError as error:
            print(f"# {name}: {error}", file=sys.stderr)
        clock(name, since, seconds)
    return found


def clock(name: str, since: float, seconds: dict) -> None:
    seconds[name] = seconds.get(name, 0.0) + time.perf_counter() - since


def add_base(rows: dict, test: Table, goal: ResolvedGoal) -> None:
    base = measure(goal.head.predict(test.Z), test.labels, goal, test.Z)
    rows.setdefault("base", []).append([base.target, base.overall, base.target])


def told(made: dict) -> str:
    """The tables, in Markdown: means over targets and folds, standard errors over folds."""
    folds = made["folds"]
    cube = {name: np.array(of).reshape(folds, -1, 3) * 100 for name, of in made["rows"].items()}
    own = "its own training samples" if made["own"] else "samples that it has not seen"
    lines = [
        f"{made['model']}, {own}; targets {' '.join(made['targets'])}; "
        f"fit, validation, test {made['samples']}; fit answered {made['kinds']}",
        f"chosen: {'; '.join(made['chosen'])}",
        "",
        "| method | targets at no overall loss | over bias | fit over it "
        "| delivered: overall over base | targets | over bias | fit over it |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, of in cube.items():
        cells = [
            interval(of[..., 0]),
            interval(of[..., 0] - cube["bias"][..., 0]),
            interval(cube["fit"][..., 0] - of[..., 0]),
            interval(of[..., 1] - cube["base"][..., 1]),
            interval(of[..., 2]),
            interval(of[..., 2] - cube["bias"][..., 2]),
            interval(cube["fit"][..., 2] - of[..., 2]),
        ]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    lines += ["", "| all classes | overall | over base |", "|---|---|---|"]
    base = np.array(made["overall"]["base"])[:, None] * 100
    for name, of in made["overall"].items():
        values = np.array(of)[:, None] * 100
        lines.append(f"| {name} | {interval(values)} | {interval(values - base)} |")
    lines += ["", "| margin | overall over base | targets over base |", "|---|---|---|"]
    for name, of in made["margins"].items():
        values = np.array(of).reshape(folds, -1, 2) * 100
        cells = (
            interval(values[..., 0] - cube["base"][..., 1]),
            interval(values[..., 1] - cube["base"][..., 2]),
        )
        lines.append(f"| {name} | {' | '.join(cells)} |")
    spent = ", ".join(f"{name} {s:.0f}" for name, s in made["seconds"].items())
    return "\n".join([*lines, "", f"seconds: {spent}"])


def interval(values: np.ndarray) -> str:
    """Mean and standard error over folds of values (folds, targets); without those that were not reached."""
    known = ~np.isnan(values)
    if not known.any():
        return "not reached"
    each = np.array([row[ok].mean() for row, ok in zip(values, known, strict=True) if ok.any()])
    error = each.std(ddof=1) / np.sqrt(len(each)) if len(each) > 1 else float("nan")
    missing = f" (not reached in {(~known).sum()} of {values.size})" if not known.all() else ""
    return f"{each.mean():.1f} ± {error:.1f}{missing}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("pool", help="labelled samples that the base has not seen")
    parser.add_argument("--own", help="learn from these, the base's own training samples")
    parser.add_argument("--learn", type=int, default=5000)
    parser.add_argument("--classes", type=int, default=2)
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--margin", type=float, default=FitSettings.margin)
    parser.add_argument("--mirror", choices=("auto", "off", "on"), default=FitSettings.mirror)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--pixel-scale", type=float)
    parser.add_argument("--mean", type=lambda text: tuple(map(float, text.split(","))))
    parser.add_argument("--std", type=lambda text: tuple(map(float, text.split(","))))
    parser.add_argument("--oracles", action="store_true", help="classifiers of scikit-learn as well")
    parser.add_argument("--json", help="also write all readings here")
    asked = parser.parse_args()
    made = contest(asked)
    if asked.json:
        with open(asked.json, "w", encoding="utf-8") as file:
            json.dump(made, file, indent=1)
    print(told(made))


if __name__ == "__main__":
    main()
