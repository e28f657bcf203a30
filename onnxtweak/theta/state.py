"""What is kept per neuron and target between batches? Theta's state: chunk, combine, finish.

Nothing needs the whole of V (METHOD 11). The limits are running maxima, so shards merged in any order give
the same bits. Counts need the finished limits: they come from the survivors, or from a second sweep over the
wrong samples of the targets. The sums behind `lift` are float64 and merged in shard order.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from types import ModuleType

import numpy as np

from onnxtweak.theta.threads import share_out

# A weight stays this much inside its limit, so that float32 rounding cannot cross it (METHOD 2).
INSIDE = 1.0 - 1e-6
# Without any limit, a boost may reach this many times the median gap (METHOD 2, "No limit at all").
CAP = 10.0
# A reciprocal limit this large comes from a tied sample, which any boost breaks: no weight is safe.
TIED = np.float32(1e30)


@dataclass(frozen=True)
class ThetaState:
    """Theta of M neurons for c targets, in progress. The folds of a back end update its arrays in place.

    hi, lo (c, M) float32 : 1/w_hi and -1/w_lo, the reciprocal limits of a positive and a negative weight.
    count_hi, count_lo (c, M) int32 : samples fixed within them.
    last_hi, last_lo (c, M) float32 : reciprocal weight that fixes the last of them (inf: fixes none).
    total (c, M) float64, peak (c, M) float32 : sum and largest |v| over the samples of each target.
    bad (M,) bool : the neuron was NaN or infinite on some sample.
    seen (c,) int64 : fit samples of each target. gap (c,) float64 : median |g| over them.
    """

    hi: np.ndarray
    lo: np.ndarray
    count_hi: np.ndarray
    count_lo: np.ndarray
    last_hi: np.ndarray
    last_lo: np.ndarray
    total: np.ndarray
    peak: np.ndarray
    bad: np.ndarray
    seen: np.ndarray
    gap: np.ndarray


def empty_state(neurons: int, targets: int, xp: ModuleType = np) -> ThetaState:
    """The neutral element of `combine`. xp : library of the arrays per neuron, NumPy or CuPy."""
    shape = (targets, neurons)
    return ThetaState(
        hi=xp.zeros(shape, np.float32),
        lo=xp.zeros(shape, np.float32),
        count_hi=xp.zeros(shape, np.int32),
        count_lo=xp.zeros(shape, np.int32),
        last_hi=xp.full(shape, np.inf, np.float32),
        last_lo=xp.full(shape, np.inf, np.float32),
        total=xp.zeros(shape, np.float64),
        peak=xp.zeros(shape, np.float32),
        bad=xp.zeros(neurons, bool),
        seen=np.zeros(targets, np.int64),
        gap=np.zeros(targets, np.float64),
    )


def sweep_state(neurons: int, targets: int) -> ThetaState:
    """An empty state in NumPy, without the arrays that counting fills: see `begin_counting`."""
    shape = (targets, neurons)
    state = without_counts(empty_state(0, targets))
    wide = {name: np.zeros(shape, getattr(state, name).dtype) for name in ("hi", "lo", "total", "peak")}
    return replace(state, **wide, bad=np.zeros(neurons, bool))


def begin_counting(state: ThetaState) -> ThetaState:
    """The same state with counts of zero; a state on a GPU has them already."""
    if state.count_hi.shape == state.hi.shape:
        return state
    shape = state.hi.shape
    counts = {name: np.zeros(shape, np.int32) for name in ("count_hi", "count_lo")}
    last = {name: np.full(shape, np.inf, np.float32) for name in ("last_hi", "last_lo")}
    return replace(state, **counts, **last)


def bytes_per_neuron(targets: int) -> int:
    """Bytes of state per neuron during a sweep: limits, peaks, sums, and the sums of a shard.

    Counting takes 8 more per target, once the hidden values of a fold, or the survivors, are freed.
    """
    return targets * (2 * 4 + 4 + 8 + 8) + 1


def bytes_sent(targets: int) -> int:
    """Bytes of a neuron's state that a shard hands over: limits, sums and peaks."""
    return targets * (2 * 4 + 8 + 4) + 1


def state_slice(state: ThetaState, start: int, stop: int) -> ThetaState:
    """The state of neurons [start, stop): views, not copies."""
    shared = {"seen": state.seen, "gap": state.gap}
    return ThetaState(**{k: v[..., start:stop] for k, v in vars(state).items() if k not in shared}, **shared)


