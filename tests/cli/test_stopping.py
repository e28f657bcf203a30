"""Ctrl-C, termination and hangup: one line, an exit code, nothing left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from onnxtweak.cli.main import carry_out, main
from onnxtweak.cli.stopping import Stopping
from onnxtweak.errors import MachineError

pytestmark = pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
CODES = {"SIGINT": 130, "SIGTERM": 143, "SIGHUP": 129}
SAID = {"SIGINT": "interrupted", "SIGTERM": "terminated", "SIGHUP": "interrupted: the terminal hung up"}
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
        for _ in range(200):  # a job that goes on
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
    began = time.monotonic()
    assert main(EVALUATE) == 143
    assert time.monotonic() - began < 1.9
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


def stopped(root, folder, arguments, name, delay) -> subprocess.CompletedProcess:
    """The program in a session of its own, all of which gets the signal, as from a terminal."""
    began = subprocess.Popen(
        [sys.executable, "-m", "onnxtweak", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(root)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    time.sleep(delay)
    os.killpg(began.pid, getattr(signal, name))
    out, err = began.communicate(timeout=60)
    return subprocess.CompletedProcess(arguments, began.returncode, out, err)


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
@pytest.mark.parametrize("delay", [0.4, 0.8])
def test_while_it_starts(root, tmp_path, name, delay):
    data = f"{root}/models/digits.npz#fit"
    asked = ["join", f"{root}/models/digits_resnet20.onnx", "-d", data, "-t", "3", "-o", "o.onnx", "-q"]
    ended = stopped(root, tmp_path, asked, name, delay)
    if ended.returncode not in (0, 1, -2, -15):  # too late, or before the program's first line
        assert (ended.returncode, ended.stderr) == (CODES[name], f"error: {SAID[name]}\n")
        assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_with_workers(root, tmp_path, name):
    pytest.importorskip("distributed")
    data = f"{root}/models/digits.npz#fit"
    asked = ["score", f"{root}/models/digits_resnet20.onnx", "-d", data, "-t", "3", "-o", "s.npz", "-q"]
    for delay in (3.0, 9.0):  # a busy machine may not have read the program's first line by then
        ended = stopped(root, tmp_path, [*asked, "--workers", "1", "--threads", "1"], name, delay)
        if ended.returncode not in (-2, -15):
            break
        (tmp_path / "s.npz").unlink(missing_ok=True)  # it was done, and ended like any process
    if ended.returncode != 0:
        assert (ended.returncode, ended.stderr) == (CODES[name], f"error: {SAID[name]}\n")
        assert not [path for path in tmp_path.iterdir() if path.name == "s.npz"]
