"""Match, end to end: a copy with weights of few bits, its reference, and samples without labels."""

from __future__ import annotations

import json

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from onnx import TensorProto, helper
from PIL import Image

import onnxtweak
from onnxtweak import commands
from onnxtweak.cli.main import main, program
from onnxtweak.demo_files import demo_files
from onnxtweak.errors import DataError, ModelError, OutputError, UsageError
from onnxtweak.method import folds
from onnxtweak.model.edit import tweak_file
from onnxtweak.report import schema
from onnxtweak.report.page.page import page
from onnxtweak.report.text import summary
from onnxtweak.report.text.layout import terminal
from onnxtweak.settings import DataSettings, EngineSettings, MatchSettings, OutputSettings
from tests.support.at_positions import model_at_positions
from tests.support.labels_at_positions import labels_at_positions
from tests.support.nets import mlp
from tests.support.plain_session import plain_session
from tests.support.rounded import rounded
from tests.support.several_labels import several_labels
from tests.support.text_lines import text_lines
from tests.support.weak_class import weak_mlp

REFERENCE = str(demo_files().model)
AS_USERS_GET = folds.folds_for


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with a copy of 3 bits, one of 12, and samples with and without labels."""
    folder = tmp_path_factory.mktemp("match")
    proto = onnx.load(REFERENCE)
    for bits in (3, 12):
        onnx.save(rounded(proto, bits), folder / f"int{bits}.onnx")
    with np.load(demo_files().data) as digits:
        x, y = (np.concatenate([digits[f"{name}_train"], digits[f"{name}_fit"]]) for name in "xy")
        np.savez(folder / "bare.npz", x=x[:800])
        np.savez(folder / "labelled.npz", x=x, y=y)
        np.savez(folder / "test.npz", x=digits["x_test"], y=digits["y_test"])
        np.savez(folder / "bare_test.npz", x=digits["x_test"])
    return folder


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A small reference, a copy of 3 bits, and samples with and without labels, in a folder."""
    folder = tmp_path_factory.mktemp("small")
    model, data = weak_mlp(folder)
    model.rename(folder / "reference.onnx")
    onnx.save(rounded(onnx.load(folder / "reference.onnx"), 3), folder / "int3.onnx")
    with np.load(data) as held:
        x, y = held["x"], held["y"]
    np.savez(folder / "bare.npz", x=x[:600])
    np.savez(folder / "labelled.npz", x=x[:600], y=y[:600])
    np.savez(folder / "test.npz", x=x[600:], y=y[600:])
    np.savez(folder / "bare_test.npz", x=x[600:])
    return folder


def match(folder, written=None, /, copy="int3.onnx", data="bare.npz", test="test.npz", **changes):
    """A match."""
    return commands.match(
        model=str(folder / copy),
        data=changes.pop("samples", DataSettings((str(folder / data),), test=(str(folder / test),))),
        settings=changes.pop("settings", MatchSettings(str(reference_of(folder)))),
        engine=EngineSettings(backend="numpy"),
        output=OutputSettings(None if written is None else str(written)),
        **changes,
    )


def reference_of(folder):
    """The reference beside a copy, or that of the digits."""
    beside = folder / "reference.onnx"
    return beside if beside.exists() else REFERENCE


@pytest.fixture(scope="module")
def matched(made, tmp_path_factory):
    """The usual match and its file, which nothing here changes."""
    written = tmp_path_factory.mktemp("matched") / "out.onnx"
    return match(made, written), written


def classes_of(path, x):
    """What a file shows, run outside onnxtweak."""
    session = plain_session(str(path))
    return session.run(None, {session.get_inputs()[0].name: x})[0].argmax(axis=1)


def test_the_written_file_decides_more_often_as_the_reference(made, matched):
    result, written = matched
    with np.load(made / "test.npz") as test:
        x, y = test["x"], test["y"]
    decided = classes_of(REFERENCE, x)
    answers = {
        "base": classes_of(made / "int3.onnx", x),
        "tweaked": classes_of(written, x),
    }
    for name, classes in answers.items():
        assert result.matched.agreement[name] == pytest.approx((classes == decided).mean())
        assert result.matched.accuracy[name] == pytest.approx((classes == y).mean())
    assert result.matched.accuracy["reference"] == pytest.approx((decided == y).mean())
    agreed = result.matched.agreement
    assert agreed["tweaked"] > agreed["bias"] >= agreed["base"]
    assert agreed["tweaked"] > agreed["base"] + 0.05
    assert result.before.overall == pytest.approx(agreed["base"])
    assert all(check.passed for check in result.checks)
    assert [p.state for p in result.verdict.promises if p.name == "targets"] == ["kept"]
    assert "overall agreement up" in [promise.asked for promise in result.verdict.promises]
    assert result.verdict.goal.startswith("decide as digits_cnn3.onnx does")


