"""`onnxtweak report`: a result as a page to look at."""

from __future__ import annotations

import time

import click

from onnxtweak.cli.completion import files
from onnxtweak.cli.console import Console
from onnxtweak.cli.options.groups import command
from onnxtweak.cli.options.shared import output_options, reporting_options
from onnxtweak.cli.output import close, show
from onnxtweak.settings import OutputSettings


@command("report", "onnxtweak report result.json -o report.html")
@click.argument("result", metavar="RESULT.json", shell_complete=files)
@output_options("The page.")
@reporting_options
def report(result: str, output: OutputSettings, console: Console, form: str) -> None:
    """Draw a result as an HTML page.

    RESULT.json is what a command that makes a patch prints with -f json. The page is one file that needs no
    network and runs no scripts. It shows the accuracy of each class with its interval, which classes are
    mistaken for which, the trade-off that was chosen from, where the patch sits, what it costs, and some of
    the samples that changed.
    """
    from onnxtweak import commands
    from onnxtweak.report.text import summary

    began = time.perf_counter()
    made = commands.report(result=result, output=output)
    show(console, "report", made, summary.pictured, form)
    close(console, began, "report written")
