"""Mask files as labels at positions: paired with pictures by folder or list, and sized like them."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

import onnxtweak
from onnxtweak.data.open_data import open_data
from onnxtweak.data.samples import InputSpec
from onnxtweak.errors import DataError
from onnxtweak.settings import Preprocess
from tests.support.at_positions import model_at_positions

SPEC = (InputSpec("x", "float32", (None, 3, None, None)),)


@pytest.fixture
def folder(tmp_path):
    """Six pictures with masks, in folders and in a list."""
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (6, 12, 16, 3), np.uint8)
    masks = rng.integers(0, 4, (6, 12, 16)).astype(np.uint8)
    masks[:, :2] = 255
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
    lines = ["image,mask"]
    for k, (picture, mask) in enumerate(zip(pictures, masks, strict=True)):
        Image.fromarray(picture).save(tmp_path / "images" / f"{k}.png")
        Image.fromarray(mask).save(tmp_path / "masks" / f"{k}.png")
        lines.append(f"images/{k}.png,masks/{k}.png")
    (tmp_path / "list.csv").write_text("\n".join(lines) + "\n")
    return tmp_path, masks


def opened(path, **preprocess):
    return open_data([str(path)], inputs=SPEC, preprocess=Preprocess(**preprocess))


def labels(data):
    return data.labels.reshape(len(data), *data.sizes)


@pytest.mark.parametrize("source", ["", "list.csv"])
def test_masks_are_class_numbers_and_white_does_not_count(folder, source):
    root, masks = folder
    data = opened(root / source)
    assert data.sizes == (12, 16) and len(data) == 6
    assert np.array_equal(labels(data), np.where(masks == 255, -1, masks.astype(int)))
    x, _, _ = next(data.batches(None, 6))
    assert x["x"].shape == (6, 3, 12, 16)


def test_lists_may_name_masks_first_and_with_backslashes(folder):
    root, _ = folder
    names = sorted(path.name for path in (root / "images").iterdir())
    pairs = [(path, next((root / "masks").glob(f"{path[:-4]}.*")).name) for path in names]
    lines = [f"{k},masks\\{mask},images\\{image}" for k, (image, mask) in enumerate(pairs)]
    (root / "other.csv").write_text("\n".join(["id,mask,image", *lines]) + "\n")
    assert np.array_equal(labels(opened(root / "other.csv")), labels(opened(root)))


def test_masks_in_a_folder_of_another_name_are_no_class(folder):
    root, _ = folder
    (root / "list.csv").unlink(missing_ok=True)
    (root / "masks").rename(root / "labels")
    with pytest.raises(DataError, match=r"hold files of the same names(?s:.*)call their folder `masks`"):
        opened(root)


def test_they_are_sized_as_pictures_are_without_blending(folder):
    root, _ = folder
    assert np.array_equal(labels(opened(root, crop=(8, 10)))[:, :, 0], labels(opened(root))[:, 2:10, 3])
    half = labels(opened(root, resize=(6, 8)))
    assert half.shape == (6, 6, 8) and set(np.unique(half)) <= {-1, 0, 1, 2, 3}
    boxed = labels(opened(root, resize=(16, 16), resize_mode="letterbox"))
    assert (boxed[:, :2] == -1).all() and (boxed[:, -2:] == -1).all()
    assert np.array_equal(boxed[:, 2:-2], labels(opened(root)))


@pytest.mark.parametrize("kind", ["palette", "wide", "bits"])
def test_numbers_may_be_places_in_a_palette_or_of_more_bits(folder, kind):
    root, masks = folder
    for k, mask in enumerate(masks):
        path = root / "masks" / f"{k}.png"
        if kind == "palette":
            image = Image.fromarray(mask, "P")
            image.putpalette(list(np.random.default_rng(1).integers(0, 256, 768)))
            image.save(path)
        elif kind == "wide":
            Image.fromarray(np.where(mask == 255, 0, mask.astype(np.uint16) * 100)).save(path)
        else:
            Image.fromarray(mask == 1).save(path)
    found = labels(opened(root))
    plain = np.where(masks == 255, -1, masks.astype(int))
    wanted = {"palette": plain, "wide": np.where(masks == 255, 0, plain * 100), "bits": masks == 1}[kind]
    assert np.array_equal(found, wanted)


def test_what_is_wrong_is_named(folder):
    root, _ = folder
    (root / "masks" / "3.png").rename(root / "masks" / "other.png")
    with pytest.raises(DataError, match=r"1 picture of \d+ without a mask: 3\.png ") as error:
        opened(root)
    assert "take the picture out" in error.value.hint
    with pytest.raises(DataError, match="no such mask file"):
        opened(root / "list.csv")
    Image.new("RGB", (16, 12)).save(root / "masks" / "3.png")
    with pytest.raises(DataError, match=r"a picture in color \(RGB\)") as error:
        opened(root)
    assert "gray values" in error.value.hint
    Image.new("L", (15, 12)).save(root / "masks" / "3.png")
    with pytest.raises(DataError, match="labels are of different sizes, and samples are not"):
        opened(root)


def test_masks_without_a_picture_are_named(folder):
    root, _ = folder
    for name in ("a", "b", "c", "d"):
        (root / "masks" / f"{name}.png").write_bytes((root / "masks" / "0.png").read_bytes())
    text = opened(root).describe()
    assert f"of no picture: 4 masks, a.png, b.png, c.png, ..., in {root / 'masks'}" in text


def test_a_segmenter_is_measured_on_them(tmp_path):
    made = model_at_positions("pixels", tmp_path, samples=12)
    folder = tmp_path / "scenes"
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    bytes_ = np.clip(made.x * 40 + 128, 0, 255).astype(np.uint8).transpose(0, 2, 3, 1)
    for k, (picture, mask) in enumerate(zip(bytes_, made.labels, strict=True)):
        Image.fromarray(picture).save(folder / "images" / f"{k}.png")
        Image.fromarray(mask.astype(np.uint8)).save(folder / "masks" / f"{k}.png")
    found = onnxtweak.evaluate(made.model, data=folder, mean=128 / 255, std=40 / 255, pixel_scale="1/255")
    again = (bytes_.transpose(0, 3, 1, 2) / np.float32(255) - np.float32(128 / 255)) / np.float32(40 / 255)
    plain = onnxtweak.evaluate(made.model, data=(again.astype(np.float32), made.labels))
    assert found.metrics.overall == pytest.approx(plain.metrics.overall, abs=2e-3)
    assert found.metrics.samples == made.labels.size
    with pytest.raises(DataError, match="a label per sample") as error:  # as if pictures had a class each
        (folder / "masks").rename(folder / "other")
        (folder / "other" / "0.png").unlink()
        onnxtweak.evaluate(made.model, data=folder)
    assert error.value.hint == "give masks: two folders `images` and `masks`, or a CSV of image,mask"


def test_masks_that_were_compressed_with_loss_are_said(folder):
    root, _ = folder
    Image.open(root / "masks" / "0.png").convert("L").save(root / "masks" / "0.jpg")
    (root / "masks" / "0.png").unlink()
    assert "1 mask such as 0.jpg may have lost class numbers at edges" in opened(root).describe()
