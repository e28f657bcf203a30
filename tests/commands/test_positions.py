"""Scores at every position: measured, fitted, written, verified and taken out like one label a sample."""

from __future__ import annotations

import base64
import io
import re
import shutil
from functools import cache

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper
from PIL import Image
from sklearn.metrics import jaccard_score

import onnxtweak
from onnxtweak.cli.main import main, program
from onnxtweak.commands.compare import compare
from onnxtweak.commands.dump import dump
from onnxtweak.commands.join import join
from onnxtweak.commands.slot import slot
from onnxtweak.commands.verify import verify
from onnxtweak.data.splits import open_splits
from onnxtweak.engine.opened import open_model
from onnxtweak.engine.passes import Folding, capture
from onnxtweak.errors import DataError, ModelError, UsageError
from onnxtweak.model.file.tweak_metadata import tweaks_inside
from onnxtweak.settings import (
    DataSettings,
    EngineSettings,
    FitSettings,
    JoinSettings,
    OutputSettings,
    TapSettings,
    TargetSettings,
)
from onnxtweak.stages.open_job import prepare
from onnxtweak.theta.reference import signed_theta
from onnxtweak.types import silent
from tests.support.at_positions import CLASSES, KINDS, LACKING, model_at_positions
from tests.support.nets import NetBuilder, mlp
from tests.support.plain_session import plain_session

QUICK = {"backend": "numpy", "hidden": 0, "device": "cpu", "max_class_drop": "none"}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A model of each kind, made once."""

    def make(kind):
        samples = 40 if kind.startswith("pixels") else 160  # which have more positions each
        return model_at_positions(kind, tmp_path_factory.mktemp(kind), samples)

    return cache(make)


@pytest.fixture(params=KINDS)
def made(request, models):
    return models(request.param)


def run_file(path, x):
    """The value of a file's own output."""
    session = plain_session(str(path))
    (value,) = session.run(None, {"x": x})
    return value


def shown(path, x, class_axis):
    """The classes (N, positions ...) that a file's own output shows."""
    value = run_file(path, x)
    return value if value.dtype.kind == "i" else value.argmax(class_axis)


def test_accuracy_is_of_all_positions(made):
    found = onnxtweak.evaluate(made.model, data=made.data)
    right = shown(made.model, made.x, made.class_axis) == made.labels
    assert found.unit == "positions" and found.metrics.samples == made.labels.size
    assert found.metrics.overall == pytest.approx(right.mean())
    (iou,) = found.readings
    now = shown(made.model, made.x, made.class_axis).reshape(-1)
    assert iou.value == pytest.approx(jaccard_score(made.labels.reshape(-1), now, average="macro"))
    assert found.metrics.per_class[LACKING] == pytest.approx(right[made.labels == LACKING].mean())


@pytest.fixture(scope="module")
def patched(tmp_path_factory):
    """What commands make of a model, each once: result, file, tweak."""

    def by(made, command):
        folder = tmp_path_factory.mktemp(command)
        new, tweak = folder / "new.onnx", folder / "new.safetensors"
        asked = {} if command == "augment" else {"target": LACKING}
        if command == "fit":
            asked |= {"max_class_drop": "none", "hidden": 0}
        files = {"data": made.data, "output": new, "tweak": tweak}
        found = getattr(onnxtweak, command)(made.model, **files, **asked, backend="numpy", device="cpu")
        return found, new, tweak

    kept = {}

    def once(made, command):
        if (made.model, command) not in kept:
            kept[made.model, command] = by(made, command)
        return kept[made.model, command]

    return once


def test_the_lacking_class_is_learnt_and_the_file_shows_it(made, patched, tmp_path):
    again, back = tmp_path / "again.onnx", tmp_path / "back.onnx"
    fitted, new, tweak = patched(made, "fit")
    assert {check.name: check.passed for check in fitted.checks}["simulation"]
    assert all(check.passed for check in fitted.checks) and fitted.verdict.unit == "positions"
    wanted = made.labels == LACKING
    was, now = (shown(path, made.x, made.class_axis) == made.labels for path in (made.model, new))
    assert now[wanted].mean() > was[wanted].mean() + 0.3
    assert now.mean() > was.mean()
    onnxtweak.apply(made.model, tweak, again)
    assert again.read_bytes() == new.read_bytes()
    onnxtweak.revert(new, back)
    assert back.read_bytes() == made.model.read_bytes()


