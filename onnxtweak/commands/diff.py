"""`diff`: every difference between two models, and which of them a tweak made."""

from __future__ import annotations

from dataclasses import asdict

from onnxtweak.errors import ModelError, VerificationError
from onnxtweak.model.edit.diff import Difference, only_the_splice
from onnxtweak.model.edit.diff import diff as differences_of
from onnxtweak.model.edit.revert import revert as reverted
from onnxtweak.model.file.model_file import ModelFile, read_model
from onnxtweak.model.file.tweak_metadata import TweakInside, tweaks_inside
from onnxtweak.results import ModelDiff
from onnxtweak.types import Check, FileRef


def diff(*, base: str, tweaked: str) -> ModelDiff:
    """Every difference between two model files, and whether tweaks account for all of them.

    Raises ModelError when one of them cannot be read.
    """
    one, other = read_model(base), read_model(tweaked)
    found = [*differences_of(one.proto, other.proto), *_weights_that_differ(one, other)]
    inside = tweaks_inside(other.proto)[len(tweaks_inside(one.proto)) :]
    checks = [_check_only_the_splice(found, inside)]
    if inside:
        checks.append(_check_reverts(one, other, len(inside)))
    return ModelDiff(
        base=FileRef(str(one.path), one.sha256),
        tweaked=FileRef(str(other.path), other.sha256),
        differences=tuple(asdict(difference) for difference in found),
        tweaks=tuple(tweak.facts for tweak in inside),
        checks=tuple(checks),
    )


def _check_only_the_splice(found: list[Difference], inside: tuple[TweakInside, ...]) -> Check:
    strange = sum(not difference.expected for difference in found)
    if not only_the_splice(found):
        count = "one difference" if strange == 1 else f"{strange} differences"
        return Check("unharmed", False, f"{count} that no tweak accounts for")
    if not found:
        return Check("unharmed", True, "no difference at all")
    by = "the tweak" if len(inside) == 1 else f"{len(inside)} tweaks"
    return Check("unharmed", True, f"{len(found)} differences, all of them made by {by}")


def _check_reverts(base: ModelFile, tweaked: ModelFile, steps: int) -> Check:
    try:
        same = reverted(tweaked.data, steps) == base.data
    except (ModelError, VerificationError) as error:
        return Check("revert", False, error.what)
    words = "is the base, byte for byte" if same else "is another file than the base"
    return Check("revert", same, f"without its tweaks the file {words}")


def _weights_that_differ(one: ModelFile, other: ModelFile) -> list[Difference]:
    """External files of one location that hold different bytes; new or missing ones show in the tensors."""
    found = []
    theirs = {file.location: file for file in other.external}
    for mine in one.external:
        file = theirs.get(mine.location)
        if file is not None and not file.path.samefile(mine.path) and file.sha256 != mine.sha256:
            detail = f"sha256 {mine.sha256[:12]} -> {file.sha256[:12]}"
            found.append(Difference("changed", f"external file {mine.location}", detail, False))
    return found
