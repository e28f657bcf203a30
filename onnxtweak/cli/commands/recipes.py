"""Commands for a job that runs again and again: a recipe, and its gates."""

from __future__ import annotations

import os
import time

import click

from onnxtweak.cli.completion import files
from onnxtweak.cli.options.data import split_options
from onnxtweak.cli.options.groups import option, registering
from onnxtweak.cli.options.shared import (
    force_option,
    model_argument,
    optional_target_options,
    output_options,
    reporting_options,
)
from onnxtweak.cli.options.values import Device
from onnxtweak.cli.output import close, show
from onnxtweak.errors import GateFailed

ALL: list[click.Command] = []

_command = registering(ALL)


@_command("init", "onnxtweak init model.onnx -d samples.npz -t cat -o tweak.toml")
@model_argument
@split_options
@optional_target_options
@output_options("The recipe [default: tweak.toml].", usual="tweak.toml")
@reporting_options
def init(model, data, targets, output, console, form):
    """Write a recipe for a model and data, every key explained.

    Model and samples are opened and fitted to each other first, so that `onnxtweak run` can carry the recipe
    out as it is. Without a target class the recipe asks for the three worst.
    """
    from onnxtweak import commands
    from onnxtweak.report.text import runs

    began = time.perf_counter()
    made = commands.init(model=model, data=data, targets=targets, output=output, progress=console)
    show(console, "init", made, runs.begun, form)
    close(console, began, "recipe written", f"onnxtweak run {made.output.path}")


@_command("run", "onnxtweak run tweak.toml --set gates.max-overall-drop=0.2")
@click.argument("recipe", metavar="RECIPE.toml", shell_complete=files)
@option(
    "Recipe",
    "--set",
    "changes",
    multiple=True,
    metavar="KEY=VALUE",
    help="Override a key: engine.device=cpu, tweak.NAME.count=[1,10]. Variables do so too, such as "
    "ONNXTWEAK_ENGINE_DEVICE; this option wins. Repeatable.",
)
@option("Recipe", "--dry-run", is_flag=True, help="Only say what would be read, made and written.")
@option("Recipe", "--keep", is_flag=True, help="Hand the models over although a gate was not met.")
@option("Machine", "--device", type=Device(), metavar="auto|cpu|cuda[:i[,j]]", help="Where the model runs.")
@option("Output", "-o", "--output", "directory", metavar="DIR", help="Folder for everything that is made.")
@force_option
@reporting_options
def run(recipe, changes, dry_run, keep, device, directory, force, console, form):
    """Carry out a recipe: make its tweaks, judge its gates, write models and evidence.

    Beside each model lie its tweak file, its result as JSON and a page of pictures; for all of them together
    metrics.json, summary.md (for a pull request), junit.xml (for CI pages), provenance.json (an in-toto
    statement) and SHA256SUMS. What an earlier run has made from the same inputs is found again.

    Ends with exit code 1 when a gate is not met; then the evidence is written and no model.
    """
    from onnxtweak import commands
    from onnxtweak.report.text import runs

    began = time.perf_counter()
    asked = {
        "recipe": recipe,
        "changes": changes,
        "environment": os.environ,
        "directory": directory,
        "device": device,
        "progress": console,
    }
    if dry_run:
        planned = commands.plan(**asked)
        show(console, "run", planned, runs.planned, form)
        close(console, began, "nothing written, for this is a dry run")
        return
    made = commands.run(**asked, keep=keep, force=force)
    show(console, "run", made, runs.ran, form)
    if made.failed:
        raise GateFailed(
            f"not met: {', '.join(made.failed)}",
            where=recipe,
            hint="the models were handed over, for --keep was given"
            if made.shipped
            else f"see the pages in {made.directory}; --keep hands the models over all the same",
        )
    close(console, began, "every tweak made, every gate met")
