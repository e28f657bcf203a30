"""Passes that workers share give the bits of one process: tables, screening, judging and testing."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

from onnxtweak import commands
from onnxtweak.data.splits import View
from onnxtweak.engine import dump
from onnxtweak.engine.answer.shown import shown_pass
from onnxtweak.engine.answer.shown_boxes import detections
from onnxtweak.engine.dump import write_dump
from onnxtweak.engine.passes import Captured, Folding
from onnxtweak.engine.position_batches import shard_ends
from onnxtweak.engine.scoring.sweep import taps_of
from onnxtweak.engine.shared.logits import logits_pass
from onnxtweak.engine.shared.shards import by_shards, in_shards
from onnxtweak.errors import DataError
from onnxtweak.method.selection.screening import Screening, screen_blocks, screen_pass
from onnxtweak.method.table import all_neurons, gather, take
from onnxtweak.patch import Linear
from onnxtweak.settings import (
    DataSettings,
    EngineSettings,
    FitSettings,
    JoinSettings,
    OutputSettings,
    TapSettings,
    TargetSettings,
)
from onnxtweak.stages.open_job import prepare
from onnxtweak.stages.rows import unlabelled
from onnxtweak.types import Progress, silent
from tests.engine.test_shared_sweep import ask, machines, threads
from tests.engine.test_shared_sweep import same as same_scores
from tests.support.at_positions import model_at_positions
from tests.support.finders import finder
from tests.support.text_lines import text_lines
from tests.support.weak_class import weak_cnn

# The last shard is short, and no shard is a whole number of batches.
ENGINE = EngineSettings(device="cpu", backend="numpy", shard=25, batch=8, threads=1)


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    model, data = weak_cnn(tmp_path_factory.mktemp("passes"), n=400)
    return str(model), DataSettings((str(data),))


def found(samples, engine):
    """What each kind of pass finds, and the passes that were made."""
    job = prepare(*samples, engine, TapSettings(), silent)
    subject, view, engine = job.subject, job.splits.fit, job.engine
    neurons = all_neurons(job.taps)
    table = gather(subject, view, neurons, engine, "collect")
    shown = shown_pass(subject, view, engine, "test")
    present = view.classes
    (block,) = screen_blocks(job.taps, len(present), engine.settings)
    assert [tap.name for tap in taps_of(block)]
    bias = np.zeros(subject.classes)
    sums = screen_pass(Screening(block, bias, present, Folding()), subject, view, engine)
    arrays = {
        "T": table.T,
        "Z": table.Z,
        "logits": logits_pass(subject, view, engine, "base"),
        "classes": shown.classes,
        "scores": shown.Z,
        "contradicted": shown.contradicted,
        **{f"screen {name}": value for name, value in vars(sums).items()},
    }
    return arrays, engine.stats.passes


def same(ones, others):
    for name, value in ones.items():
        np.testing.assert_array_equal(value, others[name], err_msg=name)


@pytest.mark.filterwarnings("default")  # of Dask's own
@pytest.mark.parametrize("count", [1, 2, 4])
def test_one_two_and_four_workers_find_what_one_process_does(samples, count):
    alone, passes = found(samples, ENGINE)
    assert alone["screen G"].any() and len(np.unique(alone["classes"])) > 1
    with threads(count) as scheduler:
        shared, by_workers = found(samples, replace(ENGINE, scheduler=scheduler))
    same(shared, alone)
    assert by_workers == [(f"{name}, {count} workers", samples) for name, samples in passes]


def test_the_size_of_a_shard_moves_only_the_last_digits_of_screening(samples):
    one, _ = found(samples, ENGINE)
    other, _ = found(samples, replace(ENGINE, shard=4096))
    for name, value in one.items():
        np.testing.assert_allclose(value, other[name], rtol=1e-4, atol=1e-5, err_msg=name)


def test_a_pass_of_one_shard_is_made_here(samples):
    job = prepare(*samples, replace(ENGINE, shard=4096, scheduler="tcp://127.0.0.1:9"), TapSettings(), silent)
    logits_pass(job.subject, job.splits.fit, job.engine, "base")  # nobody answers there
    assert job.engine.stats.passes == [("base", 240)]


def test_shards_end_where_they_should():
    rows = [8, 8, 4, 8, 8, 4, 3]
    batches = [Captured(np.empty((n, 2)), (), np.zeros(n), np.arange(n)) for n in rows]
    sizes = [[len(got.rows) for got in shard] for shard in in_shards(batches, np.array([20, 40, 43]))]
    assert sizes == [[8, 8, 4], [8, 8, 4], [3]]


def rows_of(positions, rows):
    dataset = type("Dataset", (), {"sizes": (positions,) if positions else (), "positions": positions or 1})
    return View(dataset, np.array(rows))


def test_no_shard_ends_within_a_sample():
    assert shard_ends(rows_of(0, range(43)), 20).tolist() == [20, 40, 43]
    assert shard_ends(rows_of(10, range(43)), 12).tolist() == [20, 40, 43]
    twice = rows_of(10, [0, 0, 3, 7, 7, 11, 12, 25, 26])  # as some count
    assert shard_ends(twice, 3).tolist() == [5, 9]
    assert shard_ends(rows_of(10, []), 3).tolist() == []
    rest = rows_of(10, range(20, 43))  # once the first shard is done
    assert (20 + shard_ends(rest, 12)).tolist() == [40, 43]


@pytest.mark.filterwarnings("default")
def test_passes_over_positions_are_shared_too(tmp_path):
    made = model_at_positions("pixels", tmp_path, samples=25)  # of 64 positions each
    asked = str(made.model), DataSettings((str(made.data),))
    engine = replace(ENGINE, shard=130, batch=2)
    alone, passes = found(asked, engine)
    scores, _ = ask(asked, engine)
    with threads(2) as scheduler:
        shared, by_workers = found(asked, replace(engine, scheduler=scheduler))
        theirs, scored = ask(asked, engine, scheduler)
    same(shared, alone)
    same_scores(theirs, scores)
    assert scored == [("score, 2 workers", 15 * 64)]
    assert passes[0] == ("collect", 15)
    assert by_workers == [(f"{name}, 2 workers", samples) for name, samples in passes]


def other_passes(folder, engine):
    """What passes give that end up in no table of neurons, and their names with how many samples they saw."""
    arrays, passes = {}, []

    def opened(model, data, **asked):
        job = prepare(str(model), DataSettings((str(data),), **asked), engine, TapSettings(), silent)
        passes.extend(job.engine.stats.passes)
        job.engine.stats.passes.clear()
        return job

    lines = opened(folder / "reader.onnx", folder / "lines.npz", blank=0)
    arrays["aligned"] = lines.splits.fit.dataset.labels
    assert lines.splits.fit.dataset.lines.misread > 0
    boxes = opened(folder / "joined.onnx", folder / "joined.npz", boxes=True)
    arrays["matched"] = boxes.splits.fit.dataset.labels
    shown = detections(boxes.subject, boxes.splits.fit.dataset, np.arange(45), boxes.engine, "count")
    arrays |= {name: value for name, value in vars(shown).items() if name != "samples"}
    job = opened(folder / "model.onnx", folder / "data.npz")
    tables, _ = write_dump(
        folder / "dump", job.subject, job.splits.fit, job.engine, job.taps, None, force=True
    )
    arrays |= {file.name: np.load(file) for file in tables.files[1:]}
    neurons, patch = take(all_neurons(job.taps), np.array([1, 3])), Linear(np.ones((2, 4)), np.arange(4.0))
    work = partial(import_module("onnxtweak.commands.verify")._patched_shards, neurons=neurons, patch=patch)
    simulated = by_shards(work, job.subject, job.splits.fit, job.engine, "simulate")
    arrays["simulated"] = np.concatenate([part.copy() for part in simulated])
    with pytest.MonkeyPatch.context() as few:
        few.setattr(unlabelled, "MANY", 1)
        bare = opened(folder / "pixels.onnx", folder / "bare.npz", unlabelled=True)
    arrays["decided"] = bare.splits.fit.dataset.labels
    passes += [*boxes.engine.stats.passes, *job.engine.stats.passes]
    return arrays, [name for name, samples in passes if samples > engine.shard]


@pytest.fixture(scope="module")
def others_alone(samples):
    """A folder, and what one process finds there."""
    folder = Path(samples[0]).parent
    text_lines(folder, lines=40)
    finder("joined", folder, samples=60)
    np.savez(folder / "bare.npz", x=model_at_positions("pixels", folder, samples=60).x)
    return folder, *other_passes(folder, ENGINE)


@pytest.mark.filterwarnings("default")
def test_lines_boxes_dumps_simulations_and_positions_without_labels_are_shared_too(others_alone):
    folder, alone, passes = others_alone
    assert (alone["decided"] >= 0).any() and alone["simulated"].shape == (240, 4)
    assert (alone["aligned"] >= 0).any() and len(alone["score"]) and len(alone["V-00000.npy"]) == 240
    with threads(4) as scheduler:
        shared, by_workers = other_passes(folder, replace(ENGINE, scheduler=scheduler))
    same(shared, alone)
    assert {"align", "match", "count", "dump", "simulate", "decide"} <= set(passes)
    unshared = {"read boxes"}  # of a few samples
    assert by_workers == [name if name in unshared else f"{name}, 4 workers" for name in passes]


@pytest.mark.filterwarnings("default")
def test_progress_counts_every_sample_once(samples):
    advanced = []

    class Counts(Progress):
        def advance(self, count):
            advanced.append(count)

    with threads(2) as scheduler:
        job = prepare(*samples, replace(ENGINE, scheduler=scheduler), TapSettings(), silent)
        logits_pass(job.subject, job.splits.fit, replace(job.engine, progress=Counts()), "base")
    assert advanced == [25] * 9 + [15]


def failing(subject, view, engine, what):
    raise DataError("this sample is damaged", where="x.npy")
    yield


@pytest.mark.filterwarnings("default")
def test_an_error_in_a_worker_is_the_command_s_error(samples):
    with threads(2) as scheduler:
        job = prepare(*samples, replace(ENGINE, scheduler=scheduler), TapSettings(), silent)
        with pytest.raises(DataError, match="damaged"):
            list(by_shards(failing, job.subject, job.splits.fit, job.engine, "base"))


@pytest.mark.filterwarnings("default")
def test_commands_write_the_same_files_with_machines_of_their_own_folders(samples, tmp_path, monkeypatch):
    folder = Path(samples[0]).parent
    monkeypatch.chdir(folder)
    asked = {"model": "model.onnx", "data": DataSettings(("data.npz",)), "targets": TargetSettings(("2",))}
    join = {"settings": JoinSettings(criterion="net-gain", count=(1, 5))}
    fit = {
        "settings": FitSettings(neurons=10, hidden=0),
        "taps": TapSettings(taps=("activations",), pool=("mean",)),
    }

    def run(name, engine):
        for command, options in (("join", join), ("fit", fit)):
            output = OutputSettings(str(tmp_path / f"{name}-{command}.onnx"))
            made = getattr(commands, command)(**asked, **options, engine=engine, output=output)
            yield command, (tmp_path / f"{name}-{command}.onnx").read_bytes(), made.run.passes

    alone = list(run("alone", ENGINE))

    def verified(engine):
        made = commands.verify(tweaked=str(tmp_path / "alone-join.onnx"), data=asked["data"], engine=engine)
        return [str(check) for check in made.checks], str(made.before), str(made.after)

    def dumped(name, engine):
        named = {name: asked[name] for name in ("model", "data")}
        commands.dump(**named, directory=str(tmp_path / name), engine=engine)
        return {file.name: file.read_bytes() for file in (tmp_path / name).glob("*.npy")}

    whole = dumped("whole", ENGINE)
    proof = verified(ENGINE)
    monkeypatch.setattr(import_module("onnxtweak.commands.verify"), "captured_shards", None)  # here, that is
    real = dump.kept_by_shards

    def kills(*pass_):
        for made in real(*pass_):
            workers[0].kill()
            yield made

    monkeypatch.setattr(dump, "kept_by_shards", kills)
    with machines(tmp_path, 2) as (scheduler, workers):
        engine = replace(ENGINE, scheduler=scheduler)
        shared = list(run("shared", engine))
        assert verified(engine) == proof
        assert dumped("by workers, of whom one dies", engine) == whole
    for (command, data, passes), (_, other, by_workers) in zip(alone, shared, strict=True):
        assert data == other, command
        assert command == "join" or ("screen, 2 workers", 240) in by_workers
        by_hand = [name for name, count in by_workers if count > ENGINE.shard and "2 workers" not in name]
        assert len(passes) == len(by_workers) and not by_hand, (command, by_workers)
