"""How many samples at a time, and how many passes, so that memory follows `--memory` and not the data?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from onnxtweak.errors import UsageError
from onnxtweak.settings import EngineSettings
from onnxtweak.theta.survivors import RATIO_BYTES
from onnxtweak.types import Tap

# Hidden values of one fold: what is done once in a fold (the state is read, samples are ranked, threads are
# woken) costs more than values that come from memory instead of the cache they were written through.
_FOLD_BYTES = 48 * 2**20
_LARGEST_BATCH = 256
# A fold on a GPU must last longer than it takes to start.
_LARGEST_GPU_FOLD = 4096
# A run is fastest while the tensors between two layers stay in the cache: bytes of the largest of them.
_BATCH_BYTES = 3 * 2**20
_SMALLEST_BATCH = 4
# A fold reads and writes the state once, 16 bytes for each target and neuron: where single samples are large
# it takes at least this many, if memory allows, so that ten targets move less than half as much as values.
_FOLD_ROWS = 128
# Touching new memory costs more than that saves, unless it is used this often in a pass; so many rows always.
_FOLDS, _FEWEST_ROWS = 16, 32
# Shares of what is left beside Python, the libraries and the model: theta's state, the ratios that may still
# count, the hidden values of one fold. The rest is for copies of these that last for a moment.
_STATE_SHARE = 0.5
_SURVIVOR_SHARE = 0.125
_FOLD_SHARE = 0.125
# What Python and the libraries take before anything is scored; where hardly more is allowed, a share of what
# is allowed still goes to the state.
_BASE = 256 * 2**20
_LEAST_SHARE = 0.25
# Copies of the weights while a session is open. Those in the model's own file: as read, as parsed, as handed
# to the runtime, the runtime's, and packed for the processor. Other files are mapped by it, and packed.
_COPIES, _COPIES_BESIDE = 5, 2
# Taps are cut at multiples of this where that is possible: whole tiles of every back end.
_CUT = 1024


@dataclass(frozen=True)
class BatchPlan:
    """Sizes of one pass.

    batch : samples per run of the model. rows : samples per fold, a multiple of `batch`.
    fixed : the model takes exactly `batch` samples.
    """

    batch: int
    rows: int
    fixed: bool


@dataclass(frozen=True)
class TapSlice:
    """Neurons [start, stop) of a tap. number : of the first of them, counted through all taps."""

    tap: Tap
    start: int
    stop: int
    number: int

    def __len__(self) -> int:
        return self.stop - self.start

    @property
    def whole(self) -> bool:
        """It is all of its tap."""
        return len(self) == self.tap.neurons

    def of(self, V: Any) -> Any:
        """Its columns of the tap's values (b, m), C-contiguous."""
        return V if self.whole else V[:, self.start : self.stop].copy()


# What one pass over the samples looks at.
Block = tuple[TapSlice, ...]


