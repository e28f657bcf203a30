"""How do logits become the answer that the model shows? The head: the one place that knows argmax.

Whatever needs a decision, or whether it is right, asks a `Head`: measuring, choosing operating points,
checking written files. What a model shows need not be the argmax of the tensor that a patch is added to: a
`Readout` says how that tensor gives one score per class, and an `Answer` reads the class that the model's own
output shows. The letters are those of `onnxtweak.types`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

Scale = Literal["logit", "probability", "odds"]
AnswerKind = Literal["scores", "number", "label", "map", "marks"]
# Added before a logarithm: far below any probability that decides, and no number for float32 to lose.
SMALLEST = 1e-30
# By how much logits that were computed in two ways may differ, as a fraction of the largest: sums are in
# another order, and rounded to the type that the model computes in.
ROUNDING = {"float64": 1e-6, "float32": 1e-4, "float16": 4e-3, "bfloat16": 3e-2}


def on_logit_scale(x: np.ndarray, scale: Scale) -> np.ndarray:
    """f of METHOD 0: values of a tensor that holds `scale`, as logits."""
    if scale == "logit":
        return x
    logarithm: np.ndarray = np.log(x + SMALLEST)
    return logarithm if scale == "probability" else logarithm - np.log(1 - x + SMALLEST)


@dataclass(frozen=True)
class Readout:
    """How the tensor that a patch is added to gives one score per class that the model shows (METHOD 0).

    Score c is `sign * f(x[source[c]]) + offset[c]`, and the highest is shown; without a column, source -1, it
    is the offset alone. columns : of the tensor. scale : what the tensor holds, and f: "logit", x itself;
    "probability", log x, of rows that sum to one before and after the patch; "odds", log(x / (1 - x)), where
    each value is a probability for itself.
    """

    columns: int
    source: tuple[int, ...]
    offset: tuple[float, ...]
    sign: int = 1
    scale: Scale = "logit"
    rest: bool = False

    @classmethod
    def plain(cls, columns: int) -> Readout:
        """Of a tensor that holds the classes' logits, or one logit for two classes."""
        if columns == 1:
            return cls(1, (-1, 0), (0.0, 0.0))
        return cls(columns, tuple(range(columns)), (0.0,) * columns)

    @classmethod
    def read(cls, record: Mapping[str, Any]) -> Readout:
        """The readout from its record. Raises LookupError, TypeError or ValueError where that is damaged."""
        source, offset = tuple(map(int, record["source"])), tuple(map(float, record["offset"]))
        rest = bool(record.get("rest", False))
        found = cls(int(record["columns"]), source, offset, int(record["sign"]), record["scale"], rest)
        sources = [item for item in source if item >= 0]
        if (
            len(source) != len(offset)
            or len(source) + rest < (1 if record["scale"] == "odds" else 2)
            or found.scale not in ("logit", "probability", "odds")
            or found.sign not in (1, -1)
            or not all(-1 <= item < found.columns for item in source)
            or len(set(sources)) < len(sources)
            or (len(sources) < len(source) and not found.single)
        ):
            raise ValueError("the record of how the model's answer is read is damaged")
        return found

    @property
    def record(self) -> dict[str, Any]:
        """The readout as plain data."""
        found = {**asdict(self), "source": list(self.source), "offset": list(self.offset)}
        if not self.rest:  # which earlier versions did not have
            del found["rest"]
        return found

    @property
    def classes(self) -> int:
        """C, the classes that the model shows."""
        return len(self.source) + self.rest

    @property
    def places(self) -> np.ndarray:
        """The class of each column, (columns,) int64, where every column has one: with `rest`."""
        found = np.full(self.columns, len(self.source), np.int64)
        found[list(self.source)] = np.arange(len(self.source))
        return found

    @property
    def single(self) -> bool:
        """One number decides between two classes."""
        return self.columns == 1

    @property
    def is_plain(self) -> bool:
        """The scores are the tensor's columns as they are, or 0 and a single column."""
        return self == Readout.plain(self.columns)

    def scores(self, x: np.ndarray) -> np.ndarray:
        """Scores Z (N, C) of a tensor's values (N, columns), in their dtype."""
        values = on_logit_scale(np.asarray(x), self.scale)
        if self.rest:
            return with_rest(values, self.source)
        Z = np.zeros((len(values), self.classes), values.dtype)
        for number, (source, offset) in enumerate(zip(self.source, self.offset, strict=True)):
            Z[:, number] = (0 if source < 0 else self.sign * values[:, source]) + np.asarray(offset, Z.dtype)
        return Z


