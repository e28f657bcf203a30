"""Take a tweak off again, and say in what two models differ: `revert` and `diff`."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from onnxtweak.errors import ModelError, VerificationError
from onnxtweak.model.difference import Difference, only_the_splice
from onnxtweak.model.difference import diff as differences_of
from onnxtweak.model.external import hash_file
from onnxtweak.model.file import ModelFile, check_model_output, read_model, write_model
from onnxtweak.model.undo import TweakInside, tweaks_inside
from onnxtweak.model.undo import revert as reverted
from onnxtweak.outcomes import Compared, Reverted
from onnxtweak.settings import OutputSettings
from onnxtweak.types import Check, FileRef


def revert(*, tweaked: str, output: OutputSettings, steps: int | None = 1) -> Reverted:
    """Write the model as it was before its last tweak, its last `steps` tweaks, or all of them (None).

    Raises ModelError when there are not so many tweaks inside, VerificationError when the result would not
    be, byte for byte, the file that the tweak was put into; nothing is written then.
    """
    begin = time.perf_counter()
    model = read_model(tweaked)
    inside = tweaks_inside(model.proto)
    check_model_output(model, output.output, force=output.force)
    data = reverted(model.data, "all" if steps is None else steps)
    taken = inside[::-1][:steps]
    weights = _check_weights(model.holding(data), taken[-1])
    if not weights.passed:
        hint = "put the weights of the base beside the file"
        raise VerificationError(weights.detail, where=model.path, hint=hint)
    created = write_model(model, output.output, [data], force=output.force)
    written = hash_file(Path(output.output))
    if written != taken[-1].file_sha256:
        for file in created:
            file.unlink(missing_ok=True)
        raise VerificationError(
            "the file on disk is not what was written", where=output.output, hint="check the disk; try again"
        )
    detail = f"the file on disk has the sha256 that was recorded, {written[:12]}…"
    return Reverted(
        model=FileRef(str(model.path), model.sha256),
        output=FileRef(str(output.output), written),
        tweaks=tuple(map(about, taken)),
        checks=(Check("revert", True, detail), weights),
        seconds={"all": time.perf_counter() - begin},
    )


def _check_weights(base: ModelFile, first: TweakInside) -> Check:
    """The files that hold weights are those that the tweak was made for: reverting does not touch them."""
    if not base.external:
        return Check("weights", True, "the model has no external weights")
    if base.base_sha256 == first.base_sha256:
        count = len(base.external)
        return Check("weights", True, f"the external weights are those of the base (files: {count})")
    return Check("weights", False, "the external weights are not those that the tweak was made for")


def diff(*, base: str, tweaked: str) -> Compared:
    """Every difference between two model files, and whether tweaks account for all of them.

    Raises ModelError when one of them cannot be read.
    """
    one, other = read_model(base), read_model(tweaked)
    found = [*differences_of(one.proto, other.proto), *_weights_that_differ(one, other)]
    inside = tweaks_inside(other.proto)[len(tweaks_inside(one.proto)) :]
    checks = [_check_only_the_splice(found, inside)]
    if inside:
        checks.append(_check_reverts(one, other, len(inside)))
    return Compared(
        base=FileRef(str(one.path), one.sha256),
        tweaked=FileRef(str(other.path), other.sha256),
        differences=tuple(asdict(difference) for difference in found),
        tweaks=tuple(map(about, inside)),
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


def about(tweak: TweakInside) -> dict[str, Any]:
    """A tweak inside a file, for JSON; without the record that takes it off."""
    facts = asdict(tweak)
    del facts["undo"]
    return facts
