"""`onnxtweak report`: a result as a page to look at."""

from __future__ import annotations

import time

import click

from onnxtweak.cli.completion import files
from onnxtweak.cli.console import Console
from onnxtweak.cli.options.groups import command, option
from onnxtweak.cli.options.shared import output_options, reporting_options
from onnxtweak.cli.output import close, show
from onnxtweak.settings import OutputSettings


@command("report", "onnxtweak report result.json -o report.html")
@click.argument("results", metavar="RESULT.json...", nargs=-1, required=True, shell_complete=files)
@output_options("The page.")
@option("Output", "--title", default="", metavar="TEXT", help="A title to put on the page.")
@option("Output", "--date", default="", metavar="TEXT", help="A date to put on the page.")
@reporting_options
def report(
    results: tuple[str, ...], output: OutputSettings, title: str, date: str, console: Console, form: str
) -> None:
    """Draw a result as an HTML page, or several side by side.

    RESULT.json is what any command prints with -f json. The page is one file that needs no network. Of a
    patch it shows the verdict, what a stronger or a weaker one would do, each class, samples that changed,
    where the patch sits and what it costs. Several patches are shown side by side. With -o CARD.md it is a
    section for a model card, with the metadata that Hugging Face reads.
    """
    from onnxtweak import commands
    from onnxtweak.report.text import summary

    began = time.perf_counter()
    made = commands.report(results=results, output=output, title=title, date=date)
    show(console, "report", made, summary.pictured, form)
    close(console, began, "report written")
