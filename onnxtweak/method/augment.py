"""How is the MLP of augmentation with active neurons trained (METHOD 6, thesis chapter 4)?

The MLP reads table T alone and its output is added to the base's logits: the base is never run. Its last
layer starts at zero, so training starts at the base. The arithmetic is written once against `xp`, which is
NumPy or CuPy; random numbers always come from NumPy, so that both see the same weights and the same batches.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from types import ModuleType
from typing import Any

import numpy as np

from onnxtweak.engine.machine.large_arrays import in_blocks
from onnxtweak.engine.machine.single_thread import single_thread
from onnxtweak.engine.workers.learning_device import on_host
from onnxtweak.goal import ResolvedGoal
from onnxtweak.head import ONE_LABEL, Head, classes_there
from onnxtweak.method.descent.cross_entropy import OneOfMany, loss_of
from onnxtweak.method.descent.minibatches import made_of_rows, minibatches
from onnxtweak.method.descent.steps import Adam, first_weights, forward, gradients
from onnxtweak.method.solvers.standard import mean_and_scale, standardised
from onnxtweak.method.table import Table
from onnxtweak.method.temperature import calibrate_labels, fit_temperature
from onnxtweak.method.tuning.label_bias import best_biases
from onnxtweak.patch import Mlp
from onnxtweak.settings import AugmentSettings
from onnxtweak.types import Progress, silent

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
    return train_together(fit, validation, [settings], head=head, seed=seed, xp=xp, progress=progress)[0]


def train_together(
    fit: Table,
    validation: Table,
    each: Sequence[AugmentSettings],
    *,
    head: Head = ONE_LABEL,
    seed: int = 0,
    xp: ModuleType = np,
    progress: Progress = silent,
) -> list[Trained]:
    """`train` under settings that differ in their weight decay alone: each MLP is what it would be by itself.

    All see the same minibatches. Of small products, a step of all takes little longer than one's.
    """
    settings, decays = each[0], [own.decay for own in each]
    present, entropy = classes_there(fit.labels), loss_of(head)
    mean, inverse = mean_and_inverse(fit.T)
    rng = np.random.default_rng(seed)
    T = made_of_rows(xp, fit.T, partial(standardised, mean=mean, inverse=inverse))
    Z = made_of_rows(xp, fit.Z, lambda Z: _float(np.take(Z, present, axis=1)))
    truth = xp.asarray(entropy.truth(_learnt(fit, head), present))
    weight = _counts(xp, fit)
    judge = _Judge(xp, head, validation, mean, inverse, present)
    start = first_weights(rng, len(mean), settings.hidden, len(present))
    adam = Adam(xp, start, settings.rate, decays if len(decays) > 1 else decays[0])
    batch = min(settings.batch, len(T))
    every = max(10, min(200, len(T) // (2 * batch)))
    check = judge.check(0, adam.each[0])
    courses = [_Course([check], check, [p.copy() for p in parameters]) for parameters in adam.each]
    going = list(range(len(courses)))
    progress.start("train", settings.iterations, "iterations")
    batches = minibatches(xp, (T, Z), rng, batch, settings.iterations)
    with single_thread():  # the products of a minibatch are small
        for iteration, (rows, inputs, offsets) in enumerate(batches, start=1):
            counts = None if weight is None else weight[rows]
            adam.step(gradients(xp, adam.parameters, inputs, offsets, truth[rows], entropy, counts))
            if iteration % every and iteration != settings.iterations:
                continue
            progress.advance(iteration - courses[going[0]].checkpoints[-1].iteration)
            for number, parameters in zip(going, adam.each, strict=True):
                courses[number].note(judge.check(iteration, parameters), parameters)
            left = [place for place, n in enumerate(going) if courses[n].since < settings.patience]
            if not left:
                break
            if len(left) < len(going):
                adam.go_on_with(left)
                going = [going[place] for place in left]
    progress.finish()
    found = []
    for course in courses:
        on_cpu = [on_host(p).astype(np.float64) for p in course.parameters]
        patch = folded(on_cpu, (mean, inverse), present, fit.Z.shape[1], entropy)
        found.append(Trained(patch, course.best, tuple(course.checkpoints)))
    return found


@dataclass
class _Course:
    """How a training has gone. parameters : of the best checkpoint. since : checks since then."""

    checkpoints: list[TrainingCheck]
    best: TrainingCheck
    parameters: list[Any]
    since: int = 0

    def note(self, check: TrainingCheck, parameters: Sequence[Any]) -> None:
        self.checkpoints.append(check)
        self.since += 1
        if check.loss < self.best.loss:
            self.best, self.parameters, self.since = check, [p.copy() for p in parameters], 0


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
    cool = [in_blocks(lambda Z: (Z * slope + shift).astype(Z.dtype), table.Z) for table in (fit, validation)]
    found = trained(replace(fit, Z=cool[0]), replace(validation, Z=cool[1]))
    logits = replace(validation, Z=cool[1]).patched(None, found.patch)
    shift = shift + best_biases(logits, validation.labels)
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