def by_sample(value: Any, samples: int) -> Any:
    """An output's value with the axis of samples first.

    Leading axes of size 1 are left out, and one sample alone needs no axis.
    """
    if not isinstance(value, np.ndarray) or value.shape[:1] == (samples,):
        return value
    if samples == 1:
        return value[None]
    inner = value
    while inner.ndim > 1 and len(inner) == 1:
        inner = inner[0]
    return inner if inner.shape[:1] == (samples,) else value


def rows_at_positions(values: np.ndarray, layout: str) -> np.ndarray:
    """Values at positions, a row (classes,) for each; layout : as `Logits.layout`."""
    last = np.moveaxis(values, layout.index("C"), -1) if "C" in layout else values[..., None]
    return last.reshape(-1, last.shape[-1])


def with_rest(values: np.ndarray, source: Sequence[int | str]) -> np.ndarray:
    """Some columns of values (n, columns) and, behind them, the highest of all others: (n, c + 1)."""
    own = np.array(source, np.int64)
    return np.column_stack([values[:, own], np.delete(values, own, axis=1).max(axis=1)])


@dataclass(frozen=True)
class Answer:
    """How the class that a model shows is read from one of its outputs.

    output : its name. kind : "scores", one per class, of which the highest decides; "number", a single one,
    above `cut` for class 1; "label", the class itself, the first of several where the output ranks them;
    "map", scores by label; "marks", a number for each class, above `cut` where the class is there, whatever
    the others are. labels : what stands for class 0, 1, ...; None: these numbers. layout : of scores or
    labels at positions, as `Logits.layout`, each a row; None: one row per sample. rest : as of `Readout`.
    """

    output: str
    kind: AnswerKind
    cut: float = 0.0
    labels: tuple[int | str, ...] | None = None
    layout: str | None = None
    rest: bool = False

    @property
    def head(self) -> Head:
        """How scores become this answer."""
        return SEVERAL_LABELS if self.kind == "marks" else ONE_LABEL

    def shown(self, value: Any) -> np.ndarray:
        """What an output's value (N, ...) says of each sample, (N,): a label, or a class number.

        Of marks (N, C): 1 for a class that is there, else 0.
        """
        if self.kind == "map":
            return np.array([max(row, key=row.__getitem__) for row in value])
        rows = self._rows(value)
        if self.kind == "scores":
            return rows.argmax(axis=1)
        if self.kind == "marks":
            return (rows > self.cut).astype(np.int64)
        if self.kind == "number":
            return (rows[:, 0] > self.cut).astype(np.int64)
        labels = rows[:, 0]
        whole = labels.dtype.kind == "b" or (labels.dtype.kind == "f" and not (labels % 1).any())
        return labels.astype(np.int64) if whole else labels

    def classes(self, value: Any) -> np.ndarray:
        """Class numbers (N,) int64 that an output's value shows, -1 for none of them; or marks (N, C)."""
        return self.numbered(self.shown(value))

    def numbered(self, shown: np.ndarray) -> np.ndarray:
        """`classes` of what is shown."""
        if self.labels is None:
            return shown.astype(np.int64)
        known = {label: number for number, label in enumerate(self.labels)}
        other = len(known) if self.rest else -1
        return np.array([known.get(label, other) for label in shown.tolist()], np.int64)

    def contradicts(self, Z: np.ndarray, value: Any, rounding: float) -> np.ndarray:
        """Which samples are shown as another class than that of their highest score, (N,) bool.

        Of marks: with a class there whose score is not positive, or without one whose score is.

        Z (N, C) : scores. value : of the output. Ties do not count: scores that lie within `rounding`, a
        fraction of the largest, and values of the output that are equal but for the last places of an
        approximation; but where all are equal, nothing is shown.
        """
        predicted, size = self.head.predict(Z), np.maximum(1.0, np.abs(Z).max(axis=1, initial=0.0))
        wrong: np.ndarray = np.asarray(predicted != self.classes(value))
        if self.kind == "marks":
            near = self.head.margin(Z) <= 2 * rounding * size[:, None]
            return np.asarray((wrong & ~near).any(axis=1))
        wrong &= self.head.margin(Z) > 2 * rounding * size
        if self.kind == "scores" and wrong.any():
            rows = self._rows(value)
            rows = with_rest(rows, self.labels) if self.rest and self.labels else rows
            highest, own = rows.max(axis=1), rows[np.arange(len(rows)), predicted]
            wrong &= (own < highest - 4 * np.spacing(np.abs(highest))) | (rows.min(axis=1) == highest)
        return wrong

    def _rows(self, value: Any) -> np.ndarray:
        """The numbers of an output's value, a row for each sample or position."""
        found = np.asarray(value)
        if self.layout is None:
            return found.reshape(len(found), -1)
        return rows_at_positions(found, self.layout if self.kind in ("scores", "marks") else "")


