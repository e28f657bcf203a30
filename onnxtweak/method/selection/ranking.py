"""Which neurons deserve a synapse, and in which order? The ranking by theta or net gain (METHOD 3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from onnxtweak.errors import ModelError
from onnxtweak.method.selection.candidates import Candidates
from onnxtweak.method.selection.numbering import numbered
from onnxtweak.settings import JoinSettings
from onnxtweak.theta.line_search import net_gain
from onnxtweak.types import Neurons, Tap

# With `net-gain`, how many candidates of theta's ranking the exact search looks at, per synapse wanted.
CANDIDATES = 10


@dataclass(frozen=True)
class Ranking:
    """The best neurons for one target, best first. K entries.

    weight (K,) float64, count (K,) int64, lift (K,) float64 : their theta. criterion : what ranked them.
    """

    neurons: Neurons
    weight: np.ndarray
    count: np.ndarray
    lift: np.ndarray
    criterion: str

    def first(self, n: int) -> Ranking:
        """The best n of them."""
        return self.take(np.arange(min(n, len(self.weight))))

    def take(self, chosen: np.ndarray) -> Ranking:
        """Some of them, in the given order. chosen (k,) int."""
        neurons = Neurons(self.neurons.taps, self.neurons.tap_of[chosen], self.neurons.index[chosen])
        return Ranking(neurons, self.weight[chosen], self.count[chosen], self.lift[chosen], self.criterion)


def empty_ranking(taps: Sequence[Tap], criterion: str) -> Ranking:
    """The ranking of a target that no neuron can raise."""
    floats, integers = np.empty(0), np.empty(0, np.int64)
    return Ranking(numbered(taps, integers), floats, integers, floats, criterion)


def candidates_wanted(join: JoinSettings) -> int:
    """How many candidates per target theta has to name."""
    return max(join.count) * (CANDIDATES if join.criterion == "net-gain" else 1)


def rank(best: Candidates, taps: Sequence[Tap], criterion: str, n: int, where: str) -> Ranking:
    """The n best neurons by "count", "threshold" or "lift"; "auto" is count, or lift where all counts are 0.

    best : must hold n neurons by each criterion, where there are so many. Ties: larger |weight|, then lower
    neuron number. `where` names the target in errors. Raises ModelError when no neuron can help at all.
    """
    if not len(best.number):
        raise ModelError(
            "no hidden neuron can raise this class without breaking a sample that is right",
            where=where,
            hint="watch other tensors with --taps, or give more samples of this class",
        )
    if criterion == "auto":
        criterion = "count" if best.count.any() else "lift"
    size = np.abs(best.weight)
    key = {"count": best.count, "threshold": size, "lift": best.lift}[criterion]
    chosen = best.take(np.lexsort((best.number, -size, -key))[:n])
    count = chosen.count.astype(np.int64)
    return Ranking(numbered(taps, chosen.number), chosen.weight, count, chosen.lift, criterion)


def united(rankings: Sequence[Ranking]) -> Neurons:
    """The neurons of several rankings end to end, for one pass that reads them all."""
    taps = rankings[0].neurons.taps
    used = sorted({int(t) for r in rankings for t in r.neurons.tap_of})
    position = {old: new for new, old in enumerate(used)}
    tap_of = np.array([position[int(t)] for r in rankings for t in r.neurons.tap_of], np.int32)
    index = np.concatenate([r.neurons.index for r in rankings])
    return Neurons(tuple(taps[old] for old in used), tap_of, index)


def by_net_gain(ranking: Ranking, T: np.ndarray, gap: np.ndarray, gain: np.ndarray, n: int) -> Ranking:
    """Candidates ranked anew by the exact line search (METHOD 3), whose best net gain is weight and count.

    T (N, K) : fit values of the ranking's neurons. gap, gain (N,) : of the fit samples, to the target; its
    own samples gain 1. Returns the n best that gain anything, or the first n of the old order when none does.
    """
    if not len(ranking.weight):
        return ranking
    found = [net_gain(T[:, k], gap, gain) for k in range(T.shape[1])]
    weight = np.array([w for w, _ in found])
    gained = np.array([g for _, g in found], np.int64)
    order = np.lexsort((np.arange(len(gained)), -gained))
    order = order[gained[order] > 0][:n]
    if not len(order):
        return ranking.first(n)
    chosen = ranking.take(order)
    lift = weight[order] * T[gain > 0][:, order].mean(axis=0)
    return Ranking(chosen.neurons, weight[order], gained[order], lift, "net-gain")
