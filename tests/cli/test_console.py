"""What is shown on stderr while a command runs."""

from __future__ import annotations

import io

from onnxtweak.cli.console import NORMAL, QUIET, VERBOSE, Console, duration, pace_of, progress_line
from onnxtweak.errors import DataError


class Terminal(io.StringIO):
    def isatty(self):
        return True


def run_pass(console):
    console.start("capture", 100)
    for _ in range(10):
        console.advance(10)
    console.finish()


def test_elsewhere_a_pass_is_one_line():
    stream = io.StringIO()
    run_pass(Console(NORMAL, stream))
    assert stream.getvalue().startswith("capture: 100 samples in ")
    assert stream.getvalue().count("\n") == 1
    assert "\r" not in stream.getvalue()


def test_quiet_is_silent_but_for_errors():
    stream = Terminal()
    console = Console(QUIET, stream)
    run_pass(console)
    console.say("hello")
    console.detail("more")
    assert stream.getvalue() == ""
    console.fail("it broke", "here", "mend it")
    assert stream.getvalue() == "error: it broke (here)\nhint: mend it\n"


def test_details_are_for_those_who_ask():
    stream = io.StringIO()
    Console(NORMAL, stream).detail("more")
    assert stream.getvalue() == ""
    Console(VERBOSE, stream).detail("more")
    assert stream.getvalue() == "more\n"


def test_a_terminal_sees_the_bar_and_an_error_starts_on_its_own_line(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr("onnxtweak.cli.console._REDRAW_SECONDS", 0.0)
    stream = Terminal()
    console = Console(NORMAL, stream)
    console.start("capture", 100)
    console.advance(40)
    assert "40%" in stream.getvalue()
    console.fail_with(DataError("no labels", where="a.npz", hint="store them as `y`"))
    assert stream.getvalue().endswith("\r\x1b[Kerror: no labels (a.npz)\nhint: store them as `y`\n")


def test_an_error_is_one_line_whatever_it_quotes():
    stream = io.StringIO()
    Console(NORMAL, stream).fail("first\nsecond", "a\nb", "c\n d")
    assert stream.getvalue() == "error: first second (a b)\nhint: c d\n"


def test_progress_line_tells_rate_and_time_left():
    line = progress_line("capture", 2500, 10000, "samples", 5.0, 100)
    assert "25%   2,500/10,000 samples     500/s  15.0 s left" in line
    assert line.startswith("capture  [####")


def test_progress_line_fits_narrow_terminals():
    for width in range(90):
        assert len(progress_line("capture and score", 2500, 10000, "samples", 5.0, width)) <= width


def test_progress_line_without_a_total_or_a_start():
    assert progress_line("capture", 7, 0, "samples", 1.0, 80) == "capture  7 samples  7/s  1.0 s"
    assert progress_line("capture", 0, 0, "samples", 65.0, 80) == "capture  1:05 min"
    assert "left" not in progress_line("capture", 0, 10, "samples", 0.0, 80)


def test_durations_read_like_speech():
    assert [duration(s) for s in (0.421, 12.34, 245, 7800)] == ["0.42 s", "12.3 s", "4:05 min", "2:10 h"]


def test_no_pace_is_nought():
    assert [pace_of(*of) for of in ((0, 5.0), (5, 0.0), (9, 61.0), (500, 0.25), (3, 2.9))] == [
        "", "", "6.8 s each", "2,000/s", "1/s",
    ]  # fmt: skip
    stream = io.StringIO()
    console = Console(NORMAL, stream)
    console.start("collect", 0)
    console.finish()
    assert "/s" not in stream.getvalue() and "collect: 0 samples in" in stream.getvalue()
