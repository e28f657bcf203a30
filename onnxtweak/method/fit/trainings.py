"""How does an MLP do on samples held out? It is trained without each fold, at the weight decay that suits it.

The first fold decides on the decay; some of the samples that are learnt from say when training stops. The
MLP of all samples stops where most of those did. Steps on a few samples at a time leave the last biases
where these happened to take them, so that at the end they are set exactly (METHOD 7.1).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, partial
from types import ModuleType
from typing import Any

import numpy as np

from onnxtweak.engine.machine.large_arrays import copied, put_rows, summed, sums_by_rows, taken
from onnxtweak.engine.machine.single_thread import side_by_side
from onnxtweak.head import ONE_LABEL, Head
from onnxtweak.method.augment import Trained, train, train_together, training_library
from onnxtweak.method.fit.linear import AT_ONCE
from onnxtweak.method.folds import Arrays, Folds, Make, digest_of, one_in
from onnxtweak.method.softmax import sigmoid, softmax
from onnxtweak.method.table import Table
from onnxtweak.patch import Mlp
from onnxtweak.settings import AugmentSettings
from onnxtweak.types import Progress

# Weight decays tried, from strong to weak until the held-out log-loss no longer falls: small tables of many
# neurons need the strong one.
DECAYS = (10.0, 3.0, 1.0, 0.1)
# Folds that are asked, beside the first, whether to train on all others; two take as long as one.
_ASKED = 2
# One sample in this many decides when training stops.
_STOP = 8
# Multiplications of a step on a minibatch up to which those of several trainings are taken together.
_SMALL = 2**19
# Steps towards the last biases, at most, and how small one ends them.
_STEPS, _LEFT = 30, 1e-6


@dataclass(frozen=True, eq=False)
class Trainings:
    """MLPs on all columns of a table.

    kinds (N,) int64 : of the samples, by which those that stop the training are dealt out. folds : coarse; a
    copy goes where its original goes. xp : NumPy or CuPy, where they are trained. kept : as of `Folds`, but
    without steps. iterations : of each training, by the fold that it held out and its decay, once it is done.
    """

    inputs: Table
    kinds: np.ndarray
    folds: Folds
    settings: AugmentSettings
    head: Head
    xp: ModuleType
    kept: Callable[[str, Make], Arrays]
    iterations: dict[tuple[int, float], int] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        inputs: Table,
        kinds: np.ndarray,
        folds: Folds,
        hidden: int,
        *,
        kept: Callable[[str, Make], Arrays],
        head: Head = ONE_LABEL,
    ) -> Trainings:
        """With so many hidden units."""
        settings = AugmentSettings(hidden=hidden)
        return cls(inputs, kinds, folds, settings, head, training_library(inputs, settings), kept)

    @property
    def first(self) -> int:
        """The fold that decides on the decay."""
        return int(self.folds.numbers[0])

    def best(
        self, decays: Sequence[float], loss_of: Callable[[np.ndarray], float], progress: Progress
    ) -> tuple[float, np.ndarray]:
        """The best decay, and logits (n, C) of the first fold's samples under it.

        loss_of : the loss of such logits. Decays are tried until it no longer falls.
        """
        least, best, logits = np.inf, decays[0], taken(self.inputs.Z, self.folds.held_out(self.first))
        for decay, tried in zip(decays, self._of_first(decays), strict=True):
            progress.advance(1)
            loss = loss_of(tried)
            if loss >= least:
                break
            least, best, logits = loss, decay, tried
        return best, logits

    def held_out(
        self, decay: float, of_first: np.ndarray, progress: Progress
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Logits (N, C), and of which samples (N,) bool they are: of the first fold, of two more, of all.

        of_first : those of the first fold's samples. A caller that has seen enough saves the other trainings:
        the fold that has chosen the decay flatters it, and is no reason to train on all others.
        """
        found, others = copied(self.inputs.Z), [int(k) for k in self.folds.numbers if k != self.first]
        seen = self.folds.number == self.first
        put_rows(found, np.flatnonzero(seen), of_first)
        yield found, seen
        for more in (others[:_ASKED], others[_ASKED:]):
            for fold, logits in zip(more, self._each([(fold, decay) for fold in more]), strict=True):
                progress.advance(1)
                put_rows(found, self.folds.held_out(fold), logits)
            seen = seen | np.isin(self.folds.number, more)
            yield found, seen

    def whole(self, decay: float) -> Mlp:
        """The MLP of all samples, after as many iterations as the median of those that held a fold out.

        A stop of its own may come much earlier than theirs, by the luck of a few samples: it would add less
        than what was judged, and what biases were set for.
        """
        most = max(1, int(np.median([self.iterations[int(fold), decay] for fold in self.folds.numbers])))
        rows = np.arange(len(self.kinds))
        return self._trained(rows, replace(self.settings, decay=decay, iterations=most, patience=most)).patch

    def _each(self, tasks: Sequence[tuple[int, float]]) -> Iterator[np.ndarray]:
        """What each task holds out: two at a time on the CPU, one after the other on a GPU."""
        return side_by_side(self._of_fold, tasks, AT_ONCE) if self.xp is np else map(self._of_fold, tasks)

    def _of_first(self, decays: Sequence[float]) -> Iterator[np.ndarray]:
        """What the first fold holds out at each decay. Small steps are taken together: most of the time that
        one takes goes into starting its operations."""
        if len(decays) == 1 or self.xp is not np or not self._steps_are_small:
            return self._each([(self.first, decay) for decay in decays])
        rows, each = self.folds.learning(self.first), [replace(self.settings, decay=k) for k in decays]
        together = cache(lambda: self._new(rows, each))

        def tried(place: int) -> np.ndarray:
            return self._of_fold((self.first, decays[place]), lambda: together()[place])

        return map(tried, range(len(decays)))

    @property
    def _steps_are_small(self) -> bool:
        batch = min(self.settings.batch, len(self.kinds))
        return batch * self.settings.hidden * (self.inputs.T.shape[1] + self.inputs.Z.shape[1]) <= _SMALL

    def _of_fold(self, task: tuple[int, float], new: Callable[[], Trained] | None = None) -> np.ndarray:
        """What a fold holds out at a decay. new : trains it; None: by itself."""
        fold, decay = task
        found = self._trained(self.folds.learning(fold), replace(self.settings, decay=decay), new)
        self.iterations[task] = found.best.iteration
        return self.inputs.patched(None, found.patch, self.folds.held_out(fold))

    def _trained(
        self, rows: np.ndarray, settings: AugmentSettings, new: Callable[[], Trained] | None = None
    ) -> Trained:
        """The MLP of some rows, or an earlier run's. new : as of `_of_fold`."""

        def make() -> Arrays:
            found = self._new(rows, [settings])[0] if new is None else new()
            return replace(found, patch=found.patch.with_bias(self._last_biases(found.patch, rows))).arrays

        what = f"MLP {settings.hidden} {settings.decay} {settings.iterations} {digest_of(rows)}"
        return Trained.of_arrays(self.kept(what, make))

    def _new(self, rows: np.ndarray, each: Sequence[AugmentSettings]) -> list[Trained]:
        """MLPs of some rows, as of `train_together`; their last biases are as the last steps left them."""
        first = rows[: len(rows) // self.folds.copies]
        groups = None if self.inputs.groups is None else self.inputs.groups[first]
        stop = np.tile(one_in(_STOP, self.kinds[first], self.folds.seed, groups), self.folds.copies)
        # Of all samples, the end of training is known: those that would tell it are learnt from, too.
        learnt = self.inputs if len(rows) == len(self.kinds) else self.inputs.rows(rows[~stop])
        stopping = self.inputs.rows(rows[stop])
        options: dict[str, Any] = {"head": self.head, "seed": self.folds.seed, "xp": self.xp}
        if len(each) == 1:
            return [train(learnt, stopping, each[0], **options)]
        return train_together(learnt, stopping, each, **options)

    def _last_biases(self, patch: Mlp, rows: np.ndarray) -> np.ndarray:
        """What the biases (C,) of a trained MLP lack: with it each class is expected as often as it occurs.

        rows (n,) int64 : those that it was trained on, among them those that stopped it.
        """
        logits = self.inputs.patched(None, patch, rows)
        weight = None if self.inputs.weight is None else self.inputs.weight[rows]
        if self.head.several:
            return label_biases(logits, self.inputs.truth[rows], weight)
        return class_biases(logits, self.inputs.labels[rows], weight)


def class_biases(logits: np.ndarray, labels: np.ndarray, weight: np.ndarray | None) -> np.ndarray:
    """What each class lacks, (C,) float64, to be expected as often as it occurs; by iterative scaling.

    logits (N, C). labels (N,) int64. weight (N,) : how much a sample counts; None: all alike. A class that
    does not occur lacks nothing.
    """
    counts = np.bincount(labels, weight, logits.shape[1])
    (there,) = counts.nonzero()
    bias, shift = np.zeros(logits.shape[1]), np.full(logits.shape[1], -np.inf)
    column = np.ones((len(labels), 1)) if weight is None else weight[:, None]
    for _ in range(_STEPS):
        shift[there] = bias[there]
        now = shift.astype(logits.dtype)
        expected = sums_by_rows(lambda Z, w, now=now: softmax(Z + now) * w, logits, column)[there]
        step = np.log(counts[there] / np.maximum(expected, 1e-300))
        bias[there] += step
        if np.abs(step).max() < _LEFT:
            break
    bias[there] -= bias[there].mean()
    return bias


def _expected(bias: np.ndarray, logits: np.ndarray, truth: np.ndarray, count: np.ndarray) -> np.ndarray:
    """How much of each label (n, C) is expected with biases (C,), where it is known."""
    return (truth >= 0) * count * sigmoid(logits.astype(np.float64) + bias)


def label_biases(logits: np.ndarray, truth: np.ndarray, weight: np.ndarray | None) -> np.ndarray:
    """What each of several labels lacks, (C,) float64, to be expected as often as it is there.

    logits (N, C). truth (N, C) : 1 or 0, or a share between them; below 0 where it is not known. weight
    (N,) : how much a sample counts; None: all alike. A label that is everywhere or nowhere lacks nothing.
    """
    count = np.ones((len(truth), 1)) if weight is None else weight[:, None]
    whole = np.maximum(summed(lambda t, w: (t >= 0) * w, truth, count), 1e-300)
    share = summed(lambda t, w: np.maximum(t, 0) * w, truth, count) / whole
    (varied,) = np.nonzero((share > 0) & (share < 1))
    bias, wanted = np.zeros(logits.shape[1]), np.log(share[varied]) - np.log1p(-share[varied])
    for _ in range(_STEPS):
        # The log-odds of the mean rise by no more than a bias does, so that no step goes too far.
        expected = summed(partial(_expected, bias), logits, truth, count)[varied] / whole[varied]
        expected = np.clip(expected, 1e-12, 1 - 1e-12)
        step = wanted - np.log(expected) + np.log1p(-expected)
        bias[varied] += step
        if np.abs(step).max(initial=0.0) < _LEFT:
            break
    return bias
