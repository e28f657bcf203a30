"""How does preprocessing travel? A tweaked file records how its samples were prepared; later jobs obey it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, fields, replace
from typing import Any

import numpy as np

from onnxtweak.data.preprocess.plan import check_preprocess
from onnxtweak.engine.opened import Opened
from onnxtweak.errors import DataError, InputError
from onnxtweak.model.file.model_file import ModelFile
from onnxtweak.model.file.tweak_metadata import tweaks_inside
from onnxtweak.patch import Tweak
from onnxtweak.recipe.values import key_of, keys_of, settings_from
from onnxtweak.settings import DataSettings, Preprocess

_ENTRY = "preprocess"  # of a tweak's provenance
_VALUES = ("pixel_scale", "mean", "std")  # the likeliest culprits, named first
_LONG = 5  # characters of a decimal, as in 0.485
AS_THEY_ARE = "--pixel-scale 1"  # the option that says so, where a file records something else


def provenance_of(preprocess: Preprocess) -> dict[str, Any]:
    """What a tweak's provenance says about preprocessing: the fields that are set; nothing without any."""
    given = {name: _plain(value) for name, value in asdict(preprocess).items() if value is not None}
    return {_ENTRY: given} if given else {}


def shared_by(tweaks: Sequence[Tweak]) -> dict[str, Any]:
    """What the provenance of all these tweaks says about preprocessing; nothing where they differ."""
    said = [tweak.provenance.get(_ENTRY) for tweak in tweaks]
    return {_ENTRY: said[0]} if said[0] is not None and said.count(said[0]) == len(said) else {}


def inputs_of(opened: Opened, samples: Mapping[str, np.ndarray]) -> dict[str, list[Any]]:
    """Type and shape of each input, the axis that counts samples first; what the model leaves open is as in
    the samples, so that others can be made up for `apply` and `verify`.
    """
    found: dict[str, list[Any]] = {}
    for spec in opened.specs:
        shape = spec.shape or ()
        if spec.name in samples:
            actual = samples[spec.name].shape
            declared = shape or (None,) * len(actual)
            shape = (declared[0], *(size or actual[axis] for axis, size in enumerate(declared) if axis))
        found[spec.name] = [spec.dtype, list(shape)]
    return found


def as_options(preprocess: Preprocess) -> str:
    """Preprocessing as a user would give it: `--pixel-scale 1/255 --color BGR`."""
    names = dict.fromkeys((*_VALUES, *(field.name for field in fields(preprocess))))
    given = {name: getattr(preprocess, name) for name in names}
    return " ".join(_option(name, value) for name, value in given.items() if value is not None)


def said_in(provenance: dict[str, Any]) -> Preprocess | None:
    """The preprocessing in a tweak's provenance, None without any. Raises InputError for an unknown one."""
    table = provenance.get(_ENTRY)
    if table is None:
        return None
    keys = {key_of(name): value for name, value in table.items()} if isinstance(table, dict) else {"": table}
    if unknown := sorted(keys.keys() - keys_of(Preprocess).keys()):
        raise InputError(f"`{unknown[0]}` is not known")
    found = settings_from(Preprocess, keys, _ENTRY)
    check_preprocess(found)
    return found


def as_recorded(data: DataSettings, model: ModelFile) -> tuple[DataSettings, tuple[str, ...]]:
    """`data`, prepared as the model's record says where the user says nothing; and what to tell of that."""
    try:
        recorded = _last_said(model)
    except InputError as error:
        return data, (_not_understood(error),)
    if recorded is None or recorded == data.preprocess:
        return data, ()
    options = as_options(recorded)
    if data.preprocess != Preprocess():
        return data, (f"the file records other preprocessing, {options}; the options given are used",)
    note = f"samples are prepared as the file records: {options} ({AS_THEY_ARE} takes them as they are)"
    return replace(data, preprocess=recorded), (note,)


def recorded_preprocess(model: ModelFile) -> Preprocess | None:
    """How the file says that samples are prepared; None where it does not, or in unknown words."""
    try:
        return _last_said(model)
    except InputError:
        return None


@contextmanager
def explaining(notes: Sequence[str]) -> Iterator[None]:
    """Say in the hint of a DataError inside that it was the file's record that did not fit the samples."""
    try:
        yield
    except DataError as error:
        if not notes:
            raise
        hint = "; ".join(filter(None, (error.hint, *notes)))
        raise DataError(error.what, where=error.where, hint=hint) from error


def note_of(tweak: Tweak) -> tuple[str, ...]:
    """What to tell of the preprocessing that a tweak brings into a file."""
    try:
        preprocess = said_in(tweak.provenance)
    except InputError as error:
        return (_not_understood(error),)
    if preprocess is None:
        return ()
    return (f"the file records how its samples are prepared: {as_options(preprocess)}",)


def _last_said(model: ModelFile) -> Preprocess | None:
    """How samples were prepared for the last tweak inside that says so; None where none does."""
    for tweak in reversed(tweaks_inside(model.proto)):
        if (found := said_in(tweak.provenance)) is not None:
            return found
    return None


def _not_understood(error: InputError) -> str:
    return f"the record of how samples are prepared is not understood: {error}"


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _option(name: str, value: Any) -> str:
    if name in ("resize", "crop") and isinstance(value, tuple):
        text = "x".join(map(str, value))
    elif isinstance(value, tuple):
        text = ",".join(map(_number, value))
    else:
        text = _number(value) if isinstance(value, float) else str(value)
    return f"--{key_of(name)} {text}"


def _number(value: float) -> str:
    """A text that means exactly this number, a fraction where a decimal would be longer: 1/255."""
    decimal = f"{value:g}" if float(f"{value:g}") == value else repr(value)
    fraction = f"1/{1 / value:g}" if value else decimal
    exact = bool(value) and 1 / float(fraction[2:]) == value
    return fraction if exact and len(fraction) < len(decimal) > _LONG else decimal
