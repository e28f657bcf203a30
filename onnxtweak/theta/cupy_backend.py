"""The folds of theta on a GPU, in CUDA (theta.cu): each value of V is read once for all targets.

The contract is `numpy_backend`'s, with V and the state on the GPU, and `limit`, `wanted` and `member`, which
are small, on the host. Up to `FEW` targets one kernel does everything in one reading of V. Beyond that the
arithmetic is the cost: tiles of neurons and targets are multiplied out of shared memory, and the few negative
limits (a target's own samples, at most one a sample) are a list of their own.

Everything runs on the current device and stream. The last kernel is still at work when a fold returns.
"""

from __future__ import annotations

from dataclasses import fields, replace
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
_FEW_THREADS, _FEW_STAGE = 128, 128
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
    return device_state(empty_state(neurons, targets))


def fold_limits(V: cupy.ndarray, limit: np.ndarray, hi, lo, bad) -> None:
    """See `numpy_backend.fold_limits`."""
    if limit.shape[1] <= FEW:
        _limits_few(V, limit, hi, lo, bad)
    else:
        _limits_many(V, limit, hi, lo, bad)


def fold_sums(V: cupy.ndarray, member: np.ndarray, total, peak) -> None:
    """See `numpy_backend.fold_sums`."""
    order = np.argsort(member, kind="stable")
    samples = order[np.searchsorted(member[order], 0) :]
    _own("sums", V, member[samples], samples, (), len(total), total, peak)


def fold_wanted(V: cupy.ndarray, wanted: np.ndarray, hi, lo, count_hi, count_lo, last_hi, last_lo) -> None:
    """See `numpy_backend.fold_wanted`."""
    wanted = cupy.asarray(wanted)
    j, r = cupy.nonzero(wanted.T)
    _own("wanted", V, j, r, (wanted[r, j],), len(hi), hi, lo, count_hi, count_lo, last_hi, last_lo)


def few_options(targets: int) -> tuple[str, ...]:
    """Compile-time choices of `limits_few`, as measured on an H200."""
    return ("-DFEW", f"-DEACH={targets}", "-DWIDTH=2", f"-DAHEAD={4 if targets <= 2 else 8}")


def many_options(targets: int, neurons: int) -> tuple[str, ...]:
    """Compile-time choices of `limits_many`: the tile of targets that wastes least, the widest reads."""
    across = next((n for n in (4, 8) if targets <= 8 * n), 16)
    tiles = -(-targets // (8 * across))
    return (
        "-DMANY",
        f"-DEACH={-(-targets // (across * tiles))}",
        f"-DTARGET_THREADS={across}",
        f"-DGROUP={1 if neurons % 4 else 4}",
    )


def _limits_few(V, limit, hi, lo, bad) -> None:
    rows, neurons = V.shape
    options = few_options(limit.shape[1])
    wide = -(-neurons // (_FEW_THREADS * _defined(options, "WIDTH")))
    chunk = _chunk(rows, wide, _FEW_STAGE)
    _kernel("limits_few", options)(
        (wide, -(-rows // chunk)),
        (_FEW_THREADS,),
        (V, cupy.asarray(limit), np.int32(rows), np.int64(neurons), np.int32(chunk), hi, lo, bad),
    )


def _limits_many(V, limit, hi, lo, bad) -> None:
    (rows, neurons), targets = V.shape, limit.shape[1]
    options = many_options(targets, neurons)
    kernel = _kernel("limits_many", options)
    threads = _defined(options, "TARGET_THREADS")
    width = _defined(options, "EACH") * threads
    tiles, across = -(-neurons // _TILE), -(-targets // width)
    chunk = _chunk(rows, tiles * across, _MANY_STAGE)
    limit = cupy.asarray(limit)
    own = cupy.nonzero(limit.T < 0)
    gaps = cupy.zeros((rows, across * width), np.float32)
    gaps[:, :targets] = cupy.maximum(limit, np.float32(0))
    negative = cupy.zeros(tiles, np.uint8)
    sizes = (np.int32(rows), np.int64(neurons), *map(np.int32, (targets, across * width, chunk)))
    for turned, factors, best in ((0, gaps, hi), (1, -gaps, lo)):
        kernel(
            (tiles * across, -(-rows // chunk)),
            (_NEURON_THREADS * threads,),
            (V, factors, *sizes, np.int32(turned), best, negative, bad),
        )
    _own("limits_own", V, *own, (limit[own[1], own[0]],), targets, hi, lo)


def _own(name, V, targets_of, samples, factors, targets, *state) -> None:
    """Run a kernel over lists of samples, one list a target; `targets_of` them, ascending."""
    if not len(samples):
        return
    neurons = V.shape[1]
    start = cupy.searchsorted(cupy.asarray(targets_of), cupy.arange(targets + 1)).astype(np.int32)
    _kernel(name, ("-DOWN",))(
        (-(-neurons // _OWN_THREADS), targets),
        (_OWN_THREADS,),
        (V, start, cupy.asarray(samples).astype(np.int32), *factors, np.int64(neurons), *state),
    )


def _chunk(rows: int, blocks: int, stage: int) -> int:
    """Samples a block goes through: all of them, unless there are too few blocks to fill the GPU."""
    wanted = _BLOCKS_EACH * cupy.cuda.Device().attributes["MultiProcessorCount"]
    parts = max(1, min(-(-wanted // blocks), -(-rows // stage)))
    return -(-rows // (parts * stage)) * stage


def _defined(options: tuple[str, ...], name: str) -> int:
    return next(int(option.partition("=")[2]) for option in options if option.startswith(f"-D{name}="))


@cache
def _kernel(name: str, options: tuple[str, ...]):
    return cupy.RawKernel(SOURCE.read_text(encoding="utf-8"), name, options)
