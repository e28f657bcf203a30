"""Commands of the thesis's second and third step: `retrain` and `augment`."""

from __future__ import annotations

import functools

import click

from onnxtweak import settings
from onnxtweak.cli.options.data import split_options
from onnxtweak.cli.options.groups import gathered, option, registering
from onnxtweak.cli.options.method import (
    check_scale,
    class_drop_option,
    count_option,
    criterion_option,
    exact_scale_option,
    grids,
    join_criterion_option,
    overall_drop_option,
    theta_option,
)
from onnxtweak.cli.options.shared import (
    SCORING,
    dry_run_option,
    engine_options,
    model_argument,
    optional_target_options,
    output_options,
    reporting_options,
    tap_options,
)
from onnxtweak.cli.options.values import Number, Numbers
from onnxtweak.cli.output import carry_out, inspect_it
from onnxtweak.errors import UsageError

ALL: list[click.Command] = []

_command = registering(ALL)
_method = functools.partial(option, "Method")


def _listed(values: tuple) -> str:
    return ",".join(f"{value:g}" for value in values)


def _make_retrain(count, scale, ridge, penalty, schedule, exact_scale, **join) -> tuple:
    """How neurons are chosen and how weights are trained: (JoinSettings, RetrainSettings)."""
    check_scale(scale, exact_scale)
    return (
        settings.JoinSettings(**grids(count=count), exact_scale=exact_scale, **join),
        settings.RetrainSettings(penalty=penalty, schedule=schedule, **grids(scale=scale, ridge=ridge)),
    )


_retrain_options = gathered(
    "how",
    _make_retrain,
    count_option,
    _method(
        "--penalty",
        type=Number(above=0),
        default=settings.RetrainSettings.penalty,
        show_default=f"{settings.RetrainSettings.penalty:g}",
        help="How much more an error on a sample of a target counts: 1 is SR-1, more is SR-2.",
    ),
    _method(
        "--schedule",
        metavar="STAGES",
        help='Joins and retrainings of the worst classes in turn, such as "J10 R10 J5 R5 J5". Without a '
        "target, of any class.",
    ),
    _method(
        "--ridge",
        multiple=True,
        type=Numbers(least=0),
        help="L2 penalties to choose from, on neurons of unit deviation "
        f"[default: {_listed(settings.RetrainSettings.ridge)}].",
    ),
    _method(
        "--scale",
        multiple=True,
        type=Numbers(least=0),
        help="Strengths of the retrained synapses to choose from "
        f"[default: {_listed(settings.RetrainSettings.scale)}].",
    ),
    exact_scale_option,
    overall_drop_option,
    class_drop_option,
    theta_option,
    join_criterion_option,
)


@_command("retrain", "onnxtweak retrain model.onnx -d train.npz --test test.npz -t cat -o tweaked.onnx")
@model_argument
@split_options
@optional_target_options
@tap_options
@_retrain_options
@engine_options(*SCORING)
@output_options("The new model.", tweak=True)
@dry_run_option
@reporting_options
def retrain(how, dry_run, console, form, **asked):
    """Join chosen classes to hidden neurons, train the new synapses alone, and write the new model.

    The neurons are chosen as `join` chooses them. Their values and the logits are collected once; on this
    table the weights are then trained to the optimum, which is unique. How many synapses, and how strong, is
    chosen on validation as for `join`. With --schedule the classes that do worst are ranked anew before
    every stage, and no stage may lose what an earlier one gained.
    """
    from onnxtweak.report.text import summary

    if how[1].schedule is None and asked["targets"] == settings.TargetSettings():
        raise UsageError(
            "no target class", hint="name one with --target, say how many with --worst, or give a --schedule"
        )
    carry_out(
        console,
        "retrain",
        form,
        summary.result,
        summary.verdict,
        inspect_it,
        dry_run=dry_run,
        join=how[0],
        settings=how[1],
        **asked,
    )


def _make_augment(size, neurons, hidden, minibatch, **values) -> settings.AugmentSettings:
    if size is not None:
        if neurons is not None or hidden is not None:
            raise UsageError(
                "--size excludes --neurons and --hidden", hint="give the size by its name or by its numbers"
            )
        neurons, hidden = settings.AUGMENT_SIZES[size]
    return settings.AugmentSettings(
        neurons=neurons,
        hidden=settings.AugmentSettings.hidden if hidden is None else hidden,
        batch=minibatch,
        **values,
    )


_SIZES = ", ".join(f"{name} {n}/{h}" for name, (n, h) in settings.AUGMENT_SIZES.items())

_augment_options = gathered(
    "settings",
    _make_augment,
    _method(
        "--neurons",
        type=click.IntRange(min=1),
        metavar="N",
        help="Active neurons that feed the MLP [default: 1000, or all where there are fewer].",
    ),
    _method(
        "--hidden",
        type=click.IntRange(min=1),
        metavar="N",
        help=f"Its hidden units [default: {settings.AugmentSettings.hidden}].",
    ),
    _method(
        "--size",
        type=click.Choice(list(settings.AUGMENT_SIZES)),
        metavar="NET",
        help=f"Instead: neurons and hidden units that the thesis gave such a network ({_SIZES}).",
    ),
    _method(
        "--iterations",
        type=click.IntRange(min=1),
        metavar="N",
        default=settings.AugmentSettings.iterations,
        show_default=True,
        help="Minibatches at most; training stops before, once validation no longer improves.",
    ),
    _method(
        "--minibatch",
        type=click.IntRange(min=1),
        metavar="N",
        default=settings.AugmentSettings.batch,
        show_default=True,
        help="Samples of a minibatch.",
    ),
    class_drop_option,
    theta_option,
    criterion_option,
)


@_command("augment", "onnxtweak augment model.onnx -d held-out.npz --test test.npz -o augmented.onnx")
@model_argument
@split_options
@tap_options
@_augment_options
@engine_options(*SCORING)
@output_options("The new model.", tweak=True)
@dry_run_option
@reporting_options
def augment(dry_run, console, form, **asked):
    """Make a model better at all its classes: a small network beside it, fed by its active neurons.

    The best neurons of every class feed one hidden layer, whose output is added to the logits. It is trained
    on their values alone, without the base, and begins as no change at all; --seed also seeds the training.
    Where validation does not improve by more than its standard error, the base is kept. The aim is the
    overall accuracy: single classes may lose. Samples the model was not trained on give much better results.
    """
    from onnxtweak.report.text import summary

    carry_out(
        console,
        "augment",
        form,
        summary.result,
        summary.verdict,
        inspect_it,
        dry_run=dry_run,
        **asked,
    )
