"""What does a model show of a few samples? Run together, or one at a time where it takes no more of them."""

from __future__ import annotations

from dataclasses import replace

from onnxtweak.data.splits import View
from onnxtweak.engine.answer.several_labels import settle_several
from onnxtweak.engine.answer.tail import ANSWERED, settle_answer
from onnxtweak.engine.measure import measure
from onnxtweak.engine.opened import Opened, fixed_batch
from onnxtweak.engine.subject import few_samples, whole_batches
from onnxtweak.errors import DataError
from onnxtweak.settings import EngineSettings


def answered(
    opened: Opened, view: View, settings: EngineSettings, threshold: float | None = None, *, several: bool
) -> Opened:
    """The model with its answer settled on samples of a view, as of `settle_several` or `settle_answer`.

    Exported from one sample, a model may declare that it takes any number of them and yet run no two.
    """
    find, view = settle_several if several else settle_answer, view.spread_out(ANSWERED)
    try:
        return find(opened, whole_batches(opened, view, ANSWERED), settings, threshold)
    except DataError:
        alone = replace(opened, alone=True)
        if fixed_batch(opened) is not None or len(view.samples) < 2:
            raise
        if _runs(opened, view, 2, settings) or not _runs(alone, view, 1, settings):
            raise
    return find(alone, whole_batches(alone, view, ANSWERED), settings, threshold)


def _runs(opened: Opened, view: View, count: int, settings: EngineSettings) -> bool:
    """Whether it runs so many samples at once."""
    try:
        feeds = few_samples(opened, view, count)
        measure(opened.model, opened.logits.name, (), feeds, settings, opened.feeding)
    except DataError:
        return False
    return True
