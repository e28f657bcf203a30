"""What does the progressive schedule of joins and retrainings do (METHOD 5, thesis 3.3.7)?

It works on ever fewer, ever worse classes: before each stage they are ranked anew, worst first, by the
current model's accuracy on validation. A join stage gives the worst ones synapses, which stay; a retraining
stage sets the weights of those that have some. The values of the neurons never change, only Z does: so every
stage is arithmetic on one table of a *pool* of neurons, captured once, and the base is never run again.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from onnxtweak.engine.machine.large_arrays import let_go, of_columns
from onnxtweak.engine.passes import Captured, Engine
from onnxtweak.engine.scoring.scoring import theta_blocks, theta_sweeps
from onnxtweak.engine.scoring.sweep import Read, ScoringTask
from onnxtweak.errors import ModelError, UsageError
from onnxtweak.goal import ResolvedGoal, worst
from onnxtweak.method.folds import Arrays, KeptArrays, in_full, not_kept
from onnxtweak.method.join import prefix_sums
from onnxtweak.method.metrics import measure
from onnxtweak.method.retrain.synapses_by_class import NO_SYNAPSES, SynapsesByClass
from onnxtweak.method.retrain.weights import boosts, problem_of, retrain_best, temperatures
from onnxtweak.method.selection.candidates import Candidates, add_block, no_theta
from onnxtweak.method.selection.ranking import Ranking, by_net_gain, candidates_wanted, rank
from onnxtweak.method.table import Table
from onnxtweak.method.tuning.by_head import choose_point, gaps_and_gains
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
class StageOutcome:
    """What a stage did. classes (c,) int64 ascending. target, overall : accuracies on validation.

    notes : what a user should know, in sentences.
    """

    stage: Stage
    classes: np.ndarray
    target: tuple[float, float]
    overall: tuple[float, float]
    notes: tuple[str, ...] = ()

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """All but the stage as arrays."""
        shares = np.array([self.target, self.overall])
        return {"classes": self.classes, "shares": shares, "notes": np.array(self.notes, np.str_)}

    @classmethod
    def of_arrays(cls, stage: Stage, found: Arrays) -> StageOutcome:
        """What `arrays` gave, which may be among others."""
        (was, now), (before, after) = found["shares"].tolist()
        return cls(stage, found["classes"], (was, now), (before, after), tuple(found["notes"].tolist()))


@dataclass(frozen=True)
class NeuronPool:
    """What a schedule works on: tables of the pool's neurons, and what should do better.

    goal : its targets are the classes that a stage may pick. names : of all classes. kept : what hands out
    finished stages of an earlier run, and stores those of this one.
    """

    fit: Table
    validation: Table
    goal: ResolvedGoal
    names: tuple[str, ...]
    kept: KeptArrays = not_kept

    def named(self, *facts: object) -> str:
        """A name, among what `kept` hands out, for what is made of the tables. facts : what it depends on."""
        if self.kept is not_kept:
            return ""
        return f"{in_full((self.goal, *facts))} {self.fit.digest} {self.validation.digest}"


# Logits (N, C) of fit and validation under some synapses.
Logits = Callable[[SynapsesByClass], tuple[np.ndarray, np.ndarray]]


def from_pool(pool: NeuronPool) -> Logits:
    """Logits by arithmetic on the pool's tables."""
    fit, validation = pool.fit, pool.validation
    return lambda synapses: (
        fit.patched(None, synapses),
        validation.patched(None, synapses),
    )


def run_schedule(
    stages: Sequence[Stage],
    pool: NeuronPool,
    join: JoinSettings,
    retrain: RetrainSettings,
    engine: Engine,
    logits: Logits | None = None,
) -> tuple[SynapsesByClass, tuple[StageOutcome, ...]]:
    """All stages in turn. logits : where the current model's logits come from, default `from_pool`.

    What may be lost is counted from the base over the whole schedule; a stage after which a class has lost
    more than it may is undone.
    """
    schedule = _Schedule(pool, join, retrain, engine, from_pool(pool) if logits is None else logits)
    named, synapses, log = pool.named(join, retrain, engine.backend.name), NO_SYNAPSES, []
    for number, stage in enumerate(stages, start=1):
        engine.progress.start(str(stage), 1, "stages")
        so_far = " ".join(map(str, stages[:number]))
        found = pool.kept(f"{so_far} {named}", partial(schedule.stage_kept, stage, synapses))
        synapses = SynapsesByClass.of_arrays(found)
        log.append(StageOutcome.of_arrays(stage, found))
        engine.progress.advance(1)
        engine.progress.finish()
    return synapses, tuple(log)


