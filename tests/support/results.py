"""What do commands return? Small results, for tests of the command line and the reports."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np

from onnxtweak.plans import RunPlan
from onnxtweak.results import (
    Applied,
    Choice,
    Diagnosis,
    Dumped,
    Evaluation,
    Inspection,
    Measurement,
    RecipeWritten,
    ReportPage,
    Result,
    RunFacts,
    RunResult,
    Scored,
)
from onnxtweak.sample_counts import SampleCounts
from onnxtweak.standings import Comparison, MethodStanding
from onnxtweak.types import Check, FileRef, Finding, Metrics, Tap, Trial
from onnxtweak.verdict import Asked, Verdict, reached

MODEL = FileRef("base.onnx", "a" * 64)
OUTPUT = FileRef("out.onnx", "b" * 64)
CLASSES = ("ant", "bee", "cat")
DEVICE = {"provider": "CPUExecutionProvider", "threads": 2}
CHECKS = (Check("neutral", True, "logits bit-equal at scale 0"),)


def metrics(confusion: list[list[int]], targets: tuple[int, ...] = ()) -> Metrics:
    """Metrics (C classes) of a confusion matrix (C, C); a class without samples scores NaN."""
    table = np.array(confusion, np.int64)
    support = table.sum(axis=1)
    with np.errstate(invalid="ignore"):
        per_class = table.diagonal() / support
        target = table.diagonal()[list(targets)].sum() / support[list(targets)].sum() if targets else np.nan
    return Metrics(int(support.sum()), float(table.trace() / support.sum()), float(target), per_class, table)


def a_verdict(
    fixed=(0, 0, 1), broken=(0, 0, 0), samples=(4, 4, 4), *, targets=(2,), answer="join", split="test",
    overall=0.0, each=None, ahead=None, behind=None, names=CLASSES, cautions=(),
) -> Verdict:  # fmt: skip
    """The verdict on made-up counts of each class; by default on what `a_result` did.

    overall, each : the drops allowed. ahead, behind : against the bias; by default as against the base.
    """
    counts = SampleCounts(
        *(np.asarray(each) for each in (samples, fixed, broken)),
        np.asarray(fixed if ahead is None else ahead),
        np.asarray(broken if behind is None else behind),
    )
    return reached(answer, split, names, Asked(np.asarray(targets), overall, each), counts, cautions)


def a_result(**changes: Any) -> Result:
    """A join that moved class `cat` from 50 to 75 percent. changes : of the result or of its parts."""
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
        "verdict": a_verdict(),
        "curve": (Trial(0, 0.0, 0.0, 0.5), Trial(20, 30.0, -8.3, 0.75)),
        "seconds": {"capture and score": 1.5, "verify": 0.5},
        "passes": (("capture and score", 30), ("collect", 40)),
        "device": DEVICE,
        "checks": CHECKS,
        "classes": CLASSES,
        "notes": ("the classes are few",),
    }
    values |= changes
    parts = {"choice": Choice, "measured": Measurement, "run": RunFacts}
    for name, part in parts.items():
        values[name] = part(**{field.name: values.pop(field.name) for field in fields(part)})
    return Result(**values)


def an_inspection(**changes: Any) -> Inspection:
    """A network with one activation, watched, and one convolution, not watched."""
    values: dict[str, Any] = {
        "model": MODEL,
        "opset": {"": 17},
        "ir_version": 8,
        "producer": "pytorch 2.1",
        "inputs": (("image", "float32", (None, 3, 32, 32)),),
        "outputs": (("logits", "float32", (None, 3)),),
        "logits": ("logits", "output", "the graph's only output"),
        "kind": "one label",
        "classes": 3,
        "taps": (Tap("relu", "Relu", (8, 4, 4)),),
        "candidates": (
            ("relu", "Relu", "float32", (8, 4, 4), 128, True),
            ("conv", "Conv", "float32", (8, 4, 4), 128, False),
        ),
        "neurons": 128,
        "tweaks": (),
    }
    return Inspection(**(values | changes))


def an_evaluation(**changes: Any) -> Evaluation:
    """Three classes, `cat` asked for."""
    values: dict[str, Any] = {
        "model": MODEL,
        "metrics": metrics([[4, 0, 0], [0, 4, 0], [1, 1, 2]], (2,)),
        "classes": CLASSES,
        "targets": ("cat",),
        "seconds": {"evaluate": 0.5},
        "device": DEVICE,
    }
    return Evaluation(**(values | changes))


def an_applied() -> Applied:
    return Applied(MODEL, OUTPUT, {"kind": "join", "parameters": 2}, CHECKS, {"splice": 0.1})


def a_dump() -> Dumped:
    return Dumped("tables", shards=2, samples=1000, neurons=128, bytes=512_000, seconds={"capture": 0.1})


def a_score(**changes: Any) -> Scored:
    """One target, one neuron at its top."""
    values: dict[str, Any] = {
        "output": OUTPUT,
        "neurons": 128,
        "targets": ("cat",),
        "top": ({"tap": "relu", "index": 7, "target": "cat", "weight": 0.5, "count": 3, "lift": 1.25},),
        "dropped": 1,
        "run": RunFacts({"score": 0.1}, (("score", 1000),), DEVICE),
    }
    return Scored(**(values | changes))


def a_report_page() -> ReportPage:
    return ReportPage((FileRef("result.json", "c" * 64),), FileRef("report.html", "d" * 64), "join")


def a_recipe_written() -> RecipeWritten:
    return RecipeWritten(FileRef("tweak.toml", "e" * 64), MODEL, {"fit": 30, "validation": 10, "test": 12}, 3)


def a_run(passed: bool = True, **changes: Any) -> RunResult:
    """One tweak with one gate."""
    gates = [{"name": "max-E", "limit": 1.0, "measured": 0.5 if passed else 2.0, "passed": passed}]
    figures = {"overall": 0.8, "target": 0.5, "per_class": [1.0, None, 0.5]}
    made = {
        "answer": "join",
        "split": "test",
        "before": figures,
        "after": figures | {"target": 0.75},
        "bias_control": figures,
        "fixed": 3,
        "broken": 1,
        "E": 0.5,
        "mcnemar_p": 0.625,
        "tweak": {"parameters": 4},
        "targets": ["cat"],
        "classes": list(CLASSES),
        "gates": gates,
        "checks": [{"name": "neutral", "passed": True, "detail": "as the base"}],
        "seconds": {"all": 1.5},
    }
    values: dict[str, Any] = {
        "recipe": FileRef("tweak.toml", "e" * 64),
        "directory": "build",
        "results": {"cats": made},
        "cached": (),
        "shipped": passed,
        "files": (FileRef("cats.onnx", "f" * 64),),
        "seconds": {"all": 2.0},
    }
    return RunResult(**(values | changes))


def a_plan() -> RunPlan:
    tweak = {
        "name": "cats",
        "method": "join",
        "targets": "cat",
        "neurons": 128,
        "state_bytes": 9000,
        "passes": 3,
        "seconds": 2.5,
        "steps": (),
        "cached": False,
    }
    samples = {"fit": 30, "validation": 10, "test": 12}
    return RunPlan(
        FileRef("tweak.toml", "e" * 64), MODEL, samples, 3, (tweak,), {"max-E": 1.0}, "build", ("cats.onnx",)
    )


def a_diagnosis(state: str = "ok") -> Diagnosis:
    return Diagnosis(
        (Finding("runtime", state, "two packages", "uninstall one"), Finding("numba", "ok", "0.68.0"))
    )


def a_comparison() -> Comparison:
    """The bias alone, read on one split."""
    share = (0.75, 0.1)
    at = (share,) * 4
    bias = MethodStanding(
        "bias", share, share, at, ((0.0, 0.0),) * 4, ((0.0, 0.75),), 2, 1, 1.0, (0.5, 0.1), 1, 0.1
    )
    return Comparison(
        model=MODEL,
        targets=("cat",),
        repeats=1,
        samples={"fit": 30, "validation": 10, "test": 12},
        before={"overall": share, "target": (0.5, 0.1)},
        drops=(0.0, 0.1, 0.3, 1.0),
        standings=(bias,),
        run=RunFacts({"all": 1.0}, (("score", 30),), DEVICE),
    )
