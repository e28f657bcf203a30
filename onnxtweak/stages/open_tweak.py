"""A saved tweak and the model it was made for: do they fit, and which samples prove it?"""

from __future__ import annotations

import numpy as np

from onnxtweak.engine.subject import Opened, Subject, made_up_samples
from onnxtweak.errors import ModelError
from onnxtweak.patch import Tweak


def require_classes(subject: Subject, tweak: Tweak) -> None:
    """Raise ModelError where the tweak has another number of classes than the model."""
    if tweak.classes != subject.classes:
        raise ModelError(
            f"the tweak has {tweak.classes:,} classes, the model {subject.classes:,}",
            where=subject.logits,
            hint="the tweak file was changed after it was saved; save it again",
        )


def made_up_for(opened: Opened, tweak: Tweak) -> dict[str, np.ndarray]:
    """Made-up samples in the shapes that the tweak was made with, where the model leaves its sizes open."""
    try:
        return made_up_samples(opened, tweak.provenance.get("inputs", {}))
    except ModelError as error:
        raise ModelError(
            "neither model nor tweak says how large the input is, so the result cannot be proven",
            where=opened.model.path,
            hint="make the tweak again with this version",
        ) from error
