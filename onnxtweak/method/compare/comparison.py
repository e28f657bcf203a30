"""How do several methods do on the same samples, at the same overall accuracy?

Each method hands over an offer; here its operating point is set on samples held out, and its logits on test
are read at fixed drops of the overall accuracy, for all methods in the same way.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from onnxtweak.method.metrics import fixed_and_broken, harm, mcnemar, measure
from onnxtweak.method.table import Table
from onnxtweak.method.tuning.bias_path import BiasPaths
from onnxtweak.method.tuning.boosted import decisions, predict
from onnxtweak.method.tuning.operating_point import AllowedDrops, choose
from onnxtweak.method.tuning.target_bias import set_target_bias
from onnxtweak.patch import Linear, Mlp
from onnxtweak.types import Metrics

# Drops of the overall accuracy on test, in percentage points, at which the targets are read.
DROPS = (0.0, 0.1, 0.3, 1.0)
CURVE = (-5.0, -3.0, -2.0, -1.0, -0.5, *DROPS, 2.0, 3.0, 5.0)


@dataclass(frozen=True)
class MethodResult:
    """A method's patch on one split, its operating point not yet set.

    columns (K,) : of the tables, that the patch reads. held_out (n, C), base (n, C), labels (n,) : logits
    with and without it on samples that it was not fitted to. point (c,) : biases on the targets that are part
    of the method; None: they are set on the samples held out. at (D,) : readings on test, where biases are
    not what moves it. note : for the reader.
    """

    columns: np.ndarray
    patch: Linear | Mlp
    held_out: np.ndarray
    base: np.ndarray
    labels: np.ndarray
    point: np.ndarray | None = None
    at: np.ndarray | None = None
    note: str = ""

    @property
    def parameters(self) -> int:
        """Numbers that are not zero."""
        return self.patch.parameters


@dataclass(frozen=True)
class MethodOutcome:
    """How an offer did on test.

    metrics : at its own operating point. at (D,) : target accuracy at each of CURVE; NaN: not reached.
    fixed, broken, mcnemar_p, E : against the base. bias (c,) : its operating point. taken : whether the patch
    kept the limit on the samples held out; where not, the base is what is delivered.
    """

    metrics: Metrics
    at: np.ndarray
    fixed: int
    broken: int
    mcnemar_p: float
    E: float
    bias: np.ndarray
    taken: bool = True


def judge(offer: MethodResult, test: Table, targets: np.ndarray, drop: float, margin: float) -> MethodOutcome:
    """Set the operating point on the samples held out, and read the test samples.

    An offer that does not keep the limit there is not taken up: what is delivered is the base.
    """
    bias, taken = offer.point, True
    Z = test.patched(offer.columns, offer.patch)
    delivered = Z
    if bias is None:
        spent = set_target_bias(
            offer.held_out, offer.base, offer.labels, targets, overall_drop=drop, margin=margin
        )
        taken = spent.holds
        delivered = Z if taken else test.Z
        bias = spent.bias if taken else np.zeros(len(targets))
    table = decisions(delivered, test.labels, targets)
    now = predict(table, np.broadcast_to(bias, (len(test.labels), len(targets))))
    was = test.Z.argmax(axis=1)
    before = measure(was, test.labels, targets, Z.shape[1])
    after = measure(now, test.labels, targets, Z.shape[1])
    fixed, broken = fixed_and_broken(was, now, test.labels)
    return MethodOutcome(
        after,
        readings(Z, test.Z, test.labels, targets, CURVE) if offer.at is None else offer.at,
        fixed,
        broken,
        mcnemar(fixed, broken),
        harm(before, after),
        bias,
        taken,
    )


def readings(
    Z: np.ndarray, base: np.ndarray, labels: np.ndarray, targets: np.ndarray, drops: Sequence[float]
) -> np.ndarray:
    """Best target accuracy (D,) that biases on the targets reach at each drop of the overall accuracy.

    Drops are percentage points below the base's accuracy on the same samples. NaN where no bias gets there.
    """
    samples = len(labels)
    floor = np.array([_right(base, labels) - np.floor(d / 100 * samples + 1e-9) for d in drops])
    if len(targets) == 1:
        return _along_one_bias(Z, labels, int(targets[0]), floor)
    table, ones = decisions(Z, labels, targets), np.ones((samples, len(targets), 1))
    lines = BiasPaths(table, ones, (1,))
    here, own = _right(Z, labels), np.isin(labels, targets)
    found = np.full(len(drops), np.nan)
    for number, least in enumerate(floor):
        room = (here - least) / samples * 100
        point = choose(table, ones, (1,), None, AllowedDrops(room), lines).scale
        right = predict(table, np.broadcast_to(point, (samples, len(targets)))) == labels
        if right.sum() >= least:
            found[number] = right[own].mean()
    return found


def _right(Z: np.ndarray, labels: np.ndarray) -> int:
    return int((Z.argmax(axis=1) == labels).sum())


def _along_one_bias(Z: np.ndarray, labels: np.ndarray, target: int, floor: np.ndarray) -> np.ndarray:
    """Every bias from minus to plus infinity: a sample turns to the target where the bias passes its gap."""
    others = Z.astype(np.float64)
    own = others[:, target].copy()
    others[:, target] = -np.inf
    rival = others.argmax(axis=1)
    gap = others[np.arange(len(Z)), rival] - own
    order = np.argsort(gap, kind="stable")
    is_own = (labels == target)[order]
    gain = np.where(is_own, 1, -(rival == labels)[order].astype(np.int64))
    overall = int((rival == labels).sum()) + np.append(0, np.cumsum(gain))
    reached = np.append(0, np.cumsum(is_own))
    apart = np.append(np.append(True, np.diff(gap[order]) > 0), True)  # equal gaps turn together
    most = max(int(is_own.sum()), 1)
    return np.array(
        [reached[ok].max() / most if (ok := apart & (overall >= least)).any() else np.nan for least in floor]
    )
