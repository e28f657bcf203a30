"""Table 3.2, Fig. 3.8 and 3.9: how many synapses rank high, how many neurons are active, and in which layers?

CNN-3 and ResNet-20 on CIFAR-10 (the bases of tables 3.3 and 3.5) and CNN-3 on long-tailed MNIST (that of
table 3.10), with the taps of the thesis. Theta of all neurons for all classes is `onnxtweak score`'s. The
control: the same hidden values dealt to other samples, which leaves their sizes and takes their meaning.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import log10

import numpy as np

from benchmarks.science.thesis.long_tail import long_tailed
from benchmarks.science.thesis.pictures import curves
from benchmarks.science.thesis.recipes import Recipe
from benchmarks.science.thesis.scores import Scores, open_job, scores, tables
from benchmarks.science.thesis.sizes import Options, base_recipe
from benchmarks.science.thesis.tables import Page, cell, command, grid
from benchmarks.science.thesis.thesis_numbers import TAPPED
from benchmarks.science.thesis.train import trained
from benchmarks.science.thesis.words import difference, flow, verdict
from onnxtweak.method.table import Table
from onnxtweak.theta.gaps import reciprocal_gaps, rivals

# Synapses that a join uses at most, for each class.
MOST = 120
# Random neurons whose values are dealt anew, and synapses of a class that are tried alone on validation.
_DEALT, _TRIED = 1000, 20
_BASES = {
    "CNN-3, CIFAR-10": ("cnn3", "cifar10", "activations"),
    "ResNet-20, CIFAR-10": ("resnet20", "cifar10", "stages"),
    "DenseNet-40, CIFAR-10": ("densenet40", "cifar10", "stages"),
    "CNN-3, long-tailed MNIST": ("cnn3", "mnist", "activations"),
}


@dataclass(frozen=True)
class Found:
    """One base.

    can_help, fixing, high : shares of all synapses (a neuron and a class): weight not 0; count at least 1;
    count at least half of the class's largest. dealt_fixing : as `fixing`, of values dealt to other samples;
    sample_fixing : the same neurons, not dealt. best, dealt_best, bias_count : largest count, mean over
    classes. active : neurons among the `MOST` best of a class, of any class. high_neurons : those with a
    high synapse for any. alone : validation samples fixed and broken by one synapse: of the best, of random
    neurons. layers : by tap its name and its shares of all neurons, of fixing synapses, of active neurons.
    """

    parameters: int
    neurons: int
    can_help: float
    fixing: float
    high: float
    sample_fixing: float
    dealt_fixing: float
    best: float
    sample_best: float
    dealt_best: float
    bias_count: float
    active: int
    high_neurons: int
    alone: dict[str, tuple[float, float]]
    layers: list[tuple[str, float, float, float]]


def run(options: Options) -> Page:
    found = {}
    for name, (net, dataset, taps) in _BASES.items():
        if net not in options.sizes.nets:
            continue
        recipes = [_base(options, net, dataset, seed) for seed in options.seeds]
        found[name] = [_one(recipe, taps, options) for recipe in recipes]
        print(f"# table_3_2: {name} done", flush=True)
    return page(found, options)


def page(found: dict[str, list[Found]], options: Options) -> Page:
    """found : by base and seed."""
    pictures = {"table_3_2_active": _active_picture(found)}
    pictures |= {_file(name): _layers_picture(name, of) for name, of in found.items()}
    blocks = [
        flow(
            f"""A synapse is a neuron and a class. It *can help* when some weight raises the class and breaks
            no fit sample, *fixes* when that weight makes at least one wrong sample right, and is *high-rank*
            here when it fixes at least half as many as the class's best. {len(options.seeds)} seeds; ± is
            half a 95 % t-interval over them. *Dealt*: of {_DEALT:,} random neurons, after each neuron's
            values were dealt to other samples; beside it the same neurons as they are. *Bias*: what a
            constant fixes under the same rule. The thesis's candidates, as far as we can decode them:
            {", ".join(f"{k} {v:,}" for k, v in TAPPED.items())}; its Table 3.2 agrees with its text for
            CNN-3 only, so its proportions are not repeated."""
        ),
        _shares_table(found),
        "Each of the best 20 synapses of a class, alone on validation samples, which theta has not seen:",
        _alone_table(found),
        f"Fig. 3.8: active neurons, which are among the {MOST} best of any class, against parameters.",
        "![Active neurons against parameters](pictures/table_3_2_active.svg)",
        "Fig. 3.9: in which layers. *Active / neurons* is 1 where the best neurons lie as random ones would.",
        *[block for name, of in found.items() for block in _layers_blocks(name, of)],
        "\n".join(_said(found)),
    ]
    raw = {name: [asdict(one) for one in of] for name, of in found.items()}
    title = "Table 3.2, Fig. 3.8 and 3.9: high-rank synapses and active neurons"
    return Page("table_3_2", title, blocks, raw, pictures)


def _base(options: Options, net: str, dataset: str, seed: int) -> Recipe:
    return base_recipe(options, net, seed) if dataset == "cifar10" else long_tailed(options, dataset, seed)


def _one(recipe: Recipe, taps: str, options: Options) -> Found:
    job = open_job(recipe, options, [taps])
    theta = scores(recipe, job, options)
    classes = range(len(theta.count))
    largest = theta.count.max(axis=1)
    high = (theta.count >= np.maximum(largest[:, None] / 2, 1)) & (theta.weight != 0)
    rng = np.random.default_rng(recipe.seed)
    best = [theta.ranked(c, "count", MOST) for c in classes]
    tried = [theta.ranked(c, "count", _TRIED) for c in classes]
    random = [theta.ranked(c, "random", _TRIED, rng) for c in classes]
    dealt = [theta.ranked(c, "random", _DEALT // len(classes), rng) for c in classes]
    (fit, validation), columns = tables(job, [*tried, *random, *dealt], ("fit", "validation"))
    at = len(classes)
    sample = fit.columns(np.unique(np.concatenate(columns[2 * at :])))
    mixed = np.stack([rng.permutation(column) for column in sample.T.T], axis=1)
    constant = np.ones((len(fit.labels), 1), np.float32)
    as_it_is, as_dealt, as_bias = (_counts(Table(T, fit.Z, fit.labels)) for T in (sample.T, mixed, constant))
    starts = np.cumsum([0, *(tap.neurons for tap in theta.taps)])
    active = np.unique(np.concatenate([starts[r.neurons.tap_of] + r.neurons.index for r in best]))
    return Found(
        parameters=trained(recipe, options.data, options.work).parameters,
        neurons=int(starts[-1]),
        can_help=float((theta.weight != 0).mean()),
        fixing=float((theta.count > 0).mean()),
        high=float(high.mean()),
        sample_fixing=float((as_it_is > 0).mean()),
        dealt_fixing=float((as_dealt > 0).mean()),
        best=float(largest.mean()),
        sample_best=float(as_it_is.max(axis=1).mean()),
        dealt_best=float(as_dealt.max(axis=1).mean()),
        bias_count=float(as_bias.mean()),
        active=len(active),
        high_neurons=int(high.any(axis=0).sum()),
        alone={
            "the best 20": _alone(validation, tried, columns[:at]),
            "20 random that can help": _alone(validation, random, columns[at : 2 * at]),
        },
        layers=_layers(theta, active, starts),
    )


def _counts(table: Table) -> np.ndarray:
    """Theta's count (C, K) of every column for every class: METHOD 2, in plain NumPy."""
    classes = np.arange(table.Z.shape[1])
    gaps = reciprocal_gaps(table.Z, table.labels, classes)
    found = []
    for c in classes:
        wanted = gaps.wanted[:, c] > 0
        of_both = []
        for side in (1, -1):
            reach = side * table.T * gaps.limit[:, c, None]
            bound = reach.max(axis=0, initial=0)
            of_both.append((side * table.T[wanted] * gaps.wanted[wanted, c, None] > bound).sum(axis=0))
        found.append(np.maximum(*of_both))
    return np.array(found)


