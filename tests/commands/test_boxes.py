"""Detectors: objects are found, learnt, written, verified and taken out like classes of samples."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

import onnxtweak
from onnxtweak.commands.verify import verify
from onnxtweak.engine.kept import kept_results
from onnxtweak.errors import DataError, UsageError
from onnxtweak.method.fit import linear
from onnxtweak.method.fit.several import weights
from onnxtweak.settings import DataSettings, EngineSettings
from tests.support.finders import CLASSES, LACKING, SIZE, by_hand, finder

QUICK = {"backend": "numpy", "device": "cpu"}
EACH = ("joined", "apart", "agnostic", "yolov5", "yolox", "yolox-suppressed")  # a sigmoid for each class
OFTEN = (*EACH, "background", "two-anchors")


@pytest.fixture(scope="module", params=OFTEN)
def made(request, tmp_path_factory):
    samples = 48 if request.param in EACH else 64  # by which what is promised is shown
    return request.param, finder(request.param, tmp_path_factory.mktemp(request.param), samples)


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    """A model of one kind, where kinds do not differ."""
    return finder("joined", tmp_path_factory.mktemp("one"), samples=48)


def test_the_files_own_output_is_what_is_evaluated(made):
    _kind, found = made
    seen = onnxtweak.evaluate(found.model, data=found.data, target="2", device="cpu")
    wanted = found.precision()
    assert seen.metrics.per_class == pytest.approx(wanted[0])
    assert seen.metrics.strict == pytest.approx(wanted.mean(axis=0))
    assert seen.metrics.overall == pytest.approx(wanted[0].mean())
    assert seen.metrics.target == pytest.approx(wanted[0, LACKING])
    assert [reading.value for reading in seen.readings] == pytest.approx([wanted[0].mean(), wanted.mean()])
    assert seen.metrics.per_class[LACKING] < 0.8 and seen.unit == "objects"


def test_the_worst_classes_are_those_found_worst(one):
    seen = onnxtweak.evaluate(one.model, data=one.data, worst=1, device="cpu")
    assert seen.targets == (str(int(np.argmin(seen.metrics.per_class))),)


def test_other_measures_are_refused(one):
    for asked in ({"metric": "f1"}, {"by": "camera"}):
        with pytest.raises((UsageError, DataError)):
            onnxtweak.evaluate(one.model, data=one.data, device="cpu", **asked)


def test_what_labels_are_is_not_for_the_user_to_say(one):
    with pytest.raises(UsageError, match="whose labels are boxes") as error:
        onnxtweak.evaluate(one.model, data=one.data, device="cpu", head="labels")
    assert error.value.where == "--head labels" and "--class-axis" in error.value.hint
    with pytest.raises(DataError, match="not taken for a detector"):  # the user says that it is none
        onnxtweak.evaluate(one.model, data=one.data, device="cpu", class_axis=2)


@pytest.mark.parametrize("role", ["must", "lock", "keep"])
def test_listed_samples_are_refused_by_name(one, role, tmp_path):
    with pytest.raises(UsageError, match="not possible for a detector yet") as error:
        onnxtweak.fit(one.model, data=one.data, target="2", output=tmp_path / "new.onnx", **{role: one.data})
    assert error.value.where == f"--{role} {one.data}" and error.value.hint.startswith("leave it out: ")


def test_classes_that_the_model_lacks_are_refused(one):
    other = one.boxes.copy()
    other[3, 1] = CLASSES
    with pytest.raises(DataError, match="class 3 is out of range: the model has 3 classes of objects"):
        onnxtweak.evaluate(one.model, data=(one.x, other), device="cpu")


def test_names_beside_labels_are_the_models_where_it_has_none(one, tmp_path):
    for folder in ("images", "labels"):
        (tmp_path / folder).mkdir()
    for k in range(8):
        pixels = np.clip(one.x[k] * 100 + 50, 0, 255).astype(np.uint8).transpose(1, 2, 0)
        Image.fromarray(pixels).save(tmp_path / "images" / f"{k}.png")
        own = one.boxes[one.boxes[:, 0] == k, 1:]
        middle, sides = (own[:, 1:3] + own[:, 3:]) / 2 / SIZE, (own[:, 3:] - own[:, 1:3]) / SIZE
        rows = np.column_stack([own[:, :1], middle, sides])
        np.savetxt(tmp_path / "labels" / f"{k}.txt", rows, fmt="%d %f %f %f %f")
    asked = {"data": tmp_path, "mean": 50, "std": 100, "device": "cpu"}
    for names, classes, said in (
        ("red, green, blue", ("red", "green", "blue"), "class names are those of data.yaml"),
        ("red, green", ("0", "1", "2"), "names in data.yaml are not used: it has 2, and the model 3"),
    ):
        (tmp_path / "data.yaml").write_text(f"names: [{names}]\n")
        found = onnxtweak.evaluate(one.model, **asked)
        assert found.classes == classes and said in found.notes
    (tmp_path / "classes.txt").write_text("a\nb\nc\n")
    assert onnxtweak.evaluate(one.model, **asked).classes == ("a", "b", "c")


def test_labels_of_another_kind_are_refused(one):
    with pytest.raises(DataError, match="are no boxes"):
        onnxtweak.evaluate(one.model, data=(one.x, np.zeros(48, int)), device="cpu")


@pytest.fixture(scope="module")
def fitted(made, tmp_path_factory):
    """Each kind with the lacking class raised: kind, finder, folder, result."""
    kind, found = made
    folder = tmp_path_factory.mktemp(f"{kind}-fitted")
    asked = {"target": str(LACKING), "output": folder / "new.onnx", "tweak": folder / "new.safetensors"}
    return kind, found, folder, onnxtweak.fit(found.model, data=found.data, **asked, **QUICK)


def test_the_lacking_class_is_raised_and_boxes_stay(fitted):
    kind, found, folder, result = fitted
    assert result.verdict.answer == "fit" and all(check.passed for check in result.checks)
    assert {"neutral", "simulation", "unharmed", "reload"} <= {check.name for check in result.checks}
    assert result.after.target > result.before.target + 0.2
    outputs = [found.outputs(path) for path in (found.model, folder / "new.onnx")]
    was, now = (by_hand(kind, each) for each in outputs)
    assert np.array_equal(was[0], now[0])  # boxes, bit for bit
    if kind.startswith("yolo"):  # and the score of any object
        assert np.array_equal(outputs[0][0][..., :5], outputs[1][0][..., :5])
    if kind in EACH:
        others = [c for c in range(CLASSES) if c != LACKING]
        assert np.array_equal(was[1][..., others], now[1][..., others])
    assert not np.array_equal(was[1][..., LACKING], now[1][..., LACKING])


@pytest.mark.parametrize("kind", ["joined", "background"])
def test_what_was_learnt_is_kept(kind, tmp_path, monkeypatch):
    monkeypatch.setattr(kept_results, "_LONG", 0)
    found = finder(kind, tmp_path, samples=30)
    asked = {"target": str(LACKING), "work_dir": tmp_path / "work", **QUICK}
    onnxtweak.fit(found.model, data=found.data, output=tmp_path / "new.onnx", **asked)
    monkeypatch.setattr(weights, "logistic", None)  # nothing is solved again
    monkeypatch.setattr(linear, "multinomial", None)
    onnxtweak.fit(found.model, data=found.data, output=tmp_path / "again.onnx", resume=True, **asked)
    assert (tmp_path / "again.onnx").read_bytes() == (tmp_path / "new.onnx").read_bytes()


def test_the_result_is_a_promise_about_objects(fitted):
    result = fitted[-1]
    assert {promise.name: promise.state for promise in result.verdict.promises}["targets"] == "kept"
    assert result.verdict.unit == "objects" and result.measured.split == "test"


def test_the_tweak_gives_the_same_file_and_comes_out_again(fitted, tmp_path):
    _, found, folder, _ = fitted
    again, back = tmp_path / "again.onnx", tmp_path / "back.onnx"
    onnxtweak.apply(found.model, folder / "new.safetensors", output=again)
    assert again.read_bytes() == (folder / "new.onnx").read_bytes()
    onnxtweak.revert(again, output=back)
    assert back.read_bytes() == found.model.read_bytes()


def test_verify_measures_objects(fitted):
    _, found, folder, _ = fitted
    made = verify(
        tweaked=str(folder / "new.onnx"),
        base=str(found.model),
        data=DataSettings(data=(str(found.data),)),
        engine=EngineSettings(device="cpu"),
    )
    checks = {check.name: check for check in made.checks}
    assert all(check.passed for check in made.checks) and {"revert", "base", "digests", "reload"} <= {*checks}
    assert "mAP50 of the targets" in checks["accuracy"].detail
    assert made.after.per_class[LACKING] > made.before.per_class[LACKING] + 0.2
    assert made.after.per_class == pytest.approx(found.precision(folder / "new.onnx")[0])
    plain = verify(tweaked=str(folder / "new.onnx"), engine=EngineSettings(device="cpu"))
    assert all(check.passed for check in plain.checks)


def test_a_tweaked_detector_is_one_still(fitted):
    kind, found, folder, _ = fitted
    seen = onnxtweak.inspect(folder / "new.onnx")
    assert seen.kind == "boxes" and len(seen.tweaks) == 1
    if kind in ("joined", "background", "yolox"):  # each of another way to score
        measured = onnxtweak.evaluate(folder / "new.onnx", data=found.data, device="cpu")
        assert measured.metrics.per_class == pytest.approx(found.precision(folder / "new.onnx")[0])


def test_the_page_shows_objects_in_their_pictures_and_hostile_names_as_text(one, tmp_path):
    names, page = (
        ["red", "<img src=x onerror=alert(1)>", '"><script>alert(2)</script>'],
        tmp_path / "page.html",
    )
    asked = {"target": "2", "names": names, "report": page, "output": tmp_path / "n.onnx"}
    result = onnxtweak.fit(one.model, data=one.data, **asked, **QUICK)
    shown = result.evidence["samples"]
    assert 0 < len(shown["fixed"]) <= shown["counts"]["fixed"].sum() and not shown["counts"]["broken"].any()
    first = shown["fixed"][0]
    assert first["label"] == first["after"] == 2 and first["before"] in (None, 1)
    assert first["picture"].startswith("data:image/png;base64,") and first["boxes"]
    text = page.read_text(encoding="utf-8")
    assert "Objects that changed" in text and first["picture"] in text and "Confusion" not in text
    assert "<script>alert" not in text and "<img src=x" not in text and "&lt;script&gt;alert(2)" in text


def test_a_few_pictures_with_made_up_labels_show_nothing(tmp_path):
    found = finder("joined", tmp_path, samples=24, seed=9)
    made_up = found.boxes.copy()
    made_up[:, 1] = np.random.default_rng(9).integers(0, CLASSES, len(made_up))
    asked = {"data": (found.x, made_up), "target": "2", "seed": 9, "anyway": True}
    verdict = onnxtweak.fit(found.model, **asked, **QUICK).verdict
    targets = next(one for one in verdict.promises if one.name == "targets")
    assert verdict.answer == "fit" and targets.change > 10  # by luck
    assert targets.state == verdict.state == "not shown" and targets.interval[0] < 0


def test_options_that_are_about_decisions_are_refused(one):
    for asked in ({"metric": "f1"}, {"budget": 100}, {"certify": 0.01}):
        with pytest.raises(UsageError, match="not possible for a detector yet"):
            onnxtweak.fit(one.model, data=one.data, **asked, **QUICK)


@pytest.mark.parametrize("kind", ["joined", "background", "yolox"])
def test_all_classes_are_raised_where_none_is_named(kind, tmp_path):
    found = finder(kind, tmp_path, samples=30)
    result = onnxtweak.fit(found.model, data=found.data, **QUICK)
    assert result.after.overall > result.before.overall
