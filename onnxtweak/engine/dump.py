"""Tables V and Z on disk: memory-mappable .npy shards with a manifest, and the way back."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from onnxtweak.data.splits import View
from onnxtweak.engine.passes import Captured, Engine, capture
from onnxtweak.engine.subject import Subject
from onnxtweak.errors import DataError, OutputError
from onnxtweak.types import Neurons, Tap

MANIFEST = "manifest.json"
_FORMAT = 1
_SHARD_BYTES = 256 * 2**20


@dataclass(frozen=True)
class Dump:
    """A dump on disk. shards : samples in each. neurons : the chosen; None: all of `taps`."""

    directory: Path
    base_sha256: str
    logits: str
    taps: tuple[Tap, ...]
    neurons: Neurons | None
    classes: int
    shards: tuple[int, ...]
    names: tuple[str, ...] | None

    @property
    def columns(self) -> int:
        """M, or K for chosen neurons."""
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
    """Write V (n, M) float32, Z (n, C) and L (n,) shard by shard; returns the dump and its size in bytes.

    The folder appears whole or not at all. Raises OutputError when it cannot be written, or exists and is not
    an earlier dump that `force` allows to replace.
    """
    directory = Path(directory)
    check_directory(directory, force)
    part = directory.parent / f".{directory.name}.part-{os.getpid()}"
    made = Dump(
        directory, subject.model.base_sha256, subject.logits, tuple(taps), neurons, subject.classes, (),
        view.dataset.classes,
    )  # fmt: skip
    rows = max(1, _SHARD_BYTES // (4 * max(made.columns, 1)))
    sizes = [min(rows, len(view.rows) - start) for start in range(0, len(view.rows), rows)]
    made = Dump(**{**vars(made), "shards": tuple(sizes)})
    try:
        part.mkdir()
        size = _write_shards(part, made, capture(subject, view, engine, "dump", taps, neurons))
        (part / MANIFEST).write_text(json.dumps(_manifest(made), indent=1) + "\n")
        if directory.exists():
            shutil.rmtree(directory)
        os.replace(part, directory)
    except OSError as error:
        raise OutputError(
            f"the tables cannot be written: {error.strerror or error}",
            where=directory,
            hint="check the folder and the space left on the disk",
        ) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return made, size


def check_directory(directory: Path, force: bool) -> None:
    """Raise OutputError now if `write_dump` could not succeed later."""
    if directory.exists():
        if not (directory / MANIFEST).is_file():
            raise OutputError(
                "this exists and is not a dump", where=directory, hint="name a folder that does not exist yet"
            )
        if not force:
            raise OutputError("the dump exists already", where=directory, hint="replace it with --force")
    if not os.access(directory.parent, os.W_OK):
        raise OutputError("this folder cannot be written to", where=directory.parent, hint="choose another")


def _write_shards(folder: Path, made: Dump, batches: Iterator[Captured]) -> int:
    batch, at, size = None, 0, 0
    kind = None
    for number, count in enumerate(made.shards):
        arrays = None
        filled = 0
        while filled < count:
            if batch is None:
                batch, at = next(batches), 0
            kind = kind or batch.Z.dtype
            if arrays is None:
                shapes = {"V": (count, made.columns), "Z": (count, made.classes), "L": (count,)}
                kinds = {"V": np.float32, "Z": kind, "L": np.int64}
                arrays = {
                    name: np.lib.format.open_memmap(
                        folder / f"{name}-{number:05}.npy", "w+", kinds[name], shapes[name]
                    )
                    for name in shapes
                }
            take = min(count - filled, len(batch.labels) - at)
            here, there = slice(filled, filled + take), slice(at, at + take)
            arrays["Z"][here], arrays["L"][here] = batch.Z[there], batch.labels[there]
            column = 0
            for V in batch.V:
                arrays["V"][here, column : column + V.shape[1]] = V[there]
                column += V.shape[1]
            filled, at = filled + take, at + take
            batch = None if at == len(batch.labels) else batch
        for array in arrays.values():
            array.flush()
            size += array.nbytes
    next(batches, None)  # lets the pass report that it is done
    return size


def _manifest(made: Dump) -> dict:
    chosen = made.neurons
    return {
        "format": _FORMAT,
        "base_sha256": made.base_sha256,
        "logits": made.logits,
        "classes": made.classes,
        "class_names": made.names,
        "taps": [asdict(tap) for tap in made.taps],
        "neurons": None
        if chosen is None
        else {
            "taps": [asdict(tap) for tap in chosen.taps],
            "tap_of": chosen.tap_of.tolist(),
            "index": chosen.index.tolist(),
        },
        "shards": list(made.shards),
    }


def is_dump(source: str) -> bool:
    """Whether a data source is a folder that `write_dump` wrote."""
    return (Path(source) / MANIFEST).is_file()


def read_dump(directory: str | Path) -> Dump:
    """Open a dump. Raises DataError when it is damaged."""
    directory = Path(directory)
    try:
        entry = json.loads((directory / MANIFEST).read_text())
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
        )  # fmt: skip
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"the dump's manifest is damaged: {error}", where=directory / MANIFEST, hint="dump again"
        ) from error


def _tap(entry: dict) -> Tap:
    return Tap(**{**entry, "shape": tuple(entry["shape"])})


def dumped_labels(dump: Dump) -> np.ndarray:
    """Labels (N,) int64 of all shards."""
    return np.concatenate([_load(dump, "L", number) for number in range(len(dump.shards))])


def dumped_batches(dump: Dump, size: int, rows: np.ndarray | None = None) -> Iterator[Captured]:
    """The samples of a dump again, as `capture` gives them: one V per tap, `size` samples at most."""
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
    path = dump.directory / f"{name}-{number:05}.npy"
    try:
        array = np.load(path, mmap_mode="r")
    except (OSError, ValueError) as error:
        raise DataError(f"a shard is missing or damaged: {error}", where=path, hint="dump again") from error
    wanted = {"V": (dump.shards[number], dump.columns), "Z": (dump.shards[number], dump.classes)}
    if array.shape != wanted.get(name, (dump.shards[number],)):
        raise DataError(f"a shard has the shape {array.shape}", where=path, hint="dump again")
    return array
