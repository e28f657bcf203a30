"""Listed samples, end to end: made right, kept right, named where that cannot be; counted on the file."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import onnx
import pytest
from click.testing import CliRunner

from onnxtweak import commands
from onnxtweak.cli.main import program
from onnxtweak.errors import DataError, UsageError
from onnxtweak.report import schema
from onnxtweak.settings import DataSettings, EngineSettings, FitSettings, OutputSettings, TargetSettings
from tests.engine.test_shared_sweep import threads
from tests.support.nets import mlp
from tests.support.plain_session import plain_session
from tests.support.weak_class import run

SIZE, DATA = 120, 180  # lock-samples, and others with labels


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A model; samples with the labels that it gives them; some of them with other labels."""
    folder = tmp_path_factory.mktemp("listed")
    proto = mlp(inputs=32, hidden=(64, 48))
    onnx.save(proto, folder / "model.onnx")
    name = proto.graph.input[0].name
    width = [d.dim_value for d in proto.graph.input[0].type.tensor_type.shape.dim][1:]
    x = np.random.default_rng(0).normal(size=(20 + SIZE + DATA, *width)).astype(np.float32)
    y = run(proto, x).argmax(axis=1)
    wrong = y.copy()
    wrong[:20] = (y[:20] + 1) % (y.max() + 1)
    np.savez(folder / "must.npz", x=x[:20], y=wrong[:20])
    np.savez(folder / "lock.npz", x=x[20 : 20 + SIZE], y=y[20 : 20 + SIZE])
    np.savez(folder / "data.npz", x=x[20 + SIZE :], y=y[20 + SIZE :])
    return folder, name, x, y


def fit(folder, written=None, /, must="must.npz", lock="lock.npz", **changes):
    """A fit of listed samples."""
    data = DataSettings(
        data=changes.pop("data", ()),
        must=tuple(str(folder / name) for name in (must,) if name),
        lock=tuple(str(folder / name) for name in (lock,) if name),
        keep=changes.pop("keep", ()),
    )
    output = OutputSettings(None if written is None else str(written), report=changes.pop("report", None))
    return commands.fit(
        model=str(folder / "model.onnx"),
        data=data,
        engine=changes.pop("engine", EngineSettings(backend="numpy")),
        output=output,
        **changes,
    )


@pytest.fixture(scope="module")
def repaired(made, tmp_path_factory):
    """A fit of both lists alone, its file and its page."""
    written = tmp_path_factory.mktemp("repaired") / "out.onnx"
    return fit(made[0], written, report=str(written.with_name("page.html"))), written


def shown(path, name, x):
    session = plain_session(str(path))
    return session.run(None, {name: x})[0].argmax(axis=1)


def test_every_must_sample_is_right_in_the_file_and_no_lock_sample_breaks(made, repaired):
    (folder, name, x, y), (found, written) = made, repaired
    must, lock = found.listed.must, found.listed.lock
    assert (must.samples, must.already_right, must.right, must.fixed, must.infeasible) == (20, 0, 20, 20, 0)
    assert (lock.samples, lock.right, lock.broken) == (SIZE, SIZE, 0)
    got = shown(written, name, x)
    assert (got[:20] == np.load(folder / "must.npz")["y"]).all()
    assert (got[20 : 20 + SIZE] == y[20 : 20 + SIZE]).all()
    assert {p.name: p.state for p in found.verdict.promises} == {"must": "kept", "lock": "kept"}
    assert any("nothing is shown" in caution for caution in found.verdict.cautions)
    assert found.measured.split == "listed" and found.samples["must"] == 20 and found.samples["fit"] == 0
    assert all(check.passed for check in found.checks)
    document = json.loads(schema.dumps(schema.document("fit", found)))
    assert document["listed"]["must"]["fixed"] == 20 and document["listed"]["lock"]["named"] == []


def test_the_same_lists_give_the_same_bytes_for_any_batch(made, repaired, tmp_path):
    fit(made[0], tmp_path / "again.onnx", engine=EngineSettings(backend="numpy", batch=17))
    assert (tmp_path / "again.onnx").read_bytes() == repaired[1].read_bytes()