def combine(state: ThetaState, other: ThetaState, pool: ThreadPoolExecutor | None = None) -> None:
    """Merge another shard into `state`, in NumPy. Only the last digits of `total` depend on the order.

    pool : threads that share the neurons. Counts are ignored where the other state comes `without_counts`.
    """
    np.maximum(state.gap, other.gap, out=state.gap)
    np.add(state.seen, other.seen, out=state.seen)
    share_out(_combine, (state, other), len(state.bad), pool)


def _combine(state: ThetaState, other: ThetaState, start: int, stop: int) -> None:
    folds = {"hi": np.maximum, "lo": np.maximum, "peak": np.maximum, "total": np.add, "bad": np.logical_or}
    if other.count_hi.size:
        folds |= {"count_hi": np.add, "count_lo": np.add, "last_hi": np.minimum, "last_lo": np.minimum}
    for name, fold in folds.items():
        into = getattr(state, name)[..., start:stop]
        fold(into, getattr(other, name)[..., start:stop], out=into)


def copied(state: ThetaState) -> ThetaState:
    """A state that shares no memory with it."""
    return ThetaState(**{name: array.copy() for name, array in vars(state).items()})


def without_counts(state: ThetaState) -> ThetaState:
    """The state without its counts, which are empty during a sweep: smaller by almost half, to be sent."""
    none = np.empty((0, 0))
    return replace(state, count_hi=none, count_lo=none, last_hi=none, last_lo=none)


def limits_alone(state: ThetaState) -> ThetaState:
    """The state without sums and peaks, which counting does not need."""
    none = np.empty((0, 0))
    return replace(state, total=none, peak=none, bad=none)


def counts_alone(state: ThetaState) -> ThetaState:
    """The state without what a sweep fills: what counting some samples adds to another."""
    none = np.empty((0, 0))
    return replace(state, hi=none, lo=none, total=none, peak=none, bad=none)


def add_counts(state: ThetaState, other: ThetaState) -> ThetaState:
    """A state with what was counted on other samples, within the same limits; neither is changed."""
    return replace(
        state,
        count_hi=state.count_hi + other.count_hi,
        count_lo=state.count_lo + other.count_lo,
        last_hi=np.minimum(state.last_hi, other.last_hi),
        last_lo=np.minimum(state.last_lo, other.last_lo),
    )


@dataclass(frozen=True)
class Scores:
    """Theta of M neurons for one target, finished (METHOD 2).

    weight (M,) float64 : the synapse's weight, signed; 0 for a neuron that cannot help.
    count (M,) int32 : wrong target samples that it fixes alone, breaking none.
    lift (M,) float64 : weight times the mean of v over the target's samples: its typical boost.
    """

    weight: np.ndarray
    count: np.ndarray
    lift: np.ndarray


def _weights(limit: np.ndarray, last: np.ndarray, peak: np.ndarray, gap: float) -> np.ndarray:
    """Limits as weights; an unlimited weight is capped at what fixes the last sample, and at `CAP` gaps."""
    with np.errstate(divide="ignore", invalid="ignore"):
        weight = INSIDE / limit.astype(np.float64)
        free = np.flatnonzero(~(limit > 0))  # few: most neurons have a limit
        fixes_last = np.where(np.isfinite(last[free]), (1 + 1e-6) / last[free].astype(np.float64), np.inf)
        capped = np.minimum(fixes_last, CAP * gap / peak[free].astype(np.float64))
    weight[free] = np.where(np.isfinite(capped), capped, 0.0)
    return np.where((peak > 0) & (limit < TIED), weight, 0.0)


def finish(state: ThetaState, target: int) -> Scores:
    """Scores of one target (its position among the targets): the better sign of each neuron (METHOD 2)."""
    j = target
    up = _weights(state.hi[j], state.last_hi[j], state.peak[j], state.gap[j])
    down = -_weights(state.lo[j], state.last_lo[j], state.peak[j], state.gap[j])
    with np.errstate(invalid="ignore"):  # neurons marked bad have no mean
        mean = state.total[j] / max(int(state.seen[j]), 1)
        lift_up, lift_down = up * mean, down * mean
    count_up = np.where(up > 0, state.count_hi[j], 0)
    count_down = np.where(down < 0, state.count_lo[j], 0)
    negative = (count_down > count_up) | ((count_down == count_up) & (lift_down > lift_up))
    scores = Scores(
        weight=np.where(negative, down, up),
        count=np.where(negative, count_down, count_up).astype(np.int32, copy=False),
        lift=np.where(negative, lift_down, lift_up),
    )
    for values in vars(scores).values():
        values[state.bad] = 0
    return scores
