"""`onnxtweak retrain`: a join whose synapses are trained."""

from __future__ import annotations

import functools
from typing import Any

from onnxtweak import settings
from onnxtweak.cli.console import Console
from onnxtweak.cli.options.data import split_options
from onnxtweak.cli.options.groups import command, gathered, option
from onnxtweak.cli.options.method import (
    check_scale,
    class_drop_option,
    count_option,
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

_method = functools.partial(option, "Method")


def _listed(values: tuple[float, ...]) -> str:
    return ",".join(f"{value:g}" for value in values)


def _make_retrain(
    count: tuple[tuple[int, ...], ...],
    scale: tuple[tuple[float, ...], ...],
    ridge: tuple[tuple[float, ...], ...],
    penalty: float,
    schedule: str | None,
    exact_scale: bool,
    **join: Any,
) -> tuple[settings.JoinSettings, settings.RetrainSettings]:
    """How neurons are chosen, and how weights are trained."""
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
        type=Number(),
        default=settings.RetrainSettings.penalty,
        show_default=f"{settings.RetrainSettings.penalty:g}",
        help="How much more an error on a sample of a target counts: 1 is SR-1, more is SR-2.",
    ),
    _method(
        "--schedule",
        metavar="STAGES",
        help='Alternate joins and retrainings of the worst classes, such as "J10 R10 J5 R5 J5": of the '
        "targets, or without --target of all classes.",
    ),
    _method(
        "--ridge",
        multiple=True,
        type=Numbers(),
        help="L2 penalties to choose from, for neurons scaled to unit standard deviation "
        f"[default: {_listed(settings.RetrainSettings.ridge)}].",
    ),
    _method(
        "--scale",
        multiple=True,
        type=Numbers(),
        help="Strengths of the retrained synapses to choose from "
        f"[default: {_listed(settings.RetrainSettings.scale)}].",
    ),
    exact_scale_option,
    overall_drop_option,
    class_drop_option(),
    theta_option,
    join_criterion_option,
)


@command("retrain", "onnxtweak retrain model.onnx -d train.npz --test test.npz -t cat -o tweaked.onnx")
@model_argument
@split_options
@optional_target_options
@tap_options
@_retrain_options
@engine_options(*SCORING)
@output_options("The new model.", tweak=True)
@dry_run_option
@reporting_options
def retrain(
    how: tuple[settings.JoinSettings, settings.RetrainSettings],
    dry_run: bool,
    console: Console,
    form: str,
    **asked: Any,
) -> None:
    """Improve chosen classes with a join whose synapses are trained.

    The neurons are chosen as in `join`, and nothing but their synapses is trained: values and logits are
    collected once; on this table the weights are then trained to the optimum, which is unique. How many
    synapses, and how strong, is chosen on validation as in `join`. With --schedule the classes that do worst
    are determined anew before every stage, and no stage may lose what an earlier one gained.
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
