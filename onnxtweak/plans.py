"""What would a command do? The plans that `--dry-run` shows instead of a result; nothing is computed here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from onnxtweak.types import FileRef


@dataclass(frozen=True)
class PlannedPass:
    """The passes over one set of samples that a command would make: one per block of neurons.

    neurons : of all blocks together; block : of the largest. taps : distinct tensors. batch : samples per run
    of the model; fold : samples scored at a time. state_bytes : kept between batches. value_bytes : hidden
    values that leave the model in one pass. seconds : estimate for all passes.
    """

    name: str
    passes: int
    samples: int
    taps: int
    neurons: int
    block: int
    batch: int
    fold: int
    state_bytes: int
    value_bytes: int
    seconds: float


@dataclass(frozen=True)
class DryRun:
    """What a command would do. targets : in words.

    seconds : "all", for all steps, estimated from a few batches; fitting on the tables comes on top.
    memory : bytes allowed; taken : the part that model and loaded samples occupy. shards : of the score
    pass, shared among `workers` processes. cached : the scores of an earlier run are reused.
    """

    command: str
    model: FileRef
    samples: dict[str, int]
    classes: int
    targets: str
    memory: int
    shards: int
    workers: int
    cached: bool
    steps: tuple[PlannedPass, ...]
    seconds: dict[str, float]
    device: dict[str, Any]
    notes: tuple[str, ...] = ()
    taken: int = 0


@dataclass(frozen=True)
class RunPlan:
    """What a recipe would do. tweaks : one dict each. files : names of those that would be written."""

    recipe: FileRef
    model: FileRef
    samples: dict[str, int]
    classes: int
    tweaks: tuple[dict[str, Any], ...]
    gates: dict[str, float]
    directory: str
    files: tuple[str, ...]
    notes: tuple[str, ...] = ()