def test_without_labels_nothing_is_said_of_accuracy(small):
    result = match(small, test="bare_test.npz")
    assert result.matched.accuracy is None
    assert result.matched.agreement["tweaked"] > result.matched.agreement["base"]


def test_nothing_is_learnt_from_labels(small, tmp_path):
    """Wrong labels, of samples that are split by the user, leave the weights as they are."""
    with np.load(small / "labelled.npz") as known:
        x, y = known["x"], known["y"]
    wrong = np.where(np.arange(450) % 3 == 0, (y[:450] + 1) % 4, y[:450])
    np.savez(tmp_path / "fit.npz", x=x[:450], y=y[:450])
    np.savez(tmp_path / "wrong.npz", x=x[:450], y=wrong)
    np.savez(tmp_path / "val.npz", x=x[450:], y=y[450:])
    weights = []
    for name in ("fit", "wrong"):
        samples = DataSettings(
            (str(tmp_path / f"{name}.npz"),),
            (str(tmp_path / "val.npz"),),
            (str(small / "test.npz"),),
            anyway=True,
        )
        match(small, tmp_path / f"{name}.onnx", samples=samples)
        proto = onnx.load(tmp_path / f"{name}.onnx")
        weights.append([t for t in proto.graph.initializer if t.name.startswith("onnxtweak/")])
    assert weights[0] and weights[0] == weights[1]


def test_a_copy_that_lost_nothing_is_left_alone(made, tmp_path):
    result = match(made, tmp_path / "out.onnx", copy="int12.onnx")
    assert result.verdict.answer == "base"
    assert (tmp_path / "out.onnx").read_bytes() == (made / "int12.onnx").read_bytes()
    assert "in training" not in " ".join(result.notes)


def test_the_reference_may_call_its_input_otherwise_and_take_another_type(small, tmp_path):
    proto = onnx.load(small / "reference.onnx")
    old = proto.graph.input[0].name
    for node in proto.graph.node:
        for place, name in enumerate(node.input):
            if name == old:
                node.input[place] = "single"
    proto.graph.node.insert(0, helper.make_node("Cast", ["picture"], ["single"], to=TensorProto.FLOAT))
    proto.graph.input[0].name = "picture"
    proto.graph.input[0].type.tensor_type.elem_type = TensorProto.DOUBLE
    onnx.save(proto, tmp_path / "other.onnx")
    renamed = match(small, settings=MatchSettings(str(tmp_path / "other.onnx")))
    assert renamed.matched.agreement == match(small).matched.agreement


def test_unlabelled_sources_of_every_kind(made, tmp_path):
    x = np.random.default_rng(0).integers(0, 17, (60, 8, 8), dtype=np.uint8)
    (tmp_path / "flat").mkdir()
    for number, image in enumerate(x):
        Image.fromarray(image).save(tmp_path / "flat" / f"{number}.png")
    np.save(tmp_path / "x.npy", x[:, None].astype(np.float32))
    (tmp_path / "shards").mkdir()
    for number in range(2):
        np.save(
            tmp_path / "shards" / f"x-{number}.npy",
            x[30 * number : 30 * number + 30, None].astype(np.float32),
        )
    found = []
    for name in ("flat", "x.npy", "shards"):
        made_of = match(made, samples=DataSettings((str(tmp_path / name),), anyway=True)).matched
        found.append(made_of.agreement["base"])
        assert made_of.accuracy is None
    assert found[0] == found[1] == found[2]


def test_other_commands_need_labels_as_before(made):
    with pytest.raises(DataError, match="no labels"):
        commands.fit(model=str(made / "int3.onnx"), data=DataSettings((str(made / "bare.npz"),)))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"classes": 7}, "has 7 classes, but the model has 10"),
        ({"inputs": 32}, "do not fit this model's inputs"),
    ],
)
def test_a_reference_of_another_kind_is_refused(change, said, made, tmp_path):
    proto = onnx.load(REFERENCE)
    if "classes" in change:
        old = proto.graph.output[0].name
        proto.graph.output[0].name = "fewer"
        proto.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 7
        for name, value in (("starts", 0), ("ends", 7), ("axes", 1)):
            proto.graph.initializer.append(helper.make_tensor(name, TensorProto.INT64, [1], [value]))
        proto.graph.node.append(helper.make_node("Slice", [old, "starts", "ends", "axes"], ["fewer"]))
    else:
        proto = mlp(inputs=32, classes=10)
    onnx.save(proto, tmp_path / "other.onnx")
    with pytest.raises(ModelError, match=said) as error:
        match(made, settings=MatchSettings(str(tmp_path / "other.onnx")))
    assert str(tmp_path / "other.onnx") in error.value.where


