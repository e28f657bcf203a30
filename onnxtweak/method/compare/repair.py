"""What does REPAIR reach, which ranks the classes at the top anew (METHOD 8.2)?

REPAIR (Wang et al., "Beyond Logit Adjustment", 2026, arXiv 2604.01506) adds an offset for each class and a
linear function of how a class compares with every other on the shortlist: gaps of scores and of ranks, and
the ratio of frequencies. The similarity of classes, which the authors take from a taxonomy, is not known.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from onnxtweak.engine.machine.large_arrays import by_rows, light_blocks
from onnxtweak.engine.shared.shards import joined
from onnxtweak.method.softmax import log_losses
from onnxtweak.method.solvers.lbfgs import lbfgs
from onnxtweak.method.table import Table

# Classes on the shortlist, as in the paper.
SHORTLIST = 10
# L2 penalties that validation chooses among.
RIDGES = (1.0, 0.1, 0.01, 1e-3, 1e-4)
_FEATURES = 3
_FAR = 1e3  # of calibrated logits: no probability is left
_TOLERANCE, _ITERATIONS = 1e-9, 300


@dataclass(frozen=True)
class Reranking:
    """What REPAIR has learnt. It reads logits alone, and as it sorts them it cannot be written as a patch.

    offset (C,) : of each class. theta (3,) : weights of the gaps of scores, of ranks, and of log frequencies.
    log_frequency (C,) : log of 1 + fit samples of each class. temperature : of the logits it was learnt on.
    """

    offset: np.ndarray
    theta: np.ndarray
    log_frequency: np.ndarray
    temperature: float = 1.0
    shortlist: int = SHORTLIST

    @property
    def parameters(self) -> int:
        """Numbers that are not zero."""
        return int(np.count_nonzero(self.offset) + np.count_nonzero(self.theta))

    def applied(self, Z: np.ndarray, T: np.ndarray) -> np.ndarray:
        """Logits (N, C) for Z (N, C), of its dtype. A class that is not on the shortlist stays behind those
        that are, by as much as it is behind the last of them in Z."""
        scores = _bounded(Z / self.temperature)
        listed, features = competition(scores, self.log_frequency, self.shortlist)
        ranked = np.take_along_axis(scores, listed, axis=1)
        reranked = ranked + self.offset[listed] + features @ self.theta
        behind = scores - ranked[:, -1:]
        found = reranked.min(axis=1, keepdims=True) + behind
        np.put_along_axis(found, listed, reranked, axis=1)
        return (found * self.temperature).astype(Z.dtype)


def _bounded(Z: np.ndarray) -> np.ndarray:
    """Logits that are infinitely far behind, as the logarithm of 0 is, brought where means are finite."""
    return np.maximum(Z, Z.max(axis=1, keepdims=True) - _FAR)


def competition(Z: np.ndarray, log_frequency: np.ndarray, shortlist: int) -> tuple[np.ndarray, np.ndarray]:
    """The k classes of highest score, best first, (N, k) int64, and how each compares with the k - 1 others.

    Features (N, k, 3) : means over the others of score - other's, other's rank - rank, and log frequency -
    other's.
    As each is a difference, its mean over the others is k / (k - 1) times the distance to the mean of all.
    """
    k = min(shortlist, Z.shape[1])
    listed = np.argsort(-Z, axis=1, kind="stable")[:, :k]
    rank = np.broadcast_to(-np.arange(k, dtype=np.float64), listed.shape)
    values = np.stack([np.take_along_axis(Z, listed, axis=1), rank, log_frequency[listed]], axis=2)
    return listed, (values - values.mean(axis=1, keepdims=True)) * (k / max(k - 1, 1))


def repair(
    fit: Table,
    validation: Table,
    temperature: float,
    *,
    ridges: Sequence[float] = RIDGES,
    shortlist: int = SHORTLIST,
) -> Reranking:
    """REPAIR learnt on fit samples, its penalty by log-loss on validation; offsets shrunk in the end.

    temperature : of the base, by which logits are divided first.
    """
    classes = fit.Z.shape[1]
    frequency = np.log1p(np.bincount(fit.labels, minlength=classes))
    cool = fit.cooled(temperature)
    tried = []
    for ridge in ridges:
        problem = _Shortlists.of(cool, frequency, shortlist, ridge)
        end = lbfgs(problem, np.zeros(classes + _FEATURES), _TOLERANCE, _ITERATIONS)
        _, p = problem.value(end.scores, end.U)
        offset = shrunk(end.U[:classes], problem.standard_errors(p))
        found = Reranking(offset, end.U[classes:], frequency, temperature, shortlist)
        logits = by_rows(lambda Z: Z / temperature, validation.patched(None, found))
        left = log_losses(logits, validation.labels)
        tried.append((float(left.mean()), found))
    return min(tried, key=lambda pair: pair[0])[1]


def shrunk(offset: np.ndarray, error: np.ndarray) -> np.ndarray:
    """Offsets (C,) drawn towards their mean as far as their standard errors (C,) make them noise.

    Empirical Bayes as of James and Stein: mean + max(0, 1 - error^2 / variance) (offset - mean). Classes of
    infinite error, which nothing is known of, get the mean of the others.
    """
    known = np.isfinite(error)
    if not known.any():
        return np.zeros(len(offset))
    mean, variance = offset[known].mean(), max(float(offset[known].var()), 1e-300)
    return mean + np.maximum(0, 1 - np.minimum(error**2 / variance, 1)) * (offset - mean)


@dataclass(frozen=True)
class _Shortlists:
    """The conditional log-likelihood of labels, given that they are on the shortlist, as `lbfgs` asks for it.

    U (C + 3,) : offsets and theta. listed (n, k) int64, own (n, k) : classes, and 1 at the label's; base
    (n, k), features (n, k, 3) : of them.
    """

    listed: np.ndarray
    own: np.ndarray
    base: np.ndarray
    features: np.ndarray
    classes: int
    ridge: float

    @classmethod
    def of(cls, table: Table, frequency: np.ndarray, shortlist: int, ridge: float) -> _Shortlists:
        parts = []
        for part, block in light_blocks(table.Z):
            Z = _bounded(block.astype(np.float64))
            listed, features = competition(Z, frequency, shortlist)
            own = listed == table.labels[part, None]
            on = own.any(axis=1)
            base = np.take_along_axis(Z, listed, axis=1)
            parts.append((listed[on], own[on].astype(float), base[on], features[on]))
        listed, own, base, features = joined(parts)
        return cls(listed, own, base, features, table.Z.shape[1], ridge)

    def scores(self, U: np.ndarray) -> np.ndarray:
        return U[: self.classes][self.listed] + self.features @ U[self.classes :]

    def value(self, scores: np.ndarray, U: np.ndarray) -> tuple[float, np.ndarray]:
        logits = self.base + scores
        logits -= logits.max(axis=1, keepdims=True)
        p = np.exp(logits)
        total = p.sum(axis=1, keepdims=True)
        each = np.log(total[:, 0]) - (self.own * logits).sum(axis=1)
        return float(each.sum()) / self._samples + self.ridge / 2 * float(U @ U), p / total

    def gradient(self, p: np.ndarray, U: np.ndarray) -> np.ndarray:
        return self._summed(p - self.own, self.features) + self.ridge * U

    def curvature(self, p: np.ndarray) -> np.ndarray:
        diagonal = self._summed(p * (1 - p), self.features**2)
        return np.maximum(diagonal, 1e-6) + self.ridge

    def standard_errors(self, p: np.ndarray) -> np.ndarray:
        """Of the offsets (C,), by the diagonal of the Hessian; inf for classes that are never listed."""
        information = self._summed(p * (1 - p), self.features)[: self.classes] * self._samples
        with np.errstate(divide="ignore"):
            return 1 / np.sqrt(information)

    @property
    def _samples(self) -> int:
        return max(len(self.listed), 1)

    def _summed(self, each: np.ndarray, features: np.ndarray) -> np.ndarray:
        """(C + 3,) : `each` (n, k) per class, and times the features; means over the samples."""
        offsets = np.bincount(self.listed.ravel(), each.ravel(), self.classes)
        return np.append(offsets, np.einsum("nk,nkf->f", each, features)) / self._samples
