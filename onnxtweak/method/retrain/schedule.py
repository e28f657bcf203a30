"""The progressive schedule (METHOD 5, thesis 3.3.7): join and retrain ever fewer, ever worse classes.

Before each stage the classes are ranked anew, worst first, by the current model's accuracy on validation. A
join stage gives them synapses, which stay; a retraining stage sets the weights of those that have some. The
values of the neurons never change, only Z does: so every stage is arithmetic on one table of a *pool* of
neurons, captured once, and the base is never run again.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from onnxtweak.engine.passes import Captured, Engine
from onnxtweak.engine.scoring.scoring import theta_blocks, theta_sweeps
from onnxtweak.engine.scoring.sweep import Read, ScoringTask
from onnxtweak.errors import ModelError, UsageError
from onnxtweak.goal import Goal
from onnxtweak.method.join import prefix_sums
from onnxtweak.method.metrics import measure
from onnxtweak.method.retrain.weights import boosts, problem, retrain_best
from onnxtweak.method.selection.candidates import Candidates, add_block, no_theta
from onnxtweak.method.selection.ranking import Ranking, by_net_gain, candidates_wanted, rank
from onnxtweak.method.table import Table
from onnxtweak.method.tuning.boosted import boost_table
from onnxtweak.method.tuning.operating_point import choose
from onnxtweak.patch import Synapses
from onnxtweak.settings import JoinSettings, RetrainSettings
from onnxtweak.types import Tap

# Rows of the table that theta is folded over at a time.
_ROWS = 1024


@dataclass(frozen=True)
class Stage:
    """kind : "J" join or "R" retrain; classes : how many of the worst."""

    kind: str
    classes: int

    def __str__(self) -> str:
        return f"{self.kind}{self.classes}"


def parse_schedule(text: str) -> tuple[Stage, ...]:
    """Stages of "J100 R100 J50 R50 J10 R10 J10". Raises UsageError, naming the word, for anything else."""
    stages = []
    for word in text.replace(",", " ").split():
        match = re.fullmatch(r"([JRjr])([0-9]+)", word)
        if match is None or int(match[2]) == 0:
            raise UsageError(
                f"{word!r} is not a stage",
                where="--schedule",
                hint='a stage is J (join) or R (retrain) and a number of classes: "J100 R100 J10 R10 J10"',
            )
        stages.append(Stage(match[1].upper(), int(match[2])))
    if not stages:
        raise UsageError("the schedule is empty", where="--schedule", hint='write it like "J10 R10 J3 R3 J3"')
    if stages[0].kind == "R":
        raise UsageError(
            f"the schedule starts with {stages[0]}: there is nothing to retrain yet",
            where="--schedule",
            hint=f"start with J{stages[0].classes}",
        )
    return tuple(stages)


@dataclass(frozen=True)
class GrownSynapses:
    """The synapses so far, by class.

    column (k,) int64 : of the pool. weight, threshold (k,) float64 and count (k,) int64 as in `Synapses`.
    A neuron appears once a class: joined again, its weights add up.
    """

    column: dict[int, np.ndarray]
    weight: dict[int, np.ndarray]
    threshold: dict[int, np.ndarray]
    count: dict[int, np.ndarray]

    def without(self, classes: Sequence[int]) -> GrownSynapses:
        """The synapses of the other classes."""
        kept = [j for j in self.column if j not in set(classes)]
        return GrownSynapses(*({j: part[j] for j in kept} for part in vars(self).values()))

    def added(self, T: np.ndarray, Z: np.ndarray) -> np.ndarray:
        """Logits with the synapses: T (N, K) of the pool, Z (N, C) of the base."""
        logits = Z.copy()
        for j, column in self.column.items():
            logits[:, j] += (T[:, column] @ self.weight[j]).astype(Z.dtype)
        return logits

    def flat(self) -> tuple[np.ndarray, Synapses]:
        """Columns (k,) and synapses, classes ascending; those of weight 0 are left out."""
        keep = {j: np.flatnonzero(self.weight[j]) for j in sorted(self.column)}

        def joined(part: dict[int, np.ndarray], kind: type) -> np.ndarray:
            return np.concatenate([np.empty(0, kind), *(part[j][rows] for j, rows in keep.items())])

        target = np.repeat(np.array(list(keep), np.int64), [len(rows) for rows in keep.values()])
        synapses = Synapses(
            target=target,
            weight=joined(self.weight, np.float64),
            threshold=joined(self.threshold, np.float64),
            count=joined(self.count, np.int64),
        )
        return joined(self.column, np.int64), synapses


NOTHING = GrownSynapses({}, {}, {}, {})


@dataclass(frozen=True)
class StageOutcome:
    """What a stage did. classes (c,) int64 ascending. before, after : accuracy on validation.

    notes : what a user should know, in sentences.
    """

    stage: Stage
    classes: np.ndarray
    target: tuple[float, float]
    overall: tuple[float, float]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class NeuronPool:
    """The table that the schedule runs on: the pool's values and the base's logits on both splits.

    goal : its targets are the classes (k,) that may be picked. names : of all classes.
    """

    fit: Table
    validation: Table
    goal: Goal
    names: tuple[str, ...]


# Logits (N, C) of fit and validation under some synapses.
Logits = Callable[[GrownSynapses], tuple[np.ndarray, np.ndarray]]


def from_pool(pool: NeuronPool) -> Logits:
    """Logits by arithmetic on the pool's tables."""
    return lambda grown: tuple(grown.added(t.T, t.Z) for t in (pool.fit, pool.validation))


