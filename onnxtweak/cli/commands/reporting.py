"""Commands that look at what other commands made."""

from __future__ import annotations

import time

import click

from onnxtweak.cli.completion import files
from onnxtweak.cli.options.groups import registering
from onnxtweak.cli.options.shared import output_options, reporting_options
from onnxtweak.cli.output import close, show

ALL: list[click.Command] = []

_command = registering(ALL)


@_command("report", "onnxtweak report result.json -o report.html")
@click.argument("result", metavar="RESULT.json", shell_complete=files)
@output_options("The page.")
@reporting_options
def report(result, output, console, form):
    """Draw a result: one page to look at, without network and without scripts.

    RESULT.json is what a command that makes a patch prints with -f json. The page shows the accuracy of each
    class with its interval, what is taken for what, the trade-off that was chosen from, where the patch sits,
    what it costs, and some of the samples that changed.
    """
    from onnxtweak import commands
    from onnxtweak.report.text import summary

    began = time.perf_counter()
    made = commands.report(result=result, output=output)
    show(console, "report", made, summary.pictured, form)
    close(console, began, "report written")
