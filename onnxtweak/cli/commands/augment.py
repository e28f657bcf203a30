"""`onnxtweak augment`: a small MLP beside the model, fed by active neurons."""

from __future__ import annotations

import functools
from typing import Any

import click

from onnxtweak import settings
from onnxtweak.cli.console import Console
from onnxtweak.cli.options.data import split_options
from onnxtweak.cli.options.groups import command, gathered, option
from onnxtweak.cli.options.method import class_drop_option, criterion_option, theta_option
from onnxtweak.cli.options.shared import (
    SCORING,
    dry_run_option,
    engine_options,
    model_argument,
    output_options,
    reporting_options,
    tap_options,
)
from onnxtweak.cli.options.values import Whole
from onnxtweak.cli.output import carry_out, inspect_it
from onnxtweak.errors import UsageError

# Neurons and hidden units that the thesis gave the networks it augmented (Table 4.1).
_NETWORKS = {
    "cnn-3": (1000, 96),
    "resnet-20": (300, 192),
    "densenet-40": (1600, 192),
    "resnet-18": (4000, 320),
    "resnet-56": (3000, 192),
    "googlenet": (6314, 1024),
    "densenet-121": (11910, 256),
}

_method = functools.partial(option, "Method")


def _make_augment(
    size: str | None, neurons: int | None, hidden: int | None, minibatch: int, **values: Any
) -> settings.AugmentSettings:
    if size is not None:
        if neurons is not None or hidden is not None:
            raise UsageError(
                "--size excludes --neurons and --hidden", hint="give the size by its name or by its numbers"
            )
        neurons, hidden = _NETWORKS[size]
    return settings.AugmentSettings(
        neurons=neurons,
        hidden=settings.AugmentSettings.hidden if hidden is None else hidden,
        batch=minibatch,
        **values,
    )


_SIZES = ", ".join(f"{name} {n}/{h}" for name, (n, h) in _NETWORKS.items())

_augment_options = gathered(
    "settings",
    _make_augment,
    _method(
        "--neurons",
        type=Whole(settings.AugmentSettings, "neurons"),
        metavar="N",
        help="Active neurons that feed the MLP [default: 1000, or all if there are fewer].",
    ),
    _method(
        "--hidden",
        type=Whole(settings.AugmentSettings, "hidden"),
        metavar="N",
        help=f"Hidden units of the MLP [default: {settings.AugmentSettings.hidden}].",
    ),
    _method(
        "--size",
        type=click.Choice(list(_NETWORKS)),
        metavar="NET",
        help=f"Instead: the neurons and hidden units that the thesis used for this network ({_SIZES}).",
    ),
    _method(
        "--iterations",
        type=Whole(settings.AugmentSettings, "iterations"),
        metavar="N",
        default=settings.AugmentSettings.iterations,
        show_default=True,
        help="Maximum number of minibatches; training stops earlier once validation no longer improves.",
    ),
    _method(
        "--minibatch",
        type=Whole(settings.AugmentSettings, "batch"),
        metavar="N",
        default=settings.AugmentSettings.batch,
        show_default=True,
        help="Samples per minibatch.",
    ),
    class_drop_option(),
    theta_option,
    criterion_option,
)


@command("augment", "onnxtweak augment model.onnx -d held-out.npz --test test.npz -o augmented.onnx")
@model_argument
@split_options
@tap_options
@_augment_options
@engine_options(*SCORING)
@output_options("The new model.", tweak=True)
@dry_run_option
@reporting_options
def augment(dry_run: bool, console: Console, form: str, **asked: Any) -> None:
    """Improve all classes with a small network beside the model.

    The best neurons of every class feed one hidden layer, whose output is added to the logits. It is trained
    on their values alone, without running the base, and starts out changing nothing; --seed also seeds the
    training. If validation does not improve by more than its standard error, the base is kept. The goal is
    the overall accuracy: single classes may lose. Samples that the model was not trained on give much better
    results.
    """
    from onnxtweak.report.text import summary

    carry_out(console, "augment", form, summary.result, summary.verdict, inspect_it, dry_run=dry_run, **asked)
