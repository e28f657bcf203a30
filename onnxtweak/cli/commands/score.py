"""`onnxtweak score`: theta of every hidden neuron."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from onnxtweak.cli.console import Console
from onnxtweak.cli.options.data import samples_options
from onnxtweak.cli.options.groups import command
from onnxtweak.cli.options.method import score_options
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
from onnxtweak.cli.output import carry_out
from onnxtweak.quantities import number_of

if TYPE_CHECKING:
    from onnxtweak.results import Scored


@command("score", "onnxtweak score model.onnx -d train.npz -t cat -o scores.npz")
@model_argument
@samples_options(dumps=True)
@target_options
@tap_options
@score_options
@engine_options(*SCORING)
@output_options("The scores, one row per target and one column per neuron (*.npz).")
@dry_run_option
@reporting_options
def score(dry_run: bool, console: Console, form: str, **asked: Any) -> None:
    """Score every hidden neuron for the target classes.

    The score says how many samples of a class a neuron could fix without breaking any other. One pass over
    the samples scores them all, or several where --memory cannot hold all neurons at once.
    """
    from onnxtweak.report.text import summary

    carry_out(console, "score", form, summary.scored, _verdict, dry_run=dry_run, **asked)


def _verdict(made: Scored) -> str:
    return f"{number_of(made.neurons, 'neuron')} scored"
