"""Samples of different sizes at positions: run one by one, each with labels of its own size."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
from onnx import TensorProto
from PIL import Image

import onnxtweak
from onnxtweak.cli.main import main
from onnxtweak.errors import DataError
from onnxtweak.stages.rows import own_positions
from tests.support.nets import NetBuilder
from tests.support.rounded import rounded
from tests.support.text_lines import read, text_lines
from tests.support.unequal import KINDS, objects, unequal

QUICK = ("--device", "cpu", "--hidden", "0", "--max-class-drop", "none")


def run(capsys, *words):
    """The JSON of a command that succeeds."""
    code, said = main([*map(str, words), "-f", "json"]), capsys.readouterr()
    assert code == 0, said.err
    return json.loads(said.out)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_said_of_base_and_file_is_what_they_show_sample_by_sample(kind, tmp_path, capsys):
    made, new = unequal(kind, tmp_path, 40 if kind in ("pixels", "roll") else 60), tmp_path / "new.onnx"
    several = kind in ("marks", "roll")
    before = run(capsys, "evaluate", made.model, "-d", made.data, "--by", "site")
    if not several:
        assert before["metrics"]["overall"] == pytest.approx(made.right(made.model))
    groups = {one["name"]: one["accuracy"] for one in before["groups"]}
    own = [(one == y).mean() * y.size for one, y in zip(made.shown(made.model), made.ys, strict=True)]
    sizes = [y.size for y in made.ys]
    assert groups["1"] == pytest.approx(sum(own[1::3]) / sum(sizes[1::3]))
    words = () if several else ("-t", "2")
    found = run(capsys, "fit", made.model, "-d", made.data, *words, *QUICK, "-o", new)
    assert all(check["passed"] for check in found["checks"]) and made.right(new) > made.right(made.model)
    after = run(capsys, "evaluate", new, "-d", made.data)
    assert after["metrics"]["overall"] > before["metrics"]["overall"]
    assert run(capsys, "verify", new, "--base", made.model, "-d", made.data)["checks"]


def test_a_sample_with_too_few_labels_is_named(tmp_path, capsys):
    made = unequal("tokens", tmp_path, samples=30)
    np.savez(tmp_path / "short.npz", x=objects(made.xs), y=objects([*made.ys[:-1], made.ys[-1][:-1]]))
    assert main(["evaluate", str(made.model), "-d", str(tmp_path / "short.npz")]) == 2
    assert f"there is a label at each of {len(made.ys[-1]) - 1} positions" in (
        said := capsys.readouterr().err
    )
    assert "row 29 of" in said


def test_methods_lists_and_pages_take_them(tmp_path, capsys):
    made = unequal("tokens", tmp_path, samples=60)
    words = ("-d", made.data, "-t", "2", "--device", "cpu", "--force", "-o", tmp_path / "new.onnx")
    for command in ("join", "retrain"):
        run(capsys, command, made.model, *words)
    run(capsys, "compare", made.model, *words[:-2], "--method", "SR-1", "--method", "cRT")
    np.savez(tmp_path / "keep.npz", x=objects(made.xs[:20]))
    listed = objects([x * np.float32(1.02) for x in made.xs[:3]])
    np.savez(tmp_path / "must.npz", x=listed, y=objects(made.ys[:3]))
    found = run(
        capsys, "fit", made.model, *words, "--hidden", "0", "--keep", tmp_path / "keep.npz",
        "--must", tmp_path / "must.npz", "--report", tmp_path / "page.html",
    )  # fmt: skip
    assert found["listed"]["must"]["right"] == sum(map(len, made.ys[:3]))
    assert "<html" in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_a_copy_is_matched_on_them_without_labels(tmp_path, capsys):
    made = unequal("tokens", tmp_path, samples=60)
    copy, new = tmp_path / "copy.onnx", tmp_path / "new.onnx"
    onnx.save(rounded(onnx.load(made.model), 4), copy)
    np.savez(tmp_path / "bare.npz", x=objects(made.xs))
    words = ("-d", tmp_path / "bare.npz", "--reference", made.model, "-o", new)
    agreed = run(capsys, "match", copy, *words)["matched"]["agreement"]
    wanted, was, now = (np.concatenate(made.shown(path)) for path in (made.model, copy, new))
    assert (now == wanted).mean() > (was == wanted).mean() and agreed["tweaked"] > agreed["base"]


def test_pictures_with_masks_of_their_own_sizes(tmp_path, capsys):
    made, folder = unequal("pixels", tmp_path, samples=40), tmp_path / "scenes"
    scale = 40.0
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    for k, (x, y) in enumerate(zip(made.xs, made.ys, strict=True)):
        pixels = np.clip(x * scale + 128, 0, 255).astype(np.uint8)
        Image.fromarray(pixels.transpose(1, 2, 0)).save(folder / "images" / f"{k}.png")
        Image.fromarray(y.astype(np.uint8)).save(folder / "masks" / f"{k}.png")
        made.xs[k] = ((pixels.astype(np.float32) - 128) / scale).astype(np.float32)
    prepared = ("--mean", "128", "--std", str(scale))
    found = run(capsys, "evaluate", made.model, "-d", folder, *prepared)
    assert found["metrics"]["overall"] == pytest.approx(made.right(made.model), abs=2e-3)
    page = tmp_path / "page.html"
    run(capsys, "fit", made.model, "-d", folder, *prepared, "-t", "2", *QUICK, "--report", page, "-o",
        tmp_path / "new.onnx")  # fmt: skip
    assert made.right(tmp_path / "new.onnx") > made.right(made.model) + 0.02
    assert "data:image/png" in page.read_text(encoding="utf-8")


def test_lines_of_text_of_their_own_lengths(tmp_path, capsys):
    made = text_lines(tmp_path, lines=80)
    ends = [int(np.flatnonzero(np.abs(x).max(axis=1) > 0.8).max()) + 2 for x in made.x]
    xs = [x[: min(end, len(x))] for x, end in zip(made.x, ends, strict=True)]
    assert len(set(map(len, xs))) > 3
    np.savez(tmp_path / "own.npz", x=objects(xs), y=np.array(made.texts))
    new = tmp_path / "new.onnx"
    found = run(capsys, "fit", made.model, "-d", tmp_path / "own.npz", *QUICK, "-o", new)
    assert found["metric"]["after"]["value"] < found["metric"]["before"]["value"]
    said = run(capsys, "evaluate", new, "-d", tmp_path / "own.npz")
    right = np.mean([read(new, x[None])[0] == text for x, text in zip(xs, made.texts, strict=True)])
    lines = {one["name"]: one["value"] for one in said["readings"]}
    assert lines["lines"] == pytest.approx(right)


def test_lists_of_arrays_in_python(tmp_path):
    made = unequal("tokens", tmp_path, samples=30)
    found = onnxtweak.evaluate(made.model, data={"x": made.xs, "y": made.ys}, device="cpu")
    assert found.metrics.overall == pytest.approx(made.right(made.model))
    pairs = [*zip(made.xs, made.ys, strict=True)]
    for data in (made.data, (made.xs, made.ys), pairs, iter(pairs), ((x[None], y[None]) for x, y in pairs)):
        assert (
            onnxtweak.evaluate(made.model, data=data, device="cpu").metrics.overall == found.metrics.overall
        )


def test_a_patch_of_a_generator_is_that_of_the_file(tmp_path):
    made, asked = (
        unequal("pixels", tmp_path, samples=40),
        {"target": 2, "hidden": 0, "max_class_drop": "none"},
    )
    each = ((x[None], y[None]) for x, y in zip(made.xs, made.ys, strict=True))
    found = onnxtweak.fit(made.model, data=each, device="cpu", **asked)
    assert found.tweak == onnxtweak.fit(made.model, data=made.data, device="cpu", **asked).tweak
    found.save(tmp_path / "new.onnx")
    assert made.right(tmp_path / "new.onnx") > made.right(made.model)


def test_what_does_not_fit_is_named(tmp_path):
    made = unequal("tokens", tmp_path, samples=30)
    wrong = [*made.ys[:5], made.ys[5][:-1], *made.ys[6:]]
    with pytest.raises(DataError, match=r"a label at each of \d+ positions, and the model has scores at \d+"):
        onnxtweak.evaluate(made.model, data=(objects(made.xs), objects(wrong)), device="cpu")
    net = NetBuilder()
    net.op("Softmax", net.op("ReduceMean", "x", axes=[1], keepdims=0), axis=1, name="answer")
    declared = {"x": (TensorProto.FLOAT, ["N", "T", 6])}
    onnx.save(net.model(declared, {"answer": (TensorProto.FLOAT, ["N", 6])}), tmp_path / "whole.onnx")
    with pytest.raises(DataError, match=r"samples are .* here and .*"):
        onnxtweak.evaluate(tmp_path / "whole.onnx", data=(objects(made.xs), np.arange(len(made.xs)) % 6))


@pytest.mark.parametrize("command", [onnxtweak.evaluate, onnxtweak.fit])
def test_labels_say_how_many_positions_most_sizes_have_and_passes_whether_it_is_so(
    command, tmp_path, monkeypatch
):
    monkeypatch.setattr(own_positions, "_ASKED", 2)
    made, opened, runs = unequal("tokens", tmp_path, samples=40), own_positions.session_of, []

    def counting(*given):
        session = opened(*given)
        return SimpleNamespace(inputs=session.inputs, run=lambda *fed: runs.append(fed) or session.run(*fed))

    monkeypatch.setattr(own_positions, "session_of", counting)
    sizes = list(dict.fromkeys(map(len, made.xs)))
    right = onnxtweak.evaluate(made.model, data=made.data, device="cpu")
    assert right.metrics.overall == pytest.approx(made.right(made.model)) and len(runs) == 2 < len(sizes)
    wrong = objects([y[:-1] if len(y) == sizes[1] else y for y in made.ys])
    said = rf"a label at each of {sizes[1] - 1} positions, and the model has scores at {sizes[1]}"
    with pytest.raises(DataError, match=said):
        command(made.model, data=(objects(made.xs), wrong), device="cpu")
    assert len(runs) == 4
