"""All methods beside each other for one target class: what tables 3.3, 3.4 and 3.5 have in common."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

import numpy as np

import onnxtweak
from benchmarks.science.thesis.data import NAMES, as_file, divide
from benchmarks.science.thesis.methods import (
    Reading,
    Readings,
    read_logits,
    readings_of,
    thesis_rivals,
    weakest,
)
from benchmarks.science.thesis.pictures import curves
from benchmarks.science.thesis.recipes import Recipe, retrainings
from benchmarks.science.thesis.sizes import Options, base_recipe
from benchmarks.science.thesis.tables import Page, cell, grid, interval, sizes_told
from benchmarks.science.thesis.thesis_numbers import TABLE_3_3, told
from benchmarks.science.thesis.train import logits, trained

HEAD = [
    "method",
    "target",
    "overall",
    "target at equal overall",
    "at 1 point less",
    "over bias",
    "E: mean",
    "E: SD",
    "parameters",
]


def rivals_page(
    name: str,
    title: str,
    net: str,
    options: Options,
    *,
    only: Sequence[str] = (),
    taps: str = "",
    calls: Sequence[str] = ("join",),
    thesis: bool = False,
) -> Page:
    """only : which retrainings; empty: all. taps : those of the thesis, where they are not all activations.

    calls : functions of onnxtweak that are called as a user would, on the first base. thesis : whether its
    own numbers stand beside ours.
    """
    size = options.sizes.nets[net]
    found, targets = [], []
    for seed in options.seeds:
        base = base_recipe(options, net, seed)
        before, of = trained(base, options.data, options.work), divide(base.sample, options.data)
        target = weakest(before, of.y_held)
        rivals = retrainings(base, target, size.more)
        rivals = {key: recipe for key, recipe in rivals.items() if not only or key in only}
        rows = {"base": read_logits(before.test, before.test, of.y_test, target)}
        rows |= thesis_rivals(rivals, base, target, options)
        rows |= readings_of(base, target, options)
        if taps:
            few = readings_of(base, target, options, ("join", "SR-1"), taps=(taps,))
            rows |= {f"{key}, taps {taps}": reading for key, reading in few.items()}
        found.append(rows)
        targets.append(target)
    classes = [NAMES["cifar10"][t] for (t,) in targets]
    picture = f"{name}_{net}"
    blocks = [
        f"Targets, by seed: {', '.join(classes)}. {sizes_told(options, net)} Epochs of a retraining:"
        f" {size.more}{' (Retraining-3 starts anew)' if 'Retraining-3' in found[0] else ''}.",
        methods_table(found, thesis),
        f"![Target against overall accuracy of every method](pictures/{picture}.svg)",
        "\n".join(said(found)),
    ]
    files = written_files(base_recipe(options, net, options.seeds[0]), classes[0], calls, options)
    blocks += [
        f"Called as a user would, on the first base ({classes[0]}), and measured on the files written:",
        grid(["call", "target", "overall", "bytes added", "checks passed"], files),
        _agreement(calls, files, found[0]),
    ]
    read = [{key: asdict(reading) for key, reading in rows.items()} for rows in found]
    raw = {"targets": classes, "readings": read, "files": files}
    points = [(key, [(_mean(found, key, "overall"), _mean(found, key, "target"))]) for key in found[0]]
    svg = curves(
        points, "overall, %", "target, %", "Target against overall accuracy of every method", joined=False
    )
    return Page(name, title, blocks, raw, {picture: svg})


def methods_table(found: Sequence[Readings], thesis: bool = False) -> str:
    """One row a method; `found` has one mapping a seed."""
    rows = []
    for key in found[0]:
        of = [rows_of[key] for rows_of in found]
        over = [r.at_equal - rows_of["bias"].at_equal for r, rows_of in zip(of, found, strict=True)]
        row = [
            key,
            cell([r.target for r in of]),
            cell([r.overall for r in of]),
            cell([r.at_equal for r in of]),
            cell([r.at_one for r in of]),
            cell(over, sign=True) if key != "bias" else "",
            f"{np.mean([r.E for r in of]):.1f}",
            f"{np.std([r.E for r in of], ddof=1):.1f}",
            f"{np.mean([r.parameters for r in of]):,.0f}",
        ]
        if thesis:
            row += [told(number) for number in TABLE_3_3.get(key, (None, None))]
        rows.append(row)
    return grid([*HEAD, "thesis: target", "overall"] if thesis else HEAD, rows)


def written_files(base: Recipe, target: str, calls: Sequence[str], options: Options) -> list[list[str]]:
    """A row for each call, measured anew on the file that onnxtweak wrote."""
    net, of = trained(base, options.data, options.work), divide(base.sample, options.data)
    samples = as_file(base.sample, options.data, options.work)
    folder = options.work / "written"
    folder.mkdir(parents=True, exist_ok=True)
    asked = {
        "data": f"{samples}#fit",
        "test": f"{samples}#test",
        "device": "cpu",
        "threads": 1,
        "force": True,
    }
    own = of.y_test == NAMES["cifar10"].index(target)
    rows = []
    for call in calls:
        path = folder / f"{base.name}-{call}.onnx"
        which = {} if call == "augment" else {"target": target}
        made = getattr(onnxtweak, call)(net.model, output=str(path), **which, **asked)
        right = logits(path, of.x_test).argmax(axis=1) == of.y_test
        passed = sum(check.passed for check in made.checks)
        shown = "".join(f', target="{target}"' for _ in which)
        rows.append(
            [
                f"`{call}(model, data=..., test=...{shown})`",
                f"{right[own].mean() * 100:.1f}",
                f"{right.mean() * 100:.1f}",
                f"{path.stat().st_size - net.model.stat().st_size:,}",
                f"{passed} of {len(made.checks)}",
            ]
        )
    return rows


def _agreement(calls: Sequence[str], files: Sequence[Sequence[str]], rows: Readings) -> str:
    """Whether files answer as the sweep says; retrain and augment set their operating point otherwise."""
    same, other = [], []
    for call, row in zip(calls, files, strict=True):
        if call in rows:
            swept = [f"{value * 100:.1f}" for value in (rows[call].target, rows[call].overall)]
            (same if row[1:3] == swept else other).append(call)
    told = [f"{', '.join(same)}: the file answers as the sweep says of this seed."] if same else []
    told += [f"{', '.join(other)}: the file differs from the sweep."] if other else []
    return " ".join(told)


def said(found: Sequence[Readings]) -> list[str]:
    """What the numbers say, in sentences that depend on them."""
    equal = {key: reached([rows[key] for rows in found]) for key in found[0]}
    retrained = max((key for key in equal if key.startswith("Retraining-")), key=equal.get)
    synaptic = max(("join", "SR-1", "SR-2"), key=equal.get)
    cost = _mean(found, "base", "overall") - _mean(found, "calibration, mu = 0.9", "overall")
    bias = _mean(found, "bias", "overall") - _mean(found, "base", "overall")
    random = over(found, "SR-1 + bias", "SR-1 + bias, random neurons")
    verdict = (
        "it breaks the rule that the thesis sets for it, there and here"
        if cost > 0
        else "it keeps the rule that the thesis sets for it here, where the base leaves room, but not there"
    )
    return [
        f"- As printed, mu = 0.9 costs {cost:.1f} points overall: {verdict}. Set exactly, the bias changes"
        f" the overall accuracy by {bias:+.1f} and brings the target from"
        f" {_mean(found, 'base', 'target'):.1f} to {_mean(found, 'bias', 'target'):.1f} %.",
        f"- At equal overall accuracy the best of the thesis's retrainings ({retrained}) differs by"
        f" {over(found, retrained, 'bias')} from the bias, and by"
        f" {over(found, retrained, 'more epochs')} from as many epochs without a penalty.",
        f"- The best of join, SR-1 and SR-2 ({synaptic}) differs by {over(found, synaptic, 'bias')} from the"
        f" bias. SR-1's chosen neurons, with a bias, differ by {random} from random ones.",
        f"- fit differs by {over(found, 'fit', 'bias')} from the bias,"
        f" by {over(found, 'fit', 'random-n refit')} from random neurons fitted for all classes,"
        f" by {over(found, 'fit', retrained)} from {retrained}{_all_labels(found)}.",
    ]


def reached(of: Sequence[Reading]) -> tuple[float, float]:
    """What methods are ranked by: the target at equal overall, where all seeds have one; then below."""
    equal, less = np.mean([[r.at_equal, r.at_one] for r in of], axis=0)
    return float(np.nan_to_num(equal, nan=-1)), float(less)


def over(found: Sequence[Readings], one: str, other: str) -> str:
    """Difference at equal overall accuracy, paired by seed, and whether its interval is clear of 0."""
    pairs = [(rows[one], rows[other]) for rows in found]
    apart, notes = [a.at_equal - b.at_equal for a, b in pairs], []
    if np.isnan(apart).any():
        apart, notes = [a.at_one - b.at_one for a, b in pairs], ["one point below the base"]
    mean, half = interval(apart)
    if abs(mean) <= half:
        notes.append("not clear of 0")
    more = f" ({'; '.join(notes)})" if notes else ""
    return f"{mean * 100:+.1f} ± {half * 100:.1f} points{more}"


def _all_labels(found: Sequence[Readings]) -> str:
    """fit beside a retraining that may learn from the same samples, where there is one."""
    rival = "more epochs, held-out images too"
    return f", and by {over(found, 'fit', rival)} from {rival}" if rival in found[0] else ""


def _mean(found: Sequence[Readings], key: str, what: str) -> float:
    return interval([getattr(rows[key], what) for rows in found])[0] * 100
