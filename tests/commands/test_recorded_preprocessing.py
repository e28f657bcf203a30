"""Preprocessing is given once: it travels in the tweak and in the file, and later commands obey it."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import onnx
import pytest

import onnxtweak
from onnxtweak.cli.main import main
from onnxtweak.cli.options.data import samples_options
from onnxtweak.cli.options.groups import command
from onnxtweak.commands import apply, evaluate, fit, init, join, run, score, slot, verify
from onnxtweak.errors import DataError
from onnxtweak.model.edit.tweak_file import load, save
from onnxtweak.settings import (
    DataSettings,
    EngineSettings,
    FitSettings,
    OutputSettings,
    Preprocess,
    TargetSettings,
)
from onnxtweak.stages.preprocess_record import as_options, provenance_of, said_in
from tests.support.brightness import OPTIONS, RIGHT, brightness_reader, own_answers, pictures, prepared

RECORDED = {"pixel_scale": 1 / 255, "color": "BGR", "layout": "NCHW"}
ENGINE = EngineSettings(backend="numpy", threads=1)
SAID = "samples are prepared as the file records: --pixel-scale 1/255 --layout NCHW --color BGR"


class Made:
    """A patched model, its base, its tweak, and stored samples of four hundred pictures."""

    def __init__(self, folder, preprocess=RIGHT):
        self.folder = folder
        self.base, self.file, self.tweak = (
            folder / name for name in ("base.onnx", "tweaked.onnx", "t.safetensors")
        )
        self.samples = folder / "samples.npz"
        self.x, self.y = pictures()
        x = self.x if preprocess == RIGHT else prepared(self.x)
        np.savez(self.samples, x=x, y=self.y)
        self.base.write_bytes(brightness_reader().SerializeToString())
        self.result = fit(
            model=str(self.base),
            data=self.data(preprocess),
            engine=ENGINE,
            settings=FitSettings(hidden=0),
            output=OutputSettings(str(self.file), str(self.tweak)),
        )

    def data(self, preprocess=Preprocess()) -> DataSettings:
        return DataSettings((str(self.samples),), preprocess=preprocess)

    def right(self, path) -> float:
        """How often a file's own answer is right."""
        return float((own_answers(path, prepared(self.x)) == self.y).mean())


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Made:
    made = Made(tmp_path_factory.mktemp("recorded"))
    assert made.right(made.file) > made.right(made.base) + 0.02  # or nothing below would tell a difference
    return made


def provenance(path) -> dict:
    entries = {entry.key: entry.value for entry in onnx.load(path).metadata_props}
    return json.loads(entries["onnxtweak.1.provenance"])


def test_tweak_and_file_record_what_was_given(made):
    assert load(made.tweak).provenance["preprocess"] == RECORDED
    assert provenance(made.file)["preprocess"] == RECORDED


def test_what_was_not_given_is_not_recorded(tmp_path):
    plain = Made(tmp_path, Preprocess())
    assert "preprocess" not in provenance(plain.file)
    assert "preprocess" not in load(plain.tweak).provenance
    assert "prepared" not in "".join(verify(tweaked=str(plain.file), data=plain.data()).notes)


def test_verify_measures_what_the_file_answers(made):
    found = verify(tweaked=str(made.file), base=str(made.base), data=made.data(), engine=ENGINE)
    assert found.before.overall == pytest.approx(made.right(made.base))
    assert found.after.overall == pytest.approx(made.right(made.file))
    assert all(check.passed for check in found.checks)
    assert found.notes[0].startswith(SAID)
    given = verify(tweaked=str(made.file), data=made.data(RIGHT), engine=ENGINE)
    assert given.after.overall == found.after.overall
    assert "prepared" not in "".join(given.notes)


def test_evaluate_obeys_the_record_and_says_so(made):
    found = evaluate(model=str(made.file), data=made.data())
    assert found.metrics.overall == pytest.approx(made.right(made.file))
    assert any(note.startswith(SAID) for note in found.notes)


