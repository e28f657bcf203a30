"""How can one loaded model serve many tweaks, another in each call?

A slot is a place for synapses on chosen taps, empty at first: its indices and weights are initializers that
are inputs too, so that a caller may feed them. What fills it for one call is a file of ONNX Runtime's own
kind, an adapter (`*.onnx_adapter`). Its parameters bear the base's digest in their names: the adapter of
another base names inputs that this model does not have, and the runtime refuses it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from onnx import ModelProto

from onnxtweak.errors import MachineError, ModelError
from onnxtweak.model.edit.patch_nodes import build_slot
from onnxtweak.model.edit.splice import grafted, prepare_graft
from onnxtweak.model.file.model_file import ModelFile
from onnxtweak.model.file.tweak_metadata import tweaks_inside
from onnxtweak.patch import Tweak
from onnxtweak.types import Tap

try:
    import onnxruntime as ort
except ImportError:  # only exporting an adapter needs it
    ort = None

_OLDEST_IR = 4  # before, every initializer is an input, and the runtime takes all of them for constants
_DIGEST = 12  # hex digits of the base's sha256 in the parameters' names
_DTYPES = ("float32", "float16", "float64")


@dataclass(frozen=True)
class Slot:
    """The slot inside a model.

    base_sha256 : of the base it is in. taps : what it reads. classes : C. names : what the names of its
    parameters start with. bias : whether it takes one. dtype, layout : of the logits.
    """

    base_sha256: str
    taps: tuple[Tap, ...]
    classes: int
    names: str
    bias: bool
    dtype: str
    layout: str


def with_slot(
    model: ModelFile,
    taps: Sequence[Tap],
    *,
    logits: str,
    classes: int,
    bias: bool = False,
    logits_layout: str = "NC",
    logits_dtype: str = "float32",
) -> bytes:
    """The bytes of `model` with an empty slot on `taps`.

    bias : also a place for a constant. Raises ModelError where there cannot be one.
    """
    if model.proto.ir_version < _OLDEST_IR:
        raise ModelError(
            f"the model has IR version {model.proto.ir_version}; in it no initializer can be fed",
            where=model.path,
            hint="a slot needs IR version 4 or newer; leave --slot out, or export the model again",
        )
    if logits_dtype not in _DTYPES:
        raise ModelError(
            f"adapters cannot hold {logits_dtype}, the type of the model's logits",
            where=model.path,
            hint="leave --slot out",
        )
    graft = prepare_graft(model, logits, [tap.name for tap in taps])
    names = f"{graft.prefix}{model.base_sha256[:_DIGEST]}/"
    piece = build_slot(
        taps,
        classes=classes,
        bias=bias,
        opset=graft.index.opset,
        logits_in=f"{graft.prefix}logits",
        logits_out=logits,
        logits_dtype=logits_dtype,
        logits_layout=logits_layout,
        prefix=graft.prefix,
        names=names,
    )
    patch = {
        "type": "slot",
        "taps": [{**asdict(tap), "shape": list(tap.shape)} for tap in taps],
        "names": names,
        "bias": bias,
        "dtype": logits_dtype,
        "layout": logits_layout,
    }
    fields = {"kind": "slot", "classes": int(classes), "scale": 1.0, "patch": patch, "provenance": {}}
    return grafted(graft, piece, fields)


def slot_inside(proto: ModelProto) -> Slot | None:
    """The last slot inside a model. Raises ModelError where its record is damaged."""
    for tweak in reversed(tweaks_inside(proto)):
        if tweak.kind == "slot":
            return _slot(tweak.base_sha256, tweak.classes, tweak.patch)
    return None


def _slot(base_sha256: str, classes: int, patch: Mapping[str, Any]) -> Slot:
    try:
        taps = tuple(Tap(**{**tap, "shape": tuple(tap["shape"])}) for tap in patch["taps"])
        texts = [str(patch[name]) for name in ("names", "dtype", "layout")]
        return Slot(base_sha256, taps, classes, texts[0], bool(patch["bias"]), texts[1], texts[2])
    except (LookupError, TypeError) as error:
        raise ModelError("the model's record of its slot is damaged", hint="make the slot again") from error


def fill(slot: Slot, tweak: Tweak, scale: float = 1.0) -> dict[str, np.ndarray]:
    """What to feed, by parameter, so that the slot does what the tweak times `scale` does.

    Raises ModelError when the tweak belongs to another base, or does not fit into the slot.
    """
    if tweak.base_sha256 != slot.base_sha256:
        raise ModelError(
            f"the tweak belongs to another model: made for sha256 {tweak.base_sha256[:12]}, "
            f"the slot is in {slot.base_sha256[:12]}",
            hint="make a slot in the model that the tweak was made for",
        )
    patch = tweak.patch.scaled(scale)
    if patch.as_linear(tweak.classes) is None:
        raise ModelError(
            "active neurons do not fit into a slot: it holds synapses and linear patches",
            where=tweak.kind,
            hint="leave --slot out",
        )
    if patch.output_bias is not None and np.any(patch.output_bias) and not slot.bias:
        raise ModelError(
            "the tweak has a bias, and the slot has no place for one",
            where=tweak.kind,
            hint="make the slot again with this tweak among those given",
        )
    classes = tweak.classes
    if "C" not in slot.layout:
        patch, classes = patch.for_single_logit(), 1
    kind = np.dtype(slot.dtype)
    linear = patch.as_linear(classes)
    weight = np.asarray(linear.weight, np.float64)
    place = [_place(slot, tap) for tap in tweak.neurons.taps]
    of = np.array([place[number] for number in tweak.neurons.tap_of], np.int64)
    order = np.argsort(of, kind="stable")
    index = np.asarray(tweak.neurons.index, np.int64)
    arrays = {f"{slot.names}index{number}": index[of == number] for number in range(len(slot.taps))}
    arrays[f"{slot.names}weight"] = weight[order].reshape(-1, classes).astype(kind)
    if slot.bias:
        arrays[f"{slot.names}bias"] = np.asarray(linear.bias, np.float64).astype(kind)
    if not all(np.isfinite(array).all() for array in arrays.values()):
        raise ModelError(f"a weight does not fit into {slot.dtype}", hint="use a smaller --scale")
    return {name: np.ascontiguousarray(array) for name, array in arrays.items()}


def _place(slot: Slot, tap: Tap) -> int:
    if tap not in slot.taps:
        raise ModelError(
            "the slot does not read this tensor as the tweak does",
            where=tap.name,
            hint="make the slot again with this tweak among those given",
        )
    return slot.taps.index(tap)


def adapter_bytes(arrays: Mapping[str, np.ndarray]) -> bytes:
    """An adapter file with these parameters; the same parameters give the same bytes.

    Raises MachineError without ONNX Runtime.
    """
    if ort is None:
        raise MachineError("ONNX Runtime is not installed", hint="pip install 'onnxtweak[cpu]'")
    adapter = ort.AdapterFormat()
    adapter.set_adapter_version(1)
    adapter.set_model_version(1)
    adapter.set_parameters(
        {name: ort.OrtValue.ortvalue_from_numpy(array) for name, array in sorted(arrays.items())}
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "adapter"
        adapter.export_adapter(str(path))
        return path.read_bytes()
