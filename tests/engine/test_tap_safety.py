"""Taps that would change the logits are found and left out."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from onnxtweak import commands
from onnxtweak.engine import tap_safety
from onnxtweak.engine.opened import opened_model
from onnxtweak.engine.subject import choose_taps, measured, watchable
from onnxtweak.engine.tap_safety import most_trials, readable_operators, safe_taps
from onnxtweak.errors import ModelError
from onnxtweak.settings import EngineSettings, TapSettings
from onnxtweak.types import Tap
from tests.support.nets import cnn3, mlp, random_inputs, reseed_light
from tests.support.tweaks import run, saved

ENGINE = EngineSettings(device="cpu", threads=1)


@pytest.fixture(scope="module")
def shufflenet(tmp_path_factory):
    """A model that ONNX Runtime fuses, a sample, and all of its taps by name."""
    model = saved(reseed_light("shufflenet"), tmp_path_factory.mktemp("shufflenet"))
    opened = opened_model(model, TapSettings())
    feeds = random_inputs(model.proto, 1)
    found = watchable(opened)
    subject, shapes = measured(opened, [c.name for c in found], feeds, ENGINE)
    taps = choose_taps(opened, found, shapes, TapSettings(("*",)))
    return subject, feeds, {tap.name: tap for tap in taps}


def test_activations_are_harmless(shufflenet):
    subject, feeds, taps = shufflenet
    relus = [tap for tap in taps.values() if tap.op == "Relu"]
    watched = safe_taps(subject, relus, feeds, ENGINE)
    assert watched.taps == tuple(relus) and watched.left_out == () and watched.notes == ()
    exposed = subject.exposed(relus)
    logits = run(exposed.proto, feeds, [exposed.logits])[0]
    np.testing.assert_array_equal(logits, run(subject.exposed().proto, feeds)[0])


def test_what_changes_the_logits_is_left_out_and_named(shufflenet):
    subject, feeds, taps = shufflenet
    first = next(iter(taps.values()))
    assert first.op == "Conv"
    mixed = [first, *(tap for tap in taps.values() if tap.op == "Relu")]
    watched = safe_taps(subject, mixed, feeds, ENGINE)
    assert watched.left_out == (first,)
    assert set(watched.taps) == set(mixed[1:])
    assert first.name in watched.notes[0]


def test_where_nothing_is_left_the_reason_is_told(shufflenet):
    subject, feeds, taps = shufflenet
    with pytest.raises(ModelError, match="changes the logits") as caught:
        safe_taps(subject, [next(iter(taps.values()))], feeds, ENGINE)
    assert "--taps" in caught.value.hint


def test_inspect_says_what_is_left_out(shufflenet):
    subject, _, taps = shufflenet
    first = next(iter(taps))
    found = commands.inspect(model=str(subject.model.path), taps=TapSettings(("activations", first)))
    assert any(first in note and "left out" in note for note in found.notes)
    assert first not in {tap.name for tap in found.taps}


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.float64])
def test_watching_activations_changes_nothing_in_any_type(dtype, tmp_path):
    # ONNX Runtime convolves no doubles on the CPU.
    net = mlp(dtype=dtype) if dtype == np.float64 else cnn3(4, 16, (4, 4, 8), dtype=dtype)
    model = saved(net, tmp_path)
    opened = opened_model(model, TapSettings())
    feeds = random_inputs(model.proto, 5)
    found = watchable(opened)
    subject, shapes = measured(opened, [c.name for c in found], feeds, ENGINE)
    taps = choose_taps(opened, found, shapes, TapSettings())
    assert {tap.dtype for tap in taps} == {np.dtype(dtype).name} and len(taps) > 1
    assert safe_taps(subject, taps, feeds, ENGINE).left_out == ()
    np.testing.assert_array_equal(run(subject.exposed(taps).proto, feeds)[0], run(model.proto, feeds)[0])


class Told:
    """What a search tells of itself."""

    def __init__(self):
        self.told = []

    def start(self, what, total, unit="samples"):
        self.told.append((what, total, unit))

    def advance(self, count):
        self.told.append(count)

    def finish(self):
        self.told.append("end")


@pytest.mark.parametrize(("nodes_tried", "trials"), [(None, 32), (10, 10), (1, 4)])
def test_large_graphs_get_fewer_trials_and_the_search_is_shown(shufflenet, monkeypatch, nodes_tried, trials):
    """Each trial starts two sessions of the whole graph, which takes seconds where it is deep."""
    subject, feeds, taps = shufflenet
    if nodes_tried is not None:
        nodes = len(subject.model.graph.nodes)
        monkeypatch.setattr(tap_safety, "_MOST_NODES", nodes_tried * nodes)
    assert most_trials(subject) == trials
    tried = []
    monkeypatch.setattr(tap_safety._TapTrial, "passes", lambda trial, group: _fails(trial, group, tried))
    told = Told()
    with pytest.raises(ModelError, match="changes the logits"):
        safe_taps(subject, list(taps.values()), feeds, ENGINE, told)
    assert len(tried) == trials
    assert told.told == [
        ("search taps that leave the logits alone", trials - 1, "groups"), *[1] * (trials - 1), "end",
    ]  # fmt: skip


def _fails(trial, group, tried):
    trial.count += 1
    tried.append(group)
    return False


def test_taps_for_which_no_trial_was_left_are_left_out_and_the_rest_is_safe(shufflenet, monkeypatch):
    subject, feeds, taps = shufflenet
    monkeypatch.setattr(tap_safety, "_MOST_NODES", 1)
    convs = [tap for tap in taps.values() if tap.op == "Conv"]
    mixed = [convs[0], *(tap for tap in taps.values() if tap.op == "Relu")]
    watched = safe_taps(subject, mixed, feeds, ENGINE)
    assert set(watched.taps) == set(mixed[1:]) and watched.left_out == (convs[0],)


def test_operators_are_tried_once_each(shufflenet, monkeypatch):
    subject, feeds, taps = shufflenet
    passes, tried = tap_safety._TapTrial.passes, []

    def counted(trial, group):
        tried.append({tap.op for tap in group})
        return passes(trial, group)

    monkeypatch.setattr(tap_safety._TapTrial, "passes", counted)
    told = Told()
    found = readable_operators(subject, list(taps.values()), feeds, ENGINE, told)
    assert "Relu" in found and "Conv" not in found
    assert len(tried) <= 6 and all(len(ops) == 1 for ops in tried)
    assert told.told[0] == ("try operators", len(tried), "operators") and told.told[-1] == "end"


class Tries:
    """Trials of groups of taps, where some names are unsafe together."""

    def __init__(self, unsafe):
        self.subject = SimpleNamespace(model=SimpleNamespace(graph=SimpleNamespace(nodes=range(100))))
        self.unsafe, self.count, self.tried = unsafe, 0, []

    def passes(self, group):
        self.count += 1
        self.tried.append([tap.name for tap in group])
        return not any(unsafe <= {tap.name for tap in group} for unsafe in self.unsafe)


@pytest.mark.parametrize(
    ("unsafe", "left", "tried"),
    [
        ([{"r5"}], ["r5"], ["r0123", "r4567", "r45", "r67", "r4", "r5"]),
        ([{"a"}], ["a"], []),
        ([{"r0", "a"}], ["a"], []),
        ([{"r1", "r6"}], ["r4", "r5", "r6", "r7"], ["r0123", "r4567"]),
    ],
)
def test_unsafe_taps_are_searched_by_operator_and_then_by_halves(unsafe, left, tried):
    """Groups that are safe alone need not be so together: then each is added to those before it."""
    taps = [Tap(f"r{k}", "Relu", (1,)) for k in range(8)] + [Tap("a", "Add", (1,))]
    trial = Tries(unsafe)
    kept = tap_safety._search(trial, taps, Told())
    assert [tap.name for tap in taps if tap not in kept] == left
    halves = [[f"r{k}" for k in group[1:]] for group in tried]
    assert trial.tried[: 2 + len(tried)] == [[f"r{k}" for k in range(8)], ["a"], *halves]
