"""`onnxtweak dump`: tables of hidden values and logits, on disk."""

from __future__ import annotations

import time
from typing import Any

from onnxtweak.cli.console import Console
from onnxtweak.cli.options.data import samples_options
from onnxtweak.cli.options.groups import command, option
from onnxtweak.cli.options.shared import (
    TABLES,
    engine_options,
    force_option,
    model_argument,
    reporting_options,
    tap_options,
)
from onnxtweak.cli.output import close, show
from onnxtweak.quantities import number_of


@command("dump", "onnxtweak dump model.onnx -d train.npz --taps penultimate -o tables")
@model_argument
@samples_options()
@tap_options
@engine_options(*TABLES)
@option(
    "Output",
    *("-o", "--output", "directory"),
    required=True,
    metavar="DIR",
    brief="Folder for the shards.",
    help="Folder for the shards.",
)
@option("Output", "--neurons", metavar="FILE", help="Only these neurons: a file written by `score`.")
@force_option
@reporting_options
def dump(console: Console, form: str, **asked: Any) -> None:
    """Write tables of hidden values and logits to disk.

    The shards are memory-mappable .npy files with a manifest beside them. What a work directory keeps of
    them takes as much disk again.
    """
    from onnxtweak import commands
    from onnxtweak.report.text import summary

    began = time.perf_counter()
    made = commands.dump(**asked, progress=console)
    show(console, "dump", made, summary.dumped, form)
    close(console, began, f"{number_of(made.samples, 'sample')} written")
