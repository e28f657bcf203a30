"""How are images read from files: a folder `root/class/*`, or a CSV of path,label?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from onnxtweak.data.groups import FOLDER, NoColumn, no_column, values_of_text
from onnxtweak.data.labels import is_number
from onnxtweak.data.preprocess.masks import read_masks, require_pairs
from onnxtweak.data.preprocess.sizes import describe, pixels_allowed, resized
from onnxtweak.data.preprocess.transforms import pillow_decoder
from onnxtweak.data.samples import GroupColumn, InputSpec, Part, Reading, TakeRows, by_option, no_labels
from onnxtweak.data.source_spec import Source, listed_name, natural_key
from onnxtweak.data.sources.table_columns import LABELS
from onnxtweak.errors import DataError
from onnxtweak.quantities import number_of
from onnxtweak.settings import Preprocess

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
_LOSSY = (".jpg", ".jpeg")
_PATHS = ("path", "file", "filename", "image")  # what lists of pictures call their columns
_LABELS = (*LABELS, "mask", "masks", "text")


@dataclass(frozen=True, eq=False)
class ImageColumn:
    """A column of images, (N, h, w, 1 or 3) uint8, decoded on demand.

    preprocess : its sizes are applied here, image by image, because the files may differ in size. most :
    pixels that a file may have. shapes (N,) : of each, where the model takes different sizes; else ().
    """

    where: str
    paths: tuple[Path, ...]
    shape: tuple[int, ...]
    gray: bool
    preprocess: Preprocess
    most: int
    shapes: tuple[tuple[int, ...], ...] = ()
    axes: str = "HWC"
    sized = True
    thread_safe = True
    held = 0

    @property
    def dtype(self) -> np.dtype:
        return np.dtype(np.uint8)

    def of_shape(self, shape: tuple[int, ...]) -> ImageColumn:
        """As of `UnequalColumn`."""
        return replace(self, shape=(len(self.paths), *shape))

    @contextmanager
    def open(self) -> Iterator[TakeRows]:
        decode = pillow_decoder().decode

        def take(rows: np.ndarray) -> np.ndarray:
            batch = np.empty((len(rows), *self.shape[1:]), np.uint8)
            for row, out in zip(rows.tolist(), batch, strict=True):
                image = decode(self.paths[row], self.gray, self.preprocess, self.most)
                if image.shape != out.shape:
                    raise DataError(
                        f"the image is {image.shape[0]} x {image.shape[1]}, but the first one is "
                        f"{out.shape[0]} x {out.shape[1]}",
                        where=self.paths[row],
                        hint="set resize (or crop), so that all have the same size",
                    )
                out[...] = image
            return batch

        yield take

    def locate(self, row: int) -> str:
        return str(self.paths[row])


def read_image_folder(source: Source, inputs: Sequence[InputSpec], reading: Reading) -> list[Part]:
    """The images `root/class/*.png|jpg|...`, as one part; `root/class/GROUP/*` too where folders are groups.

    The folders' names are the classes: class numbers where all are numbers, else numbered in natural order
    (or as in the names file). Of two folders `images` and `masks`, the second holds labels at positions, in
    files of the same names. Images outside a class folder have no label: where that will do, those of
    `root/*` are read so if no folder has any. Raises DataError for them elsewhere, and for an empty root.
    """
    root = source.path
    if source.key:
        raise DataError(f"no subfolder `{source.key}`", where=root, hint="write PATH or PATH#[start:stop]")
    folders = [f for f in root.iterdir() if f.is_dir() and not f.name.startswith(".")]
    if {folder.name for folder in folders} == {"images", "masks"}:
        return [_with_masks(root, inputs, reading)]
    _require_no_masks(root, folders)
    folders.sort(key=lambda folder: natural_key(folder.name))
    paths: list[Path] = []
    labels: list[str] = []
    grouped = _grouped_by_folder(root, reading)
    for folder in folders:
        inside = folder.rglob("*") if grouped else folder.iterdir()
        found = sorted((p for p in inside if _is_image(p)), key=lambda p: natural_key(str(p)))
        if not found and any(p.is_dir() for p in folder.iterdir()):
            raise DataError(
                "the class folder contains no images, but folders",
                where=folder,
                hint=f"images go in root/class/*; to choose a part of the dataset write {root}#{folder.name}",
            )
        paths += found
        labels += [folder.name] * len(found)
    loose = [] if paths else sorted(filter(_is_image, root.iterdir()), key=lambda p: natural_key(p.name))
    if loose and reading.unlabelled:
        bare = _part(str(root), root, loose, ["0"] * len(loose), None, inputs, reading)
        return [replace(bare, labels=no_labels(bare.columns), labelled=False)]
    if not paths:
        raise DataError(
            "images outside a class folder" if loose else "no images",
            where=root,
            hint="sort them as root/class/*",
        )
    names = tuple(folder.name for folder in folders)
    classes = None if all(map(is_number, names)) else names
    part = _part(str(root), root, paths, labels, classes, inputs, reading)
    if not grouped:
        return [part]
    groups = [
        path.relative_to(root).parent.relative_to(label) for path, label in zip(paths, labels, strict=True)
    ]
    return [replace(part, groups={FOLDER: _of_folders(groups, root)})]


def _require_no_masks(root: Path, folders: Sequence[Path]) -> None:
    """Raise DataError for folders that are no classes, but `images` and their masks under another name."""
    other = [folder for folder in folders if folder.name != "images"]
    if len(folders) != 2 or len(other) != 1:
        return
    stems = [{path.stem for path in folder.iterdir() if _is_image(path)} for folder in folders]
    if stems[0] and stems[0] == stems[1]:
        what = f"`images` and `{other[0].name}` hold files of the same names, and classes do not"
        hint = "where these are masks, with a class for each pixel, call their folder `masks`"
        raise DataError(what, where=root, hint=hint)


def path_column(head: Sequence[str], below: Sequence[str] = ()) -> int | None:
    """Which cell of a list's first line names paths: the first, or one with a picture below it."""
    named = [place for place, cell in enumerate(head) if cell.strip().lower() in _PATHS]
    pictures = [cell.strip().lower().endswith(SUFFIXES) for cell in below]
    return next((place for place in named if not place or pictures[place : place + 1] == [True]), None)


