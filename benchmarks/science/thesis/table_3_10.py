"""Table 3.10, Fig. 3.10: long-tailed training samples: oversampling, retraining, join, SR and combinations.

CNN-3 on MNIST and CIFAR-10, the rarest class with a fiftieth of the most frequent one's samples. The targets
are the three rarest classes, all at once. Every net is tweaked by every method: the base, the one trained
with oversampling, and the one retrained with twice the loss on the targets.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace

import numpy as np

from benchmarks.science.thesis.data import divide
from benchmarks.science.thesis.grow import HELD_OUT, Growth, grown
from benchmarks.science.thesis.long_tail import RARE, TAIL, frequencies, long_tailed, rarest, tail_size
from benchmarks.science.thesis.methods import (
    Reading,
    Readings,
    open_bench,
    read_logits,
    read_result,
    try_method,
)
from benchmarks.science.thesis.pictures import curves
from benchmarks.science.thesis.recipes import Recipe, retrainings
from benchmarks.science.thesis.sizes import Options
from benchmarks.science.thesis.tables import Page, cell, command, grid
from benchmarks.science.thesis.train import trained
from benchmarks.science.thesis.words import difference, flow
from onnxtweak.method.compare.comparison import readings
from onnxtweak.method.metrics import measure

METHODS = (
    "bias",
    "join",
    "join + bias",
    "SR-1 + bias",
    "SR-1 + bias, random neurons",
    "random-n refit",
    "fit",
)
# After a net that was trained otherwise.
COMBINED = ("bias", "join", "SR-1 + bias", "random-n refit", "fit")
TITLES = {"mnist": "MNIST", "cifar10": "CIFAR-10"}
_HEAD = [
    "net",
    "then",
    "targets",
    "overall",
    "mean of all classes",
    "targets at equal overall",
    "over bias",
    "E",
]


Found = dict[tuple[str, str], Reading]


def run(options: Options) -> Page:
    found, counts = {}, {}
    for dataset in filter(lambda name: _there(options, name), TITLES):
        both = [_one_seed(options, dataset, seed) for seed in options.seeds]
        found[dataset] = [rows for rows, _ in both]
        counts[dataset] = [of_class for _, of_class in both]
        print(f"# table_3_10: {dataset} done", flush=True)
    return page(found, counts, options)


def page(
    found: Mapping[str, Sequence[Found]], counts: Mapping[str, Sequence[np.ndarray]], options: Options
) -> Page:
    """Both by data set and seed. counts : training samples of each class."""
    blocks, raw, pictures = [_introduction()], {}, {}
    for dataset, rows in found.items():
        size, of_class = tail_size(options, dataset), counts[dataset]
        picture = f"table_3_10_{dataset}"
        blocks += [
            f"#### {TITLES[dataset]}",
            flow(
                f"""{int(of_class[0].sum()):,} training samples, {of_class[0].max():,} of one class and
                {of_class[0].min():,} of another, in an order that the seed draws; base: {size.epochs} epochs,
                retraining and more epochs: {size.more}. {size.held_out:,} samples held out, as frequent as
                published. {len(rows)} seeds; ± is half a 95 % t-interval over them."""
            ),
            _table(rows),
            f"![Accuracy of each class, the rarest first](pictures/{picture}.svg)",
            "\n".join(_said(rows)),
        ]
        raw[dataset] = {
            "frequencies": [c.tolist() for c in of_class],
            "readings": [{" / ".join(key): asdict(r) for key, r in of_seed.items()} for of_seed in rows],
        }
        pictures[picture] = _picture(rows, of_class)
    title = "Table 3.10, Fig. 3.10: long-tailed training samples"
    return Page("table_3_10", title, blocks, raw, pictures)


def _there(options: Options, dataset: str) -> bool:
    try:
        return bool(tail_size(options, dataset))
    except KeyError:
        return False


def nets_of(options: Options, dataset: str, seed: int) -> tuple[dict[str, Recipe], tuple[int, ...]]:
    """The nets that are tweaked, and the targets."""
    base = long_tailed(options, dataset, seed)
    counts = frequencies(base, options)
    targets = rarest(counts)
    more = tail_size(options, dataset).more
    # Every class as often as the largest makes an epoch longer: as many iterations, not as many epochs.
    epochs = max(2, round(base.epochs * counts.sum() / (len(counts) * counts.max())))
    again = retrainings(base, targets, more)
    nets = {
        "base": base,
        "more epochs": again["more epochs"],
        "oversampling": replace(base, balanced=True, epochs=epochs),
        "retraining": again["Retraining-1"],
    }
    return nets, targets


def _one_seed(options: Options, dataset: str, seed: int) -> tuple[Found, np.ndarray]:
    """Readings by net and method; training samples of each class."""
    nets, targets = nets_of(options, dataset, seed)
    base = trained(nets["base"], options.data, options.work)
    of = divide(nets["base"].sample, options.data)
    rows: Found = {}
    for name, recipe in nets.items():
        net = trained(recipe, options.data, options.work)
        rows[name, ""] = read_logits(net.test, base.test, of.y_test, targets, net.seconds, net.parameters)
        if name != "more epochs":
            methods = METHODS if name == "base" else COMBINED
            tweaked = _tweaked(recipe, targets, options, base.test, methods)
            rows |= {(name, method): reading for method, reading in tweaked.items()}
    iterations = tail_size(options, dataset).more * len(of.y_train) // nets["base"].batch
    held = Growth(nets["base"], "more", HELD_OUT, 2 * iterations)
    net, _ = grown(held, options.data, options.work)
    key = ("trained on the held-out samples", "")
    rows[key] = read_logits(net.test, base.test, of.y_test, targets, net.seconds, net.parameters)
    return rows, np.bincount(of.y_train, minlength=of.classes)


def _tweaked(
    recipe: Recipe, targets: Sequence[int], options: Options, base: np.ndarray, methods: Sequence[str]
) -> Readings:
    """Methods on one net. Limits are that net's; what all are read against is the base (n, C)."""
    bench = open_bench(recipe, targets, options)
    test = bench.inputs.test
    before = measure(base.argmax(axis=1), test.labels, targets, base.shape[1])
    found = {}
    for name in methods:
        result = try_method(name, bench.inputs)
        made = read_result(bench, result)
        lost = np.minimum(np.array(made.per_class) - before.per_class, 0)
        Z = test.patched(result.columns, result.patch)
        equal, one = readings(Z, base, test.labels, np.array(sorted(targets)), (0.0, 1.0))
        harm = float(np.sqrt(np.mean(lost**2)) * 100)
        found[name] = replace(made, at_equal=float(equal), at_one=float(one), E=harm)
    return found


