"""Which options do the commands share, and which settings do they make?

A decorator adds the options of one question (where do samples come from? what is watched?) and hands the
command the settings object that answers it, under the name in its docstring.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import click

from onnxtweak import settings
from onnxtweak.cli.console import NORMAL, QUIET, VERBOSE, Console
from onnxtweak.cli.values import Device, HeightWidth, Number, Numbers, Size
from onnxtweak.errors import UsageError

TRACEBACK = "onnxtweak.traceback"  # key in click's `meta`, where `main` finds it after a failure


class SectionOption(click.Option):
    """An option that knows the heading it stands under in the help text."""

    def __init__(self, *names, section: str, **settings):
        super().__init__(*names, **settings)
        self.section = section


class SectionCommand(click.Command):
    """A command whose help text groups its options under headings, in the order they were declared."""

    def format_options(self, ctx, formatter):
        sections: dict[str, list[tuple[str, str]]] = {}
        for param in self.get_params(ctx):
            row = param.get_help_record(ctx)
            if row is not None:
                sections.setdefault(getattr(param, "section", "Other options"), []).append(row)
        for heading, rows in sections.items():
            with formatter.section(heading):
                formatter.write_dl(rows)


def _option(section: str, *names: str, **keywords):
    return click.option(*names, cls=SectionOption, section=section, **keywords)


def _gathered(name: str, make: Callable, *options: Callable) -> Callable:
    """A decorator: add `options`, and replace their values by `name=make(**values)`."""
    taken = [option(lambda: None).__click_params__[0].name for option in options]

    def decorate(command):
        @functools.wraps(command)
        def gather(**values):
            mine = {key: values.pop(key) for key in taken}
            return command(**{name: make(**mine)}, **values)

        for option in reversed(options):
            gather = option(gather)
        return gather

    return decorate


def _flat(groups: tuple[tuple, ...]) -> tuple:
    return tuple(item for group in groups for item in group)


def model_argument(command):
    """`model`: path of the ONNX file."""
    return click.argument("model", metavar="MODEL")(command)


# ------------------------------------------------------------------------------------------- data


_data = functools.partial(_option, "Data")
_preprocess = functools.partial(_option, "Preprocessing")


def _make_data(data, val, test, names, seed, mean, std, **preprocess) -> settings.DataSettings:
    return settings.DataSettings(
        data=data,
        val=val,
        test=test,
        names=names,
        seed=settings.DataSettings.seed if seed is None else seed,
        preprocess=settings.Preprocess(mean=mean, std=std, **preprocess),
    )


_SOURCE = _data(
    "-d",
    "--data",
    multiple=True,
    required=True,
    metavar="PATH[#KEY[start:stop]]",
    help="Labelled samples: an .npz file (inputs under their tensor names or `x`, labels `y` or `labels`), "
    "a folder of images root/class/*, or a pair of .npy files, X.npy,Y.npy. #KEY picks an array, [start:stop] "
    "some of its rows. Repeatable.",
)
_NAMES = _data("--names", metavar="FILE", help="Class names, one a line, in the order of the class numbers.")
_PREPROCESSING = (
    _preprocess("--resize", type=HeightWidth(), help="Resize images first."),
    _preprocess("--crop", type=HeightWidth(), help="Then keep this much of the centre."),
    _preprocess("--layout", type=click.Choice(["NCHW", "NHWC"]), help="Axis order that the model wants."),
    _preprocess(
        "--color", type=click.Choice(["RGB", "BGR", "GRAY"]), help="Colour order that the model wants."
    ),
    _preprocess("--pixel-scale", type=Number(above=0), help="Multiply raw values by this, such as 1/255."),
    _preprocess("--mean", type=Numbers(), help="Then subtract this: one number a channel, commas between."),
    _preprocess("--std", type=Numbers(above=0), help="Then divide by this: one number a channel."),
    _preprocess(
        "--dtype", metavar="NAME", help="Type to feed, as NumPy spells it [default: the model's own]."
    ),
)

# For commands that use all samples and split nothing.
samples_options = _gathered(
    "data",
    lambda **values: _make_data(val=(), test=(), seed=None, **values),
    _SOURCE,
    _NAMES,
    *_PREPROCESSING,
)

# For commands that choose and report.
split_options = _gathered(
    "data",
    _make_data,
    _SOURCE,
    _data(
        "--val",
        multiple=True,
        metavar="PATH[#...]",
        help="Samples to choose settings on [default: a stratified part of the data]. Repeatable.",
    ),
    _data(
        "--test",
        multiple=True,
        metavar="PATH[#...]",
        help="Samples to report on, used for nothing else "
        "[default: a stratified part of the data]. Repeatable.",
    ),
    _NAMES,
    _data(
        "--seed",
        type=click.IntRange(min=0),
        default=settings.DataSettings.seed,
        show_default=True,
        help="Seed of the split.",
    ),
    *_PREPROCESSING,
)


# ------------------------------------------------------------------------------- model and targets


_LOGITS = _option(
    "Model", "--logits", metavar="NAME", help="The logits tensor [default: found in the graph]."
)

logits_option = _gathered("taps", lambda logits: settings.TapSettings(logits=logits), _LOGITS)

tap_options = _gathered(
    "taps",
    settings.TapSettings,
    _option(
        "Model",
        "--taps",
        multiple=True,
        default=settings.TapSettings.taps,
        metavar="WHICH",
        help="Hidden tensors to watch: activations (every map after its activation; the default), stages "
        "(the last map at each resolution), blocks (outputs of residual, dense and inception blocks), "
        "penultimate, op:TYPE, or a tensor name with * and ?. Repeatable.",
    ),
    _option(
        "Model",
        "--pool",
        type=click.Choice(["none", "mean", "max"]),
        default=settings.TapSettings.pool,
        show_default=True,
        help="Make a neuron of each channel, its mean or maximum, instead of each position.",
    ),
    _LOGITS,
)

_TARGETS = (
    _option(
        "Targets",
        "-t",
        "--target",
        "targets",
        multiple=True,
        metavar="CLASS",
        help="A class that should do better, by number or name. Repeatable.",
    ),
    _option(
        "Targets",
        "--worst",
        type=click.IntRange(min=1),
        metavar="K",
        help="Instead: the K classes that do worst on validation.",
    ),
)


def _make_targets(targets, worst) -> settings.TargetSettings:
    if targets and worst is not None:
        raise UsageError("--target and --worst exclude each other", hint="give one of the two")
    return settings.TargetSettings(targets=targets, worst=worst)


def _make_required_targets(targets, worst) -> settings.TargetSettings:
    if not targets and worst is None:
        raise UsageError("no target class", hint="name one with --target, or say how many with --worst")
    return _make_targets(targets, worst)


optional_target_options = _gathered("targets", _make_targets, *_TARGETS)
target_options = _gathered("targets", _make_required_targets, *_TARGETS)


# ---------------------------------------------------------------------------------------- method


_THETA = _option(
    "Method",
    "--theta",
    type=click.Choice(["signed", "thesis"]),
    default=settings.JoinSettings.theta,
    show_default=True,
    help="How a neuron is scored: exact for either sign, or as printed in the "
    "thesis, for values that are never negative.",
)
_CRITERION = _option(
    "Method",
    "--criterion",
    default=settings.JoinSettings.criterion,
    show_default=True,
    type=click.Choice(["auto", "count", "threshold", "lift", "net-gain"]),
    help="What ranks the neurons; auto is count, and lift for a class without a sample that could be fixed.",
)


def _make_join(count, scale, **values) -> settings.JoinSettings:
    if values["exact_scale"] and scale:
        raise UsageError("--scale and --exact-scale exclude each other", hint="give one of the two")
    grids = {"count": _flat(count), "scale": _flat(scale)}
    return settings.JoinSettings(**{key: grid for key, grid in grids.items() if grid}, **values)


join_options = _gathered(
    "join",
    _make_join,
    _option(
        "Method",
        "-n",
        "--count",
        multiple=True,
        type=Numbers(whole=True, least=1),
        help="Synapses a target; several to choose from, commas between "
        f"[default: {','.join(map(str, settings.JoinSettings.count))}].",
    ),
    _option(
        "Method",
        "--scale",
        multiple=True,
        type=Numbers(least=0),
        help="Strength of the synapses; several to choose from "
        f"[default: {','.join(f'{scale:g}' for scale in settings.JoinSettings.scale)}].",
    ),
    _option(
        "Method", "--exact-scale", is_flag=True, help="Search the best scale exactly instead of on a grid."
    ),
    _option(
        "Method",
        "--max-overall-drop",
        type=Number(least=0),
        default=settings.JoinSettings.max_overall_drop,
        show_default=True,
        help="Percentage points of overall accuracy that may be lost on validation.",
    ),
    _option(
        "Method",
        "--max-class-drop",
        type=Number(least=0),
        help="Percentage points that any class may lose on validation [default: no limit].",
    ),
    _THETA,
    _CRITERION,
)

score_options = _gathered("join", settings.JoinSettings, _THETA, _CRITERION)


# ---------------------------------------------------------------------------------------- engine


_ENGINE = {
    "device": _option(
        "Machine",
        "--device",
        type=Device(),
        default=settings.EngineSettings.device,
        show_default=True,
        metavar="auto|cpu|cuda[:i[,j]]",
        help="Where the model runs.",
    ),
    "backend": _option(
        "Machine",
        "--backend",
        type=click.Choice(["auto", "numpy", "numba", "cupy"]),
        default=settings.EngineSettings.backend,
        show_default=True,
        help="What does the arithmetic of scoring.",
    ),
    "memory": _option(
        "Machine",
        "--memory",
        type=Size(),
        default="4GiB",
        show_default=True,
        help="Memory for tables and batches, such as 500MB.",
    ),
    "batch": _option(
        "Machine",
        "--batch",
        type=click.IntRange(min=1),
        help="Samples a run [default: chosen from the model and the memory].",
    ),
    "threads": _option(
        "Machine", "--threads", type=click.IntRange(min=1), help="Threads of a run [default: all cores]."
    ),
}


def engine_options(*which: str) -> Callable:
    """`engine`: EngineSettings; `which` names the fields that mean something to the command."""
    return _gathered("engine", settings.EngineSettings, *(_ENGINE[field] for field in which))


# ---------------------------------------------------------------------------------------- output


_FORCE = _option("Output", "--force", is_flag=True, help="Replace files that exist.")


def force_option(command):
    """`force`: may existing files be replaced?"""
    return _FORCE(command)


def output_options(what: str, *, tweak: bool = False) -> Callable:
    """`output`: OutputSettings of a command that writes one file, and with `tweak` the tweak file too."""
    also = (_option("Output", "--tweak", metavar="FILE", help="Also save the tweak alone (*.safetensors)."),)
    return _gathered(
        "output",
        settings.OutputSettings,
        _option("Output", "-o", "--output", required=True, metavar="FILE", help=what),
        *(also if tweak else ()),
        _FORCE,
    )


def _keep_traceback(ctx, param, value):
    ctx.find_root().meta[TRACEBACK] = value


def reporting_options(command):
    """`console`: Console; `form`: "text", "json" or "markdown"."""
    decorated = _gathered(
        "console",
        lambda quiet, verbose: Console(QUIET if quiet else VERBOSE if verbose else NORMAL),
        _option("Reporting", "-v", "--verbose", is_flag=True, help="Say more on stderr."),
        _option("Reporting", "-q", "--quiet", is_flag=True, help="Say nothing on stderr but errors."),
    )(command)
    decorated = _option(
        "Reporting",
        "--traceback",
        is_flag=True,
        is_eager=True,
        expose_value=False,
        callback=_keep_traceback,
        help="Show the traceback of an error.",
    )(decorated)
    return _option(
        "Reporting",
        "-f",
        "--format",
        "form",
        type=click.Choice(["text", "json", "markdown"]),
        default="text",
        show_default=True,
        help="Form of the result on stdout.",
    )(decorated)
