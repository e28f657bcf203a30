"""How many samples at a time, and how many passes, so that memory follows `--memory` and not the data?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from onnxtweak.errors import UsageError
from onnxtweak.settings import EngineSettings
from onnxtweak.theta.survivors import RATIO_BYTES
from onnxtweak.types import Tap

# Hidden values of one fold: small enough to be scored out of the cache they were written through, large
# enough that the state is not read more often than the values.
_FOLD_BYTES = 24 * 2**20
_LARGEST_BATCH = 256
# A fold on a GPU must last longer than it takes to start.
_LARGEST_GPU_FOLD = 4096
# A run is fastest while the tensors between two layers stay in the cache: bytes of the largest of them.
_BATCH_BYTES = 3 * 2**20
_SMALLEST_BATCH = 4
# A fold reads the state once: where single samples are large it takes at least this many, if memory allows.
_FOLD_ROWS = 32
# Shares of the budget: theta's state, the ratios that may still count, the hidden values of one fold. The
# rest is for the model, its batch and the interpreter.
_STATE_SHARE = 0.5
_SURVIVOR_SHARE = 0.125
_FOLD_SHARE = 0.125
# What Python, the libraries and a small model take before anything is scored; where hardly more is allowed, a
# share of that still goes to the state.
_BASE = 256 * 2**20
_LEAST_SHARE = 0.25
# Taps are cut at multiples of this where that is possible: whole tiles of every back end.
_CUT = 1024


@dataclass(frozen=True)
class Plan:
    """Sizes of one pass.

    batch : samples per run of the model. rows : samples per fold, a multiple of `batch`.
    fixed : the model takes exactly `batch` samples.
    """

    batch: int
    rows: int
    fixed: bool


@dataclass(frozen=True)
class Stretch:
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
Block = tuple[Stretch, ...]


def plan_batches(
    values_per_sample: int,
    largest: int,
    batch_axis: int | None,
    engine: EngineSettings,
    *,
    beside: int = 0,
    model_on_gpu: bool = False,
    gpu_fold: int | None = None,
) -> Plan:
    """Batch and fold sizes for a pass that takes `values_per_sample` float32 values out of the model.

    largest : values of the model's largest hidden tensor, per sample. batch_axis : the model's own batch
    size, None where it takes any. beside : values per sample of the other passes that belong to this one;
    all of them use one batch size, for another may be computed in another order. gpu_fold : bytes of a fold
    on a GPU; None: it is done on the CPU.
    """

    def room(values: int) -> int:
        sample = max(4 * values, 1)
        most = _LARGEST_BATCH if gpu_fold is None else _LARGEST_GPU_FOLD
        rows = min(most, max((gpu_fold or _FOLD_BYTES) // sample, _FOLD_ROWS))
        if gpu_fold is None or not model_on_gpu:  # else the values never come into the host's memory
            rows = min(rows, int(engine.memory * _FOLD_SHARE) // sample)
        return max(1, rows)

    if batch_axis is not None:
        return Plan(batch_axis, max(1, room(values_per_sample) // batch_axis) * batch_axis, True)
    cached = _LARGEST_BATCH if model_on_gpu else max(_SMALLEST_BATCH, _BATCH_BYTES // (4 * largest))
    batch = engine.batch or min(room(values_per_sample + beside), cached, _LARGEST_BATCH)
    return Plan(batch, max(1, room(values_per_sample) // batch) * batch, False)


def cut_taps(
    taps: Sequence[Tap], bytes_each: int, engine: EngineSettings, most: int | None = None
) -> list[Block]:
    """The neurons of all taps in as few blocks as their state allows: one pass over the data each.

    bytes_each : of a neuron's state. most : bytes that all states may take beside `--memory`'s limit, as on
    a GPU. Raises UsageError when not even one neuron fits.
    """
    room = min(state_room(engine.memory), most or engine.memory) // bytes_each
    if room >= _CUT:
        room -= room % _CUT
    if room < 1:
        raise UsageError(
            f"scoring a single neuron needs {bytes_each / 2**20:.1f} MiB",
            where="--memory",
            hint=f"raise it ({engine.memory / 2**20:.1f} MiB), or name fewer targets",
        )
    blocks: list[list[Stretch]] = [[]]
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
            blocks[-1].append(Stretch(tap, start, stop, number + start))
            left -= stop - start
            start = stop
        number += tap.neurons
    return [tuple(block) for block in blocks if block]


def state_room(memory: int) -> int:
    """Bytes of state within so many bytes in all."""
    return int(max(memory - _BASE, memory * _LEAST_SHARE) * _STATE_SHARE)


def survivor_room(block: Block, engine: EngineSettings) -> list[int]:
    """How many ratios that may still count each stretch may keep (see `theta.survivors`)."""
    neurons = sum(map(len, block))
    room = engine.memory * _SURVIVOR_SHARE / RATIO_BYTES
    return [int(room * len(stretch) / neurons) for stretch in block]