def read_image_list(
    source: Source,
    head: list[str],
    lines: Sequence[Sequence[str]],
    inputs: Sequence[InputSpec],
    reading: Reading,
) -> Part:
    """The images of a CSV: path, label and other cells of each line, or as its first line says.

    head : what the first line calls the cells; empty without such a line. Paths are relative to the CSV's
    folder. Raises DataError for a line without a label and for a missing image.
    """
    if source.key:
        raise DataError(
            "a list of pictures has no keys", where=source.text, hint=f"write {source.path}#[start:stop]"
        )
    named = [place for place, name in enumerate(head) if name.lower() in _LABELS]
    place = path_column(head, *lines[:1]) or 0
    labels = _cells(lines, named[0] if len(named) == 1 else int(place == 0))
    folder = source.path.parent
    names = [listed_name(folder, name) for name in _cells(lines, place)]
    paths = [folder / name for name in names]
    bare = reading.unlabelled and not any(labels)
    if "" in labels and not bare:
        raise DataError(
            f"no label for `{names[labels.index('')]}`",
            where=source.path,
            hint="write path,label on every line",
        )
    if not paths:
        raise DataError("the CSV is empty", where=source.path, hint="write path,label on every line")
    missing = next((path for path in paths if not path.is_file()), None)
    if missing is not None:
        raise DataError(
            "no such image file", where=missing, hint=f"paths in {source.path} are relative to its folder"
        )
    part = _part(str(source.path), folder, paths, labels, None, inputs, reading)
    part = part.without_labels() if bare else part
    if all(label.lower().endswith(SUFFIXES) for label in labels):
        part = _masked(part, [folder / listed_name(folder, label) for label in labels], reading)
    groups = {}
    for name in reading.groups:
        if name in head:
            values = values_of_text(np.array(_cells(lines, head.index(name))))
            groups[name] = GroupColumn(f"column `{name}` of {source.path}", values)
        elif name == FOLDER:
            groups[name] = _of_folders([Path(name).parent for name in names], source.path)
        else:
            found = no_column(name, head, source.path)
            hint = found.hint if head else f"write a first line that names the columns: path,label,{name}"
            raise NoColumn.of(name, found.what, source.path, hint)
    return replace(part, groups=groups)


def _with_masks(root: Path, inputs: Sequence[InputSpec], reading: Reading) -> Part:
    """The pictures of `root/images` with their masks. Raises DataError where one has none."""
    paths = sorted(filter(_is_image, (root / "images").iterdir()), key=lambda p: natural_key(p.name))
    if not paths:
        raise DataError("no images", where=root / "images", hint="put pictures there, and masks beside")
    part = _part(str(root), root, paths, ["0"] * len(paths), None, inputs, reading)
    for name in reading.groups:
        hint = f"give a .csv that begins with image,mask,{name}"
        raise NoColumn.of(name, f"a folder of images has no column `{name}`", root, hint)
    masks, notes = require_pairs(paths, root / "masks")
    return _masked(replace(part, notes=(*part.notes, *notes)), masks, reading)


