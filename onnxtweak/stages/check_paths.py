"""Do the files that a command writes keep clear of one another, and of everything that it reads?

Asked by path alone, before anything is opened; links are followed.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from onnxtweak.data.listed import all_sources
from onnxtweak.errors import OutputError, UsageError
from onnxtweak.in_memory import InMemory
from onnxtweak.model.file.model_file import ModelFile, ModelSource, model_files
from onnxtweak.model.file.output_paths import check_distinct, check_output, same_file
from onnxtweak.settings import DataSettings, EngineSettings, OutputSettings
from onnxtweak.stages.report_page import require_page_name

_FUNCTION = re.compile(r"(.+\.py):\w+(#.*)?")


def check_paths(
    output: OutputSettings,
    model: ModelSource,
    data: DataSettings,
    engine: EngineSettings = EngineSettings(),
    metric: str | None = None,
    others: Iterable[str] = (),
) -> None:
    """Raise OutputError where a command's files could not be written, or would replace what it reads.

    metric : the words of `--metric`, which may name a file of costs. others : what else is read. Raises
    UsageError where several processes are to open what only this one holds.
    """
    _require_files(model, data, engine)
    written = [path for path in (output.output, output.tweak, output.report) if path is not None]
    work = [] if engine.work_dir is None else [engine.work_dir]
    read = [*model_files(model), *map(Path, others), *files_named(data, engine), *costs_named(metric)]
    for path in written:
        check_output(path, force=output.force, protect=read)
    check_distinct([*work, *written])
    if output.report is not None:
        require_page_name(output.report)


def files_named(data: DataSettings, engine: EngineSettings = EngineSettings()) -> tuple[Path, ...]:
    """Files and folders that the settings name, as far as they exist: sources, class names, libraries."""
    names = [text for text in (data.names, data.alphabet) if isinstance(text, str)]
    sources = (*all_sources(data), *data.val, *data.test)
    found = (path for source in sources if isinstance(source, str) for path in _places(source))
    return tuple(Path(path) for path in (*names, *found, *engine.custom_ops) if _exists(path))


def costs_named(metric: str | None) -> tuple[Path, ...]:
    """The file of costs that a metric names, if it exists."""
    path = (metric or "").removeprefix("cost:")
    return (Path(path),) if path != metric and _exists(path) else ()


def _require_files(model: ModelSource, data: DataSettings, engine: EngineSettings) -> None:
    sources = (*all_sources(data), *data.val, *data.test)
    held = [*map(str, (source for source in sources if isinstance(source, InMemory)))]
    held += [str(model.path)] if isinstance(model, ModelFile) and not model.stored else []
    if held and (engine.workers or engine.scheduler or "," in engine.device):
        raise UsageError(
            "worker processes open model and samples themselves, from files",
            where=held[0],
            hint="save it (numpy.savez, onnx.save) and give the path, or use a single process",
        )


def check_folder(folder: str | Path, read: Iterable[str | Path]) -> None:
    """Raise OutputError where a folder that is going to be replaced holds what is read."""
    for path in read:
        inside = Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder))
        if inside or same_file(path, folder):
            what = "the output would replace what it is made from"
            raise OutputError(what, where=folder, hint="name another folder")


def _places(text: str) -> Iterator[str]:
    """What a source may mean: a path, a path before `#KEY`, a file before `:FUNCTION`."""
    yield text
    yield text.rpartition("#")[0]
    if match := _FUNCTION.fullmatch(text):
        yield match[1]


def _exists(path: str) -> bool:
    try:
        return bool(path) and Path(path).exists()
    except (OSError, ValueError):
        return False
