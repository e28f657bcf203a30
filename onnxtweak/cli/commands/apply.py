"""`onnxtweak apply`: how is a saved tweak written into its model, a slot, or a second output?"""

from __future__ import annotations

import time

import click

from onnxtweak.cli.console import Console
from onnxtweak.cli.options.groups import command, option
from onnxtweak.cli.options.shared import engine_options, model_argument, output_options, reporting_options
from onnxtweak.cli.options.values import Number
from onnxtweak.cli.output import close, inspect_it, show
from onnxtweak.errors import UsageError
from onnxtweak.settings import EngineSettings, OutputSettings


@command("apply", "onnxtweak apply model.onnx cat.safetensors -o tweaked.onnx --scale 0.5")
@model_argument
@click.argument("tweaks", metavar="TWEAK...", nargs=-1, required=True)
@option(
    "Method",
    "--scale",
    type=Number(),
    default=1.0,
    show_default="1",
    help="Multiply the tweak by this factor; at 0 the model answers as its base does.",
)
@option(
    "Method",
    "--slot",
    is_flag=True,
    help="Write an empty slot instead, and beside it one adapter per tweak (NAME.onnx_adapter) that ONNX "
    "Runtime can load for a single call. If MODEL already has a slot: write only the adapter.",
)
@option(
    "Method",
    "--shadow",
    is_flag=True,
    help="Leave the model's answers as they are, and add the tweaked logits as one more output.",
)
@engine_options("device", "threads")
@output_options("The new model.")
@reporting_options
def apply(
    model: str,
    tweaks: tuple[str, ...],
    scale: float,
    slot: bool,
    shadow: bool,
    engine: EngineSettings,
    output: OutputSettings,
    console: Console,
    form: str,
) -> None:
    """Write a saved tweak into the model it was made for.

    TWEAK is a file that `--tweak` saved, of `fit`, `join` and others. Any model other than its own is
    refused. Several tweaks need --slot.
    """
    from onnxtweak import commands
    from onnxtweak.report.text import summary

    began = time.perf_counter()
    if slot and shadow:
        raise UsageError("--slot and --shadow exclude each other", hint="give one of the two")
    if len(tweaks) > 1 and not slot:
        raise UsageError("several tweaks need --slot", hint="give one of them, or add --slot")
    if slot:
        made = commands.slot(
            model=model, tweaks=tweaks, output=output, scale=scale, engine=engine, progress=console
        )
    else:
        made = commands.apply(
            model=model,
            tweak=tweaks[0],
            output=output,
            scale=scale,
            shadow=shadow,
            engine=engine,
            progress=console,
        )
    show(console, "apply", made, summary.applied, form)
    if made.output in made.adapters:
        close(console, began, "adapter written")
    else:
        close(console, began, "tweak written", inspect_it(made))
