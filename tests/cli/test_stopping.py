"""Ctrl-C, termination and hangup: one line, an exit code, nothing left."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from onnxtweak.cli.console import Console
from onnxtweak.cli.main import carry_out, main
from onnxtweak.cli.stopping import Stopping
from onnxtweak.errors import MachineError

pytestmark = pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
CODES = {"SIGINT": 130, "SIGTERM": 143, "SIGHUP": 129}
SAID = {"SIGINT": "interrupted", "SIGTERM": "terminated", "SIGHUP": "interrupted: the terminal hung up"}
STEPS = 200
EVALUATE = ["evaluate", "m.onnx", "-d", "a.npz"]


class Raising:
    """An answer of a command that is a signal on its way. then : what the job makes of it."""

    def __init__(self, name, then=None):
        self.name, self.then = name, then

    def __call__(self, **asked):
        try:
            signal.raise_signal(getattr(signal, self.name))
        except KeyboardInterrupt as stopped:
            if self.then is None:
                raise
            if self.then is not True:
                raise self.then from stopped
        for self.step in range(STEPS):  # a job that goes on
            time.sleep(0.01)


@pytest.mark.parametrize("name", CODES)
def test_each_signal_has_its_code_and_one_line(commands, capsys, name):
    commands.evaluate = Raising(name)
    before = signal.getsignal(getattr(signal, name))
    assert main(EVALUATE) == CODES[name]
    assert capsys.readouterr() == ("", f"error: {SAID[name]}\n")
    assert signal.getsignal(getattr(signal, name)) == before


def test_an_error_that_comes_of_a_signal_is_the_signal(commands, capsys):
    commands.evaluate = Raising("SIGINT", then=MachineError("ONNX Runtime is not installed"))
    assert main(EVALUATE) == 130
    assert capsys.readouterr().err == "error: interrupted\n"


def test_a_signal_that_is_swallowed_comes_again(commands, capsys):
    commands.evaluate = Raising("SIGTERM", then=True)
    assert main(EVALUATE) == 143
    assert commands.evaluate.step < STEPS - 1
    assert capsys.readouterr().err == "error: terminated\n"


def test_what_is_ignored_stays_ignored(commands):
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Stopping() as stopping:
            signal.raise_signal(signal.SIGHUP)
            assert carry_out(EVALUATE, stopping) == 0 and stopping.number is None
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_second_signal_does_not_disturb_cleaning_up():
    with Stopping() as stopping:
        with pytest.raises(KeyboardInterrupt):
            try:
                signal.raise_signal(signal.SIGINT)
            finally:
                signal.raise_signal(signal.SIGTERM)
        assert stopping.code == 130
        stopping.end()
        signal.raise_signal(signal.SIGINT)


def test_an_error_that_is_being_told_is_the_only_one(commands, capsys, monkeypatch):
    """A signal that comes too late to end the command does not tell a second one."""

    def told(console, error):
        fail_with(console, error)
        signal.raise_signal(signal.SIGTERM)

    fail_with = Console.fail_with
    monkeypatch.setattr(Console, "fail_with", told)
    commands.answer = MachineError("ONNX Runtime is not installed")
    assert main(EVALUATE) == MachineError.exit_code
    assert capsys.readouterr().err.splitlines() == ["error: ONNX Runtime is not installed"]


def test_no_file_is_left_where_python_tries_a_folder(commands, tmp_path, monkeypatch, capsys):
    """The signal comes between two steps of it, and ends the program after them."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    tried, unlink = [], os.unlink

    def interrupted(path, *more, **keywords):
        tried.append(path)
        signal.raise_signal(signal.SIGTERM)
        unlink(path, *more, **keywords)

    monkeypatch.setattr(os, "unlink", interrupted)
    with contextlib.suppress(KeyboardInterrupt), Stopping() as stopping:
        assert carry_out(EVALUATE, stopping) == 143
    assert tried and not list(tmp_path.iterdir()) and commands.asked is None


AT_IMPORT = """
import os, sys
def heard(event, given):
    if event == "import" and given[0] == os.environ["STOP_AT"]:
        os.killpg(0, int(os.environ["STOP_WITH"]))
sys.addaudithook(heard)
"""


def started(root, folder, arguments, **more) -> subprocess.Popen:
    """The program in a session of its own, where Ctrl-C is not ignored, as in the background of a shell."""
    return subprocess.Popen(
        [sys.executable, "-m", "onnxtweak", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(root), **more},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )


@pytest.mark.parametrize(
    ("name", "module"),
    [
        ("SIGINT", "click"),
        ("SIGTERM", "click"),
        ("SIGTERM", "numpy"),
        ("SIGINT", "onnxruntime"),
        ("SIGTERM", "numba"),
    ],
)
def test_while_it_starts(root, tmp_path, name, module):
    """The signal comes when a library is about to be loaded, however fast the machine is."""
    (tmp_path / "hook").mkdir()
    (tmp_path / "here").mkdir()
    (tmp_path / "hook" / "sitecustomize.py").write_text(AT_IMPORT)
    data = f"{root}/models/digits.npz#fit"
    asked = ["join", f"{root}/models/digits_resnet20.onnx", "-d", data, "-t", "3", "-o", "o.onnx", "-q"]
    path = os.pathsep.join([str(tmp_path / "hook"), str(root)])
    number = str(int(getattr(signal, name)))
    process = started(root, tmp_path / "here", asked, PYTHONPATH=path, STOP_AT=module, STOP_WITH=number)
    _, err = process.communicate(timeout=300)
    assert (process.returncode, err) == (CODES[name], f"error: {SAID[name]}\n")
    assert not list((tmp_path / "here").iterdir())


