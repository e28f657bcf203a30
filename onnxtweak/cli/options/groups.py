"""How is a help text divided into sections, and how do several options become one settings object?"""

from __future__ import annotations

import functools
from collections.abc import Callable

import click

from onnxtweak.cli.completion import files


class SectionOption(click.Option):
    """An option that knows the heading it stands under in the help text."""

    def __init__(self, *names, section: str, **settings):
        super().__init__(*names, **settings)
        self.section = section

    def shell_complete(self, ctx, incomplete):
        # An option that says it takes a file is completed with files.
        named = str(self.metavar or "").partition("[")[0]
        if self._custom_shell_complete is None and named in ("FILE", "PATH", "DIR"):
            return files(ctx, self, incomplete)
        return super().shell_complete(ctx, incomplete)


class SectionCommand(click.Command):
    """A command whose help text groups its options under headings, in the order they were declared."""

    def format_options(self, ctx, formatter):
        sections: dict[str, list[tuple[str, str]]] = {}
        for param in self.get_params(ctx):
            row = param.get_help_record(ctx) if isinstance(param, click.Option) else None
            if row is not None:
                sections.setdefault(getattr(param, "section", "Reporting"), []).append(row)
        for heading, rows in sections.items():
            with formatter.section(heading):
                formatter.write_dl(rows)


def option(section: str, *names: str, **keywords) -> Callable:
    """`click.option` under a heading."""
    return click.option(*names, cls=SectionOption, section=section, **keywords)


def gathered(name: str, make: Callable, *options: Callable) -> Callable:
    """A decorator: add `options`, and replace their values by `name=make(**values)`."""
    taken = [add(lambda: None).__click_params__[0].name for add in options]

    def decorate(command):
        @functools.wraps(command)
        def gather(**values):
            mine = {key: values.pop(key) for key in taken}
            return command(**{name: make(**mine)}, **values)

        for add in reversed(options):
            gather = add(gather)
        return gather

    return decorate


def command(name: str, example: str) -> Callable[[Callable[..., None]], click.Command]:
    """`click.command` whose help text has headings, and ends with the example."""
    return click.command(name, cls=SectionCommand, epilog=f"\b\nExample:\n  {example}")
