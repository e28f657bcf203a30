"""How does a result become an HTML page? Drawn from its JSON, by `report` and at the end of a job."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from onnxtweak.errors import DataError, OutputError
from onnxtweak.input_files import read_text
from onnxtweak.report.model_card import model_card
from onnxtweak.report.page.document import drawn, is_of_a_patch, sides
from onnxtweak.report.page.frame import NO_IMPRINT, Imprint
from onnxtweak.report.schema import SCHEMA, document
from onnxtweak.results import Result
from onnxtweak.standings import Comparison

_SUFFIXES = {".html", ".htm", ".xhtml", ""}
_HINT = "give a result that a command wrote with -f json, such as `onnxtweak fit ... -f json > result.json`"


def require_page_name(path: str) -> None:
    """Raise OutputError where the name of a page promises another kind of file."""
    suffix = Path(path).suffix.lower()
    if suffix not in _SUFFIXES:
        raise OutputError(
            f"a report is an HTML page, not {suffix}",
            where=path,
            hint="name it *.html, which a browser prints as a PDF; `report -o CARD.md` writes Markdown",
        )


def page_of(command: str, result: Result | Comparison, path: str) -> bytes:
    """The page of what a command returned, as UTF-8. path : where it will be."""
    return draw([(path, json.loads(json.dumps(document(command, result))))])


def read_results(paths: Sequence[str]) -> list[tuple[str, dict[str, Any]]]:
    """The documents of results, each with its path. Raises DataError where they cannot be shown together."""
    found = [(path, _read(path)) for path in paths]
    if len(found) > 1:
        for path, made in found:
            if not sides([(path, made)]):
                raise DataError(
                    f"results of `{made['command']}` cannot stand beside others",
                    where=path,
                    hint="give it alone; side by side stand results that have a patch",
                )
    return found


def _read(path: str) -> dict[str, Any]:
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
    if not isinstance(result.get("command"), str):
        raise DataError("this is not a result of onnxtweak", where=path, hint=_HINT)
    return result


def draw(
    documents: Sequence[tuple[str, Mapping[str, Any]]], imprint: Imprint = NO_IMPRINT, *, card: bool = False
) -> bytes:
    """The page of some documents, each with its path, as UTF-8. Raises DataError where one is damaged.

    card : a section for a model card instead, as Markdown, of one document that has a patch.
    """
    if card:
        _require_card(documents)
    try:
        if card:
            return model_card(documents[0][1], imprint.title).encode("utf-8", errors="replace")
        return drawn(documents, imprint).encode("utf-8")
    except (LookupError, TypeError, ValueError, AttributeError, OverflowError, ZeroDivisionError) as error:
        where = documents[0][0] if len(documents) == 1 else ", ".join(path for path, _ in documents)
        raise DataError(
            f"the result is damaged: {type(error).__name__} {error}", where=where, hint="make it again"
        ) from error


def _require_card(documents: Sequence[tuple[str, Mapping[str, Any]]]) -> None:
    if len(documents) != 1 or not is_of_a_patch(documents[0][1]) or "verdict" not in documents[0][1]:
        what = "a model card is about one result that has a patch"
        raise DataError(what, where=documents[-1][0], hint=f"for a page, end -o in .html; {_HINT}")
