"""A pass that is killed goes on after the last shard that it saved; no other pass's are used."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest

from onnxtweak.data.splits import View
from onnxtweak.engine.answer.shown import shown_pass
from onnxtweak.engine.shared import kept_shards
from onnxtweak.engine.shared.logits import logits_pass
from onnxtweak.method.selection.numbering import digest_of_neurons
from onnxtweak.method.table import all_neurons, gather, take
from onnxtweak.settings import DataSettings, EngineSettings, Preprocess, TapSettings
from onnxtweak.stages.open_job import open_whole
from onnxtweak.types import silent
from tests.support.rounded import rounded
from tests.support.unequal import unequal
from tests.support.weak_class import weak_cnn

ENGINE = EngineSettings(device="cpu", backend="numpy", shard=30, batch=7, threads=1)


class Killed(BaseException):
    pass


def opened(model, data, engine, **preprocess):
    settings = DataSettings((str(data),), preprocess=Preprocess(**preprocess))
    return open_whole(str(model), settings, engine, TapSettings(), silent)


def found(job):
    """What passes of each kind find."""
    view, engine, neurons = job.splits.fit, job.engine, all_neurons(job.taps)
    table = gather(job.subject, view, take(neurons, np.array([1, 3, 4])), engine, "collect")
    shown = shown_pass(job.subject, view, engine, "test")
    logits = logits_pass(job.subject, view, engine, "base")
    return [table.T, table.Z, shown.Z, shown.classes, shown.contradicted, logits]


@pytest.fixture(params=["alike", "unequal"])
def samples(request, tmp_path):
    if request.param == "alike":
        return weak_cnn(tmp_path, n=100)
    made = unequal("frames", tmp_path, samples=20)
    return made.model, made.data


def test_a_killed_pass_goes_on_after_its_last_shard(samples, tmp_path, monkeypatch):
    whole = found(opened(*samples, ENGINE))
    engine, plain, saved = replace(ENGINE, work_dir=str(tmp_path), resume=True), kept_shards.save_arrays, []

    def save(file, arrays):
        plain(file, arrays)
        saved.append(file.name)
        raise Killed

    monkeypatch.setattr(kept_shards, "save_arrays", save)
    again = None
    for _ in range(40):
        job = opened(*samples, engine)
        try:
            again = found(job)
            break
        except Killed:
            continue
    assert again is not None and len(saved) == len(set(saved)) > 6
    for one, other in zip(whole, again, strict=True):
        np.testing.assert_array_equal(one, other)
    assert job.engine.stats.passes == [(f"{what}, cached", 0) for what in ("collect", "test", "base")]


def test_a_damaged_shard_is_made_again_with_those_behind_it(tmp_path):
    samples, engine = weak_cnn(tmp_path, n=100), replace(ENGINE, work_dir=str(tmp_path), resume=True)
    whole = found(opened(*samples, engine))
    damaged = list(tmp_path.glob("pass-*-00003.npz"))
    for one in damaged:
        one.write_bytes(one.read_bytes()[:-1])
    job = opened(*samples, engine)
    for one, other in zip(whole, found(job), strict=True):
        np.testing.assert_array_equal(one, other)
    assert job.engine.stats.passes == [("collect", 10), ("test", 10), ("base", 10)]


def test_another_model_other_samples_and_another_preparation_are_other_passes(tmp_path):
    model, data = weak_cnn(tmp_path, n=100)
    onnx.save(rounded(onnx.load(model), 4), tmp_path / "other.onnx")
    engine = replace(ENGINE, work_dir=str(tmp_path), resume=True)

    def made(job, view=None):
        job.engine.stats.passes.clear()
        logits_pass(job.subject, job.splits.fit if view is None else view, job.engine, "base")
        return job.engine.stats.passes

    job = opened(model, data, engine)
    half = View(job.splits.fit.dataset, job.splits.fit.rows[::2])
    assert made(job) == [("base", 100)]
    assert made(job, half) == [("base", 50)]
    assert made(opened(tmp_path / "other.onnx", data, engine)) == [("base", 100)]
    assert made(opened(model, data, engine, pixel_scale=0.5)) == [("base", 100)]
    assert made(opened(model, data, replace(engine, batch=8))) == [("base", 100)], (
        "its last digits may differ"
    )
    assert made(opened(model, data, replace(engine, resume=False))) == [("base", 100)]
    assert made(opened(model, data, engine)) == [("base, cached", 0)]
    unrecorded = opened(model, data, engine, pixel_scale=0.25)
    logits_pass(unrecorded.subject, half, unrecorded.engine.unrecorded, "try")
    assert made(unrecorded, half) == [("base", 50)], "what is only tried is not kept"


def test_neurons_are_told_apart_by_tap_number_and_order(tmp_path):
    neurons = all_neurons(opened(*weak_cnn(tmp_path, n=100), ENGINE).taps)
    others = [neurons, take(neurons, np.array([0, 1])), take(neurons, np.array([1, 0]))]
    others.append(take(neurons, np.array([0, len(neurons) - 1])))
    assert len({digest_of_neurons(each) for each in others}) == 4


def test_batches_that_memory_makes_smaller_are_not_gone_on_with_in_others(tmp_path):
    """Batches of another size may be computed in another order, with other last digits."""
    samples, plain = weak_cnn(tmp_path, n=100), replace(ENGINE, batch=None)
    known = {
        memory: opened(*samples, replace(plain, memory=memory)) for memory in (2**17, 2**18, 2**28, 2**32)
    }
    keys = [job.cache_key() for job in known.values()]
    assert len(set(keys)) == 3 and keys[2] == keys[3], "memory that limits no batch is no part of a key"
    asked = [opened(*samples, replace(ENGINE, memory=memory)).cache_key() for memory in known]
    assert len(set(asked)) == 1, "nor where a batch is asked for"
    work = tmp_path / "work"
    few, more = (replace(plain, memory=memory, work_dir=str(work), resume=True) for memory in (2**17, 2**18))
    found(opened(*samples, few))
    job = opened(*samples, more)
    logits_pass(job.subject, job.splits.fit, job.engine, "base")
    assert job.engine.stats.passes == [("base", 100)]