def _alone(table: Table, rankings: Sequence, columns: Sequence[np.ndarray]) -> tuple[float, float]:
    """Samples (fixed, broken) by one synapse at its theta, mean over synapses and classes."""
    fixed = broken = count = 0
    for c, (ranking, own) in enumerate(zip(rankings, columns, strict=True)):
        value, label, _ = rivals(table.Z, np.array([c]))
        gap, rival = value[:, 0] - table.Z[:, c], label[:, 0]
        wins = (table.T[:, own] * ranking.weight > gap[:, None]).T
        was = np.where(gap < 0, c, rival) == table.labels
        now = np.where(wins, c, rival) == table.labels
        fixed, broken = fixed + int((~was & now).sum()), broken + int((was & ~now).sum())
        count += len(own)
    return fixed / max(count, 1), broken / max(count, 1)


def _layers(theta: Scores, active: np.ndarray, starts: np.ndarray) -> list[tuple[str, float, float, float]]:
    fixing = theta.count > 0
    rows = []
    for tap, first, last in zip(theta.taps, starts[:-1], starts[1:], strict=True):
        own = (active >= first) & (active < last)
        rows.append(
            (
                tap.name,
                float(tap.neurons / starts[-1]),
                float(fixing[:, first:last].sum() / max(fixing.sum(), 1)),
                float(own.mean()),
            )
        )
    return rows


