"""`onnxtweak completion`: the script that teaches a shell to complete onnxtweak's words."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from onnxtweak.cli.completion import COMPLETE
from onnxtweak.cli.options.groups import command


@command("completion", "onnxtweak completion bash >> ~/.bashrc")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print a script for shell completion.

    It completes commands, options, tensors and class names:

    \b
    bash   onnxtweak completion bash >> ~/.bashrc
    zsh    onnxtweak completion zsh >> ~/.zshrc
    fish   onnxtweak completion fish > ~/.config/fish/completions/onnxtweak.fish

    Then --taps and --logits offer the tensors of the model on the command line, and --target the class names
    from --names or from a folder of images.
    """
    root, made = ctx.find_root(), get_completion_class(shell)
    assert made is not None and root.info_name is not None  # the choices are click's own shells
    click.echo(made(root.command, {}, root.info_name, COMPLETE).source())