def plan_batches(
    values_per_sample: int,
    largest: int,
    batch_axis: int | None,
    engine: EngineSettings,
    *,
    beside: int = 0,
    model_on_gpu: bool = False,
    gpu_fold: int | None = None,
    taken: int = 0,
    samples: int | None = None,
) -> BatchPlan:
    """Batch and fold sizes for a pass that takes `values_per_sample` float32 values out of the model.

    largest : values of the model's largest hidden tensor, per sample. batch_axis : the model's own batch
    size, None where it takes any. beside : values per sample of the other passes that belong to this one;
    all of them use one batch size, for another may be computed in another order. gpu_fold : bytes of a fold
    on a GPU; None: it is done on the CPU. taken : see `model_room`. samples : of the pass; None: very many.
    """

    def room(values: int, memory: int) -> int:
        sample = max(4 * values, 1)
        most = _LARGEST_BATCH if gpu_fold is None else _LARGEST_GPU_FOLD
        rows = min(most, max((gpu_fold or _FOLD_BYTES) // sample, _FOLD_ROWS))
        if gpu_fold is None or not model_on_gpu:  # else the values never come into the host's memory
            rows = min(rows, int(memory * _FOLD_SHARE) // sample)
        return max(1, rows)

    batch = batch_axis or engine.batch
    if batch is None:
        cached = _LARGEST_BATCH if model_on_gpu else _cached_batch(largest)
        # Another batch may be computed in another order: it follows what is allowed, not what is left of it.
        batch = min(room(values_per_sample + beside, engine.memory), cached)
        if model_on_gpu:
            batch = 1 << (batch.bit_length() - 1)  # its kernels divide powers of two evenly
    rows = room(values_per_sample, table_room(engine.memory, taken))
    if samples is not None and gpu_fold is None:
        rows = min(rows, max(_FOLD_BYTES // max(4 * values_per_sample, 1), _FEWEST_ROWS, samples // _FOLDS))
    return BatchPlan(batch, max(1, rows // batch) * batch, batch_axis is not None)


def _cached_batch(largest: int) -> int:
    """Samples whose largest hidden tensor stays in the cache."""
    return min(max(_SMALLEST_BATCH, _BATCH_BYTES // (4 * largest)), _LARGEST_BATCH)


def model_room(
    inside: int, beside: int, maps: int, largest: int, batch_axis: int | None, engine: EngineSettings
) -> int:
    """Bytes that a model takes while it runs: copies of its weights, and its hidden tensors.

    inside, beside : bytes of its own file, and of its external ones. maps : values of all its hidden tensors,
    per sample. largest, batch_axis : as in `plan_batches`.
    """
    batch = batch_axis or engine.batch or _cached_batch(largest)
    return _COPIES * inside + _COPIES_BESIDE * beside + 4 * maps * batch


def too_little(memory: int, taken: int) -> str | None:
    """What to tell a user whose `memory` is little more than what is `taken` (see `model_room`), else None.

    More than is left is planned with there.
    """
    need = _BASE + taken
    if memory - need >= memory * _LEAST_SHARE:
        return None
    given, alone, enough = (f"{size / 2**20:,.0f} MiB" for size in (memory, need, need / (1 - _LEAST_SHARE)))
    return (
        f"--memory {given} may be exceeded: Python, the libraries, the model and samples that are held take "
        f"about {alone} by themselves; allow at least {enough}"
    )


def cut_taps(
    taps: Sequence[Tap],
    bytes_each: int,
    engine: EngineSettings,
    most: int | None = None,
    taken: int = 0,
) -> list[Block]:
    """The neurons of all taps in as few blocks as their state allows: one pass over the data each.

    bytes_each : of a neuron's state. most : bytes that all states may take beside `--memory`'s limit, as on
    a GPU. taken : see `model_room`. Raises UsageError when not even one neuron fits.
    """
    room = min(state_room(engine.memory, taken), most or engine.memory) // bytes_each
    if room >= _CUT:
        room -= room % _CUT
    if room < 1:
        raise UsageError(
            f"scoring a single neuron needs {bytes_each / 2**20:.1f} MiB",
            where="--memory",
            hint=f"raise it ({engine.memory / 2**20:.1f} MiB), or name fewer targets",
        )
    blocks: list[list[TapSlice]] = [[]]
    left, number = room, 0
    for tap in taps:
        start = 0
        while start < tap.neurons:
            stop = min(start + left, tap.neurons)
            if stop < tap.neurons and room >= _CUT:
                stop -= stop % _CUT
            if stop <= start:
                blocks.append([])
                left = room
                continue
            blocks[-1].append(TapSlice(tap, start, stop, number + start))
            left -= stop - start
            start = stop
        number += tap.neurons
    return [tuple(block) for block in blocks if block]


def state_room(memory: int, taken: int = 0) -> int:
    """Bytes of state within so many bytes in all. taken : by the model and its samples."""
    return int(table_room(memory, taken) * _STATE_SHARE)


def table_room(memory: int, taken: int = 0) -> int:
    """Bytes left for arrays within so many bytes in all. taken : by the model and its samples."""
    return int(max(memory - _BASE - taken, memory * _LEAST_SHARE))


def survivor_room(block: Block, engine: EngineSettings, taken: int = 0) -> list[int]:
    """How many ratios that may still count each stretch may keep (see `theta.survivors`)."""
    neurons = sum(map(len, block))
    room = table_room(engine.memory, taken) * _SURVIVOR_SHARE / RATIO_BYTES
    return [int(room * len(stretch) / neurons) for stretch in block]
