"""`onnxtweak revert`: the model as it was before its tweaks."""

from __future__ import annotations

import time

import click

from onnxtweak.cli.console import Console
from onnxtweak.cli.options.groups import command, option
from onnxtweak.cli.options.shared import output_options, reporting_options
from onnxtweak.cli.output import close, show
from onnxtweak.errors import UsageError
from onnxtweak.settings import OutputSettings


@command("revert", "onnxtweak revert tweaked.onnx -o model.onnx")
@click.argument("tweaked", metavar="TWEAKED")
@option("Method", "--all", "everything", is_flag=True, help="Remove every tweak [default: the last].")
@option("Method", "--steps", type=click.IntRange(min=1), metavar="N", help="Remove the last N tweaks.")
@output_options("The model as it was before.")
@reporting_options
def revert(
    tweaked: str, everything: bool, steps: int | None, output: OutputSettings, console: Console, form: str
) -> None:
    """Remove a tweak, and get back the earlier file, byte for byte.

    The tweaked file carries what is needed; the sha256 of the earlier file is checked.
    """
    from onnxtweak import commands
    from onnxtweak.report.text import surgery

    if everything and steps is not None:
        raise UsageError("--all and --steps exclude each other", hint="give one of the two")
    began = time.perf_counter()
    made = commands.revert(tweaked=tweaked, output=output, steps=None if everything else steps or 1)
    show(console, "revert", made, surgery.reverted, form)
    close(console, began, f"{len(made.tweaks)} {'tweak' if len(made.tweaks) == 1 else 'tweaks'} removed")
