"""Which synapses does synaptic join make (METHOD 4, thesis 3.2.3)?"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from onnxtweak.method.selection.ranking import Ranking, united
from onnxtweak.method.tuning.operating_point import OperatingPoint
from onnxtweak.patch import Synapses
from onnxtweak.types import Neurons


def prefix_sums(
    tables: Iterable[np.ndarray], rankings: Sequence[Ranking], counts: Sequence[int]
) -> np.ndarray:
    """Boosts of the first n synapses of each target, for every n in `counts`, at scale 1, not divided by n.

    tables : batches of T (b, K), columns as in `united(rankings)`. Returns (N, c, G) float64: all that the
    choice of n and scale needs of T.
    """
    ends = np.cumsum([len(r.weight) for r in rankings])
    batches = []
    for T in tables:
        sums = np.empty((len(T), len(rankings), len(counts)))
        for t, ranking in enumerate(rankings):
            columns = slice(ends[t] - len(ranking.weight), ends[t])
            if not len(ranking.weight):
                sums[:, t] = 0
                continue
            running = np.cumsum(T[:, columns] * ranking.weight, axis=1)
            for g, n in enumerate(counts):
                sums[:, t, g] = running[:, min(n, running.shape[1]) - 1]
        batches.append(sums)
    return np.concatenate(batches)


def join_synapses(
    rankings: Sequence[Ranking], targets: Sequence[int] | np.ndarray, point: OperatingPoint
) -> tuple[Neurons, Synapses]:
    """The synapses of an operating point: weight = theta * scale / n (3.2.3). Targets at scale 0 get none."""
    chosen = [
        ranking.first(int(n) if scale else 0)
        for ranking, n, scale in zip(rankings, point.n, point.scale, strict=True)
    ]
    each = [len(r.weight) for r in chosen]
    factors = np.repeat(point.scale / point.n, each)
    threshold = np.concatenate([r.weight for r in chosen])
    return united(chosen), Synapses(
        target=np.repeat(np.asarray(targets, np.int64), each),
        weight=threshold * factors,
        threshold=threshold,
        count=np.concatenate([r.count for r in chosen]),
    )
