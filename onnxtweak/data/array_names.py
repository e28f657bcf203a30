"""Which stored array is which model input, and which holds the labels?"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from difflib import get_close_matches

from onnxtweak.data.groups import no_column
from onnxtweak.data.samples import InputSpec, Reading, by_option, with_rows
from onnxtweak.errors import DataError

SAMPLES = ("x", "X", "images", "inputs", "data")
BOXES = "boxes"
LABELS = ("y", "Y", "labels", "label", "target", "targets")
CLASSES = ("classes", "class_names", "label_names")


def match_arrays(
    found: Collection[str],
    inputs: Sequence[InputSpec],
    key: str | None,
    where: str,
    reading: Reading = Reading(),
) -> tuple[dict[str, str], str | None]:
    """`match_inputs` and `match_labels` in one: where inputs and labels are stored side by side.

    No name of labels where there are none, and `reading` does without.
    """
    arrays = match_inputs(found, inputs, key, where, reading.groups)
    if reading.boxes and (boxes := _first(found, (BOXES,), key)) is not None:
        return arrays, boxes
    if reading.unlabelled and stored_labels(found, arrays, key, reading.groups) is None:
        return arrays, None
    return arrays, match_labels(found, arrays, key, where, reading.groups)


def match_inputs(
    found: Collection[str],
    inputs: Sequence[InputSpec],
    key: str | None,
    where: str,
    groups: Sequence[str] = (),
) -> dict[str, str]:
    """The name of the stored array for each model input.

    found : names of the stored arrays. A single input with rows may also be stored under one of `SAMPLES`.
    With a key, such as `train`, `x` is stored as `x_train` or `train_x`. groups : columns that are taken for
    samples only where there is nothing else. Raises DataError that lists what was found.
    """
    arrays, missing, alone = {}, [], len(with_rows(inputs)) == 1
    others = _others(found, key, groups)
    for spec in inputs:
        names = (spec.name, *SAMPLES) if alone and not spec.number else (spec.name,)
        stored = _first(others, names, key) or _first(found, names, key)
        if stored is None:
            missing.append(spec.name)
        else:
            arrays[spec.name] = stored
    if missing:
        wanted = " and ".join(f"`{name}`" for name in missing)
        alias = (SAMPLES[0],) if len(inputs) == 1 and SAMPLES[0] not in missing else ()
        looked = [spelling for name in (*missing, *alias) for spelling in spellings(name, key)[:1]]
        named = "" if key is None else f", called {' or '.join(f'`{name}`' for name in looked)}"
        raise DataError(
            f"no array for the model's input {wanted}{named}; found {_listed(found)}",
            where=where,
            hint=_hint_key(found, inputs, key, where)
            or (
                "name the array after the input, or `x`"
                if len(inputs) == 1
                else f"name each array after its input, or give all samples one value: {by_option(missing)}"
            ),
        )
    return arrays


def match_labels(
    found: Collection[str],
    arrays: Mapping[str, str],
    key: str | None,
    where: str,
    groups: Sequence[str] = (),
) -> str:
    """The name of the stored array of labels.

    arrays : those that feed inputs. groups : columns that are labels only where nothing else is. Raises
    DataError that lists what was found.
    """
    labels = stored_labels(found, arrays, key, groups)
    if labels is None:
        taken = {name.lower() for name in arrays}
        if key is None and BOXES in found:
            raise DataError(
                f"no labels; found {_listed(found)}, but this model is not taken for a detector",
                where=where,
                hint="a detector shows scores of anchors, joined of its levels, right behind one sigmoid or"
                " softmax, or behind sigmoids of each level, and boxes beside them (docs/howto/boxes.md has"
                " the layouts); `onnxtweak inspect` says what this model is taken for",
            )
        free = next((name for name in LABELS if name.lower() not in taken), LABELS[0])
        raise DataError(
            f"no labels; found {_listed(found)}",
            where=where,
            hint=f"store one class number per sample as `{free if key is None else f'{free}_{key}'}`",
        )
    return labels


def stored_labels(
    found: Collection[str], arrays: Mapping[str, str], key: str | None, groups: Sequence[str] = ()
) -> str | None:
    """The name of the stored array of labels; None where there is none. found, ... : as of `match_labels`."""
    labels = _first(_others(found, key, groups), LABELS, key) or _first(found, LABELS, key)
    return None if labels in arrays.values() else labels


def _others(found: Collection[str], key: str | None, groups: Sequence[str]) -> list[str]:
    """The stored arrays that are no columns of groups."""
    spelt = {spelling for name in groups for spelling in spellings(name, key)}
    return [name for name in found if name not in spelt]


def match_group(found: Collection[str], column: str, key: str | None, where: str) -> str:
    """The name of the stored array of a column of groups. Raises DataError, naming what is like it."""
    stored = _first(found, (column,), key)
    if stored is not None:
        return stored
    known = found
    if key is not None:
        ends = [(name.removesuffix(f"_{key}"), name.removeprefix(f"{key}_")) for name in found]
        known = [min(both, key=len) for both, name in zip(ends, found, strict=True) if {*both} != {name}]
    named = "" if key is None else f" (it would be `{spellings(column, key)[0]}`)"
    raise no_column(column, known, where, f"no array `{column}`{named}")


def spellings(name: str, key: str | None) -> tuple[str, ...]:
    """Names that an array may have in the group `key`."""
    return (name,) if key is None else (f"{name}_{key}", f"{key}_{name}")


def _first(found: Collection[str], names: Sequence[str], key: str | None) -> str | None:
    return next((s for name in names for s in spellings(name, key) if s in found), None)


def _listed(found: Collection[str]) -> str:
    shown = [f"`{name}`" for name in sorted(found)[:12]]
    return (", ".join(shown) + (", ..." if len(found) > 12 else "")) or "nothing"


def _hint_key(found: Collection[str], inputs: Sequence[InputSpec], key: str | None, where: str) -> str:
    """The keys to choose from, such as `FILE#train`, where the arrays are named x_train, y_train."""
    names = (*SAMPLES, *(spec.name for spec in inputs))
    keys = {stored[len(name) + 1 :] for stored in found for name in names if stored.startswith(f"{name}_")}
    keys |= {stored[: -len(name) - 1] for stored in found for name in names if stored.endswith(f"_{name}")}
    usable = sorted((k for k in keys - {key} if _first(found, LABELS, k)), key=lambda k: (k != "train", k))
    near = get_close_matches(key, usable, n=2, cutoff=0.6) if key else []
    if near:
        return f"did you mean {' or '.join(f'{where}#{k}' for k in near)}?"
    return "choose one of " + ", ".join(f"{where}#{k}" for k in usable) if usable else ""
