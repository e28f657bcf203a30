"""What is a tweak: a patch, the neurons that it reads, and the base that it belongs to? And forms by name."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from onnxtweak.patch.by_place import ByPlace
from onnxtweak.patch.form import Linear, Mlp, Patch, Synapses
from onnxtweak.types import Neurons


@dataclass(frozen=True)
class Tweak:
    """Everything that is needed to write a patch into its base model, and to explain it afterwards.

    kind : the method that made it: "join", "bias", "linear", "retrain", "augment", "fit".
    base_sha256 : the base file the tweak belongs to (see `onnxtweak.model.file.model_file`).
    logits : name of the base's logits tensor.
    classes : C.
    neurons, patch : what is added; scale 0 is the identity.
    provenance : JSON-serialisable strings and numbers (data digest, settings); no timestamps.
    """

    kind: str
    base_sha256: str
    logits: str
    classes: int
    neurons: Neurons
    patch: Patch
    provenance: dict[str, Any] = field(default_factory=dict)


# The forms by their names in files.
FORMS: dict[str, type[Patch]] = {form.__name__.lower(): form for form in (Synapses, Linear, Mlp, ByPlace)}


def form_of(patch: Patch) -> str:
    """The name of the patch's form in files."""
    return type(patch).__name__.lower()


def no_patch() -> Synapses:
    """The patch that changes nothing: no synapses at all."""
    floats, integers = np.empty(0), np.empty(0, np.int64)
    return Synapses(target=integers, weight=floats, threshold=floats, count=integers)


def bias_patch(bias: np.ndarray) -> Linear:
    """The patch that adds a bias (C,) and reads no neuron."""
    return Linear(np.zeros((0, len(bias))), bias)
