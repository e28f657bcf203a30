"""Which tensor of a model holds the logits?

The search starts at each graph output and goes back over what a classifier does after its class scores:
choose a class (ArgMax, TopK, ZipMap), reshape, cast, normalise (softmax in any form, sigmoid). It stops at
the tensor where adding to a class's value changes exactly that class's logit, in the rank-2 form (N, C) where
the model has one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from onnx import NodeProto

from onnxtweak.errors import ModelError
from onnxtweak.model.file.tweak_metadata import tweaks_inside
from onnxtweak.model.graph import DEFAULT_DOMAINS, GraphIndex, attribute
from onnxtweak.model.inspect.channels import label_axis, layer_axis
from onnxtweak.model.inspect.graph_checks import require_sound
from onnxtweak.model.inspect.refusals import (
    FLOATS,
    NOT_A_CLASSIFIER,
    quoted,
    refuse_closed,
    refuse_name,
    refuse_positions,
    refuse_tensor,
)
from onnxtweak.model.inspect.shapes import Shape, is_state, known_shape, shape_before
from onnxtweak.model.inspect.softmax import SPELLINGS, SoftmaxMatch, match_softmax
from onnxtweak.model.inspect.tail import cuts, last_computed, passed_by_all, positive_class, tail_operators
from onnxtweak.model.logits_format import NO_AXIS, checked_axis, class_axis_of, classes_of, layout_of

_RESHAPING = frozenset({"Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity", "Dropout"})
_SAME_SHAPE = SPELLINGS | frozenset(
    {"Sigmoid", "Identity", "Cast", "Dropout", "QuantizeLinear", "DequantizeLinear", "Log"}
)
_CHOOSING = frozenset({"ArgMax", "TopK", "ZipMap", "Normalizer", "Hardmax"})
_KEEPING_ORDER = _RESHAPING | frozenset(
    {
        "Cast",
        "CastLike",
        "QuantizeLinear",
        "DequantizeLinear",
        "Transpose",
        "Concat",
        "Log",
        "Exp",
        "Clip",
        "Round",
        "ReduceMax",
    }
)
_LOOKING_UP = frozenset({"LabelEncoder", "ArrayFeatureExtractor", "Gather", "Slice"})
_WITH_CONSTANT = frozenset({"Mul", "Div", "Add", "Sub", "Max", "Min"})
_WALKED_DOMAINS = (*DEFAULT_DOMAINS, "ai.onnx.ml")
_WALKED = _CHOOSING | _KEEPING_ORDER | _LOOKING_UP | _WITH_CONSTANT


@dataclass(frozen=True)
class Logits:
    """The tensor a tweak is added to.

    name : the tensor. output : the graph output from which it was found. rule : how, in a few words. explain
    : the same as a sentence. shape : as far as the file tells, batch axis first; None: unknown rank. layout :
    one letter per axis: N samples, C classes, 1 for an axis of size 1; such as "NC", "NC11" or "N1" (a single
    logit), and P for positions that have scores each; None where the file does not tell. classes : C, None
    where the file does not tell. steps : operators that the search went back over, starting at the output.
    axis : that the model decides over where its scores may be at positions, as far as the graph tells; or
    `NO_AXIS`. chooses : whether the graph chooses one class over it, as by a softmax.
    """

    name: str
    output: str
    rule: str
    explain: str
    shape: Shape | None = None
    layout: str | None = None
    classes: int | None = None
    steps: tuple[str, ...] = ()
    axis: int | None = None
    chooses: bool = False

    @property
    def class_axis(self) -> int | None:
        """Axis of the classes, None when the layout is unknown or has none."""
        axis = (self.layout or "").find("C")
        return None if axis < 0 else axis

    @property
    def at_positions(self) -> bool:
        """Whether every position has scores."""
        return "P" in (self.layout or "")

    @property
    def binary(self) -> bool:
        """One logit, two classes: positive for class 1."""
        return self.layout is not None and "C" not in self.layout and not self.at_positions


@dataclass(frozen=True)
class _Candidate:
    """Logits found from one output. rank : the higher, the more certain."""

    logits: Logits
    rank: tuple[int, bool, bool]


def find_logits(graph: GraphIndex, override: str | None = None, over: int | None = None) -> Logits:
    """The logits tensor of a classifier.

    override : take this tensor of the main graph instead of searching. over : the axis that counts classes
    where positions have scores, or `NO_AXIS`; None: as the graph tells. Raises ModelError when there is none
    that could be tweaked, when two outputs are equally plausible, or when the override is not a suitable
    tensor.
    """
    require_sound(graph)
    if override is not None:
        return _with_axis(_Candidate(_overridden(graph, override), (0, True, True)), over).logits
    found: list[_Candidate] = []
    refusals: list[ModelError] = []
    shadows = {tweak.shadow for tweak in tweaks_inside(graph.proto)}  # beside the model's own outputs
    for output in graph.outputs:
        if output.name in shadows:
            continue
        try:
            found.append(_with_axis(_search_from(graph, output.name), over))
        except ModelError as refusal:
            refusals.append(refusal)
    if not found:
        raise refusals[0] if refusals else ModelError("the model has no outputs")
    found = [one for one in found if not is_state(graph, one.logits.output)] or found
    best = max(candidate.rank for candidate in found)
    found.sort(key=lambda candidate: graph.declared_type(candidate.logits.output) not in FLOATS)
    chosen = {one.logits.name: one.logits for one in reversed(found) if one.rank == best}
    if len(chosen) > 1 and best[0] == _PLAIN:
        last = last_computed(graph, list(chosen))
        chosen = chosen if last is None else {last: chosen[last]}
    if len(chosen) > 1 and (shared := passed_by_all(graph, list(chosen))):
        chosen = {shared: chosen[shared]}
    if len(chosen) > 1:
        names = " or ".join(f"--logits {quoted(name)}" for name in reversed(chosen))
        raise ModelError(
            f"{len(chosen)} outputs could be the class scores",
            where=", ".join(repr(logits.output) for logits in reversed(chosen.values())),
            hint=f"name the tensor that holds the logits: {names}",
        )
    return next(iter(chosen.values()))


def logits_between(graph: GraphIndex, name: str, output: str) -> Logits:
    """A tensor between the last layer and `output` as the one that a tweak is added to.

    Raises ModelError where it cannot be.
    """
    return _with_axis(_between(graph, name, output), None).logits


_PLAIN, _CHOICE, _NORMALISED = 1, 2, 3


def _with_axis(found: _Candidate, over: int | None) -> _Candidate:
    """What was found, with the axis of the classes that the user says, where that is not None.

    Raises ModelError for scores that are not one row a sample where nothing says which axis that is.
    """
    logits = found.logits
    layout, shape = logits.layout, logits.shape
    if over is None:
        # One number per sample may be anything; before a sigmoid it is a logit.
        is_vector = layout is not None and (layout != "N" or logits.rule in ("before Sigmoid", "given"))
        refuse_positions(shape, is_vector, logits.name)
        return found
    axis = checked_axis(shape, over, logits.name)
    changed = replace(logits, axis=axis, layout=layout_of(shape, axis), classes=classes_of(shape, axis))
    return replace(found, logits=changed)


def _between(graph: GraphIndex, name: str, output: str) -> _Candidate:
    if name == output:
        return _candidate(graph, output, name, "the output itself", [], _PLAIN)
    steps = list(reversed(tail_operators(graph, name, output)))
    return _candidate(graph, output, name, f"before {steps[-1]}", steps, _CHOICE)


def _search_from(graph: GraphIndex, output: str) -> _Candidate:
    """The logits from which one graph output is computed. Raises ModelError with the reason without any."""
    name = output
    steps: list[str] = []
    decided: tuple[str, int, int | None] | None = None
    while True:
        match = match_softmax(graph, name)
        if match is not None:
            steps.append(match.rule)
            return _before_softmax(graph, output, match, steps)
        node = graph.producer(name)
        if node is None:
            break
        if node.op_type == "Sigmoid":
            steps.append("Sigmoid")
            return _candidate(graph, output, node.input[0], "before Sigmoid", steps, _CHOICE)
        if node.op_type in ("QLinearSoftmax", "QLinearSigmoid"):
            return _quantized(graph, output, node, steps)
        varying = [item for item in dict.fromkeys(node.input) if item and graph.depends_on_input(item)]
        if node.op_type == "Concat":
            varying = [positive_class(graph, varying)]
        if node.op_type not in _WALKED or node.domain not in _WALKED_DOMAINS:
            break
        if len(varying) != 1 or not varying[0]:
            break
        steps.append(node.op_type)
        name = varying[0]
        if node.op_type in _CHOOSING:
            over = attribute(node, "axis", 0) if node.op_type == "ArgMax" else None
            decided = name, len(steps), over
    last = graph.producer(name)
    refuse_closed(graph, last, output)
    if last is not None and last.op_type == "LinearClassifier":
        return _candidate(graph, output, last.output[1], "scores of LinearClassifier", steps, _CHOICE)
    if decided is not None:
        name, count, over = decided
        return _candidate(graph, output, name, f"before {steps[count - 1]}", steps[:count], _CHOICE, over)
    if graph.declared_type(output) not in (*FLOATS, None):
        deepest = cuts(graph, output)[-1]
        if deepest != output and graph.producer(deepest) is not None:
            return _between(graph, deepest, output)
        raise ModelError("the output is not floating-point class scores", where=output, hint=NOT_A_CLASSIFIER)
    if last is None:
        refuse_tensor(graph, name, f"the tensor of output '{output}'")
    return _candidate(graph, output, output, "the output itself", [], _PLAIN)


def _before_softmax(graph: GraphIndex, output: str, match: SoftmaxMatch, steps: list[str]) -> _Candidate:
    axis, rule = match.axis, match.rule
    shape = known_shape(graph, match.input)
    rank = None if shape is None else len(shape)
    if axis is not None and (axis == 0 or (rank is not None and axis == -rank)):
        raise ModelError(
            f"the {rule} runs over the samples, not over classes", where=output, hint=NOT_A_CLASSIFIER
        )
    wide = rank
    if wide is None and all(step in _SAME_SHAPE for step in steps):
        wide = len(graph.declared_shape(output) or ()) or None
    decides = (-1 if axis is not None and wide == axis + 1 else None) if match.flattens else axis
    found = _candidate(graph, output, match.input, f"before {rule}", steps, _NORMALISED, decides)
    class_axis = found.logits.class_axis
    comparable = not match.flattens and rank == len(found.logits.layout or "")
    if comparable and axis is not None and rank and class_axis is not None and axis % rank != class_axis:
        raise ModelError(f"the {rule} does not run over the classes", where=output, hint=NOT_A_CLASSIFIER)
    return found


def _quantized(graph: GraphIndex, output: str, node: NodeProto, steps: list[str]) -> _Candidate:
    source = graph.producer(node.input[0])
    if source is None or source.op_type != "QuantizeLinear":
        raise ModelError(
            f"the logits before {node.op_type} are integers only",
            where=output,
            hint="export the model with floating-point logits (leave the last softmax unquantised)",
        )
    rule = node.op_type
    steps = [*steps, rule, "QuantizeLinear"]
    return _candidate(graph, output, source.input[0], f"before {rule}", steps, _CHOICE)


def _candidate(
    graph: GraphIndex,
    output: str,
    name: str,
    rule: str,
    steps: list[str],
    quality: int,
    decides: int | None = None,
) -> _Candidate:
    """decides : the axis that a class is chosen over; None where the graph does not tell."""
    name, shape, more = _rank_two(graph, name)
    if classes_of(shape) is None and not more:
        alike = all(step in _SAME_SHAPE for step in steps)
        declared = graph.declared_shape(output) if alike else shape_before(graph, name, output)
        if declared is not None and (shape is None or len(shape) == len(declared)):
            shape = declared
    refuse_tensor(graph, name, "the tensor of the class scores")
    axis = class_axis_of(shape, decides)
    if axis is None and shape is not None:
        axis, shape = (label_axis if rule == "before Sigmoid" else layer_axis)(graph, name, shape)
    layout = layout_of(shape, axis)
    single = layout is not None and "C" not in layout
    what = "one logit for two classes" if single and "P" not in (layout or "") else "the class logits"
    what += " at every position" if "P" in (layout or "") else ""
    source = "" if name == output else f", found from output {output!r} ({' <- '.join((*steps, *more))})"
    logits = Logits(
        name=name,
        output=output,
        rule=rule,
        explain=f"{name!r} holds {what}: {rule}{source}",
        shape=shape,
        layout=layout,
        classes=classes_of(shape, axis),
        steps=(*steps, *more),
        axis=axis,
        chooses=decides is not None or quality == _NORMALISED,
    )
    return _Candidate(logits, (quality, layout is not None, not logits.binary))


def _rank_two(graph: GraphIndex, name: str) -> tuple[str, Shape | None, list[str]]:
    """The (N, C) tensor from which (N, C, 1, 1) was reshaped, or (N, 1) for (N,); else the tensor itself.

    Also its shape, and the operators in between.
    """
    shape = known_shape(graph, name)
    layout = layout_of(shape)
    if shape is None or layout is None or len(shape) == 2:
        return name, shape, []
    back = name
    steps: list[str] = []
    while (node := graph.producer(back)) is not None and node.op_type in _RESHAPING:
        steps.append(node.op_type)
        back = node.input[0]
        earlier = known_shape(graph, back)
        wanted = "NC" if "C" in layout else "N1"
        if layout_of(earlier) == wanted and graph.producer(back) is not None:
            return back, earlier, steps
    return name, shape, []


def _overridden(graph: GraphIndex, name: str) -> Logits:
    """The named tensor; of an output that shows scores at positions, the tensor that the search finds."""
    if graph.producer(name) is None:
        refuse_name(graph, name)
    refuse_tensor(graph, name, "the tensor given as logits")
    position = graph.position(name)
    outputs = [v.name for v in graph.outputs if v.name == name or position in graph.ancestors([v.name])]
    if not outputs:
        raise ModelError("no output depends on the tensor given as logits", where=name, hint=NOT_A_CLASSIFIER)
    shape, axis, chooses = known_shape(graph, name), None, False
    try:
        found = _search_from(graph, outputs[0]).logits
        if found.name == name:
            shape, axis, chooses = shape or found.shape, found.axis, found.chooses
        elif name in outputs and found.axis is not None:
            return found
    except ModelError:
        pass
    axis = class_axis_of(shape, axis) if axis != NO_AXIS else axis
    layout, classes = layout_of(shape, axis), classes_of(shape, axis)
    explain = f"{name!r} was given as the logits"
    return Logits(name, outputs[0], "given", explain, shape, layout, classes, (), axis, chooses)
