"""From the stored sample to the model's input: shapes, values, dtypes, and everything that does not fit."""

import builtins
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnxtweak.data.preprocess.plan import apply_plan, check_preprocess, make_plan, mirrored
from onnxtweak.data.samples import ArrayColumn, InputSpec
from onnxtweak.errors import DataError, MachineError
from onnxtweak.settings import Preprocess


def run(array, shape, dtype="float32", **options):
    spec = InputSpec("input", dtype, None if shape is None else (None, *shape))
    plan = make_plan(ArrayColumn("x in a.npz", array), spec, Preprocess(**options))
    made = apply_plan(plan, array, lambda row: f"row {row}")
    assert made.flags.c_contiguous
    assert made.dtype == np.dtype(dtype)
    assert made.shape[1:] == plan.shape
    return made


def pictures(*shape, dtype=np.uint8, seed=0):
    return np.random.default_rng(seed).integers(0, 256, size=shape).astype(dtype)


@pytest.mark.parametrize(
    ("stored", "wanted", "expected"),
    [
        ((4, 5, 3), (4, 5, 3), lambda x: x),
        ((4, 5, 3), (3, 4, 5), lambda x: x.transpose(0, 3, 1, 2)),
        ((4, 5, 3), (3, None, None), lambda x: x.transpose(0, 3, 1, 2)),
        ((3, 4, 5), (4, 5, 3), lambda x: x.transpose(0, 2, 3, 1)),
        ((4, 5, 13), (13, 4, 5), lambda x: x.transpose(0, 3, 1, 2)),
        ((4, 5), (1, 4, 5), lambda x: x[:, None]),
        ((4, 5), (4, 5, 1), lambda x: x[..., None]),
        ((1, 4, 5), (4, 5), lambda x: x[:, 0]),
        ((4, 5, 1), (1, 4, 5), lambda x: x.transpose(0, 3, 1, 2)),
        ((4, 5), (20,), lambda x: x.reshape(-1, 20)),
        ((20,), (1, 4, 5), lambda x: x.reshape(-1, 1, 4, 5)),
        ((), (1,), lambda x: x[:, None]),
        ((7,), (None,), lambda x: x),
        ((4, 5, 3), None, lambda x: x),
    ],
)
def test_axes_are_adapted_and_values_are_not(stored, wanted, expected):
    array = pictures(6, *stored)
    np.testing.assert_array_equal(run(array, wanted), expected(array).astype(np.float32))


@pytest.mark.parametrize(
    ("stored", "wanted", "hint"),
    [
        ((28, 28), (3, 32, 32), "color to RGB and resize (or crop) to 32 x 32"),
        ((32, 32, 3), (1, 32, 32), "color to GRAY"),
        ((64, 64, 3), (3, 32, 32), "resize (or crop) to 32 x 32"),
        ((16,), (17,), "store the samples"),
        ((8, 2), (8,), "store the samples"),
    ],
)
def test_a_misfit_names_both_shapes_and_the_remedy(stored, wanted, hint):
    with pytest.raises(DataError, match="expects") as caught:
        run(pictures(2, *stored), wanted)
    assert str(stored) in caught.value.what and str(wanted) in caught.value.what
    assert hint in caught.value.hint


@given(st.sampled_from(["NCHW", "NHWC"]), st.booleans(), st.integers(0, 5))
def test_scale_mean_and_std_per_channel(layout, stored_first, seed):
    array = pictures(3, 6, 5, 3, seed=seed)
    mean, std = (0.5, 0.4, 0.3), (0.2, 0.3, 0.4)
    expected = (array / 255 - np.array(mean)) / np.array(std)
    shape = (6, 5, 3)
    if layout == "NCHW":
        expected, shape = expected.transpose(0, 3, 1, 2), (3, 6, 5)
    stored = array.transpose(0, 3, 1, 2) if stored_first else array
    made = run(np.ascontiguousarray(stored), shape, pixel_scale=1 / 255, mean=mean, std=std)
    np.testing.assert_allclose(made, expected, atol=1e-5)


def test_one_number_for_all_and_one_per_feature():
    array = pictures(4, 3).astype(np.float64)
    np.testing.assert_allclose(run(array, (3,), mean=(2.0,), std=(4.0,)), (array - 2) / 4)
    np.testing.assert_allclose(run(array, (3,), mean=(1.0, 2.0, 3.0)), array - [1, 2, 3])
    np.testing.assert_allclose(run(pictures(4, 2, 2, 3), (12,), mean=(1.0, 2.0, 3.0)).shape, (4, 12))


