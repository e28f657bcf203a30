"""A result as a page of pictures: drawn from its JSON, by `report` and at the end of a job."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from onnxtweak.errors import DataError
from onnxtweak.model.file.output_file import write_atomic
from onnxtweak.report.page.page import page
from onnxtweak.report.schema import SCHEMA, document
from onnxtweak.results import Result
from onnxtweak.stages.open_job import file_ref
from onnxtweak.types import FileRef

_HINT = "give what `onnxtweak join -f json` or `onnxtweak run` wrote"


def write_page(made: Result, path: str, *, force: bool) -> FileRef:
    """The page of a result that was just made. Raises OutputError."""
    whole = json.loads(json.dumps(document(made.command, made)))
    write_atomic(path, [draw(whole, path)], force=force)
    return file_ref(path)


def read_result(path: str) -> dict[str, Any]:
    """The document of a result. Raises DataError where the file holds none."""
    try:
        made = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}", where=path, hint=_HINT) from error
    except (ValueError, RecursionError) as error:
        raise DataError("this is no JSON", where=path, hint=_HINT) from error
    if not isinstance(made, dict) or "schema" not in made:
        raise DataError("this is no result of onnxtweak", where=path, hint=_HINT)
    if made["schema"] != SCHEMA:
        raise DataError(
            f"schema {made['schema']!r} is not known", where=path, hint="make it again with this version"
        )
    if not {"before", "after", "bias_control", "checks"} <= made.keys():
        raise DataError(f"there are no pictures of `{made.get('command')}`", where=path, hint=_HINT)
    return made


def draw(made: Mapping[str, Any], where: str) -> bytes:
    """The page of a result's document. Raises DataError where that is damaged."""
    try:
        return page(made).encode("utf-8")
    except (LookupError, TypeError, ValueError, AttributeError, OverflowError, ZeroDivisionError) as error:
        raise DataError(
            f"the result is damaged: {type(error).__name__} {error}", where=where, hint="make it again"
        ) from error
