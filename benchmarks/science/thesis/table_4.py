"""Tables 4.1 to 4.6: DA, WA and augmentation with active neurons: parameters, accuracy, training time.

CNN-3 on CIFAR-10 (the bases of table 3.3); `--full`: on long-tailed MNIST too (those of table 3.10). DA and
WA are trained through the net, AAN is `onnxtweak augment` as a user calls it. Once all learn from the base's
training samples, as in the thesis; once from the held-out ones.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

import onnxtweak
from benchmarks.science.thesis.data import Divided, as_file, divide
from benchmarks.science.thesis.grow import HELD_OUT, TRAINING, Growth, grown
from benchmarks.science.thesis.long_tail import long_tailed
from benchmarks.science.thesis.methods import Reading, read_logits, weakest
from benchmarks.science.thesis.pictures import curves
from benchmarks.science.thesis.recipes import Recipe
from benchmarks.science.thesis.sizes import Options, base_recipe
from benchmarks.science.thesis.tables import Page, cell, command, grid
from benchmarks.science.thesis.thesis_numbers import TABLE_4_2, TABLE_4_3, TABLE_4_3_HIDDEN, TABLE_4_4
from benchmarks.science.thesis.train import logits, trained
from benchmarks.science.thesis.words import difference, flow, verdict
from onnxtweak.goal import ResolvedGoal
from onnxtweak.method.augment import train
from onnxtweak.method.metrics import fixed_and_broken
from onnxtweak.method.table import all_neurons, gather, take
from onnxtweak.method.tuning.bias_control import overall_bias
from onnxtweak.settings import AUGMENT_SIZES, AugmentSettings, DataSettings, EngineSettings, TapSettings
from onnxtweak.stages.open_for_tables import open_for_tables
from onnxtweak.types import silent

NEURONS, HIDDEN = AUGMENT_SIZES["cnn-3"]
WAYS = {"more epochs": "more", "DA": "DA", "WA": "WA"}
# About so many, in whole epochs, through the net: like the retrainings of table 3.3.
ITERATIONS = {"quick": 20, "default": 150, "full": 8000}
DATASETS = {"quick": ("mnist",), "default": ("cifar10",), "full": ("cifar10", "mnist")}
TITLES = {"cifar10": "CIFAR-10", "mnist": "long-tailed MNIST"}
_HEAD = [
    "learns from",
    "method",
    "parameters added",
    "of the base's, %",
    "overall",
    "gain",
    "weakest class",
    "E",
    "seconds",
    "seconds per 1,000 iterations",
    "thesis: gain",
]
# Classes of the data sets in Table 4.1's order.
_CLASSES = {"cnn-3": 10, "resnet-20": 10, "densenet-40": 10, "resnet-18": 100, "resnet-56": 100}
_CLASSES |= {"googlenet": 1000, "densenet-121": 397}


@dataclass(frozen=True)
class Grown:
    """A reading, and what it took. added : parameters. seconds : of learning, gathering tables included."""

    reading: Reading
    added: int
    seconds: float
    per_thousand: float


Rows = dict[tuple[str, str], Grown]


def run(options: Options) -> Page:
    found: dict[str, list[Rows]] = {}
    for dataset in DATASETS[options.sizes.name]:
        found[dataset] = []
        for seed in options.seeds:
            found[dataset].append(_one_seed(options, dataset, seed))
            print(f"# table_4: {dataset}, seed {seed} done", flush=True)
    return page(found, options)


def page(found: Mapping[str, Sequence[Rows]], options: Options) -> Page:
    """found : by data set and seed."""
    blocks, raw, points = [_introduction(options), _sizes_table()], {}, []
    for dataset, rows in found.items():
        parameters = trained(_base(options, dataset, 0), options.data, options.work).parameters
        blocks += [
            f"#### CNN-3 on {TITLES[dataset]}: {parameters:,} parameters, {len(rows)} seeds",
            _table(rows, parameters),
            "\n".join(_said(rows)),
        ]
        raw[dataset] = [{" / ".join(key): asdict(of) for key, of in of_seed.items()} for of_seed in rows]
        points += [
            (f"{key[1]}, {dataset}", [(_mean(rows, key, "seconds"), _mean_gain(rows, key))])
            for key in rows[0]
            if key[0] == HELD_OUT
        ]
    picture = curves(
        points,
        "seconds of learning",
        "overall gain, points",
        "Gain of growing against its time",
        joined=False,
    )
    blocks.append("![Gain by growing against its time](pictures/table_4_times.svg)")
    title = "Tables 4.1 to 4.6: growing a net, and augmentation with active neurons"
    return Page("table_4", title, blocks, raw, {"table_4_times": picture})


def _base(options: Options, dataset: str, seed: int) -> Recipe:
    if dataset == "cifar10":
        return base_recipe(options, "cnn3", seed)
    return long_tailed(options, dataset, seed)


def _one_seed(options: Options, dataset: str, seed: int) -> Rows:
    recipe = _base(options, dataset, seed)
    base, of = trained(recipe, options.data, options.work), divide(recipe.sample, options.data)
    target = weakest(base, of.y_held)
    iterations = ITERATIONS[options.sizes.name]
    rows: Rows = {("", "base"): Grown(read_logits(base.test, base.test, of.y_test, target), 0, 0.0, 0.0)}
    for samples in (TRAINING, HELD_OUT):
        for name, way in WAYS.items():
            growth = Growth(recipe, way, samples, iterations, HIDDEN if way != "more" else 0)
            net, iterations_done = grown(growth, options.data, options.work)
            rows[samples, name] = Grown(
                read_logits(net.test, base.test, of.y_test, target, net.seconds, net.parameters),
                net.parameters - base.parameters,
                net.seconds,
                net.seconds / iterations_done * 1000,
            )
        rows |= _on_tables(recipe, of, target, samples, options)
    return rows


def _on_tables(recipe: Recipe, of: Divided, target: tuple[int, ...], samples: str, options: Options) -> Rows:
    """AAN, the same on random neurons, and a bias for every class."""
    base = trained(recipe, options.data, options.work)
    held = as_file(recipe.sample, options.data, options.work)
    source = f"{held}#fit" if samples == HELD_OUT else f"{_training_file(recipe, of, options)}#fit"
    path = options.work / "written" / f"{recipe.name}-aan-{samples}.onnx"
    path.parent.mkdir(parents=True, exist_ok=True)
    since = time.perf_counter()
    made = onnxtweak.augment(
        base.model,
        data=source,
        test=f"{held}#test",
        seed=recipe.seed,
        neurons=NEURONS,
        hidden=HIDDEN,
        device="cpu",
        threads=1,
        output=str(path),
        force=True,
    )
    seconds = time.perf_counter() - since
    Z = logits(path, of.x_test)
    numbers = NEURONS * HIDDEN + HIDDEN + HIDDEN * of.classes + of.classes if made.choice.n[0] else 0
    ran = re.search(r"trained for ([\d,]+) iterations", " ".join(made.notes))
    iterations = int(ran[1].replace(",", ""))
    aan = read_logits(Z, base.test, of.y_test, target)
    rows = {(samples, "AAN"): Grown(aan, numbers, seconds, made.run.seconds["train"] / iterations * 1000)}
    return rows | _controls(recipe, base.model, (source, f"{held}#test"), of, target, samples)


def _controls(
    recipe: Recipe,
    model: Path,
    sources: tuple[str, str],
    of: Divided,
    target: tuple[int, ...],
    samples: str,
) -> Rows:
    """What AAN is compared with, on the same split: as many random neurons, and none at all.

    sources : to learn from, and test.
    """
    data = DataSettings(sources[:1], test=sources[1:], seed=recipe.seed)
    engine, taps = EngineSettings(device="cpu", threads=1), TapSettings()
    since = time.perf_counter()
    job = open_for_tables(str(model), data, engine, taps, silent)
    everything = all_neurons(job.taps)
    drawn = np.random.default_rng(recipe.seed).permutation(len(everything))[:NEURONS]
    chosen = take(everything, np.sort(drawn))
    views = (job.splits.fit, job.splits.validation, job.splits.test)
    fit, validation, test = (gather(job.subject, view, chosen, job.engine, "collect") for view in views)
    learning = time.perf_counter()
    found = train(fit, validation, AugmentSettings(hidden=HIDDEN), seed=recipe.seed)
    done = time.perf_counter()
    before, after = (Z.argmax(axis=1) for Z in (validation.Z, validation.Z + found.patch.delta(validation.T)))
    fixed, broken = fixed_and_broken(before, after, validation.labels)
    # As `augment` decides: a gain of more than one standard error, or the base.
    taken = fixed - broken > np.sqrt(fixed + broken)
    Z = test.Z + found.patch.delta(test.T) if taken else test.Z
    bias = overall_bias(validation.Z, validation.labels, ResolvedGoal(np.arange(of.classes)))
    numbers = NEURONS * HIDDEN + HIDDEN + HIDDEN * of.classes + of.classes if taken else 0
    ran = found.checkpoints[-1].iteration
    return {
        (samples, "AAN, random neurons"): Grown(
            read_logits(Z, test.Z, of.y_test, target),
            numbers,
            done - since,
            (done - learning) / max(ran, 1) * 1000,
        ),
        (samples, "a bias for every class"): Grown(
            read_logits(test.Z + bias.astype(test.Z.dtype), test.Z, of.y_test, target), of.classes, 0.0, 0.0
        ),
    }


def _training_file(recipe: Recipe, of: Divided, options: Options) -> Path:
    """The base's own training samples, as onnxtweak reads them."""
    path = options.work / "samples" / f"{recipe.name}-training.npz"
    if not path.exists():
        np.savez(path, x_fit=of.x_train, y_fit=of.y_train)
    return path


