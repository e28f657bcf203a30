"""Where do learners compute? By NumPy, or, where there is much to do and a GPU is used, by CuPy there."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from onnxtweak.engine.machine.single_thread import LARGE
from onnxtweak.engine.workers.chunks import ROWS, Chunks

if TYPE_CHECKING:
    from onnxtweak.engine.workers.processes import Crew

# Numbers that a solver holds at a time, by what they are of: the table standardised and turned; scores,
# probabilities and their changes; steps that L-BFGS remembers, in two folds.
_OF_TABLE, _OF_SCORES, _OF_WEIGHTS = 3, 10, 150


# Multiplications of a product from which sums are made chunk by chunk. Weights of 2,048 neurons and 1,000
# classes take some tenths of a second to the workers and back, and this takes two cores about one.
VERY_LARGE = 50_000_000_000


@dataclass(frozen=True)
class LearningDevice:
    """The array library of a run, for learners that are written against NumPy and CuPy alike.

    xp : CuPy where the run's back end is; else NumPy. room : bytes that learners may take on the GPU; None:
    there is none. name : "cpu" or "cuda:i". least : multiplications from which a product is worth a GPU: one
    that a single core is best left alone with is done before a GPU has started. crew : workers that passes
    are shared among. used : devices on which learners were, filled as they ask.
    """

    xp: ModuleType = np
    room: int | None = None
    name: str = "cpu"
    least: int = LARGE
    crew: Crew | None = None
    used: set[str] = field(default_factory=set, compare=False, repr=False)

    def library(self, multiplications: int, numbers: int) -> ModuleType:
        """The library for a learner whose largest product, made again and again, has so many multiplications.

        numbers : that it holds at a time, float32; where the GPU has no room for them it is NumPy.
        """
        on_gpu = self.room is not None and multiplications >= self.least and 4 * numbers <= self.room
        self.used.add(self.name if on_gpu else "cpu")
        return self.xp if on_gpu else np

    def for_solver(self, samples: int, neurons: int, outputs: int) -> ModuleType:
        """The library for problems on a table (samples, neurons) with so many outputs."""
        table, scores, weights = samples * neurons, samples * outputs, neurons * outputs
        numbers = _OF_TABLE * table + _OF_SCORES * scores + _OF_WEIGHTS * weights
        return self.library(table * outputs, numbers)

    def chunks(self, samples: int, neurons: int, outputs: int) -> Chunks | None:
        """Where the sums of a very large problem are made, if it is one and stays on the CPU.

        Workers on other machines make them; those of this one would but take its cores.
        """
        if samples <= ROWS or samples * neurons * outputs < VERY_LARGE:
            return None
        return Chunks(self.crew if self.crew is not None and self.crew.elsewhere else None, self.used)


def on_host(array: Any) -> np.ndarray:
    """An array of NumPy's or CuPy's as NumPy's."""
    found: np.ndarray = array.get() if hasattr(array, "get") else array
    return found
