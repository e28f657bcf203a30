"""How does a model's answer follow from the columns of its logits? Its tail is asked, with made-up numbers.

The tail, what a model does after its logits, is run as a model of its own. Numbers in which one column
stands out tell which class belongs to it; numbers in which two columns are close tell where the decision
changes; many more of these then either confirm that the highest score decides, or refute it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from onnxtweak.head import Answer, Readout, Scale

_MOST_COLUMNS = 4096  # beyond, columns are sampled, and must be shown as they are
_HEIGHTS = (8.0, 16.0, 4.0, 32.0)  # by which a column stands out; half precision holds their exponentials
_LOW = -30.0  # where columns are put that must not decide
_FARTHEST = 24.0  # two classes may be shifted against each other by so much at most
_SINGLE_FARTHEST = 1e3  # times the usual range, where one number has not decided within that
_STEPS = 48
_EVEN = 1e-4  # offsets and thresholds below are rounding
_PAIRS = 512
_GAPS = (0.02, 0.2, 1.0)
_UNROUNDED = 3.0  # times the tolerance: a gap that is more than rounding

Ask = Callable[[np.ndarray], Any]


@dataclass(frozen=True)
class NotDecided(Exception):
    """The answer is not the class of the highest score. why : what was seen. constant : it never changed."""

    why: str
    constant: bool = False


def read_columns(
    ask: Ask, values: np.ndarray, answer: Answer, scale: Scale, tolerance: float, *, proven: bool = False
) -> tuple[Readout, Answer]:
    """How the answer follows from the columns, and the answer with its labels.

    ask : the output's value (n, ...) for columns (n, R) on the logit scale. values (n, R) : of real samples,
    on that scale. tolerance : scores that lie closer, as a fraction of the largest, may be decided either
    way. proven : whether it is known that the answer follows from the highest score. Raises NotDecided.
    """
    rng = np.random.default_rng(0)
    columns = values.shape[1]
    if columns == 1:
        readout, labels = _read_single(ask, values, answer, scale)
    elif columns > _MOST_COLUMNS:
        _require_shown_as_they_are(ask, answer, columns, rng)
        readout, labels = Readout(columns, tuple(range(columns)), (0.0,) * columns, 1, scale), None
    else:
        shown, sources = _columns_shown(ask, answer, columns, rng)
        source, labels = _numbered(shown, sources, answer)
        readout = Readout(columns, source, (0.0,) * len(source), 1, scale)
        readout = _with_offsets(ask, readout, replace(answer, labels=labels), values, rng, tolerance)
    answer = replace(answer, labels=labels)
    wrong = "" if proven else _refutation(ask, readout, answer, values, rng, tolerance)
    if wrong:
        raise NotDecided(wrong)
    return readout, answer


def logit_scores(readout: Readout, x: np.ndarray) -> np.ndarray:
    """Scores (n, C) of columns (n, R) that are on the logit scale already."""
    return Readout(readout.columns, readout.source, readout.offset, readout.sign).scores(x)


def _columns_shown(
    ask: Ask, answer: Answer, columns: int, rng: np.random.Generator
) -> tuple[list[int | str], list[int]]:
    """What is shown where one column stands out, and that column, for every column that decides at all."""
    failed = "no column of the logits decides"
    for height in _HEIGHTS:
        trials = []
        for _ in range(3):
            x = rng.uniform(-0.5, 0.5, (columns, columns))
            x[np.diag_indices(columns)] += height
            trials.append(answer.shown(ask(x)))
        if all((trial == trials[0][0]).all() for trial in trials):
            raise NotDecided("it is the same whatever the logits are", constant=True)
        steady = np.flatnonzero((trials[0] == trials[1]) & (trials[1] == trials[2]))
        shown = trials[0][steady].tolist()
        if len(set(shown)) == len(shown) >= 2:
            return shown, steady.tolist()
        failed = "several columns of the logits are shown as one class"
    raise NotDecided(failed)


def _numbered(
    shown: list[int | str], sources: list[int], answer: Answer
) -> tuple[tuple[int, ...], tuple[int | str, ...] | None]:
    """The column of each class, and the labels where these are not the class numbers."""
    if sorted(map(str, shown)) == sorted(map(str, range(len(shown)))) and not isinstance(shown[0], str):
        column = dict(zip(shown, sources, strict=True))
        return tuple(column[number] for number in range(len(shown))), None
    if answer.kind == "scores":
        missing = next(number for number in range(len(shown) + 1) if number not in shown)
        raise NotDecided(f"no column of the logits is shown as class {missing}")
    return tuple(sources), tuple(shown)


def _require_shown_as_they_are(ask: Ask, answer: Answer, columns: int, rng: np.random.Generator) -> None:
    some = rng.choice(columns, 256, replace=False)
    x = rng.uniform(-0.5, 0.5, (len(some), columns))
    x[np.arange(len(some)), some] += _HEIGHTS[0]
    shown = answer.shown(ask(x))
    if (shown == shown[0]).all():
        raise NotDecided("it is the same whatever the logits are", constant=True)
    if not np.array_equal(shown, some):
        raise NotDecided(f"the classes of more than {_MOST_COLUMNS:,} columns are not shown in their order")


def _with_offsets(
    ask: Ask,
    readout: Readout,
    answer: Answer,
    values: np.ndarray,
    rng: np.random.Generator,
    tolerance: float,
) -> Readout:
    """The readout with what is added to each class, where the highest column alone does not decide."""
    if not _refutation(ask, readout, answer, values, rng, tolerance):
        return readout
    source, classes = np.array(readout.source), readout.classes
    x = np.full((classes, readout.columns), _LOW)
    x[:, source[0]] = 0.0
    low, high = np.full(classes, -_FARTHEST), np.full(classes, _FARTHEST)
    for _ in range(_STEPS):
        middle = (low + high) / 2
        x[np.arange(classes), source] = middle
        x[0, source[0]] = 0.0
        own = answer.classes(ask(x)) == np.arange(classes)
        low, high = np.where(own, low, middle), np.where(own, middle, high)
    offset = -(low + high) / 2
    offset[0] = 0.0
    offset[np.abs(offset) < _EVEN] = 0.0
    if (np.abs(offset) > 0.99 * _FARTHEST).any():
        return readout
    rounded = tuple(float(f"{number:.7g}") for number in offset)
    return Readout(readout.columns, readout.source, rounded, 1, readout.scale)


def _read_single(
    ask: Ask, values: np.ndarray, answer: Answer, scale: Scale
) -> tuple[Readout, tuple[int | str, ...] | None]:
    """The readout of one number that decides between two classes: where, and in which direction."""
    far = max(30.0, 4.0 * float(np.abs(values).max(initial=0.0)))
    grid = np.unique(np.concatenate([np.linspace(-far, far, 801), np.linspace(-4, 4, 801)]))
    for farther in (np.zeros(0), np.geomspace(far, _SINGLE_FARTHEST * far, 801)):
        grid = np.concatenate([-farther[::-1], grid, farther])
        shown = answer.shown(ask(grid[:, None]))
        changes = np.flatnonzero(shown[1:] != shown[:-1])
        if len(changes):
            break
    else:
        raise NotDecided("it is the same whatever the logit is", constant=True)
    if len(changes) > 1:
        raise NotDecided(f"it changes {len(changes)} times as the logit grows")
    low, high = float(grid[changes[0]]), float(grid[changes[0] + 1])
    below, above = shown[0], shown[-1]
    for _ in range(_STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if answer.shown(ask(np.array([[middle]])))[0] == below else (low, middle)
    cut = (low + high) / 2
    cut = 0.0 if abs(cut) < _EVEN else float(f"{cut:.7g}")
    pair = tuple(np.array([below, above]).tolist())
    labels = None if pair in ((0, 1), (1, 0)) else pair
    sign = -1 if pair == (1, 0) else 1
    return Readout(1, (-1, 0), (0.0, -sign * cut), sign, scale), labels


def _refutation(
    ask: Ask,
    readout: Readout,
    answer: Answer,
    values: np.ndarray,
    rng: np.random.Generator,
    tolerance: float,
) -> str:
    """What contradicts the readout, in words; empty where nothing does.

    Tried are real values, the same with noise, and pairs of classes that are close to each other.
    """
    spread = float(values.std()) or 1.0
    rows = [values, *(values + rng.normal(0, part * spread, values.shape) for part in (0.1, 1.0))]
    x = np.concatenate([*rows, _close_pairs(readout, values, rng, tolerance)])
    Z = logit_scores(readout, x)
    value = ask(x)
    wrong = answer.contradicts(Z, value, tolerance)
    if not wrong.any():
        return ""
    if (answer.classes(value)[wrong] < 0).any():
        return "it can be none of the classes"
    return (
        f"on {int(wrong.sum()):,} of {len(x):,} trials another class is shown than that of the highest score"
    )


def _close_pairs(
    readout: Readout, values: np.ndarray, rng: np.random.Generator, tolerance: float
) -> np.ndarray:
    """Rows (n, R) in which two classes are ahead of the others, and close to each other.

    The closest are just too far apart for rounding, so that coarser steps in the tail are seen.
    """
    count, classes = min(_PAIRS, 16 * readout.classes), readout.classes
    if readout.single:
        near = -readout.sign * readout.offset[1]
        gaps = (*_GAPS, _UNROUNDED * tolerance * max(1.0, abs(near)))
        return near + np.concatenate([[gap, -gap] for gap in gaps])[:, None]
    x = values[rng.integers(0, len(values), count)].astype(np.float64)
    source, offset = np.array(readout.source), np.array(readout.offset)
    first = rng.integers(0, classes, count)
    second = (first + rng.integers(1, classes, count)) % classes
    scores = x[:, source] + offset
    top = scores.max(axis=1) + 1.0
    gap = rng.choice((*_GAPS, 0.0), count)
    smallest = _UNROUNDED * tolerance * np.maximum(1.0, np.maximum(np.abs(scores).max(axis=1), np.abs(top)))
    rows = np.arange(count)
    x[rows, source[first]] = top - offset[first]
    x[rows, source[second]] = top - offset[second] - np.maximum(gap, smallest)
    return x