def _introduction(options: Options) -> str:
    ranges = ", ".join(f"{way} {low:+} to {high:+}" for way, (low, high) in TABLE_4_4.items())
    return flow(
        f"""DA puts {HIDDEN} new units between the last representation and the logits, WA as many beside the
        representation, reading what the last convolution reads. Both are trained through the whole net for
        {ITERATIONS[options.sizes.name]:,} iterations or so, as is *more epochs*, which adds nothing. AAN is
        `onnxtweak augment` with {NEURONS:,} neurons and as many hidden units (Table 4.1's CNN-3), measured on
        the file as written; where it does not gain more than a standard error on validation it answers with
        the base. Its controls: the same training on random neurons, by the same rule, and the best bias for
        every class. *Weakest class* is the base's on the held-out samples. ± is half a 95 % t-interval over
        the seeds. Seconds are of one thread on a shared machine; those of AAN hold all of the command, the
        proofs too. The thesis's gains are the least and the largest of all its nets: {ranges}."""
    )


def _sizes_table() -> str:
    """Tables 4.1 and 4.3: what the sizes make, beside what is printed."""
    rows = []
    for name, (neurons, hidden) in AUGMENT_SIZES.items():
        made = (neurons + _CLASSES[name]) * hidden
        printed = TABLE_4_3.get(name)
        rows.append(
            [
                name,
                f"{neurons:,}",
                hidden,
                f"{made:,}",
                "-" if printed is None else f"{printed / 1e3:.1f} K",
                TABLE_4_3_HIDDEN[name],
            ]
        )
    ratios = "; ".join(
        f"{added / 1e6:.2f} M on {base / 1e3:,.0f} K is {added / base:.0%}, where {printed:,} % is printed"
        for added, base, printed in TABLE_4_2
    )
    head = ["net", "neurons (4.1)", "hidden (4.1)", "weights of these", "4.3 prints", "hidden that 4.3 needs"]
    return "\n\n".join(
        [
            "The thesis's own sizes do not give its own numbers of parameters:",
            grid(head, rows),
            f"Nor do its ratios in Table 4.2 for WA: {ratios}. Below are our own counts.",
        ]
    )


