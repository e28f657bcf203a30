"""`onnxtweak evaluate`: how good is a model on samples?"""

from __future__ import annotations

import time

from onnxtweak.cli.console import Console
from onnxtweak.cli.options.data import samples_options
from onnxtweak.cli.options.groups import command
from onnxtweak.cli.options.shared import (
    TABLES,
    engine_options,
    logits_option,
    metrics_option,
    model_argument,
    optional_target_options,
    reporting_options,
)
from onnxtweak.cli.output import close, show
from onnxtweak.settings import DataSettings, EngineSettings, TapSettings, TargetSettings


@command("evaluate", "onnxtweak evaluate model.onnx -d test.npz --pixel-scale 1/255")
@model_argument
@samples_options(by=True)
@optional_target_options
@logits_option
@metrics_option
@engine_options(*TABLES)
@reporting_options
def evaluate(
    model: str,
    data: DataSettings,
    targets: TargetSettings,
    taps: TapSettings,
    metrics: tuple[str, ...],
    engine: EngineSettings,
    console: Console,
    form: str,
) -> None:
    """Measure accuracy, overall and per class, metrics, and confusions."""
    from onnxtweak import commands
    from onnxtweak.report.text import summary

    began = time.perf_counter()
    measured = commands.evaluate(
        model=model,
        data=data,
        engine=engine,
        taps=taps,
        targets=targets,
        metrics=metrics,
        progress=console,
    )
    show(console, "evaluate", measured, summary.evaluation, form)
    close(console, began, f"{measured.metrics.support.sum():,} {measured.unit} evaluated")
