"""`onnxtweak compare`: which method is best on these samples?"""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import Any

import click

from onnxtweak import settings
from onnxtweak.cli.console import Console
from onnxtweak.cli.options.data import split_options
from onnxtweak.cli.options.fitting import (
    hidden_option,
    learning_tap_options,
    margin_option,
    mirror_option,
    table_neurons_option,
)
from onnxtweak.cli.options.groups import command, gathered, option
from onnxtweak.cli.options.method import join_options
from onnxtweak.cli.options.shared import (
    SCORING,
    dry_run_option,
    engine_options,
    force_option,
    metric_option,
    model_argument,
    optional_target_options,
    report_option,
    reporting_options,
)
from onnxtweak.cli.output import carry_out

_method = functools.partial(option, "Method")

# `fit`: FitSettings without the drops, which the join's options give.
_fit_options = gathered(
    "fit", settings.FitSettings, margin_option, table_neurons_option, hidden_option, mirror_option
)


@command("compare", "onnxtweak compare model.onnx -d held-out.npz --test test.npz -t cat --repeats 5")
@model_argument
@split_options
@optional_target_options
@learning_tap_options
@join_options("join")
@_fit_options
@metric_option("Instead of accuracy, compare by this, each method with the biases that are best for it.")
@_method(
    "--repeats",
    type=click.IntRange(min=1),
    metavar="N",
    default=1,
    show_default=True,
    brief="Number of splits to average over.",
    help="Number of splits to average over, one seed each.",
)
@_method(
    "--method",
    "methods",
    multiple=True,
    metavar="NAME",
    brief="Only this method, and the bias. Repeatable.",
    help="Only this method, and the bias [default: all]. Repeatable.",
)
@engine_options(*SCORING)
@option(
    "Output",
    "--write",
    metavar="NAME",
    brief="The method whose patch is written to -o.",
    help="The method whose patch is written to -o.",
)
@option(
    "Output",
    "-o",
    "--output",
    metavar="FILE",
    brief="The new model, with --write.",
    help="The new model, with --write.",
)
@report_option
@force_option
@dry_run_option
@reporting_options
def compare(
    join: settings.JoinSettings,
    fit: settings.FitSettings,
    metric: str | None,
    output: str | None,
    report: str | None,
    force: bool,
    dry_run: bool,
    console: Console,
    form: str,
    **asked: Any,
) -> None:
    """Try every method on the same samples.

    Shows what each does for the target classes. The first table reads all methods at the same overall
    accuracy on test; the second shows what each delivers at an operating point that was set without the test
    samples. Without a target all classes are targets, and both show the overall accuracy. One sweep over the
    neurons serves all methods; -f json has the curves. With --write, one of them is written as a new model.
    """
    from onnxtweak.report.text import comparison

    carry_out(
        console,
        "compare",
        form,
        comparison.comparison,
        comparison.verdict,
        dry_run=dry_run,
        join=join,
        settings=replace(
            fit, max_overall_drop=join.max_overall_drop, max_class_drop=join.max_class_drop, metric=metric
        ),
        output=settings.OutputSettings(output=output, report=report, force=force),
        **asked,
    )
