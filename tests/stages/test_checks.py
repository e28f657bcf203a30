"""What a file has to show before it is delivered, and on how few samples at once: large ones take memory."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from onnxtweak.engine import session as sessions
from onnxtweak.engine import tap_safety
from onnxtweak.engine.latency import Latency
from onnxtweak.engine.passes import bytes_at_positions, plan_of
from onnxtweak.engine.session import Session
from onnxtweak.engine.subject import few_samples, smallest_samples
from onnxtweak.engine.tap_safety import neutral_samples, trial_samples
from onnxtweak.goal import ResolvedGoal
from onnxtweak.model.edit.splice import splice
from onnxtweak.model.file.tweak_metadata import tweaks_inside
from onnxtweak.settings import DataSettings, EngineSettings, TapSettings
from onnxtweak.stages import checks, report_data
from onnxtweak.stages.checks import MANY, check_digests, check_reload
from onnxtweak.stages.open_job import prepare
from onnxtweak.stages.other_models import quantising
from onnxtweak.types import Tap, silent
from tests.support import nets, tweaks
from tests.support.damage import without_digests
from tests.support.unequal import unequal


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """A job on pictures of different sizes."""
    made = unequal("pixels", tmp_path_factory.mktemp("pictures"), samples=40)
    settings = EngineSettings(device="cpu", backend="numpy", threads=1)
    return prepare(str(made.model), DataSettings((str(made.data),)), settings, TapSettings(), silent)


def reloaded(job):
    """The check of the base itself as the written file."""
    feeds = smallest_samples(job.opened, job.splits.fit, MANY)
    written = replace(job.subject)
    return check_reload(job.opened.model.path, job.subject, written, feeds, job.engine.settings)


@pytest.mark.parametrize(("values", "together"), [(1 << 25, 3), (0, 2)])
def test_a_file_has_to_take_several_of_the_smallest_samples_at_once(pictures, monkeypatch, values, together):
    fed, run, freed = [], Session.run, []
    monkeypatch.setattr(checks, "malloc_trim", lambda: freed.append(len(fed)))

    def watched(session, feeds, names=None):
        fed.extend(x.shape for x in feeds.values())
        return run(session, feeds, names)

    monkeypatch.setattr(Session, "run", watched)
    monkeypatch.setattr(checks, "_MOST_VALUES", values)
    check = reloaded(pictures)
    assert check.passed and check.detail.endswith(f"runs with batch 1 and {together}")
    sizes = [shapes[0] for shapes in pictures.splits.fit.dataset.by_part.shapes]
    assert {shape[0] for shape in fed} == {1, together}
    assert freed == ([] if values else [0])  # where samples are large: memory, before they are run
    assert {shape[1:] for shape in fed} == {min(sizes, key=np.prod)}


def test_a_written_file_is_opened_once(pictures, monkeypatch):
    assert reloaded(pictures).passed  # its logits, whose session is kept
    opened, open_session = [], checks.open_session

    def noted(model, *arguments, **words):
        opened.append(model)
        return open_session(model, *arguments, **words)

    for module in (checks, sessions):
        monkeypatch.setattr(module, "open_session", noted)
    assert reloaded(pictures).passed
    assert opened == [pictures.opened.model.path]


@pytest.mark.parametrize("row", [0, -1])
def test_a_batch_may_change_no_position_of_a_sample(pictures, monkeypatch, row):
    run = checks.run_batch

    def changed(subject, feeds, engine, slot=None):
        logits, device = run(subject, feeds, engine, slot)
        samples = len(next(iter(feeds.values())))
        if subject is not pictures.subject and samples > 1:
            logits[: len(logits) // samples][row] += 1
        return logits, device

    monkeypatch.setattr(checks, "run_batch", changed)
    check = reloaded(pictures)
    assert not check.passed and "between which logits differ" in check.detail


def test_of_large_pictures_one_at_a_time_is_looked_at(pictures):
    large = replace(pictures.subject, sizes=(512, 512), shape=(21,), maps=23_000_000, largest=5_600_000)
    assert neutral_samples(large) == trial_samples(large) == 1
    small = replace(large, sizes=(8, 8), maps=10_000, largest=1000)
    assert neutral_samples(small) == 256 and trial_samples(small) == 128
    one = replace(large, sizes=())
    assert neutral_samples(one) == 256 and trial_samples(one) == 3


def test_a_pass_counts_what_the_model_holds_of_a_picture(pictures):
    large = replace(pictures.subject, sizes=(512, 512), shape=(21,), maps=23_000_000, largest=5_600_000)
    engine = replace(pictures.engine, settings=EngineSettings(memory=2 * 10**9))
    assert plan_of(large, engine, 0, 500, "cpu").batch == 1
    assert plan_of(replace(large, maps=1), engine, 0, 500, "cpu").batch == 4


def test_taps_at_positions_are_tried_on_as_many_samples_as_they_leave_room_for(pictures, monkeypatch):
    channels = sum(tap.neurons for tap in pictures.taps) * pictures.subject.positions
    monkeypatch.setattr(tap_safety, "_MOST_VALUES", channels)
    monkeypatch.setattr(tap_safety, "_FEWEST", 1)
    plain, given = pictures.subject.run, []

    class Noted(type(pictures.subject)):
        def run(self, session, output, samples, slot=None):
            given.append({len(rows) for rows in samples.values()})
            return plain(session, output, samples, slot)

    feeds = few_samples(pictures.opened, pictures.splits.fit, 2)
    assert all(len(rows) == 2 for rows in feeds.values())
    noted = Noted(**vars(pictures.subject))
    tap_safety.safe_taps(noted, pictures.taps, feeds, pictures.engine.settings)
    assert given[0] == {1}


def test_what_a_picture_takes_is_said_before_the_work(pictures):
    reserved, taps = pictures.engine.reserved_bytes, pictures.taps
    picture = bytes_at_positions(pictures.subject, taps)
    channels = sum(tap.neurons for tap in taps) + pictures.subject.classes
    assert picture == 8 * (channels * pictures.subject.positions + 2 * pictures.subject.maps)
    assert bytes_at_positions(replace(pictures.subject, sizes=()), taps) == 0
    enough = math.ceil((256 * 2**20 + reserved + picture) / 0.75)
    for memory, short in ((enough - picture, True), (enough + 4, False)):
        settings = replace(pictures.engine.settings, memory=memory)
        model, data = str(pictures.opened.model.path), pictures.origin.data
        notes = prepare(model, data, settings, TapSettings(), silent).splits.notes
        assert any("may be exceeded" in note for note in notes) == short


def test_of_many_positions_some_tell_what_rounding_would_lose(pictures, monkeypatch):
    added = np.zeros((64, 2), np.float32)
    added[::2, 1] = 1  # of the other rows all is lost
    lost = np.ones((64, 2), np.float32) * np.arange(2, dtype=np.float32)
    scores = iter([np.zeros_like(added), lost, added, np.zeros_like(added), lost, added])
    monkeypatch.setattr(quantising, "run_batch", lambda *_: (next(scores), "cpu"))
    of_none = np.zeros((0,))
    job = pictures

    def notes():
        return quantising.notes_on_quantising(job.subject, job.subject, {"x": of_none}, job.engine.settings)

    assert notes()
    monkeypatch.setattr(quantising, "_MOST_ROWS", 32)
    assert not notes()


def test_latency_is_measured_on_one_of_the_smallest(pictures, monkeypatch):
    fed = []
    monkeypatch.setattr(
        report_data, "paired_latency", lambda *given: fed.append(given[2]) or Latency(1, 1, 0, 1)
    )
    view, goal = pictures.splits.validation, ResolvedGoal(np.empty(0, np.int64))
    report_data.of_runs(pictures, pictures.subject, view, (view.labels, view.labels), goal)
    sizes = [shapes[0] for shapes in view.dataset.by_part.shapes]
    assert [x.shape for feeds in fed for x in feeds.values()] == [(1, *min(sizes, key=np.prod))]


def test_digests_tell_which_parts_or_else_which_bytes_were_changed(tmp_path):
    base, taps = tweaks.saved(nets.mlp(), tmp_path), [Tap("act1", "Relu", (16,))]
    once = splice(base, tweaks.random_tweak(base, taps, 4, "linear"))
    first = base.holding(once)
    twice = splice(first, tweaks.random_tweak(first, taps, 4, "mlp", seed=1))
    model = base.holding(twice)
    inside = tweaks_inside(model.proto)

    def said(*files, of=model):
        return [(check.detail, check.passed) for check in check_digests(of, inside, files)]

    whole = [("all that tweaks 1, 2 added, and the record, are as written", True)]
    assert said(twice, once) == said() == whole
    other = [bytes([data[0] ^ 1]) + data[1:] for data in (twice, once)]
    both = "the bytes of tweak 2 were changed, the bytes of tweak 1 were changed"
    assert said(*other) == [(both, False)]
    assert said(twice, other[1]) == [("the bytes of tweak 1 were changed", False)]
    assert said(other[0]) == [("the bytes of tweak 2 were changed", False)]
    damaged = model.proto.__deepcopy__()
    for node in damaged.graph.node:
        if node.name.startswith("onnxtweak/"):
            node.doc_string = "mine"
    count = sum(node.doc_string == "mine" for node in damaged.graph.node)
    ((detail, passed),) = said(*other, of=base.holding(damaged.SerializeToString()))
    assert not passed and "bytes" not in detail and detail.endswith(f" and {count - 5} more")
    assert detail.count("was changed") == 5
    old = base.holding(without_digests(once))
    (unchecked,) = check_digests(old, tweaks_inside(old.proto), (old.data,))
    assert "recorded no digests" in unchecked.reason