def _introduction() -> str:
    return flow(
        f"""The rarest class has {TAIL:.0%} of the most frequent one's training samples; the {RARE} rarest are
        the targets, chosen by their numbers. Methods on tables and *trained on the held-out samples* learn
        from the held-out samples, in which all classes are frequent: the last is the control for what these
        samples alone are worth. All other nets know only the long-tailed ones. Each method keeps the overall
        accuracy of the net that it is applied to; *equal overall* is the base's, for all rows, by biases on
        the targets set on test, and E is against the base. The thesis gives target accuracies alone for its
        SUN-397; we have none of its numbers for this table."""
    )


def _table(found: Sequence[Found]) -> str:
    rows = []
    for net, method in found[0]:
        of = [rows_of[net, method] for rows_of in found]
        over = [r.at_equal - rows_of["base", "bias"].at_equal for r, rows_of in zip(of, found, strict=True)]
        rows.append(
            [
                net,
                method,
                cell([r.target for r in of]),
                cell([r.overall for r in of]),
                cell([float(np.nanmean(r.per_class)) for r in of]),
                cell([r.at_equal for r in of]),
                cell(over, sign=True),
                cell([r.E for r in of], 1.0),
            ]
        )
    return grid(_HEAD, rows)


def _said(found: Sequence[Found]) -> list[str]:
    """What the numbers say, in sentences that depend on them."""

    def between(one: tuple[str, str], other: tuple[str, str], what: str = "at_equal") -> str:
        return difference([getattr(rows[one], what) - getattr(rows[other], what) for rows in found])

    base, over, again, more = (("base", ""), ("oversampling", ""), ("retraining", ""), ("more epochs", ""))
    held = ("trained on the held-out samples", "")
    return [
        flow(
            f"""- Nets that know only the long-tailed samples, against the base: oversampling
            {between(over, base, "target")} on the targets and {between(over, base, "overall")} overall;
            retraining {between(again, base, "target")} and {between(again, base, "overall")}, of which as
            many epochs without a penalty bring {between(more, base, "target")} and
            {between(more, base, "overall")}."""
        ),
        flow(
            f"""- Combinations, at equal overall accuracy: join after oversampling
            {between(("oversampling", "join"), ("base", "join"))} against join alone, SR-1 + bias after
            oversampling {between(("oversampling", "SR-1 + bias"), ("base", "SR-1 + bias"))} against SR-1 +
            bias alone, fit after oversampling {between(("oversampling", "fit"), ("base", "fit"))} and after
            retraining {between(("retraining", "fit"), ("base", "fit"))} against fit alone."""
        ),
        flow(
            f"""- On the base, at equal overall accuracy and against the bias: join
            {between(("base", "join"), ("base", "bias"))}, SR-1 + bias
            {between(("base", "SR-1 + bias"), ("base", "bias"))} (its neurons against random ones
            {between(("base", "SR-1 + bias"), ("base", "SR-1 + bias, random neurons"))}), fit
            {between(("base", "fit"), ("base", "bias"))} (against random neurons fitted for all classes
            {between(("base", "fit"), ("base", "random-n refit"))})."""
        ),
        flow(
            f"""- What the held-out samples alone are worth: the base trained on them is
            {between(held, ("base", "fit"))} against fit at equal overall accuracy, and
            {between(held, ("base", "fit"), "overall")} overall as delivered, where fit has spent on the
            targets what it gained. Who has such samples and may train the net need not tweak it; the patch
            is for a net that has to stay as it is, and takes seconds."""
        ),
    ]


def _picture(found: Sequence[Found], counts: Sequence[np.ndarray]) -> str:
    shown = {
        "base": ("base", ""),
        "oversampling": ("oversampling", ""),
        "retraining": ("retraining", ""),
        "base, bias": ("base", "bias"),
        "base, join": ("base", "join"),
        "base, SR-1 + bias": ("base", "SR-1 + bias"),
        "base, fit": ("base", "fit"),
        "oversampling, fit": ("oversampling", "fit"),
    }
    lines = []
    for name, key in shown.items():
        by_rank = [
            np.array(rows[key].per_class)[np.argsort(c, kind="stable")]
            for rows, c in zip(found, counts, strict=True)
        ]
        lines.append((name, [(rank + 1, y * 100) for rank, y in enumerate(np.mean(by_rank, axis=0))]))
    return curves(lines, "class, the rarest first", "accuracy on test, %", "Accuracy by class frequency")


if __name__ == "__main__":
    command(run, __doc__)
