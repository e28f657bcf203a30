"""Which few neurons are enough for a patch within a budget? The small candidates of `fit` (METHOD 7.2).

Three ways to choose: pursuit for all classes, which adds a batch at a time the neurons that promise most
given those already chosen; the elastic net, which shrinks all neurons alike until few are left; and pursuit
for the targets alone, each with neurons of its own. The weights are then solved anew. Neurons are chosen
again for every fold, so that the held-out logits owe nothing to their samples.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial

import numpy as np

from onnxtweak.engine.machine.large_arrays import in_blocks, of_columns
from onnxtweak.engine.machine.products import transposed_product
from onnxtweak.goal import ResolvedGoal
from onnxtweak.method.fit.candidate import ALL_BIASES, FitCandidate
from onnxtweak.method.fit.learning import Learning
from onnxtweak.method.fit.linear import fit_linear, on_all_classes
from onnxtweak.method.folds import Arrays, Folds
from onnxtweak.method.retrain.weights import RetrainProblem, retrain_path
from onnxtweak.method.selection.screening import ScreeningSums, residuals, scores
from onnxtweak.method.softmax import log_loss
from onnxtweak.method.solvers.design import design
from onnxtweak.method.solvers.matching_pursuit import pursued
from onnxtweak.method.solvers.multi_target import TargetWeights
from onnxtweak.method.solvers.multinomial import multinomial
from onnxtweak.method.table import Table
from onnxtweak.patch import Linear
from onnxtweak.settings import FitSettings

RIDGES = (0.1, 0.01, 1e-3)
# Rounds of pursuit for all classes, at most. Redundant neurons of one round are all taken.
_ROUNDS = 10
# The elastic net looks at this many neurons, or this many for each that it may keep, whichever is more.
_POOL, _POOL_EACH = 200, 5
# Its L1 penalty starts where no neuron is left and falls by this factor per step, for at most so many steps;
# its ridge.
_FALL, _STEPS, _NET_RIDGE = 0.7, 20, 1e-3
# More neurons than this for one target cost more time than they are worth.
MOST_PURSUED = 200


@dataclass(frozen=True)
class Budget:
    """How large a patch may be. numbers : weights and biases together. synapses : weights. None: no limit."""

    numbers: int | None = None
    synapses: int | None = None

    @classmethod
    def of(cls, settings: FitSettings) -> Budget | None:
        """The budget that the settings give; None for no limit."""
        unlimited = settings.budget is None and settings.synapses is None
        return None if unlimited else cls(settings.budget, settings.synapses)

    def neurons(self, classes: int) -> int:
        """How many neurons may have a weight for each of some classes, which have a bias each."""
        limits = []
        if self.numbers is not None:
            limits.append(self.numbers // classes - 1)
        if self.synapses is not None:
            limits.append(self.synapses // classes)
        return max(min(limits), 0)

    def affords(self, biases: int) -> bool:
        """Whether this many biases are within it."""
        return self.numbers is None or self.numbers >= biases

    def __str__(self) -> str:
        limits = (self.numbers, "number", "numbers"), (self.synapses, "synapse", "synapses")
        return " and ".join(
            f"{limit:,} {one if limit == 1 else many}" for limit, one, many in limits if limit is not None
        )


def try_small(
    learning: Learning, families: Mapping[str, np.ndarray], goal: ResolvedGoal, budget: Budget, folds: Folds
) -> list[FitCandidate]:
    """Every candidate within the budget: for all classes where it allows that, and for the targets alone.

    Mirrored copies are learnt from only where they always are.
    """
    samples = len(folds.number)
    learning, temperature = learning.cooled(folds)
    cool, folds = learning.rows(folds)
    classes = len(np.unique(cool.labels))
    widest = max(families.values(), key=len, default=np.empty(0, np.int64))
    tried = []
    if budget.affords(classes):
        tried.append(fit_linear(cool, np.empty(0, np.int64), ALL_BIASES, folds))
    if count := min(budget.neurons(classes), len(widest)):
        for choose, name in ((pursue, "pursuit"), (shrink, "the elastic net")):
            tried.append(fit_small(cool, widest, count, folds, choose, name))
    count = min(budget.neurons(len(goal)), len(widest))
    if count and not goal.all_are_targets(cool.labels):
        tried.append(fit_targets(cool, widest, goal.targets, count, folds))
    return [candidate.warmed(temperature).of_first(samples) for candidate in tried]


def fit_small(
    table: Table,
    columns: np.ndarray,
    count: int,
    folds: Folds,
    choose: Callable[[Table, int, Sequence[float]], list[np.ndarray]],
    name: str,
    *,
    ridges: Sequence[float] = RIDGES,
) -> FitCandidate:
    """A linear patch of all classes on `count` of the columns. choose : `pursue` or `shrink`."""
    free, judged = np.unique(table.labels), folds.judged
    pool, named = table.columns(columns), table.of_folds(folds, f"{count} by {name}", columns)

    @lru_cache(maxsize=1)
    def chosen_without(k: int) -> list[np.ndarray]:
        """The neurons that all folds but one choose, at each ridge."""
        return choose(pool.rows(folds.learning(k)), count, ridges)

    def held_out(k: int, number: int) -> Arrays:
        """Scores of a fold under weights on neurons that the others chose."""
        found = multinomial(
            of_columns(table.T, columns[chosen_without(k)[number]]),
            table.Z,
            table.labels,
            ridge=ridges[number],
            free=free,
            sample_weight=folds.learning_weight(k),
            tolerance=1e-6,
        )
        return {"scores": found.scores[folds.held_out(k)]}

    held = [table.Z.copy() for _ in ridges]
    for k in folds.numbers.tolist():
        for number, (ridge, logits) in enumerate(zip(ridges, held, strict=True)):
            found = folds.kept(f"{named}, ridge {ridge}, fold {k}", partial(held_out, k, number))
            logits[np.ix_(folds.held_out(k), free)] += found["scores"].astype(logits.dtype)
    losses = [log_loss(logits[judged], table.labels[judged]) for logits in held]
    best = int(np.argmin(losses))
    loss, ridge, logits = losses[best], ridges[best], held[best]
    at_last = folds.kept(f"{named}, ridge {ridge}", lambda: {"chosen": choose(pool, count, [ridge])[0]})
    chosen = columns[at_last["chosen"]]
    described = f"{len(chosen)} neurons by {name}, ridge {ridge:g}"

    def learn() -> tuple[Linear, tuple[str, ...]]:
        found = multinomial(of_columns(table.T, chosen), table.Z, table.labels, ridge=ridge, free=free)
        return on_all_classes(found, free, table.Z.shape[1]), ()

    return FitCandidate(described, chosen, logits, loss, learn)


def fit_targets(
    table: Table,
    columns: np.ndarray,
    targets: np.ndarray,
    count: int,
    folds: Folds,
    *,
    ridges: Sequence[float] = RIDGES,
) -> FitCandidate:
    """A linear patch of the targets' logits alone, each with up to `count` neurons of its own, and a bias."""
    judged = folds.judged
    count = min(count, MOST_PURSUED)
    named = table.of_folds(folds, f"{count} each of {targets.tolist()} at {ridges}", columns)

    def solved(rows: np.ndarray) -> Arrays:
        """The columns, and for each ridge the patch fitted to the rows."""
        part = table.rows(rows)
        chosen = [pursued(part, columns, int(j), count) for j in targets]
        tables = [of_columns(part.T, c) for c in chosen]
        problem = RetrainProblem.of(tables, part.Z, part.labels, targets, 1.0, chosen)
        path = retrain_path(problem, ridges, intercept=True)
        each = [_side_by_side(chosen, found, targets, table.Z.shape[1]) for found in path]
        whole = {"weight": [weight for weight, _ in each], "bias": [shift for _, shift in each]}
        return {"columns": np.unique(np.concatenate(chosen)), **{k: np.stack(v) for k, v in whole.items()}}

    def patches(what: str, rows: np.ndarray) -> tuple[np.ndarray, list[Linear]]:
        """The same, or what an earlier run made of these rows."""
        found = folds.kept(f"{named}, {what}", lambda: solved(rows))
        return found["columns"], list(map(Linear, found["weight"], found["bias"]))

    held = [table.Z.copy() for _ in ridges]
    for k in folds.numbers.tolist():
        rows = folds.held_out(k)
        chosen, each = patches(f"fold {k}", folds.learning(k))
        for logits, patch in zip(held, each, strict=True):
            logits[rows] = table.patched(chosen, patch, rows)
    losses = [log_loss(logits[judged], table.labels[judged]) for logits in held]
    best = int(np.argmin(losses))
    chosen, each = patches("all samples", np.arange(len(table.labels)))
    patch = each[best]
    name = f"{np.count_nonzero(patch.weight)} synapses of the targets by pursuit, ridge {ridges[best]:g}"
    return FitCandidate(name, chosen, held[best], losses[best], lambda: (patch, ()))


