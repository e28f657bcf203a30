"""Table 3.9: progressive schedules of joins and retrainings, and what one step reaches on the same classes.

CNN-3 on CIFAR-10. The thesis's J100 R100 J50 R50 J10 R10 J10 on 1,000 classes, scaled to 10. A
schedule has no targets of its own: it is read on the two classes that are weakest on the held-out samples, as
the one-step methods are, which have these two for targets.
"""

from __future__ import annotations

from dataclasses import asdict

import numpy as np

import onnxtweak
from benchmarks.science.thesis.data import NAMES, as_file, divide
from benchmarks.science.thesis.methods import Readings, read_logits, readings_of, weakest
from benchmarks.science.thesis.recipes import Recipe
from benchmarks.science.thesis.rivals import methods_table, over
from benchmarks.science.thesis.sizes import Options, base_recipe
from benchmarks.science.thesis.tables import Page, command, sizes_told
from benchmarks.science.thesis.thesis_numbers import SCHEDULE, TABLE_3_9_GAIN
from benchmarks.science.thesis.train import logits, trained

NET, TARGETS = "cnn3", 2
SCHEDULES = ("J10 R10 J5 R5 J2 R2 J2", "J10 R10", "J2 R2 J2")
ONE_STEP = ("bias", "join", "SR-1", "SR-2", "SR-1 + bias", "random-n refit", "fit")


def run(options: Options) -> Page:
    found, named = [], []
    for seed in options.seeds:
        base = base_recipe(options, NET, seed)
        net, of = trained(base, options.data, options.work), divide(base.sample, options.data)
        targets = weakest(net, of.y_held, TARGETS)
        rows = {"base": read_logits(net.test, net.test, of.y_test, targets)}
        rows |= scheduled(base, targets, options)
        rows |= readings_of(base, targets, options, ONE_STEP)
        found.append(rows)
        named.append(", ".join(NAMES["cifar10"][t] for t in targets))
    blocks = [
        f"Targets, by seed: {'; '.join(named)}. {sizes_told(options, NET)} Schedules are carried out by"
        " `onnxtweak.retrain(schedule=...)`, with any class to pick at every stage, and read from the files"
        " that it wrote; other classes than the two may gain by them.",
        methods_table(found),
        f"The thesis reports for {SCHEDULE} on ImageNet's ten worst classes {TABLE_3_9_GAIN:+.1f} points at"
        " an unchanged overall accuracy: 43 of 500 images, and no controls.",
        "\n".join(reading(found)),
    ]
    raw = {"targets": named, "readings": [{k: asdict(r) for k, r in rows.items()} for rows in found]}
    return Page("table_3_9", "Table 3.9: progressive schedules", blocks, raw)


def scheduled(base: Recipe, targets: tuple[int, ...], options: Options) -> Readings:
    """Every schedule's file, measured."""
    net, of = trained(base, options.data, options.work), divide(base.sample, options.data)
    samples = as_file(base.sample, options.data, options.work)
    path = options.work / "written" / f"{base.name}-schedule.onnx"
    path.parent.mkdir(parents=True, exist_ok=True)
    found = {}
    for schedule in SCHEDULES:
        made = onnxtweak.retrain(
            net.model,
            data=f"{samples}#fit",
            test=f"{samples}#test",
            schedule=schedule,
            penalty=1.0,
            seed=base.seed,
            device="cpu",
            threads=1,
            output=str(path),
            force=True,
        )
        Z = logits(path, of.x_test)
        weights = len(made.tweak["synapses"])
        found[schedule] = read_logits(Z, net.test, of.y_test, targets, parameters=weights)
    return found


def reading(found: list[Readings]) -> list[str]:
    """What the numbers say, in sentences that depend on them."""
    long = SCHEDULES[0]
    target = np.mean([rows[long].target - rows["base"].target for rows in found]) * 100
    overall = np.mean([rows[long].overall - rows["base"].overall for rows in found]) * 100
    harm = np.mean([rows[long].E for rows in found])
    return [
        f"- {long} moves the two classes by {target:+.1f} points and the overall accuracy by"
        f" {overall:+.1f}, with E {harm:.1f}.",
        f"- At equal overall accuracy it differs by {over(found, long, 'bias')} from the bias, by"
        f" {over(found, long, SCHEDULES[1])} from its first two stages, by {over(found, long, 'SR-1')} from"
        f" one retraining of the two classes, by {over(found, long, 'random-n refit')} from random neurons"
        f" fitted for all classes, by {over(found, long, 'fit')} from fit.",
    ]


if __name__ == "__main__":
    command(run, __doc__)
