"""Which options say what is done, on which machine, and where the result goes? Those that commands share.

A decorator adds the options of one question (what is watched? which classes?) and hands the command the
settings object that answers it, under the name that `gathered` is given.
"""

from __future__ import annotations

import functools
import warnings
from typing import Any, get_args

import click

from onnxtweak import settings
from onnxtweak.cli import completion
from onnxtweak.cli.blas_threads import bound_arithmetic
from onnxtweak.cli.console import NORMAL, QUIET, VERBOSE, Console
from onnxtweak.cli.options.groups import Callback, Decorator, gathered, option
from onnxtweak.cli.options.values import ClassAxis, Device, Number, Size, Whole, Words
from onnxtweak.errors import UsageError

TRACEBACK = "onnxtweak.traceback"  # key in click's `meta`, where `main` finds it after a failure
_AS_JSON = "onnxtweak.as_json"  # the same, for what only a JSON result holds


_model, _targets, _machine, _output, _reporting = (
    functools.partial(option, section) for section in ("Model", "Targets", "Machine", "Output", "Reporting")
)


def model_argument(command: Callback) -> Callback:
    """`model`: path of the ONNX file."""
    return click.argument("model", metavar="MODEL", shell_complete=completion.files)(command)


# ------------------------------------------------------------------------------- model and targets


_LOGITS = _model(
    "--logits",
    metavar="NAME",
    shell_complete=completion.tensors,
    help="The logits tensor [default: found in the graph].",
)

_THRESHOLD = _model(
    "--threshold",
    type=Number(),
    help="Above which a single number means class 1 [default: 0.5 for a probability].",
)

class_axis_option = _model(
    "--class-axis",
    type=ClassAxis(),
    help="Axis of the scores that counts the classes where positions have them; axis 0 counts samples. "
    "`none` where each position has a single score [default: as the graph tells].",
)

logits_option = gathered(
    "taps", lambda **values: settings.TapSettings(**values), _LOGITS, _THRESHOLD, class_axis_option
)

tap_options = gathered(
    "taps",
    settings.TapSettings,
    _model(
        "--taps",
        multiple=True,
        default=settings.TapSettings.taps,
        metavar="WHICH",
        shell_complete=completion.taps,
        help="Hidden tensors to watch: activations (every map after its activation; the default), stages "
        "(the last map at each resolution), blocks (outputs of residual, dense and inception blocks), "
        "penultimate, front, op:TYPE, or a tensor name with * and ?. Repeatable.",
    ),
    _model(
        "--pool",
        type=Words(get_args(settings.Pool)),
        default=settings.TapSettings.pool,
        show_default="none",
        help="Make a neuron of each channel, its mean, deviation (std) or maximum, or its mean over each "
        "quarter of an image (grid2), instead of each position; where there are scores at positions, none is "
        "a channel there, and mean the same over all of a sample.",
    ),
    _LOGITS,
    _THRESHOLD,
    class_axis_option,
)

_TARGETS = (
    _targets(
        "-t",
        "--target",
        "targets",
        multiple=True,
        metavar="CLASS",
        shell_complete=completion.classes,
        brief="A class that should do better, by number or name. Repeatable.",
        help="A class that should do better, by number or name. Repeatable.",
    ),
    _targets(
        "--worst",
        type=Whole(settings.TargetSettings, "worst"),
        metavar="K",
        brief="Instead: the K classes that do worst.",
        help="Instead: the K classes that do worst.",
    ),
)


def _make_targets(targets: tuple[str, ...], worst: int | None) -> settings.TargetSettings:
    if targets and worst is not None:
        raise UsageError("--target and --worst exclude each other", hint="give one of the two")
    return settings.TargetSettings(targets=targets, worst=worst)


def _make_required_targets(targets: tuple[str, ...], worst: int | None) -> settings.TargetSettings:
    if not targets and worst is None:
        raise UsageError("no target class", hint="name one with --target, or say how many with --worst")
    return _make_targets(targets, worst)


optional_target_options = gathered("targets", _make_targets, *_TARGETS)
target_options = gathered("targets", _make_required_targets, *_TARGETS)


# `metrics`: what is measured beside accuracies; `metric`: what "better" means to a command that learns.
metrics_option = _targets(
    "--metric",
    "metrics",
    multiple=True,
    metavar=settings.METRICS,
    brief="A metric to measure as well, such as balanced or f1. Repeatable.",
    help="A metric to measure as well, with its interval: balanced or worst-class accuracy, F1 (of class 1 "
    "of two, else the mean over classes), mean IoU, mean average precision (map) of several labels, mean "
    "cost by a table in a CSV file, or recall of class 1 at a limit on false alarms. Repeatable.",
)


def metric_option(what: str) -> Decorator:
    """`metric`: the metric that is the goal. what : help."""
    return _targets("--metric", metavar=settings.METRICS, help=what, multiple=True, callback=_only_one)


def _only_one(context: click.Context, parameter: click.Parameter, given: tuple[str, ...]) -> str | None:
    """A goal is one metric; `evaluate` reads several."""
    if len(given) > 1:
        hint = f"keep one of {', '.join(given)}; evaluate reads the others"
        raise UsageError("more than one metric to improve", where="--metric", hint=hint)
    return given[0] if given else None


# ---------------------------------------------------------------------------------------- engine