def _side_by_side(
    columns: Sequence[np.ndarray], found: TargetWeights, targets: np.ndarray, classes: int
) -> tuple[np.ndarray, np.ndarray]:
    """Weights (K, C) and biases (C,) of all targets on their columns together, (K,) ascending."""
    chosen = np.unique(np.concatenate(columns))
    weight, shift = np.zeros((len(chosen), classes)), np.zeros(classes)
    for j, own, w in zip(targets, columns, found.weight, strict=True):
        weight[np.searchsorted(chosen, own), j] = w
    shift[targets] = found.bias
    return weight, shift


def pursue(table: Table, count: int, ridges: Sequence[float]) -> list[np.ndarray]:
    """`count` columns (count,) int64 of a table at each ridge, each batch by what earlier ones left wrong."""
    first, found = _promise_of_all(table), []
    for ridge in ridges:
        chosen = np.empty(0, np.int64)
        for step in np.array_split(np.arange(count), _ROUNDS):
            if not len(step):
                break
            promise = _promise(table, chosen, ridge) if len(chosen) else first
            promise[chosen] = -1
            chosen = np.concatenate([chosen, np.argsort(-promise, kind="stable")[: len(step)]])
        found.append(np.sort(chosen))
    return found


def shrink(table: Table, count: int, ridges: Sequence[float]) -> list[np.ndarray]:
    """The `count` columns (count,) int64 that a grouped elastic net keeps longest, at each ridge the same.

    The ridge with which it chooses is its own.
    """
    free = np.unique(table.labels)
    promise = _promise_of_all(table)
    pool = np.argsort(-promise, kind="stable")[: max(_POOL, _POOL_EACH * count)]
    standard = design(table.T, pool, turn=False)
    start = multinomial(standard, table.Z, table.labels, ridge=1e9, free=free).axes
    start[:-1] = 0
    lasso = _strongest_lasso(standard.X, table, free, start[-1])
    for _ in range(_STEPS):
        lasso *= _FALL
        found = multinomial(
            standard,
            table.Z,
            table.labels,
            ridge=_NET_RIDGE,
            lasso=lasso,
            grouped=True,
            free=free,
            start=start,
            tolerance=1e-5,
            iterations=60,
        )
        start = found.axes
        size = np.linalg.norm(start[:-1], axis=1)
        if np.count_nonzero(size) >= count:
            break
    return [np.sort(pool[np.argsort(-size, kind="stable")[:count]])] * len(ridges)


