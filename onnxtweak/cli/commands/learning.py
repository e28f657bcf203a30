"""Commands that learn on the tables: the best patch there is, and every method beside every other."""

from __future__ import annotations

from dataclasses import replace
from typing import get_args

import click

from onnxtweak import settings
from onnxtweak.cli.options.data import split_options
from onnxtweak.cli.options.groups import gathered, option, registering
from onnxtweak.cli.options.method import class_drop_option, join_options
from onnxtweak.cli.options.shared import (
    dry_run_option,
    engine_options,
    force_option,
    model_argument,
    optional_target_options,
    output_options,
    reporting_options,
)
from onnxtweak.cli.options.values import Number
from onnxtweak.cli.output import carry_out, inspect_it

ALL: list[click.Command] = []

_command = registering(ALL)

# `taps`: TapSettings; without selectors the command chooses.
_tap_options = gathered(
    "taps",
    lambda taps, pool, logits: settings.TapSettings(tuple(taps), pool, logits),
    option(
        "Model",
        "--taps",
        multiple=True,
        metavar="WHICH",
        help="Hidden tensors to learn from: activations, stages, blocks, penultimate, op:TYPE, or a tensor "
        "name with * and ? [default: the channel means of all activations, and the penultimate tensor]. "
        "Repeatable.",
    ),
    option(
        "Model",
        "--pool",
        type=click.Choice(get_args(settings.Pool)),
        default=settings.TapSettings.pool,
        help="Make a neuron of each channel, its mean or maximum, instead of each position "
        "[default: mean where --taps is not given, else none].",
    ),
    option("Model", "--logits", metavar="NAME", help="The logits tensor [default: found in the graph]."),
)

_NEURONS = option(
    "Method",
    "--neurons",
    type=click.IntRange(min=1),
    metavar="N",
    default=settings.FitSettings.neurons,
    show_default=True,
    help="Neurons a table holds at most; of more, the most promising are found in one more pass.",
)
_MARGIN = option(
    "Method",
    "--margin",
    type=Number(least=0),
    default=settings.FitSettings.margin,
    show_default=f"{settings.FitSettings.margin:g}",
    help="Standard errors to keep clear of --max-overall-drop, and to beat the bias by.",
)

_HIDDEN = option(
    "Method",
    "--hidden",
    type=click.IntRange(min=0),
    metavar="N",
    default=settings.FitSettings.hidden,
    show_default=True,
    help="Units of the hidden layer that is tried beside linear patches; 0: linear patches only.",
)

_fit_options = gathered(
    "settings",
    settings.FitSettings,
    option(
        "Method",
        "--max-overall-drop",
        type=Number(),
        default=settings.FitSettings.max_overall_drop,
        show_default=f"{settings.FitSettings.max_overall_drop:g}",
        help="Percentage points of overall accuracy that may be lost; -2: at least 2 must be gained.",
    ),
    class_drop_option,
    _MARGIN,
    _NEURONS,
    _HIDDEN,
    option(
        "Method",
        "--budget",
        type=click.IntRange(min=1),
        metavar="N",
        help="Numbers that the patch may hold, weights and biases together. Its few neurons are then chosen "
        "by pursuit or by an elastic net, for all classes or for the targets alone, whichever is better "
        "[default: no limit].",
    ),
    option(
        "Method",
        "--synapses",
        type=click.IntRange(min=1),
        metavar="N",
        help="The same for weights alone: links from a hidden neuron to a class [default: no limit].",
    ),
    option(
        "Method",
        "--certify",
        type=Number(above=0),
        metavar="LEVEL",
        help="Weaken the patch until at most this share of all samples, such as 0.02, is expected to become "
        "wrong. Validation is kept for the proof.",
    ),
)

_repeats = option(
    "Method",
    "--repeats",
    type=click.IntRange(min=1),
    metavar="N",
    default=1,
    show_default=True,
    help="Splits to average over, one seed each.",
)
_methods = option(
    "Method",
    "--method",
    "methods",
    multiple=True,
    metavar="NAME",
    help="Only this method, and the bias [default: all]. Repeatable.",
)

_write = option("Output", "--write", metavar="NAME", help="The method whose patch is written to -o.")
_output = option("Output", "-o", "--output", metavar="FILE", help="The new model, with --write.")


def _contest_options(command):
    """`fit`: FitSettings without the drop, which the join's option gives; `repeats`; `methods`."""
    settled = gathered("fit", settings.FitSettings, _MARGIN, _NEURONS, _HIDDEN)
    return settled(_repeats(_methods(command)))


@_command("fit", "onnxtweak fit model.onnx -d held-out.npz --test test.npz -t cat -o tweaked.onnx")
@model_argument
@split_options
@optional_target_options
@_tap_options
@_fit_options
@engine_options("device", "memory", "batch", "threads", "work_dir", "resume")
@output_options("The new model.", tweak=True)
@dry_run_option
@reporting_options
def fit(dry_run, console, form, **asked):
    """Make chosen classes better with the best patch that the samples allow, and write the new model.

    All classes are fitted jointly from hidden neurons, which raises the overall accuracy; the surplus over
    --max-overall-drop is then spent on the target classes by exact biases. Without a target nothing is spent:
    the overall accuracy is the aim. Penalties, neurons and biases are chosen by cross-validation. Where a
    bias does as well, the answer is the bias; where nothing helps, the base. Samples that the model was not
    trained on give much better patches.

    The model runs over the fit samples once, or three times where neurons have to be chosen, and twice over
    the others (--dry-run: how long). Learning comes on top: it grows with samples, neurons and classes that
    have samples, and most of it is the hidden layer, which --hidden 0 leaves out.
    """
    from onnxtweak.report.text import summary

    carry_out(
        console,
        "fit",
        form,
        summary.result,
        summary.verdict,
        inspect_it,
        dry_run=dry_run,
        **asked,
    )


@_command("compare", "onnxtweak compare model.onnx -d held-out.npz --test test.npz -t cat --repeats 5")
@model_argument
@split_options
@optional_target_options
@_tap_options
@join_options("join")
@_contest_options
@engine_options("device", "backend", "memory", "batch", "threads", "work_dir", "resume")
@_write
@_output
@force_option
@dry_run_option
@reporting_options
def compare(join, fit, output, force, dry_run, console, form, **asked):
    """Try every method on the same samples, and show what each would do for the target classes.

    The first table reads all methods at the same overall accuracy on test; the second shows what each
    delivers at an operating point that was set without the test samples. Without a target all classes are
    targets, and both show the overall accuracy. The neurons are swept once for all methods; -f json has the
    curves. With --write, one of them is written as a new model.
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
        settings=replace(fit, max_overall_drop=join.max_overall_drop),
        output=settings.OutputSettings(output=output, force=force),
        **asked,
    )
