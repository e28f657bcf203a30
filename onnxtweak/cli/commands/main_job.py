"""What does each command take, and what does it do with the result?

A callback imports the pipeline only when it runs, so that `--help` needs neither NumPy nor a runtime.
"""

from __future__ import annotations

import time

import click

from onnxtweak.cli.options.data import samples_options, split_options
from onnxtweak.cli.options.groups import option, registering
from onnxtweak.cli.options.method import join_options, score_options
from onnxtweak.cli.options.shared import (
    SCORING,
    dry_run_option,
    engine_options,
    force_option,
    logits_option,
    model_argument,
    optional_target_options,
    output_options,
    reporting_options,
    tap_options,
    target_options,
)
from onnxtweak.cli.options.values import Number
from onnxtweak.cli.output import carry_out, close, inspect_it, show
from onnxtweak.errors import UsageError

ALL: list[click.Command] = []

_command = registering(ALL)


@_command("demo", "onnxtweak demo -o /tmp/demo")
@option(
    "Output",
    "-o",
    "--output",
    "directory",
    default="onnxtweak-demo",
    show_default=True,
    metavar="DIR",
    help="Folder for the new model and its tweak.",
)
@force_option
@engine_options("device", "backend", "threads")
@reporting_options
def demo(directory, force, engine, console, form):
    """Run the main job on the model and data that come with onnxtweak.

    A small network that reads handwritten digits is weak on some of them, for it saw few of those in
    training. The demo patches it with a synaptic join and shows what that did.
    """
    from onnxtweak import commands
    from onnxtweak.report.text import summary

    began = time.perf_counter()
    made = commands.demo(directory=directory, force=force, engine=engine, progress=console)
    show(console, "demo", made, summary.result, form)
    close(console, began, summary.verdict(made), inspect_it(made))


@_command("inspect", "onnxtweak inspect model.onnx --taps stages")
@model_argument
@tap_options
@engine_options()
@reporting_options
def inspect(model, taps, engine, console, form):
    """Say what is in a model and what could be done with it.

    Shows inputs, outputs, the logits tensor and how it was found, classes, the hidden tensors that can be
    watched and how many neurons they have, and any tweak that is already inside.
    """
    from onnxtweak import commands
    from onnxtweak.report.text import summary

    show(
        console, "inspect", commands.inspect(model=model, taps=taps, engine=engine), summary.inspection, form
    )


@_command("evaluate", "onnxtweak evaluate model.onnx -d test.npz --pixel-scale 1/255")
@model_argument
@samples_options()
@optional_target_options
@logits_option
@engine_options("device", "memory", "batch", "threads")
@reporting_options
def evaluate(model, data, targets, taps, engine, console, form):
    """Measure a model: overall and per-class accuracy, and what is taken for what."""
    from onnxtweak import commands
    from onnxtweak.report.text import summary

    began = time.perf_counter()
    measured = commands.evaluate(
        model=model, data=data, engine=engine, taps=taps, targets=targets, progress=console
    )
    show(console, "evaluate", measured, summary.evaluation, form)
    close(console, began, f"{measured.metrics.samples:,} samples evaluated")


@_command("join", "onnxtweak join model.onnx -d train.npz --test test.npz -t cat -o tweaked.onnx")
@model_argument
@split_options
@target_options
@tap_options
@join_options()
@engine_options(*SCORING)
@output_options("The new model.", tweak=True)
@dry_run_option
@reporting_options
def join(dry_run, console, form, **asked):
    """Make chosen classes better with a synaptic join, and write the new model.

    Every hidden neuron is scored by how many samples of a target class it could put right without breaking
    another; the best ones are joined to the target's logit. How many, and how strong, is chosen on validation
    samples so that the overall accuracy stays within --max-overall-drop. Reported beside it, on the same
    samples: the best that adding a constant to the target's logit can do.
    """
    from onnxtweak.report.text import summary

    carry_out(
        console,
        "join",
        form,
        summary.result,
        summary.verdict,
        inspect_it,
        dry_run=dry_run,
        **asked,
    )


@_command("apply", "onnxtweak apply model.onnx cat.safetensors -o tweaked.onnx --scale 0.5")
@model_argument
@click.argument("tweaks", metavar="TWEAK...", nargs=-1, required=True)
@option(
    "Method",
    "--scale",
    type=Number(),
    default=1.0,
    show_default="1",
    help="Multiply the tweak by this; at 0 the model decides as its base.",
)
@option(
    "Method",
    "--slot",
    is_flag=True,
    help="Write an empty slot instead, and beside it an adapter for each tweak (NAME.onnx_adapter), which "
    "ONNX Runtime takes with a call. For a MODEL with a slot: write the adapter alone.",
)
@option(
    "Method",
    "--shadow",
    is_flag=True,
    help="Leave the model as it is, and show the tweaked logits as one more output.",
)
@engine_options("device", "threads")
@output_options("The new model.")
@reporting_options
def apply(model, tweaks, scale, slot, shadow, engine, output, console, form):
    """Write a saved tweak into the model it was made for.

    TWEAK is a file that `onnxtweak join --tweak` saved. Another model than its own is refused. Several are
    taken with --slot only.
    """
    from onnxtweak import commands
    from onnxtweak.report.text import summary

    began = time.perf_counter()
    if slot and shadow:
        raise UsageError("--slot and --shadow exclude each other", hint="give one of the two")
    if len(tweaks) > 1 and not slot:
        raise UsageError("several tweaks are taken with --slot only", hint="give one of them, or --slot")
    settings = {"model": model, "output": output, "scale": scale, "engine": engine, "progress": console}
    if slot:
        made = commands.slot(tweaks=tweaks, **settings)
    else:
        made = commands.apply(tweak=tweaks[0], shadow=shadow, **settings)
    show(console, "apply", made, summary.applied, form)
    alone = made.output in made.adapters
    close(console, began, "adapter written" if alone else "tweak written", "" if alone else inspect_it(made))


@_command("dump", "onnxtweak dump model.onnx -d train.npz --taps penultimate -o tables")
@model_argument
@samples_options()
@tap_options
@engine_options("device", "memory", "batch", "threads")
@option("Output", "-o", "--output", "directory", required=True, metavar="DIR", help="Folder for the shards.")
@option("Output", "--neurons", metavar="FILE", help="Only these neurons: a file that `score` wrote.")
@force_option
@reporting_options
def dump(model, data, taps, engine, directory, neurons, force, console, form):
    """Write the tables of hidden values and logits to disk.

    The shards are memory-mappable .npy files with a manifest beside them.
    """
    from onnxtweak import commands
    from onnxtweak.report.text import summary

    began = time.perf_counter()
    made = commands.dump(
        model=model,
        data=data,
        engine=engine,
        taps=taps,
        directory=directory,
        force=force,
        neurons=neurons,
        progress=console,
    )
    show(console, "dump", made, summary.dumped, form)
    close(console, began, f"{made.samples:,} samples written")


@_command("score", "onnxtweak score model.onnx -d train.npz -t cat -o scores.npz")
@model_argument
@samples_options(dumps=True)
@target_options
@tap_options
@score_options
@engine_options(*SCORING)
@output_options("The scores, one row a target and one column a neuron (*.npz).")
@dry_run_option
@reporting_options
def score(dry_run, console, form, **asked):
    """Score every hidden neuron for the target classes, in one pass over the samples."""
    from onnxtweak.report.text import summary

    carry_out(
        console,
        "score",
        form,
        summary.scored,
        _neurons_scored,
        dry_run=dry_run,
        **asked,
    )


def _neurons_scored(made) -> str:
    return f"{made.neurons:,} neurons scored"
