"""How are theta's folds done on a GPU? In CUDA (theta.cu): each value of V is read once for all targets.

The contract is `numpy_backend`'s, with V and the state on the GPU. `limit`, `wanted` and `member` come from
the host, or, when several taps share them, from `place_limit`, `place_wanted` and `place_member`. Up to `FEW`
targets one kernel does everything in one reading of V, with the samples of a target side by side. Beyond
that, arithmetic is the cost: tiles of neurons and targets are multiplied out of shared memory, and the few
negative limits (a target's own samples, at most one per sample) are a list of their own. Neurons with
negative values are left to a second kernel, whose blocks return at once for all other neurons.

Everything runs on the current device and stream. The last kernel may still be running when a fold returns.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields, replace
from functools import cache
from pathlib import Path

import cupy
import numpy as np
from numpy.typing import DTypeLike

from onnxtweak.theta.state import ThetaState, empty_state

SOURCE = Path(__file__).with_name("theta.cu")
FEW = 16
# So few that memory is the limit, not arithmetic: a single kernel for values of either sign is as fast.
_VERY_FEW = 2
# Blocks per multiprocessor that keep all of them busy to the end of a launch.
_BLOCKS_EACH = 16
# The same as in theta.cu: threads per block, samples per stage, neurons per tile.
_FEW_THREADS, _FEW_STAGE = 128, 128
_MANY_STAGE, _TILE, _SIGNED_TILE = 16, 128, 64
_NEURON_THREADS = 16
_OWN_THREADS = 128
_ON_HOST = {"seen", "gap"}
# Numbers copied from the GPU at a time, and threads that copy.
_PIECE, _MOVERS = 1 << 20, 8


def device_state(state: ThetaState) -> ThetaState:
    """The same state with its arrays per neuron on the GPU, to be folded into."""
    names = [f.name for f in fields(state) if f.name not in _ON_HOST]
    return replace(state, **{name: cupy.asarray(getattr(state, name)) for name in names})


def host_state(state: ThetaState) -> ThetaState:
    """The same state in NumPy, to be finished, combined or saved."""
    names = [f.name for f in fields(state) if f.name not in _ON_HOST]
    with ThreadPoolExecutor(_MOVERS) as pool:
        return replace(state, **{name: _to_host(getattr(state, name), pool) for name in names})


def _to_host(array: cupy.ndarray, pool: ThreadPoolExecutor) -> np.ndarray:
    """A copy in NumPy. First touching new memory takes longest: several threads do it, piece by piece."""
    source, copy = array.ravel(), np.empty(array.shape, array.dtype)
    target, device = copy.reshape(-1), cupy.cuda.Device()

    def move(start: int) -> None:
        part = source[start : start + _PIECE]
        staged = page_locked(part.size, array.dtype)
        with device:
            cupy.asnumpy(part, out=staged)
        target[start : start + _PIECE] = staged

    for _ in pool.map(move, range(0, source.size, _PIECE)):
        pass
    return copy


def page_locked(count: int, dtype: DTypeLike) -> np.ndarray:
    """Host memory that a GPU reads and writes fastest: (count,) in NumPy."""
    memory = cupy.cuda.alloc_pinned_memory(max(count * np.dtype(dtype).itemsize, 1))
    return np.frombuffer(memory, dtype, count)


def place(V: np.ndarray) -> cupy.ndarray:
    """Hidden values on the GPU: copied unless they are there already."""
    return cupy.asarray(V, order="C")


def new_state(neurons: int, targets: int) -> ThetaState:
    """`state.empty_state` on the GPU."""
    return empty_state(neurons, targets, cupy)


@dataclass(frozen=True)
class PlacedLimits:
    """What `fold_limits` needs of a batch, on the GPU, made once for all taps.

    Up to `FEW` targets: limit (positions, c) float32, the rows sorted by the target whose own sample they
    are; row, owner (positions,) int32, which row each was and which target owns it (see theta.cu). Beyond:
    limit (b, width) float32, the positive limits padded with zeros to whole tiles; own, the negative.
    """

    targets: int
    limit: cupy.ndarray
    row: cupy.ndarray | None = None
    owner: cupy.ndarray | None = None
    own: PlacedLists | None = None


@dataclass(frozen=True)
class PlacedLists:
    """Samples by target, on the GPU: target j has samples[start[j] : start[j + 1]], in their order."""

    targets: int
    start: cupy.ndarray
    samples: cupy.ndarray
    factors: cupy.ndarray | None = None


def place_limit(limit: np.ndarray) -> PlacedLimits:
    """`limit` of a batch as `fold_limits` wants it."""
    rows, targets = limit.shape
    if targets <= FEW:
        row, owner = _by_owner(limit)
        return PlacedLimits(targets, *map(cupy.asarray, (limit[row], row, owner)))
    on_gpu = cupy.asarray(limit)
    width = _tile_width(targets)
    positive = cupy.zeros((rows, -(-targets // width) * width), np.float32)
    positive[:, :targets] = cupy.maximum(on_gpu, np.float32(0))
    return PlacedLimits(targets, positive, own=_lists(on_gpu, on_gpu < 0))


def _by_owner(limit: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Samples sorted by the target that owns them, -1 for none: (positions,) int32 rows and owners.

    Every owner has an even number of positions, because samples are multiplied in pairs: one may come twice.
    """
    owner = limit.argmin(axis=1).astype(np.int16)  # small integers are sorted in one go
    owner[limit[np.arange(len(limit)), owner] >= 0] = -1
    row = np.argsort(owner, kind="stable")
    counts = np.bincount(owner + 1)
    last = counts.cumsum()[counts % 2 == 1]
    row = np.insert(row, last, row[last - 1])
    return row.astype(np.int32), owner[row].astype(np.int32)


