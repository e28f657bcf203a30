"""What each command hands back, beside `types.Result`: nouns for the reports, nothing computed here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from onnxtweak.types import Check, FileRef, Metrics, Tap

Value = tuple[str, str | None, tuple[int | None, ...]]


@dataclass(frozen=True)
class Inspection:
    """What is in a model. inputs, outputs : (name, dtype, shape). logits : (name, rule, sentence).

    taps : those the selectors choose. candidates : (name, op, dtype, shape, neurons, is an activation) of
    everything that can be watched. neurons : of all taps together. tweaks : one dict per tweak inside.
    """

    model: FileRef
    opset: dict[str, int]
    ir_version: int
    producer: str
    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    logits: tuple[str, str, str]
    classes: int | None
    taps: tuple[Tap, ...]
    candidates: tuple[tuple, ...]
    neurons: int
    tweaks: tuple[dict[str, Any], ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Evaluation:
    """How a model does on samples. classes : names. targets : names of those asked for."""

    model: FileRef
    metrics: Metrics
    classes: tuple[str, ...]
    targets: tuple[str, ...]
    seconds: dict[str, float]
    device: dict[str, Any]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Applied:
    """A tweak written into its base."""

    model: FileRef
    output: FileRef
    tweak: dict[str, Any]
    checks: tuple[Check, ...]
    seconds: dict[str, float]


@dataclass(frozen=True)
class Dumped:
    """Tables on disk. bytes : of all shards together."""

    directory: str
    shards: int
    samples: int
    neurons: int
    bytes: int
    seconds: dict[str, float]


@dataclass(frozen=True)
class Scored:
    """Theta of every neuron. top : the best few per target. dropped : neurons that were NaN or infinite."""

    output: FileRef | None
    neurons: int
    targets: tuple[str, ...]
    top: tuple[dict[str, Any], ...]
    dropped: int
    seconds: dict[str, float]
    passes: tuple[tuple[str, int], ...]
    device: dict[str, Any]


@dataclass(frozen=True)
class Pictured:
    """A page made of a result. made_by : the command that made the result."""

    result: FileRef
    output: FileRef
    made_by: str


@dataclass(frozen=True)
class Reverted:
    """Tweaks taken off again. tweaks : one dict per tweak that was taken off, the last first."""

    model: FileRef
    output: FileRef
    tweaks: tuple[dict[str, Any], ...]
    checks: tuple[Check, ...]
    seconds: dict[str, float]


@dataclass(frozen=True)
class Compared:
    """Two models side by side.

    differences : dicts of kind, where, detail, and whether a tweak inside accounts for it. tweaks : one dict
    per tweak that only the second has. checks : passed where nothing but the tweaks is different.
    """

    base: FileRef
    tweaked: FileRef
    differences: tuple[dict[str, Any], ...]
    tweaks: tuple[dict[str, Any], ...]
    checks: tuple[Check, ...]


@dataclass(frozen=True)
class Verified:
    """A tweaked file, proven again. before, after : of base and file on the samples given; None without.

    base : path empty where the base was rebuilt from the tweaked file.
    """

    model: FileRef
    base: FileRef | None
    tweaks: tuple[dict[str, Any], ...]
    checks: tuple[Check, ...]
    before: Metrics | None
    after: Metrics | None
    seconds: dict[str, float]
    notes: tuple[str, ...] = ()