@pytest.mark.parametrize("scale", [1 / 200, 1.0])
def test_options_replace_the_record_and_the_difference_is_told(made, scale):
    other = replace(RIGHT, pixel_scale=scale)
    found = evaluate(model=str(made.file), data=made.data(other))
    assert found.metrics.overall < made.right(made.file)
    assert any(
        note.startswith("the file records other preprocessing, --pixel-scale 1/255") for note in found.notes
    )
    checked = verify(tweaked=str(made.file), data=made.data(other), engine=ENGINE)
    assert checked.notes[0].startswith("the file records other preprocessing, ")


def test_where_the_options_make_it_guess_the_record_is_proposed(made):
    wrong = Preprocess(pixel_scale=1.0)
    proposed = "--pixel-scale 1/255 --layout NCHW --color BGR gives"
    assert proposed in evaluate(model=str(made.file), data=made.data(wrong)).notes[-1]
    assert proposed in verify(tweaked=str(made.file), data=made.data(wrong), engine=ENGINE).notes[-1]
    with pytest.raises(DataError, match="at chance level") as error:
        fit(model=str(made.file), data=made.data(wrong), engine=ENGINE)
    assert error.value.hint.startswith("give --pixel-scale 1/255 --layout NCHW --color BGR; ")


def test_samples_that_are_prepared_already_need_one_option(made, tmp_path):
    np.savez(tmp_path / "p.npz", x=prepared(made.x), y=made.y)
    data = DataSettings((str(tmp_path / "p.npz"),), preprocess=Preprocess(pixel_scale=1))
    assert evaluate(model=str(made.file), data=data).metrics.overall == pytest.approx(made.right(made.file))


def test_apply_carries_the_record_on(made, tmp_path):
    out = tmp_path / "applied.onnx"
    found = apply(model=str(made.base), tweak=str(made.tweak), output=OutputSettings(str(out)))
    assert out.read_bytes() == made.file.read_bytes()
    assert found.notes == (
        "the file records how its samples are prepared: --pixel-scale 1/255 --layout NCHW --color BGR",
    )
    shadow = tmp_path / "shadow.onnx"
    apply(model=str(made.base), tweak=str(made.tweak), output=OutputSettings(str(shadow)), shadow=True)
    assert verify(tweaked=str(shadow), data=made.data()).after.overall == pytest.approx(made.right(made.file))


def test_learning_goes_on_as_it_began(made, tmp_path):
    """A tweak upon the tweak, without a word about preprocessing; by join too, which counts first."""
    for number, act in enumerate((fit, join)):
        out = tmp_path / f"{number}.onnx"
        data = made.data()
        target = {"targets": TargetSettings(("2",))}
        output = OutputSettings(str(out))
        again = act(model=str(made.file), data=data, engine=ENGINE, output=output, **target)
        assert any(note.startswith(SAID) for note in again.notes)
        assert again.before.overall > 0.7
        if onnx.load(out).metadata_props[-1].key.startswith("onnxtweak.2."):
            last = {e.key: e.value for e in onnx.load(out).metadata_props}["onnxtweak.2.provenance"]
            assert json.loads(last)["preprocess"] == RECORDED
        assert evaluate(model=str(out), data=data).metrics.overall == pytest.approx(made.right(out))
    scored = score(model=str(made.file), data=made.data(), engine=ENGINE, targets=TargetSettings(("2",)))
    assert any(note.startswith(SAID) for note in scored.notes)


def test_a_slot_keeps_what_its_tweaks_agree_on(made, tmp_path):
    linear = join(
        model=str(made.base),
        data=made.data(RIGHT),
        engine=ENGINE,
        targets=TargetSettings(("2",)),
        output=OutputSettings(tweak=str(tmp_path / "one.safetensors")),
    )
    assert linear.tweak["kind"] == "join"
    tweaks = [str(tmp_path / "one.safetensors"), str(tmp_path / "two.safetensors")]
    tweak = load(tweaks[0])
    save(tweak, tweaks[1])
    out = tmp_path / "slot.onnx"
    slot(model=str(made.base), tweaks=tweaks, output=OutputSettings(str(out)))
    assert provenance(out)["preprocess"] == RECORDED
    save(
        replace(tweak, provenance=tweak.provenance | {"preprocess": {"pixel_scale": 1}}),
        tweaks[1],
        force=True,
    )
    slot(model=str(made.base), tweaks=tweaks, output=OutputSettings(str(out), force=True))
    assert provenance(out) == {}


