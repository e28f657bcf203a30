"""Synaptic retraining, end to end: once, by a schedule, and asked for the impossible."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from onnxtweak import commands
from onnxtweak.errors import InputError
from onnxtweak.goal import ResolvedGoal
from onnxtweak.method.retrain.schedule import NeuronPool, from_pool, parse_schedule, run_schedule
from onnxtweak.method.solvers import multi_target
from onnxtweak.method.table import all_neurons, gather, take
from onnxtweak.patch import Tweak
from onnxtweak.settings import (
    DataSettings,
    EngineSettings,
    JoinSettings,
    RetrainSettings,
    TapSettings,
    TargetSettings,
)
from onnxtweak.stages.checks import as_subject
from onnxtweak.stages.deliver import splice_in
from onnxtweak.stages.open_job import prepare
from onnxtweak.types import silent
from tests.support.plain_session import plain_session
from tests.support.weak_class import carry_out

JOIN = JoinSettings(count=(1, 4, 10), scale=(0, 1, 3, 10, 30))
# What a run of the base over samples is called; everything else reads the tweaked file, or the test samples.
BASE_PASSES = ["score", "collect", "validate"]


def run(model, samples, /, written=None, **changes):
    """Retraining with quick settings."""
    return carry_out(commands.retrain, model, samples, written, **{"join": JOIN, **changes})


def base_passes(result):
    return [name for name, _ in result.run.passes if name in (*BASE_PASSES, "count", "find the worst")]


@pytest.mark.parametrize("penalty", [1.0, 2.0])
def test_the_target_does_better_and_the_file_is_what_the_tables_foretold(mlp, tmp_path, penalty):
    result = run(*mlp, tmp_path / "out.onnx", settings=RetrainSettings(penalty=penalty))
    assert result.after.target > result.before.target
    assert [c.name for c in result.checks] == [
        "neutral",
        "simulation",
        "checker",
        "unharmed",
        "answer",
        "reload",
    ]
    assert all(check.passed for check in result.checks)
    assert result.command == result.tweak["kind"] == "retrain"
    assert result.tweak["synapses"] and all(np.isfinite(s["weight"]) for s in result.tweak["synapses"])
    assert base_passes(result) == BASE_PASSES


def test_several_targets_are_retrained_together(cnn):
    result = run(*cnn, targets=TargetSettings(worst=2))
    assert len(result.targets) == len(result.choice.n) == 2
    assert result.after.target >= result.before.target


def test_scale_zero_is_always_among_the_points(mlp):
    result = run(*mlp, settings=RetrainSettings(scale=(1000.0,)))
    assert result.choice.curve[0].drop <= 0 or result.choice.curve[0].scale == 0
    assert result.after.overall >= result.before.overall - 0.1


def test_a_schedule_runs_without_running_the_base_again(cnn, tmp_path):
    schedule = RetrainSettings(schedule="J3 R3 J2 R2 J1 R1 J1")
    result = run(*cnn, tmp_path / "out.onnx", targets=TargetSettings(), settings=schedule)
    assert base_passes(result) == BASE_PASSES
    assert result.tweak["synapses"]
    assert {int(name) for name in result.targets} == {s["target"] for s in result.tweak["synapses"]}
    assert sum(note.startswith(("J", "R")) and "overall" in note for note in result.notes) == 7
    x = np.load(cnn[1])["x"][:3]
    assert plain_session(tmp_path / "out.onnx").run(None, {"input": x})[0].shape == (3, 4)


def test_a_schedule_of_one_join_is_a_join(cnn):
    """The pool's first stage sees what a join sees: the same synapses come out."""
    joined = commands.join(
        model=str(cnn[0]),
        data=DataSettings(data=(str(cnn[1]),)),
        targets=TargetSettings(("1", "2")),
        settings=JOIN,
    )
    scheduled = run(*cnn, targets=TargetSettings(("1", "2")), settings=RetrainSettings(schedule="J2"))
    places = [
        sorted((s["tap"], s["index"], s["target"], round(s["weight"], 9)) for s in r.tweak["synapses"])
        for r in (joined, scheduled)
    ]
    assert places[0] == places[1] != []


