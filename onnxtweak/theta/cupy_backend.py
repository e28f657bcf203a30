"""The folds of theta on a GPU, in CUDA (theta.cu): each value of V is read once for all targets.

The contract is `numpy_backend`'s, with V and the state on the GPU. `limit`, `wanted` and `member` come from
the host, or, when several taps share them, as `place_limit`, `place_wanted` and `place_member` made them. Up
to `FEW` targets one kernel does everything in one reading of V. Beyond that the arithmetic is the cost: tiles
of neurons and targets are multiplied out of shared memory, and the few negative limits (a target's own
samples, at most one a sample) are a list of their own.

Everything runs on the current device and stream. The last kernel is still at work when a fold returns.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from functools import cache
from pathlib import Path

import cupy
import numpy as np

from onnxtweak.theta.state import ThetaState, empty_state

SOURCE = Path(__file__).with_name("theta.cu")
FEW = 16
# Blocks in flight that keep every multiprocessor busy to the end of a launch.
_BLOCKS_EACH = 16
# As theta.cu has them: threads of a block, samples of a stage, neurons of a tile.
_FEW_THREADS, _FEW_WIDTH, _FEW_STAGE = 128, 2, 128
_NEURON_THREADS, _MANY_STAGE, _TILE = 16, 16, 128
_OWN_THREADS = 128
_ON_HOST = {"seen", "gap"}


def device_state(state: ThetaState) -> ThetaState:
    """A state whose arrays per neuron are on the GPU, to be folded into."""
    names = [f.name for f in fields(state) if f.name not in _ON_HOST]
    return replace(state, **{name: cupy.asarray(getattr(state, name)) for name in names})


def host_state(state: ThetaState) -> ThetaState:
    """A state in NumPy, to be finished, combined or saved."""
    names = [f.name for f in fields(state) if f.name not in _ON_HOST]
    return replace(state, **{name: cupy.asnumpy(getattr(state, name)) for name in names})


def place(V: np.ndarray) -> cupy.ndarray:
    """Hidden values on the GPU: copied there, unless that is where they are."""
    return cupy.asarray(V, order="C")


def new_state(neurons: int, targets: int) -> ThetaState:
    """`state.empty_state` on the GPU."""
    return empty_state(neurons, targets, cupy)


@dataclass(frozen=True)
class Limits:
    """What `fold_limits` needs of a batch, on the GPU, made once for all taps.

    limit (B, c) float32; beyond `FEW` targets instead: gaps (B, width), positive limits padded with zeros to
    whole tiles; turned, those negated; own, the negative limits.
    """

    targets: int
    limit: cupy.ndarray | None
    gaps: cupy.ndarray | None = None
    turned: cupy.ndarray | None = None
    own: Lists | None = None


@dataclass(frozen=True)
class Lists:
    """Samples by target, on the GPU: target j has samples[start[j] : start[j + 1]], in their order."""

    targets: int
    start: cupy.ndarray
    samples: cupy.ndarray
    factors: cupy.ndarray | None = None


def place_limit(limit: np.ndarray) -> Limits:
    """`limit` of a batch as `fold_limits` wants it."""
    rows, targets = limit.shape
    there = cupy.asarray(limit)
    if targets <= FEW:
        return Limits(targets, there)
    width = _tile_width(targets)
    gaps = cupy.zeros((rows, -(-targets // width) * width), np.float32)
    gaps[:, :targets] = cupy.maximum(there, np.float32(0))
    return Limits(targets, None, gaps, -gaps, _lists(there, there < 0))


def place_wanted(wanted: np.ndarray) -> Lists:
    """`wanted` of a batch as `fold_wanted` wants it."""
    there = cupy.asarray(wanted)
    return _lists(there, there > 0)


def place_member(member: np.ndarray, targets: int) -> Lists:
    """`member` of a batch as `fold_sums` wants it."""
    order = np.argsort(member, kind="stable")
    samples = order[np.searchsorted(member[order], 0) :].astype(np.int32)
    start = np.searchsorted(member[samples], np.arange(targets + 1)).astype(np.int32)
    return Lists(targets, cupy.asarray(start), cupy.asarray(samples))


def _lists(values: cupy.ndarray, chosen: cupy.ndarray) -> Lists:
    targets = values.shape[1]
    j, r = cupy.nonzero(chosen.T)
    start = cupy.searchsorted(j, cupy.arange(targets + 1)).astype(np.int32)
    return Lists(targets, start, r.astype(np.int32), values[r, j])


def fold_limits(V: cupy.ndarray, limit: np.ndarray | Limits, hi, lo, bad) -> None:
    """See `numpy_backend.fold_limits`."""
    limit = limit if isinstance(limit, Limits) else place_limit(limit)
    if limit.limit is not None:
        _limits_few(V, limit.limit, hi, lo, bad)
    else:
        _limits_many(V, limit, hi, lo, bad)
        _own("limits_own", V, limit.own, hi, lo)


def fold_sums(V: cupy.ndarray, member: np.ndarray | Lists, total, peak) -> None:
    """See `numpy_backend.fold_sums`."""
    lists = member if isinstance(member, Lists) else place_member(member, len(total))
    _own("sums", V, lists, total, peak)


def fold_wanted(
    V: cupy.ndarray, wanted: np.ndarray | Lists, hi, lo, count_hi, count_lo, last_hi, last_lo
) -> None:
    """See `numpy_backend.fold_wanted`."""
    lists = wanted if isinstance(wanted, Lists) else place_wanted(wanted)
    _own("wanted", V, lists, hi, lo, count_hi, count_lo, last_hi, last_lo)


def few_options(targets: int) -> tuple[str, ...]:
    """Compile-time choices of `limits_few`, as measured on an H200."""
    return ("-DFEW", f"-DEACH={targets}", f"-DWIDTH={_FEW_WIDTH}", f"-DAHEAD={4 if targets <= 2 else 8}")


def many_options(targets: int, neurons: int) -> tuple[str, ...]:
    """Compile-time choices of `limits_many`: the tile of targets that wastes least, the widest reads."""
    threads = _target_threads(targets)
    each = _tile_width(targets) // threads
    return ("-DMANY", f"-DEACH={each}", f"-DTARGET_THREADS={threads}", f"-DGROUP={1 if neurons % 4 else 4}")


def _target_threads(targets: int) -> int:
    return next((threads for threads in (4, 8) if targets <= 8 * threads), 16)


def _tile_width(targets: int) -> int:
    """Targets of a tile: at most 8 a thread, and as few too many as can be."""
    threads = _target_threads(targets)
    tiles = -(-targets // (8 * threads))
    return -(-targets // (threads * tiles)) * threads


def _limits_few(V, limit, hi, lo, bad) -> None:
    rows, neurons = V.shape
    wide = -(-neurons // (_FEW_THREADS * _FEW_WIDTH))
    chunk = _chunk(rows, wide, _FEW_STAGE)
    _kernel("limits_few", few_options(limit.shape[1]))(
        (wide, -(-rows // chunk)),
        (_FEW_THREADS,),
        (V, limit, np.int32(rows), np.int64(neurons), np.int32(chunk), hi, lo, bad),
    )


def _limits_many(V, limit: Limits, hi, lo, bad) -> None:
    (rows, neurons), width = V.shape, limit.gaps.shape[1]
    threads = _target_threads(limit.targets)
    tiles = -(-neurons // _TILE)
    blocks = tiles * (width // _tile_width(limit.targets))
    chunk = _chunk(rows, blocks, _MANY_STAGE)
    kernel = _kernel("limits_many", many_options(limit.targets, neurons))
    negative = cupy.zeros(tiles, np.uint8)
    sizes = (np.int32(rows), np.int64(neurons), *map(np.int32, (limit.targets, width, chunk)))
    for turned, factors, best in ((0, limit.gaps, hi), (1, limit.turned, lo)):
        kernel(
            (blocks, -(-rows // chunk)),
            (_NEURON_THREADS * threads,),
            (V, factors, *sizes, np.int32(turned), best, negative, bad),
        )


def _own(name: str, V, lists: Lists, *state) -> None:
    """Run a kernel over lists of samples: a thread has a neuron and a target."""
    if not len(lists.samples):
        return
    neurons = V.shape[1]
    factors = () if lists.factors is None else (lists.factors,)
    _kernel(name, ("-DOWN",))(
        (-(-neurons // _OWN_THREADS), lists.targets),
        (_OWN_THREADS,),
        (V, lists.start, lists.samples, *factors, np.int64(neurons), *state),
    )


def _chunk(rows: int, blocks: int, stage: int) -> int:
    """Samples a block goes through: all of them, unless there are too few blocks to fill the GPU."""
    wanted = _BLOCKS_EACH * cupy.cuda.Device().attributes["MultiProcessorCount"]
    parts = max(1, min(-(-wanted // blocks), -(-rows // stage)))
    return -(-rows // (parts * stage)) * stage


@cache
def _kernel(name: str, options: tuple[str, ...]):
    return cupy.RawKernel(SOURCE.read_text(encoding="utf-8"), name, options)
