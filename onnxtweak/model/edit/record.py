"""Which tweak is recorded in a tweaked model? And the model with the tweak's weights at zero, or rounded."""

from __future__ import annotations

import numpy as np
from onnx import ModelProto, TensorProto, numpy_helper

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


def of_eight_bits(proto: ModelProto) -> ModelProto:
    """A copy of the model in which every tweak's weights have 8 bits, with one step for each array.

    As quantisers make them: symmetric, the largest of an array at 127 steps. Biases stay as they are, and so
    does what is not float32.
    """
    copy = ModelProto()
    copy.CopyFrom(proto)
    prefixes = tuple(tweak.prefix for tweak in tweaks_inside(proto))
    for tensor in copy.graph.initializer:
        weights = tensor.data_type == TensorProto.FLOAT and len(tensor.dims) > 1
        if not weights or not prefixes or not tensor.name.startswith(prefixes):
            continue
        values = numpy_helper.to_array(tensor)
        step = np.abs(values).max(initial=0.0) / 127
        if step > 0:
            tensor.raw_data = (np.round(values / step) * step).astype(values.dtype).tobytes()
    return copy


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
