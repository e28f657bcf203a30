"""`onnxtweak demo`: what does a join do to the model that comes with onnxtweak?"""

from __future__ import annotations

import time

from onnxtweak.cli.console import Console
from onnxtweak.cli.options.groups import command, option
from onnxtweak.cli.options.shared import engine_options, force_option, reporting_options
from onnxtweak.cli.output import close, inspect_it, show
from onnxtweak.settings import EngineSettings


@command("demo", "onnxtweak demo -o /tmp/demo")
@option(
    "Output",
    "-o",
    "--output",
    "directory",
    default="onnxtweak-demo",
    show_default=True,
    metavar="DIR",
    help="Folder for the new model and its tweak.",
)
@force_option
@engine_options("device", "backend", "threads")
@reporting_options
def demo(directory: str, force: bool, engine: EngineSettings, console: Console, form: str) -> None:
    """Run `join` on the model and data that come with onnxtweak.

    A small network that reads handwritten digits is weak on some of them, because it saw few of those in
    training. The demo patches it with a synaptic join and shows the effect.
    """
    from onnxtweak import commands
    from onnxtweak.report.text import summary

    began = time.perf_counter()
    made = commands.demo(directory=directory, force=force, engine=engine, progress=console)
    show(console, "demo", made, summary.result, form)
    close(console, began, summary.verdict(made), inspect_it(made))
