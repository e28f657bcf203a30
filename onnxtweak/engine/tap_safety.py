"""Which taps can be read without changing the logits?

A runtime fuses neighbouring operators where nothing else reads between them. A tap is such a reader, first as
an output that is watched, then in the tweak that is written: one kernel becomes two, and the logits can
differ in their last bits, or by a step where they are quantised. Both are tried, the second as a tweak of
zeros. Each trial starts two sessions, so large graphs are given fewer of them: a matter of their size, not of
time, or two machines would find different taps.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from onnxtweak.engine.session import session_of
from onnxtweak.engine.subject import Subject
from onnxtweak.errors import ModelError
from onnxtweak.model.edit.splice import splice_to_run
from onnxtweak.model.inspect.graph_checks import quantises
from onnxtweak.patch import Linear, Tweak
from onnxtweak.settings import EngineSettings
from onnxtweak.types import Neurons, Progress, Tap, silent

_MOST_TRIALS, _FEWEST_TRIALS = 32, 4  # groups of taps that may be tried in the search for unsafe ones
_MOST_NODES = 100_000  # in all trials together: of 10,000 nodes each takes seconds
_NAMED, _OPERATORS = 3, 6
# Samples to try on: each may round in its own way, but they must not take longer than what is tried for.
_MOST_SAMPLES, _FEWEST, _MOST_VALUES = 128, 3, 1 << 24
# Samples of the neutral check: enough to take every path through the kernels, few enough to cost nothing.
_NEUTRAL_SAMPLES, _NEUTRAL_SCORES = 256, 1 << 22


@dataclass(frozen=True)
class SafeTaps:
    """taps : those that leave every bit of the logits unchanged. left_out : the others, and those untried.

    others : notes on tensors that were not tried at all.
    """

    taps: tuple[Tap, ...]
    left_out: tuple[Tap, ...]
    others: tuple[str, ...] = ()

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user should know about those left out."""
        if not self.left_out:
            return self.others
        names = ", ".join(tap.name for tap in self.left_out[:_NAMED])
        more = f" and {len(self.left_out) - _NAMED} more" if len(self.left_out) > _NAMED else ""
        return (f"left out, because reading them changes the model's logits: {names}{more}", *self.others)


