"""`onnxtweak init`: a recipe for a model and its data."""

from __future__ import annotations

import time

from onnxtweak.cli.console import Console
from onnxtweak.cli.options.data import split_options
from onnxtweak.cli.options.groups import command
from onnxtweak.cli.options.shared import (
    model_argument,
    optional_target_options,
    output_options,
    reporting_options,
)
from onnxtweak.cli.output import close, show
from onnxtweak.settings import DataSettings, OutputSettings, TargetSettings


@command("init", "onnxtweak init model.onnx -d samples.npz -t cat -o tweak.toml")
@model_argument
@split_options
@optional_target_options
@output_options("The recipe [default: tweak.toml].", usual="tweak.toml")
@reporting_options
def init(
    model: str,
    data: DataSettings,
    targets: TargetSettings,
    output: OutputSettings,
    console: Console,
    form: str,
) -> None:
    """Write a recipe for a model and its data.

    Every key is explained. Model and samples are opened and matched to each other first, so that `onnxtweak
    run` can run the recipe as it is. Without a target class the recipe asks for the three worst.
    """
    from onnxtweak import commands
    from onnxtweak.report.text import runs

    began = time.perf_counter()
    made = commands.init(model=model, data=data, targets=targets, output=output, progress=console)
    show(console, "init", made, runs.recipe_written, form)
    close(console, began, "recipe written", f"onnxtweak run {made.output.path}")
