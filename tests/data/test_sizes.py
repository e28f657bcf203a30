"""Sizes after resizing: exact, by the shorter side, in a letterbox; the same for arrays as for files."""

from __future__ import annotations

import numpy as np
import pytest

from onnxtweak.data import InputSpec, open_data
from onnxtweak.data.preprocess.sizes import describe, padded, resized, scaled
from onnxtweak.errors import DataError
from onnxtweak.settings import Preprocess


@pytest.mark.parametrize(
    ("mode", "size", "wanted", "made"),
    [
        ("exact", (10, 20), (6, 6), (6, 6)),
        ("short", (10, 20), (6, 6), (6, 12)),
        ("short", (20, 10), (6, 6), (12, 6)),
        ("short", (375, 500), (256, 256), (256, 341)),  # as torchvision: int(256 * 500 / 375)
        ("short", (10, 20), (6, 20), (10, 20)),
        ("letterbox", (10, 20), (6, 6), (3, 6)),
        ("letterbox", (480, 640), (320, 320), (240, 320)),
        ("letterbox", (1, 1000), (8, 8), (1, 8)),
    ],
)
def test_what_an_image_is_scaled_to(mode, size, wanted, made):
    how = Preprocess(resize=wanted, resize_mode=mode)
    assert scaled(size, how) == made
    assert resized(size, how) == (wanted if mode == "letterbox" else made)


def test_an_odd_border_is_wider_below_and_to_the_right():
    assert padded((3, 6), Preprocess(resize=(8, 7), resize_mode="letterbox")) == ((2, 3), (0, 1))
    assert padded((3, 6), Preprocess(resize=(8, 7))) == ((0, 0), (0, 0))


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_arrays_are_resized_as_files_are(tmp_path, dtype):
    image = pytest.importorskip("PIL.Image", reason="images are read by Pillow")
    pixels = np.random.default_rng(0).integers(0, 256, (2, 12, 20, 3), np.uint8)
    np.savez(tmp_path / "a.npz", x=pixels.astype(dtype), y=[0, 1])
    for label in (0, 1):
        (tmp_path / "files" / str(label)).mkdir(parents=True)
        image.fromarray(pixels[label]).save(tmp_path / "files" / str(label) / "1.png")
    specs = (InputSpec("input", "float32", (None, 3, 8, 8)),)
    for how in (
        Preprocess(resize=(8, 8), resize_mode="letterbox", pad_value=114),
        Preprocess(resize=(9, 9), resize_mode="short", crop=(8, 8)),
    ):
        found = [
            next(iter(open_data([str(tmp_path / name)], inputs=specs, preprocess=how).batches(None, 2)))[0]
            for name in ("a.npz", "files")
        ]
        assert np.abs(found[0]["input"] - found[1]["input"]).max() <= 1


@pytest.mark.parametrize(
    "options",
    [
        {"resize_mode": "short"},
        {"resize": (8, 8), "resize_mode": "square"},
    ],
)
def test_what_no_image_can_be_resized_to(tmp_path, options):
    np.savez(tmp_path / "a.npz", x=np.zeros((2, 8, 8, 3), np.uint8), y=[0, 1])
    specs = (InputSpec("input", "float32", (None, 3, 8, 8)),)
    with pytest.raises(DataError) as raised:
        open_data([str(tmp_path / "a.npz")], inputs=specs, preprocess=Preprocess(**options))
    assert raised.value.hint


@pytest.mark.parametrize(
    ("size", "made"),
    [((24, 60), (48, 120)), ((50, 101), (48, 97)), ((48, 320), (48, 320)), ((20, 400), (48, 320))],
)
def test_a_line_has_the_height_asked_for_and_is_filled_up_on_the_right(size, made):
    line = Preprocess(resize=(48, 320), resize_mode="line", pad_value=127)
    assert scaled(size, line) == made
    assert padded(made, line) == ((0, 0), (0, 320 - made[1]))
    assert resized(size, line) == (48, 320)
    assert describe(line) == "resized to a height of 48, filled with 127 up to a width of 320"
