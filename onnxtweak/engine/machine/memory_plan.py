"""How many samples at a time, and how many passes, so that memory follows `--memory` and not the data?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from onnxtweak.errors import UsageError
from onnxtweak.settings import EngineSettings
from onnxtweak.theta.survivors import RATIO_BYTES
from onnxtweak.types import Tap

# Hidden values of one fold: what is done once per fold (reading the state, ranking samples, waking threads)
# costs more than reading values from memory instead of from the cache that they were written through.
_FOLD_BYTES = 48 * 2**20
_LARGEST_BATCH = 256
# Samples: a fold on a GPU must last longer than it takes to start.
_LARGEST_GPU_FOLD = 4096
# A model runs fastest while the tensors between two layers stay in the cache: bytes of the largest of them.
_BATCH_BYTES = 3 * 2**20
_SMALLEST_BATCH = 4
# A fold reads and writes the state once, 16 bytes per target and neuron: where single samples are large, it
# takes at least this many, if memory allows, so that the state of ten targets is less than half the traffic.
_FOLD_ROWS = 128
# Touching new memory costs more than that saves, unless a pass has this many folds; so many rows are always
# worth it.
_FOLDS, _FEWEST_ROWS = 16, 32
# Shares of the memory that Python, the libraries and the model leave: theta's state, its survivors, the
# hidden values of one fold. The rest is for short-lived copies of these.
_STATE_SHARE = 0.5
_SURVIVOR_SHARE = 0.125
_FOLD_SHARE = 0.125
# What Python and the libraries take before anything is scored; where hardly more is allowed, a share of what
# is allowed still goes to arrays.
_BASE = 256 * 2**20
_LEAST_SHARE = 0.25
# Copies of the weights while a session is open. Of those in the model's own file: as read, as parsed, as
# handed to the runtime, the runtime's, and packed for the processor. External files are mapped, and packed.
_COPIES, _EXTERNAL_COPIES = 5, 2
# Taps are cut at multiples of this where possible: whole tiles of every back end.
_MOST_BLOCKS = 100  # each is a pass over all samples
_CUT = 1024


@dataclass(frozen=True)
class BatchPlan:
    """Sizes of one pass.

    batch : samples per run of the model. rows : samples per fold, a multiple of `batch`. fixed : the model
    accepts exactly `batch` samples.
    """

    batch: int
    rows: int
    fixed: bool


@dataclass(frozen=True)
class TapSlice:
    """Neurons [start, stop) of a tap. number : of the first of them, counted through all taps end to end."""

    tap: Tap
    start: int
    stop: int
    number: int

    def __len__(self) -> int:
        return self.stop - self.start

    @property
    def whole(self) -> bool:
        """Whether it covers its tap."""
        return len(self) == self.tap.neurons

    def of(self, V: Any) -> Any:
        """Its columns (b, len(self)) of the tap's values (b, m), C-contiguous."""
        return V if self.whole else V[:, self.start : self.stop].copy()


# The neurons that one pass over the samples looks at.
Block = tuple[TapSlice, ...]


@dataclass(frozen=True)
class PassContext:
    """What a pass shares memory and samples with.

    other_values : values per sample of the other passes over the same samples; all passes use one batch size,
    because another may be computed in another order. gpu_fold_bytes : size of a fold on a GPU; None: folds
    run on the CPU. reserved_bytes : see `model_room`. samples : of the pass; None: very many.
    """

    other_values: int = 0
    model_on_gpu: bool = False
    gpu_fold_bytes: int | None = None
    reserved_bytes: int = 0
    samples: int | None = None