def test_a_schedule_on_tables_is_a_schedule_with_new_extraction(cnn):
    """Oracle 12: every stage again on what the tweaked model itself gives, from the file's own graph."""
    job = prepare(
        str(cnn[0]), DataSettings(data=(str(cnn[1]),)), EngineSettings(backend="numpy"), TapSettings(), silent
    )
    neurons = all_neurons(job.taps)
    views = (job.splits.fit, job.splits.validation)

    def extracted(subject):
        return tuple(gather(subject, view, neurons, job.engine, "extract") for view in views)

    tables = extracted(job.subject)
    pool = NeuronPool(*tables, ResolvedGoal(np.arange(4)), job.names)

    def from_the_file(grown):
        columns, synapses = grown.flat()
        if not len(columns):
            return tuple(table.Z for table in tables)
        tweak = Tweak(
            kind="retrain",
            base_sha256=job.opened.model.base_sha256,
            logits=job.subject.logits,
            classes=4,
            neurons=take(neurons, columns),
            patch=synapses,
        )
        again = extracted(as_subject(job.subject, splice_in(job.subject, tweak)))
        for table, same in zip(tables, again, strict=True):
            assert np.array_equal(table.T, same.T)  # V never changes
        return tuple(table.Z for table in again)

    stages = parse_schedule("J3 R3 J2 R2 J1")
    ways = [
        run_schedule(stages, pool, JOIN, RetrainSettings(), job.engine, logits)[0]
        for logits in (from_pool(pool), from_the_file)
    ]
    assert ways[0].column and ways[0].column.keys() == ways[1].column.keys()
    for j in ways[0].column:
        assert np.array_equal(ways[0].column[j], ways[1].column[j])
        assert ways[0].weight[j] == pytest.approx(ways[1].weight[j], rel=1e-3, abs=1e-6)


@pytest.mark.parametrize(
    "changes, said",
    [
        ({"settings": RetrainSettings(schedule="J2 R2 Q1")}, "'Q1' is not a stage"),
        ({"settings": RetrainSettings(schedule="R2")}, "nothing to retrain"),
        ({"targets": TargetSettings()}, "no target class"),
        ({"targets": TargetSettings(("99",))}, "no class '99'"),
    ],
)
def test_bad_requests_are_refused_and_nothing_is_written(mlp, tmp_path, changes, said):
    with pytest.raises(InputError) as caught:
        run(*mlp, tmp_path / "out.onnx", **changes)
    assert said in str(caught.value) and caught.value.hint
    assert not (tmp_path / "out.onnx").exists()


@pytest.mark.parametrize("schedule", [None, "J2 R2 J1"])
def test_neurons_may_be_ranked_by_their_net_gain(cnn, tmp_path, schedule):
    join = replace(JOIN, criterion="net-gain")
    result = run(*cnn, tmp_path / "out.onnx", join=join, settings=RetrainSettings(schedule=schedule))
    assert "net-gain" in result.choice.criterion
    assert result.tweak["synapses"] and all(check.passed for check in result.checks)
    other = run(*cnn, settings=RetrainSettings(schedule=schedule))
    places = [{(s["tap"], s["index"]) for s in made.tweak["synapses"]} for made in (result, other)]
    assert places[0] != places[1]


def test_more_synapses_than_neurons_are_as_many_as_there_are(mlp):
    join = JoinSettings(count=(100_000,), scale=(0, 1))
    result = run(*mlp, join=join)
    assert 0 < len(result.tweak["synapses"]) <= result.choice.neurons
    assert any(f"only {result.choice.neurons} neurons are watched" in note for note in result.notes)
    assert all(np.isfinite(s["weight"]) for s in result.tweak["synapses"])


def test_a_retraining_that_does_not_converge_is_said_and_stays_finite(mlp, monkeypatch):
    monkeypatch.setattr(multi_target, "_ITERATIONS", 2)
    result = run(*mlp, targets=TargetSettings(worst=3), settings=RetrainSettings(ridge=(0.0,)))
    assert any("stopped after 2 iterations before it had converged" in note for note in result.notes)
    assert all(np.isfinite(s["weight"]) for s in result.tweak["synapses"])


def test_samples_that_the_base_knows_by_heart_are_said(mlp, tmp_path):
    model, data = mlp
    with np.load(data) as held:
        x, y = held["x"], held["y"]
    session = plain_session(model)
    known = session.run(None, {session.get_inputs()[0].name: x})[0].argmax(axis=1) == y
    np.savez(tmp_path / "known.npz", x=x[known], y=y[known])
    for make in (commands.retrain, commands.fit):
        made = carry_out(make, model, tmp_path / "known.npz")
        assert any("right on all fit and validation samples" in note for note in made.notes)
        assert made.after.overall >= 0.99
