"""Table 3.1 and Fig. 3.1: how much do classes fluctuate over training, and what do loss penalties do?

CNN-3 on CIFAR-10. The target is the class that is weakest on the held-out samples. Simple retraining goes on
from the base with the loss of the target's samples times a penalty; times 1 is its control.
"""

from __future__ import annotations

from dataclasses import asdict, replace

import numpy as np

from benchmarks.science.thesis.data import NAMES, divide
from benchmarks.science.thesis.methods import Reading, read_logits, readings_of, thesis_rivals, weakest
from benchmarks.science.thesis.pictures import curves
from benchmarks.science.thesis.recipes import calm_epochs
from benchmarks.science.thesis.rivals import reached
from benchmarks.science.thesis.sizes import Options, base_recipe
from benchmarks.science.thesis.tables import Page, cell, command, grid, interval, sizes_told
from benchmarks.science.thesis.thesis_numbers import TABLE_3_1_VALIDATION, TABLE_3_3
from benchmarks.science.thesis.train import trained

NET = "cnn3"
PENALTIES = (1.0, 1.3, 2.0, 5.0, 30.0)
CONTROLS = ("bias", "random-n refit")
# Epochs at the full rate over which fluctuation is taken.
_LAST = 4


def run(options: Options) -> Page:
    size = options.sizes.nets[NET]
    histories, readings, targets = [], [], []
    for seed in options.seeds:
        base = base_recipe(options, NET, seed)
        net, of = trained(base, options.data, options.work), divide(base.sample, options.data)
        target = weakest(net, of.y_held)
        more = replace(base, start=base, epochs=size.more, targets=target)
        penalised = {
            f"x{p:g}": replace(more, on_target=p) if p != 1 else replace(more, targets=()) for p in PENALTIES
        }
        rows = {"base": read_logits(net.test, net.test, of.y_test, target)}
        rows |= thesis_rivals(penalised, base, target, options)
        rows |= readings_of(base, target, options, CONTROLS)
        histories.append(net.history * 100)
        readings.append(rows)
        targets.append(target)
    names = NAMES["cifar10"]
    last = size.epochs - calm_epochs(size.epochs)
    late = slice(max(0, last - _LAST), last)
    blocks = [
        "Accuracy of each class on the held-out images after every epoch of training a base (CNN-3, CIFAR-10,"
        " seed 0). Left of the line the rate is constant; right of it, a tenth.",
        "![Accuracy of ten classes over the epochs](pictures/fig_3_1.svg)",
        _fluctuation(histories, late),
        f"Simple retraining: epochs more: {size.more}; the loss on the weakest class"
        f" ({', '.join(names[t] for (t,) in targets)}) times a penalty. {sizes_told(options, NET)}",
        _table(readings),
        f"The thesis (SVHN): its base's target class is right on {TABLE_3_1_VALIDATION} % of validation and"
        f" {TABLE_3_3['base'][0]} % of test; its numbers for the penalties are not known to us.",
        _reading(readings, histories, late),
    ]
    raw = {
        "targets": [names[t] for (t,) in targets],
        "histories": [h.tolist() for h in histories],
        "readings": [{name: asdict(reading) for name, reading in rows.items()} for rows in readings],
    }
    lines = [(name, list(enumerate(histories[0][:, c], 1))) for c, name in enumerate(names)]
    said = "Accuracy of ten classes over the epochs of training"
    picture = curves(lines, "epoch", "right on held-out images, %", said, marks=[late.stop + 0.5])
    title = "Table 3.1, Fig. 3.1: fluctuation, and simple retraining"
    return Page("table_3_1", title, blocks, raw, {"fig_3_1": picture})


def _fluctuation(histories: list[np.ndarray], late: slice) -> str:
    """How each class and the overall accuracy moved over the last epochs at the full rate, and their end."""
    rows = []
    for name, of in [*((n, lambda h, c=c: h[:, c]) for c, n in enumerate(NAMES["cifar10"])), ("all", _all)]:
        swing = [of(h)[late].std(ddof=1) for h in histories]
        change = [np.abs(np.diff(of(h)[late])).max() for h in histories]
        end = [of(h)[-1] for h in histories]
        rows.append([name, cell(swing, 1), cell(change, 1), cell(end, 1)])
    head = [
        "class",
        f"SD over epochs {late.start + 1} to {late.stop}",
        "largest step between two",
        "at the end",
    ]
    return grid(head, rows)


def _all(history: np.ndarray) -> np.ndarray:
    return history.mean(axis=1)


def _table(readings: list[dict[str, Reading]]) -> str:
    head = ["loss on the target", "target", "overall", "target at equal overall", "at 1 point less", "E"]
    return grid(
        head,
        [
            [
                name,
                cell([r[name].target for r in readings]),
                cell([r[name].overall for r in readings]),
                cell([r[name].at_equal for r in readings]),
                cell([r[name].at_one for r in readings]),
                cell([r[name].E for r in readings], 1),
            ]
            for name in readings[0]
        ],
    )


def _reading(readings: list[dict[str, Reading]], histories: list[np.ndarray], late: slice) -> str:
    """What the numbers say, in sentences that depend on them."""
    swing = np.mean([h[late].std(axis=0, ddof=1).mean() for h in histories])
    overall = np.mean([_all(h)[late].std(ddof=1) for h in histories])

    def mean(name: str, what: str) -> float:
        return interval([getattr(r[name], what) for r in readings])[0] * 100

    equal = {name: mean(name, "at_equal") for name in readings[0]}
    best = max((f"x{p:g}" for p in PENALTIES[1:]), key=lambda name: reached([r[name] for r in readings]))
    hardest = f"x{PENALTIES[-1]:g}"
    lost = mean("base", "overall") - mean(hardest, "overall")
    more = [mean("x1", what) - mean("base", what) for what in ("overall", "target")]
    return "\n".join(
        [
            f"- A class moves by {swing:.1f} points (SD) from epoch to epoch while the rate is constant,"
            f" the overall accuracy by {overall:.1f}: a checkpoint picked for one class is picked for luck,"
            " as the thesis's own base was. Bases here are taken at the end, after a quarter of the epochs at"
            " a tenth of the rate, whatever validation says.",
            f"- {hardest} brings the target to {mean(hardest, 'target'):.1f} % and the overall accuracy to"
            f" {mean(hardest, 'overall'):.1f} %, {lost:.1f} points below the base. As many epochs without a"
            f" penalty are worth {more[0]:+.1f} points overall and {more[1]:+.1f} on the target.",
            f"- At equal overall accuracy the best penalty ({best}) reaches {equal[best]:.1f} % with a bias"
            f" on top, the same epochs without a penalty {equal['x1']:.1f} %, the bias alone"
            f" {equal['bias']:.1f} %, random neurons, fitted, {equal['random-n refit']:.1f} %.",
        ]
    )


if __name__ == "__main__":
    command(run, __doc__)