def _strongest_lasso(X: np.ndarray, table: Table, free: np.ndarray, bias: np.ndarray) -> float:
    """The L1 penalty from which on no neuron has a weight."""
    r, _ = _residuals(table, free, bias[None, :])
    return float(np.linalg.norm(transposed_product(X, r[:, free]), axis=1).max()) / len(table.labels)


def _promise_of_all(table: Table) -> np.ndarray:
    """What each column should save before any is chosen, (K,): there is nothing that a ridge would change."""
    return _promise(table, np.empty(0, np.int64), RIDGES[0])


def _promise(table: Table, chosen: np.ndarray, ridge: float) -> np.ndarray:
    """What each column should save over all classes on top of the chosen ones, (K,)."""
    free = np.unique(table.labels)
    found = multinomial(
        of_columns(table.T, chosen), table.Z, table.labels, ridge=ridge, free=free, tolerance=1e-4
    )
    r, h = _residuals(table, free, found.scores)
    return scores(ScreeningSums.of_table(table.T, r, h)).sum(axis=1)


def _residuals(table: Table, free: np.ndarray, added: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """`residuals` with `added` (N, F) on the logits of the free classes."""

    def of_rows(which: int, Z: np.ndarray, added: np.ndarray, labels: np.ndarray) -> np.ndarray:
        logits = Z.astype(np.float64)
        logits[:, free] += added
        return residuals(logits, labels)[which]

    each = table.Z, np.broadcast_to(added, (len(table.Z), len(free))), table.labels
    r, h = (in_blocks(partial(of_rows, which), *each) for which in (0, 1))
    return r, h
