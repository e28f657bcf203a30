"""A dry run plans the passes that the command then makes, and writes nothing."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import numpy as np
import pytest

from onnxtweak import commands
from onnxtweak.cli.main import main
from onnxtweak.engine.machine import memory_plan as plan
from onnxtweak.errors import DataError, OutputError, UsageError
from onnxtweak.settings import (
    AugmentSettings,
    DataSettings,
    EngineSettings,
    FitSettings,
    JoinSettings,
    OutputSettings,
    RetrainSettings,
    TapSettings,
    TargetSettings,
)
from onnxtweak.theta.state import bytes_per_neuron
from tests.support.weak_class import TARGET, weak_cnn

ONE, WORST = TargetSettings((str(TARGET),)), TargetSettings(worst=2)
LITTLE = int(150 * bytes_per_neuron(1) / plan._STATE_SHARE / plan._LEAST_SHARE)
ENGINE = EngineSettings(device="cpu", backend="numpy", batch=16)


@pytest.fixture(scope="module")
def cnn(tmp_path_factory):
    folder = tmp_path_factory.mktemp("forecast")
    model, data = weak_cnn(folder, n=500)
    return {"model": str(model), "data": DataSettings((str(data),))}


COMMANDS = {
    "join": ("join", ENGINE, {"targets": WORST}),
    "join in blocks": ("join", EngineSettings(device="cpu", batch=16, memory=LITTLE), {"targets": ONE}),
    "join by net gain": ("join", ENGINE, {"targets": ONE, "settings": JoinSettings(criterion="net-gain")}),
    "retrain": ("retrain", ENGINE, {"targets": ONE, "settings": RetrainSettings(ridge=(0.1,))}),
    "augment": ("augment", ENGINE, {"settings": AugmentSettings(neurons=20, iterations=20)}),
    "fit": ("fit", ENGINE, {"targets": ONE, "settings": FitSettings(hidden=0)}),
    "fit of few": (
        "fit",
        ENGINE,
        {"targets": ONE, "taps": TapSettings(), "settings": FitSettings(hidden=0, neurons=20)},
    ),
    "compare": ("compare", ENGINE, {"targets": WORST, "methods": ("bias", "join")}),
    "score": ("score", ENGINE, {"targets": WORST}),
}


@pytest.mark.parametrize("which", COMMANDS)
def test_the_passes_planned_are_the_passes_made(cnn, which):
    command, engine, options = COMMANDS[which]
    planned = commands.forecast(command, **cnn, engine=engine, **options)
    made = getattr(commands, command)(**cnn, engine=engine, **options)
    # Where what may count does not fit there is a second sweep, which nobody can know before.
    found = [(re.sub(", block .*", "", name), count) for name, count in made.run.passes if name != "count"]
    wanted = [(step.name, step.samples) for step in planned.steps for _ in range(step.passes)]
    if "simulate" not in dict(found):  # nothing helped: there is no new file to prove
        wanted = [one for one in wanted if one[0] != "simulate"]
    assert found == wanted
    assert planned.command == command and planned.samples["fit"] > 0
    assert planned.seconds["all"] == sum(step.seconds for step in planned.steps) > 0


def test_blocks_and_bytes_are_said(cnn):
    (score,) = (
        step
        for step in commands.forecast(
            "join", **cnn, engine=EngineSettings(device="cpu", batch=16, memory=LITTLE), targets=ONE
        ).steps
        if step.name == "score"
    )
    assert score.passes == -(-score.neurons // score.block) > 1 and score.block == 150
    assert score.state_bytes == 150 * bytes_per_neuron(1)
    assert score.batch == 16 and score.fold % 16 == 0
    whole = commands.forecast("score", **cnn, engine=ENGINE, targets=ONE).steps[0]
    assert whole.value_bytes == 4 * whole.neurons * whole.samples and whole.passes == 1


def test_what_is_known_is_not_planned_again(cnn, tmp_path):
    engine = EngineSettings(device="cpu", backend="numpy", work_dir=str(tmp_path / "w"), resume=True)
    assert not commands.forecast("score", **cnn, engine=engine, targets=ONE).cached
    assert not (tmp_path / "w").exists()
    commands.score(**cnn, engine=engine, targets=ONE)
    again = commands.forecast("score", **cnn, engine=engine, targets=ONE)
    assert again.cached and again.steps == ()


def test_who_shares_the_score_pass_is_said(cnn):
    settings = EngineSettings(device="cpu", backend="numpy", shard=100)
    alone, shared = (
        commands.forecast(
            "score",
            model=cnn["model"],
            data=replace(cnn["data"], anyway=True),
            engine=replace(settings, workers=n),
            targets=ONE,
        )
        for n in (None, 2)
    )
    assert (alone.workers, shared.workers, shared.shards) == (1, 2, 5)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"targets": TargetSettings(("nine",))}, UsageError),
        ({"output": OutputSettings("MODEL")}, OutputError),
        ({"data": DataSettings(("there-is-none.npz",))}, DataError),
    ],
)
def test_a_dry_run_fails_as_the_command_would(cnn, options, error):
    if "output" in options:
        options = {"output": OutputSettings(cnn["model"], force=True)}
    with pytest.raises(error):
        commands.forecast("join", **{**cnn, "engine": ENGINE, "targets": ONE, **options})


@pytest.mark.parametrize("form", ["text", "json", "markdown"])
def test_the_command_line_tells_the_plan_and_writes_nothing(cnn, tmp_path, capsys, form):
    out = tmp_path / "out.onnx"
    arguments = ["join", cnn["model"], "-d", cnn["data"].data[0], "-t", str(TARGET), "-o", str(out)]
    assert (
        main([*arguments, "--device", "cpu", "--work-dir", str(tmp_path / "w"), "--dry-run", "-f", form]) == 0
    )
    said, err = capsys.readouterr()
    assert "nothing written" in err and list(tmp_path.iterdir()) == []
    if form == "json":
        document = json.loads(said)
        assert document["command"] == "join" and document["steps"][0]["name"] == "score"
        assert np.isclose(document["seconds"]["all"], sum(step["seconds"] for step in document["steps"]))
    else:
        assert "Plan for join" in said and "validate" in said and "estimate" in said


@pytest.mark.parametrize("command", ["retrain", "fit", "augment", "compare", "score"])
def test_every_command_that_sweeps_has_a_dry_run(cnn, tmp_path, capsys, command):
    targets = [] if command == "augment" else ["-t", str(TARGET)]
    arguments = [command, cnn["model"], "-d", cnn["data"].data[0], *targets, "--device", "cpu", "--dry-run"]
    output = [] if command == "compare" else ["-o", str(tmp_path / "out")]
    assert main([*arguments, *output]) == 0
    assert f"Plan for {command}" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []


def test_a_dump_has_no_plan(cnn, tmp_path):
    commands.dump(**cnn, directory=str(tmp_path / "tables"), engine=ENGINE)
    with pytest.raises(UsageError, match="nothing to plan"):
        commands.forecast(
            "score", model=cnn["model"], data=DataSettings((str(tmp_path / "tables"),)), targets=ONE
        )