@dataclass(frozen=True)
class _Schedule:
    """What all stages share. `current` below is the logits (N, C) of both splits before a stage."""

    pool: NeuronPool
    join_settings: JoinSettings
    retrain_settings: RetrainSettings
    engine: Engine
    logits: Logits

    def stage_kept(self, stage: Stage, synapses: SynapsesByClass) -> dict[str, np.ndarray]:
        """The synapses after one more stage, unless it has to be undone, and what it did, as arrays."""
        goal, labels = self.pool.goal, self.pool.validation.labels
        tried, outcome = self.run_stage(stage, synapses)
        base, now = (
            goal.head.decisions(goal.head.predict(Z), labels)
            for Z in (self.pool.validation.Z, self.logits(tried)[1])
        )
        if not goal.classes_hold(base.right, now.right, base.number, len(self.pool.names)):
            note = f"{stage} undone: a class would lose more than allowed"
            tried, outcome = synapses, replace(outcome, notes=(*outcome.notes, note))
        return {**tried.arrays, **outcome.arrays}

    def run_stage(self, stage: Stage, synapses: SynapsesByClass) -> tuple[SynapsesByClass, StageOutcome]:
        """The synapses after one more stage, and what it did."""
        goal, validation, labels = self.pool.goal, self.pool.validation, self.pool.validation.labels
        head, current = goal.head, self.logits(synapses)
        possible = goal.targets if stage.kind == "J" else np.array(sorted(synapses.column), np.int64)
        classes = worst(possible, head.predict(current[1]), labels, stage.classes)
        notes = []
        if len(classes) < stage.classes:
            notes.append(f"{stage}: only {len(classes):,} classes could be picked")
        was, now = (int(head.right(Z, labels).sum()) for Z in (validation.Z, current[1]))
        # What earlier stages gained is not for later ones to spend; what they lost is lost for all.
        overall_drop = goal.max_overall_drop - max(0, was - now) / len(labels) * 100
        stage_goal = ResolvedGoal(classes, head, overall_drop, self._class_drop_left(current[1]))
        step = self._join if stage.kind == "J" else self._retrain
        changed, stage_notes = step(synapses, stage_goal, current)
        before, after = (
            measure(head.predict(Z), labels, stage_goal, Z) for Z in (current[1], self.logits(changed)[1])
        )
        target, overall = (before.target, after.target), (before.overall, after.overall)
        return changed, StageOutcome(stage, classes, target, overall, (*notes, *stage_notes))

    def _class_drop_left(self, Z: np.ndarray) -> float | None:
        """What any class may still lose, in percentage points, after what the worst-hit one has lost."""
        goal, table = self.pool.goal, self.pool.validation
        if goal.max_class_drop is None:
            return None
        before, after = (measure(goal.head.predict(logits), table.labels, goal, Z) for logits in (table.Z, Z))
        lost = np.nan_to_num(before.per_class - after.per_class).max() * 100
        return float(np.clip(goal.max_class_drop - lost, 0, goal.max_class_drop))

    def _join(
        self, synapses: SynapsesByClass, goal: ResolvedGoal, current: tuple[np.ndarray, np.ndarray]
    ) -> tuple[SynapsesByClass, list[str]]:
        """Theta over the pool with the current logits, then n and scale on validation as in `join`."""
        pool, settings, classes = self.pool, self.join_settings, goal.targets
        tap, now = Tap("pool", "", (pool.fit.T.shape[1],)), Table(pool.fit.T, current[0], pool.fit.labels)
        theta = no_theta(len(classes), candidates_wanted(settings))
        blocks = theta_blocks([tap], len(classes), self.engine)
        task = ScoringTask(now.labels, np.asarray(classes, np.int64), settings.theta, head=goal.head)
        for block in theta_sweeps(from_table(now), blocks, task, self.engine):
            theta = add_block(theta, block)
        rankings, targets, notes = [], [], []
        for t, j in enumerate(classes):
            own_goal = replace(goal, targets=classes[t : t + 1])
            try:
                rankings.append(_ranked(theta.best[t], tap, now, own_goal, settings))
                targets.append(j)
            except ModelError:
                notes.append(f"no neuron of the pool can raise class {pool.names[j]} any further")
        if not targets:
            return synapses, notes
        columns = np.concatenate([r.neurons.index for r in rankings])
        prefix = prefix_sums([of_columns(pool.validation.T, columns)], rankings, settings.count)
        goal = replace(goal, targets=np.array(targets))
        scales = None if settings.exact_scale else tuple(settings.scale)
        labels = pool.validation.labels
        point = choose_point(current[1], labels, goal, prefix, tuple(settings.count), scales)
        for t, j in enumerate(targets):
            if point.scale[t]:
                factor = point.scale[t] / point.n[t]
                synapses = synapses.joined(int(j), rankings[t].first(int(point.n[t])), factor)
        return synapses, notes

    def _retrain(
        self, synapses: SynapsesByClass, goal: ResolvedGoal, current: tuple[np.ndarray, np.ndarray]
    ) -> tuple[SynapsesByClass, list[str]]:
        """New weights for the synapses of the goal's classes; validation says how far to go towards them."""
        pool, settings, classes = self.pool, self.retrain_settings, goal.targets
        if not len(classes):
            return synapses, ["no class has synapses: nothing to retrain"]
        rest = self.logits(synapses.without(classes))
        columns = [synapses.column[j] for j in classes]
        old = [synapses.weight[j] for j in classes]
        temperature = temperatures(rest[1], pool.validation.labels, goal)
        fit, validation = (
            problem_of(
                [of_columns(split.T, c) for c in columns],
                Z,
                split.labels,
                goal,
                settings.penalty,
                temperature,
                columns,
            )
            for split, Z in zip((pool.fit, pool.validation), rest, strict=True)
        )
        found = retrain_best(fit, validation, settings.ridge, old, device=pool.fit.device)
        change = [new - was for new, was in zip(found.weight, old, strict=True)]
        direction = boosts(validation.tables, change)[:, :, None]
        scales = None if self.join_settings.exact_scale else (0.0, *settings.scale)
        point = choose_point(current[1], pool.validation.labels, goal, direction, (1,), scales)
        weight = dict(synapses.weight)
        for t, j in enumerate(classes):
            weight[int(j)] = old[t] + point.scale[t] * change[t]
        return replace(synapses, weight=weight), [found.note] if found.note else []


def _ranked(best: Candidates, tap: Tap, now: Table, goal: ResolvedGoal, settings: JoinSettings) -> Ranking:
    """The best neurons of the pool for one class, as the model now is. Raises ModelError for none."""
    most = max(settings.count)
    if settings.criterion != "net-gain":
        return rank(best, [tap], settings.criterion, most, "")
    candidates = rank(best, [tap], "auto", candidates_wanted(settings), "")
    gaps = gaps_and_gains(now.Z, now.labels, goal, 0)
    return by_net_gain(candidates, of_columns(now.T, candidates.neurons.index), *gaps, most)


def from_table(table: Table) -> Read:
    """Batches for `theta_sweeps`, from a table instead of a model."""

    def read(what: str, taps: Sequence[Tap], chosen: np.ndarray | None) -> Generator[Captured]:
        rows = np.arange(len(table.labels)) if chosen is None else chosen
        for start in range(0, len(rows), _ROWS):
            part = rows[start : start + _ROWS]
            T = np.array(table.T[part], order="C")
            let_go(table.T)
            yield Captured(table.Z[part], (T,), table.labels[part], part)

    return read
