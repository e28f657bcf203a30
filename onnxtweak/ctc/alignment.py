"""Which class does a text want at each position? The best path through the scores that reads as the text."""

from __future__ import annotations

import numpy as np


def align(Z: np.ndarray, numbers: np.ndarray, blank: int) -> np.ndarray | None:
    """The path (P,) int64 of the highest score among those that read as the text; None where none does.

    Z (P, C) : scores of a sample, of which the logarithm of a softmax is taken, which changes no path.
    numbers (n,) int64 : the classes that the text is spelt with. Viterbi's recursion over the text with
    blanks between its characters (Graves et al., 2006): a blank may be left out, unless it parts two equal
    ones.
    """
    states = np.full(2 * len(numbers) + 1, blank, np.int64)
    states[1::2] = numbers
    may_skip = np.zeros(len(states), bool)
    may_skip[3::2] = numbers[1:] != numbers[:-1]
    scores = Z[:, states].astype(np.float64)
    best = np.full(len(states), -np.inf)
    best[:2] = scores[0, :2]
    came = np.zeros((len(Z), len(states)), np.int8)
    ways = np.full((3, len(states)), -np.inf)
    for place in range(1, len(Z)):
        ways[0], ways[1, 1:] = best, best[:-1]
        ways[2, 2:] = np.where(may_skip[2:], best[:-2], -np.inf)
        came[place] = ways.argmax(axis=0)
        best = ways.max(axis=0) + scores[place]
    state = len(states) - 1
    if state and best[state - 1] > best[state]:
        state -= 1
    if not np.isfinite(best[state]):
        return None
    path = np.empty(len(Z), np.int64)
    for place in range(len(Z) - 1, -1, -1):
        path[place] = states[state]
        state -= int(came[place, state])
    return path


def over_whole_runs(path: np.ndarray, shown: np.ndarray, blank: int) -> np.ndarray:
    """The path with each character at all positions where the model shows one and the same other for it.

    path, shown (P,) int64 : of `align`, and what the model shows. Where that is one character for several
    positions and the text has another there, the best path may have it at one of them alone, and blanks at
    others that look no different. Nothing is changed where the text would not stay the same.
    """
    found = path.copy()
    starts = np.flatnonzero(np.append(True, shown[1:] != shown[:-1]))
    for start, end in zip(starts, (*starts[1:], len(shown)), strict=True):
        own = np.unique(path[start:end][path[start:end] != blank])
        if shown[start] == blank or len(own) != 1:
            continue
        run = found.copy()
        run[start:end] = own[0]
        if np.array_equal(collapsed(run, blank), collapsed(path, blank)):
            found = run
    return found


def collapsed(path: np.ndarray, blank: int) -> np.ndarray:
    """The classes (n,) that a path (P,) reads as: one for each run, blanks left out."""
    return path[np.append(True, path[1:] != path[:-1]) & (path != blank)]
