"""Images in folders and tables."""

import io
import struct
import tracemalloc
import zlib

import numpy as np
import pytest
from PIL import Image

from onnxtweak.data import InputSpec, open_data
from onnxtweak.errors import DataError
from onnxtweak.settings import Preprocess

RGB = (InputSpec("input", "uint8", (None, 3, 4, 4)),)
GRAY = (InputSpec("input", "uint8", (None, 1, 4, 4)),)


def opened(source, inputs=RGB, names=None, **options):
    return open_data([str(source)], inputs=inputs, preprocess=Preprocess(**options), names=names)


def paint(path, value, size=(4, 4), mode="RGB"):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, value).save(path)


def read(dataset):
    return np.concatenate([inputs["input"] for inputs, _, _ in dataset.batches(None, 2)])


def test_folders_are_classes_in_natural_order(tmp_path):
    for value, name in ((10, "c10/a.png"), (2, "c2/b.png"), (3, "c2/a10.png"), (4, "c2/a9.bmp")):
        paint(tmp_path / name, (value, 0, 255))
    (tmp_path / "c2" / "notes.txt").touch()
    (tmp_path / "c2" / ".hidden.png").touch()
    (tmp_path / ".cache").mkdir()
    dataset = opened(tmp_path)
    assert dataset.classes == ("c2", "c10")
    assert dataset.labels.tolist() == [0, 0, 0, 1]
    made = read(dataset)
    assert made.shape == (4, 3, 4, 4)
    assert made[:, 0, 0, 0].tolist() == [4, 3, 2, 10]
    assert (made[:, 2] == 255).all()


def test_a_picture_is_found_under_its_own_name(tmp_path):
    for name in ("c2/b.png", "c10/a.png"):
        paint(tmp_path / name, 0)
    assert opened(tmp_path).place(1) == str(tmp_path / "c10" / "a.png")


def test_numbers_and_the_names_file_decide(tmp_path):
    for folder in ("10", "2"):
        paint(tmp_path / folder / "a.png", 0)
    numbered = opened(tmp_path)
    assert numbered.labels.tolist() == [2, 10]
    assert numbered.classes is None
    assert opened(tmp_path, names=("10", "2")).labels.tolist() == [1, 0]


def test_an_empty_class_keeps_its_number(tmp_path):
    paint(tmp_path / "b" / "a.png", 0)
    (tmp_path / "a").mkdir()
    assert opened(tmp_path).labels.tolist() == [1]


def test_a_key_is_a_folder_of_classes(tmp_path):
    for part, value in (("train", 1), ("val", 2)):
        paint(tmp_path / part / "cat" / "a.png", (value, 0, 0))
    assert read(opened(f"{tmp_path}#val"))[0, 0, 0, 0] == 2
    with pytest.raises(DataError, match="but folders") as caught:
        opened(tmp_path)
    assert f"{tmp_path}#train" in caught.value.hint
    with pytest.raises(DataError, match="no subfolder `test`"):
        opened(f"{tmp_path}#test")


def test_loose_pictures_have_no_labels(tmp_path):
    paint(tmp_path / "a.png", 0)
    with pytest.raises(DataError, match="outside a class folder"):
        opened(tmp_path)


def test_files_of_many_sizes_are_resized_or_cropped(tmp_path):
    paint(tmp_path / "a" / "1.png", (9, 9, 9), (8, 6))
    paint(tmp_path / "a" / "2.png", (9, 9, 9), (5, 12))
    with pytest.raises(DataError, match="samples are"):
        opened(tmp_path)
    dataset = opened(tmp_path, resize=(6, 6), crop=(4, 4))
    assert "resized to 6 x 6" in dataset.describe() and "cropped at the centre to 4 x 4" in dataset.describe()
    assert (read(dataset) == 9).all()
    cropped = opened(tmp_path, crop=(4, 4))
    assert "cropped at the centre to 4 x 4" in cropped.describe()
    assert read(cropped).shape == (2, 3, 4, 4)
    anything = opened(tmp_path, (InputSpec("input", "uint8", (None, 3, None, None)),))
    assert [one["input"].shape for one, _, _ in anything.batches(None, 2)] == [(1, 3, 6, 8), (1, 3, 12, 5)]


def test_gray_and_colour(tmp_path):
    paint(tmp_path / "a" / "1.png", 7, mode="L")
    assert (read(opened(tmp_path, GRAY)) == 7).all()
    assert (read(opened(tmp_path)) == 7).all()
    paint(tmp_path / "a" / "1.png", (10, 20, 30))
    assert read(opened(tmp_path, color="BGR"))[0, :, 0, 0].tolist() == [30, 20, 10]
    assert read(opened(tmp_path, GRAY, color="GRAY"))[0, 0, 0, 0] == 18
    with pytest.raises(DataError, match="expects") as caught:
        opened(tmp_path, GRAY)
    assert "GRAY" in caught.value.hint


