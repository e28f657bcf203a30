"""Which options do `fit` and `compare` share? What they learn from, and how they fit a patch."""

from __future__ import annotations

from typing import get_args

import click

from onnxtweak import settings
from onnxtweak.cli.options.groups import gathered, option
from onnxtweak.cli.options.shared import class_axis_option
from onnxtweak.cli.options.values import Number, Whole, Words

# `taps`: TapSettings; without selectors the command chooses.
learning_tap_options = gathered(
    "taps",
    lambda taps, **values: settings.TapSettings(tuple(taps), **values),
    option(
        "Model",
        "--taps",
        multiple=True,
        metavar="WHICH",
        help="Hidden tensors to learn from: activations, stages, blocks, penultimate, front, op:TYPE, or a "
        "tensor name with * and ? [default: all activations, maps as channel means, and the penultimate "
        "tensor; where there are scores at positions, channels there, the front, and means over the sample]. "
        "Repeatable.",
    ),
    option(
        "Model",
        "--pool",
        type=Words(get_args(settings.Pool)),
        default=settings.TapSettings.pool,
        help="Make a neuron of each channel, its mean, deviation (std) or maximum, or its mean over each "
        "quarter of an image (grid2), instead of each position; where there are scores at positions, none is "
        "a channel there, and mean the same over all of a sample [default: what held-out samples prefer if "
        "--taps is not given, otherwise none].",
    ),
    option("Model", "--logits", metavar="NAME", help="The logits tensor [default: found in the graph]."),
    option(
        "Model",
        "--threshold",
        type=Number(),
        help="Above which a single number means class 1 [default: 0.5 for a probability].",
    ),
    class_axis_option,
)

margin_option = option(
    "Method",
    "--margin",
    type=Number(),
    default=settings.FitSettings.margin,
    show_default=f"{settings.FitSettings.margin:g}",
    help="Standard errors by which to stay clear of --max-overall-drop, and to beat the bias.",
)

table_neurons_option = option(
    "Method",
    "--neurons",
    type=Whole(settings.FitSettings, "neurons"),
    metavar="N",
    default=settings.FitSettings.neurons,
    show_default=True,
    help="Maximum number of neurons in a table; if there are more, one more pass finds the most promising.",
)

mirror_option = option(
    "Method",
    "--mirror",
    type=click.Choice(get_args(settings.Mirror)),
    default=settings.FitSettings.mirror,
    show_default=True,
    help="Learn from images with left and right exchanged as well: auto, where held-out samples prefer it.",
)

hidden_option = option(
    "Method",
    "--hidden",
    type=Whole(settings.FitSettings, "hidden"),
    metavar="N",
    default=settings.FitSettings.hidden,
    show_default=True,
    help="Units of the hidden layer that is tried beside linear patches; 0: linear patches only.",
)
