"""What do imitations teach? Hidden units that put them right and leave guarded rows alone (METHOD 14).

The MLP of METHOD 6, with another loss: beside the cross-entropy of imitations, how far it moves the logits of
guarded rows, which keeps decisions on samples like them, listed or not.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from onnxtweak.engine.machine.single_thread import single_thread
from onnxtweak.head import classes_there
from onnxtweak.method.augment import folded, mean_and_inverse
from onnxtweak.method.descent.cross_entropy import ONE_OF_MANY, OneOfMany
from onnxtweak.method.descent.steps import Adam, first_weights, gradients
from onnxtweak.method.solvers.standard import standardised
from onnxtweak.method.table import Table
from onnxtweak.patch import Mlp

_HIDDEN = 128
# What moving a guarded row's logits costs: this times the squared length. Ten times as much takes points from
# imitations; a third of it, from clean digits.
_QUIET = 0.03
# Rounds over the imitations, rows of a minibatch of either kind, the highest rate of Adam, and its decay.
_ROUNDS, _BATCH, _RATE, _DECAY = 10, 256, 4e-3, 1e-2
# The part of training in which the rate rises; it falls in the rest.
_RISE = 0.2


def taught(guarded: Table, imitated: Table, seed: int = 0) -> Mlp:
    """An MLP (K, `_HIDDEN`, C) for logits as they are in the tables.

    It minimises `mean over imitated of -log softmax(Z + d)_y + _QUIET mean over guarded of |d|^2`, with `d`
    what it adds to the logits, less its mean over the classes. Classes that no imitation has get nothing.
    """
    present, rng, classes = classes_there(imitated.labels), np.random.default_rng(seed), imitated.Z.shape[1]
    mean, inverse = mean_and_inverse(np.concatenate([guarded.T, imitated.T]))
    learnt, quiet = (standardised(table.T, mean, inverse) for table in (imitated, guarded))
    Z = imitated.Z[:, present].astype(np.float32)
    truth = ONE_OF_MANY.truth(imitated.labels, present)
    adam = Adam(np, first_weights(rng, len(mean), _HIDDEN, len(present)), _RATE, _DECAY)
    batch = min(_BATCH, len(learnt))
    steps = _ROUNDS * (len(learnt) // batch)
    nothing, loss = np.zeros((batch, len(present)), np.float32), _QuietElsewhere()
    order = np.empty(0, np.int64)
    with single_thread():  # the products of a minibatch are small
        for step in range(steps):
            order = order if len(order) >= batch else rng.permutation(len(learnt))
            rows, order = order[:batch], order[batch:]
            T = np.concatenate([learnt[rows], quiet[rng.integers(0, len(quiet), batch)]])
            adam.rate = _RATE * min((step + 1) / (_RISE * steps), (1 - step / steps) / (1 - _RISE))
            adam.step(
                gradients(np, adam.parameters, T, np.concatenate([Z[rows], nothing]), truth[rows], loss)
            )
    parameters = [p.astype(np.float64) for p in adam.parameters]
    return folded(parameters, (mean, inverse), present, classes, ONE_OF_MANY)


class _QuietElsewhere(OneOfMany):
    """The cross-entropy of the first rows, which have a label, and the penalty of the others, whose logits
    are what is added to them."""

    def error(self, xp: Any, logits: Any, truth: Any) -> Any:
        moved = self.centred(logits[len(truth) :])
        return xp.concatenate([super().error(xp, logits[: len(truth)], truth), 2 * _QUIET * moved])
