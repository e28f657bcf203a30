"""Commands about the machine: what works on it, and what its shell completes."""

from __future__ import annotations

import time

import click
from click.shell_completion import get_completion_class

from onnxtweak.cli.options.groups import registering
from onnxtweak.cli.options.shared import reporting_options
from onnxtweak.cli.output import close, show
from onnxtweak.errors import MachineError

ALL: list[click.Command] = []
COMPLETE = "_ONNXTWEAK_COMPLETE"  # variable in which a shell's script asks for words

_command = registering(ALL)


@_command("doctor", "onnxtweak doctor")
@reporting_options
def doctor(console, form):
    """Say what works on this machine, and what to do about the rest.

    Finds two ONNX Runtime packages that overwrite each other, a GPU that is there but not used, CUDA
    libraries that do not suit, kernels that do not compile. Models and kernels are really run, each in a
    process of its own. Ends with exit code 4 when there is a problem.
    """
    from onnxtweak import commands
    from onnxtweak.report.text import machine

    began = time.perf_counter()
    found = commands.doctor()
    show(console, "doctor", found, machine.diagnosis, form)
    if found.problems:
        names = ", ".join(finding.name for finding in found.problems)
        raise MachineError(f"not in order: {names}", hint=found.problems[0].hint)
    close(console, began, "everything that is needed works")


@_command("completion", "onnxtweak completion bash >> ~/.bashrc")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx, shell):
    """Print the script that makes a shell complete commands, options, tensors and class names.

    \b
    bash   onnxtweak completion bash >> ~/.bashrc
    zsh    onnxtweak completion zsh >> ~/.zshrc
    fish   onnxtweak completion fish > ~/.config/fish/completions/onnxtweak.fish

    Then --taps and --logits offer the tensors of the model on the line, --target the class names of --names,
    or of a folder of pictures.
    """
    root = ctx.find_root()
    click.echo(get_completion_class(shell)(root.command, {}, root.info_name, COMPLETE).source())
