"""How is a help text divided into sections, and how do several options become one settings object?"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import click
from click.shell_completion import CompletionItem

from onnxtweak.cli.completion import files

Callback = Callable[..., Any]
Decorator = Callable[[Callback], Callback]


class SectionOption(click.Option):
    """An option that knows its heading in the help text."""

    def __init__(self, *names: Any, section: str, **keywords: Any) -> None:
        super().__init__(*names, **keywords)
        self.section = section

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        # An option whose metavar is a file is completed with files.
        named = str(self.metavar or "").partition("[")[0]
        if self._custom_shell_complete is None and named in ("FILE", "PATH", "DIR"):
            return files(ctx, self, incomplete)
        return super().shell_complete(ctx, incomplete)


class SectionCommand(click.Command):
    """A command whose help text groups its options under headings, in the order they were declared."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        sections: dict[str, list[tuple[str, str]]] = {}
        for param in self.get_params(ctx):
            row = param.get_help_record(ctx) if isinstance(param, click.Option) else None
            if row is not None:
                sections.setdefault(getattr(param, "section", "Reporting"), []).append(row)
        for heading, rows in sections.items():
            with formatter.section(heading):
                formatter.write_dl(rows)


def option(section: str, *names: str, **keywords: Any) -> Decorator:
    """`click.option` under a heading."""
    return click.option(*names, cls=SectionOption, section=section, **keywords)


def gathered(name: str, make: Callback, *options: Decorator) -> Decorator:
    """A decorator that adds `options`, and replaces their values by `name=make(**values)`."""
    words = [_name_of(add) for add in options]

    def decorate(command: Callback) -> Callback:
        @functools.wraps(command)
        def gather(**values: Any) -> Any:
            mine = {key: values.pop(key) for key in words}
            return command(**{name: make(**mine)}, **values)

        optioned: Callback = gather
        for add in reversed(options):
            optioned = add(optioned)
        return optioned

    return decorate


def _name_of(add: Decorator) -> str:
    """The parameter that an option's value is passed as."""
    held: Any = add(lambda: None)
    return str(held.__click_params__[0].name)


def command(name: str, example: str) -> Callable[[Callable[..., None]], click.Command]:
    """`click.command` whose help text has headings, and ends with the example."""
    return click.command(name, cls=SectionCommand, epilog=f"\b\nExample:\n  {example}")