def test_palettes_and_transparency_are_read_as_colours(tmp_path):
    paint(tmp_path / "a" / "1.png", (1, 2, 3, 0), mode="RGBA")
    Image.new("RGB", (4, 4), (1, 2, 3)).quantize(4).save(tmp_path / "a" / "2.png")
    assert read(opened(tmp_path))[:, :, 0, 0].tolist() == [[1, 2, 3], [1, 2, 3]]


@pytest.mark.parametrize("name", ["1.png", "2.png"])
def test_a_broken_picture_is_named(tmp_path, name):
    for other in ("1.png", "2.png"):
        paint(tmp_path / "a" / other, 0)
    path = tmp_path / "a" / name
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(DataError, match="cannot be read") as caught:
        read(opened(tmp_path))
    assert caught.value.where == str(path)


def test_what_is_no_picture_and_what_is_too_deep(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "1.png").write_text("no picture")
    with pytest.raises(DataError, match="cannot be read"):
        opened(tmp_path)
    Image.fromarray(np.zeros((4, 4), np.uint16)).save(tmp_path / "a" / "1.png")
    with pytest.raises(DataError, match="more than 8 bits"):
        read(opened(tmp_path))


def test_a_picture_smaller_than_the_crop_is_named(tmp_path):
    paint(tmp_path / "a" / "1.png", 0, (3, 9))
    with pytest.raises(DataError, match="smaller than crop"):
        read(opened(tmp_path, crop=(4, 4)))


def test_pictures_feed_one_input(tmp_path):
    paint(tmp_path / "a" / "1.png", 0)
    with pytest.raises(DataError, match="the model has 2"):
        opened(tmp_path, (*RGB, InputSpec("other", "float32", (None, 1))))


def test_digest_follows_pixels_and_classes(tmp_path):
    paint(tmp_path / "one" / "a" / "1.png", 0)
    paint(tmp_path / "two" / "a" / "1.png", 0)
    paint(tmp_path / "three" / "b" / "1.png", 0)
    paint(tmp_path / "four" / "a" / "1.png", 1)
    one, two, three, four = (opened(tmp_path / name).digest for name in ("one", "two", "three", "four"))
    assert one == two
    assert len({one, three, four}) == 3


@pytest.mark.parametrize("heading", ["", "path,label\n"])
def test_a_table_of_paths_and_labels(tmp_path, heading):
    for value, name in ((1, "a.png"), (2, "deep/b.png")):
        paint(tmp_path / name, (value, 0, 0))
    (tmp_path / "t.csv").write_text(f"{heading}deep/b.png,dog\na.png,cat\n\n")
    dataset = opened(tmp_path / "t.csv")
    assert dataset.classes == ("cat", "dog")
    assert dataset.labels.tolist() == [1, 0]
    assert read(dataset)[:, 0, 0, 0].tolist() == [2, 1]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty"),
        ("a.png\n", "no label"),
        ("a.png,\n", "no label"),
        ("absent.png,cat\n", "no such image file"),
    ],
)
def test_bad_tables_are_refused(tmp_path, text, message):
    paint(tmp_path / "a.png", 0)
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(DataError, match=message):
        opened(tmp_path / "t.csv")


def test_the_shorter_side_and_a_crop(tmp_path):
    left_right = np.zeros((10, 20, 3), np.uint8)
    left_right[:, 10:] = 255
    (tmp_path / "a").mkdir()
    Image.fromarray(left_right).save(tmp_path / "a" / "1.png")
    Image.fromarray(left_right.transpose(1, 0, 2)).save(tmp_path / "a" / "2.png")
    dataset = opened(tmp_path, resize=(6, 6), resize_mode="short", crop=(4, 4))
    assert "resized to a shorter side of 6, cropped at the centre to 4 x 4" in dataset.describe()
    first, second = read(dataset)
    assert (first[0, :, 0] == 0).all() and (first[0, :, -1] == 255).all()  # not squeezed: the edge is sharp
    assert np.array_equal(first.transpose(0, 2, 1), second)
    spec = (InputSpec("input", "uint8", (None, 3, None, None)),)
    anything = opened(tmp_path, spec, resize=(6, 6), resize_mode="short")
    assert [one["input"].shape for one, _, _ in anything.batches(None, 2)] == [(1, 3, 6, 12), (1, 3, 12, 6)]


@pytest.mark.parametrize("value", [0, 114])
def test_a_letterbox_keeps_the_shape_and_fills_the_rest(tmp_path, value):
    paint(tmp_path / "a" / "1.png", (200, 200, 200), (8, 4))
    paint(tmp_path / "a" / "2.png", (200, 200, 200), (4, 8))
    dataset = opened(tmp_path, resize=(4, 4), resize_mode="letterbox", pad_value=value)
    wide, high = read(dataset)[:, 0]
    assert wide.tolist() == [[value] * 4, [200] * 4, [200] * 4, [value] * 4]
    assert high.tolist() == [[value, 200, 200, value]] * 4
    assert f"resized to fit 4 x 4, padded with {value}" in dataset.describe()