def test_with_data_the_test_split_judges_and_names_the_class_that_pays(made, tmp_path):
    folder, *_ = made
    linear, data = FitSettings(hidden=0), (str(folder / "data.npz"),)
    found = fit(folder, tmp_path / "out.onnx", data=data, settings=linear)
    assert found.measured.split == "test" and found.samples["test"] == DATA // 5
    names = {promise.name for promise in found.verdict.promises}
    assert names == {"must", "lock", "overall", "classes"}
    assert found.listed.must.infeasible == 0


def test_with_targets_too_the_patch_is_one(made, tmp_path):
    folder, *_ = made
    settings = FitSettings(hidden=0, max_overall_drop=3.0)
    found = fit(
        folder,
        tmp_path / "out.onnx",
        data=(str(folder / "data.npz"),),
        targets=TargetSettings(("3",)),
        settings=settings,
    )
    assert {"must", "lock", "targets"} <= {promise.name for promise in found.verdict.promises}
    assert found.listed.must.infeasible == 0 and found.listed.lock.broken == 0
    assert all(check.passed for check in found.checks)


def test_listed_rows_of_the_data_are_in_no_split(made, tmp_path):
    folder, *_ = made
    found = fit(folder, must="data.npz#[0:1]", data=(str(folder / "data.npz"),))
    assert found.samples["fit"] + found.samples["validation"] + found.samples["test"] == DATA - 1
    assert any("listed too" in note for note in found.notes)


def test_what_the_labels_do_not_say_is_kept(made, tmp_path):
    folder, _, x, _y = made
    np.savez(folder / "keep.npz", x=x[-DATA:], y=np.zeros(DATA, np.int64))
    found = fit(folder, lock=None, keep=(str(folder / "keep.npz"),))
    assert found.listed.lock is None
    assert (found.listed.keep.right, found.listed.keep.broken) == (DATA, 0)


@pytest.mark.filterwarnings("default")  # of Dask's own
def test_more_lock_samples_than_a_table_holds_are_streamed(made, tmp_path, monkeypatch):
    folder, *_ = made
    monkeypatch.setattr("onnxtweak.stages.lists.make_right._FIRST", 60)
    engine = EngineSettings(backend="numpy", device="cpu", shard=32)
    found = fit(folder, tmp_path / "alone.onnx", engine=engine)
    assert found.listed.must.infeasible == 0 and found.listed.lock.broken == 0
    assert "look for broken samples" in {name for name, _ in found.run.passes}
    with threads(2) as scheduler:
        shared = fit(folder, tmp_path / "shared.onnx", engine=replace(engine, scheduler=scheduler))
    assert "look for broken samples, 2 workers" in {name for name, _ in shared.run.passes}
    assert (tmp_path / "shared.onnx").read_bytes() == (tmp_path / "alone.onnx").read_bytes()


def test_lock_samples_that_are_wrong_today_bind_nobody(made, tmp_path):
    folder, _, x, y = made
    labels = y[20:120].copy()
    labels[:7] = (labels[:7] + 1) % (y.max() + 1)
    np.savez(folder / "partly.npz", x=x[20:120], y=labels)
    found = fit(folder, lock="partly.npz")
    assert (found.listed.lock.samples, found.listed.lock.right) == (100, 93)


def test_samples_that_the_model_cannot_tell_apart_are_named_with_their_rivals(tmp_path, made):
    _, _, x, y = made
    flat = mlp(inputs=32, hidden=(64, 48))
    onnx.save(flat, tmp_path / "model.onnx")
    # A sample and one that differs by less than float32 keeps: two inputs, one hidden value.
    twin = x[:1].copy()
    twin.flat[0] = np.nextafter(twin.flat[0], np.float32(np.inf))
    other = [k for k in range(int(y.max()) + 1) if k != y[0]][:2]
    np.savez(tmp_path / "must.npz", x=np.concatenate([x[:1], twin, x[1:3]]), y=[*other, *((y[1:3] + 1) % 3)])
    np.savez(tmp_path / "lock.npz", x=x[20:220], y=y[20:220])
    found = fit(tmp_path, tmp_path / "out.onnx")
    must = found.listed.must
    assert 1 <= must.infeasible <= 2 and must.right >= 2
    assert all(one.rivals and one.row in (0, 1) for one in must.named)
    assert {p.name: p.state for p in found.verdict.promises}["must"] == "not kept"


