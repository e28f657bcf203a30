"""Does one hidden layer do better for several labels than weights of their own (METHOD 6, 17)?

All labels share the layer. Each takes of it as much as does best on samples held out: nothing, all, or its
mean with the linear weights.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from onnxtweak.data.several.marks import rarest
from onnxtweak.engine.machine.columns import columns_of
from onnxtweak.engine.machine.large_arrays import copied, in_blocks, put_rows
from onnxtweak.head import SEVERAL_LABELS
from onnxtweak.method.fit.candidate import WORTH_HIDDEN, simplest
from onnxtweak.method.fit.positions.context import bent
from onnxtweak.method.fit.several.problem import MarksProblem
from onnxtweak.method.fit.several.weights import LabelWeights
from onnxtweak.method.fit.trainings import DECAYS, Trainings
from onnxtweak.method.folds import Arrays, Make, digest_of
from onnxtweak.method.patch_sum import added
from onnxtweak.method.table import Table
from onnxtweak.patch import Linear, Mlp
from onnxtweak.types import Progress

# How much of the hidden layer a label may take, from simple to complex; the rest is linear.
_SHARES = (0.0, 1.0, 0.5)


@dataclass(frozen=True, eq=False)
class HiddenMarks:
    """The hidden layer and linear weights; the rest as of `LabelWeights`.

    share (c,) : of the hidden layer, for each label. own, read (k,) : name of the columns that it reads, and
    which of the linear weights' these are. decay : it was trained with.
    """

    linear: LabelWeights
    own: str
    read: np.ndarray
    trainings: Trainings
    decay: float
    share: np.ndarray
    held_out: np.ndarray

    @property
    def name(self) -> str:
        hidden = self.trainings.settings.hidden
        return f"{self.own}, {hidden} hidden units, decay {self.decay:g}"

    @property
    def columns(self) -> np.ndarray:
        return self.linear.columns

    @property
    def described(self) -> str:
        whole, half = (int((self.share == share).sum()) for share in (1.0, 0.5))
        return f"{self.linear.described}; {self.name} for {whole}, their mean for {half} labels"

    def patch(self, problem: MarksProblem, chosen: np.ndarray) -> tuple[Linear | Mlp, tuple[str, ...]]:
        """As of `LabelWeights`."""
        scale = chosen * self.share / problem.slope
        found = self.trainings.whole(self.decay).by_class(scale)
        mlp = replace(found, b2=found.b2 + problem.shift * scale)
        mlp = mlp.placed(problem.targets, problem.classes)
        rest = problem.whole(chosen * (1 - self.share))
        if not rest.any() and len(self.read) == len(self.columns):
            return mlp, ()
        linear, notes = self.linear.patch(problem, chosen)
        assert isinstance(linear, Linear)  # what it is a share of
        linear = Linear(linear.weight * rest, linear.bias * rest)
        patch = added(mlp, self.read, linear, len(self.columns))
        assert isinstance(patch, Linear | Mlp)
        return (patch if (chosen * self.share).any() else linear), notes


def with_hidden_layer(
    linear: LabelWeights, problem: MarksProblem, table: Table, hidden: int, progress: Progress
) -> LabelWeights:
    """The labels' weights, each with what it gains by one hidden layer; as they are where none does.

    linear : on some columns of the table, every sample held out. hidden : units. The decay is chosen on the
    first coarse fold; where no label does better there, or on that and two more, no other is trained on.
    """
    folds = problem.folds.coarse
    calibrated = replace(table, Z=problem.cool, labels=problem.marks, shares=_shares(problem))
    kinds = rarest(problem.marks)
    rows = folds.held_out(int(folds.numbers[0]))
    first = np.isin(np.arange(len(kinds)), rows)
    tried = copied(problem.cool)

    def loss_of(logits: np.ndarray) -> float:
        put_rows(tried, rows, logits)
        return float(problem.loss_of_labels(tried, first & folds.judged).sum())

    progress.start("train a hidden layer", len(DECAYS) + len(folds.numbers) - 1, "trainings")
    each = []
    for name, columns in bent(table, linear.name, linear.columns):

        def kept(what: str, make: Make, of: str = digest_of(columns)) -> Arrays:
            return problem.kept(f"{what} of {of}", make)

        trainings = Trainings.of(
            calibrated.columns(columns), kinds, folds, hidden, kept=kept, head=SEVERAL_LABELS
        )
        each.append((name, columns, trainings, *trainings.best(DECAYS, loss_of, progress)))
    name, columns, trainings, decay, of_first = min(each, key=lambda one: loss_of(one[-1]))
    found: LabelWeights = linear
    for held_out, seen in trainings.held_out(decay, of_first, progress):
        share = _best_shares(problem, linear.held_out, held_out, seen)
        if not share.any():
            break
    else:
        mixed = _mixed(linear.held_out, held_out, share)
        read = np.flatnonzero(np.isin(linear.columns, columns))
        found = HiddenMarks(linear, name, read, trainings, decay, share, mixed)
    progress.finish()
    return found


def _shares(problem: MarksProblem) -> np.ndarray | None:
    """What is learnt, where that is not the marks."""
    return None if problem.truth is problem.marks else problem.known_truth(np.empty(0, np.int64))


def _mixed(linear: np.ndarray, hidden: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Logits (N, c), of which each label takes a share (c,) of the hidden layer's."""

    def of_rows(linear: np.ndarray, hidden: np.ndarray) -> np.ndarray:
        found: np.ndarray = (linear * (1 - share) + hidden * share).astype(hidden.dtype)
        return found

    return in_blocks(of_rows, linear, hidden)


def _best_shares(
    problem: MarksProblem, linear: np.ndarray, hidden: np.ndarray, rows: np.ndarray
) -> np.ndarray:
    """How much of the hidden layer each label should take, (c,), judged on some rows (N,) bool.

    linear, hidden (N, c) : calibrated logits, held out.
    """
    counted, found = rows & problem.folds.judged, list[int]()
    each = zip(*map(columns_of, (problem.cool, linear, hidden)), strict=True)
    for c, (cool, one, other) in enumerate(each):
        known = counted & (problem.marks[:, c] >= 0)
        base = problem.losses_of_label(c, cool)[known]
        mixed = (one * (1 - share) + other * share for share in _SHARES)
        losses = [problem.losses_of_label(c, logits)[known] for logits in mixed]
        found.append(simplest(losses, base, WORTH_HIDDEN))
    return np.array(_SHARES)[found]
