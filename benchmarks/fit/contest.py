"""Every method on one base, for each of its weakest classes, over several splits: see docs/results.md.

    python benchmarks/fit/contest.py MODEL.onnx -d held-out.npz --test test.npz --classes 3 --seeds 5

What does not depend on the target (fit's candidates, AAN, cRT, logit adjustment, random neurons) is fitted
once per split. All methods are read at the same overall accuracy on test, and at their own operating point,
which is set without the test samples.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace

import numpy as np

from onnxtweak.errors import ModelError
from onnxtweak.method.compare import CURVE, judge
from onnxtweak.method.entrants import ENTRANTS, fit_as_offer
from onnxtweak.method.fit import settle, try_all
from onnxtweak.method.metrics import measure
from onnxtweak.method.table import stacked
from onnxtweak.pipeline.compare import gather_material
from onnxtweak.pipeline.fit import open_for_tables
from onnxtweak.pipeline.join import choose_targets
from onnxtweak.settings import (
    DataSettings,
    EngineSettings,
    FitSettings,
    JoinSettings,
    Preprocess,
    TapSettings,
    TargetSettings,
)
from onnxtweak.types import silent

ONCE = ("logit adjustment", "cRT", "AAN", "random-n refit")
PER_TARGET = ("bias", "join", "join + bias", "SR-1")
ZERO = CURVE.index(0.0)


def contest(arguments: argparse.Namespace) -> dict:
    """rows : {method: [[targets at no overall loss, overall, targets]]}, a row for each split and class."""
    statistics = {} if arguments.mean is None else {"mean": arguments.mean, "std": arguments.std}
    taps, settings, join = TapSettings(taps=()), FitSettings(margin=arguments.margin), JoinSettings()
    engine = EngineSettings(device="cpu", threads=arguments.threads)
    rows: dict[str, list] = {name: [] for name in ("base", *PER_TARGET, *ONCE, "fit")}
    kinds, targets = [], None
    for seed in range(arguments.seeds):
        began = time.perf_counter()
        data = DataSettings(
            tuple(arguments.data),
            test=tuple(arguments.test),
            seed=seed,
            preprocess=Preprocess(pixel_scale=arguments.pixel_scale, **statistics),
        )
        job = open_for_tables(arguments.model, data, engine, taps, silent)
        if targets is None:
            targets = choose_targets(job, TargetSettings(worst=arguments.classes))
        all_of, _, _ = gather_material(job, taps, targets, join, settings, seed)
        table, test = stacked((all_of.fit, all_of.validation)), all_of.test
        tried = try_all(table, all_of.families, judged=all_of.judged, seed=seed)
        shared = {}
        for name in ONCE:
            try:
                shared[name] = ENTRANTS[name](all_of)
            except ModelError as error:
                print(f"{name}: {error}")
        for i, target in enumerate(targets):
            one = np.array([target])
            of = replace(all_of, targets=one, rankings=[all_of.rankings[i]], joined=[all_of.joined[i]])
            offers = {name: ENTRANTS[name](of) for name in PER_TARGET} | shared
            found = settle(table, tried, one, judged=of.judged, margin=settings.margin)
            offers["fit"] = fit_as_offer(table, found)
            kinds.append(found.kind)
            base = measure(test.Z.argmax(axis=1), test.labels, one, test.Z.shape[1])
            rows["base"].append([base.target, base.overall, base.target])
            for name, offer in offers.items():
                made = judge(offer, test, one, 0.0, settings.margin)
                rows[name].append([float(made.at[ZERO]), made.metrics.overall, made.metrics.target])
        chosen = min(tried, key=lambda c: c.loss).name
        print(
            f"# seed {seed}: {time.perf_counter() - began:.0f} s, lowest held-out loss: {chosen}", flush=True
        )
    return {
        "targets": [job.names[j] for j in targets],
        "samples": [len(job.splits.fit), len(job.splits.validation), len(job.splits.test)],
        "kinds": {kind: kinds.count(kind) for kind in sorted(set(kinds))},
        "rows": {name: found for name, found in rows.items() if found},
    }


def told(made: dict, seeds: int) -> str:
    """The table, in Markdown: means over classes and splits, standard errors over splits."""
    lines = [
        f"targets {', '.join(made['targets'])}; fit, validation, test samples {made['samples']}; "
        f"fit answered {made['kinds']}",
        "",
        "| method | targets at no overall loss | over bias "
        "| delivered: overall | over base | targets | over bias |",
        "|---|---|---|---|---|---|---|",
    ]
    cube = {name: np.array(rows).reshape(seeds, -1, 3) * 100 for name, rows in made["rows"].items()}
    for name, of in cube.items():
        cells = [
            _interval(of[..., 0]),
            _interval(of[..., 0] - cube["bias"][..., 0]),
            _interval(of[..., 1]),
            _interval(of[..., 1] - cube["base"][..., 1]),
            _interval(of[..., 2]),
            _interval(of[..., 2] - cube["bias"][..., 2]),
        ]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _interval(values: np.ndarray) -> str:
    """values (seeds, classes)."""
    if np.isnan(values).any():
        return f"not reached in {int(np.isnan(values).sum())} of {values.size}"
    per_seed = values.mean(axis=1)
    error = per_seed.std(ddof=1) / np.sqrt(len(per_seed)) if len(per_seed) > 1 else float("nan")
    return f"{per_seed.mean():.1f} ± {error:.1f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("-d", "--data", action="append", required=True)
    parser.add_argument("--test", action="append", required=True)
    parser.add_argument("--classes", type=int, default=3)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--margin", type=float, default=FitSettings.margin)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--pixel-scale", type=float)
    parser.add_argument("--mean", type=lambda text: tuple(map(float, text.split(","))))
    parser.add_argument("--std", type=lambda text: tuple(map(float, text.split(","))))
    parser.add_argument("--json", help="also write all readings here")
    arguments = parser.parse_args()
    made = contest(arguments)
    if arguments.json:
        with open(arguments.json, "w", encoding="utf-8") as file:
            json.dump(made, file, indent=1)
    print(told(made, arguments.seeds))


if __name__ == "__main__":
    main()
