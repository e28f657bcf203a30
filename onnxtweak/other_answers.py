"""What do other models and runtimes answer beside a tweaked one? A reference, a rewritten file, a runtime."""

from __future__ import annotations

from dataclasses import dataclass

from onnxtweak.types import FileRef


@dataclass(frozen=True)
class MatchOutcome:
    """How a copy agrees with a reference, on the samples that a result is measured on.

    reference : its file. agreement : shares of samples on which "base", "tweaked" and "bias" decide as it
    does. accuracy : the shares that these and the "reference" get right; None without labels.
    """

    reference: FileRef
    agreement: dict[str, float]
    accuracy: dict[str, float] | None


@dataclass(frozen=True)
class Rewritten:
    """A file that another tool made of a tweaked one, beside it, on `samples`. tweaked : the latter.

    same : share of samples on which both decide alike. largest : difference of their logits, as a share of
    the largest. changed, kept : decisions that the tweak changed, and those of them that the file has too.
    accuracy, targets : of "base", "tweaked" and "rewritten", over all samples and over those of the classes
    that the tweak was made for; None without labels, and where all classes are targets.
    """

    tweaked: FileRef
    samples: int
    same: float
    largest: float
    changed: int
    kept: int
    accuracy: dict[str, float] | None
    targets: dict[str, float] | None


@dataclass(frozen=True)
class RuntimeDeviation:
    """Of a file's values in a runtime from those in ONNX Runtime.

    differ : decisions that are others. largest : the largest difference, as a share of the largest value.
    """

    differ: int
    largest: float


@dataclass(frozen=True)
class RuntimeRun:
    """Base and tweaked file in another runtime, on so many samples."""

    name: str
    version: str
    samples: int
    base: RuntimeDeviation
    tweaked: RuntimeDeviation