def run_schedule(
    stages: Sequence[Stage],
    pool: NeuronPool,
    join: JoinSettings,
    retrain: RetrainSettings,
    engine: Engine,
    logits: Logits | None = None,
) -> tuple[GrownSynapses, tuple[StageOutcome, ...]]:
    """All stages in turn. logits : where the current model's logits come from, default `from_pool`.

    What may be lost is counted from the base over the whole schedule; a stage that a limit on single classes
    would not allow is undone.
    """
    logits = from_pool(pool) if logits is None else logits
    goal, grown, log = pool.goal, NOTHING, []
    for stage in stages:
        engine.progress.start(str(stage), 1, "stages")
        tried, done = run_stage(stage, grown, pool, join, retrain, engine, logits)
        labels = pool.validation.labels
        base, now = (goal.head.right(Z, labels) for Z in (pool.validation.Z, logits(tried)[1]))
        if goal.classes_hold(base, now, labels, len(pool.names)):
            grown = tried
        else:
            done = replace(done, notes=(*done.notes, f"{stage} undone: a class would lose more than allowed"))
        log.append(done)
        engine.progress.advance(1)
        engine.progress.finish()
    return grown, tuple(log)


def run_stage(
    stage: Stage,
    grown: GrownSynapses,
    pool: NeuronPool,
    join: JoinSettings,
    retrain: RetrainSettings,
    engine: Engine,
    logits: Logits,
) -> tuple[GrownSynapses, StageOutcome]:
    """The synapses after one more stage, and what it did."""
    current = logits(grown)
    labels = pool.validation.labels
    head = pool.goal.head
    possible = pool.goal.targets if stage.kind == "J" else np.array(sorted(grown.column), np.int64)
    classes = worst(possible, head.predict(current[1]), labels, stage.classes)
    notes = []
    if len(classes) < stage.classes:
        notes.append(f"{stage}: only {len(classes):,} classes could be picked")
    was, now = (int(head.right(Z, labels).sum()) for Z in (pool.validation.Z, current[1]))
    # What earlier stages gained is not for later ones to spend; what they lost is lost for all.
    goal = Goal(
        classes,
        head,
        pool.goal.max_overall_drop - max(0, was - now) / len(labels) * 100,
        _left(pool, current[1]),
    )
    if stage.kind == "J":
        made, said = _join(grown, goal, pool, current, join, engine)
    else:
        made, said = _retrain(grown, goal, pool, current, logits, join, retrain)
    own = goal.wanted(labels)
    right = [head.right(Z, labels) for Z in (current[1], logits(made)[1])]
    target = tuple(float(r[own].mean()) if own.any() else float("nan") for r in right)
    return made, StageOutcome(stage, classes, target, tuple(float(r.mean()) for r in right), (*notes, *said))


def worst(possible: np.ndarray, predicted: np.ndarray, labels: np.ndarray, count: int) -> np.ndarray:
    """The `count` classes of `possible` with the lowest accuracy, ascending; ties go to the lower number."""
    support = np.maximum([(labels == j).sum() for j in possible], 1)
    right = np.array([((labels == j) & (predicted == j)).sum() for j in possible])
    return np.sort(possible[np.lexsort((possible, right / support))[:count]])


def _left(pool: NeuronPool, Z: np.ndarray) -> float | None:
    """What any class may still lose, in percentage points, after what the worst hit one has lost so far."""
    goal, table = pool.goal, pool.validation
    drop = goal.max_class_drop
    if drop is None:
        return None
    before, after = (
        measure(goal.head.predict(logits), table.labels, goal, Z.shape[1]) for logits in (table.Z, Z)
    )
    lost = np.nan_to_num(before.per_class - after.per_class).max() * 100
    return float(np.clip(drop - lost, 0, drop))


