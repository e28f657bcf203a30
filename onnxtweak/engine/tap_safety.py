"""Which taps can be watched without changing the logits?

A runtime fuses neighbouring operators where nobody looks in between. A tap looks in between: what was one
kernel becomes two, and the logits can differ in their last bits, or by a step where they are quantised. The
same holds for a tweak that reads there, which then could not equal its base at scale 0.
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

_MOST_TRIALS = 32  # sessions that may be opened in the search for those that change something
_NAMED = 3


@dataclass(frozen=True)
class SafeTaps:
    """taps : those that leave the logits as they are, bit for bit. left_out : the others, or untried."""

    taps: tuple[Tap, ...]
    left_out: tuple[Tap, ...]

    @property
    def notes(self) -> tuple[str, ...]:
        """What a user should know of it."""
        if not self.left_out:
            return ()
        names = ", ".join(tap.name for tap in self.left_out[:_NAMED])
        more = f" and {len(self.left_out) - _NAMED} more" if len(self.left_out) > _NAMED else ""
        return (f"left out, because watching them changes the model's logits: {names}{more}",)


def safe_taps(
    subject: Subject, taps: Sequence[Tap], feeds: Mapping[str, np.ndarray], engine: EngineSettings
) -> SafeTaps:
    """Of `taps` those that can be watched on the CPU without changing a bit of the logits.

    feeds : a few samples by input. On a GPU kernels are chosen anew in every session: all are kept there.
    Raises ModelError when none is left.
    """
    untouched, device = _logits(subject, (), feeds, engine)
    if device != "cpu" or not taps:
        return SafeTaps(tuple(taps), ())
    good: set[Tap] = set()
    waiting, trials = [list(taps)], 0
    while waiting and trials < _MOST_TRIALS:
        group, trials = waiting.pop(0), trials + 1
        logits, _ = _logits(subject, group, feeds, engine)
        if np.array_equal(logits, untouched, equal_nan=True):
            good.update(group)
        else:
            waiting += _parts(group)
    kept = tuple(tap for tap in taps if tap in good)
    if not kept:
        raise ModelError(
            "watching these tensors changes the logits: the runtime fuses them with what follows",
            where=", ".join(tap.name for tap in taps[:_NAMED]),
            hint="choose tensors behind an activation or a quantisation with --taps; see `onnxtweak inspect`",
        )
    return SafeTaps(kept, tuple(tap for tap in taps if tap not in good))


def _parts(group: list[Tap]) -> list[list[Tap]]:
    """Smaller groups to try: by operator, because fusing goes by operator; then halves."""
    ops = dict.fromkeys(tap.op for tap in group)
    if len(ops) > 1:
        return [[tap for tap in group if tap.op == op] for op in ops]
    half = len(group) // 2
    return [group[:half], group[half:]] if half else []


def _logits(
    subject: Subject, taps: Sequence[Tap], feeds: Mapping[str, np.ndarray], engine: EngineSettings
) -> tuple[np.ndarray, str]:
    """Logits while `taps` are watched, and the device that made them."""
    exposed = subject.exposed(taps)
    session = open_session(exposed.proto, subject.model.folder, engine, subject.model.path)
    needed = {port.name: feeds[port.name] for port in session.inputs}
    # All outputs are asked for: one that is not could be left uncomputed.
    values = session.run(needed)
    names = [port.name for port in session.outputs]
    return values[names.index(exposed.logits)], session.device