def trial_samples(subject: Subject) -> int:
    """How many samples to try taps on."""
    return min(_MOST_SAMPLES, max(_fewest(subject), _MOST_VALUES // subject.maps))


def neutral_samples(subject: Subject) -> int:
    """How many samples a file is compared on with its base, score by score: fewer of many positions."""
    each = subject.positions * subject.classes if subject.sizes else 1
    return min(_NEUTRAL_SAMPLES, max(_fewest(subject), _NEUTRAL_SCORES // each))


def _fewest(subject: Subject) -> int:
    """One sample will do where its positions are as many."""
    return 1 if subject.positions >= _NEUTRAL_SAMPLES else _FEWEST


def most_trials(subject: Subject) -> int:
    """How many groups of taps to try at most."""
    return min(_MOST_TRIALS, max(_FEWEST_TRIALS, _MOST_NODES // len(subject.model.graph.nodes)))


def safe_taps(
    subject: Subject,
    taps: Sequence[Tap],
    feeds: Mapping[str, np.ndarray],
    settings: EngineSettings,
    progress: Progress = silent,
) -> SafeTaps:
    """Those of `taps` that can be watched and read on the CPU without changing a bit of the logits.

    feeds : some samples by input name. On a GPU, where every session chooses its kernels anew, all are kept.
    progress : of the search, where there has to be one. Raises ModelError when none is left.
    """
    feeds = _at_positions(subject, taps, feeds)
    unchanged, device = _logits(subject, (), feeds, settings)
    if device != "cpu" or not taps:
        return SafeTaps(tuple(taps), ())
    trial = _TapTrial(subject, feeds, settings, unchanged)
    together = list(taps) if trial.passes(taps) else _search(trial, taps, progress)
    kept = frozenset(together)  # models can have 100,000 taps
    safe = tuple(tap for tap in taps if tap in kept)
    if not safe:
        raise ModelError(
            "reading these tensors changes the logits: the runtime fuses them with what follows",
            where=", ".join(tap.name for tap in taps[:_NAMED]),
            hint="choose tensors after an activation or a quantisation with --taps; see `onnxtweak inspect`",
        )
    return SafeTaps(safe, tuple(tap for tap in taps if tap not in kept))


def require_neutral(subject: Subject, feeds: Mapping[str, np.ndarray], settings: EngineSettings) -> None:
    """Raise ModelError where even a tweak that reads nothing and adds zeros changes the logits on the CPU.

    feeds : some samples by input name. A quantised base may change by a step, which its check allows.
    """
    unchanged, device = _logits(subject, (), feeds, settings)
    if device != "cpu" or quantises(subject.model.graph):
        return
    if not _TapTrial(subject, feeds, settings, unchanged).passes(()):
        raise ModelError(
            "the runtime computes these scores in another way once anything is added to them",
            where=subject.logits,
            hint="name the scores before them with --logits; see `onnxtweak inspect`",
        )


def readable_operators(
    subject: Subject,
    taps: Sequence[Tap],
    feeds: Mapping[str, np.ndarray],
    settings: EngineSettings,
    progress: Progress = silent,
) -> list[str]:
    """Operators, of the most frequent ones, all of whose taps are safe; the most frequent first."""
    feeds = _at_positions(subject, taps, feeds)
    trial = _TapTrial(subject, feeds, settings, _logits(subject, (), feeds, settings)[0])
    frequent = Counter(tap.op for tap in taps).most_common(min(_OPERATORS, most_trials(subject)))
    found = []
    progress.start("try operators", len(frequent), "operators")
    for op, _ in frequent:
        found += [op] if trial.passes([tap for tap in taps if tap.op == op]) else []
        progress.advance(1)
    progress.finish()
    return found


def _at_positions(
    subject: Subject, taps: Sequence[Tap], feeds: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """As many of the samples as taps at every position leave room for: they are larger than the maps."""
    values = sum(tap.neurons for tap in taps) * subject.positions if subject.sizes else 1
    most = max(_fewest(subject), _MOST_VALUES // max(values, 1))
    return {name: rows[:most] for name, rows in feeds.items()}


def _search(trial: _TapTrial, taps: Sequence[Tap], progress: Progress) -> list[Tap]:
    """Safe ones among taps that are not safe together: in groups, which are split until trials run out."""
    good: list[list[Tap]] = []
    waiting, most = _parts(list(taps)), most_trials(trial.subject)
    progress.start("search taps that leave the logits alone", most - trial.count, "groups")
    while waiting and trial.count < most:
        group = waiting.pop(0)
        if trial.passes(group):
            good.append(group)
        else:
            waiting += _parts(group)
        progress.advance(1)
    together = [tap for group in good for tap in group]
    if len(good) > 1 and not trial.passes(together):
        together = []
        for group in good:
            together += group if trial.passes([*together, *group]) else []
            progress.advance(0)
    progress.finish()
    return together


@dataclass
class _TapTrial:
    """A subject and its logits on some samples as they should be. count : of groups tried so far."""

    subject: Subject
    feeds: Mapping[str, np.ndarray]
    settings: EngineSettings
    unchanged: np.ndarray
    count: int = field(default=0)

    def passes(self, group: Sequence[Tap]) -> bool:
        """Whether the logits stay as they are while the group is watched, and while a tweak reads it."""
        self.count += 1
        if not self._equal(_logits(self.subject, group, self.feeds, self.settings)[0]):
            return False
        try:
            tweaked = _with_zeros(self.subject, group)
        except ModelError:  # computed after the logits are used, or the model takes no tweak at all
            return len(group) == 0
        return self._equal(_logits(tweaked, (), self.feeds, self.settings)[0])

    def _equal(self, logits: np.ndarray) -> bool:
        return np.array_equal(logits, self.unchanged, equal_nan=True)


def _with_zeros(subject: Subject, taps: Sequence[Tap]) -> Subject:
    """The subject with a tweak that reads the first and last neuron of each tap and adds zeros.

    Raises ModelError where no tweak can read them.
    """
    ends = [(number, index) for number, tap in enumerate(taps) for index in {0, tap.neurons - 1}]
    neurons = Neurons(
        tuple(taps), np.array([t for t, _ in ends], np.int32), np.array([i for _, i in ends], np.int64)
    )
    model, classes = subject.model, subject.classes
    patch = Linear(np.zeros((len(ends), classes)), np.zeros(classes))
    tweak = Tweak("trial", model.base_sha256, subject.logits, classes, neurons, patch, {})
    return replace(subject, model=model.holding(splice_to_run(model, tweak, subject.logits_format)))


def _parts(group: list[Tap]) -> list[list[Tap]]:
    """Smaller groups to try: by operator, because runtimes fuse by operator; then halves."""
    ops = dict.fromkeys(tap.op for tap in group)
    if len(ops) > 1:
        return [[tap for tap in group if tap.op == op] for op in ops]
    half = len(group) // 2
    return [group[:half], group[half:]] if half else []


def _logits(
    subject: Subject, taps: Sequence[Tap], feeds: Mapping[str, np.ndarray], settings: EngineSettings
) -> tuple[np.ndarray, str]:
    """The logits while `taps` are exposed, and the device that computed them."""
    exposed = subject.exposed(taps)
    session = session_of(subject.model, exposed.proto, settings)
    return subject.run(session, exposed.logits, feeds), session.device