def place_wanted(wanted: np.ndarray) -> PlacedLists:
    """`wanted` of a batch as `fold_wanted` wants it."""
    on_gpu = cupy.asarray(wanted)
    return _lists(on_gpu, on_gpu > 0)


def place_member(member: np.ndarray, targets: int) -> PlacedLists:
    """`member` of a batch as `fold_sums` wants it."""
    order = np.argsort(member, kind="stable")
    samples = order[np.searchsorted(member[order], 0) :].astype(np.int32)
    start = np.searchsorted(member[samples], np.arange(targets + 1)).astype(np.int32)
    return PlacedLists(targets, cupy.asarray(start), cupy.asarray(samples))


def _lists(values: cupy.ndarray, chosen: cupy.ndarray) -> PlacedLists:
    targets = values.shape[1]
    j, r = cupy.nonzero(chosen.T)
    start = cupy.searchsorted(j, cupy.arange(targets + 1)).astype(np.int32)
    return PlacedLists(targets, start, r.astype(np.int32), values[r, j])


def fold_limits(
    V: cupy.ndarray, limit: np.ndarray | PlacedLimits, hi: cupy.ndarray, lo: cupy.ndarray, bad: cupy.ndarray
) -> None:
    """See `numpy_backend.fold_limits`."""
    limit = limit if isinstance(limit, PlacedLimits) else place_limit(limit)
    if limit.own is None:
        _limits_few(V, limit, hi, lo, bad)
    else:
        _limits_many(V, limit, hi, lo, bad)
        _own("limits_own", V, limit.own, hi, lo)


def fold_sums(
    V: cupy.ndarray, member: np.ndarray | PlacedLists, total: cupy.ndarray, peak: cupy.ndarray
) -> None:
    """See `numpy_backend.fold_sums`."""
    lists = member if isinstance(member, PlacedLists) else place_member(member, len(total))
    _own("sums", V, lists, total, peak)


def fold_wanted(
    V: cupy.ndarray,
    wanted: np.ndarray | PlacedLists,
    hi: cupy.ndarray,
    lo: cupy.ndarray,
    count_hi: cupy.ndarray,
    count_lo: cupy.ndarray,
    last_hi: cupy.ndarray,
    last_lo: cupy.ndarray,
) -> None:
    """See `numpy_backend.fold_wanted`."""
    lists = wanted if isinstance(wanted, PlacedLists) else place_wanted(wanted)
    _own("wanted", V, lists, hi, lo, count_hi, count_lo, last_hi, last_lo)


