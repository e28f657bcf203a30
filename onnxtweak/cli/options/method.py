"""Which options say how a method works? Those that several methods share."""

from __future__ import annotations

import functools
from typing import Any, get_args

import click

from onnxtweak import settings
from onnxtweak.cli.options.groups import Decorator, gathered, option
from onnxtweak.cli.options.values import Limit, Number, Numbers, Whole
from onnxtweak.errors import UsageError

_method = functools.partial(option, "Method")


def flat(groups: tuple[tuple[Any, ...], ...]) -> tuple[Any, ...]:
    """The values of a repeatable option that takes several at a time."""
    return tuple(item for group in groups for item in group)


theta_option = _method(
    "--theta",
    type=click.Choice(get_args(settings.Theta)),
    default=settings.JoinSettings.theta,
    show_default=True,
    help="How theta is taken: the weight up to which a neuron may be connected to a target before a right "
    "sample breaks. Exactly, for values of either sign, or as printed in the thesis.",
)


def _criterion_option(choices: Any) -> Decorator:
    return _method(
        "--criterion",
        default=settings.JoinSettings.criterion,
        show_default=True,
        type=click.Choice(get_args(choices)),
        help="What ranks the neurons; auto is count, or lift for a class without samples that can be fixed.",
    )


criterion_option = _criterion_option(settings.Criterion)
join_criterion_option = _criterion_option(settings.JoinCriterion)


def grids(**options: tuple[tuple[Any, ...], ...]) -> dict[str, Any]:
    """The grids among some repeatable options, without those that were not given."""
    return {key: flat(groups) for key, groups in options.items() if groups}


def check_scale(scale: object, exact: bool) -> None:
    """Raise UsageError where the scale is both given and to be searched."""
    if scale and exact:
        raise UsageError("--scale and --exact-scale exclude each other", hint="give one of the two")


def _make_join(count: Any, scale: Any, **values: Any) -> settings.JoinSettings:
    check_scale(scale, values["exact_scale"])
    return settings.JoinSettings(**grids(count=count, scale=scale), **values)


exact_scale_option = _method(
    "--exact-scale", is_flag=True, help="Search the best scale exactly instead of on a grid."
)


def class_drop_option(default: float | None = None) -> Decorator:
    """`--max-class-drop`."""
    shown = "none" if default is None else f"{default:g}"
    return _method(
        "--max-class-drop",
        type=Limit(),
        metavar="NUMBER|none",
        default=default,
        show_default=shown,
        brief=f"Points that any class may lose; none: no limit [default: {shown}].",
        help="Percentage points that any class may lose on held-out samples; none: no limit.",
    )


overall_drop_option = _method(
    "--max-overall-drop",
    type=Number(),
    default=settings.JoinSettings.max_overall_drop,
    show_default=f"{settings.JoinSettings.max_overall_drop:g}",
    brief="Points of overall accuracy that may be lost "
    f"[default: {settings.JoinSettings.max_overall_drop:g}].",
    help="Percentage points of overall accuracy that may be lost on validation.",
)

count_option = _method(
    "-n",
    "--count",
    multiple=True,
    type=Numbers(whole=True),
    brief="Synapses per target; several to choose from.",
    help="Synapses per target; several to choose from, separated by commas "
    f"[default: {','.join(map(str, settings.JoinSettings.count))}].",
)

_JOIN = (
    count_option,
    _method(
        "--scale",
        multiple=True,
        type=Numbers(),
        help="Strength of the synapses; several to choose from "
        f"[default: {','.join(f'{scale:g}' for scale in settings.JoinSettings.scale)}].",
    ),
    exact_scale_option,
    overall_drop_option,
    class_drop_option(),
    theta_option,
    join_criterion_option,
)


def join_options(keyword: str = "settings") -> Decorator:
    """JoinSettings, under a keyword."""
    return gathered(keyword, _make_join, *_JOIN)


score_options = gathered(
    "settings",
    lambda count, **values: settings.JoinSettings(count=(count,), **values),
    _method(
        "-n",
        "--count",
        type=Whole(settings.JoinSettings, "count"),
        metavar="N",
        default=max(settings.JoinSettings.count),
        show_default=True,
        help="Neurons per target to list as the best.",
    ),
    theta_option,
    criterion_option,
)
