"""How do two models differ? Every difference is listed, with those that a tweak made marked as expected."""

from __future__ import annotations

from dataclasses import asdict

from onnxtweak.errors import ModelError, VerificationError
from onnxtweak.model.edit.diff import Difference, only_the_splice
from onnxtweak.model.edit.diff import diff as differences_of
from onnxtweak.model.edit.revert import revert as reverted
from onnxtweak.model.file.model_file import ModelFile, read_model
from onnxtweak.model.file.tweak_metadata import TweakInside, tweaks_inside
from onnxtweak.results import ModelDiff
from onnxtweak.stages.open_job import model_ref
from onnxtweak.types import Check


def diff(*, base: str, tweaked: str) -> ModelDiff:
    """Every difference between two model files, and whether tweaks account for all of them.

    Raises ModelError where one of them cannot be read.
    """
    one, other = read_model(base), read_model(tweaked)
    found = [*differences_of(one.proto, other.proto), *_weights_that_differ(one, other)]
    inside = tweaks_inside(other.proto)[len(tweaks_inside(one.proto)) :]
    checks = [_check_only_the_splice(found, inside)]
    if inside:
        checks.append(_check_reverts(one, other, len(inside)))
    return ModelDiff(
        base=model_ref(one),
        tweaked=model_ref(other),
        differences=tuple(asdict(difference) for difference in found),
        tweaks=tuple(tweak.facts for tweak in inside),
        checks=tuple(checks),
    )


def _check_only_the_splice(found: list[Difference], inside: tuple[TweakInside, ...]) -> Check:
    if not only_the_splice(found):
        unexpected = sum(not difference.expected for difference in found)
        count = "one difference" if unexpected == 1 else f"{unexpected} differences"
        return Check("unharmed", False, f"{count} that no tweak accounts for")
    if not found:
        return Check("unharmed", True, "no differences")
    tweaks = "the tweak" if len(inside) == 1 else f"{len(inside)} tweaks"
    return Check("unharmed", True, f"{len(found)} differences, all made by {tweaks}")


def _check_reverts(base: ModelFile, tweaked: ModelFile, steps: int) -> Check:
    try:
        same = reverted(tweaked.data, steps) == base.data
    except (ModelError, VerificationError) as error:
        return Check("revert", False, error.what)
    detail = "is the base, byte for byte" if same else "is not the base"
    return Check("revert", same, f"without its tweaks the file {detail}")


def _weights_that_differ(one: ModelFile, other: ModelFile) -> list[Difference]:
    """External files of the same location with different bytes; new or missing ones show in the tensors."""
    found = []
    others = {file.location: file for file in other.external}
    for old in one.external:
        new = others.get(old.location)
        if new is not None and not new.path.samefile(old.path) and new.sha256 != old.sha256:
            detail = f"sha256 {old.sha256[:12]} -> {new.sha256[:12]}"
            found.append(Difference("changed", f"external file {old.location}", detail, False))
    return found
