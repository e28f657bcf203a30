"""How many samples at a time, and how many passes, so that memory follows `--memory` and not the data?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from onnxtweak.errors import UsageError
from onnxtweak.settings import EngineSettings
from onnxtweak.theta.state import bytes_per_neuron
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


@dataclass(frozen=True)
class Plan:
    """Sizes of one pass.

    batch : samples per run of the model. rows : samples per fold, a multiple of `batch`.
    fixed : the model takes exactly `batch` samples.
    """

    batch: int
    rows: int
    fixed: bool


def plan_batches(
    values_per_sample: int,
    largest: int,
    batch_axis: int | None,
    engine: EngineSettings,
    *,
    model_on_gpu: bool = False,
    gpu_fold: int | None = None,
) -> Plan:
    """Batch and fold sizes for a pass that takes `values_per_sample` float32 values out of the model.

    largest : values of the model's largest hidden tensor, per sample. batch_axis : the model's own batch
    size, None where it takes any. gpu_fold : bytes of a fold on a GPU; None: it is done on the CPU.
    """
    sample = max(4 * values_per_sample, 1)
    most = _LARGEST_BATCH if gpu_fold is None else _LARGEST_GPU_FOLD
    room = min(most, max((gpu_fold or _FOLD_BYTES) // sample, _FOLD_ROWS))
    if gpu_fold is None or not model_on_gpu:  # else the values never come into the host's memory
        room = min(room, int(engine.memory * _FOLD_SHARE) // sample)
    room = max(1, room)
    if batch_axis is not None:
        return Plan(batch_axis, max(1, room // batch_axis) * batch_axis, True)
    cached = _LARGEST_BATCH if model_on_gpu else max(_SMALLEST_BATCH, _BATCH_BYTES // (4 * largest))
    batch = engine.batch or min(room, cached, _LARGEST_BATCH)
    return Plan(batch, max(1, room // batch) * batch, False)


def group_taps(taps: Sequence[Tap], targets: int, engine: EngineSettings) -> list[tuple[Tap, ...]]:
    """Taps in as few groups as their state allows: one pass over the data each.

    Raises UsageError when the state of a single tap does not fit.
    """
    budget = int(engine.memory * _STATE_SHARE)
    groups: list[list[Tap]] = []
    room = 0
    for tap in taps:
        need = tap.neurons * bytes_per_neuron(targets)
        if need > budget:
            raise UsageError(
                f"scoring {tap.neurons:,} neurons for {targets} targets needs {need / 2**30:.1f} GiB",
                where=f"tap {tap.name}",
                hint=f"raise --memory ({engine.memory / 2**30:.1f} GiB), name fewer targets, or use --pool",
            )
        if not groups or need > room:
            groups.append([])
            room = budget
        groups[-1].append(tap)
        room -= need
    return [tuple(group) for group in groups]


def survivor_room(taps: Sequence[Tap], engine: EngineSettings) -> list[int]:
    """How many ratios that may still count each tap may keep (see `theta.survivors`)."""
    neurons = sum(tap.neurons for tap in taps)
    room = engine.memory * _SURVIVOR_SHARE / RATIO_BYTES
    return [int(room * tap.neurons / neurons) for tap in taps]
