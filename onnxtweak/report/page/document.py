"""Which page do results get, whatever command they are of? One of its own, or one for several of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

from onnxtweak.report.page.frame import NO_IMPRINT, Imprint, framed
from onnxtweak.report.page.other import comparison, evaluation, key_by_key
from onnxtweak.report.page.page import page
from onnxtweak.report.page.several import Side, side_by_side

# What the document of a patch has, of whichever command.
_OF_A_PATCH = {"before", "after", "bias_control", "checks"}


def is_of_a_patch(made: Mapping[str, Any]) -> bool:
    """Whether a document is what a command that makes a patch returns."""
    return made.keys() >= _OF_A_PATCH


def sides(documents: Sequence[tuple[str, Mapping[str, Any]]]) -> list[Side]:
    """The patches in some documents: those of a run by their names, others by the names of their files.

    documents : path and document of each.
    """
    found = []
    for path, made in documents:
        name = PurePath(path).stem
        if is_of_a_patch(made):
            found.append(Side(name, made))
        elif made["command"] == "run" and "results" in made:
            prefix = f"{name}: " if len(documents) > 1 else ""
            found += [Side(f"{prefix}{tweak}", one) for tweak, one in made["results"].items()]
    return found


def drawn(documents: Sequence[tuple[str, Mapping[str, Any]]], imprint: Imprint = NO_IMPRINT) -> str:
    """The page of one document, or of several that have patches, as HTML.

    Raises LookupError, TypeError, ValueError or AttributeError if one is damaged.
    """
    (path, made), found = documents[0], sides(documents)
    if len(found) == 1 and len(documents) == 1:
        return page(found[0].made, imprint)
    if found:
        return framed(f"{len(found)} results", side_by_side(found), imprint)
    own = {"evaluate": evaluation, "compare": comparison}.get(made["command"], key_by_key)
    if own is not key_by_key and not {"metrics", "standings"} & made.keys():  # what would be done
        own = key_by_key
    return framed(f"{PurePath(path).name}: {made['command']}", own(made), imprint)