def _masked(part: Part, masks: Sequence[Path], reading: Reading) -> Part:
    """The same pictures, whose labels are class numbers at every pixel."""
    missing = next((path for path in masks if not path.is_file()), None)
    if missing is not None:
        raise DataError("no such mask file", where=missing, hint=f"masks in {part.where} lie beside it")
    files = (*part.files, *((f"mask {path.name}", path) for path in masks))
    labels = read_masks(masks, part.label_where, reading)
    notes = part.notes
    if lossy := [path.name for path in masks if path.suffix.lower() in _LOSSY]:
        notes += (
            f"{number_of(len(lossy), 'mask')} such as {lossy[0]} may have lost class numbers at edges: JPEG "
            "keeps pictures, not numbers; store them as .png",
        )
    return replace(part, labels=labels, label_where=f"masks of {part.where}", files=files, notes=notes)


def _cells(lines: Sequence[Sequence[str]], place: int) -> list[str]:
    """One cell of each line; empty where the line is shorter."""
    return [line[place].strip() if place < len(line) else "" for line in lines]


def _grouped_by_folder(root: Path, reading: Reading) -> bool:
    """Whether folders inside the classes' folders are groups. Raises DataError for any other column."""
    other = next((name for name in reading.groups if name != FOLDER), None)
    if other is not None:
        raise NoColumn.of(
            other,
            f"a folder of images has no column `{other}`",
            root,
            f"sort the images as root/class/GROUP/* and name the column `{FOLDER}`, or give a .csv that "
            f"begins with path,label,{other}",
        )
    return FOLDER in reading.groups


def _of_folders(folders: Sequence[Path], where: Path) -> GroupColumn:
    """Groups that are called like the folder of each image. Raises DataError for an image in none."""
    names = [folder.as_posix() for folder in folders]
    if "." in names:
        raise DataError(
            f"image {names.index('.')} lies in no folder that could be its group",
            where=where,
            hint=f"sort all images as root/class/GROUP/*, or do without `{FOLDER}`",
        )
    return GroupColumn(f"the folders in {where}", np.array(names))


def _part(
    where: str,
    root: Path,
    paths: Sequence[Path],
    labels: Sequence[str],
    classes: tuple[str, ...] | None,
    inputs: Sequence[InputSpec],
    reading: Reading,
) -> Part:
    if len(inputs) != 1:
        others = [spec.name for spec in inputs if len(spec.sample or ()) != 3]
        raise DataError(
            f"images can feed one input, but the model has {len(inputs)}",
            where=where,
            hint="store one array per input in an .npz file"
            + (f", or give all samples one value: {by_option(others)}" if others else ""),
        )
    column = _column(where, tuple(paths), inputs[0], reading)
    return Part(
        where=where,
        origin=str(Path(where).resolve()),
        columns={inputs[0].name: column},
        labels=np.array(labels),
        label_where=where,
        files=tuple((str(_relative(path, root)), path) for path in paths),
        classes=classes,
        notes=(_note(column),),
    )


def pictures_part(
    where: str, root: Path, paths: Sequence[Path], inputs: Sequence[InputSpec], reading: Reading
) -> Part:
    """Pictures as one part whose labels are to come. Raises DataError where the model has other inputs."""
    return _part(where, root, paths, ["0"] * len(paths), None, inputs, reading)


def _column(where: str, paths: tuple[Path, ...], spec: InputSpec, reading: Reading) -> ImageColumn:
    most, preprocess = pixels_allowed(reading.memory), reading.preprocess
    size, stored_gray = pillow_decoder().probe(paths[0], most)
    sample = spec.sample or ()
    expects_color = len(sample) == 3 and 3 in (sample[0], sample[-1])
    gray = preprocess.color == "GRAY" or (preprocess.color is None and stored_gray and not expects_color)
    height, width = preprocess.crop or resized(size, preprocess)
    channels = 1 if gray else 3
    shapes: tuple[tuple[int, ...], ...] = ()
    if spec.any_size and preprocess.crop is None and preprocess.resize_mode in (None, "short"):
        sizes = [resized(pillow_decoder().probe(path, most)[0], preprocess) for path in paths]
        shapes = tuple((*own, channels) for own in sizes) if len(set(sizes)) > 1 else ()
    shape = (len(paths), height, width, channels)
    return ImageColumn(where, paths, shape, gray, preprocess, most, shapes)


def _note(column: ImageColumn) -> str:
    note = "images read as " + ("gray" if column.gray else "RGB")
    if column.preprocess.resize:
        note += f", {describe(column.preprocess)}"
    if column.preprocess.crop:
        note += f", cropped at the centre to {column.preprocess.crop[0]} x {column.preprocess.crop[1]}"
    return note


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".")


def _relative(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else path.as_posix()