def test_a_recipe_for_the_file_needs_none_and_init_writes_it_out(made, tmp_path):
    recipe = tmp_path / "t.toml"
    init(model=str(made.file), data=made.data(), output=OutputSettings(str(recipe)))
    text = recipe.read_text()
    assert 'color = "BGR"' in text
    kept = [line for line in text.splitlines() if not line.startswith(("color", "layout", "pixel-scale"))]
    recipe.write_text("\n".join(kept))
    lenient = ["gates.min-target-gain=-100", "gates.max-overall-drop=100"]
    ran = run(recipe=str(recipe), changes=lenient)
    (document,) = ran.results.values()
    assert any(note.startswith(SAID) for note in document["notes"])
    assert document["before"]["overall"] > 0.7


def test_the_same_in_python(made):
    found = onnxtweak.evaluate(made.file, data=made.samples)
    assert found.metrics.overall == pytest.approx(made.right(made.file))


def test_the_same_on_the_command_line(made, tmp_path, capsys):
    out = tmp_path / "cli.onnx"
    asked = ["fit", str(made.base), "-d", str(made.samples), "-o", str(out), "--hidden", "0"]
    assert main(asked) == 2
    assert "hint: give --pixel-scale 1/255" in capsys.readouterr().err
    assert main([*asked, *OPTIONS]) == 0
    capsys.readouterr()
    assert main(["verify", str(out), "-d", str(made.samples)]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert (
        f"{made.right(made.base) * 100:.1f} % without, {made.right(out) * 100:.1f} % with the tweak" in said
    )
    assert f"note: {SAID}" in said


@pytest.mark.parametrize(
    "record",
    [
        "bytes",
        {"gamma": 2},
        {"pixel_scale": "wide"},
        {"pixel_scale": 0},
        {"mean": []},
        {"layout": "NWHC"},
        {"resize": [8, 8, 8]},
        {"mean": {"a": 1}},
        {"color": ["BGR"]},
    ],
)
def test_a_record_that_is_not_understood_is_left_aside(made, tmp_path, record):
    tweak = load(made.tweak)
    save(replace(tweak, provenance=tweak.provenance | {"preprocess": record}), tmp_path / "t.safetensors")
    out = tmp_path / "out.onnx"
    found = apply(
        model=str(made.base), tweak=str(tmp_path / "t.safetensors"), output=OutputSettings(str(out))
    )
    assert "is not understood" in found.notes[0]
    said = evaluate(model=str(out), data=made.data(RIGHT))
    assert said.metrics.overall == pytest.approx(made.right(made.file))
    assert any("the record of how samples are prepared is not understood" in note for note in said.notes)


def test_samples_that_do_not_fit_the_record_are_refused_with_its_name(made, tmp_path):
    np.savez(tmp_path / "flat.npz", x=made.x.reshape(len(made.x), -1), y=made.y)
    with pytest.raises(DataError) as error:
        evaluate(model=str(made.file), data=DataSettings((str(tmp_path / "flat.npz"),)))
    assert SAID in error.value.hint


@pytest.mark.parametrize(
    "preprocess",
    [
        Preprocess(),
        RIGHT,
        Preprocess(resize=(32, 48), crop=(24, 24), layout="NHWC", color="GRAY", dtype="float32"),
        Preprocess(pixel_scale=1 / 3, mean=(0.485, 1 / 7, 0.0), std=(0.229, 2.5, 58.395)),
        Preprocess(mean=(-0.5,), std=(1e-7,), pixel_scale=1 / 127.5),
    ],
)
def test_records_and_options_mean_the_same(preprocess):
    found = said_in(json.loads(json.dumps(provenance_of(preprocess))))
    assert (found or Preprocess()) == preprocess
    asked = []
    read = command("read", "")(samples_options()(lambda data: asked.append(data)))
    read.main(["-d", "x.npz", *as_options(preprocess).split()], standalone_mode=False)
    assert asked[0].preprocess == preprocess
