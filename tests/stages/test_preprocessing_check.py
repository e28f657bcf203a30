"""Before anything is learnt the likely mistakes are tried where a base guesses; `evaluate` tells of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from onnx import numpy_helper

import onnxtweak
from onnxtweak.commands import (
    augment,
    compare,
    evaluate,
    fit,
    forecast,
    init,
    join,
    plan,
    retrain,
    run,
    score,
)
from onnxtweak.data import InputSpec, View, open_data
from onnxtweak.errors import DataError
from onnxtweak.in_memory import InMemory
from onnxtweak.settings import (
    AugmentSettings,
    DataSettings,
    EngineSettings,
    FitSettings,
    OutputSettings,
    Preprocess,
    TargetSettings,
)
from onnxtweak.stages.likely_mistake import _standardized
from tests.support.brightness import RIGHT, brightness_reader, own_answers, pictures, prepared
from tests.support.nets import mlp
from tests.support.weak_class import run as ran

ENGINE = EngineSettings(backend="numpy", threads=1)
LINEAR = FitSettings(hidden=0)


@pytest.fixture
def material(tmp_path):
    """A model of bytes / 255 in BGR, and samples in RGB bytes with the right labels."""
    (tmp_path / "m.onnx").write_bytes(brightness_reader().SerializeToString())
    return tmp_path, *pictures()


def stored(folder, x, y, preprocess=RIGHT, **changes) -> dict:
    """Arguments of a command on these samples."""
    np.savez(folder / "d.npz", x=x, y=y)
    data = DataSettings((str(folder / "d.npz"),), preprocess=preprocess, **changes)
    return {"model": str(folder / "m.onnx"), "data": data}


def told(folder, x, y, preprocess=Preprocess()) -> str:
    return "\n".join(evaluate(**stored(folder, x, y, preprocess)).notes)


def test_a_model_that_does_well_is_left_alone(material):
    said = told(*material, RIGHT)
    assert "chance" not in said
    assert "accuracy" not in said


def test_labels_from_one(material):
    folder, x, y = material
    keep = y < 3
    assert "subtracting 1 from each label gives" in told(folder, x[keep], y[keep] + 1, RIGHT)


@pytest.mark.parametrize("order", [(1, 0, 3, 2), (2, 3, 1, 0), (1, 3, 0, 2)])
def test_labels_in_another_order(material, order):
    folder, x, y = material
    said = told(folder, x, np.array(order)[y], RIGHT)
    assert "numbering the classes in another order gives" in said
    assert f"{order[0]} is answered with 0" in said


@pytest.mark.parametrize(
    ("wrong", "proposed"),
    [
        (replace(RIGHT, pixel_scale=None), "--pixel-scale 1/255 gives"),
        (replace(RIGHT, color=None), "--color BGR gives"),
        (replace(RIGHT, pixel_scale=None, color=None), "--pixel-scale 1/255 --color BGR gives"),
        (replace(RIGHT, mean=(0.9,)), "leaving out --mean gives"),
        (replace(RIGHT, pixel_scale=1.0, mean=(9.0,), std=(2.0,)), "1/255 without --mean and --std gives"),
    ],
)
def test_the_way_that_helps_is_proposed(material, wrong, proposed):
    said = told(*material, wrong)
    assert "on 400 samples, " in said
    assert proposed in said


@pytest.mark.parametrize(
    ("scale", "proposed"),
    [(15, "--pixel-scale 1/16 gives"), (1023, "--pixel-scale 1/1023"), (65535, "--pixel-scale 1/65535")],
)
def test_the_scale_is_that_of_the_samples(material, scale, proposed):
    folder, x, y = material
    values = (x / 255 * scale).astype(np.uint16)
    assert proposed in told(folder, values, y, replace(RIGHT, pixel_scale=None))


def test_fractions_for_a_model_of_bytes(material):
    folder, x, y = material
    proto = brightness_reader()
    for tensor in proto.graph.initializer:
        if tensor.name == "mixtures":
            tensor.raw_data = (np.frombuffer(tensor.raw_data, np.float32) / 255).astype(np.float32).tobytes()
    (folder / "m.onnx").write_bytes(proto.SerializeToString())
    said = told(folder, x.astype(np.float32) / 255, y, replace(RIGHT, pixel_scale=None))
    assert "--pixel-scale 255 gives" in said


@pytest.mark.parametrize(
    ("mean", "deviation", "proposed"),
    [
        (0.5, 0.5, "--mean -1 --std 2 "),
        (
            [0.485, 0.456, 0.406],
            [0.229, 0.224, 0.225],
            "--mean -2.1179,-2.03571,-1.80444 --std 4.36681,4.46429,4.44444 ",
        ),
    ],
)
def test_what_the_model_does_itself_was_done_already(material, mean, deviation, proposed):
    folder, x, y = material
    done = ((x[..., ::-1] / 255 - np.array(mean)) / np.array(deviation)).astype(np.float32)
    assert f"{proposed}gives" in told(folder, done, y)


def test_inverted_samples(material):
    folder, x, y = material
    assert "storing samples inverted, as 255 - x gives" in told(folder, 255 - x, y, RIGHT)


def test_axes_in_another_order(material):
    folder, x, y = material
    cubes = np.repeat(x.transpose(0, 3, 1, 2), 3, axis=1)[:, :8]  # eight channels, of which the first counts
    proto = brightness_reader()
    proto.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 8
    weights = proto.graph.initializer[0]
    wide = np.zeros((8, 8), np.float32)
    wide[:, 6:8] = np.frombuffer(weights.raw_data, np.float32).reshape(8, 3)[:, :1] / 2  # the blue ones
    weights.raw_data, weights.dims[1] = wide.tobytes(), 8
    (folder / "m.onnx").write_bytes(proto.SerializeToString())
    scaled = Preprocess(pixel_scale=1 / 255)
    assert "in the order" not in told(folder, cubes, y, scaled)
    said = told(folder, cubes.transpose(0, 2, 3, 1), y, scaled)
    assert "storing samples with their axes in the order 2, 0, 1 gives" in said


def table(folder):
    """A model of standardized columns, two classes, and rows whose columns differ in scale."""
    rng = np.random.default_rng(0)
    proto, z = mlp(inputs=8, classes=2), rng.standard_normal((600, 8)).astype(np.float32)
    Z = ran(proto, z)
    bias = next(t for t in proto.graph.initializer if t.name == proto.graph.node[-1].input[2])
    moved = numpy_helper.to_array(bias) - Z.mean(axis=0)
    bias.CopyFrom(numpy_helper.from_array(moved.astype(np.float32), bias.name))
    (folder / "m.onnx").write_bytes(proto.SerializeToString())
    y = ran(proto, z).argmax(axis=1)
    return z, np.where(rng.random(600) < 0.1, 1 - y, y)


def test_columns_of_a_table_that_were_not_standardized(tmp_path):
    z, y = table(tmp_path)
    scales = np.logspace(-2, 3, 8)
    said = told(tmp_path, (z * scales + 50 * scales).astype(np.float32), y)
    assert "storing samples standardized column by column" in said
    assert "accuracy" not in told(tmp_path, z, y)


def test_columns_are_standardized_by_the_samples_there_are():
    rows = [np.zeros((2, 3), np.float32), np.ones((4, 3), np.float32)]
    sources = [InMemory(f"{k}", x, np.arange(len(x)) % 2) for k, x in enumerate(rows)]
    inputs = (InputSpec("x", "float32", (None, 3)),)
    both = open_data(sources, inputs=inputs, preprocess=Preprocess())
    assert [*_standardized(Preprocess(), View(both, np.arange(2, 6)))] == []  # none is of the first source
    assert len([*_standardized(Preprocess(), View(both, np.arange(6)))]) == 1


def test_two_classes_that_are_swapped(tmp_path):
    z, y = table(tmp_path)
    assert "numbering the classes in another order gives 9" in told(tmp_path, z, 1 - y)


def test_where_nothing_helps_the_suspects_are_named(material):
    folder, x, y = material
    said = told(folder, x, np.random.default_rng(1).permutation(y), RIGHT)
    assert "check pixel scale, mean and std" in said


def test_skewed_labels_are_not_called_chance(material):
    """Less than the most frequent class has, and yet no guess."""
    folder, x, y = material
    often = np.concatenate([np.flatnonzero(y == 2), *(np.flatnonzero(y == j)[:8] for j in (0, 1, 3))])
    moved = y[often].copy()
    moved[: len(moved) // 3] = 1  # what the base then gets wrong
    said = told(folder, x[often], moved, RIGHT)
    assert "is at chance level" not in said


LEARN = {
    "join": lambda **given: join(**given, engine=ENGINE, targets=TargetSettings(("2",))),
    "retrain": lambda **given: retrain(**given, engine=ENGINE, targets=TargetSettings(("2",))),
    "augment": lambda **given: augment(**given, engine=ENGINE, settings=AugmentSettings(iterations=50)),
    "fit": lambda **given: fit(**given, engine=ENGINE, settings=LINEAR),
    "compare": lambda **given: compare(**given, engine=ENGINE, methods=("join",)),
    "score": lambda **given: score(**given, engine=ENGINE, targets=TargetSettings(("2",))),
    "dry run": lambda **given: forecast("join", **given, engine=ENGINE, targets=TargetSettings(("2",))),
}


@pytest.mark.parametrize("command", LEARN)
def test_nothing_is_learnt_from_samples_that_are_prepared_wrongly(material, command):
    folder, x, y = material
    given = stored(folder, x, y, replace(RIGHT, pixel_scale=None))
    with pytest.raises(
        DataError, match=r"accuracy .* is at chance level: on \d+ samples, --pixel-scale 1/255"
    ) as e:
        LEARN[command](**given)
    assert e.value.hint == "give --pixel-scale 1/255; or go on with --anyway"
    assert e.value.where == str(folder / "d.npz")


@pytest.mark.parametrize("command", LEARN)
def test_anyway_goes_on_and_says_so_first(material, command):
    folder, x, y = material
    wrong = replace(RIGHT, pixel_scale=None)
    made = LEARN[command](**stored(folder, x, y, wrong, anyway=True))
    assert made.notes[0].startswith("learnt from all the same, because of --anyway: on ")
    assert "--pixel-scale 1/255" in made.notes[0]
    right = LEARN[command](**stored(folder, x, y))
    assert not any("--anyway" in note or "fit samples, accuracy" in note for note in right.notes)


@pytest.mark.parametrize(("minding", "least", "most"), [(0.4, 0.3, 0.6), (0.7, 0.6, 0.66)])
def test_a_base_that_sees_next_to_nothing_is_compared_with_likely_ways(material, minding, least, most):
    """Above chance, and yet prepared wrongly: red instead of blue, which half of the pictures do not mind."""
    folder, x, y = material
    rng = np.random.default_rng(4)
    x[..., 0] = np.where(rng.random((len(x), 1, 1)) < minding, x[..., 2], x[..., 0])
    given = stored(folder, x, y, replace(RIGHT, color="RGB"))
    assert least < evaluate(**given).metrics.overall < most
    with pytest.raises(DataError, match=r"is low: on .* samples, --color BGR gives"):
        join(**given, engine=ENGINE, targets=TargetSettings(("2",)))


def test_its_own_mistakes_may_be_all_that_a_base_is_shown(material):
    folder, _, _ = material
    x, y = pictures(6000)
    wrong = own_answers(folder / "m.onnx", prepared(x)) != y
    made = fit(**stored(folder, x[wrong], y[wrong]), engine=ENGINE, settings=LINEAR)
    assert made.before.overall == 0
    assert "accuracy 0.0% is not clearly above" in made.notes[0]


def test_a_recipe_checks_too_and_may_go_on(material):
    folder, x, y = material
    wrong = replace(RIGHT, pixel_scale=None)
    given, recipe = stored(folder, x, y, wrong), folder / "t.toml"
    with pytest.raises(DataError, match="at chance level"):
        init(**given, output=OutputSettings(str(recipe)))
    anyway = {**given, "data": replace(given["data"], anyway=True)}
    init(**anyway, targets=TargetSettings(("2",)), output=OutputSettings(str(recipe)))
    assert "anyway = true" in recipe.read_text()
    recipe.write_text(recipe.read_text().replace('method = "fit"', 'method = "fit"\nhidden = 0'))
    lenient = ["gates.min-target-gain=-100", "gates.max-overall-drop=100"]
    forbidden = [*lenient, "data.anyway=false"]
    for act in (plan, run):
        with pytest.raises(DataError, match="at chance level"):
            act(recipe=str(recipe), changes=forbidden)
    made = run(recipe=str(recipe), changes=lenient)
    (document,) = made.results.values()
    assert "--anyway" in document["notes"][0]
    with pytest.raises(DataError, match="at chance level"):  # not taken from the cache
        run(recipe=str(recipe), changes=forbidden)


def test_in_python_it_is_a_keyword(material):
    folder, x, y = material
    np.savez(folder / "d.npz", x=x, y=y)
    given = {"data": folder / "d.npz", "target": 2, "color": "BGR", "layout": "NCHW", "backend": "numpy"}
    with pytest.raises(DataError, match="at chance level"):
        onnxtweak.join(folder / "m.onnx", **given)
    assert "--anyway" in onnxtweak.join(folder / "m.onnx", **given, anyway=True).notes[0]
    assert onnxtweak.join(folder / "m.onnx", **given, pixel_scale="1/255").before.overall > 0.7
