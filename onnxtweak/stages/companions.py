"""Does a sample's answer depend on the samples it is run with? Tried at the start, on a few of them.

Dynamic quantisation takes its scales from the whole batch, batch normalisation in training mode its means;
dropout in training mode draws anew in every run. What such a model answers depends on who asks beside you.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from onnxtweak.engine.session import Session, session_of
from onnxtweak.engine.subject import Subject
from onnxtweak.errors import DataError, ModelError
from onnxtweak.head import ROUNDING
from onnxtweak.model.inspect.batch import mixing_operators, random_operators
from onnxtweak.model.inspect.graph_checks import quantises
from onnxtweak.settings import EngineSettings

TRIED = 8  # samples, run together and one at a time
_NUMBERS, _COMPARED = 1 << 23, 1 << 20  # scores of all samples tried, and of each that are compared
_NAMED = 3
_STEP = 0.1  # of the largest logit: what a step of a quantised layer may change, where a rounding causes one


@dataclass(frozen=True)
class Settled:
    """subject : runs one sample at a time where that settles the answers, which `alone` says.

    notes : what the user should know.
    """

    subject: Subject
    notes: tuple[str, ...] = ()
    alone: bool = False


def settle(subject: Subject, samples: Mapping[str, np.ndarray], settings: EngineSettings) -> Settled:
    """The subject, which runs one sample at a time where its answers depend on the others of a batch.

    samples : a few, rows by input; more than one, where the model's batch size is not fixed at one.

    Raises ModelError where two equal runs differ, where samples run alone all get the same logits, and where
    what seemed to count samples counts positions.
    """
    if subject.batch is None:  # of very many scores a few samples will do
        few = max(2, _NUMBERS // (subject.positions * subject.classes))
        samples = {name: rows[:few] for name, rows in samples.items()}
    run = _LogitsRun(subject, *_opened(subject, settings))
    together = run.logits(samples)
    near = _Tolerance(subject.dtype, together)
    count = len(together)
    random = random_operators(subject.model.graph, subject.logits)
    if subject.batch == 1 or count == 1:
        alone = run.logits(samples)
    else:
        try:
            alone = run.apart(samples)
        except DataError:  # the model takes no batch of one
            alone = together
    if not near(alone, together) and not near(run.logits(samples), together):
        raise _random(subject)
    if near(alone, together) or (
        quantises(subject.model.graph)
        and near(alone, together, _STEP)
        and _same_among_others(run, samples, together, near)
    ):
        return Settled(subject, (_still(random),) if random else ())
    if subject.sizes and any(subject.feeding.axes.values()):
        raise samples_second(subject.model.path, subject.logits)
    if subject.batch is not None or _equal(alone, near) or not near(run.apart(samples), alone):
        raise _unsettled(subject)
    rows = [one.reshape(count, -1, subject.classes) for one in (alone, together)]
    differ = int((rows[0].argmax(axis=2) != rows[1].argmax(axis=2)).any(axis=1).sum())
    note = (
        f"a sample's answer depends on the samples that it is run with{_by(_mixers(subject))}: in a batch of "
        f"{count}, logits differ by up to {np.nanmax(np.abs(alone - together)):.2g} and {differ} of {count} "
        "decisions from those of samples alone. Samples are run one at a time here; a server that batches "
        "them will see other answers"
    )
    return Settled(replace(subject, batch=1), (note,), alone=True)


@dataclass(frozen=True)
class _LogitsRun:
    """A subject in a session that outputs its logits."""

    subject: Subject
    session: Session
    output: str

    def logits(self, samples: Mapping[str, np.ndarray]) -> np.ndarray:
        """(n, P * C) float64 for P rows each, of samples run in batches as the subject wants them.

        Of very many rows some, the same of each sample.
        """
        found = self.subject.run(self.session, self.output, samples)
        found = found.reshape(len(next(iter(samples.values()))), -1, self.subject.classes)
        step = -(-found[:1].size // _COMPARED)
        return found[:, ::step].reshape(len(found), -1).astype(np.float64)

    def apart(self, samples: Mapping[str, np.ndarray]) -> np.ndarray:
        """The same, with no other sample in the batch: alone, or repeated where the batch size is fixed."""
        count = len(next(iter(samples.values())))
        return np.concatenate(
            [self.logits({name: rows[k : k + 1] for name, rows in samples.items()})[:1] for k in range(count)]
        )


@dataclass(frozen=True)
class _Tolerance:
    """Whether two arrays of logits are the same but for rounding, or a fraction of the largest.

    logits : what is large among them.
    """

    dtype: str
    logits: np.ndarray

    def __call__(self, one: np.ndarray, other: np.ndarray, fraction: float | None = None) -> bool:
        finite = np.abs(self.logits[np.isfinite(self.logits)])
        size = max(1e-6, float(finite.max(initial=0.0)))
        return bool(
            np.allclose(one, other, rtol=0, atol=(fraction or ROUNDING[self.dtype]) * size, equal_nan=True)
        )


def _opened(subject: Subject, settings: EngineSettings) -> tuple[Session, str]:
    exposed = subject.exposed()
    return session_of(subject.model, exposed.proto, settings), exposed.logits


def _same_among_others(
    run: _LogitsRun, samples: Mapping[str, np.ndarray], together: np.ndarray, near: _Tolerance
) -> bool:
    """Whether each sample keeps its logits when all others of the batch are replaced, itself in its place.

    Then only the size of the batch matters. Where its kernels round in another way, and a quantisation that
    follows makes a step of that, nothing is wrong with the model.
    """
    count = len(together)
    for k in range(count):
        rows = np.full(count, (k + 1) % count)
        rows[k] = k
        found = run.logits({name: values[rows] for name, values in samples.items()})
        if not near(found[k], together[k]):
            return False
    return True


def _equal(alone: np.ndarray, near: _Tolerance) -> bool:
    """Whether all samples get the same logits."""
    return near(alone, np.broadcast_to(alone[:1], alone.shape))


def _mixers(subject: Subject) -> list[str]:
    return mixing_operators(subject.model.graph, subject.logits)


def _by(operators: list[str]) -> str:
    """In brackets, the operators that a message names."""
    if not operators:
        return ""
    more = f" and {len(operators) - _NAMED} more" if len(operators) > _NAMED else ""
    return f" ({', '.join(operators[:_NAMED])}{more})"


def _still(operators: list[str]) -> str:
    return (
        f"the model was exported in training mode{_by(operators)}: ONNX Runtime leaves that out, but a "
        "runtime that does not draws at random"
    )


def _random(subject: Subject) -> ModelError:
    found = random_operators(subject.model.graph, subject.logits)
    return ModelError(
        f"the model draws at random{_by(found)}: the same samples get other logits in every run"
        if found
        else f"the same samples get other logits in every run{_by(_mixers(subject))}",
        where=f"{subject.logits} in {subject.model.path}",
        hint="export it in inference mode (`model.eval()` in PyTorch)",
    )


def samples_second(path: str | Path, logits: str) -> ModelError:
    """Of scores that have positions first and samples second."""
    return ModelError(
        "the scores count positions first and samples second, [T, N, C]",
        where=f"{logits} in {path}",
        hint="export the model with samples first, [N, T, C]",
    )


def _unsettled(subject: Subject) -> ModelError:
    alone = "the model takes no sample alone" if subject.batch else "alone, all get the same answer"
    return ModelError(
        f"a sample's answer depends on the samples that it is run with{_by(_mixers(subject))}; {alone}",
        where=f"{subject.logits} in {subject.model.path}",
        hint="export it in inference mode (`model.eval()` in PyTorch); if the axis that counts samples is "
        "not the first, give it the symbol that the outputs begin with",
    )
