"""Every method on one small model, end to end."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from onnxtweak import commands
from onnxtweak.cli.main import main
from onnxtweak.errors import DataError, InputError
from onnxtweak.method.compare.methods import METHODS
from onnxtweak.report import schema
from onnxtweak.report.text import comparison, layout
from onnxtweak.settings import (
    DataSettings,
    FitSettings,
    JoinSettings,
    OutputSettings,
    TargetSettings,
)
from tests.support.results import a_comparison
from tests.support.weak_class import carry_out, more_samples


def run(model, samples, **changes):
    """A comparison with quick settings."""
    quick = {"join": JoinSettings(count=(1, 5), scale=(0, 1, 10)), "settings": FitSettings(hidden=8)}
    return carry_out(commands.compare, model, samples, **{**quick, **changes})


@pytest.fixture(scope="module")
def made(cnn):
    return run(*cnn)


def test_every_method_takes_part_or_says_why_not(made):
    assert [one.method for one in made.standings] == list(METHODS)
    for one in made.standings:
        assert not np.isnan(one.overall[0]) or one.note


def test_the_bias_raises_the_target_and_is_what_others_are_compared_with(made):
    bias = next(one for one in made.standings if one.method == "bias")
    assert bias.at[0][0] >= made.before["target"][0]
    assert all(gain[0] == 0 for gain in bias.over_bias)
    drops = [target for _, target in bias.curve if not np.isnan(target)]
    assert drops == sorted(drops)


def test_neurons_are_scored_in_one_sweep_for_all_methods(made):
    names = [name for name, _ in made.run.passes]
    assert names.count("collect") == names.count("validate") == names.count("test") == 1
    assert sum(name == "score" for name in names) == 1


def test_what_is_told(made):
    told = layout.terminal(comparison.comparison(made), width=100, bold=False)
    assert "fit" in told and "own operating point" in told
    assert "best at no overall loss" in comparison.verdict(made)
    document = json.loads(schema.dumps(schema.document("compare", made)))
    assert document["command"] == "compare" and len(document["standings"]) == len(METHODS)
    assert document["standings"][0]["curve"][0][0] == -5


def test_chosen_methods_only_and_the_bias(cnn):
    made = run(*cnn, methods=("join",))
    assert [one.method for one in made.standings] == ["bias", "join"]


@pytest.mark.parametrize("method", ["bias", "AAN", "join", "schedule", "OMP-n"])
def test_any_method_can_be_written(cnn, tmp_path, method):
    model, data = cnn
    path = tmp_path / "out.onnx"
    made = run(model, data, methods=("bias",), write=method, output=OutputSettings(str(path)))
    assert all(check.passed for check in made.checks) and made.output.path == str(path)
    assert made.verdict.answer in ({"bias"} if method == "bias" else {method, "base"})
    assert (made.verdict.state == "copy") == (path.read_bytes() == Path(model).read_bytes())
    assert "its verdict" in layout.terminal(comparison.comparison(made))
    x, y = more_samples(model, 50, seed=5)
    np.savez(tmp_path / "more.npz", x=x, y=y)
    settings = DataSettings((str(tmp_path / "more.npz"),))
    assert commands.evaluate(model=str(path), data=settings).metrics.samples == 50


def test_repeats_do_not_stumble_over_the_file_that_the_first_one_wrote(cnn, tmp_path):
    path = tmp_path / "out.onnx"
    made = run(*cnn, methods=("bias",), write="join", repeats=2, output=OutputSettings(str(path)))
    assert made.repeats == 2 and made.output.path == str(path)
    agrees_with_its_verdicts(made)
    assert made.output.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    bias = next(one for one in made.standings if one.method == "bias")
    assert all(gain == (0.0, 0.0) for gain in bias.over_bias)


def test_a_file_without_a_method_is_refused(cnn, tmp_path):
    with pytest.raises(InputError, match="belong together"):
        run(*cnn, output=OutputSettings(str(tmp_path / "out.onnx")))


def test_what_is_no_patch_is_refused_before_anything_is_run(cnn, tmp_path):
    with pytest.raises(InputError, match="can be compared, not written"):
        run(*cnn, write="REPAIR", output=OutputSettings(str(tmp_path / "out.onnx")))
    assert not list(tmp_path.iterdir())


def test_every_method_says_which_promises_it_kept_on_test(made):
    told = layout.terminal(comparison.comparison(made), width=160)
    assert "kept/not shown/not kept" in told
    agrees_with_its_verdicts(made)
    listed = json.loads(schema.dumps(schema.document("compare", made)))["standings"][0]["verdicts"]
    assert listed[0]["promises"][0]["state"] in ("kept", "not kept", "not shown")


def agrees_with_its_verdicts(made):
    """Each method has a verdict of each repeat, whose changes are those of the comparison on average."""
    for one in made.standings:
        if np.isnan(one.overall[0]):
            assert not one.verdicts
            continue
        assert len(one.verdicts) == made.repeats
        for verdict in one.verdicts:
            assert verdict.split == "test" and verdict.samples == made.samples["test"]
            names = {promise.name for promise in verdict.promises}
            assert ("bias" in names) == (one.method != "bias" and verdict.state != "copy")
        changed = [v for v in one.verdicts if v.state != "copy"]
        lost = [p.change for v in changed for p in v.promises if p.name == "overall"]
        if len(changed) == made.repeats:
            gained = (one.overall[0] - made.before["overall"][0]) * 100
            assert np.mean(lost) == pytest.approx(gained)


def test_an_unknown_method_is_refused(cnn):
    with pytest.raises(InputError, match="unknown method"):
        run(*cnn, methods=("magic",))


def test_without_test_samples_there_is_nothing_to_compare_on(cnn, tmp_path):
    model, data = cnn
    x, y = more_samples(model, 100, seed=5)
    np.savez(tmp_path / "val.npz", x=x, y=y)
    with pytest.raises(DataError, match="test samples"):
        run(model, data, data=DataSettings((str(data),), val=(str(tmp_path / "val.npz"),)))


def test_without_a_target_all_classes_are_and_the_overall_accuracy_is_the_aim(cnn):
    made = run(*cnn, targets=TargetSettings(), methods=("bias", "AAN"))
    assert len(made.targets) == 4
    for one in made.standings:
        assert one.overall == one.target
    assert schema.document("compare", made)["targets"] == ["0", "1", "2", "3"]


def test_several_targets_share_a_schedule(cnn):
    made = run(*cnn, targets=TargetSettings(worst=2), methods=("schedule",))
    one = next(one for one in made.standings if one.method == "schedule")
    assert one.note == "J2 R2 J1 R1 J1" and not np.isnan(one.overall[0])


def test_a_class_without_samples_is_left_alone(cnn, tmp_path):
    model, data = cnn
    with np.load(data) as held:
        x, y = held["x"], held["y"]
    np.savez(tmp_path / "some.npz", x=x[y != 3], y=y[y != 3])
    out = OutputSettings(str(tmp_path / "out.onnx"))
    made = run(model, tmp_path / "some.npz", targets=TargetSettings(), write="fit", output=out)
    assert made.targets == ("0", "1", "2")
    assert all(one.overall == one.target for one in made.standings if not np.isnan(one.overall[0]))
    fit = next(one for one in made.standings if one.method == "fit")
    assert fit.overall[0] >= made.before["overall"][0]
    assert all(check.passed for check in made.checks)
    assert made.verdict.answer in ("fit", "bias", "base")
    assert not any(one.note and np.isnan(one.overall[0]) for one in made.standings if one.method != "DFR")


def test_no_class_loses_more_than_it_may(cnn, tmp_path):
    model, data = cnn
    x, y = more_samples(model, 600, seed=4)
    np.savez(tmp_path / "test.npz", x=x, y=y)
    common = {
        "data": DataSettings(data=(str(data),), test=(str(tmp_path / "test.npz"),)),
        "methods": ("bias",),
    }
    free = run(model, data, settings=FitSettings(max_overall_drop=10.0), **common)
    bound = run(model, data, settings=FitSettings(max_overall_drop=10.0, max_class_drop=0.0), **common)
    assert bound.standings[0].E[0] < free.standings[0].E[0]
    assert bound.standings[0].at[-1][0] < free.standings[0].at[-1][0]


def test_the_command_line_passes_both_drops_on(monkeypatch):
    asked = {}
    monkeypatch.setattr(commands, "compare", lambda **given: asked.update(given) or a_comparison())
    assert main(["compare", "m.onnx", "-d", "x.npz", "--max-overall-drop", "1", "--max-class-drop", "2"]) == 0
    assert (asked["settings"].max_overall_drop, asked["settings"].max_class_drop) == (1.0, 2.0)
    assert (asked["join"].max_overall_drop, asked["join"].max_class_drop) == (1.0, 2.0)


def test_the_comparison_is_drawn_as_a_page(cnn, tmp_path, capsys):
    model, samples = map(str, cnn)
    page, out, asked = (
        tmp_path / "page.html",
        tmp_path / "out.onnx",
        ["compare", model, "-d", samples, "-t", "3"],
    )
    few = ["--method", "cRT", "--hidden", "0", "--report", str(page)]
    assert main([*asked, *few, "--write", "cRT", "-o", str(out)]) == 0
    drawn = page.read_text()
    assert out.exists() and "<html" in drawn and "cRT" in drawn and "bias" in drawn
    assert main([*asked, *few]) != 0 and "already exists" in capsys.readouterr().err