AT_ITS_FIRST_THREAD = """
import os, threading
name = next(n for n in ("_start_joinable_thread", "_start_new_thread") if hasattr(threading, n))
start = getattr(threading, name)
def started(*given, **more):
    made = start(*given, **more)
    os.kill(os.getpid(), int(os.environ["STOP_WITH"]))
    return made
setattr(threading, name, started)
"""


@pytest.mark.parametrize("name", CODES)
def test_at_its_first_thread(root, tmp_path, name):
    """Which is the one that hears of signals."""
    (tmp_path / "sitecustomize.py").write_text(AT_ITS_FIRST_THREAD)
    path, number = os.pathsep.join([str(tmp_path), str(root)]), str(int(getattr(signal, name)))
    process = started(root, tmp_path, ["--version"], PYTHONPATH=path, STOP_WITH=number)
    out, err = process.communicate(timeout=300)
    assert (process.returncode, out, err) == (CODES[name], "", f"error: {SAID[name]}\n")


INSIDE_A_LIBRARY = """
import ctypes, sys
def heard(event, given):
    if event == "import" and given[0] == "numpy":
        sys.modules["onnxtweak.cli.stopping"]._PATIENCE = 0.2
        c, lock = ctypes.CDLL(None), ctypes.create_string_buffer(64)
        c.pthread_mutex_init(lock, None)
        c.pthread_mutex_lock(lock)
        open("inside", "x").close()
        c.pthread_mutex_lock(lock)
sys.addaudithook(heard)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="blocks as Linux's C library does")
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_inside_a_library_that_does_not_return(root, tmp_path, name):
    """Python hears of a signal between two of its own steps, of which there is none."""
    (tmp_path / "hook").mkdir()
    (tmp_path / "here").mkdir()
    (tmp_path / "hook" / "sitecustomize.py").write_text(INSIDE_A_LIBRARY)
    path = os.pathsep.join([str(tmp_path / "hook"), str(root)])
    process = started(
        root, tmp_path / "here", ["inspect", f"{root}/models/digits_cnn3.onnx"], PYTHONPATH=path
    )
    until = time.monotonic() + 300
    while not (tmp_path / "here" / "inside").exists():
        assert time.monotonic() < until and process.poll() is None
        time.sleep(0.02)
    process.send_signal(getattr(signal, name))
    _, err = process.communicate(timeout=300)
    assert (process.returncode, err) == (CODES[name], f"error: {SAID[name]}\n")


WHILE_IT_ENDS = """
import atexit, os
def strike():
    if os.environ["STRIKE"] == "the exit functions":
        os.kill(os.getpid(), int(os.environ["STOP_WITH"]))
class Taken:
    def __del__(self, kill=os.kill, own=os.getpid(), number=int(os.environ["STOP_WITH"])):
        kill(own, number)
if os.environ["STRIKE"] == "its modules are taken down":
    import sys
    sys.onnxtweak_struck = Taken()
atexit.register(strike)
"""


ENDS = ("the exit functions", "its modules are taken down")


@pytest.mark.parametrize(
    ("name", "when", "code"),
    # Each signal at both times, on jobs that succeed and fail in turns.
    [(name, when, 2 * ((k + j) % 2)) for k, name in enumerate(CODES) for j, when in enumerate(ENDS)],
)
def test_after_the_work_is_done_a_signal_changes_nothing(root, tmp_path, name, when, code):
    """A job that is delivered has succeeded, and one that has failed has told why, when the signal comes."""
    (tmp_path / "sitecustomize.py").write_text(WHILE_IT_ENDS)
    path = os.pathsep.join([str(tmp_path), str(root)])
    number = str(int(getattr(signal, name)))
    # One of those that fail has loaded ONNX Runtime before; the others are told about their usage.
    failing = ["inspect", "nowhere.onnx"] if name == "SIGTERM" else ["inspect"]
    asked = failing if code else ["--version"]
    process = started(root, tmp_path, asked, PYTHONPATH=path, STRIKE=when, STOP_WITH=number)
    _, err = process.communicate(timeout=300)
    assert (process.returncode, err.count("error: ")) == (code, code // 2)


def workers_of(session: int) -> list[int]:
    """The processes of a session that were started by another one of it."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, IndexError, ValueError):
            own = int((path / "stat").read_text().rpartition(")")[2].split()[3])
            if own == session and b"spawn_main" in (path / "cmdline").read_bytes():
                found.append(int(path.name))
    return found


@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_with_workers(root, tmp_path, name):
    """The signal comes when the worker has been started, and has not done anything yet."""
    pytest.importorskip("distributed")
    data = f"{root}/models/digits.npz#fit"
    asked = ["score", f"{root}/models/digits_resnet20.onnx", "-d", data, "-t", "3", "-o", "s.npz", "-q"]
    process = started(root, tmp_path, [*asked, "--workers", "1", "--threads", "1", "--backend", "numpy"])
    while not workers_of(process.pid):
        assert process.poll() is None, "it ended without a worker"
        time.sleep(0.02)
    os.killpg(process.pid, getattr(signal, name))
    _, err = process.communicate(timeout=300)
    assert (process.returncode, err) == (CODES[name], f"error: {SAID[name]}\n")
    assert not list(tmp_path.glob("s.npz")) and not list(tmp_path.glob(".onnxtweak*"))
    deadline = time.monotonic() + 300
    while workers_of(process.pid):
        assert time.monotonic() < deadline, "a worker is left"
        time.sleep(0.05)
