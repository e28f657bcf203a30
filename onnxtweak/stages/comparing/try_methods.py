"""What does each method of a comparison come to on one split? Tried, judged on test, given a verdict."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

import numpy as np

from onnxtweak.errors import ModelError
from onnxtweak.method.compare.comparison import MethodResult, judge, metric_shown
from onnxtweak.method.compare.inputs import CompareInputs
from onnxtweak.method.compare.standings import MethodRun
from onnxtweak.method.metrics import reading_of
from onnxtweak.stages.judge_promises import judge_method
from onnxtweak.stages.open_job import Job
from onnxtweak.verdict import BASE

Method = Callable[[CompareInputs], MethodResult]


def try_methods(
    inputs: CompareInputs, methods: dict[str, Method], refused: dict[str, str], job: Job
) -> Iterator[tuple[str, MethodResult, MethodRun]]:
    """Each method's name, result and run, the bias first; one that cannot be used goes to `refused`."""
    progress, control = job.engine.progress, None
    progress.start("compare", len(methods), "methods")
    for name, method in methods.items():
        try:
            made = inputs.learning.kept(f"{name} {inputs.named}", partial(_made, method, inputs, job))
        except ModelError as error:
            refused[name] = str(error)
            continue
        result, seconds = MethodResult.of_arrays(made), float(made["seconds"])
        outcome = judge(result, inputs.test, inputs.goal, inputs.settings.margin)
        control = outcome if control is None else control
        changes = outcome.delivered and bool(result.parameters or outcome.bias.any())
        verdict = judge_method(
            name if changes else BASE, outcome, control, inputs.test, inputs.goal, job.names
        )
        reading, metric = None, metric_shown(inputs.goal)
        if metric is not None and outcome.made is not None:
            reading = reading_of(metric, outcome.made, groups=inputs.test.groups)
        progress.advance(1)
        kept = replace(outcome, made=None)  # as large as the logits, which nothing needs any more
        yield name, result, MethodRun(kept, verdict, result.parameters, seconds, result.note, reading)
    progress.finish()


def _made(method: Method, inputs: CompareInputs, job: Job) -> dict[str, np.ndarray]:
    """The result of a method, and how many seconds it took, as arrays. Raises ModelError."""
    begin = time.perf_counter()
    with job.engine.backend.learning():
        result = method(inputs)
    return {**result.arrays, "seconds": np.array(time.perf_counter() - begin)}
