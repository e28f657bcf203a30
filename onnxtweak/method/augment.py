"""Augmentation with active neurons (METHOD 6, thesis chapter 4): which neurons, and how is the MLP trained?

The MLP reads table T alone and its output is added to the base's logits: the base is never run. Its last
layer starts at zero, so training starts at the base. The code below is written once against `xp`, which is
NumPy or CuPy; random numbers always come from NumPy, so that both see the same weights and the same batches.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np

from onnxtweak.errors import ModelError
from onnxtweak.goal import Goal
from onnxtweak.head import ONE_LABEL, Head
from onnxtweak.method.selection.candidates import Candidates
from onnxtweak.method.selection.ranking import Ranking, rank
from onnxtweak.method.solvers.standard import mean_and_scale
from onnxtweak.method.table import Table
from onnxtweak.patch import Mlp
from onnxtweak.settings import AugmentSettings
from onnxtweak.theta.line_search import net_gain
from onnxtweak.types import Neurons, Progress, Tap, silent

# Adam's usual constants.
_FIRST, _SECOND, _TINY = 0.9, 0.999, 1e-8
# A neuron that is silent on nearly all fit samples deviates little there. Scaled to unit deviation it would
# be thousands where it speaks elsewhere: no deviation counts as smaller than this share of the median one.
_QUIET = 0.1
# Turns of all classes in the search for biases.
_TURNS = 5
# Samples of validation that go through the MLP at a time.
_CHUNK = 4096


@dataclass(frozen=True)
class TrainingCheck:
    """How training stood on validation. loss : mean cross-entropy in nats. right : samples that are right."""

    iteration: int
    loss: float
    right: int


@dataclass(frozen=True)
class Trained:
    """The MLP of the best checkpoint, and all checkpoints in order; the first is the base's."""

    patch: Mlp
    best: TrainingCheck
    checkpoints: tuple[TrainingCheck, ...]


def active_neurons(
    best: Sequence[Candidates], taps: Sequence[Tap], names: Sequence[str], criterion: str, count: int
) -> tuple[Neurons, tuple[str, ...]]:
    """The top neurons of every class, united: rank 1 of each class, then rank 2, until there are `count`.

    best, names : of the classes that theta was computed for. Also returns the names of those classes that no
    neuron can help. Raises ModelError when that is all of them.
    """
    rankings: list[Ranking] = []
    helpless = []
    for of_class, name in zip(best, names, strict=True):
        try:
            rankings.append(rank(of_class, taps, criterion, count, f"class {name}"))
        except ModelError:
            helpless.append(name)
    if not rankings:
        raise ModelError(
            "no hidden neuron can raise any class without breaking a sample that is right",
            hint="watch other tensors with --taps, or give more samples",
        )
    starts = np.cumsum([0, *(tap.neurons for tap in taps)])
    numbers = [starts[r.neurons.tap_of] + r.neurons.index for r in rankings]
    # (rank, class) order: every class gives its best before any gives its second best.
    turn = np.concatenate([np.arange(len(of_class)) * len(numbers) + j for j, of_class in enumerate(numbers)])
    merged = np.concatenate(numbers)[np.argsort(turn)]
    _, first = np.unique(merged, return_index=True)
    chosen = np.sort(merged[np.sort(first)[:count]])
    tap_of = np.searchsorted(starts, chosen, side="right") - 1
    neurons = Neurons(tuple(taps), tap_of.astype(np.int32), (chosen - starts[tap_of]).astype(np.int64))
    return neurons, tuple(helpless)


