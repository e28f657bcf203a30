"""Small results as the pipeline would hand them out, for tests of the command line and the reports."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from onnxtweak.types import Check, FileRef, Metrics, Result, Tap, Trial

MODEL = FileRef("base.onnx", "a" * 64)
OUTPUT = FileRef("out.onnx", "b" * 64)
CLASSES = ("ant", "bee", "cat")


def metrics(confusion: list[list[int]], targets: tuple[int, ...] = ()) -> Metrics:
    """Metrics (C classes) of a confusion matrix (C, C); a class without samples scores NaN."""
    table = np.array(confusion, np.int64)
    support = table.sum(axis=1)
    with np.errstate(invalid="ignore"):
        per_class = table.diagonal() / support
        target = table.diagonal()[list(targets)].sum() / support[list(targets)].sum() if targets else np.nan
    return Metrics(int(support.sum()), float(table.trace() / support.sum()), float(target), per_class, table)


def a_result(**changes: Any) -> Result:
    """A join that moved class `cat` from 50 to 75 percent."""
    values: dict[str, Any] = {
        "command": "join",
        "model": MODEL,
        "output": OUTPUT,
        "tweak": {
            "kind": "join",
            "parameters": 2,
            "synapses": [
                {
                    "tap": "relu",
                    "index": np.int64(7),
                    "target": 2,
                    "weight": 0.5,
                    "threshold": 0.25,
                    "count": 1,
                }
            ],
        },
        "targets": ("cat",),
        "n": (20,),
        "scale": (30.0,),
        "theta": "signed",
        "criterion": "count",
        "neurons": 45056,
        "samples": {"fit": 30, "validation": 10, "test": 12},
        "split": "test",
        "before": metrics([[4, 0, 0], [0, 4, 0], [1, 1, 2]], (2,)),
        "after": metrics([[4, 0, 0], [0, 4, 0], [0, 1, 3]], (2,)),
        "bias_control": metrics([[3, 0, 1], [0, 4, 0], [0, 1, 3]], (2,)),
        "fixed": 1,
        "broken": 0,
        "mcnemar_p": 1.0,
        "E": 0.0,
        "curve": (Trial(0, 0.0, 0.0, 0.5), Trial(20, 30.0, -8.3, 0.75)),
        "seconds": {"capture and score": 1.5, "verify": 0.5},
        "passes": (("capture and score", 30), ("collect", 40)),
        "device": {"provider": "CPUExecutionProvider", "threads": 2},
        "checks": (Check("neutral", True, "logits bit-equal at scale 0"),),
        "classes": CLASSES,
        "notes": ("the classes are few",),
    }
    return Result(**(values | changes))


@dataclass(frozen=True)
class Inspection:
    model: FileRef = MODEL
    opset: int = 17
    ir_version: int = 8
    producer: str = "pytorch 2.1"
    inputs: tuple = (("image", "float32", ("N", 3, 32, 32)),)
    outputs: tuple = (("logits", "float32", ("N", 3)),)
    logits: tuple = ("logits", "output", "the graph's only output")
    classes: int | None = 3
    taps: tuple = (Tap("relu", "Relu", (8, 4, 4)),)
    candidates: tuple = (
        ("relu", "Relu", "float32", (8, 4, 4), 128, True),
        ("conv", "Conv", "float32", (8, 4, 4), 128, False),
    )
    neurons: int = 128
    tweaks: tuple = ()
    notes: tuple = ()


@dataclass(frozen=True)
class Evaluation:
    model: FileRef = MODEL
    metrics: Metrics = field(default_factory=lambda: metrics([[4, 0, 0], [0, 4, 0], [1, 1, 2]], (2,)))
    classes: tuple = CLASSES
    targets: tuple = ("cat",)
    seconds: dict = field(default_factory=lambda: {"evaluate": 0.5})
    device: dict = field(default_factory=lambda: {"provider": "CPUExecutionProvider"})
    notes: tuple = ()


@dataclass(frozen=True)
class Applied:
    model: FileRef = MODEL
    output: FileRef = OUTPUT
    tweak: dict = field(default_factory=lambda: {"kind": "join", "parameters": 2})
    checks: tuple = (Check("neutral", True, "bit-equal"),)
    seconds: dict = field(default_factory=lambda: {"splice": 0.1})


@dataclass(frozen=True)
class Dumped:
    directory: str = "tables"
    shards: int = 2
    samples: int = 1000
    neurons: int = 128
    bytes: int = 512_000
    seconds: dict = field(default_factory=lambda: {"capture": 0.1})


@dataclass(frozen=True)
class Scored:
    output: FileRef = OUTPUT
    neurons: int = 128
    targets: tuple = ("cat",)
    top: tuple = ({"tap": "relu", "index": 7, "target": "cat", "weight": 0.5, "count": 3, "lift": 1.25},)
    dropped: int = 1
    seconds: dict = field(default_factory=lambda: {"score": 0.1})
    passes: tuple = (("score", 1000),)
    device: dict = field(default_factory=lambda: {"provider": "CPUExecutionProvider"})
