"""Does a saved tweak fit the model? Its classes, and made-up samples to check it with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from onnxtweak.engine.opened import Opened
from onnxtweak.engine.subject import Subject, made_up_samples, measured
from onnxtweak.errors import ModelError
from onnxtweak.head import Readout
from onnxtweak.model.file.tweak_metadata import recorded_axis
from onnxtweak.patch import Tweak
from onnxtweak.settings import EngineSettings, TapSettings
from onnxtweak.stages.companions import settle


def with_recorded_readout(opened: Opened, provenance: Mapping[str, Any]) -> Opened:
    """The model with its scores read as they were when a tweak was made.

    Raises ModelError where the record is damaged.
    """
    layout = provenance.get("logits_layout")
    if isinstance(layout, str) and "P" in layout and opened.logits.layout is None:
        opened = replace(opened, logits=replace(opened.logits, layout=layout))
    opened = replace(opened, several=bool(provenance.get("several_labels")))
    try:
        if opened.detector is not None and "detector" in provenance:
            opened = replace(opened, detector=opened.detector.recorded(provenance["detector"]))
        if "readout" not in provenance:
            return opened
        return replace(opened, readout=Readout.read(provenance["readout"]))
    except (LookupError, TypeError, ValueError) as error:
        raise ModelError(
            f"the tweak's record of how the model's answer is read is damaged: {error}",
            where=opened.model.path,
            hint="make the tweak again",
        ) from error


def recorded_taps(logits: str, provenance: Mapping[str, Any]) -> TapSettings:
    """Where the scores are, and at positions which axis counts the classes, as when a tweak was made."""
    return TapSettings(logits=logits, class_axis=recorded_axis(provenance))


def open_subject(
    opened: Opened, tweaks: Sequence[Tweak], engine: EngineSettings
) -> tuple[Subject, dict[str, np.ndarray]]:
    """The model that the tweaks are for, and made-up samples in the shapes that the first was made with.

    Raises ModelError where the input has no known size, or a tweak another number of classes than the model.
    """
    opened = opened.recorded(tweaks[0].provenance)
    try:
        feeds = made_up_samples(opened, tweaks[0].provenance.get("inputs", {}))
    except ModelError as error:
        raise ModelError(
            "neither model nor tweak gives the size of the input, so the result cannot be checked",
            where=opened.model.path,
            hint="make the tweak again with this version of onnxtweak",
        ) from error
    opened = with_recorded_readout(opened, tweaks[0].provenance)
    subject = settle(measured(opened, (), feeds, engine)[0], feeds, engine).subject
    for tweak in tweaks:
        if tweak.classes != subject.classes:
            raise ModelError(
                f"the tweak has {tweak.classes:,} classes, the model {subject.classes:,}",
                where=subject.logits,
                hint="the tweak file was changed after it was saved; make it again",
            )
    return subject, feeds