def train(
    fit: Table,
    validation: Table,
    settings: AugmentSettings,
    *,
    head: Head = ONE_LABEL,
    seed: int = 0,
    xp: ModuleType = np,
    progress: Progress = silent,
) -> Trained:
    """Train `T -> hidden (ReLU) -> C` on `cross-entropy(Z + MLP(T))` with Adam; stop early on validation.

    Classes without a fit sample are left out of the loss: nothing pushes their logits. Constant columns of T
    get no weight. xp : NumPy or CuPy, where the arithmetic is done.
    """
    present = np.unique(fit.labels)
    mean, inverse = _standard(fit.T)
    rng = np.random.default_rng(seed)
    T, Z = (xp.asarray(a) for a in (_standardised(fit.T, mean, inverse), _float(fit.Z[:, present])))
    labels = xp.asarray(np.searchsorted(present, fit.labels))
    T_val = xp.asarray(_standardised(validation.T, mean, inverse))
    Z_val, labels_val = xp.asarray(_float(validation.Z)), xp.asarray(validation.labels)
    present_xp = xp.asarray(present)
    adam = _Adam(xp, _start(rng, len(mean), settings.hidden, len(present)), settings.rate, settings.decay)
    parameters = adam.parameters

    def judged(iteration: int) -> TrainingCheck:
        return _judge(xp, head, parameters, iteration, T_val, Z_val, labels_val, present_xp)

    batch = min(settings.batch, len(T))
    every = max(10, min(200, len(T) // (2 * batch)))
    checkpoints = [judged(0)]
    best, kept = checkpoints[0], [p.copy() for p in parameters]
    progress.start("train", settings.iterations, "iterations")
    for iteration, rows in enumerate(_batches(xp, rng, len(T), batch, settings.iterations), start=1):
        adam.step(gradients(xp, parameters, T[rows], Z[rows], labels[rows]))
        if iteration % every and iteration != settings.iterations:
            continue
        checkpoints.append(judged(iteration))
        progress.advance(iteration - checkpoints[-2].iteration)
        if checkpoints[-1].loss < best.loss:
            best, kept = checkpoints[-1], [p.copy() for p in parameters]
        if len(checkpoints) - 1 - checkpoints.index(best) >= settings.patience:
            break
    progress.finish()
    whole = [np.asarray(p.get() if hasattr(p, "get") else p, np.float64) for p in kept]
    return Trained(_folded(whole, mean, inverse, present, fit.Z.shape[1]), best, tuple(checkpoints))


def forward(xp: ModuleType, parameters: Sequence[Any], T: Any) -> Any:
    """What the MLP adds to the logits: (N, C) for T (N, K). parameters : w1, b1, w2, b2."""
    w1, b1, w2, b2 = parameters
    return xp.maximum(T @ w1 + b1, 0) @ w2 + b2


def gradients(xp: ModuleType, parameters: Sequence[Any], T: Any, Z: Any, labels: Any) -> list[Any]:
    """Gradients of the mean cross-entropy of `Z + MLP(T)` in w1, b1, w2, b2."""
    w1, b1, w2, b2 = parameters
    hidden = xp.maximum(T @ w1 + b1, 0)
    error = _softmax(xp, Z + hidden @ w2 + b2)
    error[xp.arange(len(T)), labels] -= 1
    error /= len(T)
    back = (error @ w2.T) * (hidden > 0)
    return [T.T @ back, back.sum(axis=0), hidden.T @ error, error.sum(axis=0)]


def overall_bias(Z: np.ndarray, labels: np.ndarray, goal: Goal) -> np.ndarray:
    """The control: biases (c,) float64 of the targets with the best overall accuracy, one after the other.

    Each is exact while the others hold still; the classes take turns until none gains. Z (N, C); labels (N,).
    """
    logits = Z.astype(np.float64)
    ones, bias = np.ones(len(Z)), np.zeros(len(goal))
    for _ in range(_TURNS):
        gained = 0
        for c, j in enumerate(goal.targets):
            own = logits[:, j].copy()
            logits[:, j] = -np.inf
            value, rival = goal.head.best(logits)
            gain = (labels == j).astype(np.int64) - (labels == rival)
            step, more = net_gain(ones, value - own, gain)
            logits[:, j] = own + step
            bias[c] += step
            gained += more
        if not gained:
            break
    return bias


class _Adam:
    """Adam with decoupled weight decay on the matrices; updates `parameters` in place.

    The parameters are views of one vector, for a GPU takes longer to start an operation than to do it.
    """

    def __init__(self, xp: ModuleType, start: Sequence[Any], rate: float, decay: float):
        self.xp, self.rate = xp, rate
        self.whole = xp.concatenate([xp.asarray(p).ravel() for p in start])
        ends = np.cumsum([0, *(p.size for p in start)])
        parts = [self.whole[a:b] for a, b in zip(ends[:-1], ends[1:], strict=True)]
        self.parameters = [part.reshape(p.shape) for part, p in zip(parts, start, strict=True)]
        self.mean, self.square = xp.zeros_like(self.whole), xp.zeros_like(self.whole)
        self.shrink = 1 - rate * decay
        self.steps = 0

    def step(self, gradients: Sequence[Any]) -> None:
        self.steps += 1
        unbiased = math.sqrt(1 - _SECOND**self.steps) / (1 - _FIRST**self.steps)
        g = self.xp.concatenate([gradient.ravel() for gradient in gradients])
        self.mean *= _FIRST
        self.mean += (1 - _FIRST) * g
        self.square *= _SECOND
        g *= g
        g *= 1 - _SECOND
        self.square += g
        for p in self.parameters:
            if p.ndim == 2:
                p *= self.shrink
        step = self.xp.sqrt(self.square)
        step += _TINY
        self.xp.divide(self.mean, step, out=step)
        step *= self.rate * unbiased
        self.whole -= step


def _start(rng: np.random.Generator, inputs: int, hidden: int, classes: int) -> list[np.ndarray]:
    """First layer as He et al. draw it, last layer zero: the MLP adds nothing yet."""
    w1 = rng.standard_normal((inputs, hidden), np.float32) * np.float32(math.sqrt(2 / max(inputs, 1)))
    shapes = ((hidden,), (hidden, classes), (classes,))
    return [w1, *(np.zeros(shape, np.float32) for shape in shapes)]


def _batches(xp: ModuleType, rng: np.random.Generator, samples: int, batch: int, iterations: int):
    """Rows of each minibatch: shuffled anew for every epoch, the incomplete last one left out."""
    done = 0
    while done < iterations:
        order = xp.asarray(rng.permutation(samples))
        for start in range(0, samples - batch + 1, batch):
            yield order[start : start + batch]
            done += 1
            if done == iterations:
                return


def _standard(T: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean (K,) and 1/deviation (K,) of the columns, float64, with a floor; 0 for a constant column."""
    mean, scale = mean_and_scale(T)
    varies = np.isfinite(scale)
    if varies.any():
        scale = np.maximum(scale, _QUIET * np.median(scale[varies]))
    return mean, 1.0 / scale


def _standardised(T: np.ndarray, mean: np.ndarray, inverse: np.ndarray) -> np.ndarray:
    out = np.subtract(T, mean.astype(np.float32), dtype=np.float32)
    out *= inverse.astype(np.float32)
    return out


def _float(Z: np.ndarray) -> np.ndarray:
    """Logits as float32, the dtype of training; an infinite logit is as good as a very large one."""
    return np.nan_to_num(Z.astype(np.float32), nan=0.0, posinf=1e30, neginf=-1e30)


def _softmax(xp: ModuleType, Z: Any) -> Any:
    e = xp.exp(Z - Z.max(axis=1, keepdims=True))
    e /= e.sum(axis=1, keepdims=True)
    return e


def _judge(xp, head, parameters, iteration, T, Z, labels, present) -> TrainingCheck:
    loss, right = 0.0, 0
    for start in range(0, len(T), _CHUNK):
        part = slice(start, start + _CHUNK)
        logits = Z[part].copy()
        logits[:, present] += forward(xp, parameters, T[part])
        own = logits[xp.arange(len(logits)), labels[part]]
        top = logits.max(axis=1)
        loss += float((top + xp.log(xp.exp(logits - top[:, None]).sum(axis=1)) - own).sum(dtype=np.float64))
        right += int((head.predict(logits) == labels[part]).sum())
    return TrainingCheck(iteration, loss / max(len(T), 1), right)


def _folded(
    parameters: Sequence[np.ndarray], mean: np.ndarray, inverse: np.ndarray, present: np.ndarray, classes: int
) -> Mlp:
    """The MLP on raw values: the standardisation folded into the first layer, absent classes given back.

    What is added to all present classes alike decides nothing among them, and is taken away, so that it does
    not lift them above the absent ones.
    """
    w1, b1, w2, b2 = parameters
    folded = w1 * inverse[:, None]
    whole, bias = np.zeros((len(b1), classes)), np.zeros(classes)
    whole[:, present] = w2 - w2.mean(axis=1, keepdims=True)
    bias[present] = b2 - b2.mean()
    return Mlp(w1=folded, b1=b1 - mean @ folded, w2=whole, b2=bias)
