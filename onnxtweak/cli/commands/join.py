"""`onnxtweak join`: synapses from hidden neurons to the logits of chosen classes."""

from __future__ import annotations

from typing import Any

from onnxtweak.cli.console import Console
from onnxtweak.cli.options.data import split_options
from onnxtweak.cli.options.groups import command
from onnxtweak.cli.options.method import join_options
from onnxtweak.cli.options.shared import (
    SCORING,
    dry_run_option,
    engine_options,
    model_argument,
    output_options,
    reporting_options,
    tap_options,
    target_options,
)
from onnxtweak.cli.output import carry_out, inspect_it


@command("join", "onnxtweak join model.onnx -d train.npz --test test.npz -t cat -o tweaked.onnx")
@model_argument
@split_options
@target_options
@tap_options
@join_options()
@engine_options(*SCORING)
@output_options("The new model.", tweak=True)
@dry_run_option
@reporting_options
def join(dry_run: bool, console: Console, form: str, **asked: Any) -> None:
    """Improve chosen classes with a synaptic join.

    Every hidden neuron is scored by how many samples of a target class it could fix without breaking any
    other sample; the best ones are connected to the target's logit. How many, and how strongly, is chosen on
    validation samples so that the overall accuracy stays within --max-overall-drop. The result is shown
    beside a control, on the same samples: the best that adding a constant to the target's logit can do.
    """
    from onnxtweak.report.text import summary

    carry_out(console, "join", form, summary.result, summary.verdict, inspect_it, dry_run=dry_run, **asked)
