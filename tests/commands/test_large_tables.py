"""Tables that memory cannot hold lie in files without a name, and make the same file to the last byte."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import onnx
import pytest

from onnxtweak import commands
from onnxtweak.cli.main import main
from onnxtweak.engine.machine import large_arrays
from onnxtweak.engine.shared import logits
from onnxtweak.method.compare.methods import METHODS
from onnxtweak.method.fit import metric_judge, weighted
from onnxtweak.settings import DataSettings, EngineSettings, FitSettings, JoinSettings
from onnxtweak.stages import gather
from tests.support.coarse_searches import coarse_searches
from tests.support.rounded import rounded
from tests.support.short_trainings import short_trainings
from tests.support.weak_class import TARGET, carry_out, more_samples, weak_cnn

WEAK = ["-t", str(TARGET)]
JOBS = {
    "fit, certified": ["fit", *WEAK, "--neurons", "60", "--hidden", "4", "--certify", "0.1"],
    "fit, few neurons": ["fit", *WEAK, "--budget", "12", "--neurons", "8"],
    "fit, few neurons of the target": ["fit", *WEAK, "--synapses", "2", "--neurons", "8"],
    "fit, listed samples": ["fit", "--must", "must.npz", "--lock", "lock.npz"],
    "retrain one": ["retrain", *WEAK, "-n", "1,3"],
    "retrain two": ["retrain", "-t", "0", *WEAK, "-n", "3", "--criterion", "net-gain"],
    "retrain by a schedule": ["retrain", *WEAK, "-t", "0", "--schedule", "J2 R2 J1", "-n", "1,3"],
    "augment": ["augment", "--neurons", "30", "--hidden", "8", "--iterations", "20"],
    "match": ["match", "--reference", "reference.onnx"],
    "fit for a metric": ["fit", "--metric", "f1", "--neurons", "60", "--hidden", "0"],
    "fit of a slice": ["fit", "--slice", "even=1", "--neurons", "60", "--hidden", "0"],
}


@pytest.fixture(scope="module")
def cnn(tmp_path_factory):
    """The smallest that has tables of several blocks."""
    return weak_cnn(tmp_path_factory.mktemp("cnn"), n=240)


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Of what is tried one after the other, a few are enough."""
    monkeypatch.setattr(metric_judge, "STRENGTHS", (1.0, 0.25))
    monkeypatch.setattr(weighted, "WEIGHTS", (2.0, 10.0))
    with short_trainings(), coarse_searches():
        yield


@pytest.fixture
def folder(cnn, tmp_path, monkeypatch):
    """A folder to run in, with a model, its samples, lists of them, and a more exact model."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(large_arrays, "ROWS", 50)  # so that there are several blocks
    model, data = cnn
    os.link(model, "reference.onnx")
    os.link(data, "data.npz")
    onnx.save(rounded(onnx.load(model), 4), "model.onnx")
    x, y = more_samples(model, 60, seed=5)
    np.savez("must.npz", x=x[:4], y=(y[:4] + 1) % 4)
    np.savez("lock.npz", x=x[4:], y=y[4:])
    with np.load(data) as held:
        np.savez("even.npz", **held, even=np.arange(len(held["y"])) % 2)
    return tmp_path


@pytest.fixture
def mapped(monkeypatch):
    """The sizes of all arrays that were put into files."""
    sizes = []

    class Noted(large_arrays._Mapping):
        def __new__(cls, number, size):
            sizes.append(size)
            return super().__new__(cls, number, size)

    monkeypatch.setattr(large_arrays, "_Mapping", Noted)
    return sizes


def nothing_fits(monkeypatch):
    """From now on no values and no logits fit into the memory."""
    monkeypatch.setattr(gather, "most_neurons", lambda samples, engine: 0)
    monkeypatch.setattr(logits, "_OF_LOGITS", 10**12)


@pytest.mark.parametrize("job", JOBS)
def test_the_same_file_wherever_tables_lie(job, folder, mapped, monkeypatch):
    name, *rest = JOBS[job]
    data = "even.npz" if "--slice" in rest else "data.npz"
    plain = ["-d", data, "--batch", "20", "--threads", "1", "--device", "cpu", "-q", *rest]
    assert main([name, "model.onnx", *plain, "-o", "small.onnx"]) == 0
    assert not mapped
    nothing_fits(monkeypatch)
    assert main([name, "model.onnx", *plain, "-o", "large.onnx"]) == 0
    assert mapped
    assert (folder / "large.onnx").read_bytes() == (folder / "small.onnx").read_bytes()


def test_readings_are_alike_wherever_logits_lie(cnn, mapped, tmp_path, monkeypatch):
    monkeypatch.setattr(large_arrays, "ROWS", 50)
    asked = {"data": DataSettings((str(cnn[1]),)), "engine": EngineSettings(threads=1, batch=20)}
    carry_out(commands.join, *cnn, tmp_path / "new.onnx", settings=JoinSettings(count=(1, 3)))

    def readings():
        one = commands.evaluate(model=str(cnn[0]), metrics=("f1",), **asked)
        two = commands.verify(tweaked=str(tmp_path / "new.onnx"), **asked)
        assert all(check.passed for check in two.checks)
        return [repr(replace(each, seconds={})) for each in (one, two)]

    small = readings()
    assert not mapped
    nothing_fits(monkeypatch)
    assert readings() == small
    assert len(mapped) > 3


def test_methods_are_compared_alike_wherever_tables_lie(cnn, mapped, monkeypatch):
    monkeypatch.setattr(large_arrays, "ROWS", 50)
    quick = {"join": JoinSettings(count=(1, 3), scale=(0, 1)), "settings": FitSettings(hidden=4)}
    chosen = tuple(name for name in METHODS if name != "AAN")
    small = carry_out(commands.compare, *cnn, methods=chosen, **quick)
    assert not mapped
    nothing_fits(monkeypatch)
    large = carry_out(commands.compare, *cnn, methods=chosen, **quick)
    assert mapped
    readings = [[repr(replace(one, seconds=0)) for one in made.standings] for made in (small, large)]
    assert readings[0] == readings[1]


def test_a_disk_without_room_is_said_before_the_pass(folder, monkeypatch, capsys):
    nothing_fits(monkeypatch)
    monkeypatch.setattr(large_arrays, "free_bytes", lambda path: 1000)
    before = sorted(folder.rglob("*"))
    command = ["fit", "model.onnx", "-d", "data.npz", "-o", "out.onnx", "--work-dir", ".", "-q"]
    assert main(command) == 2
    said = capsys.readouterr().err
    assert "bytes of disk, of which 1,000 are free" in said and "--work-dir" in said
    assert sorted(folder.rglob("*")) == before
