"""How does preprocessing travel? A tweaked file records how its samples were prepared; later jobs obey it."""

from __future__ import annotations

from dataclasses import asdict, fields, replace
from typing import Any

from onnxtweak.data.preprocess.plan import check_preprocess
from onnxtweak.errors import InputError
from onnxtweak.model.file.model_file import ModelFile
from onnxtweak.model.file.tweak_metadata import tweaks_inside
from onnxtweak.patch import Tweak
from onnxtweak.recipe.values import key_of, keys_of, settings_from
from onnxtweak.settings import DataSettings, Preprocess

_ENTRY = "preprocess"  # of a tweak's provenance
_VALUES = ("pixel_scale", "mean", "std")  # the likeliest culprits, named first
AS_THEY_ARE = "--pixel-scale 1"  # the option that says so, where a file records something else


def provenance_of(preprocess: Preprocess) -> dict[str, Any]:
    """What a tweak's provenance says about preprocessing: the fields that are set; nothing without any."""
    given = {name: _plain(value) for name, value in asdict(preprocess).items() if value is not None}
    return {_ENTRY: given} if given else {}


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
        return data, (f"the file's record of how samples are prepared is not understood: {error}",)
    if recorded is None or recorded == data.preprocess:
        return data, ()
    options = as_options(recorded)
    if data.preprocess != Preprocess():
        return data, (f"the file records other preprocessing, {options}; the options given are used",)
    note = f"samples are prepared as the file records: {options} ({AS_THEY_ARE} takes them as they are)"
    return replace(data, preprocess=recorded), (note,)


def is_recorded(model: ModelFile) -> bool:
    """Whether the file says how samples are prepared, so that options replace what it says."""
    unsaid = DataSettings(())
    return as_recorded(unsaid, model)[0] != unsaid


def note_of(tweak: Tweak) -> tuple[str, ...]:
    """What to tell of the preprocessing that a tweak brings into a file."""
    try:
        preprocess = said_in(tweak.provenance)
    except InputError:  # told again whenever the file is opened
        return ()
    if preprocess is None:
        return ()
    return (f"the file records how its samples are prepared: {as_options(preprocess)}",)


def _last_said(model: ModelFile) -> Preprocess | None:
    """How samples were prepared for the last tweak inside that says so; None where none does."""
    for tweak in reversed(tweaks_inside(model.proto)):
        if (found := said_in(tweak.provenance)) is not None:
            return found
    return None


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
    """The shortest text that means this number, as a fraction where that is one: 1/255."""
    if float(f"{value:g}") == value:
        return f"{value:g}"
    fraction = f"{1 / value:g}"
    return f"1/{fraction}" if 1 / float(fraction) == value else repr(value)
