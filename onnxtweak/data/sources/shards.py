"""How are .npy pairs, and folders of .npy or .npz shards, read?"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from onnxtweak.data.array_names import CLASSES, LABELS, SAMPLES, match_arrays, match_group, spellings
from onnxtweak.data.groups import no_column
from onnxtweak.data.preprocess.one_sample import of_one_sample
from onnxtweak.data.samples import (
    Column,
    GroupColumn,
    InputSpec,
    NumberColumn,
    Part,
    Reading,
    by_option,
    no_labels,
    with_rows,
)
from onnxtweak.data.several.own_sizes import RowsColumn, as_objects
from onnxtweak.data.source_spec import Source, natural_key
from onnxtweak.data.sources.held_whole import require_small
from onnxtweak.data.sources.npy import NO_ARRAY, arrays_of_objects, map_npy, read_array
from onnxtweak.data.sources.numbered import read_npz_file
from onnxtweak.errors import DataError
from onnxtweak.input_files import require_regular

_NUMBERED = re.compile(r"(.+?)[-_.]?(\d+)")


def read_npy_pair(source: Source, inputs: Sequence[InputSpec], reading: Reading) -> list[Part]:
    """`x.npy` with `y.npy` beside it (or `NAME_x` and `NAME_y`, `images` and `labels`, ...), as one part.

    Raises DataError for a lack of labels that are needed, and for a model with several inputs, which needs a
    folder.
    """
    if len(inputs) != 1:
        raise DataError(
            f"one .npy file, but the model has {len(inputs)} inputs",
            where=source.path,
            hint="give the folder that holds one .npy per input, or one value for all samples: "
            + by_option([spec.name for spec in inputs][1:]),
        )
    if source.key:
        raise DataError(
            "a .npy file has no keys", where=source.text, hint=f"write {source.path}#[start:stop]"
        )
    name = inputs[0].name
    labels = _labels_beside(source.path, name, reading)
    groups = {column: _group_beside(source.path, name, column) for column in reading.groups}
    where = source.text.partition("#[")[0]
    return [_part(where, {name: source.path}, labels, groups, inputs, reading.memory)]


def read_npy_folder(source: Source, inputs: Sequence[InputSpec], reading: Reading) -> list[Part]:
    """One part per shard number of a folder with `x-000.npy`, `y-000.npy`, ... (or named after the inputs).

    Without a key only plain and numbered names count, so that x_train and x_test never mix.
    """
    names = [spec.name for spec in inputs] + list(LABELS + (SAMPLES if len(with_rows(inputs)) == 1 else ()))
    names += reading.groups
    known = {spelling for name in names for spelling in spellings(name, source.key)}
    shards: dict[str, dict[str, Path]] = {}
    for path in sorted(source.path.glob("*.npy"), key=lambda p: natural_key(p.stem)):
        numbered = None if path.stem in known else _NUMBERED.fullmatch(path.stem)
        name, shard = (numbered[1], numbered[2]) if numbered and numbered[1] in known else (path.stem, "")
        shards.setdefault(shard, {})[name] = path
    if len(shards) > 1 and not known & shards.get("", {}).keys():
        shards.pop("", None)
    parts = []
    for shard, paths in shards.items():
        where = f"{source.path}, shard {shard}" if shard else str(source.path)
        arrays, labels = match_arrays(paths, inputs, source.key, where, reading)
        files = {name: paths[stored] for name, stored in arrays.items()}
        groups = {name: paths[match_group(paths, name, source.key, where)] for name in reading.groups}
        labelled = None if labels is None else paths[labels]
        parts.append(_part(where, files, labelled, groups, inputs, reading.memory))
    classes = next(
        (source.path / f"{name}.npy" for name in CLASSES if (source.path / f"{name}.npy").exists()), None
    )
    if classes is None:
        return parts
    written = tuple(_small(classes, "class names", reading.memory).astype(str).tolist())
    return [replace(part, classes=written) for part in parts]


def read_npz_folder(source: Source, inputs: Sequence[InputSpec], reading: Reading) -> list[Part]:
    """One part per .npz file of a folder, in natural order of their names."""
    parts: list[Part] = []
    for path in sorted(source.path.glob("*.npz"), key=lambda p: natural_key(p.stem)):
        text = f"{path}#{source.key}" if source.key else str(path)
        parts += read_npz_file(Source(text, path, source.key), inputs, reading)
    return parts


def _part(
    where: str,
    files: dict[str, Path],
    labels: Path | None,
    groups: dict[str, Path],
    inputs: Sequence[InputSpec],
    memory: int,
) -> Part:
    """files : of the inputs by name. labels : None where there are none."""
    columns = {spec.name: _column(files[spec.name], spec, memory) for spec in inputs}
    place = labels or next(iter(files.values()))
    own = None
    if labels is not None and any(isinstance(column, RowsColumn) for column in columns.values()):
        own = _arrays_of_objects(labels, memory)
    values = (
        no_labels(columns)
        if labels is None
        else _small(labels, "labels", memory)
        if own is None
        else as_objects(own)
    )
    part = Part(
        where=where,
        origin=str(place.resolve()),
        columns=columns,
        labels=values,
        label_where=str(place),
        files=(*files.items(), *(() if labels is None else (("labels", labels),))),
        labelled=labels is not None,
        groups={
            name: GroupColumn(str(path), _small(path, "values", memory), path)
            for name, path in groups.items()
        },
    )
    return of_one_sample(part, inputs)


def _small(path: Path, what: str, memory: int) -> np.ndarray:
    """An array of labels or class names, loaded."""
    column = map_npy(path)
    require_small(column.shape, column.dtype, str(path), what, memory)
    return read_array(column)


def _column(path: Path, spec: InputSpec, memory: int) -> Column:
    if spec.any_size and (rows := _arrays_of_objects(path, memory)) is not None:
        return RowsColumn.of(str(path), rows)
    column = map_npy(path)
    return column if column.shape else NumberColumn(column.where, np.load(path, allow_pickle=False))


def _arrays_of_objects(path: Path, memory: int) -> list[np.ndarray] | None:
    """Arrays of different shapes; None for anything else. Raises DataError where they take too much."""
    require_regular(path, DataError)
    try:
        with path.open("rb") as stream:
            return arrays_of_objects(stream, path.stat().st_size, str(path), memory)
    except (OSError, *NO_ARRAY):
        return None


def _labels_beside(path: Path, name: str, reading: Reading) -> Path | None:
    """The label file of `x.npy`: the same name, with the word for samples replaced by one for labels.

    None where there is none, and none is needed; else raises DataError.
    """
    stems = _stems_beside(path, name, LABELS)
    for stem in stems:
        if (labels := path.with_name(f"{stem}.npy")).exists():
            return labels
    if reading.unlabelled:
        return None
    raise DataError(
        f"no labels beside the file; looked for {', '.join(f'{stem}.npy' for stem in stems[:3])}, ...",
        where=path,
        hint=f"store one class number per sample in {stems[0]}.npy",
    )


def _group_beside(path: Path, name: str, column: str) -> Path:
    """The file of a column of groups: the same name, with the word for samples replaced by the column's."""
    stems = _stems_beside(path, name, (column,))
    for stem in stems:
        if (values := path.with_name(f"{stem}.npy")).exists():
            return values
    others = [other.stem for other in path.parent.glob("*.npy") if other != path]
    raise no_column(column, others, path, f"no column `{column}` beside the file, as {stems[0]}.npy")


def _stems_beside(path: Path, name: str, wanted: Sequence[str]) -> list[str]:
    """Names that the file of labels or of a column beside `x.npy` may have, without their suffix."""
    stems = []
    for word in (*SAMPLES, name):
        pattern = re.compile(rf"(?<![A-Za-z0-9]){re.escape(word)}(?![A-Za-z0-9])")
        if hit := pattern.search(path.stem):
            stems += [f"{path.stem[: hit.start()]}{each}{path.stem[hit.end() :]}" for each in wanted]
    return stems + [f"{path.stem}_{each}" for each in wanted]