def _join(grown, goal, pool, current, join, engine) -> tuple[GrownSynapses, list[str]]:
    """Theta over the pool with the current logits, then n and scale on validation as in `join`."""
    classes, tap = goal.targets, Tap("pool", "", (pool.fit.T.shape[1],))
    now = Table(pool.fit.T, current[0], pool.fit.labels)
    theta = no_theta(len(classes), candidates_wanted(join))
    task = ScoringTask(now.labels, np.asarray(classes, np.int64), join.theta)
    for block in theta_sweeps(from_table(now), theta_blocks([tap], len(classes), engine), task, engine):
        theta = add_block(theta, block)
    rankings, targets, notes = [], [], []
    for t, j in enumerate(classes):
        try:
            rankings.append(_ranked(theta.best[t], tap, now, replace(goal, targets=classes[t : t + 1]), join))
            targets.append(j)
        except ModelError:
            notes.append(f"no neuron of the pool can raise class {pool.names[j]} any further")
    if not targets:
        return grown, notes
    columns = np.concatenate([r.neurons.index for r in rankings])
    prefix = prefix_sums([pool.validation.T[:, columns]], rankings, join.count)
    table = boost_table(current[1], pool.validation.labels, replace(goal, targets=np.array(targets)))
    scales = None if join.exact_scale else tuple(join.scale)
    operation = choose(table, prefix, tuple(join.count), scales)
    for t, j in enumerate(targets):
        if operation.scale[t]:
            best = rankings[t].first(int(operation.n[t]))
            factor = operation.scale[t] / operation.n[t]
            grown = _with(grown, int(j), best.neurons.index, best.weight * factor, best.weight, best.count)
    return grown, notes


def _ranked(best: Candidates, tap: Tap, now: Table, goal: Goal, join: JoinSettings) -> Ranking:
    """The best neurons of the pool for one class, as the model now is. Raises ModelError for none."""
    most = max(join.count)
    if join.criterion != "net-gain":
        return rank(best, [tap], join.criterion, most, "")
    candidates = rank(best, [tap], "auto", candidates_wanted(join), "")
    table = boost_table(now.Z, now.labels, goal)
    return by_net_gain(candidates, now.T[:, candidates.neurons.index], table, 0, most)


def _retrain(grown, goal, pool, current, logits, join, retrain) -> tuple[GrownSynapses, list[str]]:
    """New weights for the synapses of `classes`; validation says how far to go from the old ones to them."""
    classes = goal.targets
    if not len(classes):
        return grown, ["no class has synapses: nothing to retrain"]
    rest = logits(grown.without(classes))
    splits = (pool.fit, pool.validation)
    columns = [grown.column[j] for j in classes]
    tables = [[split.T[:, c] for c in columns] for split in splits]
    old = [grown.weight[j] for j in classes]
    problems = [
        problem(T, Z, split.labels, classes, retrain.penalty, columns)
        for T, Z, split in zip(tables, rest, splits, strict=True)
    ]
    found, _ = retrain_best(*problems, retrain.ridge, old)
    change = [new - was for new, was in zip(found.weight, old, strict=True)]
    table = boost_table(current[1], pool.validation.labels, goal)
    direction = boosts(tables[1], change)[:, :, None]
    scales = None if join.exact_scale else (0.0, *retrain.scale)
    operation = choose(table, direction, (1,), scales)
    weight = dict(grown.weight)
    for t, j in enumerate(classes):
        weight[int(j)] = old[t] + operation.scale[t] * change[t]
    return replace(grown, weight=weight), [found.note] if found.note else []


def _with(grown, j, column, weight, threshold, count) -> GrownSynapses:
    """More synapses for class j; a neuron that it has already gets the weight on top."""
    if j in grown.column:
        known = {int(c): k for k, c in enumerate(grown.column[j])}
        place = np.array([known.get(int(c), -1) for c in column])
        new, old = place < 0, place[place >= 0]
        total, limit, fixes = grown.weight[j].copy(), grown.threshold[j].copy(), grown.count[j].copy()
        total[old] += weight[~new]
        limit[old], fixes[old] = threshold[~new], count[~new]
        column = np.concatenate([grown.column[j], column[new]])
        weight, threshold = np.concatenate([total, weight[new]]), np.concatenate([limit, threshold[new]])
        count = np.concatenate([fixes, count[new]])
    parts = zip(vars(grown).values(), (column, weight, threshold, count), strict=True)
    return GrownSynapses(*({**part, j: value} for part, value in parts))


def from_table(table: Table) -> Read:
    """Batches for `theta_sweeps`, from a table instead of a model."""

    def read(what: str, taps: Sequence[Tap], chosen: np.ndarray | None) -> Generator[Captured]:
        rows = np.arange(len(table.labels)) if chosen is None else chosen
        for start in range(0, len(rows), _ROWS):
            part = rows[start : start + _ROWS]
            yield Captured(table.Z[part], (np.ascontiguousarray(table.T[part]),), table.labels[part], part)

    return read
