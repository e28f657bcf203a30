"""Do the labels fit what the model seems to be? Asked before anything is learnt or measured."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from onnxtweak.data.dataset import Dataset, check_labels
from onnxtweak.data.several.marks import not_one_each
from onnxtweak.engine.opened import Opened
from onnxtweak.engine.subject import OF_DETECTORS, Subject
from onnxtweak.errors import DataError, ModelError, UsageError
from onnxtweak.model.file.load_failures import repair
from onnxtweak.model.head_kind import HeadKind, head_kind
from onnxtweak.model.inspect.batch import positions_first
from onnxtweak.settings import DataSettings, FitSettings
from onnxtweak.stages.companions import samples_second
from onnxtweak.stages.lines.find_alphabet import with_alphabet


def known_head(opened: Opened) -> HeadKind:
    """What the model looks like.

    Raises ModelError for an embedding that nobody called class scores, and for scores [T, N, C].
    """
    if positions_first(opened.model.graph, opened.logits.name):
        raise samples_second(opened.model.path, opened.logits.name)
    found = head_kind(opened.model.graph, opened.logits, opened.detector)
    if found.kind == "embedding":
        raise ModelError(
            f"the output `{opened.logits.output}` looks like an embedding (it is scaled to length 1), "
            "not like class scores",
            where=opened.model.path,
            hint=f"if its numbers are class scores, say so: --logits {opened.logits.name}",
        )
    return found


def labelled_for(opened: Opened, data: DataSettings) -> DataSettings:
    """The settings with what labels of this kind of model may be: texts, or boxes.

    Raises UsageError and DataError as `with_alphabet`, and UsageError for what a detector does not take.
    """
    if opened.detector is not None:
        _require_boxes(data)
    return replace(with_alphabet(data, opened), boxes=opened.detector is not None)


# What to do instead of listing samples for a detector.
_INSTEAD_OF_LISTS = {
    "must": "leave it out: give those pictures, with their boxes, among --data",
    "lock": "leave it out: --max-class-drop limits what any class may lose",
    "keep": "leave it out: scores of classes that are no target stay as they are where each has a sigmoid",
}


def _require_boxes(data: DataSettings) -> None:
    """Raise UsageError for labels that are no boxes, and for listed samples, which have one label each."""
    if data.head is not None:
        raise UsageError(
            "the model is a detector, whose labels are boxes",
            where=f"--head {data.head}",
            hint="leave it out; if it is none, --class-axis N says which axis of its scores counts classes",
        )
    for role, hint in _INSTEAD_OF_LISTS.items():
        if listed := data.sources(role):
            raise UsageError("not possible for a detector yet", where=f"--{role} {listed[0]}", hint=hint)


def has_several(kind: HeadKind, dataset: Dataset, data: DataSettings) -> bool:
    """Whether samples may have several labels at once.

    Without any label, as `data` says, or else as the model looks.
    """
    looks = kind.kind in ("several labels", "several labels at positions")
    bare = not dataset.known.any() and (data.head == "labels" or (looks and data.head is None))
    return dataset.several or bare


def check_labels_fit(kind: HeadKind, dataset: Dataset, subject: Subject, opened: Opened) -> tuple[str, ...]:
    """What is said about the model, if it is no plain classifier.

    Raises DataError for labels that are no classes of the model.
    """
    if subject.detector is not None:
        return ()
    if not dataset.own:
        _require_positions(kind, dataset, subject, guessed=not opened.logits.chooses)
    numbers = np.empty(0, np.int64) if dataset.sizes or dataset.several else np.unique(dataset.labels)
    if kind.kind == "one number" and len(numbers) and not 0 <= numbers[0] <= numbers[-1] <= 1:
        raise DataError(
            f"the model gives one number per sample, and labels range from {numbers[0]} to {numbers[-1]}: "
            "this looks like a regression, which onnxtweak does not improve",
            where=dataset.parts[0].label_where,
            hint="for a model of two classes, give the labels 0 and 1; for more classes, name the tensor of "
            "their scores with --logits",
        )
    check_labels(dataset, subject.classes)
    if kind.kind != "several labels" or dataset.several:
        return ()
    if any(part.labelled and part.labels.shape[1:] == (1,) for part in dataset.parts):
        return (
            f"{kind.said}; labels of shape (N, 1) say which class that is, not which of "
            f"{subject.classes} labels are there",
        )
    return (kind.said,)


def _require_positions(kind: HeadKind, dataset: Dataset, subject: Subject, *, guessed: bool) -> None:
    """Raise DataError where labels are not at the positions where the model has scores.

    guessed : whether the axis of the classes is what the shape of the scores suggests.
    """
    wanted = tuple(size for size in subject.sizes if size > 1)
    if dataset.sizes == wanted or not dataset.labelled:
        return
    if not subject.sizes:
        part = dataset.parts[0]
        raise not_one_each(part.label_where, part.labels.shape, part.labels)
    size = "x".join(map(str, subject.sizes))
    labelled = "x".join(map(str, dataset.sizes))
    given = f"at each of {labelled} positions" if dataset.sizes else "per sample"
    hint = f"give labels of shape (N, {', '.join(map(str, wanted))})"
    if guessed and (axis := _other_axis(subject, dataset.sizes)) is not None:
        hint += f"; or, if it is axis {axis} of the scores that counts the classes, add --class-axis {axis}"
    elif steps := _coarser(dataset.sizes, wanted):
        every = ", ".join(f"{step // 2}::{step}" for step in steps)
        hint += f", such as y[:, {every}]; or export the model with its scores resized to {labelled}"
    if kind.kind == "several labels at positions" and subject.classes > 1:
        own = iter(subject.sizes)
        marks = [subject.classes if axis == "C" else next(own) for axis in subject.layout if axis in "CP"]
        numbers = dataset.labels[dataset.labels > 1]
        if tuple(marks) == dataset.sizes and len(numbers):
            raise DataError(
                f"{numbers[0]} is no mark of a label at a position",
                where=dataset.parts[0].label_where,
                hint="give 1 where it is there, 0 where it is not, and -1 where it is not known; "
                "--ignore-index says which other number means that",
            )
        hint += f", class numbers; or marks, of shape (N, {', '.join(map(str, marks))})"
    pictures = any(column.sized for column in dataset.parts[0].columns.values())
    if not dataset.sizes and len(wanted) == 2 and pictures:
        hint = "give masks: two folders `images` and `masks`, or a CSV of image,mask"
    elif not dataset.sizes and dataset.parts[0].labels.dtype.kind in "US":
        hint += "; labels that are what stands in each sample need its characters: --alphabet FILE"
    raise DataError(
        f"there is a label {given}, and the model has scores at each of {size} positions",
        where=dataset.parts[0].label_where,
        hint=hint,
    )


def _other_axis(subject: Subject, sizes: tuple[int, ...]) -> int | None:
    """The axis of the scores without which they have the positions that labels have."""
    own = iter(subject.sizes)
    shape = [{"C": subject.classes, "1": 1}.get(axis) or next(own) for axis in subject.layout[1:]]
    wide = {number: size for number, size in enumerate(shape, 1) if size > 1}
    rest = {axis: tuple(size for other, size in wide.items() if other != axis) for axis in wide}
    return next((axis for axis in wide if rest[axis] == sizes and subject.layout[axis] == "P"), None)


def _coarser(sizes: tuple[int, ...], wanted: tuple[int, ...]) -> tuple[int, ...]:
    """How many labels there are for each score along each axis; () where that is no whole number above 1."""
    if len(sizes) != len(wanted) or any(size % own for size, own in zip(sizes, wanted, strict=True)):
        return ()
    return tuple(size // own for size, own in zip(sizes, wanted, strict=True))


_LAYERS = frozenset({"Conv", "ConvTranspose", "MatMul", "Gemm", "LSTM", "GRU"})
_WORKS = "`evaluate` measures a file beside another, and `fit` learns from labels"


def require_one_label(subject: Subject, what: str) -> None:
    """Raise ModelError where a sample has several labels or boxes, which what is asked cannot work with."""
    require_no_boxes(subject, what)
    if subject.head.several:
        raise ModelError(
            f"{what} does not work with several labels at once yet",
            where=subject.model.path,
            hint="leave it out" if what.startswith("--") else _WORKS,
        )


def require_no_boxes(subject: Subject, what: str) -> None:
    """Raise ModelError for a detector, which what is asked cannot work with."""
    if subject.detector is not None:
        raise ModelError(
            f"{what} does not work with detectors yet", where=subject.model.path, hint=OF_DETECTORS
        )


def require_of_labels(subject: Subject, settings: FitSettings) -> None:
    """Raise ModelError where a sample has several labels at once and `fit` is asked for what needs one."""
    if settings.mirror == "on" and subject.detector is None:
        require_one_label(subject, "--mirror on")


def also_changed(opened: Opened) -> list[str]:
    """A note on outputs that a patch of the scores changes through further layers."""
    graph, answer = opened.model.graph, opened.answer
    behind = graph.descendants([opened.logits.name], through_shapes=False)
    layers = {place for place in behind if graph.nodes[place].op_type in _LAYERS}
    others = [
        value.name
        for value in graph.outputs
        if answer is not None and value.name != answer.output and layers & set(graph.ancestors([value.name]))
    ]
    if not others:
        return []
    named = ", ".join(f"`{name}`" for name in others)
    return [f"later layers read these scores: what {named} shows changes with them, and is not judged"]


def require_declared_type(opened: Opened, subject: Subject) -> None:
    """Raise ModelError where ONNX Runtime would not load the model as it is, nor what is made of it."""
    declared = {port.name: port.dtype for port in opened.declared_outputs}.get(subject.logits)
    if declared in (None, subject.dtype):
        return
    kind = {"float32": "FLOAT", "float64": "DOUBLE"}.get(subject.dtype, subject.dtype.upper())
    change = (
        f"[setattr(v.type.tensor_type, 'elem_type', onnx.TensorProto.{kind}) for v in m.graph.output "
        f"if v.name == {subject.logits!r}]"
    )
    raise ModelError(
        f"the model declares its output `{subject.logits}` as {declared}, but computes {subject.dtype}",
        where=subject.model.path,
        hint=f"declare it as what it is: {repair(change, subject.model.path)}",
    )
