"""How is an image file decoded and resized? The only door to Pillow, which importing this module requires."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock

import numpy as np
from PIL import ExifTags, Image, ImageOps

from onnxtweak.data.preprocess.sizes import MOST_PIXELS, padded, scaled
from onnxtweak.errors import DataError
from onnxtweak.input_files import require_regular
from onnxtweak.settings import Preprocess

_GRAY = ("1", "L", "LA", "La")
_WIDE = ("I", "F", "I;16", "I;16B", "I;16L", "I;16N")
_ON_ITS_SIDE = (5, 6, 7, 8)  # EXIF orientations that exchange height and width
_LIMIT = Lock()  # held while Pillow's own is lifted


def probe(path: Path, most: int) -> tuple[tuple[int, int], bool]:
    """(height, width) upright, and whether it is stored gray. most : pixels that it may have.

    Raises DataError for anything but an image, and for one that is too large.
    """
    require_regular(path, DataError)
    try:
        with _opened(path, most) as image:
            size = (image.height, image.width)
            turned = image.getexif().get(ExifTags.Base.Orientation) in _ON_ITS_SIDE
            return size[::-1] if turned else size, image.mode in _GRAY
    except (OSError, SyntaxError, ValueError) as error:
        raise _broken(path, error) from error


def decode(path: Path, gray: bool, preprocess: Preprocess, most: int) -> np.ndarray:
    """One image as (h, w, 1 or 3) uint8, turned as its EXIF says, resized, then cropped at the centre.

    most : pixels that it may have. Raises DataError, naming the file, for an image that has more by its
    header, cannot be decoded to 8 bits, or is smaller than the crop.
    """
    require_regular(path, DataError)
    try:
        with _opened(path, most) as image:
            if image.mode in _WIDE:
                raise DataError(
                    "the image has more than 8 bits per channel",
                    where=path,
                    hint="convert it to 8 bits, or store the values in an .npy array",
                )
            decoded = ImageOps.exif_transpose(image).convert("L" if gray else "RGB")
    except (OSError, SyntaxError, ValueError) as error:
        raise _broken(path, error) from error
    value = round(preprocess.pad_value or 0)
    border = value if gray else (value, value, value)
    pixels = np.asarray(_sized(decoded, preprocess, path, Image.Resampling.BILINEAR, border))
    return pixels[..., None] if gray else pixels


def decode_mask(path: Path, preprocess: Preprocess, most: int, unknown: int) -> np.ndarray:
    """One mask as class numbers (h, w), uint8 or, of 16 bits, int32, sized as `decode` sizes its picture.

    Numbers are gray values, or places in the palette. unknown : what a letterbox is padded with. Raises
    DataError, naming the file, for a picture in color, and as `decode`.
    """
    require_regular(path, DataError)
    try:
        with _opened(path, most) as image:
            if image.mode not in ("1", "L", "P", "I", "I;16", "I;16B", "I;16L", "I;16N"):
                raise DataError(
                    f"the mask is a picture in color ({image.mode})",
                    where=path,
                    hint="store class numbers, as gray values or with a palette",
                )
            turned = ImageOps.exif_transpose(image)
            kind = np.uint8 if turned.mode in ("1", "L", "P") else np.int32
            numbers = Image.fromarray(np.asarray(turned).astype(kind))
    except (OSError, SyntaxError, ValueError) as error:
        raise _broken(path, error) from error
    return np.asarray(_sized(numbers, preprocess, path, Image.Resampling.NEAREST, unknown))


def _sized(
    picture: Image.Image,
    preprocess: Preprocess,
    path: Path,
    resampling: Image.Resampling,
    border: int | tuple[int, int, int],
) -> Image.Image:
    """The picture resized, padded with `border`, and cropped."""
    size = scaled((picture.height, picture.width), preprocess)
    if preprocess.resize is not None:
        picture = picture.resize((size[1], size[0]), resampling)
    (above, below), (left, right) = padded(size, preprocess)
    if any((above, below, left, right)):
        picture = ImageOps.expand(picture, (left, above, right, below), border)
    return _cropped(picture, preprocess, path)


def _cropped(image: Image.Image, preprocess: Preprocess, path: Path) -> Image.Image:
    """The centre of an image, where only that is wanted. Raises DataError where it is smaller."""
    crop = preprocess.crop
    if crop is None:
        return image
    top, left = (image.height - crop[0]) // 2, (image.width - crop[1]) // 2
    if min(top, left) < 0:
        raise DataError(
            f"the image, {image.height} x {image.width}, is smaller than crop {crop[0]} x {crop[1]}",
            where=path,
            hint="resize before cropping",
        )
    return image.crop((left, top, left + crop[1], top + crop[0]))


def resize_array(batch: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Images (n, h, w, c), uint8 or float, to (n, *size, c) of the same dtype, channel by channel."""
    resized = np.empty((len(batch), *size, batch.shape[3]), batch.dtype)
    planes = batch if batch.dtype == np.uint8 else batch.astype(np.float32)
    for image, out in zip(planes, resized, strict=True):
        for channel in range(batch.shape[3]):
            plane = Image.fromarray(np.ascontiguousarray(image[..., channel]))
            out[..., channel] = plane.resize((size[1], size[0]), Image.Resampling.BILINEAR)
    return resized


@contextmanager
def _opened(path: Path, most: int) -> Iterator[Image.Image]:
    """An image of which only the header is read yet."""
    with _LIMIT:
        # Pillow's own limit is a warning up to twice the pixels, and does not say the size.
        pillows, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            image = Image.open(path)
        finally:
            Image.MAX_IMAGE_PIXELS = pillows
    with image:
        if image.height * image.width > most:
            raise DataError(
                f"the image says that it is {image.height:,} x {image.width:,}, more than the {most:,} "
                "pixels allowed",
                where=path,
                hint="replace or remove the file; where it is right, scale it down, or give more --memory "
                f"(at most {MOST_PIXELS:,} pixels)",
            )
        yield image


def _broken(path: Path, error: Exception) -> DataError:
    return DataError(f"the image cannot be read: {error}", where=path, hint="replace or remove the file")
