"""Samples that belong together, through whole commands."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import onnx
import pytest

import onnxtweak
from onnxtweak import commands
from onnxtweak.cli.main import main
from onnxtweak.errors import DataError, OutputError
from onnxtweak.intervals import wilson
from onnxtweak.settings import (
    AugmentSettings,
    DataSettings,
    EngineSettings,
    FitSettings,
    JoinSettings,
    OutputSettings,
)
from tests.support.weak_class import carry_out, more_samples, run

QUICK = {
    commands.fit: {"settings": FitSettings(hidden=8)},
    commands.join: {"settings": JoinSettings(count=(1, 10))},
    commands.retrain: {"join": JoinSettings(count=(10,))},
    commands.augment: {"settings": AugmentSettings(neurons=10, iterations=50)},
}


@pytest.fixture
def grouped(mlp, tmp_path):
    """A model, and its samples as frames of 90 tracks of ten."""
    model, data = mlp
    with np.load(data) as held:
        arrays = dict(held)
    track = np.array([f"track {k // 10}" for k in range(len(arrays["y"]))])
    np.savez(tmp_path / "tracks.npz", **arrays, track=track)
    return model, tmp_path / "tracks.npz"


@pytest.mark.parametrize("command", QUICK, ids=lambda command: command.__name__)
def test_every_command_that_splits_keeps_groups_whole(command, grouped):
    model, data = grouped
    asked = DataSettings((str(data),), group="track")

    def carried(samples):
        if command is commands.augment:  # which takes no targets
            return command(
                model=str(model), data=samples, engine=EngineSettings(backend="numpy"), **QUICK[command]
            )
        return carry_out(command, model, data, data=samples, **QUICK[command])

    result = carried(asked)
    assert any(note.startswith("groups by `track`: 54 in fit, 18 in validation") for note in result.notes)
    other = carried(replace(asked, group=None))
    digests = {made.evidence["provenance"]["data_sha256"] for made in (result, other)}
    assert len(digests) == 2
    if result.verdict.state != "copy":
        assert any("rest on 18 groups" in caution for caution in result.verdict.cautions)
    assert not any("groups" in caution for caution in other.verdict.cautions)


def test_compare_and_score_keep_them_too(grouped):
    model, data = grouped
    asked = DataSettings((str(data),), group="track")
    made = carry_out(
        commands.compare, model, data, data=asked, methods=("fit", "DFR"), settings=FitSettings(hidden=0)
    )
    assert any(note.startswith("groups by `track`") for note in made.notes)
    assert carry_out(commands.score, model, data, data=asked).notes
    with pytest.raises(DataError, match="no array `tracks`"):
        carry_out(commands.score, model, data, data=replace(asked, group="tracks"))


def test_a_group_in_data_and_test_stops_a_fit(grouped, tmp_path):
    model, data = grouped
    x, y = more_samples(model, 100, seed=5)
    np.savez(tmp_path / "test.npz", x=x, y=y, track=[f"track {k // 10}" for k in range(100)])
    asked = DataSettings((str(data),), test=(str(tmp_path / "test.npz"),), group="track")
    with pytest.raises(
        DataError, match="10 groups of `track`, such as `track 0`, lie in both --data and --test"
    ):
        carry_out(commands.fit, model, data, data=asked)
    made = carry_out(commands.fit, model, data, data=replace(asked, group=None))
    assert made.samples["test"] == 100


def test_a_column_beside_npy_files_may_not_be_replaced(mlp, tmp_path):
    model, data = mlp
    with np.load(data) as held:
        np.save(tmp_path / "x.npy", held["x"])
        np.save(tmp_path / "y.npy", held["y"])
        np.save(tmp_path / "track.npy", np.arange(len(held["y"])) // 10)
    asked = DataSettings((str(tmp_path / "x.npy"),), group="track")
    output = OutputSettings(str(tmp_path / "o.onnx"), tweak=str(tmp_path / "track.npy"), force=True)
    with pytest.raises(OutputError):
        carry_out(commands.fit, model, data, data=asked, output=output)


def test_evaluate_measures_each_group_worst_first(grouped, tmp_path):
    model, data = grouped
    with np.load(data) as held:
        x, y = held["x"], held["y"]
    plain = commands.evaluate(model=str(model), data=DataSettings((str(data),)))
    assert plain.groups == ()
    predicted = run(onnx.load(model), x).argmax(axis=1)
    # A group whose labels are all right, one that is wrong more often, a small one.
    site = np.where(predicted == y, "north", np.where(np.arange(len(y)) % 2, "south", "east"))
    site[:20] = "few"
    np.savez(tmp_path / "sites.npz", x=x, y=y, site=site, half=np.arange(len(y)) % 2)
    asked = DataSettings((str(tmp_path / "sites.npz"),), by=("site", "half"))
    found = commands.evaluate(model=str(model), data=asked)
    assert found.metrics.overall == plain.metrics.overall
    sites = [group for group in found.groups if group.column == "site"]
    assert [group.accuracy for group in sites] == sorted(group.accuracy for group in sites)
    assert {group.name: group.samples for group in sites} == {
        str(name): int((site == name).sum()) for name in np.unique(site)
    }
    for group in found.groups:
        rows = (site == group.name) if group.column == "site" else (np.arange(len(y)) % 2 == int(group.name))
        assert group.right == int((predicted == y)[rows].sum()) and group.few == (rows.sum() < 30)
        assert group.interval == wilson(group.right, group.samples)
    assert sites[-1].name == "north" and sites[-1].accuracy == 1
    assert {group.column for group in found.groups} == {"site", "half"}
    with pytest.raises(DataError, match="another value for each") as caught:
        np.savez(tmp_path / "ids.npz", x=x, y=y, id=np.arange(len(y)))
        commands.evaluate(model=str(model), data=DataSettings((str(tmp_path / "ids.npz"),), by=("id",)))
    assert caught.value.where == "--by"


def test_groups_are_seen_in_json_and_by_name(grouped, capsys):
    model, data = grouped
    arguments = ["evaluate", str(model), "-d", str(data), "--by", "track", "-f", "json"]
    assert main(arguments) == 0
    made = json.loads(capsys.readouterr().out)
    assert len(made["groups"]) == 90
    assert set(made["groups"][0]) == {"column", "name", "samples", "right", "accuracy", "interval", "few"}
    assert main([*arguments[:-3], "trac"]) == 2
    assert "did you mean `track`?" in capsys.readouterr().err
    assert onnxtweak.evaluate(model, data=str(data), by="track").groups[0].name == made["groups"][0]["name"]
