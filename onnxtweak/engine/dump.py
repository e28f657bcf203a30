"""How are V and Z dumped to disk, and read again? As .npy shards that can be mapped, with a manifest."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from onnxtweak.data.sources.npy import NO_ARRAY
from onnxtweak.data.splits import View
from onnxtweak.disk_space import new_mapped, writing
from onnxtweak.engine.passes import Captured, Engine
from onnxtweak.engine.shared.kept_shards import kept_by_shards
from onnxtweak.engine.shared.shards import captured_shards, joined
from onnxtweak.engine.subject import Subject
from onnxtweak.errors import DataError, OutputError
from onnxtweak.in_memory import SampleSource
from onnxtweak.input_files import read_text, require_regular
from onnxtweak.temporary_files import Change, collect, temporary_folder, together
from onnxtweak.types import Neurons, Tap

MANIFEST = "manifest.json"
_FORMAT = 1
_OF_DUMPS = re.compile(rf"{re.escape(MANIFEST)}|[VZL]-[0-9]{{5,}}\.npy")
_SHARD_BYTES = 256 * 2**20


@dataclass(frozen=True)
class Dump:
    """A dump on disk.

    base_sha256 : of the model. logits : tensor name. neurons : the chosen ones; None: all neurons of `taps`.
    classes : C. shards : samples in each. names : of the classes, if known. several : whether labels are
    marks of several classes at once.
    """

    directory: Path
    base_sha256: str
    logits: str
    taps: tuple[Tap, ...]
    neurons: Neurons | None
    classes: int
    shards: tuple[int, ...]
    names: tuple[str, ...] | None
    several: bool = False

    @property
    def files(self) -> tuple[Path, ...]:
        """All files of the dump."""
        numbers = range(len(self.shards))
        return (
            self.directory / MANIFEST,
            *(_shard(self.directory, name, k) for k in numbers for name in "VZL"),
        )

    @property
    def columns(self) -> int:
        """Columns of V: M, or K for chosen neurons."""
        return sum(tap.neurons for tap in self.taps) if self.neurons is None else len(self.neurons)


def write_dump(
    directory: str | Path,
    subject: Subject,
    view: View,
    engine: Engine,
    taps: Sequence[Tap],
    neurons: Neurons | None,
    *,
    force: bool,
) -> tuple[Dump, int]:
    """Write V (n, M) float32, Z (n, C) and L (n,) int64, shard by shard: the dump, and its size in bytes.

    Of several labels L is (n, C) int64, marks.

    The folder appears complete or not at all. Raises OutputError when it cannot be written, or exists and is
    not an earlier dump that `force` allows to be replaced.
    """
    directory = Path(directory)
    check_directory(directory, force)
    dump = Dump(
        directory, subject.model.base_sha256, subject.logits, tuple(taps), neurons, subject.classes, (),
        view.dataset.classes, view.dataset.several,
    )  # fmt: skip
    rows = max(1, _SHARD_BYTES // (4 * max(dump.columns, 1)))
    sizes = [min(rows, len(view.rows) - start) for start in range(0, len(view.rows), rows)]
    dump = replace(dump, shards=tuple(sizes))
    with ExitStack() as stack:
        with writing(directory, "the dump"):
            staging = stack.enter_context(temporary_folder(directory.parent))
        engine = replace(engine, settings=replace(engine.settings, shard=min(engine.settings.shard, rows)))
        size = _write_shards(staging, dump, _batches(subject, view, engine, taps, neurons))
        with writing(directory, "the dump"):
            (staging / MANIFEST).write_text(json.dumps(_manifest(dump), indent=1) + "\n")
            _put_in_place(staging, directory)
    return dump, size


def _batches(
    subject: Subject, view: View, engine: Engine, taps: Sequence[Tap], neurons: Neurons | None
) -> Iterator[Captured]:
    """The batches of the pass; each a whole shard where workers make them, or a work directory keeps them."""
    shared = engine.crew is not None and engine.crew.wanted
    if engine.settings.work_dir is None and not shared:
        for shard in captured_shards(subject, view, engine, "dump", taps, neurons):
            yield from shard
        return
    work, at = partial(_whole_shards, taps=taps, neurons=neurons), 0
    made = f"dump {json.dumps(_watched(taps, neurons))}"
    for Z, *V in kept_by_shards(work, subject, view, engine, "dump", made):
        own = View(view.dataset, view.rows[at : at + len(Z)])
        at += len(Z)
        yield Captured(Z, tuple(V), own.labels, own.rows)


def _whole_shards(
    subject: Subject,
    view: View,
    engine: Engine,
    what: str,
    taps: Sequence[Tap],
    neurons: Neurons | None,
) -> Iterator[tuple[np.ndarray, ...]]:
    """Z of each shard, and V of each tap."""
    for shard in captured_shards(subject, view, engine, what, taps, neurons):
        parts = [(got.Z.copy(), *(V.copy() for V in got.V)) for got in shard]
        yield joined(parts)


def _put_in_place(staging: Path, directory: Path) -> None:
    """Rename a complete dump; an earlier one is deleted after that."""
    with temporary_folder(directory.parent) as aside:
        if not directory.exists():
            os.replace(staging, directory)
            return
        earlier = aside / "earlier"
        with together([Change(directory, staging, earlier)]):
            try:
                os.replace(directory, earlier)
                os.replace(staging, directory)
            except BaseException:
                if earlier.exists() and not directory.exists():
                    os.replace(earlier, directory)
                raise


def check_directory(directory: Path, force: bool) -> None:
    """Raise OutputError now if `write_dump` is bound to fail later."""
    if directory.is_symlink():
        what = "a link stands where the folder would be made"
        hint = f"name the folder itself: {os.path.realpath(directory)}"
        raise OutputError(what, where=directory, hint=hint)
    collect(directory.parent)  # puts an earlier dump back, of whose replacing somebody died
    if directory.exists():
        if not (directory / MANIFEST).is_file():
            raise OutputError(
                "the folder exists and is not a dump",
                where=directory,
                hint="name a folder that does not exist yet",
            )
        if not force:
            raise OutputError("the dump already exists", where=directory, hint="replace it with --force")
        others = [path for path in directory.iterdir() if not _OF_DUMPS.fullmatch(path.name)]
        if others:
            what = f"the folder holds a dump, and other files too: {others[0].name}"
            raise OutputError(what, where=directory, hint="move them away, or name another folder")
    if not os.access(directory.parent, os.W_OK):
        raise OutputError("cannot write to this folder", where=directory.parent, hint="choose another folder")


def _write_shards(folder: Path, dump: Dump, batches: Iterator[Captured]) -> int:
    """Fill shard after shard from the batches, which end elsewhere; the size of all in bytes."""
    batch: Captured | None = next(batches)
    at, size = 0, 0
    assert batch is not None
    for number in range(len(dump.shards)):  # all at first, so that a full disk shows before the long pass
        _new_shard(folder, dump, number, batch.Z.dtype)
    for number, count in enumerate(dump.shards):
        V, Z, L = (np.lib.format.open_memmap(_shard(folder, name, number), "r+") for name in "VZL")
        filled = 0
        while filled < count:
            if batch is None:
                batch, at = next(batches), 0
            take = min(count - filled, len(batch.labels) - at)
            target, source = slice(filled, filled + take), slice(at, at + take)
            Z[target], L[target] = batch.Z[source], batch.labels[source]
            column = 0
            for values in batch.V:
                V[target, column : column + values.shape[1]] = values[source]
                column += values.shape[1]
            filled, at = filled + take, at + take
            batch = None if at == len(batch.labels) else batch
        for array in (V, Z, L):
            array.flush()
            size += array.nbytes
    next(batches, None)  # lets the pass report that it is done
    return size


def _new_shard(folder: Path, dump: Dump, number: int, logits: np.dtype) -> None:
    """Make the files of one shard: V, Z and L. logits : type of Z. Raises OutputError."""
    count = dump.shards[number]
    kinds: dict[str, tuple[Any, tuple[int, ...]]] = {
        "V": (np.float32, (count, dump.columns)),
        "Z": (logits, (count, dump.classes)),
        "L": (np.int64, (count, dump.classes) if dump.several else (count,)),
    }
    for name, (dtype, shape) in kinds.items():
        new_mapped(_shard(folder, name, number), dtype, shape, dump.directory)


def _shard(folder: Path, name: str, number: int) -> Path:
    return folder / f"{name}-{number:05}.npy"


def _manifest(dump: Dump) -> dict[str, Any]:
    return {
        "format": _FORMAT,
        "base_sha256": dump.base_sha256,
        "logits": dump.logits,
        "classes": dump.classes,
        "class_names": dump.names,
        **_watched(dump.taps, dump.neurons),
        "shards": list(dump.shards),
        **({"several_labels": True} if dump.several else {}),
    }


def _watched(taps: Sequence[Tap], neurons: Neurons | None) -> dict[str, Any]:
    """Which values are dumped, for a manifest."""
    chosen = None
    if neurons is not None:
        named = [asdict(tap) for tap in neurons.taps]
        chosen = {"taps": named, "tap_of": neurons.tap_of.tolist(), "index": neurons.index.tolist()}
    return {"taps": [asdict(tap) for tap in taps], "neurons": chosen}


def is_dump(source: SampleSource) -> bool:
    """Whether a data source is a folder that `write_dump` wrote."""
    return isinstance(source, str) and (Path(source) / MANIFEST).is_file()


def read_dump(directory: str | Path) -> Dump:
    """Open a dump. Raises DataError when its manifest is damaged."""
    directory = Path(directory)
    try:
        entry = json.loads(read_text(directory / MANIFEST, DataError))
        chosen = entry["neurons"]
        neurons = None
        if chosen is not None:
            neurons = Neurons(
                tuple(_tap(t) for t in chosen["taps"]),
                np.array(chosen["tap_of"], np.int32),
                np.array(chosen["index"], np.int64),
            )
        names = entry["class_names"]
        return Dump(
            directory, entry["base_sha256"], entry["logits"], tuple(_tap(t) for t in entry["taps"]), neurons,
            int(entry["classes"]), tuple(entry["shards"]), None if names is None else tuple(names),
            bool(entry.get("several_labels", False)),
        )  # fmt: skip
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"the dump's manifest is damaged: {error}", where=directory / MANIFEST, hint="dump again"
        ) from error


def _tap(entry: dict[str, Any]) -> Tap:
    return Tap(**{**entry, "shape": tuple(entry["shape"])})


def dumped_labels(dump: Dump) -> np.ndarray:
    """Labels (N,) int64 of all shards, or (N, C), marks of several. Raises DataError for a damaged shard."""
    return np.concatenate([_load(dump, "L", number) for number in range(len(dump.shards))])


def dumped_batches(dump: Dump, size: int, rows: np.ndarray | None = None) -> Generator[Captured]:
    """The samples of a dump as `capture` yields them, one V per tap, at most `size` at a time.

    rows : which, ascending int64; None: all. Raises DataError when a shard is missing or damaged.
    """
    edges = np.cumsum([0, *(tap.neurons for tap in dump.taps)])
    start = 0
    for number, count in enumerate(dump.shards):
        inside = np.arange(count) if rows is None else rows[(rows >= start) & (rows < start + count)] - start
        V, Z, L = (_load(dump, name, number) for name in "VZL")
        for first in range(0, len(inside), size):
            take = inside[first : first + size]
            wide = V[take]
            parts = tuple(
                np.ascontiguousarray(wide[:, a:b]) for a, b in zip(edges[:-1], edges[1:], strict=True)
            )
            yield Captured(Z[take], parts, L[take], take + start)
        start += count


def _load(dump: Dump, name: str, number: int) -> np.ndarray:
    path = _shard(dump.directory, name, number)
    require_regular(path, DataError)
    try:
        array: np.ndarray = np.load(path, mmap_mode="r")
    except (OSError, *NO_ARRAY) as error:
        raise DataError(f"a shard is missing or damaged: {error}", where=path, hint="dump again") from error
    count = dump.shards[number]
    wanted: dict[str, tuple[int, ...]] = {"V": (count, dump.columns), "Z": (count, dump.classes)}
    wanted["L"] = wanted["Z"] if dump.several else (count,)
    if array.shape != wanted[name]:
        raise DataError(
            f"a shard has shape {array.shape}, not what the manifest says", where=path, hint="dump again"
        )
    return array