def test_a_reference_with_more_inputs_is_refused(made, tmp_path):
    proto = onnx.load(REFERENCE)
    other = onnx.ValueInfoProto()
    other.CopyFrom(proto.graph.input[0])
    other.name = "second"
    proto.graph.input.append(other)
    first, old = proto.graph.node[0], proto.graph.input[0].name
    first.input[list(first.input).index(old)] = "sum"
    proto.graph.node.insert(0, helper.make_node("Add", [old, "second"], ["sum"]))
    onnx.save(proto, tmp_path / "two.onnx")
    with pytest.raises(ModelError, match="has 2 inputs"):
        match(made, settings=MatchSettings(str(tmp_path / "two.onnx")))


def test_models_that_have_nothing_to_do_with_each_other_are_refused(made, tmp_path):
    proto = onnx.load(REFERENCE)
    last = [t for t in proto.graph.initializer if 10 in t.dims][-1]
    rng = np.random.default_rng(0)
    for tensor in proto.graph.initializer:
        if tensor.name == last.name or len(tensor.dims) > 1:
            noise = rng.normal(size=tuple(tensor.dims)).astype(np.float32)
            tensor.CopyFrom(onnx.numpy_helper.from_array(noise, tensor.name))
    onnx.save(proto, tmp_path / "random.onnx")
    with pytest.raises(DataError, match="no more often than by chance"):
        match(made, settings=MatchSettings(str(tmp_path / "random.onnx")))


def test_no_reference_is_one_error(made):
    with pytest.raises(UsageError, match="no reference"):
        match(made, settings=MatchSettings())


def test_the_reference_is_never_replaced(made, tmp_path):
    copy = tmp_path / "reference.onnx"
    copy.write_bytes(demo_files().model.read_bytes())
    samples = DataSettings((str(made / "bare.npz"),))
    with pytest.raises(OutputError):
        commands.match(
            model=str(made / "int3.onnx"),
            data=samples,
            settings=MatchSettings(str(copy)),
            output=OutputSettings(str(copy), force=True),
        )
    assert copy.read_bytes() == demo_files().model.read_bytes()


def test_on_the_command_line_with_tweak_page_and_json(made, matched, tmp_path, capsys):
    words = ["match", str(made / "int3.onnx"), "--reference", REFERENCE, "-d", str(made / "bare.npz")]
    words += ["--test", str(made / "test.npz"), "-o", str(tmp_path / "out.onnx"), "-f", "json"]
    words += ["--tweak", str(tmp_path / "out.safetensors"), "--report", str(tmp_path / "out.html")]
    ran = CliRunner().invoke(program, words)
    assert ran.exit_code == 0, ran.output
    found = json.loads(ran.stdout)
    assert found["matched"]["agreement"]["tweaked"] == found["after"]["overall"]
    assert found["command"] == "match"
    assert (tmp_path / "out.onnx").read_bytes() == matched[1].read_bytes()
    tweak = tweak_file.load(tmp_path / "out.safetensors")
    assert tweak.kind == "match"
    assert tweak.provenance["reference"] == found["matched"]["reference"]["sha256"]
    drawn = (tmp_path / "out.html").read_text(encoding="utf-8")
    assert "A copy matched to a reference" in drawn and "right by the labels" in drawn
    assert (
        main(
            [
                "apply",
                str(made / "int3.onnx"),
                str(tmp_path / "out.safetensors"),
                "-o",
                str(tmp_path / "b.onnx"),
            ]
        )
        == 0
    )
    assert main(["verify", str(tmp_path / "out.onnx"), "--base", str(made / "int3.onnx")]) == 0
    capsys.readouterr()
    assert main(["verify", str(tmp_path / "out.onnx"), "-d", str(made / "test.npz")]) == 0
    assert "`match COPY --reference MODEL -d DATA` measures it" in " ".join(capsys.readouterr().out.split())
    assert main(["revert", str(tmp_path / "out.onnx"), "-o", str(tmp_path / "back.onnx")]) == 0
    assert (tmp_path / "back.onnx").read_bytes() == (made / "int3.onnx").read_bytes()


def test_text_names_the_reference_and_what_is_back(matched):
    said = terminal(summary.result(matched[0]))
    assert f"Agreement with {REFERENCE} on the test split" in " ".join(said.split())
    assert "are back" in said


def test_a_hostile_name_of_the_reference_stays_text(matched):
    document = json.loads(schema.dumps(schema.document("match", matched[0])))
    document["matched"]["reference"]["path"] = "<script>alert(1)</script>"
    drawn = page(document)
    assert "<script>alert" not in drawn and "&lt;script&gt;alert" in drawn


def test_a_dry_run_needs_no_labels(made):
    words = ["match", str(made / "int3.onnx"), "--reference", REFERENCE, "-d", str(made / "bare.npz")]
    ran = CliRunner().invoke(program, [*words, "-o", "never.onnx", "--dry-run", "-f", "json"])
    assert ran.exit_code == 0, ran.output
    assert "reference: fit" in [step["name"] for step in json.loads(ran.stdout)["steps"]]


