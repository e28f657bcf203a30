"""Does a saved tweak fit the model? Its classes, and made-up samples to check it with."""

from __future__ import annotations

import numpy as np

from onnxtweak.engine.subject import Opened, Subject, made_up_samples
from onnxtweak.errors import ModelError
from onnxtweak.patch import Tweak


def require_classes(subject: Subject, tweak: Tweak) -> None:
    """Raise ModelError where tweak and model have different numbers of classes."""
    if tweak.classes != subject.classes:
        raise ModelError(
            f"the tweak has {tweak.classes:,} classes, the model {subject.classes:,}",
            where=subject.logits,
            hint="the tweak file was changed after it was saved; make it again",
        )


def made_up_for(opened: Opened, tweak: Tweak) -> dict[str, np.ndarray]:
    """Made-up samples, in the shapes that the tweak was made with where the model leaves its sizes open."""
    try:
        return made_up_samples(opened, tweak.provenance.get("inputs", {}))
    except ModelError as error:
        raise ModelError(
            "neither model nor tweak gives the size of the input, so the result cannot be checked",
            where=opened.model.path,
            hint="make the tweak again with this version of onnxtweak",
        ) from error
