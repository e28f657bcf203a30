"""How does a result become an HTML page? Drawn from its JSON, by `report` and at the end of a job."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from onnxtweak.errors import DataError
from onnxtweak.input_files import read_text
from onnxtweak.report.page.page import page
from onnxtweak.report.schema import SCHEMA, document
from onnxtweak.results import Result

_HINT = "give a result that `onnxtweak join -f json` or `onnxtweak run` wrote"


def page_of(result: Result, path: str) -> bytes:
    """The page of a result, as UTF-8. path : where it will be."""
    return draw(json.loads(json.dumps(document(result.command, result))), path)


def read_result(path: str) -> dict[str, Any]:
    """The document of a result. Raises DataError where the file holds none."""
    try:
        result = json.loads(read_text(path, DataError))
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}", where=path, hint=_HINT) from error
    except (ValueError, RecursionError) as error:
        raise DataError("this is not JSON", where=path, hint=_HINT) from error
    if not isinstance(result, dict) or "schema" not in result:
        raise DataError("this is not a result of onnxtweak", where=path, hint=_HINT)
    if result["schema"] != SCHEMA:
        hint = "make the result again with this version of onnxtweak"
        raise DataError(f"unknown schema {result['schema']!r}", where=path, hint=hint)
    if not {"before", "after", "bias_control", "checks"} <= result.keys():
        raise DataError(f"results of `{result.get('command')}` have no page", where=path, hint=_HINT)
    return result


def draw(result: Mapping[str, Any], where: str) -> bytes:
    """The page of a result's document, as UTF-8. Raises DataError where that is damaged."""
    try:
        return page(result).encode("utf-8")
    except (LookupError, TypeError, ValueError, AttributeError, OverflowError, ZeroDivisionError) as error:
        raise DataError(
            f"the result is damaged: {type(error).__name__} {error}", where=where, hint="make it again"
        ) from error
