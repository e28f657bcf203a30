"""Which active neurons does augmentation read? The best of every class by theta, united (METHOD 6)."""

from __future__ import annotations

from collections.abc import Sequence

from onnxtweak.errors import ModelError
from onnxtweak.method.selection.candidates import Candidates
from onnxtweak.method.selection.numbering import numbered, numbers_of, taking_turns
from onnxtweak.method.selection.ranking import Ranking, rank
from onnxtweak.types import Neurons, Tap


def active_neurons(
    best: Sequence[Candidates], taps: Sequence[Tap], names: Sequence[str], criterion: str, count: int
) -> tuple[Neurons, tuple[str, ...]]:
    """The top neurons of every class, united: rank 1 of each class, then rank 2, until there are `count`.

    best, names : of the classes that theta was computed for. Also returns the names of those classes that no
    neuron can help. Raises ModelError when that is all of them.
    """
    rankings: list[Ranking] = []
    helpless = []
    for candidates, name in zip(best, names, strict=True):
        try:
            rankings.append(rank(candidates, taps, criterion, count, f"class {name}"))
        except ModelError:
            helpless.append(name)
    if not rankings:
        raise ModelError(
            "no hidden neuron can raise any class without breaking a sample that is right",
            hint="watch other tensors with --taps, or give more samples",
        )
    chosen = taking_turns([numbers_of(r.neurons) for r in rankings], count)
    return numbered(taps, chosen), tuple(helpless)