def test_any_number_of_positions_can_be_asked_of_the_new_file(models, patched):
    made = models("tokens")
    _, new, _ = patched(made, "fit")
    assert shown(new, made.x[:2], made.class_axis).shape == (2, 9)


def test_no_sample_is_in_two_splits_and_each_gives_as_many_positions(made):
    inputs = open_model(made.model, TapSettings()).specs
    splits = open_splits(DataSettings(data=(str(made.data),)), inputs)
    samples = [set(view.samples.tolist()) for view in splits.views]
    assert sum(map(len, samples)) == len(set.union(*samples)) == len(made.x)
    flat = made.labels.reshape(-1)
    for view in splits.views:
        assert np.array_equal(view.labels, flat[view.rows])
        assert np.array_equal(view.groups(None), view.rows // made.labels[0].size)


def test_positions_without_a_label_do_not_count(tmp_path):
    made = model_at_positions("pixels", tmp_path, samples=80)
    labels = made.labels.astype(np.uint8)
    labels[:, :2] = 255
    np.savez(made.data, x=made.x, y=labels)
    found = onnxtweak.evaluate(made.model, data=made.data)
    right = (shown(made.model, made.x, made.class_axis) == made.labels)[:, 2:]
    assert found.metrics.samples == right.size and found.metrics.overall == pytest.approx(right.mean())
    signed = np.where(labels == 255, -1, labels.astype(np.int64))
    np.savez(made.data, x=made.x, y=signed)
    assert onnxtweak.evaluate(made.model, data=made.data).metrics.overall == found.metrics.overall


def test_inspect_says_which_labels_are_wanted(made):
    found = onnxtweak.inspect(made.model)
    sizes = ", ".join(map(str, made.labels.shape[1:]))
    assert found.kind == "positions" and found.classes == CLASSES
    assert f"labels of shape (N, {sizes})" in " ".join(found.notes)
    assert found.class_axis == made.class_axis


def test_what_the_user_says_of_the_head_is_not_passed_over(tmp_path):
    made = model_at_positions("tokens", tmp_path, samples=4)
    with pytest.raises(DataError, match="shows one class, and not each label for itself"):
        onnxtweak.evaluate(made.model, data=made.data, head="labels")
    with pytest.raises(ModelError) as error:
        onnxtweak.evaluate(made.model, data=made.data, class_axis=1)
    assert "--class-axis" in error.value.hint


@pytest.mark.parametrize(("kind", "taken", "axis"), [("pixels", "(N, H, W)", 1), ("tokens", "(N, T)", 2)])
def test_inspect_says_it_of_any_size_too(tmp_path, capsys, kind, taken, axis):
    model = model_at_positions(kind, tmp_path, samples=2).model
    proto = onnx.load(model)
    for place, size in enumerate(proto.graph.input[0].type.tensor_type.shape.dim):
        size.dim_param = f"axis{place}"
    onnx.save(proto, model)
    assert main(["inspect", str(model)]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert f"kind positions, classes on axis {axis}" in said and f"take labels of shape {taken}, -1" in said


@pytest.mark.parametrize(
    ("labels", "what"),
    [
        (lambda y: y[:, 0, 0], "there is a label per sample, and the model has scores at each of 8x8"),
        (lambda y: y[:, ::2, ::2], "there is a label at each of 4x4 positions, and the model has scores at"),
        (lambda y: y.repeat(2, 1).repeat(2, 2), r"at each of 16x16 pos(?s:.*) y\[:, 1::2, 1::2\]; or export"),
        (lambda y: np.where(y == 0, 255, y), "out of range(?s:.*)--ignore-index 255 leaves out"),
        (lambda y: y + 2**30, "is no class number"),
    ],
)
def test_labels_that_do_not_fit_are_refused(tmp_path, labels, what):
    made = model_at_positions("pixels", tmp_path, samples=80)
    np.savez(made.data, x=made.x, y=labels(made.labels))
    with pytest.raises(DataError, match=what):
        onnxtweak.evaluate(made.model, data=made.data)


def test_a_classifier_wants_one_label_each(tmp_path):
    model, data = tmp_path / "m.onnx", tmp_path / "d.npz"
    model.write_bytes(mlp().SerializeToString())
    np.savez(data, x=np.zeros((30, 8), np.float32), y=np.tile([0, 1, 2], (30, 1)))
    with pytest.raises(DataError, match="neither class numbers nor one-hot"):
        onnxtweak.evaluate(model, data=data)


@pytest.mark.parametrize(
    ("made", "command"),
    [
        *((kind, "join") for kind in KINDS),
        *((kind, "retrain") for kind in ("pixels-last", "tokens")),
        *((kind, "augment") for kind in KINDS if kind != "pixels"),  # which `pixels-argmax` are inside
    ],
    indirect=["made"],
)
def test_a_method_of_the_thesis_patches_every_position(made, patched, tmp_path, command):
    back = tmp_path / "back.onnx"
    found, new, _ = patched(made, command)
    assert {check.name for check in found.checks if check.passed} >= {"simulation", "neutral", "reload"}
    wanted = made.labels == LACKING
    was, now = (shown(path, made.x, made.class_axis) == made.labels for path in (made.model, new))
    assert now[wanted].mean() > was[wanted].mean() + 0.2 and now.mean() > was.mean() - 0.02
    onnxtweak.revert(new, back)
    assert back.read_bytes() == made.model.read_bytes()


def test_theta_of_positions_is_that_of_the_definition(tmp_path):
    """Each synapse as the slow reference computes it, from values and scores that are dumped row by row."""
    made, folder = model_at_positions("tokens", tmp_path, samples=80), tmp_path / "dump"
    settings = {"device": "cpu", "taps": ["activations"]}
    dump(model=str(made.model), data=DataSettings((str(made.data),)), directory=str(folder))
    V, Z, L = (np.concatenate([np.load(part) for part in sorted(folder.glob(f"{name}-*"))]) for name in "VZL")
    assert len(V) == made.labels.size and np.array_equal(L, made.labels.reshape(-1))
    found = onnxtweak.score(made.model, data=made.data, target=LACKING, **settings)
    again = onnxtweak.score(made.model, data=folder, target=LACKING, device="cpu")
    assert found.top == again.top and found.top[0]["count"] > 0
    for row in found.top:
        limits = signed_theta(V[:, row["index"]], Z, L, LACKING)
        up = row["weight"] > 0
        assert row["count"] == (limits.count_hi if up else limits.count_lo)
        assert abs(row["weight"]) == pytest.approx(1 / (limits.hi if up else limits.lo), rel=1e-4)


def test_the_same_bytes_however_rows_are_cut(tmp_path):
    """Folds of theta end at a shard, which is counted in rows and divides samples."""
    made, files = model_at_positions("frames", tmp_path), []
    for number, changed in enumerate(({}, {"batch": 3}, {"work_dir": str(tmp_path)})):
        engine = EngineSettings(shard=500, backend="numpy", device="cpu", **changed)
        asked = {"targets": TargetSettings((str(LACKING),)), "settings": JoinSettings(criterion="lift")}
        files.append(tmp_path / f"{number}.onnx")
        data, output = DataSettings((str(made.data),)), OutputSettings(str(files[-1]))
        join(model=str(made.model), data=data, engine=engine, output=output, **asked)
    assert len({file.read_bytes() for file in files}) == 1 != len({*files[:1], made.model})
    data = DataSettings((str(made.data),))
    job = prepare(str(made.model), data, EngineSettings(device="cpu"), TapSettings(), silent)
    cut = Folding(every=500)
    parts = [
        len(got.Z) for got in capture(job.subject, job.splits.fit, job.engine, "x", job.taps, folding=cut)
    ]
    assert sum(parts) == len(job.splits.fit) and {504, 1008, 1512} <= set(np.cumsum(parts).tolist())


def test_methods_are_compared_there_and_one_is_written(tmp_path):
    made, new = model_at_positions("tokens", tmp_path), tmp_path / "new.onnx"
    asked = {"targets": TargetSettings((str(LACKING),)), "methods": ("join", "SR-1", "cRT", "AAN", "fit")}
    asked |= {"settings": FitSettings(hidden=0)}
    data, output = DataSettings((str(made.data),)), OutputSettings(str(new))
    found = compare(model=str(made.model), data=data, write="SR-1", output=output, **asked)
    reached = {one.method: one.at[0][0] for one in found.standings}
    assert reached["fit"] > 0.9 and reached["join"] > found.before["target"][0]
    right = shown(new, made.x, made.class_axis) == made.labels
    assert right[made.labels == LACKING].mean() > found.before["target"][0] + 0.2
    assert any("because positions of one sample are not independent" in note for note in found.notes)


def test_maps_are_pooled_over_all_of_a_sample_or_not_at_all(tmp_path):
    made = model_at_positions("pixels", tmp_path, samples=20)
    asked = {"data": made.data, "target": LACKING, "taps": "activations", **QUICK}
    with pytest.raises(UsageError, match="maps are read at these positions, or their means"):
        onnxtweak.fit(made.model, pool="max", **asked)


@pytest.mark.parametrize(("kind", "hidden"), [("pixels-last", 0), ("tokens", 8)])
def test_what_a_sample_is_like_as_a_whole_is_read_too(tmp_path, kind, hidden):
    """A class is there in samples whose input is high on the whole, wherever its score is not the lowest."""
    made = model_at_positions(kind, tmp_path, samples=48)
    high = made.x.reshape(len(made.x), -1).mean(axis=1) > 0
    labels = np.where(high.reshape(-1, *(1 for _ in made.labels.shape[1:])), 3, made.labels)
    x = made.x + np.where(high, 0.2, -0.2).reshape(-1, *(1 for _ in made.x.shape[1:])).astype(np.float32)
    data, new, back = (tmp_path / name for name in ("data.npz", "new.onnx", "back.onnx"))
    np.savez(data, x=x, y=labels)
    found = onnxtweak.fit(made.model, data=data, output=new, **{**QUICK, "hidden": hidden})
    assert "means over the sample" in next(note for note in found.notes if note.startswith("chosen: "))
    assert all(check.passed for check in found.checks)
    (inside,) = tweaks_inside(onnx.load(new))
    assert "mean" in {tap["pool"] for tap in inside.patch["taps"]}
    right = shown(new, x, made.class_axis) == labels
    assert right.mean() > (shown(made.model, x, made.class_axis) == labels).mean() + 0.2
    verified = verify(tweaked=str(new), base=str(made.model), data=DataSettings((str(data),)))
    assert all(check.passed for check in verified.checks)
    onnxtweak.revert(new, back)
    assert back.read_bytes() == made.model.read_bytes()


@pytest.mark.parametrize("alone", [False, True])
def test_listed_samples_are_listed_positions(tmp_path, alone):
    """Every position that has a label, counted as the written file shows it."""
    made, new = model_at_positions("frames", tmp_path, samples=60), tmp_path / "new.onnx"
    x, labels = made.x[:4] * np.float32(1.05), made.labels[:4].copy()
    labels[:, 0] = -1
    must, lock = tmp_path / "must.npz", tmp_path / "lock.npz"
    np.savez(must, x=x, y=labels)
    np.savez(lock, x=made.x[10:30], y=made.labels[10:30])
    data = {} if alone else {"data": made.data}
    found = onnxtweak.fit(made.model, must=must, lock=lock, output=new, **data, **QUICK).listed
    was, now = (shown(path, x, made.class_axis)[:, 1:] == labels[:, 1:] for path in (made.model, new))
    assert found.must.samples == was.size and found.must.already_right == was.sum() < was.size
    assert found.must.right == now.sum() and found.must.infeasible == (~now).sum() <= 2
    x, labels = made.x[10:30], made.labels[10:30]
    was, now = (shown(path, x, made.class_axis) == labels for path in (made.model, new))
    assert found.lock.right == was.sum() and found.lock.broken == (was & ~now).sum() <= 2
    data = DataSettings(must=(str(must),), lock=(str(lock),))
    verified = verify(tweaked=str(new), base=str(made.model), data=data)
    checks = {check.name: check for check in verified.checks}
    assert checks["must"].passed == (found.must.infeasible == 0)


def test_the_page_draws_what_is_shown_at_pixels(tmp_path):
    made, report = model_at_positions("pixels", tmp_path, samples=20), tmp_path / "r.html"
    found = onnxtweak.fit(
        made.model, data=made.data, target=LACKING, report=report, output=tmp_path / "n", **QUICK
    )
    one = found.evidence["samples"]["fixed"][0]
    assert one["masks"] and one["after"] == one["label"] != one["before"]
    picture = Image.open(io.BytesIO(base64.b64decode(one["picture"].partition(",")[2])))
    assert picture.size == (16, 16)
    tiles = np.asarray(picture).astype(int)
    drawn = {"label": tiles[:8, 8:], "before": tiles[8:, :8], "after": tiles[8:, 8:]}
    was, now = (shown(path, made.x[[one["row"]]], 1)[0] for path in (made.model, tmp_path / "n"))
    wanted = {"label": made.labels[one["row"]], "before": was, "after": now}
    for a, b in (("label", "before"), ("label", "after")):
        differ = (drawn[a] != drawn[b]).any(axis=2)
        assert np.array_equal(differ, wanted[a] != wanted[b])
    assert "there are four tiles" in report.read_text(encoding="utf-8")


def test_positions_that_contradict_each_other_are_named(tmp_path):
    made, must = model_at_positions("frames", tmp_path, samples=80), tmp_path / "must.npz"
    labels = np.concatenate([made.labels[:3], made.labels[:3]])
    labels[4, 7] = (labels[4, 7] + 1) % CLASSES
    np.savez(must, x=np.concatenate([made.x[:3], made.x[:3]]), y=labels)
    with pytest.raises(DataError, match="two must-samples are identical but for their labels"):
        onnxtweak.fit(made.model, must=must, **QUICK)


def test_decisions_are_kept_at_positions(tmp_path):
    made = model_at_positions("frames", tmp_path, samples=60)
    np.savez(tmp_path / "keep.npz", x=made.x[::-1][:40] * 1.1)
    asked = {"target": LACKING, "output": tmp_path / "new.onnx"}
    fitted = onnxtweak.fit(made.model, data=made.data, keep=tmp_path / "keep.npz", **asked, **QUICK)
    keep = fitted.listed.keep
    assert keep.samples == keep.right == 40 * made.labels[0].size
    x = made.x[::-1][:40] * np.float32(1.1)
    was, now = (shown(path, x, made.class_axis) for path in (made.model, tmp_path / "new.onnx"))
    assert keep.broken == (was != now).sum()
    assert all(", position " in one.where for one in keep.named)
    assert "keep the decision on" in fitted.verdict.goal


def test_a_slot_takes_tweaks_there(made, patched, tmp_path):
    """Filled in one call, it shows what the file with that tweak shows, maps that are resized included."""
    constant, empty, tweaks = tmp_path / "c.onnx", tmp_path / "slot.onnx", []
    for command in ("fit", "join"):
        tweaks.append(tmp_path / f"{command}.safetensors")
        shutil.copy(patched(made, command)[2], tweaks[-1])
    slot(model=str(made.model), tweaks=list(map(str, tweaks)), output=OutputSettings(str(empty)))
    loaded = plain_session(str(empty))
    assert np.array_equal(loaded.run(None, {"x": made.x})[0], run_file(made.model, made.x))
    for tweak in tweaks:
        onnxtweak.apply(made.model, tweak, constant, force=True)
        adapter, options = ort.LoraAdapter(), ort.RunOptions()
        adapter.Load(str(tweak.with_suffix(".onnx_adapter")))
        options.add_active_adapter(adapter)
        filled = loaded.run(None, {"x": made.x}, options)[0]
        wanted = run_file(constant, made.x)
        close = filled == wanted if wanted.dtype.kind == "i" else np.isclose(filled, wanted, atol=1e-5)
        assert close.mean() > 0.999 and not np.array_equal(filled, run_file(made.model, made.x))


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda y: y[:0], "no samples"),
        (lambda y: np.full(y.shape, 255, np.uint8), "none of the 1,280 positions has a label"),
        (lambda y: y.astype(np.float32), r"are float32.*\n.*astype\('int64'\)"),
    ],
)
def test_samples_without_a_class_anywhere_are_refused(tmp_path, change, what):
    made = model_at_positions("pixels", tmp_path, samples=20)
    labels = change(made.labels)
    np.savez(made.data, x=made.x[: len(labels)], y=labels)
    with pytest.raises(DataError) as caught:
        onnxtweak.evaluate(made.model, data=made.data)
    assert re.search(what, f"{caught.value.what}\n{caught.value.hint}")


