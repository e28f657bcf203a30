"""How is the MLP of augmentation with active neurons trained (METHOD 6, thesis chapter 4)?

The MLP reads table T alone and its output is added to the base's logits: the base is never run. Its last
layer starts at zero, so training starts at the base. The arithmetic is written once against `xp`, which is
NumPy or CuPy; random numbers always come from NumPy, so that both see the same weights and the same batches.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from types import ModuleType
from typing import Any

import numpy as np

from onnxtweak.engine.machine.single_thread import single_thread
from onnxtweak.engine.workers.learning_device import on_host
from onnxtweak.goal import ResolvedGoal
from onnxtweak.head import ONE_LABEL, Head, classes_there
from onnxtweak.method.cross_entropy import ONE_OF_MANY, OneOfMany, loss_of
from onnxtweak.method.minibatches import made_of_rows, minibatches
from onnxtweak.method.softmax import sigmoid
from onnxtweak.method.solvers.standard import mean_and_scale, standardised
from onnxtweak.method.table import Table
from onnxtweak.method.temperature import calibrate_labels, fit_temperature
from onnxtweak.method.tuning.label_bias import best_biases
from onnxtweak.patch import Mlp
from onnxtweak.settings import AugmentSettings
from onnxtweak.types import Progress, silent

# Adam's usual constants.
_FIRST, _SECOND, _TINY = 0.9, 0.999, 1e-8
# A neuron that is near 0 on nearly all fit samples deviates little there. Scaled to unit deviation it would
# be in the thousands where it is active: no deviation counts as smaller than this share of the median one.
_LEAST_DEVIATION = 0.1
# Validation samples that go through the MLP at a time.
_CHUNK = 4096


@dataclass(frozen=True)
class TrainingCheck:
    """The state of training, on validation. loss : mean cross-entropy in nats. right : samples right."""

    iteration: int
    loss: float
    right: int


@dataclass(frozen=True)
class Trained:
    """The MLP of the best checkpoint, and all checkpoints in order; the first is the base."""

    patch: Mlp
    best: TrainingCheck
    checkpoints: tuple[TrainingCheck, ...]

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """All of it as arrays."""
        checks = [(check.iteration, check.loss, check.right) for check in self.checkpoints]
        best = self.checkpoints.index(self.best)
        return {**self.patch.arrays, "checkpoints": np.array(checks, np.float64), "best": np.array(best)}

    @classmethod
    def of_arrays(cls, found: Mapping[str, np.ndarray]) -> Trained:
        """What `arrays` gave."""
        patch = Mlp(**{name: found[name] for name in ("w1", "b1", "w2", "b2")})
        checks = tuple(TrainingCheck(int(k), float(loss), int(n)) for k, loss, n in found["checkpoints"])
        return cls(patch, checks[int(found["best"])], checks)


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
    get no weight, and samples count as much as the tables say. Of several labels at once, what is learnt is
    `Table.truth`. xp : NumPy or CuPy, where the arithmetic is done.
    """
    present, entropy = classes_there(fit.labels), loss_of(head)
    mean, inverse = mean_and_inverse(fit.T)
    rng = np.random.default_rng(seed)
    T = made_of_rows(xp, fit.T, partial(standardised, mean=mean, inverse=inverse))
    Z = made_of_rows(xp, fit.Z, lambda Z: _float(Z[:, present]))
    truth = xp.asarray(entropy.truth(_learnt(fit, head), present))
    weight = _counts(xp, fit)
    judge = _Judge(xp, head, validation, mean, inverse, present)
    adam = Adam(
        xp, first_weights(rng, len(mean), settings.hidden, len(present)), settings.rate, settings.decay
    )
    parameters = adam.parameters
    batch = min(settings.batch, len(T))
    every = max(10, min(200, len(T) // (2 * batch)))
    checkpoints = [judge.check(0, parameters)]
    best, best_parameters = checkpoints[0], [p.copy() for p in parameters]
    progress.start("train", settings.iterations, "iterations")
    batches = minibatches(xp, (T, Z), rng, batch, settings.iterations)
    with single_thread():  # the products of a minibatch are small
        for iteration, (rows, inputs, offsets) in enumerate(batches, start=1):
            counts = None if weight is None else weight[rows]
            adam.step(gradients(xp, parameters, inputs, offsets, truth[rows], entropy, counts))
            if iteration % every and iteration != settings.iterations:
                continue
            checkpoints.append(judge.check(iteration, parameters))
            progress.advance(iteration - checkpoints[-2].iteration)
            if checkpoints[-1].loss < best.loss:
                best, best_parameters = checkpoints[-1], [p.copy() for p in parameters]
            if len(checkpoints) - 1 - checkpoints.index(best) >= settings.patience:
                break
    progress.finish()
    on_cpu = [on_host(p).astype(np.float64) for p in best_parameters]
    patch = folded(on_cpu, (mean, inverse), present, fit.Z.shape[1], entropy)
    return Trained(patch, best, tuple(checkpoints))


def train_calibrated(
    fit: Table,
    validation: Table,
    goal: ResolvedGoal,
    settings: AugmentSettings,
    *,
    seed: int = 0,
    xp: ModuleType = np,
    progress: Progress = silent,
) -> Trained:
    """`train` on logits that tell the truth, and the patch for those that the model has (METHOD 7.1).

    Of several labels at once, each is calibrated by a slope and a bias, and what is added puts its threshold
    where F1 is best on validation (METHOD 17).
    """
    trained = partial(train, settings=settings, head=goal.head, seed=seed, xp=xp, progress=progress)
    if not goal.head.several:
        temperature = fit_temperature(validation.Z, validation.labels)
        found = trained(fit.cooled(temperature), validation.cooled(temperature))
        return replace(found, patch=found.patch.scaled(temperature))
    slope, shift = calibrate_labels(validation.Z, validation.labels)
    cool = [(table.Z * slope + shift).astype(table.Z.dtype) for table in (fit, validation)]
    found = trained(replace(fit, Z=cool[0]), replace(validation, Z=cool[1]))
    logits = replace(validation, Z=cool[1]).patched(None, found.patch)
    shift = shift + best_biases(logits, validation.labels, sigmoid(logits.astype(np.float64)))
    learnt = np.isin(np.arange(len(slope)), classes_there(fit.labels))
    patch = replace(
        found.patch, w2=found.patch.w2 / slope, b2=np.where(learnt, (found.patch.b2 + shift) / slope, 0.0)
    )
    return replace(found, patch=patch)


def training_library(table: Table, settings: AugmentSettings) -> ModuleType:
    """Where a table is best trained on: with small minibatches a GPU would mostly wait to be started."""
    (samples, neurons), classes = table.T.shape, table.Z.shape[1]
    product = min(settings.batch, samples) * settings.hidden * max(neurons, classes)
    return table.device.library(product, 3 * samples * (neurons + classes))


def forward(xp: ModuleType, parameters: Sequence[Any], T: Any) -> Any:
    """What the MLP adds to the logits: (N, C) for T (N, K). parameters : w1, b1, w2, b2."""
    w1, b1, w2, b2 = parameters
    return xp.maximum(T @ w1 + b1, 0) @ w2 + b2


def gradients(
    xp: ModuleType,
    parameters: Sequence[Any],
    T: Any,
    Z: Any,
    truth: Any,
    entropy: OneOfMany = ONE_OF_MANY,
    weight: Any = None,
) -> list[Any]:
    """Gradients of the mean cross-entropy of `Z + MLP(T)` in w1, b1, w2, b2.

    truth : as `entropy` has it. weight (n,) : how much each sample counts; None: all alike.
    """
    w1, b1, w2, b2 = parameters
    hidden = xp.maximum(T @ w1 + b1, 0)
    error = entropy.error(xp, Z + hidden @ w2 + b2, truth)
    error /= len(T)
    if weight is not None:
        error *= weight[:, None]
    back = (error @ w2.T) * (hidden > 0)
    return [T.T @ back, back.sum(axis=0), hidden.T @ error, error.sum(axis=0)]


class Adam:
    """Adam with decoupled weight decay on the matrices; updates `parameters` in place.

    The parameters are views of one vector, for a GPU takes longer to start an operation than to do it.
    """

    def __init__(self, xp: ModuleType, start: Sequence[Any], rate: float, decay: float) -> None:
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


def first_weights(rng: np.random.Generator, inputs: int, hidden: int, classes: int) -> list[np.ndarray]:
    """First layer drawn as in He et al., last layer zero: the MLP adds nothing yet."""
    w1 = rng.standard_normal((inputs, hidden), np.float32) * np.float32(math.sqrt(2 / max(inputs, 1)))
    shapes = ((hidden,), (hidden, classes), (classes,))
    return [w1, *(np.zeros(shape, np.float32) for shape in shapes)]


def mean_and_inverse(T: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean (K,) and 1/deviation (K,) of the columns, float64; 0 for a constant column."""
    mean, scale = mean_and_scale(T)
    varies = np.isfinite(scale)
    if varies.any():
        scale = np.maximum(scale, _LEAST_DEVIATION * np.median(scale[varies]))
    return mean, 1.0 / scale


def _learnt(table: Table, head: Head) -> np.ndarray:
    """What the loss is about: labels, or of several at once marks, which may be shares."""
    return table.truth if head.several else table.labels


def _counts(xp: ModuleType, table: Table) -> Any:
    """How much each sample counts, (N,) float32 with a mean of 1; None: all alike."""
    if table.weight is None:
        return None
    return xp.asarray((table.weight / table.weight.mean()).astype(np.float32))


def _float(Z: np.ndarray) -> np.ndarray:
    """Logits as float32, the dtype of training; an infinite logit is as good as a very large one."""
    return np.nan_to_num(Z.astype(np.float32), nan=0.0, posinf=1e30, neginf=-1e30)


class _Judge:
    """Validation, where training is checked. present : the classes (C',) that the MLP has outputs for."""

    def __init__(
        self,
        xp: ModuleType,
        head: Head,
        validation: Table,
        mean: np.ndarray,
        inverse: np.ndarray,
        present: np.ndarray,
    ) -> None:
        self.xp, self.head, self.present, self.entropy = xp, head, xp.asarray(present), loss_of(head)
        self.T = made_of_rows(xp, validation.T, partial(standardised, mean=mean, inverse=inverse))
        self.Z, self.labels = made_of_rows(xp, validation.Z, _float), xp.asarray(validation.labels)
        self.truth, self.weight = xp.asarray(_learnt(validation, head)), _counts(xp, validation)

    def check(self, iteration: int, parameters: Sequence[Any]) -> TrainingCheck:
        xp, loss, right = self.xp, 0.0, 0
        for start in range(0, len(self.T), _CHUNK):
            part = slice(start, start + _CHUNK)
            logits, labels = self.Z[part].copy(), self.labels[part]
            logits[:, self.present] += forward(xp, parameters, self.T[part])
            weight = None if self.weight is None else self.weight[part]
            loss += self.entropy.total(xp, logits, self.truth[part], weight)
            right += int((self.head.predict(logits) == labels).sum())
        return TrainingCheck(iteration, loss / max(len(self.T), 1), right)


def folded(
    parameters: Sequence[np.ndarray],
    standard: tuple[np.ndarray, np.ndarray],
    present: np.ndarray,
    classes: int,
    entropy: OneOfMany,
) -> Mlp:
    """The MLP on raw values: the standardisation folded into the first layer, zeros for absent classes.

    standard : mean and 1/deviation of the columns. What is added to all present classes alike decides nothing
    among them, and is subtracted, so that it does not lift them above the absent ones.
    """
    (w1, b1, w2, b2), (mean, inverse) = parameters, standard
    first = w1 * inverse[:, None]
    all_w2, all_b2 = np.zeros((len(b1), classes)), np.zeros(classes)
    all_w2[:, present], all_b2[present] = entropy.centred(w2), entropy.centred(b2)
    return Mlp(w1=first, b1=b1 - mean @ first, w2=all_w2, b2=all_b2)
