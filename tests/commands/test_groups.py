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
from onnxtweak.errors import DataError, OutputError, UsageError
from onnxtweak.intervals import wilson
from onnxtweak.report.text import summary
from onnxtweak.report.text.layout import terminal
from onnxtweak.settings import (
    AugmentSettings,
    DataSettings,
    EngineSettings,
    FitSettings,
    JoinSettings,
    OutputSettings,
    TargetSettings,
)
from tests.support.weak_class import TARGET, carry_out, more_samples, run

QUICK = {
    commands.fit: {"settings": FitSettings(hidden=0)},
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


@pytest.fixture
def two_kinds(mlp, tmp_path):
    """A model, samples to learn from, and to judge by: most of its weak class are of another kind."""
    model, _ = mlp
    for name, seed in (("learn", 21), ("test", 22)):
        x, y = more_samples(model, 900, seed=seed)
        rare = (y == TARGET) & (np.random.default_rng(seed).random(900) < 0.7)
        np.savez(tmp_path / f"{name}.npz", x=x, y=y, kind=np.where(rare, "rare", "usual"), id=np.arange(900))
    return model, tmp_path / "learn.npz", tmp_path / "test.npz"


def slice_of(two_kinds, text, tmp_path, **changes):
    model, learn, test = two_kinds
    return commands.fit(
        model=str(model),
        data=DataSettings((str(learn),), test=(str(test),), anyway=True),
        engine=EngineSettings(backend="numpy"),
        settings=FitSettings(hidden=0, max_overall_drop=5.0, max_class_drop=None, slice=text),
        output=OutputSettings(str(tmp_path / "out.onnx"), report=str(tmp_path / "page.html"), force=True),
        **changes,
    )


@pytest.mark.parametrize("text", ["kind=rare", "kind"])
def test_a_slice_is_raised_and_the_file_shows_it(two_kinds, text, tmp_path):
    made = slice_of(two_kinds, text, tmp_path)
    assert made.verdict.answer in ("fit", "bias")
    (rare,) = [group for group in made.verdict.groups if group.wanted]
    assert rare.name == "rare" and rare.change > 5
    assert any(note.startswith("slice: kind=rare, ") for note in made.notes)
    assert any("the worst of 2 groups" in note for note in made.notes) == (text == "kind")
    # The written file needs no column, and shows on each group what the verdict says.
    test = DataSettings((str(two_kinds[2]),), by=("kind",))
    shown = commands.evaluate(model=str(tmp_path / "out.onnx"), data=test).groups
    assert {group.name: group.accuracy for group in shown} == pytest.approx(
        {group.name: group.after for group in made.verdict.groups}
    )
    said = terminal(summary.result(made), width=120)
    assert "better on kind=rare" in said and "no group" not in said  # there is no limit for groups
    assert "\nkind  " in said or "  kind  " in said
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "<bdi>rare</bdi>" in page and "better on kind=rare" in page


@pytest.mark.parametrize(
    ("text", "changes", "kind", "match", "hint"),
    [
        ("kind=rar", {}, UsageError, "`kind` has no group `rar`", "did you mean kind=rare?"),
        ("kind=zzzz", {}, UsageError, "`kind` has no group `zzzz`", "there are: kind=rare, kind=usual"),
        ("kynd", {}, DataError, "no array `kynd`", "did you mean `kind`?"),
        ("id", {}, DataError, "`id` has another value for each", "several samples share"),
        ("kind", {"targets": TargetSettings(("1",))}, UsageError, "excludes --target", "leave them out"),
    ],
)
def test_what_is_no_slice_is_refused(two_kinds, text, changes, kind, match, hint, tmp_path):
    with pytest.raises(kind, match=match) as caught:
        slice_of(two_kinds, text, tmp_path, **changes)
    assert hint in caught.value.hint
    assert not (tmp_path / "out.onnx").exists()


def test_a_slice_without_test_samples_is_refused(two_kinds, tmp_path):
    model, learn, test = two_kinds
    with np.load(test) as held:
        usual = held["kind"] == "usual"
        np.savez(tmp_path / "usual.npz", **{name: held[name][usual] for name in held.files})
    with pytest.raises(DataError, match="the slice kind=rare has no test sample"):
        slice_of((model, learn, tmp_path / "usual.npz"), "kind=rare", tmp_path)


def test_a_slice_and_a_budget_exclude_each_other(two_kinds):
    model, learn, _ = two_kinds
    with pytest.raises(UsageError, match="--slice excludes --budget"):
        commands.fit(
            model=str(model), data=DataSettings((str(learn),)), settings=FitSettings(budget=10, slice="kind")
        )


@pytest.mark.parametrize(
    ("text", "kind", "match"),
    [
        ("kind=rar", UsageError, "`kind` has no group `rar`"),
        ("kynd", DataError, "no array `kynd`"),
        ("id", DataError, "`id` has another value"),
    ],
)
def test_a_dry_run_refuses_a_slice_that_cannot_be(two_kinds, text, kind, match):
    model, learn, test = two_kinds
    data = DataSettings((str(learn),), test=(str(test),), anyway=True)
    settings = FitSettings(hidden=0, slice=text)
    with pytest.raises(kind, match=match):
        commands.forecast("fit", model=str(model), data=data, settings=settings)
    commands.forecast("fit", model=str(model), data=data, settings=replace(settings, slice="kind=rare"))


def test_fit_and_verify_show_every_group_before_and_after(two_kinds, tmp_path, capsys):
    model, learn, test = two_kinds
    words = ["--hidden", "0", "--max-overall-drop", "5", "--anyway", "-t", str(TARGET), "--by", "kind"]
    out, page = tmp_path / "out.onnx", tmp_path / "page.html"
    files = ["-d", str(learn), "--test", str(test), "-o", str(out), "--report", str(page)]
    assert main(["fit", str(model), *files, *words]) in (0, 1)
    assert "kind" in (said := capsys.readouterr().out) and "rare" in said and "usual" in said
    assert "<bdi>rare</bdi>" in page.read_text(encoding="utf-8")
    assert main(["verify", str(out), "-d", str(test), "--by", "kind", "-f", "json"]) in (0, 3)
    groups = json.loads(capsys.readouterr().out)["groups"]
    shown = commands.evaluate(model=str(out), data=DataSettings((str(test),), by=("kind",))).groups
    assert {g["name"]: g["after"] for g in groups} == pytest.approx({g.name: g.accuracy for g in shown})
    shown = commands.evaluate(model=str(model), data=DataSettings((str(test),), by=("kind",))).groups
    assert {g["name"]: g["before"] for g in groups} == pytest.approx({g.name: g.accuracy for g in shown})
    assert main(["verify", str(out), "-d", str(test), "--by", "kind"]) in (0, 3)
    assert "rare" in capsys.readouterr().out
    with pytest.raises(DataError, match="no array `kin`"):
        commands.verify(tweaked=str(out), data=DataSettings((str(test),), by=("kin",)))


@pytest.mark.parametrize("goal", ["target", "slice"])
def test_lists_go_with_slices_groups_targets_and_limits(two_kinds, tmp_path, goal, monkeypatch):
    monkeypatch.setattr("onnxtweak.method.listed.taught._ROUNDS", 2)
    model, learn, test = two_kinds
    with np.load(learn) as held:
        x, y = held["x"], held["y"]
    shown = run(onnx.load(model), x).argmax(axis=1)
    wrong, right = np.flatnonzero(shown != y)[:8], np.flatnonzero(shown == y)[:100]
    for name, rows in (("must", wrong), ("lock", right)):
        np.savez(tmp_path / f"{name}.npz", x=x[rows] + np.float32(1e-3), y=y[rows])  # without any column
    np.savez(tmp_path / "keep.npz", x=more_samples(model, 150, seed=40)[0])
    with np.load(learn) as held:
        np.savez(learn, **{key: held[key] for key in held.files}, block=np.arange(len(y)) // 3)
    with np.load(test) as held:
        np.savez(test, **{key: held[key] for key in held.files}, block=10_000 + np.arange(len(y)) // 3)
    lists = {role: (str(tmp_path / f"{role}.npz"),) for role in ("must", "lock", "keep")}
    limits = FitSettings(hidden=0, max_overall_drop=5.0, max_class_drop=10.0)
    made = commands.fit(
        model=str(model),
        data=DataSettings(
            (str(learn),), test=(str(test),), anyway=True, group="block", by=("kind",), **lists
        ),
        engine=EngineSettings(backend="numpy"),
        targets=TargetSettings((str(TARGET),)) if goal == "target" else TargetSettings(),
        settings=replace(limits, slice="kind=rare") if goal == "slice" else limits,
        output=OutputSettings(str(tmp_path / "out.onnx")),
    )
    names = {promise.name for promise in made.verdict.promises}
    assert {"must", "lock", "keep", "classes", "targets"} <= names
    assert {group.name for group in made.verdict.groups} == {"rare", "usual"}
    session = onnx.load(tmp_path / "out.onnx")
    after = run(session, x[wrong] + np.float32(1e-3)).argmax(axis=1)
    assert (after == y[wrong]).sum() == made.listed.must.right == 8
