"""How does the program start, and with which exit code does it end?

0    done
1    a gate failed; no output was written
2    usage, model or data error
3    verification failed
4    environment: no runtime, no GPU where one was required
70   a bug
129  the terminal hung up (SIGHUP)
130  interrupted (Ctrl-C, SIGINT)
141  the reader of stdout went away
143  terminated (SIGTERM)
"""

from __future__ import annotations

import codecs
import errno
import io
import os
import sys
import tempfile
import warnings
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import click
from click.shell_completion import shell_complete

from onnxtweak._version import __version__
from onnxtweak.cli.commands import (
    apply,
    augment,
    compare,
    completion,
    demo,
    diff,
    doctor,
    dump,
    evaluate,
    fit,
    init,
    inspect,
    join,
    match,
    report,
    retrain,
    revert,
    run,
    score,
    verify,
)
from onnxtweak.cli.completion import COMPLETE
from onnxtweak.cli.console import Console
from onnxtweak.cli.options.shared import TRACEBACK
from onnxtweak.cli.stopping import Stopping
from onnxtweak.errors import MachineError, OnnxtweakError, OutputError
from onnxtweak.printable import plain
from onnxtweak.temporary_files import collect

PROGRAM = "onnxtweak"

BUG, BROKEN_PIPE = 70, 141


# In the order of work; `--help` and docs/cli.md list them so.
SECTIONS = {
    "Start here": (demo.demo, inspect.inspect, evaluate.evaluate),
    "Improve a model": (
        fit.fit,
        compare.compare,
        match.match,
        join.join,
        retrain.retrain,
        augment.augment,
    ),
    "Use what was made": (report.report, verify.verify, diff.diff, apply.apply, revert.revert),
    "Repeat it in CI": (init.init, run.run),
    "Look deeper": (score.score, dump.dump),
    "This machine": (doctor.doctor, completion.completion),
}


class InSections(click.Group):
    """A group that lists its commands under headings, in the order in which they were added."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for heading, commands in SECTIONS.items():
            with formatter.section(heading):
                formatter.write_dl([(str(one.name), one.get_short_help_str(limit=70)) for one in commands])


@click.group(
    cls=InSections,
    invoke_without_command=True,
    subcommand_metavar="COMMAND [ARGS]...",
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="`onnxtweak COMMAND --help` explains a command and shows an example. Start with `onnxtweak demo`; "
    "for a model of your own, `onnxtweak fit`.",
)
@click.version_option(__version__, prog_name=PROGRAM, message="%(prog)s %(version)s")
@click.pass_context
def program(ctx: click.Context) -> None:
    """Better accuracy for chosen classes of a trained ONNX classifier, without retraining it.

    The model file is never changed: every command that makes a patch writes a new file, and verifies it
    first. Results go to stdout, everything else to stderr.
    """
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


for command in (one for commands in SECTIONS.values() for one in commands):
    program.add_command(command)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program on `arguments` (default: those of the process), and return the exit code."""
    with Stopping() as stopping:
        return carry_out(sys.argv[1:] if arguments is None else arguments, stopping)


def carry_out(arguments: Sequence[str], stopping: Stopping) -> int:
    """Run the program on `arguments`, and return the exit code. stopping : hears what asks it to stop."""
    # Not click's own `main`: it would turn a closed pipe and an interrupt into exit code 1.
    if None in (sys.stdin, sys.stdout, sys.stderr):
        _reserve_streams()
    _take_any_text()
    console = Console()
    if sys.stdout is None:
        stopping.end()
        console.fail("stdout is closed", hint="send results elsewhere, such as > result.txt or > /dev/null")
        return OutputError.exit_code
    with suppress(OSError):  # no folder for temporary files
        with stopping.later():  # Python tries a folder by a file in it
            folder = tempfile.gettempdir()
        collect(Path(folder))
    context = None
    if asked := os.environ.get(COMPLETE):
        return shell_complete(program, {}, PROGRAM, COMPLETE, asked)
    try:
        with warnings.catch_warnings():  # which the command's own console shows
            context = program.make_context(PROGRAM, list(arguments))
            with context:
                program.invoke(context)
        sys.stdout.flush()
        return 0
    except BrokenPipeError:
        _discard_stdout()
        return BROKEN_PIPE
    except click.exceptions.Exit as ended:
        return ended.exit_code
    except (KeyboardInterrupt, click.Abort):
        return _stopped(stopping, console)
    except Exception as error:
        if context is not None and context.meta.get(TRACEBACK):
            console.trace(error)
        if stopping.number is not None:
            return _stopped(stopping, console)
        stopping.end()  # this error is what is told, and no signal that comes after it
        if isinstance(error, OSError) and not error.filename and (reason := _stdout_fails()):
            error = OutputError(
                f"the result cannot be written to stdout: {reason}",
                hint="send it elsewhere, or make room; files that were asked for are written",
            )
        return _explain(error, console)


