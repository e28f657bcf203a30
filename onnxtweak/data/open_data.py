"""Which reader opens which data source, and how do several sources become one `Dataset`?"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from onnxtweak.ctc.transcripts import Transcripts
from onnxtweak.data.constants import read_constants
from onnxtweak.data.dataset import Dataset
from onnxtweak.data.groups import NoColumn, read_groups
from onnxtweak.data.labels import Labels, class_numbers, labels_at_positions, own_names
from onnxtweak.data.preprocess.padding import not_at_positions, without_padding
from onnxtweak.data.preprocess.plan import PreprocessPlan, check_preprocess, make_plan
from onnxtweak.data.samples import InputSpec, MarkedAt, Part, Reading, labelled_rows, texts_of
from onnxtweak.data.several.at_positions import one_hot_as_classes
from onnxtweak.data.several.label_kind import several_labels
from onnxtweak.data.several.own_sizes import by_size, unlike_sizes
from onnxtweak.data.source_spec import Source, parse_source, select_rows
from onnxtweak.data.sources.boxes.coco import read_coco
from onnxtweak.data.sources.boxes.rows import objects_of
from onnxtweak.data.sources.boxes.yolo import read_labelled_folder
from onnxtweak.data.sources.csv_table import read_csv
from onnxtweak.data.sources.function import read_function
from onnxtweak.data.sources.image_source import read_image_folder
from onnxtweak.data.sources.memory.held import read_held
from onnxtweak.data.sources.npz import CompressedColumn, load
from onnxtweak.data.sources.numbered import read_npz_file
from onnxtweak.data.sources.shards import read_npy_folder, read_npy_pair, read_npz_folder
from onnxtweak.data.stratified import labels_of_samples
from onnxtweak.errors import DataError
from onnxtweak.in_memory import InMemory, SampleSource
from onnxtweak.input_files import require_regular, within_reach
from onnxtweak.quantities import number_of
from onnxtweak.settings import GiB, Preprocess
from onnxtweak.types import Progress, silent

Reader = Callable[[Source, Sequence[InputSpec], Reading], list[Part]]


def _read_parquet(source: Source, inputs: Sequence[InputSpec], reading: Reading) -> list[Part]:
    try:
        from onnxtweak.data.sources.parquet import read_parquet
    except ImportError as error:
        raise DataError(
            "reading Parquet needs pyarrow, which is not installed",
            where=source.path,
            hint="pip install 'onnxtweak[parquet]'",
        ) from error
    return read_parquet(source, inputs, reading)


READERS: dict[str, Reader] = {
    ".npz": read_npz_file,
    ".npy": read_npy_pair,
    ".json": read_coco,
    ".csv": read_csv,
    ".tsv": read_csv,
    ".parquet": _read_parquet,
    ".py": read_function,
}


def open_data(
    sources: Sequence[SampleSource],
    *,
    inputs: Sequence[InputSpec],
    preprocess: Preprocess,
    names: Sequence[str] | Dataset | None = None,
    memory: int = 4 * GiB,
    progress: Progress = silent,
    groups: Sequence[str] = (),
) -> Dataset:
    """The samples of all sources, one source after the other.

    inputs : what the model expects. names : class names, class 0 first; or a dataset whose names and numbers
    of classes these samples have too. memory : bytes; compressed arrays are loaded while they fit into a
    quarter of it, and streamed otherwise. progress : told of samples that come batch by batch. groups : names
    of columns to read as groups.
    Raises DataError for anything missing, damaged, empty or incompatible with the model.
    """
    return read_sources(sources, inputs, Reading(preprocess, memory, progress, tuple(groups)), names)


@dataclass(frozen=True)
class Lists:
    """Which sources are lists of samples. They need no columns of groups.

    sources : so many, the last. unlabelled : so many of these, the last, need no labels, and those that they
    have are not heeded.
    """

    sources: int = 0
    unlabelled: int = 0


def read_sources(
    sources: Sequence[SampleSource],
    inputs: Sequence[InputSpec],
    reading: Reading,
    names: Sequence[str] | Dataset | None = None,
    lists: Lists = Lists(),
) -> Dataset:
    """As `open_data`; `reading` says how the sources are read, and `lists` which of them are lists."""
    preprocess, memory = reading.preprocess, reading.memory
    check_preprocess(preprocess)
    parts: list[Part] = []
    counts: list[int] = []
    for left, source in zip(range(len(sources), 0, -1), sources, strict=True):
        bare = left <= lists.unlabelled
        of_one = replace(reading, unlabelled=bare or reading.unlabelled)
        chosen = (_read_list if left <= lists.sources else _read)(source, inputs, of_one)
        chosen = [replace(part, listed=left <= lists.sources) for part in chosen]
        own = [part for part in chosen if len(part) or not part.listed]
        parts += [part.without_labels() for part in own] if bare else own
        counts.append(sum(map(len, chosen)))
    parts = parts if reading.boxes else [own for part in parts for own in by_size(part)]
    parts = [without_padding(part, reading) for part in parts]
    known, written = (names.classes, names.written) if isinstance(names, Dataset) else (names, None)
    labels = objects_of(parts, known) if reading.boxes else None
    if reading.several and labels is None:
        earlier = names if isinstance(names, Dataset) else None
        kind = None if earlier is None else (earlier.several, earlier.parts[0].label_where)
        if isinstance(reading.several, MarkedAt) and reading.head != "labels" and not (kind and kind[0]):
            parts = one_hot_as_classes(parts, reading.several, reading.ignored)
        if (made := several_labels(parts, kind, reading)) is not None:
            classes = own_names(parts) if known is None else tuple(known)
            labels = Labels(made.marks, classes, None, made.notes, sizes=made.sizes, own=made.own)
    elif reading.head == "labels" and labels is None and any(part.labelled for part in parts):
        what = "the model shows one class, and not each label for itself: labels are class numbers"
        raise DataError(what, where=parts[0].label_where, hint="leave out --head labels")
    if labels is None and reading.lines and (texts := texts_of(parts)) is not None:
        lines = Transcripts(texts)
        labels = Labels(lines.rarest, None, None, (), lines=lines)
    if labels is None:
        labels = labels_at_positions(parts, known, reading.ignored) or _labels_of(parts, known, written)
    about = [("--ignore-index", reading.ignored), ("--counted", reading.counted)]
    given = [option for option, value in about if value is not None]
    if given and not labels.sizes and any(part.labelled for part in parts):
        raise not_at_positions(given[0], parts[0])
    if not len(labels.numbers):
        raise DataError(
            "no samples", where=", ".join(map(str, sources)), hint="give at least one nonempty source"
        )
    constants = read_constants(parts, inputs)
    inputs = tuple(spec for spec in inputs if spec.name not in constants)
    if not inputs:
        raise DataError(
            "a single number is not an array of samples",
            where=parts[0].where,
            hint="store an array of shape (N, ...)",
        )
    plans = _plans(parts, inputs, preprocess)
    raw = {plan.spec.name for each in plans for plan in each.values() if plan.arithmetic.raw}
    all_notes = [*(note for part in parts for note in part.notes), *labels.notes]
    all_notes += [
        f"the float input `{name}` gets bytes as 0 to 255; was the model trained on scaled pixels?"
        for name in sorted(raw)
    ]
    found = Dataset(
        labels=labels.numbers,
        inputs=tuple(spec.name for spec in inputs),
        classes=labels.classes,
        parts=tuple(_load_compressed(parts, memory // 4)),
        plans=plans,
        notes=tuple(dict.fromkeys(all_notes)),
        constants=constants,
        written=labels.written,
        by_sorting=labels.by_sorting,
        groups={name: read_groups(parts, name) for name in reading.groups if name != reading.counted},
        sources=tuple(counts),
        sizes=labels.sizes,
        labelled=all(part.labelled for part in parts),
        lines=labels.lines,
        objects=labels.objects,
        own=labels.own,
    )
    if found.own and not found.by_part.unequal:
        raise unlike_sizes(parts)
    if not (found.by_part.unequal and found.sizes):
        return found
    # Until the model says how many positions samples of each size have, labels only serve to deal them out.
    return replace(found, labels=labels_of_samples(found), sizes=(), pending=found.labels)


def _read(source: SampleSource, inputs: Sequence[InputSpec], reading: Reading) -> list[Part]:
    if isinstance(source, InMemory):
        return [_checked(part) for part in read_held(source, inputs, reading)]
    return _read_file(source, inputs, reading)


def _read_list(source: SampleSource, inputs: Sequence[InputSpec], reading: Reading) -> list[Part]:
    """A list, with those columns of groups that it has."""
    for _ in reading.groups:
        try:
            return _read(source, inputs, reading)
        except NoColumn as error:
            missing = error.column
        reading = replace(reading, groups=tuple(name for name in reading.groups if name != missing))
    return _read(source, inputs, reading)


def _labels_of(parts: Sequence[Part], names: Sequence[str] | None, written: Sequence[int] | None) -> Labels:
    """The labels of all parts; zeros for those that have none."""
    labelled = [part for part in parts if part.labelled]
    known = Labels(np.empty(0, np.int64), None if names is None else tuple(names), None, ())
    found = class_numbers(labelled, names, written) if labelled else known
    own = labelled_rows(parts)
    numbers = np.zeros(len(own), np.int64)
    numbers[own] = found.numbers
    return replace(found, numbers=numbers)


def prepared_otherwise(dataset: Dataset, inputs: Sequence[InputSpec], preprocess: Preprocess) -> Dataset:
    """The same samples with other values, color or layout; sources are not opened again.

    Raises DataError where the model then cannot take them.
    """
    check_preprocess(preprocess)
    return replace(dataset, plans=_plans(dataset.parts, inputs, preprocess))


def fed_to(
    dataset: Dataset, inputs: Sequence[InputSpec], names: Mapping[str, str], preprocess: Preprocess
) -> Dataset:
    """The same samples as another model takes them.

    inputs : of that model. names : for each of them, the input of the dataset whose values it gets. Raises
    DataError where the model cannot take them.
    """
    parts = tuple(
        replace(part, columns={spec.name: part.columns[names[spec.name]] for spec in inputs})
        for part in dataset.parts
    )
    fed = replace(dataset, parts=parts, inputs=tuple(spec.name for spec in inputs))
    return prepared_otherwise(fed, inputs, preprocess)


def _plans(
    parts: Sequence[Part], inputs: Sequence[InputSpec], preprocess: Preprocess
) -> tuple[dict[str, PreprocessPlan], ...]:
    """For each part, the preprocessing of each input by name."""
    chosen = {spec.name: _options_for(spec, inputs, preprocess) for spec in inputs}
    return tuple(
        {spec.name: make_plan(part.columns[spec.name], spec, chosen[spec.name]) for spec in inputs}
        for part in parts
    )


def _read_file(text: str, inputs: Sequence[InputSpec], reading: Reading) -> list[Part]:
    """The samples of a source that is written, but for rows that it leaves out."""
    with within_reach(DataError):
        source = parse_source(text)
        if source.key and (source.path / source.key).is_dir():
            source = replace(source, path=source.path / source.key, key=None)
        found = _reader(source, reading)(source, inputs, reading)
    return select_rows([_checked(part) for part in found], source)


def _reader(source: Source, reading: Reading) -> Reader:
    path = source.path
    if not path.is_dir():
        require_regular(path, DataError)
        if path.suffix.lower() in READERS:
            return READERS[path.suffix.lower()]
        packed = path.suffix.lower() in _PACKED
        hint = f"unpack it, and give the file inside; {_FILE_TYPES}" if packed else _FILE_TYPES
        raise DataError(f"unsupported file type `{path.suffix}`", where=path, hint=hint)
    shards = {suffix for suffix in (".npz", ".npy") if any(path.glob(f"*{suffix}"))}
    if len(shards) == 2:
        raise DataError(
            "the folder holds both .npz and .npy files", where=path, hint="keep one file type per folder"
        )
    pictures = read_labelled_folder if reading.boxes else read_image_folder
    return {".npz": read_npz_folder, ".npy": read_npy_folder}[shards.pop()] if shards else pictures


_PACKED = (".gz", ".bz2", ".xz", ".zst", ".zip", ".tar", ".tgz", ".7z")
_FILE_TYPES = (
    "give an .npz, an .npy with its labels beside it, a folder of these, a folder of images root/class/*,"
    " a .csv, a .parquet, a COCO .json, or FILE.py:FUNCTION"
)


def _checked(part: Part) -> Part:
    """The same part. Raises DataError where a column has more or fewer rows than there are labels."""
    if not part.labels.ndim and not any(column.shape for column in part.columns.values()):
        hint = "store inputs of shape (N, ...) and one class number per sample, shape (N,)"
        raise DataError("single numbers are no samples", where=f"{part.where}; {part.label_where}", hint=hint)
    for name, group in part.groups.items():
        if group.values.shape[:1] != part.labels.shape[:1]:
            raise DataError(
                f"`{name}` has the shape {group.values.shape}, but there {'is' if len(part) == 1 else 'are'} "
                f"{number_of(len(part), 'sample')}",
                where=f"{group.where}; {part.label_where}",
                hint="store one value per sample, in the same order",
            )
    for column in part.columns.values():
        if not column.shape:  # one number, for all samples
            continue
        if part.labels.shape[:1] != column.shape[:1]:
            raise DataError(
                f"{number_of(column.shape[0], 'sample')} but {_counted(part.labels)}",
                where=f"{column.where}; {part.label_where}",
                hint="every sample needs one label, in the same order",
            )
        if 0 in column.shape[1:]:
            raise DataError(
                f"samples of shape {column.shape[1:]} are empty",
                where=column.where,
                hint="store at least one value per sample",
            )
    return part


def _counted(labels: np.ndarray) -> str:
    return number_of(len(labels), "label") if labels.ndim == 1 else f"labels of shape {labels.shape}"


def _options_for(spec: InputSpec, inputs: Sequence[InputSpec], preprocess: Preprocess) -> Preprocess:
    """With several inputs, preprocessing applies only to those that take images."""
    if len(inputs) == 1 or (spec.sample is not None and len(spec.sample) == 3):
        return preprocess
    if preprocess != Preprocess() and not any(len(each.sample or ()) == 3 for each in inputs):
        raise DataError(
            "preprocessing was given, but none of the model's inputs takes images",
            where="preprocess",
            hint="store the values as the model expects them",
        )
    return Preprocess()


def _load_compressed(parts: Sequence[Part], room: int) -> list[Part]:
    """The same parts, with compressed columns loaded as long as they fit into `room` bytes."""
    loaded = []
    for part in parts:
        columns = dict(part.columns)
        for name, column in part.columns.items():
            if isinstance(column, CompressedColumn) and column.nbytes <= room:
                room -= column.nbytes
                columns[name] = load(column)
        loaded.append(replace(part, columns=columns))
    return loaded