@dataclass(frozen=True, eq=False)
class Decisions:
    """What a model says of samples, decision by decision, as far as labels tell whether it is right.

    number (M,) int64 : the class that each is about. right (M,) bool : whether it is. of (M,) int64 : the row
    that it is about.
    """

    number: np.ndarray
    right: np.ndarray
    of: np.ndarray


@dataclass(frozen=True)
class Head:
    """One label per sample: the class of the highest logit, the lowest of equals, as ONNX's ArgMax has it.

    single_logit : the model decides by one number for two classes; tables hold it beside a constant.
    """

    single_logit: bool = False

    @property
    def several(self) -> bool:
        """Whether a sample may have several labels at once."""
        return False

    @property
    def measure(self) -> str:
        """What a model is judged by, in words: its mean over all samples, or all labels, is the overall."""
        return "accuracy"

    @property
    def rule(self) -> str:
        """What an output shows, in words."""
        return "the class of the highest score"

    def decisions(self, predicted: np.ndarray, labels: np.ndarray) -> Decisions:
        """One for each sample, about the class that it is of. predicted, labels (N,) int64."""
        return Decisions(labels, predicted == labels, np.arange(len(labels)))

    def predict(self, Z: Any) -> Any:
        """Predicted class (N,) int64 for logits Z (N, C), which may be NumPy's or CuPy's."""
        return Z.argmax(axis=1)

    def right(self, Z: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """Which samples are right, (N,) bool. labels (N,) int64."""
        return self.predict(Z) == labels

    def predict_biased(self, Z: np.ndarray, bias: np.ndarray) -> np.ndarray:
        """Predicted class (N,) with `bias` (C,) added in the logits' own precision, as the file does it."""
        return np.asarray(self.predict(Z + bias.astype(Z.dtype)))

    def best(self, Z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The highest logit (N,) and its class (N,). A class at -inf is left out."""
        predicted = self.predict(Z)
        return Z[np.arange(len(Z)), predicted], predicted

    def beats(self, logit: Any, number: Any, rival: Any, rival_number: Any) -> np.ndarray:
        """Whether class `number` with its logit wins over a rival class with another, element by element."""
        return (logit > rival) | ((logit == rival) & (number < rival_number))

    def margin(self, Z: np.ndarray) -> np.ndarray:
        """By how much the highest logit of each sample exceeds the next, (N,)."""
        return np.diff(np.partition(Z, -2, axis=1)[:, -2:], axis=1)[:, 0]


@dataclass(frozen=True)
class SeveralLabels(Head):
    """Several labels at once: each class whose logit is positive, whatever the others are.

    Labels (N, C) mark each class with 1, 0, or -1 where it is not known; predictions (N, C) with 1 or 0. So
    each of the C classes is a decision of its own, between its logit and 0.
    """

    @property
    def several(self) -> bool:
        return True

    @property
    def measure(self) -> str:
        return "F1"

    @property
    def rule(self) -> str:
        return "every label whose score is positive"

    def predict(self, Z: Any) -> Any:
        """Which classes are there, (N, C) int64, for logits Z (N, C)."""
        return (Z > 0).astype(np.int64)

    def right(self, Z: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """Which decisions on known labels are right, (M,) bool. labels (N, C)."""
        found: np.ndarray = ((Z > 0) == labels)[labels >= 0]
        return found

    def decisions(self, predicted: np.ndarray, labels: np.ndarray) -> Decisions:
        """One for each label that is known, row by row. predicted, labels (N, C)."""
        of, number = np.nonzero(labels >= 0)
        return Decisions(number, predicted[of, number] == labels[of, number], of)

    def margin(self, Z: np.ndarray) -> np.ndarray:
        """How far each decision is from turning, (N, C)."""
        return np.abs(Z)


def classes_there(labels: np.ndarray) -> np.ndarray:
    """The classes that occur, ascending int64. labels (N,) : a class each; or (N, C), marks of several."""
    if labels.ndim == 2:
        return np.flatnonzero((labels == 1).any(axis=0))
    return np.unique(labels).astype(np.int64)


ONE_LABEL = Head()
SEVERAL_LABELS = SeveralLabels()
