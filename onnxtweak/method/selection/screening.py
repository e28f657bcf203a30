"""Which of very many neurons are worth a place in the table? Screening by the loss saved (METHOD 7.2).

One streaming pass; V is never kept. With the residual r = t - p of the base (with a bias for every class),
and h = p (1 - p), it sums per neuron and class G = sum r v, A = sum h v^2 and B = sum h v. Then
S = G^2 / (A - B^2 / sum h) is twice the loss that a synapse from this neuron to this class should save.

Sums of more neurons than memory holds are made block by block, with a pass for each.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from onnxtweak.data.splits import View
from onnxtweak.engine.machine.large_arrays import blocks, let_go
from onnxtweak.engine.machine.memory_plan import Block, cut_taps
from onnxtweak.engine.passes import Captured, Engine, Folding
from onnxtweak.engine.position_batches import shard_ends
from onnxtweak.engine.scoring.sweep import taps_of
from onnxtweak.engine.shared.shards import by_shards, captured_shards
from onnxtweak.engine.subject import Subject
from onnxtweak.method.selection.numbering import numbered, taking_turns
from onnxtweak.method.softmax import softmax
from onnxtweak.settings import EngineSettings
from onnxtweak.types import Neurons, Tap

# Neurons that are summed up together, always the same ones, so that blocks give the bits of the whole.
_TILE = 1024


@dataclass
class ScreeningSums:
    """Running sums over samples, float64, for some classes (k). G, A, B (M, k); h (k,).

    spoiled (M,) bool : NaN or infinite on some sample.
    """

    G: np.ndarray
    A: np.ndarray
    B: np.ndarray
    h: np.ndarray
    spoiled: np.ndarray

    @classmethod
    def of_table(cls, T: np.ndarray, r: np.ndarray, h: np.ndarray) -> ScreeningSums:
        """Sums over a table T (N, M), in its own precision. r, h (N, k) : for each class."""
        shape = T.shape[1], r.shape[1]
        G, A, B = (np.zeros(shape, np.result_type(T, h)) for _ in range(3))
        for part, V in blocks(T):
            G += V.T @ r[part]
            A += (V * V).T @ h[part]
            B += V.T @ h[part]
            let_go(r[part])
            let_go(h[part])
        return cls(G, A, B, h.sum(axis=0), np.zeros(T.shape[1], bool))

    def add(self, other: ScreeningSums) -> None:
        """Add the sums over other samples."""
        for own, more in ((self.G, other.G), (self.A, other.A), (self.B, other.B), (self.h, other.h)):
            own += more
        self.spoiled |= other.spoiled

    def part(self, start: int, stop: int) -> ScreeningSums:
        """Neurons [start, stop): views."""
        cut = slice(start, stop)
        return ScreeningSums(self.G[cut], self.A[cut], self.B[cut], self.h, self.spoiled[cut])


@dataclass(frozen=True)
class ScreenedNeurons:
    """Neurons that help one class, the best first. number (k,) int64 through all taps; S (k,)."""

    number: np.ndarray
    S: np.ndarray


def screening_bytes(classes: int) -> int:
    """Bytes per neuron: the sums so far, and those of a shard."""
    return 2 * (3 * 8 * classes + 1)


def screen_blocks(
    taps: Sequence[Tap], classes: int, settings: EngineSettings, reserved_bytes: int = 0
) -> list[Block]:
    """The blocks of neurons that are screened one after another. reserved_bytes : see `cut_taps`."""
    return cut_taps(taps, screening_bytes(classes), settings, reserved_bytes=reserved_bytes)


@dataclass(frozen=True)
class Screening:
    """What is screened in one pass.

    block : its tap slices end to end. bias (C,) : added to the logits before p is taken. classes (k,) : for
    which sums are made. folding : of the pass.
    """

    block: Block
    bias: np.ndarray
    classes: np.ndarray
    folding: Folding

    def shards(self, subject: Subject, view: View, engine: Engine, what: str) -> Iterator[ScreeningSums]:
        """Sums of each shard of a view."""
        block = taps_of(self.block)
        for shard in captured_shards(subject, view, engine, what, block, folding=self.folding):
            yield screen(shard, self.block, self.bias, self.classes)


class SumsSoFar(Protocol):
    """Where a pass goes on that was interrupted."""

    def known(self) -> tuple[int, ScreeningSums] | None:
        """How many samples are summed up, from the first on, and their sums; None: none are."""

    def add(self, samples: int, sums: ScreeningSums) -> None:
        """Take note of the sums of so many samples."""


def screen_pass(
    screening: Screening, subject: Subject, view: View, engine: Engine, so_far: SumsSoFar | None = None
) -> ScreeningSums:
    """Sums over a view, added up shard by shard, so that they are the same whoever makes the shards.

    so_far : of an earlier run; None: it begins anew.
    """
    every, known = engine.settings.shard, None if so_far is None else so_far.known()
    folding = replace(screening.folding, samples=min(every, max(len(view), 1)))
    at, total = known or (0, _empty(sum(map(len, screening.block)), len(screening.classes)))
    work, rest = replace(screening, folding=folding).shards, View(view.dataset, view.rows[at:])
    ends = at + shard_ends(rest, every)
    shards = by_shards(work, subject, rest, engine, "screen") if len(rest) else ()
    for end, sums in zip(ends, shards, strict=True):
        total.add(sums)
        if so_far is not None:
            so_far.add(int(end), total)
    return total


def screen(batches: Iterable[Captured], block: Block, bias: np.ndarray, classes: np.ndarray) -> ScreeningSums:
    """Sums of a block's neurons, its tap slices end to end, for some classes (k,), from one pass.

    batches : captured with one V per tap slice. bias (C,) : added to the logits before p is taken.
    """
    sums = _empty(sum(map(len, block)), len(classes))
    for got in batches:
        logits = got.Z + bias.astype(got.Z.dtype)
        r, h = (np.ascontiguousarray(part[:, classes]) for part in residuals(logits, got.labels))
        sums.h += h.sum(axis=0, dtype=np.float64)
        at = 0
        for tap_slice, V in zip(block, got.V, strict=True):
            for first, last in _tiles(tap_slice.start, tap_slice.stop):
                _add(sums.part(at, at + last - first), V[:, first:last], r, h)
                at += last - first
    return sums


def _tiles(start: int, stop: int) -> Iterator[tuple[int, int]]:
    edges = [start, *range(start - start % _TILE + _TILE, stop, _TILE), stop]
    yield from zip(edges[:-1], edges[1:], strict=True)


def _add(sums: ScreeningSums, V: np.ndarray, r: np.ndarray, h: np.ndarray) -> None:
    # One sample that is not finite would turn the sums of its neuron, and only of it, into NaN.
    bad = ~np.isfinite(V).all(axis=0)
    if bad.any():
        V = np.where(bad, 0, V)
        sums.spoiled |= bad
    sums.G += V.T @ r
    sums.B += V.T @ h
    sums.A += (V * V).T @ h


def scores(sums: ScreeningSums) -> np.ndarray:
    """S (M, C) float64; 0 for a neuron that is constant or was spoiled."""
    spread = sums.A - sums.B**2 / np.maximum(sums.h, 1e-300)
    # A spread below the float32 noise of its two terms says that the neuron is constant.
    varies = spread > 3e-5 * np.maximum(sums.A, 1e-300)
    S = np.divide(sums.G**2, spread, out=np.zeros_like(spread), where=varies)
    S[sums.spoiled] = 0
    return S


def nothing_promising(classes: int) -> list[ScreenedNeurons]:
    """What is known before the first block."""
    return [ScreenedNeurons(np.empty(0, np.int64), np.empty(0))] * classes


def add_promising(
    known: Sequence[ScreenedNeurons], sums: ScreeningSums, block: Block, most: int
) -> list[ScreenedNeurons]:
    """What is known of each class, with a block's neurons. most : how many per class stay."""
    numbers = np.concatenate([np.arange(len(s)) + s.number for s in block])
    known = list(known)
    for start in range(0, len(numbers), _TILE):
        S = scores(sums.part(start, min(start + _TILE, len(numbers))))
        for k in range(len(known)):
            helpful = np.flatnonzero(S[:, k] > 0)
            number = np.concatenate([known[k].number, numbers[start + helpful]])
            value = np.concatenate([known[k].S, S[helpful, k]])
            order = np.argsort(-value, kind="stable")[:most]
            known[k] = ScreenedNeurons(number[order], value[order])
    return known


def best(known: Sequence[ScreenedNeurons], taps: Sequence[Tap], count: int) -> Neurons:
    """The `count` neurons that promise most, each class in turn giving its best, in the taps' own order."""
    return numbered(taps, taking_turns([screened.number for screened in known], count))


def _empty(neurons: int, classes: int) -> ScreeningSums:
    shape = (neurons, classes)
    G, A, B = (np.zeros(shape) for _ in range(3))
    return ScreeningSums(G, A, B, np.zeros(classes), np.zeros(neurons, bool))


def residuals(logits: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """r = t - p and h = p (1 - p), (N, C) float32, for logits (N, C) and labels (N,).

    labels may be (N, C) marks of several labels at once: p is then each one's own, 0 what is not known.
    """
    if labels.ndim == 2:
        p = 1 / (1 + np.exp(-np.clip(logits, -80, 80)))
        known = labels >= 0
        each = (known * ((labels == 1) - p)), known * p * (1 - p)
        return each[0].astype(np.float32), each[1].astype(np.float32)
    p = softmax(logits)
    h = (p * (1 - p)).astype(np.float32)
    r = -p.astype(np.float32)
    r[np.arange(len(labels)), labels] += 1
    return r, h
