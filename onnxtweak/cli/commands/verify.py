"""`onnxtweak verify`: does a tweaked file still pass its checks?"""

from __future__ import annotations

import time
from typing import get_args

import click

from onnxtweak.cli.console import Console
from onnxtweak.cli.options.data import verified_samples_options
from onnxtweak.cli.options.groups import command, option
from onnxtweak.cli.options.shared import TABLES, engine_options, reporting_options
from onnxtweak.cli.options.values import Words
from onnxtweak.cli.output import close, require_passed, show
from onnxtweak.errors import UsageError
from onnxtweak.settings import DataSettings, EngineSettings, RuntimeName


@command("verify", "onnxtweak verify tweaked.onnx --base model.onnx -d test.npz")
@click.argument("tweaked", metavar="TWEAKED")
@option(
    "Model",
    "--base",
    metavar="MODEL",
    brief="The base, to compare with the one in the file.",
    help="The base, to compare with the one the file contains.",
)
@option(
    "Model",
    "--same-as",
    metavar="FILE",
    brief="The file as onnxtweak wrote it, where another tool rewrote it.",
    help="The tweaked file, as onnxtweak wrote it, that TWEAKED was made of by another tool: simplified, "
    "quantised, converted. Do its decisions and the gain survive, on the samples of -d, with labels or not?",
)
@option(
    "Model",
    "--runtime",
    "runtimes",
    type=Words(get_args(RuntimeName)),
    default=(),
    show_default=False,
    brief="Run it in these too: openvino, opencv.",
    help="Run the file and its base in these too, on up to 200 samples of -d, beside ONNX Runtime's values; "
    "openvino and opencv need the extra `runtimes`.",
)
@verified_samples_options
@engine_options(*TABLES)
@reporting_options
def verify(
    tweaked: str,
    base: str | None,
    same_as: str | None,
    runtimes: tuple[str, ...],
    data: DataSettings | None,
    engine: EngineSettings,
    console: Console,
    form: str,
) -> None:
    """Verify a tweaked file again.

    Ends with exit code 3 if a check fails. A check that cannot be made is named, and counts neither as passed
    nor as failed.

    From the file alone: the tweak comes off byte for byte; all that it added, and its record, still have the
    digests recorded; with zero weights the file computes what its base computes; it differs from its base by
    the tweak alone; its record says what was added; the ONNX checker finds no fault that the base does not
    have; and it loads and runs. With samples, the tweak is also simulated from tables, and the accuracy is
    measured with and without it, and compared with what was recorded. Every must-sample has to be right, and
    no lock-sample that the base gets right may be wrong.

    With --runtime, file and base are run by other programs as well: values may be off by a thousandth of the
    largest, or by four times as much as the base's are.

    With --same-as the file need not have been written by onnxtweak: at least nine tenths of what the tweak
    gained have to be left in it or, on samples without labels, of the decisions that it changed.
    """
    from onnxtweak import commands
    from onnxtweak.report.text import surgery

    if same_as is not None and base is not None:
        raise UsageError("--base and --same-as exclude each other", hint="give one of the two")
    began = time.perf_counter()
    found = commands.verify(
        tweaked=tweaked,
        base=base,
        same_as=same_as,
        data=data,
        engine=engine,
        runtimes=runtimes,
        progress=console,
    )
    show(console, "verify", found, surgery.verified, form)
    close(console, began, surgery.counted(found.checks, found.unchecked))
    require_passed(found.checks, tweaked)