def test_in_a_recipe_with_a_reference_beside_it(small, tmp_path):
    (tmp_path / "reference.onnx").write_bytes((small / "reference.onnx").read_bytes())
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(
        f'[model]\npath = "{(small / "int3.onnx").as_posix()}"\n'
        f'[data]\ndata = "{(small / "bare.npz").as_posix()}"\ntest = "{(small / "test.npz").as_posix()}"\n'
        '[[tweak]]\nname = "repaired"\nmethod = "match"\nreference = "reference.onnx"\n'
    )
    assert main(["run", str(recipe)]) == 0
    assert main(["run", str(recipe), "--dry-run"]) == 0
    found = json.loads((tmp_path / "build" / "repaired.json").read_text(encoding="utf-8"))
    assert found["matched"]["agreement"]["tweaked"] > found["matched"]["agreement"]["base"]
    assert commands.run(recipe=str(recipe)).cached == ("repaired",)
    other = rounded(onnx.load(small / "reference.onnx"), 7)
    assert commands.plan(recipe=str(recipe)).tweaks[0]["cached"]
    onnx.save(other, tmp_path / "reference.onnx")  # another reference, the same name
    assert not commands.plan(recipe=str(recipe)).tweaks[0]["cached"]


def test_a_recipe_without_its_reference_says_what_to_write(made, tmp_path):
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(
        f'[model]\npath = "{(made / "int3.onnx").as_posix()}"\n[data]\ndata = "x.npz"\n'
        '[[tweak]]\nname = "repaired"\nmethod = "match"\n'
    )
    with pytest.raises(UsageError, match="`reference` is missing"):
        commands.run(recipe=str(recipe))


def test_in_python(small):
    reference = small / "reference.onnx"
    found = onnxtweak.match(
        small / "int3.onnx",
        reference=reference,
        data=small / "bare.npz",
        test=small / "test.npz",
        backend="numpy",
    )
    assert found.matched.agreement["tweaked"] > found.matched.agreement["base"]
    with np.load(small / "bare.npz") as bare, np.load(small / "test.npz") as test:
        held = onnxtweak.match(
            (small / "int3.onnx").read_bytes(),
            reference=reference,
            data={"x": bare["x"]},
            test=(test["x"], test["y"]),
            backend="numpy",
        )
    assert held.matched == found.matched
    with pytest.raises(UsageError, match="no reference"):
        onnxtweak.match(small / "int3.onnx", data=small / "bare.npz")


@pytest.mark.parametrize("kind", ["pixels", "tokens", "marks", "roll", "labels", "lines"])
def test_copies_of_every_head_are_matched_without_labels(kind, tmp_path, capsys, monkeypatch):
    """A copy of few bits, samples alone: what plain ONNX Runtime shows is what is said of the agreement."""
    if kind == "lines":  # of a few, three folds learn too little
        monkeypatch.setattr(folds, "folds_for", AS_USERS_GET)
    x, model, decide = _of_head(kind, tmp_path)
    bits = 3 if kind in ("pixels", "labels", "marks") else 4
    copy, new, samples = (tmp_path / name for name in ("copy.onnx", "new.onnx", "bare.npz"))
    onnx.save(rounded(onnx.load(model), bits), copy)
    np.savez(samples, x=x)
    words = ["-d", str(samples), "--reference", str(model), "-o", str(new), "-f", "json"]
    assert main(["match", str(copy), *words]) == 0, capsys.readouterr().err
    made = json.loads(capsys.readouterr().out)
    agreed = made["matched"]["agreement"]
    assert agreed["tweaked"] > agreed["base"] and made["matched"]["accuracy"] is None
    wanted, was, now = (decide(path) for path in (model, copy, new))
    assert (now == wanted).mean() > (was == wanted).mean() + 0.05 * (1 - (was == wanted).mean())
    assert main(["verify", str(new), "--same-as", str(new), "-d", str(samples)]) == 0


def _of_head(kind, folder):
    """Samples, a model, and what a file of it decides on all of them."""
    cut = 0.5
    if kind == "labels":
        made = several_labels("sigmoid", folder, samples=400)
    elif kind in ("marks", "roll"):
        made = labels_at_positions({"marks": "tokens"}.get(kind, kind), folder, samples=80)
    elif kind == "lines":
        made, cut = text_lines(folder, lines=120), None
    else:
        made, cut = model_at_positions(kind, folder, samples=80), None
    axis = {"pixels": 1, "tokens": 2, "lines": 2}.get(kind)

    def decide(path):
        value = plain_session(str(path)).run(None, {"x": made.x})[0]
        return value.argmax(axis) if cut is None else value > cut

    return made.x, made.model, decide
