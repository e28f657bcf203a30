"""Every method on one small model, end to end."""

from __future__ import annotations

import json

import numpy as np
import pytest

from onnxtweak import pipeline
from onnxtweak.errors import DataError, InputError
from onnxtweak.method.entrants import ENTRANTS
from onnxtweak.report import contest, schema, text
from onnxtweak.settings import (
    DataSettings,
    EngineSettings,
    FitSettings,
    JoinSettings,
    OutputSettings,
    TargetSettings,
)
from tests.weak import TARGET, more_samples, weak_cnn


@pytest.fixture(scope="module")
def cnn(tmp_path_factory):
    return weak_cnn(tmp_path_factory.mktemp("cnn"))


def run(model, samples, **changes):
    arguments = {
        "model": str(model),
        "data": DataSettings(data=(str(samples),)),
        "engine": EngineSettings(backend="numpy"),
        "targets": TargetSettings((str(TARGET),)),
        "join": JoinSettings(count=(1, 5), scale=(0, 1, 10)),
        "fit": FitSettings(hidden=8),
    }
    return pipeline.compare(**{**arguments, **changes})


@pytest.fixture(scope="module")
def made(cnn):
    return run(*cnn, repeats=2)


def test_every_method_takes_part_or_says_why_not(made):
    assert [one.method for one in made.standings] == list(ENTRANTS)
    for one in made.standings:
        assert not np.isnan(one.overall[0]) or one.note


def test_the_bias_raises_the_target_and_is_what_others_are_compared_with(made):
    bias = next(one for one in made.standings if one.method == "bias")
    assert bias.at[0][0] >= made.before["target"][0]
    assert all(gain == (0.0, 0.0) for gain in bias.over_bias)
    drops = [target for _, target in bias.curve if not np.isnan(target)]
    assert drops == sorted(drops)


def test_neurons_are_scored_in_one_sweep_for_all_methods(made):
    names = [name for name, _ in made.passes]
    assert names.count("collect") == names.count("validate") == names.count("test") == 1
    assert sum(name == "score" for name in names) == 1


def test_what_is_told(made):
    told = text.terminal(contest.comparison(made), width=100, bold=False)
    assert "fit" in told and "own operating point" in told
    assert "best at no overall loss" in contest.verdict(made)
    document = json.loads(schema.dumps(schema.document("compare", made)))
    assert document["command"] == "compare" and len(document["standings"]) == len(ENTRANTS)
    assert document["standings"][0]["curve"][0][0] == -5


def test_chosen_methods_only_and_the_bias(cnn):
    made = run(*cnn, methods=("join",))
    assert [one.method for one in made.standings] == ["bias", "join"]


@pytest.mark.parametrize("method", ["bias", "cRT", "AAN", "join", "fit"])
def test_any_method_can_be_written(cnn, tmp_path, method):
    model, data = cnn
    path = tmp_path / "out.onnx"
    made = run(model, data, methods=("bias",), write=method, output=OutputSettings(str(path)))
    assert all(check.passed for check in made.checks) and made.output.path == str(path)
    x, y = more_samples(model, 50, seed=5)
    np.savez(tmp_path / "more.npz", x=x, y=y)
    settings = DataSettings((str(tmp_path / "more.npz"),))
    assert pipeline.evaluate(model=str(path), data=settings).metrics.samples == 50


def test_a_file_without_a_method_is_refused(cnn, tmp_path):
    with pytest.raises(InputError, match="belong together"):
        run(*cnn, output=OutputSettings(str(tmp_path / "out.onnx")))


def test_an_unknown_method_is_refused(cnn):
    with pytest.raises(InputError, match="there is no method"):
        run(*cnn, methods=("magic",))


def test_without_test_samples_there_is_nothing_to_compare_on(cnn, tmp_path):
    model, data = cnn
    x, y = more_samples(model, 100, seed=5)
    np.savez(tmp_path / "val.npz", x=x, y=y)
    with pytest.raises(DataError, match="test samples"):
        run(model, data, data=DataSettings((str(data),), val=(str(tmp_path / "val.npz"),)))


def test_tables_that_do_not_fit_are_refused(cnn):
    with pytest.raises(InputError) as caught:
        run(*cnn, engine=EngineSettings(backend="numpy", memory=1_000_000))
    assert caught.value.hint
