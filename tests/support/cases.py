"""How do the scripts that rebuild strangers' models run within a test?

Each is executed as it lies beside the project. Where it would start the program, the command runs in this
process instead, and what came of it is kept, under the heading that the script had printed before.
"""

from __future__ import annotations

import hashlib
import importlib
import io
import re
import runpy
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from onnxtweak.cli.main import main
from onnxtweak.engine.machine.single_thread import single_thread
from tests.support.coarse_searches import coarse_searches
from tests.support.few_folds import three_folds
from tests.support.plain_session import plain_session
from tests.support.short_trainings import short_trainings

HEADING = re.compile(r"^(?:=====|---) (.*)$", re.MULTILINE)
EVALUATED = re.compile(r"^overall +[\d,]+ +([\d.]+)$", re.MULTILINE)
TWEAKED = re.compile(r"\btest: targets .*overall ([\d.]+) -> ([\d.]+) %", re.MULTILINE)
DTYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(int64)": np.int64}
LEARNT = 350  # samples that are learnt from, half of what the scripts have; all of the others are the test
ROUNDED = 0.051  # of a percentage as it is printed
Decide = Callable[[list[np.ndarray]], np.ndarray]


@dataclass(frozen=True)
class Call:
    """One command. arguments : without the program's name. returncode, stdout, stderr : as of a process."""

    arguments: tuple[str, ...]
    returncode: int
    stdout: str
    stderr: str

    @property
    def command(self) -> str:
        return self.arguments[0]

    @property
    def model(self) -> Path:
        return Path(self.arguments[1])

    def option(self, name: str) -> Path:
        """The value of an option."""
        return Path(self.arguments[self.arguments.index(name) + 1])

    @property
    def test(self) -> Path:
        """The samples that the accuracy is of."""
        return self.option("-d" if self.command == "evaluate" else "--test")

    @property
    def error(self) -> str:
        """The line of the error; empty where there is none."""
        return _line(self.stderr, "error: ")

    @property
    def hint(self) -> str:
        return _line(self.stderr, "hint: ")

    @property
    def accuracy(self) -> float:
        """Percent: what `evaluate` reports, or what `join` and `fit` report of the file they wrote."""
        if self.command == "evaluate":
            return float(EVALUATED.search(self.stdout)[1])
        return float(TWEAKED.search(self.stderr)[2])

    @property
    def accuracy_before(self) -> float:
        return float(TWEAKED.search(self.stderr)[1])

    def told(self) -> str:
        """All that was said, each run of white space as one space, as lines are wrapped."""
        return " ".join(f"{self.stdout} {self.stderr}".split())


@dataclass
class Section:
    """What a script did under one heading. said : what the script itself printed there."""

    said: str = ""
    calls: list[Call] = field(default_factory=list)

    def all(self, *commands: str) -> list[Call]:
        return [call for call in self.calls if call.command in commands]

    def one(self, command: str) -> Call:
        (call,) = self.all(command)
        return call

    def codes(self) -> dict[str, int]:
        """Exit codes by command, the highest of each."""
        found: dict[str, int] = {}
        for call in self.calls:
            found[call.command] = max(found.get(call.command, 0), call.returncode)
        return found


Sections = dict[str, Section]


def play(
    script: Path,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    after: Callable[[Call], None] = lambda call: None,
    *,
    quick: bool = True,
    tested: int | None = None,
) -> Sections:
    """The script's sections by heading, the first as ""; scratch files lie in `folder`.

    after : called with each command that wrote or measured a model, before a later one overwrites its file.
    quick : whether samples to learn from are few, and hidden layers are trained for a moment only.
    tested : of the test samples, the first so many; None: all.

    Asserts what holds of every command: no bug, no failed check but of accuracy by `verify`, one error with
    one hint where it fails, and the model that it was given left as it was.
    """
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # the scripts set it for the processes that they start
    monkeypatch.syspath_prepend(str(script.parent))
    monkeypatch.setattr(sys, "argv", [str(script)])
    kit = importlib.import_module("kit")
    said = io.StringIO()
    calls: list[tuple[int, Call]] = []

    def instead(*arguments: object, **_shown: object) -> Call:
        call = run_here(*arguments)
        calls.append((len(said.getvalue()), call))
        if call.returncode == 0 and call.command in ("evaluate", "join", "fit"):
            after(call)
        return call

    save = kit.data

    def fewer(folder: Path, x: Any = None, y: Any = None, *test: Any) -> tuple[Path, Path]:
        if x is None:
            _, (x, y), test = kit.digits()
        return save(folder, x[:LEARNT], y[:LEARNT], *(array[:tested] for array in test))

    monkeypatch.setattr(kit, "run", instead)
    if quick:
        monkeypatch.setattr(kit, "data", fewer)
    monkeypatch.setattr(kit, "WORK", folder)
    trained = short_trainings() if quick else nullcontext()
    searched = coarse_searches() if quick else nullcontext()
    with warnings.catch_warnings(), redirect_stdout(said), one_thread(), three_folds(), trained, searched:
        warnings.simplefilter("ignore")  # of the libraries that train and export the scripts' models
        runpy.run_path(str(script))
    return _sections(said.getvalue(), calls)


