"""Commands on files that are tweaked already: what is inside is taken off, compared, proven again."""

from __future__ import annotations

import time

import click

from onnxtweak.cli.options.data import later_samples_options
from onnxtweak.cli.options.groups import option, registering
from onnxtweak.cli.options.shared import engine_options, output_options, reporting_options
from onnxtweak.cli.output import close, show
from onnxtweak.errors import UsageError, VerificationError

ALL: list[click.Command] = []

_command = registering(ALL)


@_command("revert", "onnxtweak revert tweaked.onnx -o model.onnx")
@click.argument("tweaked", metavar="TWEAKED")
@option("Method", "--all", "everything", is_flag=True, help="Take off every tweak [default: the last].")
@option("Method", "--steps", type=click.IntRange(min=1), metavar="N", help="Take off the last N tweaks.")
@output_options("The model as it was before.")
@reporting_options
def revert(tweaked, everything, steps, output, console, form):
    """Take a tweak off again, and get back the file from before, byte for byte.

    The tweaked file carries what is needed; the sha256 that the file had before is the proof.
    """
    from onnxtweak import commands
    from onnxtweak.report.text import surgery

    if everything and steps is not None:
        raise UsageError("--all and --steps exclude each other", hint="give one of the two")
    began = time.perf_counter()
    made = commands.revert(tweaked=tweaked, output=output, steps=None if everything else steps or 1)
    show(console, "revert", made, surgery.reverted, form)
    close(console, began, f"{len(made.tweaks)} of its tweaks taken off")


@_command("diff", "onnxtweak diff model.onnx tweaked.onnx")
@click.argument("base", metavar="BASE")
@click.argument("tweaked", metavar="TWEAKED")
@reporting_options
def diff(base, tweaked, console, form):
    """Name every difference between two models, and say which of them a tweak made.

    Ends with exit code 3 when there is a difference that no tweak inside TWEAKED accounts for.
    """
    from onnxtweak import commands
    from onnxtweak.report.text import surgery

    began = time.perf_counter()
    found = commands.diff(base=base, tweaked=tweaked)
    show(console, "diff", found, surgery.compared, form)
    close(console, began, f"{len(found.differences)} differences")
    _require(found.checks, tweaked)


@_command("verify", "onnxtweak verify tweaked.onnx --base model.onnx -d test.npz")
@click.argument("tweaked", metavar="TWEAKED")
@option("Model", "--base", metavar="MODEL", help="The base, to be compared with what the file holds.")
@later_samples_options
@engine_options("device", "memory", "batch", "threads")
@reporting_options
def verify(tweaked, base, data, engine, console, form):
    """Prove a tweaked file again.

    From the file alone: the tweak comes off byte for byte, with zero weights the file computes its base, it
    differs from its base by the tweak alone, its record says what was added, the ONNX checker is no less
    content than with the base, and it loads and runs. With samples the tweak is also simulated from tables,
    and the accuracy measured with and without it. A proof that fails ends with exit code 3.
    """
    from onnxtweak import commands
    from onnxtweak.report.text import surgery

    began = time.perf_counter()
    found = commands.verify(tweaked=tweaked, base=base, data=data, engine=engine, progress=console)
    show(console, "verify", found, surgery.verified, form)
    close(console, began, f"{sum(c.passed for c in found.checks)} of {len(found.checks)} checks passed")
    _require(found.checks, tweaked)


def _require(checks, where: str) -> None:
    """Raise VerificationError for checks that failed; what there is to know was shown before."""
    failed = [check for check in checks if not check.passed]
    if failed:
        raise VerificationError(
            f"check `{failed[0].name}` failed: {failed[0].detail}",
            where=where,
            hint="the file was changed after it was tweaked, or this is not its base",
        )
