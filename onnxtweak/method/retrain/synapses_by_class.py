"""Which synapses has each class so far? What the stages of a schedule add to and retrain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np

from onnxtweak.method.selection.ranking import Ranking
from onnxtweak.patch import Synapses


@dataclass(frozen=True)
class SynapsesByClass:
    """The synapses so far, by class.

    column (k,) int64 : of the pool. weight, threshold (k,) float64 and count (k,) int64 as in `Synapses`.
    A neuron appears once per class: joined again, its weights add up.
    """

    column: dict[int, np.ndarray]
    weight: dict[int, np.ndarray]
    threshold: dict[int, np.ndarray]
    count: dict[int, np.ndarray]

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """All of it as arrays."""
        return {f"{name} {j}": array for name, part in vars(self).items() for j, array in part.items()}

    @classmethod
    def of_arrays(cls, found: Mapping[str, np.ndarray]) -> SynapsesByClass:
        """What `arrays` gave, which may be among others."""
        parts: dict[str, dict[int, np.ndarray]] = {each.name: {} for each in fields(cls)}
        for key, array in found.items():
            name, _, j = key.partition(" ")
            if name in parts:
                parts[name][int(j)] = array
        return cls(**parts)

    def without(self, classes: Sequence[int] | np.ndarray) -> SynapsesByClass:
        """The synapses of the other classes."""
        others = [j for j in self.column if j not in set(classes)]
        return SynapsesByClass(*({j: part[j] for j in others} for part in vars(self).values()))

    def applied(self, Z: np.ndarray, T: np.ndarray) -> np.ndarray:
        """Logits with the synapses: Z (N, C) of the base, T (N, K) of the pool."""
        logits = Z.copy()
        for j, column in self.column.items():
            logits[:, j] += (T[:, column] @ self.weight[j]).astype(Z.dtype)
        return logits

    def flat(self) -> tuple[np.ndarray, Synapses]:
        """Columns (k,) and synapses, classes ascending; those of weight 0 are left out."""
        nonzero = {j: np.flatnonzero(self.weight[j]) for j in sorted(self.column)}

        def joined(part: dict[int, np.ndarray], kind: type) -> np.ndarray:
            return np.concatenate([np.empty(0, kind), *(part[j][rows] for j, rows in nonzero.items())])

        target = np.repeat(np.array(list(nonzero), np.int64), [len(rows) for rows in nonzero.values()])
        synapses = Synapses(
            target=target,
            weight=joined(self.weight, np.float64),
            threshold=joined(self.threshold, np.float64),
            count=joined(self.count, np.int64),
        )
        return joined(self.column, np.int64), synapses

    def joined(self, j: int, ranking: Ranking, factor: float) -> SynapsesByClass:
        """With synapses for class j too, of theta times a factor; on one that exists the weight adds up."""
        column, weight = ranking.neurons.index, ranking.weight * factor
        threshold, count = ranking.weight, ranking.count
        if j in self.column:
            known = {int(c): k for k, c in enumerate(self.column[j])}
            place = np.array([known.get(int(c), -1) for c in column])
            new, old = place < 0, place[place >= 0]
            weights, thresholds, counts = (
                part[j].copy() for part in (self.weight, self.threshold, self.count)
            )
            weights[old] += weight[~new]
            thresholds[old], counts[old] = threshold[~new], count[~new]
            column = np.concatenate([self.column[j], column[new]])
            weight = np.concatenate([weights, weight[new]])
            threshold = np.concatenate([thresholds, threshold[new]])
            count = np.concatenate([counts, count[new]])
        parts = zip(vars(self).values(), (column, weight, threshold, count), strict=True)
        return SynapsesByClass(*({**part, j: value} for part, value in parts))


NO_SYNAPSES = SynapsesByClass({}, {}, {}, {})
