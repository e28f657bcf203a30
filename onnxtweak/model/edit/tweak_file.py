"""How is a tweak saved to a tweak file, and loaded again?

A tweak file is a safetensors file: the arrays of the neurons and of the patch, and one header entry with the
rest as JSON. The same tweak gives the same bytes.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, replace
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy

from onnxtweak.errors import InputError
from onnxtweak.input_files import MOST_TWEAK, require_regular
from onnxtweak.model.file.output_file import write_atomic
from onnxtweak.model.file.tweak_metadata import canonical_json
from onnxtweak.patch import FORMS, Patch, Tweak, form_of
from onnxtweak.settings import POOLS
from onnxtweak.types import AT_POSITIONS, PLACE, Neurons, Tap, level_of

_FORMAT = 1
_MOST_CLASSES = 1 << 20
_ENTRY = "onnxtweak"
_INTEGERS = ("tap_of", "index", "target", "count")
_DTYPES = ("float32", "float16", "bfloat16", "float64", "uint8", "int8")


def save(tweak: Tweak, path: str | Path, force: bool = False) -> None:
    """Write the tweak to `path`. Raises OutputError as `write_atomic` does."""
    write_atomic(path, [tweak_bytes(tweak)], force=force)


def tweak_bytes(tweak: Tweak) -> bytes:
    """The bytes of a tweak's file; equal tweaks give equal bytes."""
    arrays = {"tap_of": tweak.neurons.tap_of, "index": tweak.neurons.index, **tweak.patch.arrays}
    arrays = {name: np.ascontiguousarray(array, _stored_as(name, array)) for name, array in arrays.items()}
    header = {
        "format": _FORMAT,
        "kind": tweak.kind,
        "base_sha256": tweak.base_sha256,
        "logits": tweak.logits,
        "classes": int(tweak.classes),
        "taps": [asdict(tap) for tap in tweak.neurons.taps],
        "patch": form_of(tweak.patch),
        "provenance": tweak.provenance,
    }
    data: bytes = safetensors.numpy.save(arrays, metadata={_ENTRY: canonical_json(header)})
    return data


def _stored_as(name: str, array: np.ndarray) -> type[np.generic]:
    """The smallest type that holds an array of a tweak exactly."""
    if name not in _INTEGERS:
        return np.float32 if array.dtype == np.float32 else np.float64
    return np.int32 if array.size == 0 or np.abs(array).max() < 2**31 else np.int64


