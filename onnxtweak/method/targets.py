"""Which classes are meant by `--target` and `--worst`?"""

from __future__ import annotations

import difflib
from collections.abc import Sequence

import numpy as np

from onnxtweak.errors import DataError, UsageError
from onnxtweak.settings import TargetSettings


def class_names(names: Sequence[str] | None, classes: int) -> tuple[str, ...]:
    """Names of all C classes: as given, else their numbers."""
    return tuple(names) if names is not None else tuple(str(number) for number in range(classes))


def find_targets(
    settings: TargetSettings,
    names: Sequence[str],
    fit: np.ndarray,
    validation: np.ndarray,
    predicted: np.ndarray | None = None,
) -> np.ndarray:
    """Target class numbers (c,) int64, ascending.

    names : of all classes. fit, validation : labels of the two splits. predicted : for `worst`.
    Raises UsageError for an unknown class or none at all, DataError for a target without samples.
    """
    if settings.worst is not None:
        if settings.targets:
            raise UsageError("--target and --worst exclude each other", hint="give one of them")
        return _worst(settings.worst, fit, validation, predicted, len(names))
    if not settings.targets:
        raise UsageError("no target class", hint="name one with --target, or use --worst 3")
    numbers = sorted({_number(text, names) for text in settings.targets})
    for role, labels in (("fit", fit), ("validation", validation)):
        for number in numbers:
            if not (labels == number).any():
                raise DataError(
                    f"target class {names[number]} has no {role} sample",
                    where=f"--target {names[number]}",
                    hint="give samples of it, or name another class",
                )
    return np.array(numbers, np.int64)


def every_class(fit: np.ndarray, validation: np.ndarray) -> np.ndarray:
    """All classes that have samples (c,) int64: the targets where the overall accuracy is the aim."""
    return np.union1d(fit, validation).astype(np.int64)


def _number(text: str, names: Sequence[str]) -> int:
    if text in names:
        return list(names).index(text)
    if text.isdecimal() and int(text) < len(names):
        return int(text)
    near = difflib.get_close_matches(text, names, n=3, cutoff=0.5)
    known = ", ".join(near) if near else f"{names[0]} ... {names[-1]}"
    raise UsageError(
        f"the model has no class {text!r}",
        where="--target",
        hint=f"did you mean {known}?" if near else f"classes are {known}, or numbers 0 to {len(names) - 1}",
    )


def _worst(
    count: int, fit: np.ndarray, validation: np.ndarray, predicted: np.ndarray, classes: int
) -> np.ndarray:
    support = np.bincount(validation, minlength=classes)
    right = np.bincount(validation[predicted == validation], minlength=classes)
    known = np.flatnonzero((support > 0) & (np.bincount(fit, minlength=classes) > 0))
    if not 1 <= count <= len(known):
        raise UsageError(
            f"--worst {count} of {len(known)} classes that have fit and validation samples",
            where="--worst",
            hint=f"use a number from 1 to {len(known)}",
        )
    order = np.lexsort((known, right[known] / support[known]))
    return np.sort(known[order[:count]]).astype(np.int64)