def _table(found: Sequence[Rows], parameters: int) -> str:
    rows = []
    for samples, method in found[0]:
        of = [rows_of[samples, method] for rows_of in found]
        gain = [
            o.reading.overall - rows_of["", "base"].reading.overall
            for o, rows_of in zip(of, found, strict=True)
        ]
        thesis = TABLE_4_4.get(method) if samples == TRAINING else None
        base = method == "base"
        rows.append(
            [
                samples,
                method,
                "" if base else f"{np.mean([o.added for o in of]):,.0f}",
                "" if base else f"{np.mean([o.added for o in of]) / parameters * 100:.1f}",
                cell([o.reading.overall for o in of]),
                "" if base else cell(gain, sign=True),
                cell([o.reading.target for o in of]),
                cell([o.reading.E for o in of], 1.0),
                f"{np.mean([o.seconds for o in of]):.1f}" if of[0].seconds else "",
                f"{np.mean([o.per_thousand for o in of]):.1f}" if of[0].per_thousand else "",
                "" if thesis is None else f"{thesis[0]:+} to {thesis[1]:+}",
            ]
        )
    return grid(_HEAD, rows)


def _said(found: Sequence[Rows]) -> list[str]:
    """What the numbers say, in sentences that depend on them."""

    def between(one: tuple[str, str], other: tuple[str, str]) -> str:
        return difference([rows[one].reading.overall - rows[other].reading.overall for rows in found])

    said = []
    for samples in (TRAINING, HELD_OUT):
        kept = sum(rows[samples, "AAN"].added == 0 for rows in found)
        answer = f" (the base itself in {kept} of {len(found)})" if kept else ""
        said.append(
            flow(
                f"""- From the {samples} samples, overall, against as many iterations with nothing added: DA
                {between((samples, "DA"), (samples, "more epochs"))}, WA
                {between((samples, "WA"), (samples, "more epochs"))}, AAN{answer}
                {between((samples, "AAN"), (samples, "more epochs"))}. AAN against random neurons
                {between((samples, "AAN"), (samples, "AAN, random neurons"))}, against a bias for every class
                {between((samples, "AAN"), (samples, "a bias for every class"))}."""
            )
        )
    over_base = {
        way: [rows[TRAINING, way].reading.overall - rows["", "base"].reading.overall for rows in found]
        for way in TABLE_4_4
    }
    low, high = TABLE_4_4["AAN"]
    why = verdict(
        over_base["DA"],
        "",
        " DA is below: its last layers start anew, and so few iterations do not make up for the old one.",
        "",
    )
    said.append(
        flow(
            f"""- Against the base, from the training samples as in the thesis: DA
            {difference(over_base["DA"])}, WA {difference(over_base["WA"])}, AAN
            {difference(over_base["AAN"])}, where the thesis has {low:+} to {high:+} for AAN, always above
            the base.{why}"""
        )
    )
    time_of = {way: np.mean([rows[HELD_OUT, way].seconds for rows in found]) for way in ("DA", "WA", "AAN")}
    each = {way: np.mean([rows[HELD_OUT, way].per_thousand for rows in found]) for way in time_of}
    said.append(
        flow(
            f"""- 1,000 iterations of DA take {each["DA"] / each["AAN"]:.0f} times as long as of AAN, of WA
            {each["WA"] / each["AAN"]:.0f} times; from beginning to end, on the held-out samples, it is
            {time_of["DA"]:.0f} s, {time_of["WA"]:.0f} s and {time_of["AAN"]:.0f} s."""
        )
    )
    return said


def _mean(found: Sequence[Rows], key: tuple[str, str], what: str) -> float:
    return float(np.mean([getattr(rows[key], what) for rows in found]))


def _mean_gain(found: Sequence[Rows], key: tuple[str, str]) -> float:
    return 100 * float(
        np.mean([rows[key].reading.overall - rows["", "base"].reading.overall for rows in found])
    )


if __name__ == "__main__":
    command(run, __doc__)
