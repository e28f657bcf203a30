"""What does a model show that marks several labels at once: which class is there, each for itself?

Every class has a score of its own, above which its output says that it is there. Where that is in each column
is found by asking what the model does after the tensor, with made-up numbers; many more of these, each class
on one side or the other at random, confirm that no class heeds the others.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from onnxtweak.engine.answer.at_positions import settle_marks
from onnxtweak.engine.answer.number_cut import Cuts
from onnxtweak.engine.answer.observed import Observed
from onnxtweak.engine.answer.tail import Question, Tail, observed_tensors, settled_on
from onnxtweak.engine.opened import Opened
from onnxtweak.errors import InputError, ModelError, UsageError
from onnxtweak.head import ROUNDING, SEVERAL_LABELS, Answer, Readout
from onnxtweak.model.inspect.tail import is_unbounded
from onnxtweak.settings import EngineSettings

_TRIED = 256  # rows of made-up numbers
_FARTHEST = 30.0  # where a class has to be surely there, or not; and times the usual range
_STEPS = 48  # halvings of that, until a cut is known


def settle_several(
    opened: Opened, feeds: Mapping[str, np.ndarray], settings: EngineSettings, threshold: float | None = None
) -> Opened:
    """The model with the tensor to patch, and the output that marks the classes which are there.

    feeds : samples by input name. Raises ModelError where no output marks each class for itself, UsageError
    for a threshold.
    """
    if threshold is not None:
        hint = "leave it out; `fit` sets a threshold for each label, and the new file shows it"
        raise UsageError("several labels have a threshold each", where="--threshold", hint=hint)
    if opened.may_be_at_positions:
        return settle_marks(opened, feeds, settings)
    question, reasons = Question(feeds, settings, Cuts(), proven=False), list[str]()
    for name, observed in observed_tensors(opened, feeds, settings):
        for answer in _answers(opened, observed):
            try:
                readout = _read(Tail(opened, name, observed, answer, question), observed, answer)
            except InputError as error:
                reasons.append(error.what)
                continue
            if readout is None:
                reasons.append(f"output {answer.output!r} does not show each class for itself")
                continue
            return settled_on(opened, name, readout, answer)
    raise ModelError(
        "labels mark several classes of a sample, and the model does not show each class for itself: "
        + (reasons[0] if reasons else "no output has a number for each"),
        where=f"after '{opened.logits.name}' of {opened.model.path}",
        hint="give the one class of each sample, shape (N,); or a model with a sigmoid for each class",
    )


def _answers(opened: Opened, observed: Observed) -> Iterator[Answer]:
    """How each output might mark the classes: flags first, then scores, which are cut at 1/2 or at 0."""
    flags, scores = list[Answer](), list[Answer]()
    for name, value in observed.outputs.items():
        if not isinstance(value, np.ndarray) or value.size != observed.x.size:
            continue
        if value.dtype.kind in "biu":
            flags.append(Answer(name, "marks"))
        elif value.dtype.kind == "f":
            bounded = value.min() >= 0 and value.max() <= 1 and not is_unbounded(opened.model.graph, name)
            scores.append(Answer(name, "marks", 0.5 if bounded else 0.0))
    yield from (*flags, *scores)


def _read(tail: Tail, observed: Observed, answer: Answer) -> Readout | None:
    """Each class's score, from its column: positive where the output marks it; None where that is not so."""
    values, columns = observed.on_logit_scale, observed.x.shape[1]
    if not np.isfinite(values).all() or observed.scale == "probability":
        return None
    far = max(_FARTHEST, 4 * float(np.abs(values).max(initial=0.0)))
    low, high = np.full(columns, -far), np.full(columns, far)
    ends = answer.shown(tail.ask(np.array([low, high])))
    if ends[0].any() or not ends[1].all():
        return None
    for _ in range(_STEPS):
        middle = (low + high) / 2
        there = answer.shown(tail.ask(middle[None]))[0] > 0
        low, high = np.where(there, low, middle), np.where(there, middle, high)
    cuts = (low + high) / 2
    cuts[np.abs(cuts) < ROUNDING[observed.dtype]] = 0
    offset = tuple(float(f"{-cut:.7g}") + 0.0 for cut in cuts)
    readout = Readout(columns, tuple(range(columns)), offset, 1, observed.scale)
    x = cuts + np.random.default_rng(0).normal(0, max(float(values.std()), 1.0), (_TRIED, columns))
    scores, tolerance = x + np.array(offset), ROUNDING[observed.dtype]
    near = np.abs(scores) <= 2 * tolerance * np.maximum(1.0, np.abs(x))
    if ((answer.shown(tail.ask(x)) != SEVERAL_LABELS.predict(scores)) & ~near).any():
        return None
    own = readout.scores(observed.x)
    return None if answer.contradicts(own, observed.outputs[answer.output], tolerance).any() else readout