def _shares_table(found: dict[str, list[Found]]) -> str:
    rows = []
    for name, of in found.items():
        rows.append(
            [
                name,
                f"{of[0].parameters:,}",
                f"{of[0].neurons:,}",
                cell([o.can_help for o in of]),
                cell([o.fixing for o in of], digits=2),
                cell([o.high for o in of], digits=3),
                cell([o.sample_fixing for o in of], digits=2),
                cell([o.dealt_fixing for o in of], digits=2),
                cell([o.best for o in of], 1.0),
                cell([o.sample_best for o in of], 1.0),
                cell([o.dealt_best for o in of], 1.0),
                cell([o.bias_count for o in of], 1.0),
            ]
        )
    head = [
        "base",
        "parameters",
        "neurons",
        "can help, %",
        "fix, %",
        "high-rank, %",
        "sample: fix, %",
        "dealt: fix, %",
    ]
    return grid([*head, "largest count", "sample: largest", "dealt: largest", "bias"], rows)


def _alone_table(found: dict[str, list[Found]]) -> str:
    rows = [
        [name, which, *(cell([o.alone[which][k] for o in of], 1.0, 2) for k in (0, 1))]
        for name, of in found.items()
        for which in of[0].alone
    ]
    return grid(["base", "synapses", "fixed", "broken"], rows)


def _layers_blocks(name: str, of: Sequence[Found]) -> list[str]:
    rows = []
    for k, (tap, *_) in enumerate(of[0].layers):
        shares = np.array([o.layers[k][1:] for o in of])
        ratio = shares[:, 2] / shares[:, 0]
        rows.append([f"`{tap}`", *(cell(list(column)) for column in shares.T), cell(list(ratio), 1.0, 2)])
    head = [name, "of all neurons, %", "of fixing synapses, %", "of active neurons, %", "active / neurons"]
    return [grid(head, rows), f"![Where the neurons of {name} lie](pictures/{_file(name)}.svg)"]


def _file(name: str) -> str:
    return "table_3_2_" + name.lower().replace(", ", "_").replace(" ", "_").replace("-", "")


def _active_picture(found: dict[str, list[Found]]) -> str:
    points = [(name, [(log10(o.parameters), float(o.active)) for o in of]) for name, of in found.items()]
    return curves(points, "log10 of parameters", "active neurons", "Active neurons", joined=False)


def _layers_picture(name: str, of: Sequence[Found]) -> str:
    kinds = ("all neurons", "fixing synapses", "active neurons")
    lines = [
        (
            kind,
            [
                (k + 1, 100 * float(np.mean([o.layers[k][1 + at] for o in of])))
                for k in range(len(of[0].layers))
            ],
        )
        for at, kind in enumerate(kinds)
    ]
    return curves(lines, "watched layer, from the input on", "share, %", f"Layers of {name}")


def _said(found: dict[str, list[Found]]) -> list[str]:
    """What the numbers say, in sentences that depend on them."""
    said = []
    for name, of in found.items():
        best, random = "the best 20", "20 random that can help"
        net = [o.alone[best][0] - o.alone[best][1] for o in of]
        drawn = [o.alone[random][0] - o.alone[random][1] for o in of]
        chance = verdict(
            [o.sample_best - o.dealt_best for o in of], "", "", ", a difference that is not clear of 0"
        )
        last = [o.layers[-1][3] / o.layers[-1][1] for o in of]
        said.append(
            flow(
                f"""- {name}: {100 * np.mean([o.fixing for o in of]):.1f} % of all synapses fix at least one
                sample. Of random neurons {100 * np.mean([o.sample_fixing for o in of]):.1f} % do, and
                {100 * np.mean([o.dealt_fixing for o in of]):.1f} % with their values dealt to other samples;
                the largest counts among them are {np.mean([o.sample_best for o in of]):.1f} and
                {np.mean([o.dealt_best for o in of]):.1f}{chance}. On validation one of the best 20 synapses
                fixes, less what it breaks, {difference(net, 1.0)} samples, one of 20 random ones
                {difference(drawn, 1.0)}. The last watched layer has {np.mean(last):.1f} times its share of
                the active neurons."""
            )
        )
    said.append(
        flow(
            """- A count above zero is thus no sign that a neuron has to do with the class: among tens of
            thousands of neurons and hundreds of wrong samples some are right by chance. And what breaks
            nothing on the fit samples does break some on others. Table 3.6 has random neurons beside those
            that rank highest."""
        )
    )
    return said


if __name__ == "__main__":
    command(run, __doc__)
