"""How does a command show its result: on stdout as text, JSON or Markdown, with closing words on stderr?"""

from __future__ import annotations

import os
import shlex
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from onnxtweak.cli.console import Console, duration
from onnxtweak.errors import VerificationError
from onnxtweak.printable import ascii_json

if TYPE_CHECKING:
    from onnxtweak.report.text.layout import Block
    from onnxtweak.types import Check

DRY_RUN = "dry run: nothing written"

Tell = Callable[[Any], "Sequence[Block]"]


def show(console: Console, command: str, noun: Any, tell: Tell, form: str) -> None:
    """Write a result to stdout in the form asked for; `tell` turns it into blocks of text."""
    from onnxtweak.report import schema
    from onnxtweak.report.text import layout

    if form == "json":
        written = _encodable(schema.dumps(schema.document(command, noun)))
    elif form == "markdown":
        written = layout.markdown(tell(noun))
    else:
        seen = sys.stdout.isatty()
        width = min(shutil.get_terminal_size().columns, 120) if seen else 80
        bold = seen and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
        written = layout.terminal(tell(noun), width=width, bold=bold)
    sys.stdout.write(written)
    sys.stdout.flush()  # before the closing words, where both go to one place
    for note in getattr(noun, "notes", ()) if form == "json" else ():
        console.say(f"note: {note}")
    for stage, seconds in getattr(getattr(noun, "run", noun), "seconds", {}).items():
        console.detail(f"{stage}: {duration(seconds)}")
    for check in getattr(noun, "checks", ()):
        console.detail(f"check {check.name}: {'passed' if check.passed else 'FAILED'} ({check.detail})")
    for check in getattr(noun, "unchecked", ()):
        console.detail(f"check {check.name}: not made ({check.reason})")


def _encodable(written: str) -> str:
    """JSON that stdout can encode: stand-ins for what it lacks would be no JSON."""
    try:
        written.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        return ascii_json(written)
    return written


def close(console: Console, began: float, said: str, following: str = "") -> None:
    """The closing words on stderr: verdict, seconds, and what to try next."""
    console.say(f"{said} ({duration(time.perf_counter() - began)})")
    if following:
        console.say(f"next: {following}")


def carry_out(
    console: Console,
    command: str,
    form: str,
    tell: Tell,
    said: Callable[[Any], str],
    following: Callable[[Any], str] = lambda made: "",
    *,
    dry_run: bool,
    **asked: Any,
) -> None:
    """Run a command that sweeps over samples, and show its result; or only its plan. asked : its settings.

    said, following : the closing words about the result, as `close` takes them.
    """
    from onnxtweak import commands

    if dry_run:
        foretell(console, command, form, **asked)
        return
    began = time.perf_counter()
    made = getattr(commands, command)(**asked, progress=console)
    show(console, command, made, tell, form)
    close(console, began, said(made), following(made))


def foretell(console: Console, command: str, form: str, **asked: Any) -> None:
    """Show what a command would do instead of doing it. asked : what `commands.forecast` takes."""
    from onnxtweak import commands
    from onnxtweak.report.text import dry_run

    began = time.perf_counter()
    made = commands.forecast(command, **asked, progress=console)
    show(console, command, made, dry_run.forecast, form)
    close(console, began, DRY_RUN)


def inspect_it(made: Any) -> str:
    """The command that shows what was written; empty where nothing was."""
    return f"onnxtweak inspect {shlex.quote(str(made.output.path))}" if made.output is not None else ""


def require_passed(checks: Iterable[Check], where: str) -> None:
    """Raise VerificationError if a check failed; its details were shown before."""
    failed = next((check for check in checks if not check.passed), None)
    if failed is not None:
        changed = "the file was changed after it was tweaked, or this is not its base"
        other = (
            "these samples, or how they are prepared, differ from those that the tweak was made with; if not,"
            " it was learnt from too few to keep its promise: give more, or let `fit` stay clear with"
            " --margin 1"
        )
        rewritten = (
            "let the tool leave out the nodes called onnxtweak/..., or quantise or convert the base first "
            "and patch what comes out"
        )
        if failed.name.startswith("runtime "):
            changed = "use another runtime, or tap other tensors with --taps; see docs/surgery.md"
        hints = {"accuracy": other, "gain": rewritten, "decisions": rewritten}
        raise VerificationError(
            f"check `{failed.name}` failed: {failed.detail}",
            where=where,
            hint=hints.get(failed.name, changed),
        )
