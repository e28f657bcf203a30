"""How is a tweak removed? `revert` gives back the file that it was put into, byte for byte."""

from __future__ import annotations

import time

from onnxtweak.bounded import require_number
from onnxtweak.errors import VerificationError
from onnxtweak.model.edit.revert import revert as reverted
from onnxtweak.model.file.external_data import hash_file
from onnxtweak.model.file.model_file import ModelFile, ModelSource, read_model
from onnxtweak.model.file.output_file import Delivery, also_written
from onnxtweak.model.file.output_paths import check_model_output
from onnxtweak.model.file.tweak_metadata import TweakInside, tweaks_inside
from onnxtweak.results import Reverted
from onnxtweak.settings import COUNT, OutputSettings
from onnxtweak.stages.open_job import model_ref
from onnxtweak.types import Check, FileRef


def revert(*, tweaked: ModelSource, output: OutputSettings, steps: int | None = 1) -> Reverted:
    """Write the model as it was before its last tweak, its last `steps` tweaks, or all of them (None).

    Raises ModelError where fewer tweaks are inside, VerificationError where the result would not be, byte for
    byte, the file that the tweak was put into; nothing is written then.
    """
    if steps is not None:
        require_number(steps, COUNT, "--steps", whole=True)
    begin = time.perf_counter()
    model = read_model(tweaked)
    inside = tweaks_inside(model.proto)
    check_model_output(model, output.path, force=output.force)
    data = reverted(model.data, "all" if steps is None else steps)
    removed = inside[::-1][:steps]
    weights = _check_weights(model.holding(data), removed[-1])
    if not weights.passed:
        hint = "put the external weights of the base beside the file"
        raise VerificationError(weights.detail, where=model.path, hint=hint)
    with Delivery(force=output.force) as delivery:
        place, copies = delivery.add_model(model, output.path, [data])
        written = hash_file(place)
        if written != removed[-1].file_sha256:
            raise VerificationError(
                "the file on disk differs from what was written",
                where=output.path,
                hint="check the disk; try again",
            )
        delivery.commit()
    detail = f"the file on disk has the recorded sha256, {written[:12]}…{also_written(copies)}"
    return Reverted(
        model=model_ref(model),
        output=FileRef(str(output.path), written),
        tweaks=tuple(tweak.facts for tweak in removed),
        checks=(Check("revert", True, detail), weights),
        seconds={"all": time.perf_counter() - begin},
    )


def _check_weights(base: ModelFile, first: TweakInside) -> Check:
    """The external weights, which are not reverted, are those that the tweak was made for."""
    if not base.external:
        return Check("weights", True, "the model has no external weights")
    if base.base_sha256 == first.base_sha256:
        count = len(base.external)
        return Check("weights", True, f"the external weights are those of the base (files: {count})")
    return Check("weights", False, "the external weights are not those that the tweak was made for")
