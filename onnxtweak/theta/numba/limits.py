"""How are the running limits raised on the CPU? In Numba: each value of V is read from memory once.

Up to `TARGETS` targets, memory is the cost: `STREAMS` samples at a time stream by over a long span of
neurons, whose maxima lie in the cache; the next samples are fetched meanwhile. At first, and with very few
targets, multiplying all of them costs less than finding out which can be left out; later see `pruned_limits`.
Samples pass by in the order of their targets, so that these are summed up as they do.

Beyond that, arithmetic is the cost: a tile of samples and neurons is packed in the cache, and goes through
all targets in blocks. A sample whose largest |v| in a strip times its reciprocal gap cannot raise any maximum
of the strip is skipped: exact, because rounding is monotone. The longer a run, the higher the maxima, the
more is skipped.

Where no v is negative, only limits of the positive sign raise `hi` and only those of the negative sign raise
`lo`: these are few, since a sample has at most one such target, its own. They are listed.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from onnxtweak.theta.numba.count_loops import by_target, sum_span
from onnxtweak.theta.numba.limit_loops import few_or_ranked, few_targets, many_targets
from onnxtweak.theta.numba.pruned_limits import rank
from onnxtweak.theta.numba.simd import STREAMS, STRIP, TARGETS, TESTED, flat
from onnxtweak.theta.threads import share_out

# Neurons of a span, while memory is the only cost and when there is arithmetic as well: the longer, the
# faster memory is read; the shorter, the nearer the maxima are.
_LONG_SPAN, _SPAN, _FEWEST = 16384, 2048, 3
# Ranking pays from so many targets and strips on, while no more than this part of the products is computed.
_RANKED, _RANKED_STRIPS, _WORTH = 8, 32, 1 / 4
# Values of a span that is ranked, half a second-level cache, and neurons at least and at most.
_RANKED_VALUES, _RANKED_SPANS = 1 << 18, (1024, 4096)
# Samples of a tile: with its strips half a megabyte, which second-level caches hold.
_ROWS = 128


def fold_limits(
    V: np.ndarray,
    limit: np.ndarray,
    hi: np.ndarray,
    lo: np.ndarray,
    bad: np.ndarray,
    pool: ThreadPoolExecutor | None = None,
) -> None:
    """See `numpy_backend.fold_limits`. pool : threads that share the neurons; None: this thread alone."""
    neurons = V.shape[1]
    whole = neurons // STRIP * STRIP
    if not limit.size:
        bad |= ~np.isfinite(V).all(axis=0)
        return
    if whole:
        _fold(flat(V), limit, flat(hi), flat(lo), bad, whole // STRIP, pool)
    _fold_rest(V, limit, hi, lo, bad)


def is_few(V: np.ndarray, limit: np.ndarray) -> bool:
    """Whether `fold_few` does these targets in one reading of V."""
    return 0 < limit.shape[1] <= TARGETS and V.shape[1] >= STRIP and len(limit) > 0


def fold_few(
    V: np.ndarray,
    limit: np.ndarray,
    member: np.ndarray,
    hi: np.ndarray,
    lo: np.ndarray,
    bad: np.ndarray,
    total: np.ndarray,
    peak: np.ndarray,
    pool: ThreadPoolExecutor | None,
) -> None:
    """Limits and sums of few targets: see `numpy_backend.fold_limits` and `fold_sums`."""
    neurons = V.shape[1]
    whole = neurons // STRIP * STRIP
    order = np.argsort(member, kind="stable")  # in each target, sample by sample
    samples = order, member[order], flat(total), flat(peak), True
    _fold(flat(V), limit, flat(hi), flat(lo), bad, whole // STRIP, pool, samples)
    _fold_rest(V, limit, hi, lo, bad)
    sum_span(flat(V), *by_target(member, len(total), neurons), *samples[2:4], neurons, whole, neurons)


def _fold_rest(V: np.ndarray, limit: np.ndarray, hi: np.ndarray, lo: np.ndarray, bad: np.ndarray) -> None:
    """The neurons after the last whole strip, as a strip that is filled up."""
    neurons = V.shape[1]
    whole = neurons // STRIP * STRIP
    if whole < neurons:
        parts = [np.zeros((len(rows), STRIP), rows.dtype) for rows in (V, hi, lo)]
        rest, flags = neurons - whole, np.zeros(STRIP, bool)
        for part, rows in zip(parts, (V, hi, lo), strict=True):
            part[:, :rest] = rows[:, whole:]
        v, up, down = parts
        up[:, rest:] = down[:, rest:] = np.inf
        _fold(flat(v), limit, flat(up), flat(down), flags, 1, None)
        hi[:, whole:], lo[:, whole:] = up[:, :rest], down[:, :rest]
        bad[whole:] |= flags[:rest]


def _fold(
    values: np.ndarray,
    limit: np.ndarray,
    hi: np.ndarray,
    lo: np.ndarray,
    bad: np.ndarray,
    strips: int,
    pool: ThreadPoolExecutor | None,
    samples: tuple[Any, ...] | None = None,
) -> None:
    """Whole strips. values, hi, lo : flat. samples : as of `few_targets`; None: nothing is summed up."""
    rows, targets = limit.shape
    neurons = len(values) // rows
    work: tuple[Any, ...]
    if targets <= TARGETS:
        groups = -(-rows // STREAMS)
        order = np.arange(rows) if samples is None else samples[0]
        samples = samples or (order, np.full(rows, -1), np.empty(0), np.empty(0, np.float32), False)
        factors = np.zeros((groups * STREAMS, targets), np.float32)
        factors[:rows] = limit[order]
        r, j = map(np.ascontiguousarray, np.nonzero(factors < 0))
        own = np.searchsorted(r, np.arange(groups + 1) * STREAMS)
        width, span = (0,) * targets, _LONG_SPAN if targets <= _FEWEST else _SPAN
        work = (
            values, samples, factors.reshape(-1), own, order[r], j, -factors[r, j], hi, lo, bad, neurons,
            span, width,
        )  # fmt: skip
        if targets < _RANKED or strips < _RANKED_STRIPS:
            share_out(few_targets, work, strips, pool)
        else:
            longer = int(np.clip(_RANKED_VALUES // rows // STRIP * STRIP, *_RANKED_SPANS))
            share_out(few_or_ranked, (rank(limit, neurons), _WORTH, longer, *work), strips, pool)
        return
    blocks = -(-targets // TARGETS)
    each = -(-targets // blocks)
    starts = np.minimum(np.arange(blocks) * each, targets - each)
    for first in range(0, rows, _ROWS):
        part = limit[first : first + _ROWS]
        count = len(part)
        # Tests read `TESTED` factors, also of the last sample.
        factors = np.zeros(blocks * count * each + TESTED, np.float32)
        by_block = factors[:-TESTED].reshape(blocks, count, each)
        for block, start in zip(by_block, starts, strict=True):
            block[:] = part[:, start : start + each]
        above = (by_block > 0).any(axis=2)
        candidates = np.argsort(~above, axis=1, kind="stable").astype(np.uint32)
        j, r = map(np.ascontiguousarray, np.nonzero(part.T < 0))
        own = np.searchsorted(j, np.arange(targets + 1))
        lists = (candidates, above.sum(axis=1), own, r, -part[r, j])
        width = (0,) * each
        work = (
            values[first * neurons :], factors, -factors, starts, *lists, hi, lo, bad, neurons, count, width,
        )  # fmt: skip
        share_out(many_targets, work, strips, pool)