def test_stored_values_are_never_written_to():
    array = pictures(4, 3).astype(np.float32)
    before = array.copy()
    run(array, (3,), mean=(2.0,))
    np.testing.assert_array_equal(array, before)


def test_crop_is_central_and_colours_turn():
    array = pictures(2, 6, 8, 3)
    np.testing.assert_array_equal(
        run(array, (3, 2, 4), "uint8", crop=(2, 4)), array[:, 2:4, 2:6].transpose(0, 3, 1, 2)
    )
    np.testing.assert_array_equal(run(array, (6, 8, 3), "uint8", color="BGR"), array[..., ::-1])
    np.testing.assert_array_equal(run(array[..., :1], (6, 8, 3), "uint8", color="RGB"), array[..., [0, 0, 0]])
    gray = run(array, (1, 6, 8), "uint8", color="GRAY")
    np.testing.assert_allclose(gray[:, 0], array @ [0.299, 0.587, 0.114], atol=0.51)
    np.testing.assert_allclose(run(array.astype(np.float32), (6, 8), color="GRAY"), gray[:, 0], atol=0.51)
    np.testing.assert_array_equal(run(array, (6, 8), "uint8", color="GRAY"), gray[:, 0])


def test_gray_equals_pillows():
    from PIL import Image

    array = pictures(1, 16, 16, 3)
    expected = np.asarray(Image.fromarray(array[0]).convert("L"))
    np.testing.assert_array_equal(run(array, (1, 16, 16), "uint8", color="GRAY")[0, 0], expected)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
def test_resize_keeps_constant_pictures_and_their_channels(dtype):
    array = np.zeros((2, 4, 6, 3), dtype)
    array[..., 1], array[..., 2] = 100, 200
    made = run(array, (3, 8, 3), resize=(8, 3))
    np.testing.assert_allclose(made[:, 1], 100)
    np.testing.assert_allclose(made[:, 2], 200)
    np.testing.assert_array_equal(run(pictures(2, 8, 3), (1, 8, 3), resize=(8, 3)).shape, (2, 1, 8, 3))


def test_explicit_layout_is_held():
    array = pictures(2, 8, 8, 3)
    for layout, expected in (("NCHW", array.transpose(0, 3, 1, 2)), ("NHWC", array)):
        np.testing.assert_array_equal(run(array, (None, None, None), layout=layout), expected)
        np.testing.assert_array_equal(run(array, None, layout=layout), expected)
    with pytest.raises(DataError, match="expects") as caught:
        run(array, (3, 8, 8), layout="NHWC")
    assert "layout NCHW" in caught.value.hint
    with pytest.raises(DataError, match=r"\(4, 4, 3\) after preprocessing"):
        run(array, (5, 5, 3), crop=(4, 4))


def test_integers_and_halves_pass_as_they_are():
    tokens = np.array([[1, 2], [3, 2**31 - 1]])
    np.testing.assert_array_equal(run(tokens, (2,), "int32"), tokens)
    np.testing.assert_array_equal(run(tokens, (2,), "int64"), tokens)
    np.testing.assert_array_equal(run(np.array([[0.25, 0.5]], np.float16), (2,), "float16"), [[0.25, 0.5]])
    np.testing.assert_array_equal(run(pictures(2, 3), (3,), "uint8"), pictures(2, 3))
    assert run(np.array([["a"], ["b"]]), (1,), "object").tolist() == [["a"], ["b"]]


@pytest.mark.parametrize(
    ("array", "dtype", "message"),
    [
        (np.array([[1], [2**31]]), "int32", "does not fit"),
        (np.array([[0], [-1]]), "uint8", "does not fit"),
        (np.array([[1], [70000]]), "float16", "NaN or infinity"),
    ],
)
def test_what_the_model_cannot_hold_names_its_row(array, dtype, message):
    with pytest.raises(DataError, match=message) as caught:
        run(array, (1,), dtype)
    assert caught.value.where == "row 1"


@pytest.mark.parametrize(
    ("array", "dtype", "options", "message"),
    [
        (np.ones((2, 1)), "int64", {}, "samples are float64"),
        (np.ones((2, 1)), "uint8", {}, "samples are float64"),
        (np.array([["a"], ["b"]]), "float32", {}, "samples are <U1"),
        (np.ones((2, 1)), "object", {}, "samples are float64"),
        (np.ones((2, 1), np.uint8), "uint8", {"pixel_scale": 0.1}, "pixel scale"),
        (np.ones((2, 1)), "float32", {"resize": (2, 2)}, "not images"),
        (np.ones((2, 1)), "float32", {"mean": (1.0, 2.0)}, "2 numbers"),
    ],
)
def test_values_that_cannot_become_the_models(array, dtype, options, message):
    with pytest.raises(DataError, match=message) as caught:
        run(array, (1,), dtype, **options)
    assert caught.value.hint


