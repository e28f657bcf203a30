"""A slice of the cases of benchmarks/conformance/surroundings, and whether their judge sees every fault."""

from __future__ import annotations

import collections
import dataclasses
import signal
import sys
from pathlib import Path

import numpy as np
import pytest

if sys.platform != "linux":
    pytest.skip("the cases need Linux", allow_module_level=True)

from benchmarks.conformance.surroundings.__main__ import ORDER, try_case
from benchmarks.conformance.surroundings.jobs import JOBS, Job
from benchmarks.conformance.surroundings.judge import Expected, snapshot
from benchmarks.conformance.surroundings.launch import HANG, Ended, Launcher
from benchmarks.conformance.surroundings.trial import Trial
from benchmarks.conformance.surroundings.workshop import Result, Workshop, furnish, without_times, written
from tests.support import misbehaving

# One of each kind and more, of which two are stopped and no job is among the longest.
CASES, SEED = range(30, 40), 5
# Seed and number: an adapter that two commands write under one name, a huge function file, a pipe one opens,
# a run that was killed while it delivered, seven open files.
FAILED_ONCE = ((17, 3987), (17, 1546), (17, 3701), (19, 4050), (20, 1429))
BUSY = 4.0  # times as long as on a machine of one's own
JOB = Job("stub", ("{out}.a", "{out}.b"), ("model.onnx",), ("{out}.a", "{out}.b"))
RIGHT = Result({"o.a": b"right", "o.b": b"right", "told": b""}, 0.05)

SEEN = {
    "ends with 70": "exit code 70",
    "ends with 5": "exit code 5",
    "shows a traceback": "a traceback",
    "aborts": f"it died of signal {signal.SIGABRT}",
    "hangs": "it hung",
    "takes memory": "MiB of memory",
    "says nothing": "exit code 2 without a word",
    "says it twice": "2 errors told",
    "leaves a process": "processes left",
    "leaves a temporary file": "a file left: temporary/tmp",
    "leaves a file beside its outputs": "a file left: place/notes",
    "leaves unfinished work": "unfinished work left: place/.onnxtweak-0123456789ab.part",
    "changes its input": "changed: place/model.onnx",
    "deletes its input": "deleted: place/model.onnx",
    "delivers nothing": "exit code 0, but nothing is delivered",
    "delivers half": "delivered by half: place/o.a",
    "writes other bytes": "other bytes: o.a",
    "tells something else": "other bytes: told",
    "fails but delivers": "exit code 2, but all is delivered",
}


@pytest.fixture(scope="module")
def launcher():
    with Launcher(HANG * BUSY) as launcher:
        yield launcher


@pytest.fixture(scope="module")
def shop(launcher, tmp_path_factory):
    folder = tmp_path_factory.mktemp("shop")
    for above in (folder, *folder.parents[:2]):
        above.chmod(0o755)  # other users have to reach it
    return furnish(folder, launcher)


def test_a_slice_of_the_cases(shop):
    outcomes = [try_case(shop, SEED, number) for number in CASES]
    again = [try_case(shop, *case) for case in FAILED_ONCE]
    assert not [outcome for outcome in again if outcome.faults]
    assert not [outcome for outcome in outcomes if outcome.faults]
    kinds = collections.Counter(outcome.kind for outcome in outcomes)
    assert kinds == collections.Counter(ORDER[number % len(ORDER)] for number in CASES)
    # However fast the machine is, one of the latter is killed at a change, and one of the others terminated.
    said = "\n".join(line for outcome in (*outcomes, *again) for line in outcome.said)
    assert {": 0", ": 2", ": -9", ": 143"} <= {f":{line.rpartition(':')[2]}" for line in said.splitlines()}


@pytest.mark.parametrize("kept", [b"", b"                  2/0/1", b"                   copy"])
def test_seconds_of_a_comparison_do_not_count(kept):
    table = (
        b"method  overall  parameters  seconds\njoin    55.0 \xc2\xb1 6.4  0.00           10      %b%b\nend\n"
    )
    one, other = (without_times(".txt", table % (seconds, kept)) for seconds in (b"0.0", b"0.1"))
    assert one == other and b"55.0" in one
    line = b"  > 1  21  0.0  0.0  +0.0  %b\n"
    assert without_times(".txt", line % b"26.6") != without_times(".txt", line % b"26.7")


def test_what_another_command_left_unfinished_is_no_result(tmp_path):
    """It is judged as a file that is left, where one may not be."""
    job = Job("stub", (), (), ("{out}",))
    (tmp_path / "o" / ".onnxtweak-0123456789ab.part").mkdir(parents=True)
    for name in ("a", ".onnxtweak-0123456789ab.part/a", ".onnxtweak-ba9876543210.part.undo"):
        (tmp_path / "o" / name).write_bytes(b"1")
    assert written(job, tmp_path) == {"o/a": b"1"}


def stub(launcher, folder: Path, how: str) -> Trial:
    """A case whose command misbehaves."""
    (folder / "shop").mkdir()
    (folder / "shop" / "model.onnx").write_bytes(b"a model")
    (folder / "case").mkdir()
    program = (sys.executable, "-S", misbehaving.__file__, how)
    shop = Workshop(folder / "shop", launcher, program, {JOB.name: RIGHT})
    return Trial(shop, np.random.default_rng(0), folder / "case")


@pytest.mark.parametrize("how", [*SEEN, "behaves"])
def test_each_misbehaviour_is_told(launcher, tmp_path, monkeypatch, how):
    trial = stub(launcher, tmp_path, how)
    if how == "hangs":
        monkeypatch.setattr(launcher, "hang", 0.5)
    trial.carry_out(JOB, trial.bench(JOB).around(), Expected(frozenset({0, 2})))
    faults = [fault.removeprefix("stub: ") for fault in trial.faults]
    if how == "behaves":
        assert not faults
    else:
        assert [fault for fault in faults if SEEN[how] in fault], faults


def test_what_is_allowed_is_not_told(launcher, tmp_path):
    trial = stub(launcher, tmp_path, "aborts")
    expected = Expected(sent=signal.SIGABRT)
    trial.carry_out(JOB, trial.bench(JOB).around(), expected)
    assert not trial.faults
    killed, before = Ended(-signal.SIGKILL, "", "", 0.0, 0), snapshot(tmp_path / "case")
    (tmp_path / "case" / "place" / "o.a").touch()
    (tmp_path / "case" / "place" / ".onnxtweak-0.part").touch()
    trial.judge(JOB, killed, Expected(sent=signal.SIGKILL, left=True), before)
    assert not trial.faults
    trial.judge(JOB, killed, Expected(sent=signal.SIGTERM), before)
    assert len(trial.faults) == 3


def test_a_command_that_is_stopped_at_a_change_is_stopped_there(shop, launcher, tmp_path):
    """Or the kills would show nothing."""
    job = next(job for job in JOBS if job.name == "init")
    trial = Trial(shop, np.random.default_rng(0), tmp_path)
    around = trial.bench(job).around()
    for number in (signal.SIGKILL, signal.SIGTERM):
        stopped = dataclasses.replace(around, stop=(int(number), 2))
        ended = launcher.run(job.given, tmp_path / "place", stopped)
        assert ended.code == (-number if number == signal.SIGKILL else 128 + number)
