"""Which taps can be exposed without changing the logits?

A runtime fuses neighbouring operators where no output lies between them. A tap is such an output: one kernel
becomes two, and the logits can differ in their last bits, or by a step where they are quantised. The same
holds for a tweak that reads there, which then could not equal its base at scale 0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from onnxtweak.engine.session import open_session
from onnxtweak.engine.subject import Subject
from onnxtweak.errors import ModelError
from onnxtweak.settings import EngineSettings
from onnxtweak.types import Tap

_MOST_TRIALS = 32  # sessions that may be opened in the search for unsafe taps
_NAMED = 3


@dataclass(frozen=True)
class SafeTaps:
    """taps : those that leave every bit of the logits unchanged. left_out : the others, and those untried."""

    taps: tuple[Tap, ...]
    left_out: tuple[Tap, ...]

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user should know about those left out."""
        if not self.left_out:
            return ()
        names = ", ".join(tap.name for tap in self.left_out[:_NAMED])
        more = f" and {len(self.left_out) - _NAMED} more" if len(self.left_out) > _NAMED else ""
        return (f"left out, because exposing them changes the model's logits: {names}{more}",)


def safe_taps(
    subject: Subject, taps: Sequence[Tap], feeds: Mapping[str, np.ndarray], settings: EngineSettings
) -> SafeTaps:
    """Those of `taps` that can be exposed on the CPU without changing a bit of the logits.

    feeds : a few samples by input name. On a GPU, where every session chooses its kernels anew, all are kept.
    Raises ModelError when none is left.
    """
    unchanged, device = _logits(subject, (), feeds, settings)
    if device != "cpu" or not taps:
        return SafeTaps(tuple(taps), ())
    good: set[Tap] = set()
    waiting, trials = [list(taps)], 0
    while waiting and trials < _MOST_TRIALS:
        group, trials = waiting.pop(0), trials + 1
        logits, _ = _logits(subject, group, feeds, settings)
        if np.array_equal(logits, unchanged, equal_nan=True):
            good.update(group)
        else:
            waiting += _parts(group)
    safe = tuple(tap for tap in taps if tap in good)
    if not safe:
        raise ModelError(
            "exposing these tensors changes the logits: the runtime fuses them with what follows",
            where=", ".join(tap.name for tap in taps[:_NAMED]),
            hint="choose tensors after an activation or a quantisation with --taps; see `onnxtweak inspect`",
        )
    return SafeTaps(safe, tuple(tap for tap in taps if tap not in good))


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
    session = open_session(exposed.proto, subject.model.folder, settings, subject.model.path)
    needed = subject.feeding.fed(feeds, [port.name for port in session.inputs])
    # All outputs are requested: any other might not be computed.
    values = session.run(needed)
    outputs = {port.name: value for port, value in zip(session.outputs, values, strict=True)}
    assert exposed.logits is not None  # `Subject.exposed` always asks for them
    return outputs[exposed.logits], session.device
