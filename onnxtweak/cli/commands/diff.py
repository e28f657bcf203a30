"""`onnxtweak diff`: what differs between two models, and did a tweak do it?"""

from __future__ import annotations

import time

import click

from onnxtweak.cli.console import Console
from onnxtweak.cli.options.groups import command
from onnxtweak.cli.options.shared import reporting_options
from onnxtweak.cli.output import close, require_passed, show


@command("diff", "onnxtweak diff model.onnx tweaked.onnx")
@click.argument("base", metavar="BASE")
@click.argument("tweaked", metavar="TWEAKED")
@reporting_options
def diff(base: str, tweaked: str, console: Console, form: str) -> None:
    """List every difference between two models.

    Says of each whether a tweak made it, by the digests in the tweak's record. Ends with exit code 3 if there
    is a difference that no tweak inside TWEAKED accounts for.
    """
    from onnxtweak import commands
    from onnxtweak.report.text import surgery

    began = time.perf_counter()
    found = commands.diff(base=base, tweaked=tweaked)
    show(console, "diff", found, surgery.compared, form)
    count = len(found.differences)
    close(console, began, f"{count:,} {'difference' if count == 1 else 'differences'}")
    require_passed(found.checks, tweaked)
