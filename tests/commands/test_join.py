"""The main job, end to end, on models made here."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from onnxtweak import commands
from onnxtweak.engine import session
from onnxtweak.errors import InputError, VerificationError
from onnxtweak.method.selection.candidates import no_theta
from onnxtweak.model.edit.tweak_file import load
from onnxtweak.settings import (
    DataSettings,
    EngineSettings,
    JoinSettings,
    OutputSettings,
    TapSettings,
    TargetSettings,
)
from onnxtweak.stages import deliver
from onnxtweak.stages.open_job import prepare
from onnxtweak.stages.sample_notes import notes_on_tables, seen_in_training
from onnxtweak.types import Check, silent
from tests.support.plain_session import plain_session
from tests.support.weak_class import TARGET, carry_out, more_samples, weak_cnn


def digest(path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def run(model, samples, /, written=None, **changes):
    """A join with quick settings."""
    join = JoinSettings(count=(1, 4, 10), scale=(0, 1, 3, 10, 30))
    return carry_out(commands.join, model, samples, written, **{"settings": join, **changes})


def test_the_target_does_better_and_validation_keeps_its_overall_accuracy(mlp, tmp_path):
    model, data = mlp
    before = digest(model), digest(data)
    result = run(model, data, tmp_path / "out.onnx")
    assert (digest(model), digest(data)) == before
    assert result.choice.scale[0] > 0 and result.tweak["synapses"]
    assert result.after.target > result.before.target
    assert all(check.passed for check in result.checks)
    assert [check.name for check in result.checks] == [
        "neutral", "simulation", "checker", "unharmed", "answer", "reload",
    ]  # fmt: skip
    assert result.measured.split == "test" and result.samples == {"fit": 540, "validation": 180, "test": 180}
    best = max(trial.target for trial in result.choice.curve if trial.drop <= 0)
    assert best >= result.choice.curve[0].target


def test_a_model_is_opened_once_however_often_it_is_looked_at(mlp, tmp_path, monkeypatch):
    opened, real = Counter(), session.open_session

    def counted(model, folder, settings, where, **how):
        opened[model, where] += 1
        return real(model, folder, settings, where, **how)

    monkeypatch.setattr(session, "open_session", counted)
    run(*mlp, tmp_path / "out.onnx")
    assert set(opened.values()) == {1} and len(opened) < 10


def test_results_are_those_of_the_written_file(cnn, tmp_path):
    model, data = cnn
    x, y = more_samples(model, 200, seed=5)
    np.savez(tmp_path / "test.npz", x=x, y=y)
    settings = DataSettings(data=(str(data),), test=(str(tmp_path / "test.npz"),))
    result = run(model, data, tmp_path / "out.onnx", data=settings)
    for path, metrics in ((model, result.before), (tmp_path / "out.onnx", result.after)):
        session = plain_session(path)
        predicted = session.run(None, {session.get_inputs()[0].name: x})[0].argmax(axis=1)
        assert metrics.overall == pytest.approx((predicted == y).mean())
        assert metrics.target == pytest.approx((predicted == y)[y == TARGET].mean())
        assert metrics.confusion.sum() == 200


def test_two_runs_and_apply_give_the_same_bytes(mlp, tmp_path):
    model, data = mlp
    first = run(model, data, output=OutputSettings(str(tmp_path / "a.onnx"), str(tmp_path / "a.safetensors")))
    run(model, data, output=OutputSettings(str(tmp_path / "b.onnx"), str(tmp_path / "b.safetensors")))
    applied = commands.apply(
        model=str(model),
        tweak=str(tmp_path / "a.safetensors"),
        output=OutputSettings(str(tmp_path / "c.onnx")),
    )
    whole = (tmp_path / "a.onnx").read_bytes()
    assert (tmp_path / "b.onnx").read_bytes() == whole == (tmp_path / "c.onnx").read_bytes()
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()
    assert first.output.sha256 == applied.output.sha256 == digest(tmp_path / "a.onnx")
    assert load(tmp_path / "a.safetensors").base_sha256 == digest(model)


@pytest.mark.parametrize("theta", ["signed", "thesis"])
def test_backends_choose_the_same_synapses_in_the_same_order(cnn, theta):
    model, data = cnn
    join = JoinSettings(count=(5, 20), scale=(0, 2, 20), theta=theta)
    results = [
        run(
            model,
            data,
            engine=EngineSettings(backend=backend),
            settings=join,
            targets=TargetSettings(worst=2),
        )
        for backend in ("numpy", "numba")
    ]
    assert results[0].tweak == results[1].tweak
    assert results[0].tweak["synapses"]


def test_batch_and_memory_do_not_change_the_synapses(cnn):
    model, data = cnn
    whole = run(model, data)
    for engine in (
        EngineSettings(backend="numpy", batch=7),
        EngineSettings(backend="numba", memory=20_000),  # too little for all taps at once: several passes
    ):
        other = run(model, data, engine=engine)
        found = [(s["tap"], s["index"], s["count"]) for s in other.tweak["synapses"]]
        assert found == [(s["tap"], s["index"], s["count"]) for s in whole.tweak["synapses"]]
    assert sum(name.startswith("score, block") for name, _ in other.run.passes) > 1


def test_a_model_built_for_batch_one_gives_the_same_patch(tmp_path):
    dynamic, fixed = weak_cnn(tmp_path / "d", n=300), weak_cnn(tmp_path / "f", n=300, dynamic_batch=False)
    results = [run(*paths) for paths in (dynamic, fixed)]
    assert results[0].after.overall == results[1].after.overall
    places = [[(s["tap"], s["index"]) for s in r.tweak["synapses"]] for r in results]
    assert places[0] == places[1]


@pytest.mark.parametrize("tail", ["softmax", "logsoftmax"])
def test_behind_a_softmax_the_same_synapses_are_found(tmp_path, tail):
    plain, tailed = weak_cnn(tmp_path / "p", n=300), weak_cnn(tmp_path / "t", n=300, tail=tail)
    (tailed[1]).write_bytes(plain[1].read_bytes())
    results = [run(*paths) for paths in (plain, tailed)]
    assert results[0].tweak["synapses"] == results[1].tweak["synapses"]
    assert results[0].after.target == results[1].after.target


def test_pooled_neurons_are_channels(cnn, tmp_path):
    model, data = cnn
    result = run(model, data, tmp_path / "out.onnx", taps=TapSettings(pool=("mean",)))
    assert result.choice.neurons == 4 + 4 + 8
    assert all(check.passed for check in result.checks)


@pytest.mark.parametrize("criterion", ["count", "threshold", "lift", "net-gain"])
def test_every_criterion_makes_a_proven_file(mlp, tmp_path, criterion):
    model, data = mlp
    join = JoinSettings(count=(1, 5), scale=(0, 1, 5), criterion=criterion)
    result = run(model, data, tmp_path / "out.onnx", settings=join)
    assert result.choice.criterion == criterion
    assert all(check.passed for check in result.checks)


def test_the_exact_scale_is_at_least_as_good_as_the_grid_on_validation(mlp):
    model, data = mlp
    grid = run(model, data)
    exact = run(model, data, settings=JoinSettings(count=(1, 4, 10), exact_scale=True))
    best = [max(t.target for t in r.choice.curve if t.drop <= 0) for r in (grid, exact)]
    assert best[1] >= best[0]


def test_allowing_a_drop_never_lowers_the_target_on_validation(mlp):
    model, data = mlp
    best = []
    for drop in (0.0, 2.0, 10.0):
        join = JoinSettings(count=(1, 4, 10), scale=(0, 1, 3, 10, 30), max_overall_drop=drop)
        result = run(model, data, settings=join)
        best.append(max(t.target for t in result.choice.curve if t.drop <= drop))
    assert best == sorted(best)


def test_without_any_gain_the_output_is_the_base_and_it_says_so(mlp, tmp_path):
    model, data = mlp
    result = run(model, data, tmp_path / "out.onnx", settings=JoinSettings(count=(1,), scale=(0,)))
    assert digest(tmp_path / "out.onnx") == digest(model)
    assert any("base was best" in note for note in result.notes)
    assert result.measured.fixed == result.measured.broken == 0


def test_results_come_from_validation_where_there_is_no_test(mlp, tmp_path):
    model, data = mlp
    x, y = more_samples(model, 150, seed=9)
    np.savez(tmp_path / "val.npz", x=x, y=y)
    settings = DataSettings(data=(str(data),), val=(str(tmp_path / "val.npz"),))
    result = run(model, data, data=settings)
    assert result.measured.split == "validation" and result.after.samples == 150
    assert result.samples["test"] == 0


def test_a_failed_proof_leaves_nothing_behind(mlp, tmp_path, monkeypatch):
    model, data = mlp
    monkeypatch.setattr(deliver, "check_checker", lambda *_: Check("checker", False, "made to fail"))
    with pytest.raises(VerificationError, match="checker"):
        run(model, data, tmp_path / "out.onnx")
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_does_not_load_is_taken_away_again(mlp, tmp_path, monkeypatch):
    model, data = mlp
    monkeypatch.setattr(deliver, "check_reload", lambda *_: Check("reload", False, "made to fail"))
    with pytest.raises(VerificationError, match="reload"):
        run(model, data, tmp_path / "out.onnx")
    assert list(tmp_path.iterdir()) == []


def test_a_target_without_samples_is_refused_before_any_pass(mlp):
    model, data = mlp
    with pytest.raises(InputError, match="no class"):
        run(model, data, targets=TargetSettings(("nine",)))


def test_split_seed_is_part_of_the_result(mlp):
    model, data = mlp
    settings = DataSettings(data=(str(data),))
    one = run(model, data, data=settings)
    other = run(model, data, data=replace(settings, seed=1))
    assert one.before.overall != other.before.overall


@pytest.mark.parametrize(
    ("fit", "validation", "said"),
    [
        ((60, 5), (20, 0), False),  # by chance
        ((600, 50), (200, 0), True),
        ((1000, 990), (300, 250), True),
        ((1000, 900), (300, 262), False),  # too little to matter
        ((50, 50), (20, 20), True),
        ((50, 45), (20, 20), False),
    ],
)
def test_a_base_that_knows_its_fit_samples_is_told_from_chance(fit, validation, said):
    def right(samples, count):
        return np.arange(samples) < count

    assert bool(seen_in_training(right(*fit), right(*validation))) == said


@pytest.mark.parametrize(
    ("batch", "device", "said"), [(1, "cuda:0", True), (1, "cpu", False), (None, "cuda:0", False)]
)
def test_a_gpu_that_gets_one_sample_at_a_time_is_told(tmp_path, batch, device, said):
    model, data = weak_cnn(tmp_path, n=200)
    engine = EngineSettings(device="cpu", backend="numpy", threads=1)
    job = prepare(str(model), DataSettings((str(data),)), engine, TapSettings(), silent)
    job = replace(job, subject=replace(job.subject, batch=batch))
    job.engine.stats.device = device
    found = replace(no_theta(1, 1), predicted=job.splits.fit.labels)
    Z = np.eye(4)[job.splits.validation.labels]
    assert any("batch to 1" in note for note in notes_on_tables(job, found, Z, 1)) == said
