"""Fit, end to end, on models made here."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from onnxtweak import commands
from onnxtweak.engine.machine.large_arrays import is_mapped
from onnxtweak.errors import InputError, UsageError
from onnxtweak.model.edit import tweak_file
from onnxtweak.settings import (
    DataSettings,
    EngineSettings,
    FitSettings,
    OutputSettings,
    TapSettings,
    TargetSettings,
)
from onnxtweak.stages import gather
from onnxtweak.stages.choose_neurons import choose_neurons
from onnxtweak.stages.gather import gather_tables, learning_samples
from onnxtweak.stages.open_for_tables import open_for_tables
from onnxtweak.types import silent
from tests.support.plain_session import plain_session
from tests.support.weak_class import carry_out, more_samples


def run(model, samples, /, written=None, **changes):
    """A fit."""
    return carry_out(commands.fit, model, samples, written, **changes)


@pytest.mark.parametrize("kind", ["mlp", "cnn"])
def test_the_target_does_better_and_the_file_is_what_is_reported(kind, mlp, cnn, tmp_path):
    model, data = {"mlp": mlp, "cnn": cnn}[kind]
    x, y = more_samples(model, 300, seed=5)
    np.savez(tmp_path / "test.npz", x=x, y=y)
    settings = DataSettings(data=(str(data),), test=(str(tmp_path / "test.npz"),))
    result = run(model, data, tmp_path / "out.onnx", data=settings)
    assert all(check.passed for check in result.checks)
    assert result.after.target > result.before.target
    assert result.command == "fit" and result.tweak["synapses"] is None
    session = plain_session(tmp_path / "out.onnx")
    name = session.get_inputs()[0].name
    predicted = np.concatenate([session.run(None, {name: x[k : k + 1]})[0] for k in range(len(x))])
    assert result.after.overall == pytest.approx((predicted.argmax(axis=1) == y).mean())


def test_a_map_is_read_as_channels_and_as_positions(cnn, tmp_path):
    model, data = cnn
    settings = FitSettings(max_overall_drop=5)
    auto = run(model, data, tmp_path / "auto.onnx", settings=settings)
    named = run(
        model,
        data,
        tmp_path / "named.onnx",
        settings=settings,
        taps=TapSettings(("penultimate",), pool=("none",)),
    )
    assert auto.choice.neurons > named.choice.neurons > 0
    assert any("channel means" in note for note in auto.notes)


def test_more_neurons_than_a_table_may_hold_are_screened(cnn, tmp_path):
    model, data = cnn
    result = run(
        model,
        data,
        taps=TapSettings(("activations",)),
        settings=FitSettings(neurons=50, max_overall_drop=5),
    )
    assert result.choice.neurons == 352
    assert ("screen", result.samples["fit"]) in result.run.passes
    assert max(result.choice.n) <= 50
    assert any("judged on validation alone" in note for note in result.notes)


def test_without_a_test_split_validation_is_not_fitted_to(mlp, tmp_path):
    model, data = mlp
    x, y = more_samples(model, 300, seed=6)
    np.savez(tmp_path / "val.npz", x=x, y=y)
    settings = DataSettings(data=(str(data),), val=(str(tmp_path / "val.npz"),))
    linear = FitSettings(hidden=0)
    result = run(model, data, data=settings, settings=linear)
    assert result.measured.split == "validation"
    spoiled = y[::-1].copy()
    np.savez(tmp_path / "val.npz", x=x, y=spoiled)
    other = run(model, data, data=settings, settings=linear)
    assert other.choice.scale == result.choice.scale and other.choice.curve == result.choice.curve


def test_a_dense_answer_can_be_saved_and_applied(mlp, tmp_path):
    model, data = mlp
    output = OutputSettings(str(tmp_path / "a.onnx"), str(tmp_path / "a.safetensors"))
    run(model, data, output=output)
    again = OutputSettings(str(tmp_path / "b.onnx"))
    commands.apply(model=str(model), tweak=str(tmp_path / "a.safetensors"), output=again)
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()


def test_a_certificate_is_set_on_validation_and_weakens_the_patch(mlp, tmp_path):
    model, data = mlp
    x, y = more_samples(model, 500, seed=8)
    np.savez(tmp_path / "test.npz", x=x, y=y)
    settings = DataSettings(data=(str(data),), test=(str(tmp_path / "test.npz"),))
    loose = FitSettings(max_overall_drop=10, max_class_drop=None)
    free = run(model, data, data=settings, settings=replace(loose, certify=0.9))
    bound = run(model, data, data=settings, settings=replace(loose, certify=0.03))
    assert any("certified" in note for note in bound.notes)
    assert bound.measured.broken < free.measured.broken
    assert bound.measured.broken / 500 < 0.05
    none = run(model, data, data=settings, settings=replace(loose, certify=0.001))
    assert none.measured.fixed == none.measured.broken == 0
    assert any("cannot certify" in note for note in none.notes)


@pytest.mark.parametrize("budget", [1, 5, 40])
def test_a_budget_limits_what_is_written(mlp, tmp_path, budget):
    model, data = mlp
    result = run(model, data, tmp_path / "out.onnx", settings=FitSettings(budget=budget, max_overall_drop=5))
    assert 0 < result.tweak["parameters"] <= budget
    assert all(check.passed for check in result.checks)


def test_a_budget_that_holds_no_bias_for_each_target_leaves_the_base(mlp, tmp_path):
    model, data = mlp
    result = run(
        model, data, tmp_path / "out.onnx", targets=TargetSettings(worst=2), settings=FitSettings(budget=1)
    )
    assert result.tweak["parameters"] == 0 and result.measured.fixed == result.measured.broken == 0
    assert any("does not cover a bias for each of 2 targets" in note for note in result.notes)


def test_synapses_can_be_limited_alone(mlp):
    model, data = mlp
    result = run(model, data, settings=FitSettings(synapses=6, max_overall_drop=5))
    assert 0 < result.tweak["parameters"] <= 6 + 5  # biases beside them


@pytest.mark.parametrize("kind", ["mlp", "cnn"])
def test_without_a_target_the_overall_accuracy_is_raised(kind, mlp, cnn, tmp_path):
    model, data = {"mlp": mlp, "cnn": cnn}[kind]
    x, y = more_samples(model, 600, seed=5)
    np.savez(tmp_path / "test.npz", x=x, y=y)
    settings = DataSettings(data=(str(data),), test=(str(tmp_path / "test.npz"),))
    result = run(model, data, tmp_path / "out.onnx", data=settings, targets=TargetSettings())
    assert set(result.targets) == set(result.classes)
    assert result.after.overall == result.after.target > result.before.overall + 0.02
    assert all(check.passed for check in result.checks)


def test_too_little_memory_is_said(cnn):
    model, data = cnn
    with pytest.raises(InputError) as caught:
        run(model, data, engine=EngineSettings(backend="numpy", memory=1000))
    assert caught.value.hint


@pytest.mark.parametrize(
    ("kind", "pool", "words"),
    [
        ("mlp", "none", {"hidden units"}),
        ("cnn", "none", {"channel means", "channel means and other statistics"}),
        ("cnn", "std", {"channel deviations"}),
        ("cnn", "max", {"channel maxima"}),
        ("cnn", "mean", {"channel means"}),
    ],
)
def test_what_is_read_is_called_what_it_is(kind, pool, words, mlp, cnn):
    """And with --pool no map is read twice, once as itself and once as the penultimate."""
    model, data = {"mlp": mlp, "cnn": cnn}[kind]
    taps = TapSettings((), pool=(pool,))
    job = open_for_tables(str(model), DataSettings((str(data),)), EngineSettings(), taps, silent)
    found = choose_neurons(job, taps, 500)
    assert set(found.families) == words
    assert len(set(found.neurons.taps)) == len(found.neurons.taps)
    assert len(found.neurons) == found.scored


def opened(model, data):
    """A job, and the neurons that a fit watches."""
    samples, taps = DataSettings(data=(str(data),)), TapSettings(taps=())
    job = open_for_tables(str(model), samples, EngineSettings(), taps, silent)
    return job, choose_neurons(job, taps, 2000).neurons


def test_mirrored_copies_are_gathered_where_they_may_help_and_only_there(mlp, cnn, tmp_path):
    model, data = cnn
    found = run(model, data, settings=FitSettings(hidden=0))
    assert [name for name, _ in found.run.passes].count("mirror") == 2  # of fit and of validation

    def mirrored(**changes):
        job, watched = opened(model, data)
        learning_samples(job, gather_tables(job, watched), watched, FitSettings(**changes))
        return [name for name, _ in job.engine.stats.passes].count("mirror")

    assert mirrored() == mirrored(mirror="on") == 2
    assert mirrored(mirror="off") == mirrored(budget=40) == 0
    assert mirrored(certify=0.2) == 1  # validation is kept
    model, data = mlp
    assert mirrored() == 0
    with pytest.raises(UsageError, match="takes no images") as caught:
        run(model, data, tmp_path / "out.onnx", settings=FitSettings(mirror="on"))
    assert caught.value.where == "--mirror on" and not (tmp_path / "out.onnx").exists()


def test_a_patch_learnt_from_mirrored_copies_is_what_is_written(cnn, tmp_path):
    model, data = cnn
    result = run(model, data, tmp_path / "out.onnx", settings=FitSettings(mirror="on", max_class_drop=None))
    assert result.tweak["kind"] != "none" and all(check.passed for check in result.checks)


def shown(model, x):
    """What the model decides (N,)."""
    session = plain_session(str(model))
    return session.run(None, {session.get_inputs()[0].name: x})[0].argmax(axis=1)


def test_what_the_base_knows_by_heart_is_judged_on_mirror_images_where_asked(cnn, tmp_path):
    model, data = cnn
    x = np.load(data)["x"]
    np.savez(tmp_path / "known.npz", x=x, y=shown(model, x))
    said = {}
    for known, mirror in ((True, "auto"), (True, "on"), (False, "auto"), (False, "on")):
        path = tmp_path / "known.npz" if known else data
        job, watched = opened(model, path)
        tables = gather_tables(job, watched)
        _, notes = learning_samples(job, tables, watched, FitSettings(mirror=mirror))
        said[known, mirror] = [note.split("; ")[-1] for note in notes if "of their mirror images" in note]
    advice = "if images are as likely the other way round, --mirror on judges by these"
    assert said[True, "auto"] == [advice] and said[True, "on"] == ["choices are judged on these"]
    assert said[False, "auto"] == said[False, "on"] == []


def test_mirrored_copies_lie_in_a_file_where_memory_holds_one_table_alone(cnn, monkeypatch):
    job, watched = opened(*cnn)
    learnt = len(job.splits.fit) + len(job.splits.validation)
    monkeypatch.setattr(
        gather, "most_neurons", lambda samples, engine: len(watched) if samples == learnt else 0
    )
    learning, _ = learning_samples(job, gather_tables(job, watched), watched, FitSettings())
    assert learning.copies is not None and is_mapped(learning.copies.T) and not is_mapped(learning.table.T)
    assert is_mapped(learning.with_copies(learning.folds(3, 0))[0].T)


def test_the_tweak_of_a_model_in_single_precision_is_no_more_precise(mlp, tmp_path):
    model, data = mlp
    output = OutputSettings(str(tmp_path / "out.onnx"), str(tmp_path / "out.safetensors"))
    run(model, data, output=output)
    tweak = tweak_file.load(tmp_path / "out.safetensors")
    assert {array.dtype for array in tweak.patch.arrays.values()} == {np.dtype("float32")}
    again = OutputSettings(str(tmp_path / "again.onnx"))
    commands.apply(model=str(model), tweak=str(tmp_path / "out.safetensors"), output=again)
    assert (tmp_path / "again.onnx").read_bytes() == (tmp_path / "out.onnx").read_bytes()