@pytest.mark.parametrize("asked", [{"slice": "site"}, {"group": "site", "target": LACKING}])
def test_columns_of_groups_are_of_samples(tmp_path, asked):
    made = model_at_positions("frames", tmp_path, samples=60)
    np.savez(made.data, x=made.x, y=made.labels, site=np.arange(len(made.x)) % 12)
    fitted = onnxtweak.fit(made.model, data=made.data, by="site", **asked, **QUICK)
    sizes = [group.samples for group in fitted.verdict.groups]
    assert sum(sizes) == fitted.verdict.samples and all(size % made.labels[0].size == 0 for size in sizes)


def test_tables_of_groups_count_positions(tmp_path, capsys):
    made = model_at_positions("frames", tmp_path, samples=80)
    np.savez(made.data, x=made.x, y=made.labels, site=np.arange(len(made.x)) % 3)
    program(["evaluate", str(made.model), "-d", str(made.data), "--by", "site"], standalone_mode=False)
    told = capsys.readouterr()
    assert "site  positions  accuracy" in told.out and f"{made.labels.size:,} positions evaluated" in told.err


def test_maps_with_an_axis_of_one_are_read_at_the_positions_drawn(tmp_path):
    """As readers of lines have them, between their picture and their characters: (N, channels, 1, T)."""
    net, rng = NetBuilder(seed=0), np.random.default_rng(0)
    wide = net.op("Relu", net.op("Conv", "x", net.he(10, 4, 1, 3), pads=[0, 1, 0, 1], kernel_shape=[1, 3]))
    scores = net.op("Conv", wide, net.he(5, 10, 1, 1), kernel_shape=[1, 1])
    net.op("Softmax", net.op("Squeeze", scores, net.ints(2)), axis=1, name="answer")
    declared = {"x": (TensorProto.FLOAT, ["N", 4, 1, "T"])}
    proto = net.model(declared, {"answer": (TensorProto.FLOAT, ["N", 5, "T"])})
    onnx.save(proto, tmp_path / "wide.onnx")
    x = rng.normal(0, 1, (60, 4, 1, 9)).astype(np.float32)
    session = plain_session(proto.SerializeToString())
    shown = session.run(None, {"x": x})[0].argmax(axis=1)
    labels = np.where((shown == 1) & (x[:, 0, 0] > 0), 3, shown)
    words = {"data": (x, labels), "device": "cpu", "hidden": 0, "folds": 10}
    found = onnxtweak.fit(tmp_path / "wide.onnx", output=tmp_path / "new.onnx", **words)
    assert found.after.overall > found.before.overall and all(check.passed for check in found.checks)