@pytest.mark.parametrize("role", ["must", "lock"])
def test_identical_samples_with_two_labels_are_refused(made, tmp_path, role):
    folder, _, x, y = made
    onnx.save(onnx.load(folder / "model.onnx"), tmp_path / "model.onnx")
    listed = {"must": (x[:3], y[:3] + 0), "lock": (x[20:60], y[20:60] + 0)}
    listed["must"][1][:] = (listed["must"][1] + 1) % 3
    again = np.concatenate([listed[role][0], x[:1]]), np.append(listed[role][1], y[0])
    listed[role] = again
    for name, (inputs, labels) in listed.items():
        np.savez(tmp_path / f"{name}.npz", x=inputs, y=labels)
    what = "identical but for their labels" if role == "must" else "a lock-sample too, with another label"
    with pytest.raises(DataError, match=what) as raised:
        fit(tmp_path)
    assert "must.npz" in raised.value.where and "list" in raised.value.hint


def test_what_is_right_already_leaves_the_base(made, tmp_path):
    folder, *_ = made
    found = fit(folder, tmp_path / "out.onnx", must="data.npz#[0:5]")
    assert found.verdict.answer == "base"
    assert (tmp_path / "out.onnx").read_bytes() == (folder / "model.onnx").read_bytes()
    assert any("right already" in note for note in found.notes)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"must": None}, "nothing has to become better"),
        ({"must": None, "lock": None}, "no samples to learn from"),
        ({"must": None, "data": True}, "nothing has to become better"),
        ({"targets": TargetSettings(("1",))}, "on listed samples alone"),
        ({"settings": FitSettings(budget=5)}, "not possible together"),
        ({"settings": FitSettings(certify=0.1), "data": True}, "not possible together"),
    ],
)
def test_a_combination_without_sense_is_refused(made, changes, said):
    folder, *_ = made
    if changes.get("data"):
        changes = {**changes, "data": (str(folder / "data.npz"),)}
    with pytest.raises(UsageError, match=said):
        fit(folder, **changes)


def test_an_empty_list_and_a_label_out_of_range_are_refused(made, tmp_path):
    folder, _, x, y = made
    np.savez(folder / "empty.npz", x=x[:0], y=y[:0])
    with pytest.raises(DataError, match="no samples"):
        fit(folder, must="empty.npz")
    np.savez(folder / "far.npz", x=x[:1], y=[99])
    with pytest.raises(DataError, match="out of range"):
        fit(folder, must="far.npz")


def test_the_page_shows_must_samples(repaired):
    page = repaired[1].with_name("page.html").read_text()
    assert "Must-samples made right" in page and "must.npz" in page


def test_verify_counts_them_again(made, repaired, tmp_path):
    folder, written = made[0], repaired[1]
    lists = DataSettings(must=(str(folder / "must.npz"),), lock=(str(folder / "lock.npz"),))
    found = commands.verify(tweaked=str(written), data=lists)
    checks = {check.name: check for check in found.checks}
    assert checks["must"].passed and checks["lock"].passed and "20 of 20" in checks["must"].detail
    spoiled = np.load(folder / "data.npz")
    np.savez(tmp_path / "spoiled.npz", x=spoiled["x"][:5], y=(spoiled["y"][:5] + 1) % 4)
    other = DataSettings(must=(str(tmp_path / "spoiled.npz"),))
    failed = {c.name: c for c in commands.verify(tweaked=str(written), data=other).checks}["must"]
    assert not failed.passed and "spoiled.npz" in failed.detail


def test_a_recipe_ships_what_passes_its_gates(made, tmp_path):
    folder, *_ = made
    text = f"""
[model]
path = "{folder / "model.onnx"}"
[data]
must = "{folder / "must.npz"}"
lock = "{folder / "lock.npz"}"
[engine]
backend = "numpy"
[[tweak]]
name = "repaired"
method = "fit"
[gates]
min-must-fixed = 1.0
max-lock-broken = 0
"""
    (tmp_path / "recipe.toml").write_text(text)
    found = commands.run(recipe=str(tmp_path / "recipe.toml"))
    assert found.shipped and (tmp_path / "build" / "repaired.onnx").exists()
    assert {gate["name"] for gate in found.results["repaired"]["gates"]} >= {"min-must-fixed"}
    again = commands.run(recipe=str(tmp_path / "recipe.toml"), changes=["gates.min-must-fixed=21"])
    assert again.cached == ("repaired",) and not again.shipped