def plan_batches(
    values_per_sample: int,
    largest: int,
    batch_axis: int | None,
    settings: EngineSettings,
    context: PassContext = PassContext(),
) -> BatchPlan:
    """Batch and fold sizes for a pass that takes `values_per_sample` float32 values out of the model.

    largest : values of the model's largest hidden tensor, per sample. batch_axis : the model's own batch
    size; None: it accepts any.
    """
    gpu_fold_bytes, model_on_gpu, samples = context.gpu_fold_bytes, context.model_on_gpu, context.samples

    def room(values: int, memory: int) -> int:
        sample = max(4 * values, 1)
        most = _LARGEST_BATCH if gpu_fold_bytes is None else _LARGEST_GPU_FOLD
        rows = min(most, max((gpu_fold_bytes or _FOLD_BYTES) // sample, _FOLD_ROWS))
        if gpu_fold_bytes is None or not model_on_gpu:  # else the values never come into the host's memory
            rows = min(rows, int(memory * _FOLD_SHARE) // sample)
        return max(1, rows)

    batch = batch_axis or settings.batch
    if batch is None:
        cached = _LARGEST_BATCH if model_on_gpu else _cached_batch(largest)
        # Another batch may be computed in another order: it follows `--memory`, not what is left of it.
        batch = min(room(values_per_sample + context.other_values, settings.memory), cached)
        if model_on_gpu:
            batch = 1 << (batch.bit_length() - 1)  # powers of two divide evenly among its kernels
    rows = room(values_per_sample, table_room(settings.memory, context.reserved_bytes))
    if samples is not None and gpu_fold_bytes is None:
        rows = min(rows, max(_FOLD_BYTES // max(4 * values_per_sample, 1), _FEWEST_ROWS, samples // _FOLDS))
    return BatchPlan(batch, max(1, rows // batch) * batch, batch_axis is not None)


def memory_limits_batch(
    values_per_sample: int,
    largest: int,
    batch_axis: int | None,
    settings: EngineSettings,
    model_on_gpu: bool = False,
) -> bool:
    """Whether `memory` makes the batch smaller of some pass that takes up to so many values out of the model.

    The others as of `plan_batches`; model_on_gpu : whether the model may run there.
    """
    if batch_axis or settings.batch:
        return False
    wanted = _LARGEST_BATCH if model_on_gpu else _cached_batch(largest)
    return int(settings.memory * _FOLD_SHARE) // max(4 * values_per_sample, 1) < wanted


def _cached_batch(largest: int) -> int:
    """The batch size at which the largest hidden tensor stays in the cache."""
    return min(max(_SMALLEST_BATCH, _BATCH_BYTES // (4 * largest)), _LARGEST_BATCH)


def model_room(
    file_bytes: int,
    external_bytes: int,
    maps: int,
    largest: int,
    batch_axis: int | None,
    settings: EngineSettings,
) -> int:
    """Bytes to reserve for a model while it runs: copies of its weights, and its hidden tensors.

    file_bytes, external_bytes : of its own file, and of its external data. maps : values of all its hidden
    tensors, per sample. largest, batch_axis : as in `plan_batches`.
    """
    batch = batch_axis or settings.batch or _cached_batch(largest)
    return _COPIES * file_bytes + _EXTERNAL_COPIES * external_bytes + 4 * maps * batch


def too_little(memory: int, reserved_bytes: int) -> str | None:
    """A warning where `memory` is little more than `reserved_bytes` (see `model_room`), else None.

    Passes are then planned with more memory than is left.
    """
    need = _BASE + reserved_bytes
    if memory - need >= memory * _LEAST_SHARE:
        return None
    given, alone, enough = (f"{size / 2**20:,.0f} MiB" for size in (memory, need, need / (1 - _LEAST_SHARE)))
    return (
        f"--memory {given} may be exceeded: Python, the libraries, the model and the samples in memory take "
        f"about {alone} by themselves; allow at least {enough}"
    )


def not_held(what: str, size: int, memory: int, reserved_bytes: int) -> str | None:
    """A note where `memory` does not hold arrays of so many bytes that stay in it all the same, else None.

    what : makes them.
    """
    if size <= table_room(memory, reserved_bytes):
        return None
    needed = _BASE + reserved_bytes + size
    return (
        f"--memory {memory / 2**20:,.0f} MiB will be exceeded: {what} holds arrays of about "
        f"{size / 2**20:,.0f} MiB in memory, {needed / 2**20:,.0f} MiB with all the rest"
    )


def cut_taps(
    taps: Sequence[Tap],
    bytes_each: int,
    settings: EngineSettings,
    most: int | None = None,
    reserved_bytes: int = 0,
) -> list[Block]:
    """The neurons of all taps in as few blocks as their state allows: one pass over the data each.

    bytes_each : state of one neuron. most : a further limit on the bytes of all states, as on a GPU.
    reserved_bytes : see `model_room`. Raises UsageError when not even one neuron fits, or where so few do
    that the passes would never end.
    """
    room = min(state_room(settings.memory, reserved_bytes), most or settings.memory) // bytes_each
    if room >= _CUT:
        room -= room % _CUT
    if room < 1:
        raise UsageError(
            f"scoring a single neuron needs {bytes_each / 2**20:.1f} MiB",
            where="--memory",
            hint=f"allow more than {settings.memory / 2**20:.1f} MiB, or name fewer targets",
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
    if len(blocks) > _MOST_BLOCKS:
        enough = settings.memory * len(blocks) / _MOST_BLOCKS + _BASE + reserved_bytes
        raise UsageError(
            f"scoring {number:,} neurons would take {len(blocks):,} passes over the samples",
            where=f"--memory {settings.memory / 2**20:,.3g} MiB",
            hint=f"allow {enough / 2**20:,.0f} MiB, watch fewer tensors with --taps, or pool them",
        )
    return [tuple(block) for block in blocks if block]


def state_room(memory: int, reserved_bytes: int = 0) -> int:
    """Bytes of state that fit into `memory`. reserved_bytes : of it, for the model and samples."""
    return int(table_room(memory, reserved_bytes) * _STATE_SHARE)


def table_room(memory: int, reserved_bytes: int = 0) -> int:
    """Bytes left for arrays in `memory`. reserved_bytes : of it, for the model and samples."""
    return int(max(memory - _BASE - reserved_bytes, memory * _LEAST_SHARE))


def survivor_room(block: Block, settings: EngineSettings, reserved_bytes: int = 0) -> list[int]:
    """How many survivors each slice may keep (see `theta.survivors`)."""
    neurons = sum(map(len, block))
    room = table_room(settings.memory, reserved_bytes) * _SURVIVOR_SHARE / RATIO_BYTES
    return [int(room * len(part) / neurons) for part in block]