def test_an_output_may_have_its_classes_on_another_axis_than_the_scores(tmp_path):
    made = model_at_positions("frames", tmp_path, samples=60)
    proto = onnx.load(made.model)
    proto.graph.node[-1].output[0] = "scores first"
    proto.graph.node.append(helper.make_node("Transpose", ["scores first"], ["answer"], perm=[0, 2, 1]))
    onnx.save(proto, made.model)
    found = onnxtweak.fit(made.model, data=made.data, target="2", hidden=0, device="cpu",
                          output=tmp_path / "new.onnx")  # fmt: skip
    assert found.after.target > found.before.target and all(check.passed for check in found.checks)
    session = plain_session(str(tmp_path / "new.onnx"))
    (shown,) = session.run(None, {"x": made.x})
    right = float((shown.argmax(axis=2) == made.labels).mean())
    again = onnxtweak.evaluate(tmp_path / "new.onnx", data=made.data, device="cpu")
    assert again.metrics.overall == pytest.approx(right)


@pytest.mark.parametrize(("opset", "said"), [(10, 1), (11, 0)])
def test_maps_that_an_old_opset_cannot_resize_are_said_to_be_left_out(tmp_path, opset, said):
    net = NetBuilder(opset=opset)
    coarse = net.op("Relu", net.conv("x", (3, 4), stride=2), name="coarse")
    ones = net.const(np.ones((4, 4, 2, 2), np.float32))
    twice = net.op("ConvTranspose", coarse, ones, strides=[2, 2])
    both = net.op("Concat", net.op("Relu", net.conv("x", (3, 4))), twice, axis=1)
    net.conv(both, (8, 3), kernel=1, name="scores")
    shape = (TensorProto.FLOAT, ["N", 3, 8, 8])
    onnx.save(net.model({"x": shape}, {"scores": shape}), tmp_path / "net.onnx")
    x = np.random.default_rng(0).normal(size=(24, 3, 8, 8)).astype(np.float32)
    np.savez(tmp_path / "x.npz", x=x, y=x.argmax(axis=1))
    data = DataSettings((str(tmp_path / "x.npz"),))
    job = prepare(str(tmp_path / "net.onnx"), data, EngineSettings(device="cpu"), TapSettings(), silent)
    notes = [note for note in job.splits.notes if f"left out (`coarse`): opset {opset} cannot" in note]
    assert len(notes) == said and ("coarse" in [tap.name for tap in job.taps]) == (not said)


