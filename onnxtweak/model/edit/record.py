"""Which tweak is recorded in a tweaked model, and what is the model with the tweak's weights at zero?"""

from __future__ import annotations

import numpy as np
from onnx import ModelProto

from onnxtweak.model.file.tweak_metadata import TweakInside, tweaks_inside
from onnxtweak.patch import Synapses, Tweak
from onnxtweak.types import Neurons, Tap

# The initializers by which a piece multiplies or shifts its values last.
_LAST_WEIGHTS = ("weight", "bias", "w2", "b2")


def recorded_tweak(inside: TweakInside) -> Tweak | None:
    """The tweak, rebuilt from its record; None where the record is incomplete.

    Of dense patches only the shapes are recorded.
    """
    patch = inside.patch
    if patch.get("type") != "synapses":
        return None
    try:
        taps = tuple(Tap(**{**tap, "shape": tuple(map(int, tap["shape"]))}) for tap in patch["taps"])
        index = np.array(patch["index"], np.int64)
        synapses = Synapses(
            target=np.array(patch["target"], np.int64),
            weight=np.array(patch["weight"], np.float64),
            threshold=np.array([np.inf if t is None else t for t in patch["threshold"]], np.float64),
            count=np.array(patch["count"], np.int64),
        )
        tap_of = np.array(patch["tap"], np.int32)
        same_length = all(len(part) == len(index) for part in (tap_of, *vars(synapses).values()))
        inside_taps = not len(index) or 0 <= tap_of.min() <= tap_of.max() < len(taps)
    except (LookupError, TypeError, ValueError, OverflowError):
        return None
    if not same_length or not inside_taps:
        return None
    return Tweak(
        kind=inside.kind,
        base_sha256=inside.base_sha256,
        logits=inside.logits,
        classes=inside.classes,
        neurons=Neurons(taps, tap_of, index),
        patch=synapses,
        provenance=inside.provenance,
    )


def silenced(proto: ModelProto) -> ModelProto:
    """A copy of the model in which every tweak adds zeros."""
    copy = ModelProto()
    copy.CopyFrom(proto)
    prefixes = tuple(tweak.prefix for tweak in tweaks_inside(proto))
    for tensor in copy.graph.initializer:
        # At positions there is an array for each resolution, in a folder of its own.
        if tensor.name.startswith(prefixes) and tensor.name.rpartition("/")[2] in _LAST_WEIGHTS:
            tensor.raw_data = bytes(len(tensor.raw_data))
    return copy
