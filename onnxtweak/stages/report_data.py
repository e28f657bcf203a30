"""What does a report need beyond the numbers of a result? Evidence: plain data, for its JSON.

`Result.evidence` may hold, all of it optional:

    support, fixed, broken   per class: samples, and those that became right or wrong
    confusion                before, after: [label, prediction, samples] of every cell that is not empty
    validation               samples; drop and target of base, chosen point and bias
    bias_curve               drop and target along growing biases
    strengths                strengths, biases; right: per strength a list of texts, one for each bias, of how
                             many samples of each class are right ("45 49 7"), the patch added so many times
                             and the bias added to the logit of each target; (1, 0) is what was delivered
    trials                   n, scale, drop, target of everything that was tried
    theta                    per target a histogram: edges, counts, the cut, how many neurons have no theta
    layers                   tap, op, shape, target (None: all classes), synapses
    graph                    places, edges, left_out: the model's graph around the splice
    size                     bytes before and after
    latency                  before, after (microseconds), increase (percent), turns
    samples                  fixed, broken: some of each class, those of the targets first: row, where, label,
                             before, after (None: nothing), picture (PNG as a data URI); masks, boxes: whether
                             it has four tiles, the picture, and the labels and what base and tweaked model
                             show drawn over it; counts: of objects, how many there are of each class
    provenance               what the tweak was made from

Drops are percentage points of overall accuracy, targets are fractions.
"""

from __future__ import annotations

import base64
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from onnxtweak.data.dataset import Dataset
from onnxtweak.data.splits import View
from onnxtweak.data.thumbnails import thumbnail, with_masks
from onnxtweak.engine.latency import paired_latency
from onnxtweak.engine.machine.large_arrays import by_rows, let_go, light_blocks
from onnxtweak.engine.subject import Subject, smallest_samples
from onnxtweak.goal import ResolvedGoal
from onnxtweak.head import Decisions
from onnxtweak.method.selection.candidates import ThetaSizes, edges_of
from onnxtweak.method.tuning.boosted import boost_table
from onnxtweak.model.edit.neighborhood import neighborhood
from onnxtweak.patch import Tweak
from onnxtweak.stages.open_job import Job
from onnxtweak.types import BoxMetrics, LabelMetrics, Metrics, Neurons, Trial

_SHOWN = 48  # fixed samples, and broken samples
_EACH = 4  # of one class
_BINS = 40
_BIASES = 24
STRENGTHS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0)
# Of what wrong samples of targets lack, of which a bias makes so many right; and of what right ones have to
# spare.
_RAISE, _LOWER = (0.1, 0.25, 0.5, 0.75), (0.05, 0.1, 0.2, 0.4)
_ROWS = 1 << 22  # logits that are boosted at a time


def of_predictions(metrics: Sequence[Metrics], decided: Sequence[Decisions]) -> dict[str, Any]:
    """Per-class changes and confusions. metrics, decided : of base and tweaked."""
    classes = len(metrics[0].per_class)
    (number, was), now = (decided[0].number, decided[0].right), decided[1].right
    if isinstance(metrics[0], LabelMetrics | BoxMetrics):
        return {"support": metrics[0].support}
    cells = {name: _cells(m.confusion) for name, m in zip(("before", "after"), metrics, strict=True)}
    return {
        "support": metrics[0].support,
        "fixed": np.bincount(number[~was & now], minlength=classes),
        "broken": np.bincount(number[was & ~now], minlength=classes),
        "confusion": cells,
    }


def _cells(confusion: np.ndarray) -> np.ndarray:
    """(cells, 3) int64: label, prediction, samples."""
    at = np.argwhere(confusion)
    return np.column_stack([at, confusion[at[:, 0], at[:, 1]]])


def of_choice(
    base: np.ndarray, tweaked: np.ndarray, labels: np.ndarray, goal: ResolvedGoal, bias: np.ndarray
) -> dict[str, Any]:
    """Drop and target accuracy of the chosen point and of biases, on validation.

    base, tweaked (N, C) : logits. bias (C,) : the control. Nothing of several labels at once.
    """
    if goal.head.several:
        return {}
    wanted, right = goal.wanted(labels), by_rows(goal.head.right, base, labels)

    def point(now: np.ndarray) -> dict[str, float]:
        return {"drop": float(right.mean() - now.mean()) * 100, "target": _mean(now[wanted])}

    lack = _lacks(base, labels, goal)
    steps = np.quantile(lack[lack > 0], np.linspace(0, 1, _BIASES)) if (lack > 0).any() else np.empty(0)
    of_targets = bias[goal.targets]
    raises = len(of_targets) > 0 and of_targets.max() > 0
    direction = of_targets / of_targets.max() if raises else np.ones(len(goal))
    raised = np.empty((len(steps), len(labels)), bool)
    for part, block in light_blocks(base) if len(steps) else ():
        table = boost_table(block, labels[part], goal)
        raised[:, part] = [table.right(step * direction) for step in steps]
    biased = by_rows(lambda Z: goal.head.predict_biased(Z, bias), base)
    return {
        "validation": {
            "samples": len(labels),
            "base": {"drop": 0.0, "target": _mean(right[wanted])},
            "chosen": point(by_rows(goal.head.right, tweaked, labels)),
            "bias": point(biased == labels),
        },
        "bias_curve": [point(now) for now in raised],
    }


