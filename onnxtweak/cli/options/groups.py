"""How is a help text divided into sections, and how do several options become one settings object?"""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable
from typing import Any

import click
from click.shell_completion import CompletionItem

from onnxtweak.cli.completion import files

Callback = Callable[..., Any]
Decorator = Callable[[Callback], Callback]


_SCREEN = 40  # lines


class SectionOption(click.Option):
    """An option that knows its heading in the help text.

    brief : help of an option that most people need, in a line or two; empty of all others.
    """

    def __init__(self, *names: Any, section: str, brief: str = "", **keywords: Any) -> None:
        super().__init__(*names, **keywords)
        self.section = section
        self.brief = brief

    def brief_record(self) -> tuple[str, str]:
        """Names and brief help."""
        names = ", ".join([*self.opts, *self.secondary_opts])
        kind = self.opts[-1].lstrip("-") if isinstance(self.type, click.Choice) else self.type.name
        value = re.split(r"[\[|]", self.metavar or kind.upper())[0]
        return (names if self.is_flag else f"{names} {value}"), self.brief

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        # An option whose metavar is a file is completed with files.
        named = str(self.metavar or "").partition("[")[0]
        if self._custom_shell_complete is None and named in ("FILE", "PATH", "DIR"):
            return files(ctx, self, incomplete)
        return super().shell_complete(ctx, incomplete)


def _show_all(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    if value and isinstance(ctx.command, SectionCommand):
        click.echo(ctx.command.whole_help(ctx))
        ctx.exit()


_HELP_ALL = click.Option(
    ["--help-all"],
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_show_all,
    help="Show every option, and exit.",
)


class SectionCommand(click.Command):
    """A command whose help text groups its options under headings, in the order they were declared.

    A text that does not fit a screen is cut by --help to its first two paragraphs and the options that most
    people need; --help-all shows it whole.
    """

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        return [*super().get_params(ctx), _HELP_ALL]

    def whole_help(self, ctx: click.Context) -> str:
        """Every paragraph and every option."""
        return super().get_help(ctx)

    def get_help(self, ctx: click.Context) -> str:
        whole = self.whole_help(ctx)
        if whole.count("\n") < _SCREEN:
            return whole
        formatter = ctx.make_formatter()
        self.format_usage(ctx, formatter)
        formatter.write_paragraph()
        with formatter.indentation():
            formatter.write_text("\n\n".join(inspect.cleandoc(self.help or "").split("\n\n")[:2]))
        listed = [param for param in self.params if isinstance(param, SectionOption)]
        common = [param for param in listed if param.brief]
        with formatter.section("Common options"):
            formatter.write_dl([param.brief_record() for param in common])
        kinds = dict.fromkeys(param.section.lower() for param in listed if not param.brief)
        formatter.write_paragraph()
        formatter.write_text(
            f"{len(listed) - len(common)} more, about {', '.join(kinds)}: {ctx.command_path} --help-all"
        )
        self.format_epilog(ctx, formatter)
        return formatter.getvalue().rstrip("\n")

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
