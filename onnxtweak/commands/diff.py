"""How do two models differ? Every difference is listed, with those that a tweak made marked as expected."""

from __future__ import annotations

from dataclasses import asdict

from onnxtweak.errors import ModelError
from onnxtweak.model.edit.diff import Difference, only_the_splice
from onnxtweak.model.edit.diff import diff as differences_of
from onnxtweak.model.file.model_file import ModelFile, ModelSource, read_model
from onnxtweak.model.file.tweak_metadata import TweakInside, tweaks_inside
from onnxtweak.results import ModelDiff
from onnxtweak.stages.checks import check_digests, check_undone
from onnxtweak.stages.open_job import model_ref
from onnxtweak.types import Check, Unchecked


def diff(*, base: ModelSource, tweaked: ModelSource) -> ModelDiff:
    """Every difference between two model files, and whether tweaks account for all of them.

    A tweak whose record is damaged accounts for nothing. Raises ModelError where a model cannot be read.
    """
    one, other = read_model(base), read_model(tweaked)
    found = [*differences_of(one.proto, other.proto), *_weights_that_differ(one, other)]
    before, checks = tweaks_inside(one.proto), list[Check]()
    try:
        every = tweaks_inside(other.proto)
    except ModelError as error:
        every, checks = before, [Check("record", False, error.what)]
    inside = every[len(before) :]
    checks.append(_check_only_the_splice(found, inside))
    digests: tuple[Check | Unchecked, ...] = ()
    if inside:
        undone, earlier = check_undone(other.data, inside)
        checks.append(_check_reverts(undone, earlier, one))
        digests = check_digests(other, inside, (other.data, *earlier) if undone.passed else ())
    return ModelDiff(
        base=model_ref(one),
        tweaked=model_ref(other),
        differences=tuple(asdict(difference) for difference in found),
        tweaks=tuple(tweak.facts for tweak in inside),
        checks=(*checks, *(check for check in digests if isinstance(check, Check))),
        unchecked=tuple(check for check in digests if isinstance(check, Unchecked)),
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


def _check_reverts(undone: Check, earlier: tuple[bytes, ...], base: ModelFile) -> Check:
    """Without its tweaks the file is the base. earlier : the files without them, as `undone` found them."""
    if not undone.passed:
        return undone
    same = earlier[-1] == base.data
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
