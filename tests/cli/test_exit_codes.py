"""How the program ends: exit codes, the form of errors, what goes where."""

from __future__ import annotations

import errno
import json
import os
import shlex
import shutil
import subprocess
import sys
import warnings

import click
import pytest

from onnxtweak import __version__, errors
from onnxtweak.cli.main import main
from tests.support import results

EVALUATE = ["evaluate", "m.onnx", "-d", "a.npz"]


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.GateFailed("a gate failed"), 1),
        (errors.UsageError("this makes no sense"), 2),
        (errors.ModelError("not an ONNX file"), 2),
        (errors.DataError("no labels"), 2),
        (errors.OutputError("the file exists"), 2),
        (errors.VerificationError("logits differ"), 3),
        (errors.MachineError("no runtime"), 4),
        (MemoryError(), 4),
        (OSError(errno.EMFILE, "Too many open files", "a"), 4),
        (KeyboardInterrupt(), 130),
        (click.Abort(), 130),
        (ZeroDivisionError("oh"), 70),
    ],
)
def test_each_error_has_its_code_and_no_traceback(commands, capsys, error, code):
    commands.answer = error
    assert main(EVALUATE) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert "Traceback" not in err


def test_an_error_says_what_where_and_what_to_do(commands, capsys):
    commands.answer = errors.DataError("no labels", where="a.npz", hint="store them as `y`")
    main(EVALUATE)
    assert capsys.readouterr().err == "error: no labels (a.npz)\nhint: store them as `y`\n"


def test_a_bug_asks_to_be_reported(commands, capsys):
    commands.answer = ZeroDivisionError("oh")
    main(EVALUATE)
    err = capsys.readouterr().err
    assert "error: unexpected ZeroDivisionError: oh\n" in err
    assert "please report it" in err


def test_the_traceback_comes_when_asked_for(commands, capsys):
    commands.answer = errors.DataError("no labels")
    assert main([*EVALUATE, "--traceback"]) == 2
    err = capsys.readouterr().err
    assert "Traceback (most recent call last)" in err
    assert err.endswith("error: no labels\n")


def test_help_and_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"onnxtweak {__version__}\n"
    assert main([]) == 0
    bare = capsys.readouterr().out
    assert main(["--help"]) == 0
    assert capsys.readouterr().out == bare
    assert bare.startswith("Usage: onnxtweak ")


@pytest.mark.parametrize("program", [["cli.py"], ["-m", "onnxtweak"]])
def test_launchers_are_the_same_program(root, program, capsys):
    ran = subprocess.run(
        [sys.executable, *program, "join", "--help"], cwd=root, capture_output=True, text=True
    )
    assert main(["join", "--help"]) == 0
    assert ran.returncode == 0
    assert ran.stdout == capsys.readouterr().out


def test_a_reader_that_goes_away_ends_the_program_quietly(root):
    reader, writer = os.pipe()
    os.close(reader)
    try:
        ran = subprocess.run(
            [sys.executable, "cli.py", "join", "--help"],
            cwd=root,
            stdout=writer,
            stderr=subprocess.PIPE,
            text=True,
        )
    finally:
        os.close(writer)
    assert (ran.returncode, ran.stderr) == (141, "")


def test_problems_end_with_four(commands, capsys):
    assert main(["doctor", "-q"]) == 0
    commands.answer = results.a_diagnosis("problem")
    assert main(["doctor"]) == 4
    captured = capsys.readouterr()
    assert "PROBLEM: two packages" in captured.out
    assert captured.err == "error: does not work: runtime\nhint: uninstall one\n"


# A command that loads all libraries, prints a good deal, and is soon done.
INSPECT = "inspect models/digits_cnn3.onnx -f json"


def ended(root, arguments: str, streams: str) -> subprocess.CompletedProcess:
    """The program, started by a shell with its streams redirected."""
    line = f"{shlex.quote(sys.executable)} -m onnxtweak {arguments} {streams}"
    return subprocess.run(["sh", "-c", line], cwd=root, capture_output=True, text=True)


@pytest.fixture(scope="module")
def whole(root) -> subprocess.CompletedProcess:
    """What `INSPECT` does where all streams are open."""
    return ended(root, INSPECT, "")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")
@pytest.mark.parametrize("arguments", ["--help", INSPECT])
def test_a_full_stdout_is_an_error_of_its_own(root, arguments):
    made = ended(root, arguments, ">/dev/full")
    assert made.returncode == 2
    lines = made.stderr.splitlines()
    assert "cannot be written to stdout: No space left on device" in made.stderr
    assert lines[-1].startswith("hint: ") and "bug" not in made.stderr and "Exception" not in made.stderr