@pytest.mark.parametrize("asked", ["float16", "floot"])
def test_another_dtype_than_the_models_is_refused(asked):
    spec = InputSpec("input", "float32", (None, 1))
    with pytest.raises(DataError, match="preprocess"):
        make_plan(ArrayColumn("x", np.ones((2, 1))), spec, Preprocess(dtype=asked))
    make_plan(ArrayColumn("x", np.ones((2, 1))), spec, Preprocess(dtype="float32"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"crop": (9, 9)}, "smaller than the crop"),
        ({"mean": (1.0, 2.0)}, "samples have 3 channels"),
    ],
)
def test_options_that_do_not_fit_the_pictures(options, message):
    with pytest.raises(DataError, match=message):
        run(pictures(2, 8, 8, 3), (3, 8, 8), **options)


def test_colour_and_resize_want_pictures_they_know():
    with pytest.raises(DataError, match="2 channels"):
        run(pictures(2, 8, 8, 2), (3, 8, 8), color="RGB")
    with pytest.raises(DataError, match="int64 cannot be resized"):
        run(pictures(2, 8, 8, 3, dtype=np.int64), (3, 4, 4), resize=(4, 4))


@pytest.mark.parametrize(
    "options",
    [
        {"resize": (4, 4), "crop": (5, 4)},
        {"layout": "CHW"},
        {"color": "HSV"},
    ],
)
def test_senseless_options_are_refused(options):
    with pytest.raises(DataError) as caught:
        check_preprocess(Preprocess(**options))
    assert next(iter(options)).replace("_", " ") in str(caught.value)


def test_description_names_every_step_in_order():
    plan = make_plan(
        ArrayColumn("x", pictures(2, 8, 8, 3)),
        InputSpec("input", "float32", (None, 3, 4, 4)),
        Preprocess(crop=(4, 4), color="BGR", pixel_scale=0.5, mean=(1.0, 2.0, 3.0), std=(2.0,)),
    )
    assert plan.describe() == (
        "(8, 8, 3) uint8 -> (3, 4, 4) float32: central 4 x 4, colour BGR, HWC to CHW, times 0.5, "
        "minus 1 2 3, divided by 2, cast to float32"
    )


def test_without_pillow_the_error_says_what_to_install(monkeypatch):
    real = builtins.__import__

    def without_pillow(name, *rest):
        if name.split(".")[0] == "PIL":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.delitem(sys.modules, "onnxtweak.data.preprocess.decode", raising=False)
    monkeypatch.delattr("onnxtweak.data.preprocess.decode", raising=False)
    monkeypatch.setattr(builtins, "__import__", without_pillow)
    with pytest.raises(MachineError) as caught:
        run(pictures(2, 8, 8, 3), (3, 4, 4), resize=(4, 4))
    assert caught.value.hint == "pip install 'onnxtweak[images]'"


@pytest.mark.parametrize(
    ("stored", "wanted", "axis"),
    [
        ((4, 5, 3), (3, 4, 5), 3),
        ((6, 5, 3), (6, 5, 3), 2),
        ((4, 5), (1, 4, 5), 3),
        ((1, 4, 9), (1, None, None), 3),
    ],
)
def test_a_mirrored_image_has_left_and_right_exchanged(stored, wanted, axis):
    array, spec = pictures(7, *stored), InputSpec("input", "float32", (None, *wanted))
    plan = make_plan(ArrayColumn("x in a.npz", array), spec, Preprocess(pixel_scale=0.5))
    flipped = mirrored(plan)
    plain, turned = (apply_plan(each, array, str) for each in (plan, flipped))
    np.testing.assert_array_equal(turned, np.flip(plain, axis))
    assert turned.flags.c_contiguous and not np.array_equal(turned, plain)


@pytest.mark.parametrize("shape", [(12,), (6, 7), (5, 6, 7), (2, 3, 4, 5)])
def test_what_is_no_image_is_not_mirrored(shape):
    column = ArrayColumn("x in a.npz", pictures(2, *shape))
    assert mirrored(make_plan(column, InputSpec("input", "float32", (None, *shape)), Preprocess())) is None