def test_a_dry_run_counts_the_passes_over_lists(made):
    folder, *_ = made
    data = DataSettings(must=(str(folder / "must.npz"),), lock=(str(folder / "lock.npz"),))
    model, engine = str(folder / "model.onnx"), EngineSettings(backend="numpy")
    plan = commands.forecast("fit", model=model, data=data, engine=engine)
    assert {"base: lock", "tweaked: must"} <= {step.name for step in plan.steps}


def test_the_command_line_takes_lists(made, tmp_path):
    folder, *_ = made
    lists = ["--must", f"{folder}/must.npz", "--lock", f"{folder}/lock.npz"]
    out = tmp_path / "out.onnx"
    done = CliRunner().invoke(program, ["fit", f"{folder}/model.onnx", *lists, "-o", str(out)])
    assert (
        done.exit_code == 0
        and "every must-sample right" in done.stdout
        and f"0 of {SIZE} broken" in done.stdout
    )
    assert CliRunner().invoke(program, ["verify", str(out), *lists]).exit_code == 0


def test_a_sample_counts_under_one_list_only(made, tmp_path):
    folder, *_ = made
    again = (str(folder / "must.npz"), str(folder / "lock.npz"))
    found = fit(folder, lock="must.npz")  # one file for both: its samples are must-samples
    assert found.listed.lock is None and found.listed.must.infeasible == 0
    assert any("20 lock-samples are must-samples too" in note for note in found.notes)
    found = fit(folder, keep=again)
    assert found.listed.keep is None and found.listed.lock.broken == 0
    assert any(f"{20 + SIZE} samples to keep have labels" in note for note in found.notes)
    with pytest.raises(DataError, match="all samples of the data are listed too"):
        fit(folder, data=(str(folder / "lock.npz"),))


def test_identical_samples_of_one_label_may_be_in_two_lists(made, tmp_path):
    folder, _, x, y = made
    must = np.load(folder / "must.npz")
    np.savez(folder / "both.npz", x=np.concatenate([must["x"][:5], x[20:80]]), y=[*must["y"][:5], *y[20:80]])
    found = fit(folder, lock="both.npz")
    assert (found.listed.must.right, found.listed.lock.samples, found.listed.lock.right) == (20, 65, 60)
    assert found.listed.lock.broken == 0


def test_a_copy_of_the_must_samples_as_lock_samples_is_called_that(made):
    folder, _, x, y = made
    wrong = (y[:60] + 1) % (y.max() + 1)
    for name in ("wrong.npz", "copy.npz"):
        np.savez(folder / name, x=x[:60], y=wrong)
    with pytest.raises(DataError, match="of 60 lock-samples looked at, 60 are must-samples too"):
        fit(folder, must="wrong.npz", lock="copy.npz")


def test_arrays_that_contradict_each_other_are_refused(made):
    folder, _, x, y = made
    import onnxtweak

    model, other = folder / "model.onnx", (y[:3] + 1) % (y.max() + 1)
    lists = {"must": (x[:3], other), "lock": (np.concatenate([x[2:3], x[20:60]]), [y[2], *y[20:60]])}
    with pytest.raises(DataError, match="a lock-sample too, with another label"):
        onnxtweak.fit(model, **lists, backend="numpy")
    lists["lock"] = (np.concatenate([x[2:3], x[20:60]]), [other[2], *y[20:60]])
    found = onnxtweak.fit(model, **lists, backend="numpy")
    assert found.listed.must.right == 3 and found.listed.lock.samples == 40


def test_the_search_for_broken_samples_keeps_the_worst(made, monkeypatch):
    folder, *_ = made
    monkeypatch.setattr("onnxtweak.stages.lists.make_right._FIRST", 20)
    monkeypatch.setattr("onnxtweak.stages.lists.make_right._VIOLATED", 3)
    engine = EngineSettings(backend="numpy", batch=7, memory=64 << 20)
    found = fit(folder, engine=engine)
    assert found.listed.must.infeasible == 0
    searches = [n for name, n in found.run.passes if name == "look for broken samples"]
    assert len(searches) >= 2 and all(a - b <= 3 for a, b in zip(searches, searches[1:], strict=False))