@pytest.mark.skipif(os.name == "nt", reason="streams are closed by a POSIX shell")
def test_a_closed_stdout_is_an_error_and_other_closed_streams_are_none(root, whole):
    made = ended(root, INSPECT, ">&-")
    assert made.returncode == 2 and "error: stdout is closed" in made.stderr
    for streams in ("2>&-", "2>&- <&-"):
        made = ended(root, INSPECT, streams)
        assert made.returncode == whole.returncode
        assert len(made.stdout.splitlines()) == len(whole.stdout.splitlines()) > 3


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")
def test_a_full_stderr_loses_only_what_is_told(root, whole):
    made = ended(root, INSPECT, "2>/dev/full")
    assert made.returncode == whole.returncode and made.stdout == whole.stdout


def run_with(root, arguments: list[str], **environment: str) -> subprocess.CompletedProcess:
    """The program with other variables of its environment; its streams as bytes."""
    made = {**os.environ, "PYTHONPATH": str(root), **environment}
    return subprocess.run([sys.executable, "-m", "onnxtweak", *arguments], env=made, capture_output=True)


@pytest.mark.parametrize(
    ("form", "language"),
    [("text", {"PYTHONIOENCODING": "ascii"}), ("json", {"LC_ALL": "C", "PYTHONUTF8": "0"})],
)
def test_ascii_is_enough(root, tmp_path, form, language):
    names = tmp_path / "nämes…±.txt"
    names.write_text("\n".join(f"größe → {k}" for k in range(10)), encoding="utf-8")
    asked = ["evaluate", "models/digits_cnn3.onnx", "-d", "models/digits.npz#test", "--names", str(names)]
    ran = run_with(root, [*asked, "-f", form], PYTHONCOERCECLOCALE="0", **language)
    assert ran.returncode == 0 and (ran.stdout + ran.stderr).isascii() and b"Error" not in ran.stderr
    if form == "json":
        assert "größe → 3" in json.dumps(json.loads(ran.stdout), ensure_ascii=False)
    else:
        assert rb"gr\xf6\xdfe -> 3" in ran.stdout


@pytest.mark.skipif(sys.platform != "linux", reason="names on other systems are text")
def test_names_that_are_no_utf8(root, tmp_path, capfd):
    folder = os.fsencode(tmp_path) + b"/f\xe9"
    os.mkdir(folder)
    for name in ("digits_cnn3.onnx", "digits.npz"):
        shutil.copy(root / "models" / name, folder + b"/\xff" + os.fsencode(name))
    made = os.fsdecode(folder)
    model, data = f"{made}/\udcffdigits_cnn3.onnx", f"{made}/\udcffdigits.npz#fit[0:150]"
    asked = ["join", model, "-d", data, "-t", "8", "--threads", "1", "--backend", "numpy", "-f", "json"]
    asked += ["-n", "2"]
    files = [
        "-o",
        f"{made}/\udce9.onnx",
        "--tweak",
        f"{made}/\udce9.safetensors",
        "--report",
        f"{made}/\udce9.html",
    ]
    ran = run_with(root, [*asked, *files])
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout)["output"]["path"] == f"{made}/\udce9.onnx"
    # How such a name comes in is seen above; how it is shown is the same here.
    assert main(["inspect", f"{made}/\udce9.onnx"]) == 0
    assert r"f\udce9/\udce9.onnx" in capfd.readouterr().out
    assert main(["revert", f"{made}/\udcfe", "-o", f"{made}/\udcff"]) == 2
    assert capfd.readouterr().err.startswith("error: ")


def test_a_library_s_warning_is_a_note(commands, capsys):
    def warned(**asked):
        warnings.warn("first\nerror: forged \x1b[31m", stacklevel=1)
        return results.an_evaluation()

    commands.evaluate = warned
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        assert main(EVALUATE) == 0
        assert "note: first error: forged \\x1b[31m\n" in capsys.readouterr().err
        assert main([*EVALUATE, "-q"]) == 0
        assert capsys.readouterr().err == ""


def test_without_a_temporary_folder(commands, capsys):
    commands.answer = FileNotFoundError(2, "No usable temporary directory found in ['/tmp', '/']")
    assert main(EVALUATE) == 4
    assert "hint: set TMPDIR to a folder" in capsys.readouterr().err


def test_a_traceback_begins_no_lines_of_its_own(commands, capsys):
    commands.answer = errors.DataError("no labels\nerror: forged\x1b[2J", where="a\nhint: forged")
    assert main([*EVALUATE, "--traceback"]) == 2
    lines = capsys.readouterr().err.split("\n")
    assert [line for line in lines if line.startswith(("error", "hint"))] == [
        "error: no labels error: forged\\x1b[2J (a hint: forged)"
    ]
    assert all(line.isprintable() for line in lines)


def test_a_program_that_cannot_be_loaded_says_so(root):
    """Not with a traceback of Python's: here it may not open more than three files."""
    code = (
        "import resource, sys; from onnxtweak.cli import start;"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3)); sys.exit(start.main())"
    )
    environment = {**os.environ, "PYTHONPATH": str(root)}
    ended = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert ended.returncode == 4
    first, second = ended.stderr.splitlines()
    assert first.startswith("error: the program cannot be loaded: ") and second.startswith("hint: ")