def run_here(*arguments: object) -> Call:
    """A command, on one thread, in this process, in which a warning is an error."""
    words = [str(argument) for argument in arguments]
    threads = [] if words[0] in ("inspect", "diff", "revert") else ["--threads", "1"]
    given = _given(Path(words[1]))
    out, err = io.StringIO(), io.StringIO()
    with warnings.catch_warnings(), redirect_stdout(out), redirect_stderr(err), one_thread():
        warnings.simplefilter("error")
        code = main([*words, *threads])
    call = Call(tuple(words), code, out.getvalue(), err.getvalue())
    told = f"{' '.join(words)}\n{call.stderr}"
    lost = words[0] == "verify" and "check `accuracy` failed" in call.stderr  # true of a patch that harms
    assert code in ((3,) if lost else (0, 1, 2)), told
    assert [call.stderr.count(word) for word in ("error: ", "hint: ")] == [int(code != 0)] * 2, told
    assert _given(Path(words[1])) == given, told
    return call


def one_thread() -> AbstractContextManager[object]:
    """Bounds what NumPy takes, which a variable of the environment no longer does: it is loaded."""
    return single_thread()


def accuracies(call: Call, decide: Decide, *, apart: bool = False) -> None:
    """Assert that the file answers by ONNX Runtime alone as the command reports.

    decide : from the file's outputs to its decisions, in the terms of the labels. apart : run one at a time.
    """
    if call.command != "evaluate":
        assert abs(own_accuracy(call.model, call.test, decide, apart=apart) - call.accuracy_before) < ROUNDED
    file = call.model if call.command == "evaluate" else call.option("-o")
    assert abs(own_accuracy(file, call.test, decide, apart=apart) - call.accuracy) < ROUNDED, call.arguments


def own_accuracy(file: Path, samples: Path, decide: Decide, *, apart: bool = False) -> float:
    """Percent of the samples of an npz on which the file's own decision is the label."""
    with np.load(samples) as arrays:
        rows = dict(arrays)
    labels = rows.pop("y")
    labels = labels if labels.ndim == 1 else labels.argmax(axis=1)  # one column a class
    parts = [slice(i, i + 1) for i in range(len(labels))] if apart else [slice(None)]
    decided = np.concatenate([decide(outputs) for outputs in _outputs(file, rows, parts)])
    return 100 * float(np.mean(decided == labels))


def own_outputs(file: Path, samples: Path) -> list[np.ndarray]:
    """The file's outputs on the samples of an npz."""
    with np.load(samples) as arrays:
        rows = {name: array for name, array in arrays.items() if name != "y"}
    return next(_outputs(file, rows, [slice(None)]))


def _outputs(file: Path, rows: dict[str, np.ndarray], parts: list[slice]) -> Iterator[list[np.ndarray]]:
    session = plain_session(str(file))
    inputs = session.get_inputs()
    names = {value.name for value in inputs}
    spare = [array for name, array in rows.items() if name not in names]
    for part in parts:
        samples = len(next(iter(rows.values()))[part])
        left = iter(spare)
        feed = {}
        for value in inputs:
            array = rows.get(value.name, next(left, None) if value.name not in rows else None)
            feed[value.name] = _as_declared(array, value, part, samples)
        yield session.run(None, feed)


def _as_declared(array: np.ndarray | None, value: Any, part: slice, samples: int) -> np.ndarray:
    """A part of the array in the type and the rank of the input; zeros where there is no array."""
    dtype = DTYPES[value.type]
    if array is None:
        return np.zeros([samples if isinstance(n, str) or n is None else n for n in value.shape], dtype)
    if not value.shape:
        return np.array(array.reshape(-1)[0], dtype)
    array = array[part].astype(dtype)
    if array.ndim == 1 < len(value.shape):
        return array[:, None]
    return array.swapaxes(0, 1) if value.shape[0] == 1 != len(array) else array


def _given(model: Path) -> list[str]:
    """Digests of the model and of the weights beside it."""
    files = [model, model.with_name(f"{model.name}.data")]
    return [hashlib.sha256(file.read_bytes()).hexdigest() for file in files if file.exists()]


def _line(text: str, start: str) -> str:
    return next((line[len(start) :] for line in text.splitlines() if line.startswith(start)), "")


def _sections(said: str, calls: list[tuple[int, Call]]) -> Sections:
    found = list(HEADING.finditer(said))
    starts = [-1, *(match.start() for match in found)]
    names = ["", *(match[1] for match in found)]
    sections: Sections = {}
    for name, start, end in zip(names, starts, [*starts[1:], len(said)], strict=True):
        within = [call for position, call in calls if start < position <= end]
        sections[name] = Section(said[max(start, 0) : end], within)
    return sections
