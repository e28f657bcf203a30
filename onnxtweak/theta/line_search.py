"""Which scale is best along one direction? An exact search: for a neuron (net gain), a bias (v = 1), a boost.

Along `Z[:, j] + s v` a sample's decision about target j changes once, at `s = g / v`. With these breakpoints
sorted, the search over s is two cumulative sums (METHOD 3).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Plateaus:
    """All distinct outcomes for s >= 0, in ascending order of s: P plateaus, the first of which is s = 0.

    scale (P,) float64 : the middle of each plateau.
    overall, target (P,) int64 : samples gained against s = 0: of all samples, of the target samples.
    """

    scale: np.ndarray
    overall: np.ndarray
    target: np.ndarray


def plateaus(v: np.ndarray, gap: np.ndarray, gain: np.ndarray, of_target: np.ndarray) -> Plateaus:
    """Outcomes along s >= 0.

    v (N,) float : boost per unit of scale. gap (N,) float : best rival minus the target's logit.
    gain (N,) int : what overall accuracy gains when the sample comes to be predicted as the target: +1 if the
    target is its label, -1 if its best rival is, else 0. of_target (N,) int : the same for the target
    accuracy (with several targets, -1 where the best rival is another target and the label).
    """
    v = np.asarray(v, np.float64)
    gap = np.asarray(gap, np.float64)
    counts = (gain != 0) | (of_target != 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        point = gap / v
    # Boosting moves a sample to the target when v > 0 (if it is not there yet), away from it when v < 0.
    crosses = counts & np.isfinite(point) & (point > 0)
    point = point[crosses]
    sign = np.sign(v[crosses]).astype(np.int64)
    order = np.argsort(point, kind="stable")
    point = point[order]
    overall = np.cumsum((sign * gain[crosses])[order])
    target = np.cumsum((sign * of_target[crosses])[order])
    last = np.append(point[1:] > point[:-1], True)[: len(point)]  # equal breakpoints act together
    edge = point[last]
    beyond = edge[-1:] * 2 if len(edge) else edge
    middle = (edge + np.append(edge[1:], beyond)) / 2
    # Breakpoints one float apart have no middle between them: such a plateau cannot be hit in float32.
    room = np.append(edge[1:], beyond) > edge * (1 + 1e-6)
    return Plateaus(
        scale=np.append(0.0, middle[room]),
        overall=np.append(0, overall[last][room]),
        target=np.append(0, target[last][room]),
    )


def net_gain(v: np.ndarray, gap: np.ndarray, gain: np.ndarray) -> tuple[float, int]:
    """The weight of either sign with the largest net gain in overall accuracy: (weight, samples gained).

    v, gap, gain : as in `plateaus`.
    """
    best = (0.0, 0)
    for sign in (1.0, -1.0):
        found = plateaus(sign * np.asarray(v, np.float64), gap, gain, gain)
        top = int(found.overall.argmax())
        if found.overall[top] > best[1]:
            best = (sign * float(found.scale[top]), int(found.overall[top]))
    return best
