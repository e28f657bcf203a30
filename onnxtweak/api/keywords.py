"""Which options do the public functions take? Their types, one TypedDict per question.

Their meanings and defaults are in `onnxtweak.settings`. A list may be a single value, a number may be a
fraction ("1/255"), a class may be a name or a number.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, Required, TypedDict

from onnxtweak.api.goal import Goal
from onnxtweak.api.samples import Samples
from onnxtweak.api.words import ClassName, HeightWidth, Number, Numbers, StrPath, StrPaths
from onnxtweak.settings import (
    BackendName,
    Color,
    Criterion,
    HeadWord,
    JoinCriterion,
    Layout,
    Mirror,
    Pool,
    ResizeMode,
    Theta,
)


class PreprocessOptions(TypedDict, total=False):
    """See `onnxtweak.settings.Preprocess`."""

    resize: HeightWidth | None
    resize_mode: ResizeMode | None
    pad_value: Number | None
    crop: HeightWidth | None
    layout: Layout | None
    color: Color | None
    pixel_scale: Number | None
    mean: Numbers | None
    std: Numbers | None
    dtype: str | None


class SourceOptions(PreprocessOptions, total=False):
    """See `onnxtweak.settings.DataSettings`."""

    val: Samples
    test: Samples
    names: StrPath | Sequence[str] | None
    seed: int
    anyway: bool
    inputs: Mapping[str, Number]
    group: str | None
    by: str | Sequence[str]
    alphabet: StrPath | Sequence[str] | None
    blank: int | None
    head: HeadWord | None
    ignore_index: int | None
    counted: str | None


class DataOptions(SourceOptions, total=False):
    """Of functions that need samples."""

    data: Required[Samples]


class ListedOptions(SourceOptions, total=False):
    """Of `fit`, which takes listed samples beside others or instead of them."""

    data: Samples
    must: Samples
    lock: Samples
    keep: Samples


class EngineOptions(TypedDict, total=False):
    """See `onnxtweak.settings.EngineSettings`. memory : bytes, or text such as "500MB"."""

    device: str
    backend: BackendName
    memory: int | str
    batch: int | None
    threads: int | None
    work_dir: StrPath | None
    resume: bool
    shard: int
    workers: int | None
    scheduler: str | None
    custom_ops: StrPaths


class TapOptions(TypedDict, total=False):
    """See `onnxtweak.settings.TapSettings`."""

    taps: str | Sequence[str]
    pool: Pool | Sequence[Pool]
    logits: str | None
    threshold: float | None
    class_axis: int | Literal["none"] | None


class InspectOptions(SourceOptions, TapOptions, total=False):
    """Of `inspect`, which can do without samples."""

    data: Samples


class TargetOptions(TypedDict, total=False):
    """See `onnxtweak.settings.TargetSettings`."""

    target: ClassName | Sequence[ClassName]
    worst: int | None


class GoalOptions(TypedDict, total=False):
    """Of all functions that measure or learn: what a goal says need not be said by other options."""

    goal: Goal | None


class OutputOptions(TypedDict, total=False):
    """See `onnxtweak.settings.OutputSettings`."""

    output: StrPath | None
    tweak: StrPath | None
    force: bool
    report: StrPath | None
    evidence: bool


class EvaluateOptions(DataOptions, GoalOptions, TargetOptions, TapOptions, EngineOptions, total=False):
    """Of `evaluate`, `compare`, and all functions that make or score a patch."""


class MakeOptions(DataOptions, GoalOptions, TapOptions, EngineOptions, OutputOptions, total=False):
    """Of all functions that make a patch."""


class JoinSettingsOptions(TypedDict, total=False):
    """See `onnxtweak.settings.JoinSettings`."""

    count: int | Sequence[int]
    scale: Numbers
    exact_scale: bool
    max_overall_drop: Number
    max_class_drop: Number | str | None
    theta: Theta
    criterion: JoinCriterion


class JoinOptions(MakeOptions, TargetOptions, JoinSettingsOptions, total=False):
    """Of `join` and `score`."""


class RetrainOptions(MakeOptions, TargetOptions, total=False):
    """Of `retrain`; see `onnxtweak.settings.RetrainSettings`. join : options of the join before it."""

    penalty: Number
    ridge: Numbers
    schedule: str | None
    scale: Numbers
    join: JoinSettingsOptions | None


class AugmentOptions(MakeOptions, total=False):
    """Of `augment`; see `onnxtweak.settings.AugmentSettings`. minibatch : its `batch`."""

    neurons: int | None
    hidden: int
    iterations: int
    minibatch: int
    rate: Number
    decay: Number
    patience: int
    max_class_drop: Number | str | None
    theta: Theta
    criterion: Criterion


class FitOptions(
    ListedOptions, GoalOptions, TargetOptions, TapOptions, EngineOptions, OutputOptions, total=False
):
    """Of `fit`; see `onnxtweak.settings.FitSettings`."""

    max_overall_drop: Number
    margin: Number
    neurons: int
    hidden: int
    folds: int | None
    mirror: Mirror
    max_class_drop: Number | str | None
    budget: int | None
    synapses: int | None
    certify: Number | None
    slice: str | None
    metric: str | None


class MatchOptions(MakeOptions, total=False):
    """Of `match`; see `onnxtweak.settings.MatchSettings`."""

    reference: Required[StrPath]
    neurons: int
    margin: Number
    max_class_drop: Number | str | None
