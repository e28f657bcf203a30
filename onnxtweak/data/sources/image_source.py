"""How are pictures read from files: a folder `root/class/*`, or a CSV of path,label?"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from onnxtweak.data.labels import is_number
from onnxtweak.data.preprocess.transforms import pillow_door
from onnxtweak.data.samples import InputSpec, Part, Take
from onnxtweak.data.source_spec import Source, natural
from onnxtweak.errors import DataError
from onnxtweak.settings import Preprocess

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
_PATH_HEADS = ("path", "file", "filename", "image")


@dataclass(frozen=True, eq=False)
class ImageFiles:
    """A column of pictures, (N, h, w, 1 or 3) uint8, decoded as they are asked for.

    resize, crop : done here, picture by picture, because the files may differ in size.
    """

    where: str
    paths: tuple[Path, ...]
    shape: tuple[int, ...]
    gray: bool
    resize: tuple[int, int] | None
    crop: tuple[int, int] | None
    axes: str = "HWC"
    apart = True

    @property
    def dtype(self) -> np.dtype:
        return np.dtype(np.uint8)

    @contextmanager
    def open(self) -> Iterator[Take]:
        decode = pillow_door().decode

        def take(rows: np.ndarray) -> np.ndarray:
            batch = np.empty((len(rows), *self.shape[1:]), np.uint8)
            for row, out in zip(rows.tolist(), batch, strict=True):
                picture = decode(self.paths[row], self.gray, self.resize, self.crop)
                if picture.shape != out.shape:
                    raise DataError(
                        f"the picture is {picture.shape[0]} x {picture.shape[1]}, the first one is "
                        f"{out.shape[0]} x {out.shape[1]}",
                        where=self.paths[row],
                        hint="set resize (or crop), so that all have one size",
                    )
                out[...] = picture
            return batch

        yield take

    def locate(self, row: int) -> str:
        return str(self.paths[row])


def read_image_folder(source: Source, inputs: Sequence[InputSpec], preprocess: Preprocess) -> list[Part]:
    """The one part of `root/class/*.png|jpg|...`.

    Classes are the folders' names: their numbers where all are numbers, else their place in natural order (or
    in the names file). Raises DataError for pictures outside a class folder, and for an empty root.
    """
    root = source.path
    if source.key:
        raise DataError(f"no folder `{source.key}` in it", where=root, hint="write PATH or PATH#[start:stop]")
    folders = [f for f in root.iterdir() if f.is_dir() and not f.name.startswith(".")]
    folders.sort(key=lambda folder: natural(folder.name))
    paths, labels = [], []
    for folder in folders:
        found = sorted((p for p in folder.iterdir() if _is_picture(p)), key=lambda p: natural(p.name))
        if not found and any(p.is_dir() for p in folder.iterdir()):
            raise DataError(
                "no pictures in the class folder, but folders",
                where=folder,
                hint=f"pictures lie in root/class/*; for a part of the data set write {root}#{folder.name}",
            )
        paths += found
        labels += [folder.name] * len(found)
    if not paths:
        loose = any(map(_is_picture, root.iterdir()))
        raise DataError(
            "pictures without a class folder" if loose else "no pictures",
            where=root,
            hint="sort them as root/class/*",
        )
    names = tuple(folder.name for folder in folders)
    classes = None if all(map(is_number, names)) else names
    return [_part(str(root), root, paths, labels, classes, inputs, preprocess)]


def read_image_table(source: Source, inputs: Sequence[InputSpec], preprocess: Preprocess) -> list[Part]:
    """The one part of a CSV whose first two columns are path,label; paths are relative to the CSV's folder.

    A first line that starts with `path`, `file`, `filename` or `image` is a heading. Raises DataError for a
    line without label and a picture that is not there.
    """
    if source.key:
        raise DataError("a CSV has no keys", where=source.text, hint=f"write {source.path}#[start:stop]")
    paths, labels = [], []
    try:
        with source.path.open(encoding="utf-8-sig", newline="") as file:
            for line in csv.reader(file):
                if not line or (not paths and line[0].strip().lower() in _PATH_HEADS):
                    continue
                if len(line) < 2 or not line[1].strip():
                    raise DataError(
                        f"no label for `{line[0]}`", where=source.path, hint="every line is path,label"
                    )
                paths.append(source.path.parent / line[0].strip())
                labels.append(line[1].strip())
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(
            f"the CSV cannot be read: {error}", where=source.path, hint="path,label in UTF-8"
        ) from error
    if not paths:
        raise DataError("the CSV is empty", where=source.path, hint="every line is path,label")
    absent = next((path for path in paths if not path.is_file()), None)
    if absent is not None:
        raise DataError(
            "no such picture", where=absent, hint=f"paths in {source.path} are relative to its folder"
        )
    return [_part(str(source.path), source.path.parent, paths, labels, None, inputs, preprocess)]


def _part(
    where: str,
    root: Path,
    paths: Sequence[Path],
    labels: Sequence[str],
    classes: tuple[str, ...] | None,
    inputs: Sequence[InputSpec],
    preprocess: Preprocess,
) -> Part:
    if len(inputs) != 1:
        raise DataError(
            f"pictures feed one input, the model has {len(inputs)}",
            where=where,
            hint="store one array per input in an .npz file",
        )
    column = _column(where, tuple(paths), inputs[0], preprocess)
    return Part(
        where=where,
        origin=str(Path(where).resolve()),
        columns={inputs[0].name: column},
        labels=np.array(labels),
        label_where=where,
        files=tuple((str(_below(path, root)), path) for path in paths),
        classes=classes,
        notes=(_spoken(column),),
    )


def _column(where: str, paths: tuple[Path, ...], spec: InputSpec, preprocess: Preprocess) -> ImageFiles:
    size, stored_gray = pillow_door().probe(paths[0])
    wants_colour = len(spec.sample or ()) == 3 and 3 in (spec.sample[0], spec.sample[-1])
    gray = preprocess.color == "GRAY" or (preprocess.color is None and stored_gray and not wants_colour)
    # Cropping after resizing is left to the plan; without resizing, files of many sizes are cropped here.
    crop = None if preprocess.resize else preprocess.crop
    height, width = preprocess.resize or crop or size
    return ImageFiles(
        where, paths, (len(paths), height, width, 1 if gray else 3), gray, preprocess.resize, crop
    )


def _spoken(column: ImageFiles) -> str:
    done = "pictures read as " + ("gray" if column.gray else "RGB")
    for word, size in (("resized", column.resize), ("cropped at the centre", column.crop)):
        done += f", {word} to {size[0]} x {size[1]}" if size else ""
    return done


def _is_picture(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".")


def _below(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else path.as_posix()
