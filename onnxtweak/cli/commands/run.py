"""`onnxtweak run`: the tweaks of a recipe, behind gates."""

from __future__ import annotations

import os
import time
from typing import Any

import click

from onnxtweak.cli.completion import files
from onnxtweak.cli.console import Console
from onnxtweak.cli.options.groups import command, option
from onnxtweak.cli.options.shared import force_option, reporting_options
from onnxtweak.cli.options.values import Device
from onnxtweak.cli.output import DRY_RUN, close, show
from onnxtweak.errors import GateFailed


@command("run", "onnxtweak run tweak.toml --set gates.max-overall-drop=0.2")
@click.argument("recipe", metavar="RECIPE.toml", shell_complete=files)
@option(
    "Recipe",
    "--set",
    "changes",
    multiple=True,
    metavar="KEY=VALUE",
    help="Override a key: engine.device=cpu, tweak.NAME.count=[1,10]. Environment variables can do the same, "
    "such as ONNXTWEAK_ENGINE_DEVICE; this option wins. Repeatable.",
)
@option("Recipe", "--dry-run", is_flag=True, help="Only show what would be read, made and written.")
@option("Recipe", "--keep", is_flag=True, help="Deliver the models even if a gate fails.")
@option("Machine", "--device", type=Device(), metavar="auto|cpu|cuda[:i[,j]]", help="Where the model runs.")
@option("Output", "-o", "--output", "directory", metavar="DIR", help="Folder for everything that is made.")
@force_option
@reporting_options
def run(
    dry_run: bool, keep: bool, force: bool, console: Console, form: str, recipe: str, **asked: Any
) -> None:
    """Run a recipe: make its tweaks, judge its gates, write models.

    Beside each model it writes the tweak file, the result as JSON and as an HTML page; for all of them
    together metrics.json, summary.md (for a pull request), junit.xml (for CI pages), provenance.json (an
    in-toto statement) and SHA256SUMS. What an earlier run made from the same inputs is reused.

    Ends with exit code 1 if a gate fails; the evidence is then written, but no model. Two gates need not be
    asked for: a promise that is surely not kept fails (max-not-kept), and so does a copy of the base
    (refuse-copy).
    """
    from onnxtweak import commands
    from onnxtweak.report.text import runs
    from onnxtweak.verdict import BASE

    began = time.perf_counter()
    asked |= {"recipe": recipe, "environment": os.environ, "progress": console}
    if dry_run:
        show(console, "run", commands.plan(**asked), runs.planned, form)
        close(console, began, DRY_RUN)
        return
    made = commands.run(**asked, keep=keep, force=force)
    show(console, "run", made, runs.ran, form)
    copies = [name for name, one in made.results.items() if one["answer"] == BASE]
    if made.failed:
        hint = f"see the pages in {made.directory}; --keep delivers the models anyway"
        if set(made.failed) == {f"{name}: refuse-copy" for name in copies}:
            hint = (
                "nothing that was tried did better than the base: give more samples, or samples that it was"
                " not trained on; `refuse-copy = false` under [gates] takes a copy"
            )
        raise GateFailed(
            f"gates failed: {', '.join(made.failed)}",
            where=recipe,
            hint="the models were delivered because of --keep" if made.shipped else hint,
        )
    said = f"every gate passed; a copy of the base: {', '.join(copies)}" if copies else ""
    close(console, began, said or "every tweak made, every gate passed")
