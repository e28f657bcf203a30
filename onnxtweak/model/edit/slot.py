"""How can one loaded model serve many tweaks, another in each call? Through a slot, filled by adapters.

A slot takes synapses on chosen taps, a bias, or both, and is empty at first: its indices and weights are
initializers that are also inputs, so that a caller may feed them. For one call it is filled by a file in ONNX
Runtime's adapter format (`*.onnx_adapter`). The parameters have the base's digest in their names: the adapter
of another base names inputs that this model does not have, and the runtime rejects it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from onnx import ModelProto

from onnxtweak.errors import MachineError, ModelError, OutputError
from onnxtweak.head import Readout
from onnxtweak.model.edit.graft import prepare_graft
from onnxtweak.model.edit.patch_nodes import build_slot, on_columns
from onnxtweak.model.edit.splice import insert_piece
from onnxtweak.model.file.model_file import ModelFile
from onnxtweak.model.file.tweak_metadata import tweaks_inside
from onnxtweak.model.logits_format import LogitsFormat
from onnxtweak.patch import ByPlace, Tweak
from onnxtweak.temporary_files import temporary_folder
from onnxtweak.types import Tap

try:
    import onnxruntime as ort
except ImportError:  # needed only to export an adapter
    ort = None

_OLDEST_IR = 4  # before, every initializer is an input, and the runtime treats them all as constants
_DIGEST = 12  # hex digits of the base's sha256 in the parameters' names
_DTYPES = ("float32", "float16", "float64")


@dataclass(frozen=True)
class Slot:
    """The slot inside a model.

    base_sha256 : of the base. taps : what the slot reads. classes : C. names : what the names of its
    parameters start with. bias : whether it takes a bias. logits_format : of the logits.
    """

    base_sha256: str
    taps: tuple[Tap, ...]
    classes: int
    names: str
    bias: bool
    logits_format: LogitsFormat


def with_slot(
    model: ModelFile,
    taps: Sequence[Tap],
    *,
    logits: str,
    classes: int,
    logits_format: LogitsFormat = LogitsFormat(),
    bias: bool = False,
    provenance: Mapping[str, Any] | None = None,
) -> bytes:
    """The bytes of `model` with an empty slot on `taps`.

    bias : whether the slot also takes a bias; without taps it must. provenance : for the record. Raises
    ModelError where the model cannot have a slot.
    """
    if model.proto.ir_version < _OLDEST_IR:
        raise ModelError(
            f"the model has IR version {model.proto.ir_version}, in which initializers cannot be fed",
            where=model.path,
            hint="omit --slot, or export the model again with IR version 4 or newer",
        )
    if logits_format.dtype not in _DTYPES:
        raise ModelError(
            f"adapters do not support {logits_format.dtype}, the type of the model's logits",
            where=model.path,
            hint="omit --slot",
        )
    graft = prepare_graft(model, logits, [tap.name for tap in taps])
    names = f"{graft.prefix}{model.base_sha256[:_DIGEST]}/"
    piece = build_slot(taps, graft.site(logits_format), classes=classes, bias=bias, names=names)
    patch = {
        "type": "slot",
        "taps": [{**asdict(tap), "shape": list(tap.shape)} for tap in taps],
        "names": names,
        "bias": bias,
        "dtype": logits_format.dtype,
        "layout": logits_format.layout,
        **({} if logits_format.readout is None else {"readout": logits_format.readout.record}),
    }
    fields = {"kind": "slot", "classes": int(classes), "scale": 1.0, "patch": patch}
    fields["provenance"] = dict(provenance or {})
    return insert_piece(graft, piece, fields)


def slot_inside(proto: ModelProto) -> Slot | None:
    """The last slot inside a model. Raises ModelError where its record is damaged."""
    for tweak in reversed(tweaks_inside(proto)):
        if tweak.kind == "slot":
            return _slot(tweak.base_sha256, tweak.classes, tweak.patch)
    return None


def _slot(base_sha256: str, classes: int, patch: Mapping[str, Any]) -> Slot:
    try:
        taps = tuple(Tap(**{**tap, "shape": tuple(tap["shape"])}) for tap in patch["taps"])
        readout = Readout.read(patch["readout"]) if "readout" in patch else None
        logits_format = LogitsFormat(str(patch["layout"]), str(patch["dtype"]), readout)
        return Slot(base_sha256, taps, classes, str(patch["names"]), bool(patch["bias"]), logits_format)
    except (LookupError, TypeError, ValueError) as error:
        raise ModelError("the model's record of its slot is damaged", hint="make the slot again") from error


def fill(slot: Slot, tweak: Tweak, scale: float = 1.0) -> dict[str, np.ndarray]:
    """The arrays to feed, by parameter, for the slot to do what the tweak times `scale` does.

    Raises ModelError when the tweak belongs to another base, or does not fit into the slot.
    """
    if tweak.base_sha256 != slot.base_sha256:
        raise ModelError(
            f"the tweak belongs to another model: made for sha256 {tweak.base_sha256[:12]}, "
            f"the slot is in {slot.base_sha256[:12]}",
            hint="make a slot in the model that the tweak was made for",
        )
    bias = tweak.patch.output_bias
    patch, classes = on_columns(tweak.patch.scaled(scale), tweak.classes, slot.logits_format)
    linear = patch.as_linear(classes)
    if linear is None:
        own = isinstance(patch, ByPlace)
        raise ModelError(
            f"{'weights of each place do' if own else 'a hidden layer does'} not fit into a slot, which "
            "takes synapses, linear weights and biases only",
            where=tweak.kind,
            hint="omit --slot; of `fit`, --hidden 0 makes a patch without one"
            + (", and --taps activations one that all places share" if own else ""),
        )
    if bias is not None and np.any(bias) and not slot.bias:
        raise ModelError(
            "the tweak has a bias, but the slot takes none",
            where=tweak.kind,
            hint="make the slot again and include this tweak",
        )
    dtype = np.dtype(slot.logits_format.dtype)
    weight = np.asarray(linear.weight, np.float64)
    positions = [_position(slot, tap) for tap in tweak.neurons.taps]
    slot_tap_of = np.array([positions[number] for number in tweak.neurons.tap_of], np.int64)
    index = np.asarray(tweak.neurons.index, np.int64)
    arrays, weights = {}, []
    for number in range(len(slot.taps)):
        own = slot_tap_of == number
        # Of a tap that the tweak does not read, one neuron of weight zero: no array is empty.
        arrays[f"{slot.names}index{number}"] = index[own] if own.any() else np.zeros(1, np.int64)
        weights.append(weight[own].reshape(-1, classes) if own.any() else np.zeros((1, classes)))
    if slot.taps:
        arrays[f"{slot.names}weight"] = np.concatenate(weights).astype(dtype)
    if slot.bias:
        arrays[f"{slot.names}bias"] = np.asarray(linear.bias, np.float64).astype(dtype)
    if not all(np.isfinite(array).all() for array in arrays.values()):
        raise ModelError(f"a weight does not fit into {dtype}", hint="use a smaller --scale")
    return {name: np.ascontiguousarray(array) for name, array in arrays.items()}


def _position(slot: Slot, tap: Tap) -> int:
    if tap not in slot.taps:
        raise ModelError(
            "the slot does not have this tap of the tweak",
            where=tap.name,
            hint="make the slot again and include this tweak",
        )
    return slot.taps.index(tap)


def adapter_bytes(arrays: Mapping[str, np.ndarray]) -> bytes:
    """The bytes of an adapter file with these parameters; the same parameters give the same bytes.

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
    with temporary_folder(Path(tempfile.gettempdir()), private=True) as folder:
        path = folder / "adapter"
        try:
            adapter.export_adapter(str(path))
        except RuntimeError as error:  # a full disk, a limit: ONNX Runtime does not say which
            what = "ONNX Runtime cannot write the adapter"
            hint = "free some space, or set TMPDIR to a folder with more room"
            raise OutputError(what, where=folder.parent, hint=hint) from error
        return path.read_bytes()
