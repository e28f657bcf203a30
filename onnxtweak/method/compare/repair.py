"""What does REPAIR reach, which ranks the classes at the top anew (METHOD 8.2)?

REPAIR (Wang et al., "Beyond Logit Adjustment", 2026, arXiv 2604.01506) adds an offset for each class and a
linear function of how a class compares with every other on the shortlist: gaps of scores and of ranks, and
the ratio of frequencies. The similarity of classes, which the authors take from a taxonomy, is not known.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from onnxtweak.engine.machine.large_arrays import beside, by_rows, let_go, light_blocks, light_parts
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
        found = np.empty_like(Z)
        for part in light_parts(Z):
            scores = _bounded(Z[part] / self.temperature)
            listed, features = competition(scores, self.log_frequency, self.shortlist)
            ranked = np.take_along_axis(scores, listed, axis=1)
            reranked = ranked + self.offset[listed] + features @ self.theta
            moved = reranked.min(axis=1, keepdims=True) + (scores - ranked[:, -1:])
            np.put_along_axis(moved, listed, reranked, axis=1)
            found[part] = moved * self.temperature
        return found


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
    shortlists = _Shortlists.of(fit.cooled(temperature), frequency, shortlist)
    tried = []
    for ridge in ridges:
        problem = replace(shortlists, ridge=ridge)
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

    U (C + 3,) : offsets and theta. listed (n, k) int64, own (n, k) bool : classes, and which is the label's;
    base (n, k), features (n, k, 3) : of them. All lie where the logits do: they can be larger.
    """

    listed: np.ndarray
    own: np.ndarray
    base: np.ndarray
    features: np.ndarray
    classes: int
    ridge: float = 0.0

    @classmethod
    def of(cls, table: Table, frequency: np.ndarray, shortlist: int) -> _Shortlists:
        samples, classes = table.Z.shape
        k = min(shortlist, classes)
        kinds = (np.int64, (k,)), (bool, (k,)), (np.float64, (k,)), (np.float64, (k, _FEATURES))
        arrays = [beside(table.Z, (samples, *shape), kind) for kind, shape in kinds]
        end = 0
        for part, block in light_blocks(table.Z):
            Z = _bounded(block.astype(np.float64))
            listed, features = competition(Z, frequency, shortlist)
            own = listed == table.labels[part, None]
            on, begin = own.any(axis=1), end
            end += int(on.sum())
            for array, made in zip(
                arrays, (listed, own, np.take_along_axis(Z, listed, axis=1), features), strict=True
            ):
                array[begin:end] = made[on]
                let_go(array[begin:end])
        listed, own, base, features = (array[:end] for array in arrays)
        return cls(listed, own, base, features, classes)

    def scores(self, U: np.ndarray) -> np.ndarray:
        def of_rows(listed: np.ndarray, features: np.ndarray) -> np.ndarray:
            found: np.ndarray = U[: self.classes][listed] + features @ U[self.classes :]
            return found

        return by_rows(of_rows, self.listed, self.features)

    def value(self, scores: np.ndarray, U: np.ndarray) -> tuple[float, np.ndarray]:
        p, each = beside(self.base, self.base.shape, np.float64), np.empty(len(self.base))
        for part in light_parts(self.base):
            logits = self.base[part] + scores[part]
            logits -= logits.max(axis=1, keepdims=True)
            odds = np.exp(logits)
            total = odds.sum(axis=1, keepdims=True)
            each[part] = np.log(total[:, 0]) - (self.own[part] * logits).sum(axis=1)
            np.divide(odds, total, out=p[part])
            for array in (self.base, self.own, scores, p):
                let_go(array[part])
        return float(each.sum()) / self._samples + self.ridge / 2 * float(U @ U), p

    def gradient(self, p: np.ndarray, U: np.ndarray) -> np.ndarray:
        return self._means(lambda p, own: p - own, p) + self.ridge * U

    def curvature(self, p: np.ndarray) -> np.ndarray:
        return np.maximum(self._means(_variance, p, power=2), 1e-6) + self.ridge

    def standard_errors(self, p: np.ndarray) -> np.ndarray:
        """Of the offsets (C,), by the diagonal of the Hessian; inf for classes that are never listed."""
        information = self._means(_variance, p)[: self.classes] * self._samples
        with np.errstate(divide="ignore"):
            return 1 / np.sqrt(information)

    @property
    def _samples(self) -> int:
        return max(len(self.listed), 1)

    def _means(self, of: Callable[..., np.ndarray], p: np.ndarray, power: int = 1) -> np.ndarray:
        """(C + 3,) : what is made `of` p and own (n, k), for each class, and times the features to a power.

        Means over the samples. Numbers are added one after the other, wherever they lie.
        """
        offsets: np.ndarray = np.zeros(self.classes)
        theta: np.ndarray = np.zeros(_FEATURES)
        every = np.arange(self.classes)
        for part in light_parts(self.features):
            each, features = of(p[part], self.own[part]).ravel(), self.features[part].reshape(-1, _FEATURES)
            listed = np.append(every, self.listed[part].ravel())
            offsets = np.bincount(listed, np.append(offsets, each), self.classes)
            theta = np.einsum("n,nf->f", np.append(1.0, each), np.vstack([theta, features**power]))
            for array in (p, self.own, self.features, self.listed):
                let_go(array[part])
        return np.append(offsets, theta) / self._samples


def _variance(p: np.ndarray, own: np.ndarray) -> np.ndarray:
    return p * (1 - p)
