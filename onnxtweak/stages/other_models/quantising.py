"""Would quantising a tweaked file lose what its tweak does? And which nodes should be left out?"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from onnxtweak.engine.subject import Subject
from onnxtweak.model.edit.record import of_eight_bits
from onnxtweak.model.inspect.graph_checks import quantises
from onnxtweak.settings import EngineSettings
from onnxtweak.stages.checks import as_subject, run_batch

HOW_TO_QUANTISE = (
    "to quantise the file, leave the tweak's nodes as they are: nodes_to_exclude=[n.name for n in"
    ' onnx.load(FILE).graph.node if n.name.startswith("onnxtweak/")]'
)
# The share by which rounding may change what a tweak adds.
_MOST_CHANGED = 0.1
_MOST_ROWS = 1 << 14  # of scores: of pictures with more positions, every so many


def notes_on_quantising(
    base: Subject, tweaked: Subject, feeds: Mapping[str, np.ndarray], engine: EngineSettings
) -> tuple[str, ...]:
    """A note where weights of 8 bits would change much of what the tweak adds to the scores of some samples.

    Neurons have scales of their own, and weights with them; one step for all loses the small ones. Nothing
    is said of a model that is quantised already.
    """
    if quantises(base.model.graph):
        return ()
    files = base, tweaked, as_subject(tweaked, of_eight_bits(tweaked.model.proto).SerializeToString())
    runs = (run_batch(file, dict(feeds), engine)[0] for file in files)
    scores = [Z[:: -(-len(Z) // _MOST_ROWS)].astype(np.float64) for Z in runs]
    # The same for all classes changes nothing, but where each decides for itself.
    if not base.head.several:
        scores = [Z - Z.mean(axis=1, keepdims=True) for Z in scores]
    before, after, rounded = scores
    added, changed = (float(np.square(d).mean()) for d in (after - before, rounded - after))
    if not changed > _MOST_CHANGED**2 * added > 0:
        return ()
    share = f"{np.sqrt(changed / added):.0%}"
    return (f"weights of 8 bits would change what the tweak adds by {share}: {HOW_TO_QUANTISE}",)