def few_options(targets: int, neurons: int) -> tuple[str, ...]:
    """Compile-time choices of `limits_few`, as measured on an H200."""
    width = _few_width(targets)
    return (
        "-DFEW",
        f"-DEACH={targets}",
        f"-DWIDTH={width}",
        f"-DTOGETHER={int(neurons % width == 0)}",
        f"-DAHEAD={4 if targets <= _VERY_FEW else 8}",
    )


def _few_width(targets: int) -> int:
    """Neurons per thread: more share what it reads of the gaps, but take registers for every target."""
    return 4 if 4 < targets <= 10 else 2


def many_options(targets: int, neurons: int) -> tuple[str, ...]:
    """Compile-time choices of `limits_many`: the tile of targets that wastes least, the widest reads."""
    threads = _target_threads(targets)
    each = _tile_width(targets) // threads
    return ("-DMANY", f"-DEACH={each}", f"-DTARGET_THREADS={threads}", f"-DGROUP={1 if neurons % 4 else 4}")


def _target_threads(targets: int) -> int:
    return next((threads for threads in (4, 8) if targets <= 8 * threads), 16)


def _tile_width(targets: int) -> int:
    """Targets of a tile: at most 8 per thread, with as little padding as possible."""
    threads = _target_threads(targets)
    tiles = -(-targets // (8 * threads))
    return -(-targets // (threads * tiles)) * threads


def _limits_few(
    V: cupy.ndarray, limit: PlacedLimits, hi: cupy.ndarray, lo: cupy.ndarray, bad: cupy.ndarray
) -> None:
    positions, neurons = len(limit.limit), V.shape[1]
    tiles = -(-neurons // (_FEW_THREADS * _few_width(limit.targets)))
    chunk = _chunk(positions, tiles, _FEW_STAGE)
    very_few = limit.targets <= _VERY_FEW
    negative = _all_marked(tiles, cupy.cuda.Device().id) if very_few else cupy.zeros(tiles, np.uint8)
    options = few_options(limit.targets, neurons)
    sizes = np.int32(positions), np.int64(neurons), np.int32(chunk)
    for name in ("limits_few", "limits_few_signed")[very_few:]:
        _kernel(name, options)(
            (tiles, -(-positions // chunk)),
            (_FEW_THREADS,),
            (V, limit.limit, limit.row, limit.owner, *sizes, hi, lo, negative, bad),
        )


@cache
def _all_marked(tiles: int, device: int) -> cupy.ndarray:
    """Marks that leave every tile to the kernel for any values; made once, to save a launch."""
    return cupy.ones(tiles, np.uint8)


def _limits_many(
    V: cupy.ndarray, limit: PlacedLimits, hi: cupy.ndarray, lo: cupy.ndarray, bad: cupy.ndarray
) -> None:
    (rows, neurons), width = V.shape, limit.limit.shape[1]
    threads = _target_threads(limit.targets)
    across = width // _tile_width(limit.targets)
    negative = cupy.zeros(-(-neurons // _TILE), np.uint8)
    options = many_options(limit.targets, neurons)
    for name, tile in (("limits_many", _TILE), ("limits_many_signed", _SIGNED_TILE)):
        blocks = -(-neurons // tile) * across
        chunk = _chunk(rows, blocks, _MANY_STAGE)
        sizes = (np.int32(rows), np.int64(neurons), *map(np.int32, (limit.targets, width, chunk)))
        _kernel(name, options)(
            (blocks, -(-rows // chunk)),
            (_NEURON_THREADS * threads,),
            (V, limit.limit, *sizes, hi, lo, negative, bad),
        )


def _own(name: str, V: cupy.ndarray, lists: PlacedLists, *state: cupy.ndarray) -> None:
    """Run a kernel over lists of samples: one thread per neuron and target."""
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
    """Samples per block: all of them, unless there are too few blocks to fill the GPU."""
    wanted: int = _BLOCKS_EACH * cupy.cuda.Device().attributes["MultiProcessorCount"]
    parts = max(1, min(-(-wanted // blocks), -(-rows // stage)))
    return -(-rows // (parts * stage)) * stage


@cache
def _kernel(name: str, options: tuple[str, ...]) -> cupy.RawKernel:
    return cupy.RawKernel(SOURCE.read_text(encoding="utf-8"), name, options)
