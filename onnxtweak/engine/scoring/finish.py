"""What becomes of a sweep when it has seen all samples? Counts, by its survivors or by a second pass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from onnxtweak.engine.machine.memory_plan import Block
from onnxtweak.engine.passes import Engine
from onnxtweak.engine.scoring.sweep import Read, ScoringTask, Sweep, of_targets, taps_of, values_of
from onnxtweak.theta.gaps import is_of
from onnxtweak.theta.state import ThetaState, begin_counting


@dataclass(frozen=True)
class BlockScores:
    """Theta's states of a block of neurons after all samples, in NumPy: one per slice of the block.

    predicted (N,) int64 : by the base; of several labels (N, C), marks. ends : whether nothing of what was
    swept together comes after it.
    """

    block: Block
    states: tuple[ThetaState, ...]
    predicted: np.ndarray
    ends: bool = True


@dataclass(frozen=True)
class TargetGaps:
    """Of each target's samples: how many there are, seen (c,) int64, and the median |g|, gap (c,) float64."""

    seen: np.ndarray
    gap: np.ndarray

    @classmethod
    def of(cls, gaps: Sequence[Sequence[np.ndarray]]) -> TargetGaps:
        """gaps : as in `Sweep`."""
        values = [np.concatenate(parts) for parts in gaps]
        medians = [float(np.median(each)) if len(each) else 0.0 for each in values]
        return cls(np.array(list(map(len, values)), np.int64), np.array(medians, np.float64))


def finish(sweep: Sweep, read: Read, task: ScoringTask, engine: Engine) -> BlockScores:
    """The scores of a sweep that has seen all samples, which it is no more afterwards."""
    if not count_survivors(sweep, TargetGaps.of(sweep.gaps)):
        wrong = wrong_samples(sweep.predicted, task)
        sweep.states = [engine.backend.device_state(state) for state in sweep.states]
        count_wrong(sweep, read, wrong, task, engine)
    states = tuple(engine.backend.host_state(state) for state in sweep.states)
    return BlockScores(sweep.block, states, sweep.predicted)


def count_survivors(sweep: Sweep, of: TargetGaps) -> bool:
    """Count what survived, if all of it was kept; whether it was."""
    sweep.parts = []
    sweep.states = [begin_counting(state) for state in sweep.states]
    for state in sweep.states:
        state.seen[:], state.gap[:] = of.seen, of.gap
    found = [survivors for survivors in sweep.survivors if survivors is not None and not survivors.overflowed]
    sweep.survivors = []
    if len(found) < len(sweep.states):
        return False
    for survivors, state in zip(found, sweep.states, strict=True):
        survivors.count(state)
    return True


def wrong_samples(predicted: np.ndarray, task: ScoringTask) -> np.ndarray:
    """The wrong samples of the targets, positions (n,) int64. predicted : as of `Sweep`."""
    own, missed = is_of(task.labels, task.targets), ~is_of(predicted, task.targets)
    found: np.ndarray = np.flatnonzero((own & missed).any(axis=1))
    return found


def count_wrong(sweep: Sweep, read: Read, wrong: np.ndarray, task: ScoringTask, engine: Engine) -> None:
    """The second sweep, over wrong samples of the targets: their positions (n,) int64."""
    if not len(wrong):
        return
    for got in read("count", taps_of(sweep.block), wrong):
        gaps = task.gaps(got)
        parts = [(rows, engine.backend.place_wanted(of_targets(gaps.wanted, rows))) for rows in task.together]
        for s, V in zip(sweep.states, values_of(sweep.block, got, engine), strict=True):
            if task.theta == "thesis":
                np.abs(V, out=V)
            for rows, wanted in parts:
                counts = (part[rows] for part in (s.hi, s.lo, s.count_hi, s.count_lo, s.last_hi, s.last_lo))
                engine.backend.fold_wanted(V, wanted, *counts)
