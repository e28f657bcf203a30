"""Thumbnails: a PNG that other programs read, with the stored picture's colours."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from onnxtweak.data.open_data import open_data
from onnxtweak.data.samples import InputSpec
from onnxtweak.data.thumbnails import png, thumbnail, with_boxes, with_masks
from onnxtweak.settings import Preprocess


def opened(folder, x: np.ndarray, shape, preprocess: Preprocess = Preprocess(), dtype: str = "float32"):
    np.savez(folder / "d.npz", x=x, y=np.arange(len(x)) % 2)
    spec = InputSpec("image", dtype, (None, *shape))
    return open_data([str(folder / "d.npz")], inputs=[spec], preprocess=preprocess)


def test_masks_are_drawn_over_the_picture(tmp_path):
    x = np.full((2, 3, 12, 8), 60, np.uint8)
    data = opened(tmp_path, x, (3, 12, 8), dtype="uint8")
    mask = np.array([[0, 1], [2, -1]])
    tiles = read(with_masks(data, 1, [mask, mask, mask.T]))
    assert tiles.shape == (24, 16, 3)
    picture, labels = tiles[:12, :8], tiles[:12, 8:]
    assert (picture == 60).all() and (labels[6:, 4:] == 60).all()
    corners = {tuple(labels[y, x]) for y, x in ((0, 0), (0, 7), (11, 0))}
    assert len(corners) == 3 and (60, 60, 60) not in corners
    assert np.array_equal(tiles[12:, :8], labels) and np.array_equal(tiles[18:, 8:12], labels[:6, 4:])


def test_boxes_are_drawn_as_outlines_inside_the_picture(tmp_path):
    data = opened(tmp_path, np.full((2, 3, 12, 8), 60, np.uint8), (3, 12, 8), dtype="uint8")
    inside = np.array([0]), np.array([[1.0, 2, 5, 8]])
    outside = np.array([1, 2]), np.array([[-1e9, -5, 1e9, np.inf], [7.9, 11.9, 8, 12]])
    tiles = read(with_boxes(data, 1, [inside, outside, (np.array([], int), np.empty((0, 4)))]))
    assert tiles.shape == (24, 16, 3)
    drawn = (tiles[:12, 8:] != 60).any(axis=2)
    wanted = np.zeros((12, 8), bool)
    wanted[2:8, 1:5] = True
    wanted[3:7, 2:4] = False
    assert np.array_equal(drawn, wanted)
    assert (tiles[12:, :8] != 60).any(axis=2).sum() == 2 * 12 + 2 * 8 - 4
    assert (tiles[:12, :8] == 60).all() and (tiles[12:, 8:] == 60).all()


def read(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)))


@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 3)])
def test_png_is_read_by_others(shape):
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    assert np.array_equal(read(png(pixels)), pixels)


@pytest.mark.parametrize("color", [None, "BGR"])
def test_preprocessing_is_taken_back(tmp_path, color):
    x = np.random.default_rng(0).integers(0, 256, (4, 9, 8, 3), dtype=np.uint8)
    how = Preprocess(
        layout="NCHW", color=color, pixel_scale=1 / 255, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.1)
    )
    assert np.array_equal(read(thumbnail(opened(tmp_path, x, (3, 9, 8), how), 2)), x[2])


def test_large_pictures_shrink_and_floats_fill_the_range(tmp_path):
    x = np.linspace(-3, 5, 2 * 200 * 100, dtype=np.float32).reshape(2, 1, 200, 100)
    seen = read(thumbnail(opened(tmp_path, x, (1, 200, 100)), 1))
    assert max(seen.shape) <= 64
    assert seen.min() == 0 and seen.max() >= 250


def test_what_is_no_picture_has_none(tmp_path):
    assert thumbnail(opened(tmp_path, np.zeros((4, 30), np.float32), (30,)), 0) is None