_ENGINE = {
    "device": _machine(
        "--device",
        type=Device(),
        default=settings.EngineSettings.device,
        show_default=True,
        metavar="auto|cpu|cuda[:i[,j]]",
        help="Where the model runs.",
    ),
    "backend": _machine(
        "--backend",
        type=click.Choice(get_args(settings.BackendName)),
        default=settings.EngineSettings.backend,
        show_default=True,
        help="What does the arithmetic of scoring.",
    ),
    "memory": _machine(
        "--memory",
        type=Size(),
        default="4GiB",
        show_default=True,
        help="Memory for tables and batches, such as 500MB.",
    ),
    "batch": _machine(
        "--batch",
        type=Whole(settings.EngineSettings, "batch"),
        metavar="N",
        help="Samples per run [default: chosen from model and memory].",
    ),
    "custom_ops": _machine(
        "--custom-ops",
        multiple=True,
        metavar="LIB",
        help="Shared library with custom operators for ONNX Runtime. Repeatable.",
    ),
    "threads": _machine(
        "--threads",
        type=Whole(settings.EngineSettings, "threads"),
        metavar="N",
        help="Threads to use [default: all cores].",
    ),
    "work_dir": _machine(
        "--work-dir",
        metavar="DIR",
        help="Save what is made there as it grows, so that a run that was killed can be resumed.",
    ),
    "resume": _machine("--resume", is_flag=True, help="Continue from what is saved in --work-dir."),
    "workers": _machine(
        "--workers",
        type=Whole(settings.EngineSettings, "workers"),
        metavar="N",
        help="Share passes among N processes, at most one per core (needs the extra `dask`).",
    ),
    "scheduler": _machine(
        "--scheduler", metavar="tcp://...", help="Share passes among the workers of a Dask scheduler."
    ),
}
MEASURING = ("device", "memory", "batch", "threads", "workers", "scheduler")
TABLES = (*MEASURING[:4], "work_dir", "resume", *MEASURING[4:])
SCORING = ("device", "backend", *TABLES[1:])


def engine_options(*which: str) -> Decorator:
    """`engine`: EngineSettings; `which` names the fields that matter to the command, beside `custom_ops`."""
    return gathered("engine", _make_engine, *(_ENGINE[field] for field in (*which, "custom_ops")))


def _make_engine(**values: Any) -> settings.EngineSettings:
    made = settings.EngineSettings(**values)
    if made.threads:
        bound_arithmetic(made.cores)
    if made.resume and made.work_dir is None:
        raise click.UsageError("--resume needs --work-dir")
    if made.workers and made.scheduler:
        raise click.UsageError("--workers and --scheduler exclude each other")
    return made


# ---------------------------------------------------------------------------------------- output


# `dry_run`: only say what would be done?
dry_run_option = _machine(
    "--dry-run",
    is_flag=True,
    brief="Only say what would be done, and for how long.",
    help="Only say what would be done: passes, memory, and an estimate of the time from a few batches.",
)

# `force`: may existing files be replaced?
force_option = _output("--force", is_flag=True, help="Replace existing files.")


# `report`: a page of the result?
report_option = _output(
    "--report",
    metavar="FILE",
    brief="Also draw the result as a page (*.html).",
    help="Also draw the result as a page (*.html).",
)


def output_options(what: str, *, tweak: bool = False, usual: str | None = None) -> Decorator:
    """`output`: OutputSettings of a command that writes one file, and with `tweak` what belongs to it.

    usual : default name of the file; None: the option is required.
    """
    also = (
        _output(
            "--tweak",
            metavar="FILE",
            brief="Also save the tweak alone (*.safetensors).",
            help="Also save the tweak alone (*.safetensors).",
        ),
        report_option,
    )
    return gathered(
        "output",
        _make_output,
        _output(
            *("-o", "--output"), required=usual is None, default=usual, metavar="FILE", brief=what, help=what
        ),
        *(also if tweak else ()),
        force_option,
    )


def _make_output(**values: Any) -> settings.OutputSettings:
    # `onnxtweak report` draws from the JSON form, which must therefore hold everything that is drawn.
    return settings.OutputSettings(**values, evidence=click.get_current_context().meta.get(_AS_JSON, False))


def _keep_form(ctx: click.Context, param: click.Parameter, value: str) -> str:
    ctx.meta[_AS_JSON] = value == "json"
    return value


def _keep_traceback(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    ctx.meta[TRACEBACK] = value  # shared with every context above


def _make_console(quiet: bool, verbose: bool) -> Console:
    made = Console(QUIET if quiet else VERBOSE if verbose else NORMAL)
    warnings.showwarning = made.warn  # until the command ends: `cli.main` puts Python's own back
    return made


def reporting_options(command: Callback) -> Callback:
    """`console`: Console; `form`: "text", "json" or "markdown"."""
    decorated = gathered(
        "console",
        _make_console,
        _reporting("-v", "--verbose", is_flag=True, help="Report more on stderr."),
        _reporting("-q", "--quiet", is_flag=True, help="Report only errors on stderr."),
    )(command)
    decorated = _reporting(
        "--traceback",
        is_flag=True,
        is_eager=True,
        expose_value=False,
        callback=_keep_traceback,
        help="Show the traceback of an error.",
    )(decorated)
    return _reporting(
        "-f",
        "--format",
        "form",
        type=click.Choice(["text", "json", "markdown"]),
        default="text",
        show_default=True,
        callback=_keep_form,
        brief="text, json or markdown.",
        help="Format of the result on stdout.",
    )(decorated)