def load(path: str | Path) -> Tweak:
    """The tweak in `path`. Raises InputError for anything but a complete and consistent tweak file."""
    require_regular(path, InputError, MOST_TWEAK)
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            text = (file.metadata() or {}).get(_ENTRY)
            if text is None:
                raise ValueError("it was not written by onnxtweak")
            header = json.loads(text, parse_constant=_refuse_constant)
            _require(isinstance(header, dict), "its header is not an object")
            _require(header.get("format") == _FORMAT, f"its format is {header.get('format')}, not {_FORMAT}")
            patch_type = FORMS.get(header.get("patch"))
            if patch_type is None:
                raise ValueError(f"its patch is of unknown type {header.get('patch')!r}")
            names = ("tap_of", "index", *signature(patch_type).parameters)
            _require(sorted(file.keys()) == sorted(names), f"it must contain the arrays {', '.join(names)}")
            arrays = {name: file.get_tensor(name) for name in names}
        return _tweak(header, patch_type, arrays)
    except (OSError, safetensors.SafetensorError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise InputError(
            f"not a usable tweak file: {error}",
            where=path,
            hint="give a file that --tweak wrote, or write it again",
        ) from error


def _tweak(header: dict[str, Any], patch_type: type[Patch], arrays: dict[str, np.ndarray]) -> Tweak:
    """The tweak from its parts. Raises ValueError where they do not fit together."""
    for name, array in arrays.items():
        kinds = ("int32", "int64") if name in _INTEGERS else ("float32", "float64")
        _require(array.dtype in kinds, f"array '{name}' is {array.dtype}, not {' or '.join(kinds)}")
        if name != "threshold":  # a neuron that can fix no sample has no threshold
            _require(bool(np.isfinite(array).all()), f"array '{name}' contains numbers that are not finite")
    for name in ("kind", "base_sha256", "logits"):
        _require(isinstance(header.get(name), str) and header[name] != "", f"'{name}' is missing")
    classes = header.get("classes")
    if type(classes) is not int or not 0 < classes <= _MOST_CLASSES:
        raise ValueError(f"'classes' is not an integer from 1 to {_MOST_CLASSES:,}")
    _require(isinstance(header.get("provenance"), dict), "'provenance' is not an object")
    taps = tuple(_tap(entry) for entry in _list(header.get("taps"), "taps"))
    neurons = Neurons(taps, arrays.pop("tap_of"), arrays.pop("index").astype(np.int64))
    patch = patch_type(**{name: _whole(name, array) for name, array in arrays.items()})
    _require_fit(neurons, patch, classes)
    neurons = replace(neurons, tap_of=neurons.tap_of.astype(np.int32))
    texts = {name: header[name] for name in ("kind", "base_sha256", "logits")}
    return Tweak(**texts, classes=classes, neurons=neurons, patch=patch, provenance=header["provenance"])


def _whole(name: str, array: np.ndarray) -> np.ndarray:
    return array.astype(np.int64) if name in _INTEGERS else array


def _tap(entry: Any) -> Tap:
    _require(
        isinstance(entry, dict) and set(entry) == set(Tap.__dataclass_fields__),
        "a tap does not have the right fields",
    )
    shape = _list(entry["shape"], "a tap's shape")
    tap = Tap(**{**entry, "shape": tuple(shape)})
    _require(
        all(type(size) is int and size > 0 for size in shape), "a tap's shape is not of positive integers"
    )
    _require(
        all(isinstance(text, str) for text in (tap.name, tap.op, tap.pool)) and tap.name != "",
        "a tap has no name",
    )
    _require(tap.dtype in _DTYPES, f"a tap has the unknown type {tap.dtype!r}")
    known = tap.pool in (*POOLS, *AT_POSITIONS, PLACE) or level_of(tap.pool) >= 0
    _require(known, f"a tap has the unknown pooling {tap.pool!r}")
    axis = tap.channel_axis
    _require(
        type(axis) is int and (tap.pool == "none" or 0 <= axis < len(shape)),
        "a tap's channel axis is out of range",
    )
    return tap


def _require_fit(neurons: Neurons, patch: Patch, classes: int) -> None:
    """Raise ValueError unless indices are within their taps and classes, and shapes agree."""
    count = neurons.index.size
    _require(neurons.index.shape == neurons.tap_of.shape == (count,), "'index' and 'tap_of' differ in length")
    # In Python's integers, which a damaged shape does not overflow.
    sizes = [
        tap.shape[tap.channel_axis] * tap.cells if tap.pool != "none" else math.prod(tap.shape)
        for tap in neurons.taps
    ]
    _require(len(set(neurons.taps)) == len(neurons.taps), "a tap is listed twice")
    for tap, index in zip(neurons.tap_of.tolist(), neurons.index.tolist(), strict=True):
        _require(0 <= tap < len(sizes) and 0 <= index < sizes[tap], f"neuron {index} is not in tap {tap}")
    for name, shape in patch.shapes(count, classes).items():
        actual = patch.arrays[name].shape
        _require(actual == shape, f"array '{name}' has shape {actual}, not {shape}")


def _list(value: Any, what: str) -> list[Any]:
    if not isinstance(value, list):
        raise ValueError(f"{what} is not a list")
    return value


def _refuse_constant(text: str) -> None:
    raise ValueError(f"its header contains {text}")


def _require(holds: bool, what: str) -> None:
    if not holds:
        raise ValueError(what)