def test_a_picture_is_turned_as_its_exif_says(tmp_path):
    upright = np.zeros((8, 16, 3), np.uint8)
    upright[:, 8:] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # stored on its side: to be turned right by 90 degrees
    (tmp_path / "a").mkdir()
    Image.fromarray(np.rot90(upright)).save(tmp_path / "a" / "1.jpg", quality=100, exif=exif)
    specs = (InputSpec("input", "uint8", (None, 3, 8, 16)),)
    assert np.abs(read(opened(tmp_path, specs))[0].transpose(1, 2, 0).astype(int) - upright).max() < 30
    gray = read(opened(tmp_path, GRAY, color="GRAY", resize=(4, 4)))[0, 0]
    assert (gray[:, 0] < 30).all() and (gray[:, 3] > 220).all()


def claimed(height, width, kind):
    """Few bytes of a picture file whose header says that it is larger."""
    if kind == "png":
        head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
        chunks = ((b"IHDR", head), (b"IDAT", zlib.compress(bytes(1000))), (b"IEND", b""))
        return b"\x89PNG\r\n\x1a\n" + b"".join(
            struct.pack(">I", len(body)) + tag + body + struct.pack(">I", zlib.crc32(tag + body))
            for tag, body in chunks
        )
    stream = io.BytesIO()
    Image.new("RGB", (16, 8)).save(stream, {"jpg": "jpeg", "tif": "tiff"}.get(kind, kind))
    data = bytearray(stream.getvalue())
    if kind == "bmp":
        struct.pack_into("<ii", data, 18, width, height)
    elif kind == "gif":
        struct.pack_into("<HH", data, 6, width, height)
    elif kind == "jpg":
        place = data.index(b"\xff\xc0") + 5
        struct.pack_into(">HH", data, place, height, width)
    elif kind == "tif":
        first = struct.unpack_from("<I", data, 4)[0]
        for entry in range(struct.unpack_from("<H", data, first)[0]):
            place = first + 2 + 12 * entry
            if (tag := struct.unpack_from("<H", data, place)[0]) in (256, 257):
                struct.pack_into("<HII", data, place + 2, 4, 1, width if tag == 256 else height)
    return bytes(data)


@pytest.mark.parametrize("kind", ["png", "jpg", "bmp", "gif", "tif"])
@pytest.mark.parametrize("size", [(60_000, 60_000), (9_000, 11_000)], ids=["error", "warning"])
def test_pictures_that_say_they_are_huge_are_refused_by_their_header(tmp_path, kind, size):
    paint(tmp_path / "a" / "0.png", (1, 2, 3))
    (tmp_path / "a" / f"1.{kind}").write_bytes(claimed(*size, kind))
    paint(tmp_path / "b" / "0.png", (1, 2, 3))
    tracemalloc.start()
    try:
        with pytest.raises(
            DataError, match=f"says that it is {size[0]:,} x {size[1]:,}, more than the"
        ) as no:
            read(opened(tmp_path, resize=(4, 4)))
        assert tracemalloc.get_traced_memory()[1] < 2**23
    finally:
        tracemalloc.stop()
    assert no.value.where.endswith(f"1.{kind}")
    (tmp_path / "a" / "0.png").unlink()
    with pytest.raises(DataError, match="says that it is"):  # the first, which is looked at when opened
        opened(tmp_path, resize=(4, 4))


def test_less_memory_allows_fewer_pixels(tmp_path):
    paint(tmp_path / "a" / "0.png", 7, (2_200, 2_000), "L")
    paint(tmp_path / "b" / "0.png", 7, (4, 4), "L")
    how = Preprocess(resize=(4, 4))
    with pytest.raises(DataError, match="2,000 x 2,200, more than the 4,194,304 pixels") as no:
        open_data([str(tmp_path)], inputs=RGB, preprocess=how, memory=1 << 20)
    assert "--memory" in no.value.hint
    assert len(open_data([str(tmp_path)], inputs=RGB, preprocess=how, memory=1 << 30)) == 2


def test_of_many_frames_the_first_is_read(tmp_path):
    frames = [Image.new("L", (4, 4), shade) for shade in range(200)]
    for kind in ("gif", "tif"):
        (tmp_path / kind / "a").mkdir(parents=True)
        place = tmp_path / kind / "a" / f"0.{kind}"
        frames[0].save(place, save_all=True, append_images=frames[1:])
        with Image.open(place) as many:
            assert many.n_frames == 200
        assert not read(opened(tmp_path / kind, inputs=GRAY, color="GRAY")).any()