def test_an_axis_that_was_said_is_known_of_the_new_file(tmp_path):
    """Scores of 4 x 9 positions, of which the graph suggests that the first axis counts classes."""
    net, rng, weak = NetBuilder(), np.random.default_rng(0), np.array([1, 1, 0.2, 1, 1], np.float32)
    hidden = net.op("Relu", net.conv("x", (3, 12)))
    own = net.op("Transpose", net.conv(hidden, (12, CLASSES), kernel=1), perm=[0, 2, 3, 1])
    declared, x = (
        {"x": (TensorProto.FLOAT, ["N", 3, 4, 9])},
        rng.normal(0, 1, (40, 3, 4, 9)).astype(np.float32),
    )
    whole = net.model(declared, {own: (TensorProto.FLOAT, [None] * 4)})
    (truth,) = plain_session(whole.SerializeToString()).run(None, {"x": x})
    y = truth.argmax(3)
    net.op("Mul", own, net.const(weak), name="answer")
    model, new = tmp_path / "m.onnx", tmp_path / "n.onnx"
    onnx.save(net.model(declared, {"answer": (TensorProto.FLOAT, ["N", 4, 9, CLASSES])}), model)
    with pytest.raises(DataError) as error:
        onnxtweak.evaluate(model, data=(x, y))
    assert error.value.hint.endswith("axis 3 of the scores that counts the classes, add --class-axis 3")
    tweak = tmp_path / "t.safetensors"
    onnxtweak.fit(model, data=(x, y), class_axis=3, target=2, output=new, tweak=tweak, **QUICK)
    right = (shown(new, x, 3) == y).mean()
    assert onnxtweak.evaluate(new, data=(x, y)).metrics.overall == pytest.approx(right)
    assert right > (shown(model, x, 3) == y).mean() and onnxtweak.inspect(new).class_axis == 3
    slot(model=str(model), tweaks=[str(tweak)], output=OutputSettings(str(tmp_path / "slot.onnx")))
    found = onnxtweak.evaluate(tmp_path / "slot.onnx", data=(x, y)).metrics.overall
    assert found == pytest.approx((shown(model, x, 3) == y).mean())


@pytest.mark.parametrize("way", [[], ["--slot"], ["--shadow"]])
def test_a_tweak_of_another_model_is_named_before_anything_else(way, models, patched, tmp_path, capsys):
    _, _, tweak = patched(models("pixels"), "fit")
    words = ["apply", str(models("tokens").model), str(tweak), "-o", str(tmp_path / "n.onnx")]
    assert main([*words, *way]) == 2
    assert "error: the tweak belongs to another model" in capsys.readouterr().err