def _lacks(Z: np.ndarray, labels: np.ndarray, goal: ResolvedGoal) -> np.ndarray:
    """By how much the best other class exceeds its own, of each sample of a target: float64."""
    found = [np.empty(0)]
    for part, block in light_blocks(Z):
        own = labels[part]
        wanted, table = goal.wanted(own), boost_table(block, own, goal)
        logit = table.target_logits[np.flatnonzero(wanted), goal.place(own[wanted])]
        found.append((table.rest[wanted] - logit).astype(np.float64))
    return np.concatenate(found)


def _mean(right: np.ndarray) -> float:
    return float(right.mean()) if len(right) else float("nan")


def of_strengths(
    scores: Sequence[np.ndarray], predicted: Sequence[np.ndarray], labels: np.ndarray, goal: ResolvedGoal
) -> dict[str, Any]:
    """How many samples of each class would be right if the patch were stronger or weaker, and with a bias.

    scores : two (N, C), of base and tweaked model. predicted : two (N,), what they show; it counts where it
    stands for itself. Texts keep the JSON short: 72 points of 1,000 classes are 200 kB. Nothing of several
    labels at once.
    """
    if goal.head.several:
        return {}
    base, tweaked = scores
    classes = base.shape[1]
    biases = _target_biases(tweaked, labels, goal) if 0 < len(goal) < classes else [0.0]
    right = np.zeros((len(STRENGTHS), len(biases), classes), np.int64)
    step = max(1, _ROWS // classes)
    for rows in (slice(start, start + step) for start in range(0, len(labels), step)):
        for s, strength in enumerate(STRENGTHS):
            Z = base[rows] + (tweaked[rows] - base[rows]) * np.asarray(strength, base.dtype)
            table = boost_table(Z, labels[rows], goal) if len(biases) > 1 else None
            for b, bias in enumerate(biases):
                if table is None or not bias:
                    found = goal.head.right(Z, labels[rows])
                else:
                    found = table.right(np.full(len(goal), bias))
                right[s, b] += np.bincount(labels[rows][found], minlength=classes)
        let_go(base[rows])
        let_go(tweaked[rows])
    for strength, shown in zip((0.0, 1.0), predicted, strict=True):
        own = np.bincount(labels[shown == labels], minlength=classes)
        right[STRENGTHS.index(strength), biases.index(0.0)] = own
    return {
        "strengths": {
            "strengths": list(STRENGTHS),
            "biases": biases,
            "right": [[" ".join(map(str, counts)) for counts in of_biases.tolist()] for of_biases in right],
        }
    }


def _target_biases(tweaked: np.ndarray, labels: np.ndarray, goal: ResolvedGoal) -> list[float]:
    """Ascending, 0 among them: what makes certain shares of the target samples right, or wrong."""
    lack, found = _lacks(tweaked, labels, goal), {0.0}
    for sign, amounts, shares in ((1, lack[lack > 0], _RAISE), (-1, -lack[lack < 0], _LOWER)):
        amounts = amounts[np.isfinite(amounts)]
        if len(amounts):
            found |= {float(f"{sign * amount * 1.001:.2g}") for amount in np.quantile(amounts, shares)}
    return sorted(found)


def of_trials(grid: Sequence[Trial]) -> list[dict[str, float]]:
    """Every n and scale that was tried."""
    return [asdict(trial) for trial in grid]


def theta_histogram(sizes: ThetaSizes, chosen: np.ndarray) -> dict[str, Any]:
    """A histogram of |theta| over powers of ten. sizes : of all neurons. chosen (K,) : of the joined ones."""
    if not len(sizes.bins):
        return {"edges": [], "counts": [], "cut": None, "nought": sizes.nought}
    low, high = int(sizes.bins[0]), int(sizes.bins[-1]) + 1
    width = -(-(high - low) // _BINS)  # so many of the fine bins make one
    places = (sizes.bins - low) // width
    return {
        "edges": edges_of(np.arange(low, high + width, width)),
        "counts": np.bincount(places, sizes.counts).astype(np.int64),
        "cut": float(np.abs(chosen).min()) if len(chosen) else None,
        "nought": sizes.nought,
    }


def of_tweak(tweak: Tweak, base: Subject, tweaked: Subject) -> dict[str, Any]:
    """Layers that are read, the graph around the splice, file sizes, and what the tweak was made from."""
    graph = neighborhood(tweaked.model.graph)
    others = sum(file.size for file in base.model.external)
    return {
        "layers": _layers(tweak),
        **({} if graph is None else {"graph": asdict(graph)}),
        "size": {"before": len(base.model.data) + others, "after": len(tweaked.model.data) + others},
        "provenance": tweak.provenance,
    }


def _layers(tweak: Tweak) -> list[dict[str, Any]]:
    neurons: Neurons = tweak.neurons
    connected = tweak.patch.neuron_targets
    targets = [None] * len(neurons) if connected is None else connected.tolist()
    counted = Counter(zip(neurons.tap_of.tolist(), targets, strict=True))
    return [
        {
            "tap": neurons.taps[t].name,
            "op": neurons.taps[t].op,
            "shape": neurons.taps[t].shape,
            "target": target,
            "synapses": number,
        }
        for (t, target), number in sorted(counted.items(), key=lambda item: (item[0][0], item[0][1] or 0))
    ]


def of_runs(
    job: Job, tweaked: Subject, view: View, predicted: Sequence[np.ndarray], goal: ResolvedGoal
) -> dict[str, Any]:
    """What has to be run or read again: latency, and some samples that changed. predicted (N,) : two."""
    feeds = smallest_samples(job.opened, job.splits.fit, 1)  # two sessions hold on to their memory
    latency = {"latency": asdict(paired_latency(job.subject, tweaked, feeds))}
    if job.head.several or job.subject.detector is not None:
        return latency
    labels = view.labels
    was, now = predicted[0] == labels, predicted[1] == labels
    changed = {
        name: few_of_each(_one_each(view, own), labels, goal)
        for name, own in (("fixed", ~was & now), ("broken", was & ~now))
    }
    samples = {name: [_sample(view, int(k), predicted) for k in own] for name, own in changed.items()}
    return {**latency, "samples": samples}


def _one_each(view: View, changed: np.ndarray) -> np.ndarray:
    """Which rows changed, (k,): of the positions of a sample the first alone. changed (N,) bool."""
    rows = np.flatnonzero(changed)
    return rows[np.unique(view.rows[rows] // view.dataset.positions, return_index=True)[1]]


def few_of_each(rows: np.ndarray, labels: np.ndarray, goal: ResolvedGoal) -> np.ndarray:
    """A few of rows (k,) of each class, samples of the targets before others."""
    order = np.lexsort((rows, labels[rows], ~goal.wanted(labels[rows])))
    rows = rows[order]
    _, first, of_class = np.unique(labels[rows], return_index=True, return_inverse=True)
    return rows[np.arange(len(rows)) - first[of_class] < _EACH][:_SHOWN]


def _sample(view: View, k: int, predicted: Sequence[np.ndarray]) -> dict[str, Any]:
    row, dataset = int(view.rows[k]) // view.dataset.positions, view.dataset
    masks = _masks(view, row, predicted)
    image = with_masks(dataset, row, masks) if masks else thumbnail(dataset, row)
    return {
        "row": row,
        "where": view.dataset.place(row),
        "label": int(view.labels[k]),
        "before": int(predicted[0][k]),
        "after": int(predicted[1][k]),
        "picture": None if image is None else f"data:image/png;base64,{base64.b64encode(image).decode()}",
        "masks": bool(masks and image),
    }


def _sizes_of(dataset: Dataset, sample: int) -> tuple[int, ...]:
    """The sizes of a sample's positions, as its labels have them."""
    if not dataset.own:
        return dataset.sizes
    part = dataset.parts[int(dataset.by_part.of(np.array([sample]))[0])]
    return tuple(size for size in part.labels.shape[1:] if size > 1)


def _masks(view: View, row: int, predicted: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The labels of a sample's positions, and what base and tweaked model show there, where these are pixels.

    Each (h, w) int64, -1 for what is not known, or not in the view; an empty list elsewhere.
    """
    sizes, positions = _sizes_of(view.dataset, row), view.dataset.positions
    if len(sizes) != 2:
        return []
    start, stop = np.searchsorted(view.rows, [row * positions, (row + 1) * positions])
    at, found = view.rows[start:stop] - row * positions, []
    for classes in (view.labels, *predicted):
        mask = np.full(math.prod(sizes), -1, np.int64)
        mask[at] = classes[start:stop]
        found.append(mask.reshape(sizes))
    return found
