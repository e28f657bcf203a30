"""How does a model's answer follow from its logits? Its tail is probed, and the tensor to patch is settled.

The graph suggests a tensor. Whether the class of its highest value is the class that the model shows is tried
with real samples and with made-up logits. Where it is not, or where the tensor holds probabilities, other
tensors between the last layer and the output are tried. What cannot be settled is refused, with the operators
in between.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from onnxtweak.engine.answer.at_positions import settle_positions
from onnxtweak.engine.answer.detections import settle_detector
from onnxtweak.engine.answer.number_cut import Cuts, anything, recorded_cut, require_cut, with_cut
from onnxtweak.engine.answer.observed import Observed, joined, observe
from onnxtweak.engine.answer.probing import NotDecided, read_columns
from onnxtweak.engine.opened import Opened, fixed_batch
from onnxtweak.engine.session import Session, open_session
from onnxtweak.errors import DataError, InputError, ModelError, UsageError
from onnxtweak.head import ROUNDING, Answer, Readout, by_sample
from onnxtweak.model.edit.expose import PROBE, only_tail
from onnxtweak.model.file.tweak_metadata import tweaks_inside
from onnxtweak.model.graph import GraphIndex
from onnxtweak.model.inspect.logits import logits_between
from onnxtweak.model.inspect.refusals import FLOATS
from onnxtweak.model.inspect.tail import (
    cuts,
    is_top_value,
    names_class,
    ranks_classes,
    shown_outputs,
    tail_operators,
)
from onnxtweak.settings import EngineSettings

ANSWERED = 64  # real samples on which logits and answer are compared before anything is learnt
_NUMBERS = 1 << 21  # that a tail is asked about at a time
_NOT_FINITE = "class scores are NaN or infinite"


def settle_answer(
    opened: Opened, feeds: Mapping[str, np.ndarray], settings: EngineSettings, threshold: float | None = None
) -> Opened:
    """The model with the tensor to patch, how scores are read from it, and the answer it shows.

    feeds : samples by input name, all of which are tried. threshold : above which a single number means class
    1; None: what the file records, else as `number_cut` has it. Raises ModelError where the answer does not
    follow from any tensor. Of a model with a tweak inside that was found before: its logits may be so large
    that probabilities saturate, which is for checks to count, not for the search.
    """
    if opened.detector is not None:
        return settle_detector(opened, feeds, settings, threshold)
    at_positions = settle_positions(opened, feeds, settings)
    if at_positions is not None:
        assert at_positions.answer is not None  # it was found
        require_cut(threshold, at_positions.answer)
        return at_positions
    proven = bool(tweaks_inside(opened.model.proto))
    question = Question(feeds, settings, Cuts(threshold, recorded_cut(opened.model)), proven)
    reasons: list[str] = []
    probabilities: list[tuple[str, Observed]] = []
    for name, observed in observed_tensors(opened, feeds, settings):
        if observed.scale != "logit":
            probabilities.insert(0, (name, observed))  # the one closest to the output is tried first
            continue
        found = _settled(opened, name, observed, question, reasons)
        if found is not None:
            return found
    for name, observed in probabilities:
        found = _settled(opened, name, observed, question, reasons)
        if found is not None:
            return found
    graph, output = opened.model.graph, opened.logits.output
    first = opened.logits.name if opened.named else cuts(graph, output)[-1]
    if reasons and reasons[0].startswith(_NOT_FINITE):
        raise DataError(
            f"the model's {reasons[0]}",
            where=f"tensor '{first}' of {opened.model.path}",
            hint="repair or remove such samples, or scale them as the model was trained on them",
        )
    passed = ", ".join(tail_operators(graph, first, output)) or "nothing"
    made_by = "" if (node := graph.producer(first)) is None else f", made by {node.op_type}"
    raise ModelError(
        "the class that the model shows does not follow from its class scores: "
        + (reasons[0] if reasons else "no output shows a class"),
        where=f"after '{first}'{made_by}: {passed}",
        hint="export the model without these operators behind its class scores, or name another tensor with"
        " --logits",
    )


@dataclass(frozen=True)
class Question:
    """What the search asks with, as for `settle_answer`. proven : see `read_columns`."""

    feeds: Mapping[str, np.ndarray]
    settings: EngineSettings
    given: Cuts
    proven: bool


def observed_tensors(
    opened: Opened, feeds: Mapping[str, np.ndarray], settings: EngineSettings
) -> Iterator[tuple[str, Observed]]:
    """Tensors to try: the one that the graph suggests, the deepest, and on towards the output.

    Those that cannot be observed are left out, but the first, whose InputError is raised.
    """
    chain = () if opened.named else reversed(cuts(opened.model.graph, opened.logits.output))
    for name in dict.fromkeys([opened.logits.name, *chain]):
        try:
            observed = observe(opened, name, feeds, settings)
        except InputError:
            if name == opened.logits.name:
                raise
        else:
            yield name, observed


def settled_on(opened: Opened, name: str, readout: Readout, answer: Answer, words: str = "") -> Opened:
    """The model with `name` as the tensor to patch. words : what more is said of how it was found."""
    graph, logits = opened.model.graph, opened.logits
    if name != logits.name:
        logits = logits_between(graph, name, logits.output)
    logits = replace(logits, explain=logits.explain + words)
    plain = readout.is_plain and readout.scale == "logit"
    return replace(opened, logits=logits, readout=None if plain else readout, answer=answer)


def _not_finite(x: np.ndarray, feeds: Mapping[str, np.ndarray]) -> str:
    """In words: on which of the samples scores x (n, R) overflow, and how large its inputs are."""
    spoilt = ~np.isfinite(x).all(axis=1)
    row = int(spoilt.argmax())
    reached = ", ".join(
        f"`{name}` reaches {np.abs(value[row].astype(np.float64)).max(initial=0):.3g}"
        for name, value in feeds.items()
        if value.dtype.kind in "biuf" and value.shape[:1] == x.shape[:1]
    )
    return (
        f"{_NOT_FINITE} on {int(spoilt.sum())} of {len(x)} samples tried, first on sample {row} of these"
        + (f", where {reached}" if reached else "")
    )


def _settled(
    opened: Opened, name: str, observed: Observed, question: Question, reasons: list[str]
) -> Opened | None:
    """The model with `name` as the tensor to patch; None, and a reason more, where that cannot be."""
    graph = opened.model.graph
    if not np.isfinite(observed.x).all():
        reasons.append(_not_finite(observed.x, question.feeds))
        return None
    if observed.scale != "logit" and not observed.x.any(axis=1).all():
        reasons.append("on some samples all scores are zero")
        return None
    if observed.stuck and not question.proven:
        reasons.append(observed.stuck)
        return None
    if aside := _left_aside(graph, opened.logits.output, name):
        reasons.append(f"a patch there would not change output {aside!r}, which shows the class too")
        return None
    for answer in _answers(graph, observed):
        tail = Tail(opened, name, observed, answer, question)
        tolerance = ROUNDING[observed.dtype]
        shown = observed.outputs[answer.output]
        try:
            answer = with_cut(graph, name, answer, shown, tail.anything, question.given)
            readout, answer = read_columns(
                tail.ask,
                observed.on_logit_scale,
                answer,
                observed.scale,
                tolerance,
                proven=question.proven,
            )
        except NotDecided as reason:
            if reason.constant:
                continue
            reasons.append(f"in output {answer.output!r} {reason.why}")
            return None
        except UsageError:
            raise
        except InputError as error:
            reasons.append(f"output {answer.output!r} does not follow from them alone ({error.what})")
            return None
        wrong = answer.contradicts(readout.scores(observed.x), shown, tolerance)
        if wrong.any() and not question.proven:
            reasons.append(
                f"output {answer.output!r} shows another class on {int(wrong.sum())} of {len(wrong)} samples"
            )
            return None
        require_cut(question.given.threshold, answer)
        return settled_on(opened, name, readout, answer, _in_words(readout))
    return None


def _left_aside(graph: GraphIndex, output: str, name: str) -> str | None:
    """An output that names the class by the same scores as `output`, and not by the tensor `name`."""
    deepest, after = cuts(graph, output)[-1], shown_outputs(graph, name)
    for value in graph.outputs:
        other = value.name
        names = names_class(graph, other) or graph.declared_type(other) not in (*FLOATS, None)
        if names and other not in after and cuts(graph, other)[-1] == deepest:
            return other
    return None


def _in_words(readout: Readout) -> str:
    """What a reader should know of how scores are read, as the end of a sentence; empty for nothing."""
    words = []
    if readout.scale != "logit":
        words.append("it holds probabilities, which a patch changes so that they stay such")
    if readout.single:
        if readout.sign < 0:
            words.append("it speaks for class 0")
        if readout.offset[1]:
            words.append(f"the decision is at {-readout.sign * readout.offset[1]:.4g}")
    else:
        if list(readout.source) != sorted(readout.source):
            words.append("the model shows its classes in another order")
        if readout.classes < readout.columns:
            words.append(f"the model shows {readout.classes:,} of its {readout.columns:,} columns")
        if any(readout.offset):
            words.append("the model weights its classes afterwards, which is part of every decision")
    return "".join(f"; {text}" for text in words)


def _answers(graph: GraphIndex, observed: Observed) -> Iterator[Answer]:
    """How each output might show the class: those that name it first, then scores, then single numbers."""
    found: list[tuple[int, Answer]] = []
    for name, value in observed.outputs.items():
        if len(value) != len(observed.x):
            continue
        if isinstance(value, list):
            if isinstance(value[0], dict):
                found.append((1, Answer(name, "map")))
            continue
        each = int(np.size(value[0]))
        if value.dtype.kind == "f" or value.dtype.name == "bfloat16":
            if is_top_value(graph, name, each) or not each:
                continue
            if names_class(graph, name):
                found.append((0, Answer(name, "label")))
                continue
            if each > 1:
                found.append((2, Answer(name, "scores")))
                continue
            found.append((3, Answer(name, "number")))
        elif each == 1 or ranks_classes(graph, name):
            found.append((0, Answer(name, "label")))
        elif value.dtype.kind in "iu" and np.ptp(value.astype(np.int64)) > 1:  # not a mark for each class
            found.append((2, Answer(name, "scores")))
    yield from (answer for _, answer in sorted(found, key=lambda item: item[0]))


class Tail:
    """What the model does after the tensor, ready to be asked about made-up values of it."""

    def __init__(
        self, opened: Opened, name: str, observed: Observed, answer: Answer, question: Question
    ) -> None:
        self._answer, self._observed, self._question = answer, observed, question
        self._batch = fixed_batch(opened)
        self._opened, self._name = opened, name
        self._session: Session | None = None

    def ask(self, x: np.ndarray) -> Any:
        """The output's value (n, ...) for columns (n, R) on the logit scale. Raises InputError."""
        if self._session is None:
            model = only_tail(
                self._opened.model.graph, self._name, self._observed.dtype, [self._answer.output]
            )
            self._session = open_session(
                model, self._opened.model.folder, self._question.settings, self._opened.model.path
            )
        size = self._batch or max(1, _NUMBERS // x.shape[1])
        return joined([self._run(x[start : start + size]) for start in range(0, len(x), size)])

    def anything(self) -> Any:
        """The output's value where the tensor is near what it is on samples, and far from that."""
        return self.ask(anything(self._observed.on_logit_scale))

    def _run(self, x: np.ndarray) -> Any:
        assert self._session is not None
        count = len(x)
        lack = (self._batch or count) - count
        values = self._on_own_scale(np.concatenate([x, np.repeat(x[-1:], lack, axis=0)]) if lack else x)
        names = [port.name for port in self._session.inputs if port.name != PROBE]
        samples = {n: np.repeat(v[:1], count + lack, axis=0) for n, v in self._question.feeds.items()}
        feeds = self._opened.feeding.fed(samples, names)
        feeds[PROBE] = values.reshape(-1, *self._observed.shape)
        value = self._session.run(feeds, [self._answer.output])[0]
        return by_sample(value, count + lack)[:count]

    def _on_own_scale(self, x: np.ndarray) -> np.ndarray:
        """Columns on the logit scale as the tensor holds them, float32."""
        if self._observed.scale == "probability":
            powers = np.exp(x - x.max(axis=1, keepdims=True))
            x = powers / powers.sum(axis=1, keepdims=True) * self._observed.x.sum(axis=1).mean()
        elif self._observed.scale == "odds":
            x = 1 / (1 + np.exp(-np.clip(x, -80, 80)))
        return x.astype(np.float32)