def _stopped(stopping: Stopping, console: Console) -> int:
    stopping.end()
    console.fail(stopping.said)
    return stopping.code


def _take_any_text() -> None:
    """An encoding that lacks a character, ASCII for one, must not end a command."""
    codecs.register_error("onnxtweak", plain)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="onnxtweak")


def _stdout_fails() -> str:
    """Why stdout takes nothing more, after which it is given up; nothing where it works."""
    try:
        number = sys.stdout.fileno()
    except (OSError, ValueError):  # no file, as in tests
        return ""
    try:
        sys.stdout.flush()
        os.write(number, b"\n")  # what could not be written may be lost already: only a write tells
    except OSError as error:
        _discard_stdout()
        return error.strerror or str(error)
    return ""


def _discard_stdout() -> None:
    """What is still buffered has no reader; without this the interpreter would complain when it exits."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _reserve_streams() -> None:
    """Fill the numbers of closed streams, or the next file that is opened would get what a stream gets."""
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(number)


def _explain(error: Exception, console: Console) -> int:
    match error:
        case OnnxtweakError():
            console.fail_with(error)
            return error.exit_code
        case click.ClickException():
            console.fail(*_usage(error))
            return error.exit_code
        case OSError() if (full := _no_room(error)) is not None:
            console.fail_with(full)
            return full.exit_code
        case OSError(errno=errno.EMFILE | errno.ENFILE):
            what = "too many files are open at once for this machine's limit"
            console.fail(what, hint="raise the limit (`ulimit -n`), or give fewer files")
            return MachineError.exit_code
        case MemoryError():
            console.fail("not enough memory", hint="lower --memory or --batch")
            return MachineError.exit_code
        case FileNotFoundError() if error.filename is None and "temporary directory" in str(
            error
        ):  # tempfile's
            console.fail(
                "there is no folder for temporary files that can be written",
                hint="set TMPDIR to a folder that can be written, with room for a copy of the samples",
            )
            return MachineError.exit_code
    console.fail(
        f"unexpected {type(error).__name__}: {error}",
        hint="this is a bug in onnxtweak; please report it with the output of --traceback",
    )
    return BUG


def _no_room(error: OSError) -> OutputError | None:
    """What to say where a disk is full, wherever in the program that came up."""
    from onnxtweak.disk_space import cannot_write, no_room

    return cannot_write(error.filename or "", error, "a file") if no_room(error) else None


def _usage(error: click.ClickException) -> tuple[str, str, str]:
    """What, where and hint of an error that click found on the command line."""
    context = getattr(error, "ctx", None)
    command = context.command_path if context is not None else PROGRAM
    hint = f"`{command} --help` shows how to use it"
    near = getattr(error, "possibilities", None)
    if near:
        return error.message.rstrip("."), command, f"did you mean {' or '.join(sorted(near)[:3])}?"
    if isinstance(error, click.BadParameter) and not isinstance(error, click.MissingParameter):
        where = error.param.opts[-1] if error.param is not None else error.param_hint or ""
        if where and context is not None and where not in context.get_help():
            hint = f"`{command} --help-all` shows how to use it"
        return error.message.rstrip("."), f"{command} {where}".rstrip(), hint
    return error.format_message().rstrip("."), command, hint
