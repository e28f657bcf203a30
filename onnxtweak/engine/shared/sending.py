"""What does a worker need to make its part of a pass? The model, and where the samples are stored.

A worker may run in another folder, or on another machine: of the model it gets the bytes, and files are
looked for under their absolute paths, where they have to be as large as they are here.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from pathlib import Path, PurePath
from typing import Any

from onnxtweak.data.splits import View
from onnxtweak.engine.backends import open_backend
from onnxtweak.engine.passes import Engine, RunStats
from onnxtweak.engine.subject import Subject
from onnxtweak.engine.workers.shared_memory import Lender, Lent
from onnxtweak.errors import DataError
from onnxtweak.settings import EngineSettings
from onnxtweak.types import silent

# Files that a worker looks at before it begins: samples may be a million pictures.
_LOOKED_AT = 64


@dataclass(frozen=True)
class Packed:
    """Anything, and the engine that a worker uses it with; files as (absolute path, bytes)."""

    value: Any
    settings: EngineSettings
    reserved_bytes: int
    files: tuple[tuple[Path, int], ...]


class _AbsolutePaths(pickle.Pickler):
    """Relative paths mean something in this process's folder alone."""

    def reducer_override(self, value: Any) -> Any:
        if isinstance(value, PurePath) and not value.is_absolute():
            return type(value), (str(Path(value).absolute()),)
        return NotImplemented


def packed(value: Any, engine: Engine, settings: EngineSettings, files: Iterable[Path]) -> bytes:
    """What `opened` opens in a worker. value : models, views and functions of modules.

    settings : the worker's. files : that it will read.
    """
    there = [file.absolute() for file in islice(dict.fromkeys(files), _LOOKED_AT)]
    sizes = tuple((file, file.stat().st_size) for file in there)
    out = io.BytesIO()
    _AbsolutePaths(out, pickle.HIGHEST_PROTOCOL).dump(Packed(value, settings, engine.reserved_bytes, sizes))
    return out.getvalue()


def files_read(subject: Subject, view: View) -> tuple[Path, ...]:
    """The files that a pass over a view reads: samples, and weights outside the model's own file."""
    samples = {file: None for part in view.dataset.parts for file in part.read}
    return (*(weights.path for weights in subject.model.external), *samples)


@dataclass(frozen=True)
class AtWorker:
    """In a worker: what was packed."""

    value: Any
    engine: Engine
    lender: Lender

    def hand_over(self, found: Any, on_host: Any, borrower: int | None) -> Any:
        """How an answer goes to the process that asked. on_host : `on_host(found)`, without a GPU's arrays.

        borrower : process of this machine to lend it to; None: it is sent.
        """
        lent: Lent | None = None if borrower is None else self.lender.lend(borrower, found)
        return lent or on_host(found)


@lru_cache(maxsize=1)
def opened(given: bytes | Path) -> AtWorker:
    """In a worker: what is open from call to call. given : what `packed` returned, or a file with it.

    Raises DataError where the files of the samples are not here, or others.
    """
    data = given.read_bytes() if isinstance(given, Path) else given
    pack: Packed = pickle.loads(data)
    for file, size in pack.files:
        if not file.is_file() or file.stat().st_size != size:
            what = "another file is here" if file.exists() else "there is no such file"
            raise DataError(
                f"on a worker {what}",
                where=file,
                hint="every worker has to see model and samples under the same paths as this command",
            )
    engine = Engine(pack.settings, open_backend(pack.settings), silent, RunStats(), pack.reserved_bytes)
    return AtWorker(pack.value, engine, Lender(lambda count: engine.backend.buffer((1, count), "cpu")))
