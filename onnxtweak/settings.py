"""What can a user ask for? One frozen dataclass of settings per question, in the words of the command line.

Choices are `Literal`s, and a number's `Range` stands beside its type; the command line, recipes and the
Python API take both from here. Settings with a number out of its range cannot be made.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Annotated, Literal, get_args

from onnxtweak.bounded import Bounded
from onnxtweak.errors import UsageError
from onnxtweak.in_memory import SampleSource
from onnxtweak.quantities import Range

GiB = 1024**3

Layout = Literal["NCHW", "NHWC"]
Color = Literal["RGB", "BGR", "GRAY"]
ResizeMode = Literal["exact", "short", "letterbox", "line"]
BackendName = Literal["auto", "numpy", "numba", "cupy"]
HeadWord = Literal["classes", "labels"]
Pool = Literal["none", "mean", "std", "max", "grid2"]
Mirror = Literal["auto", "off", "on"]
# Runtimes in which `verify` can run a file beside ONNX Runtime's own values.
RuntimeName = Literal["onnxruntime", "onnx", "openvino", "opencv"]
POOLS: tuple[Pool, ...] = get_args(Pool)
Theta = Literal["signed", "thesis"]
Criterion = Literal["auto", "count", "threshold", "lift"]
JoinCriterion = Literal[Criterion, "net-gain"]

# What `--metric` may be.
METRICS = "overall|balanced|worst|f1|iou|map|cost:FILE|recall@fpr=X|recall@precision=X"

FINITE = Range()
POSITIVE = Range(above=0)
NOT_NEGATIVE = Range(least=0)
COUNT = Range(least=1, most=10**9)
PIXELS = Range(least=1, most=1 << 16)


@dataclass(frozen=True)
class Preprocess(Bounded):
    """How a raw sample becomes the model's input, in this order; None leaves it as it is.

    resize, crop : (height, width) in pixels, or one number for a square; the crop is central. resize_mode :
    "exact" (or None): to this size, whatever the image's shape; "short": the shape is kept, and the shorter
    side becomes so long (both sides at least); "letterbox": the shape is kept, and the rest is filled with
    pad_value, a raw value (None: 0); "line", of text: the height is as asked, the shape is kept unless it is
    too wide, and the rest is filled on the right. layout : the axis order, color : of colors, that the model
    expects. pixel_scale : factor for raw values, such as 1/255 for
    bytes. mean, std : one number per channel, applied as (x - mean) / std. dtype : element type to feed, as
    NumPy spells it; None: the type of the model's input.
    """

    resize: Annotated[tuple[int, int] | None, PIXELS] = None
    resize_mode: ResizeMode | None = None
    pad_value: Annotated[float | None, FINITE] = None
    crop: Annotated[tuple[int, int] | None, PIXELS] = None
    layout: Layout | None = None
    color: Color | None = None
    pixel_scale: Annotated[float | None, POSITIVE] = None
    mean: Annotated[tuple[float, ...] | None, FINITE] = None
    std: Annotated[tuple[float, ...] | None, POSITIVE] = None
    dtype: str | None = None


# Fields of `DataSettings` that hold listed samples; `fit` alone learns from them.
LISTED = ("must", "lock", "keep")
# What `keep` is where not even decisions for classes that no label names are kept.
NOTHING = ("none",)


@dataclass(frozen=True)
class DataSettings(Bounded):
    """Where samples come from.

    data, val, test : labelled, to fit on, to choose settings on, and to report on, each `PATH`, `PATH#KEY` or
    `PATH#KEY[start:stop]` (see `onnxtweak.data`), or what `onnxtweak.api.samples` takes; without val or test,
    a stratified part of the data.
    must, lock, keep : listed samples, never split: those that have to get their label in the new file, those
    that are right and have to stay so, and those on which the base's decision should stay, whatever their
    label. Without `keep`, its decisions for classes that no label names stay on what is learnt from;
    `("none",)`: they do not.
    names : class names, class 0 first: a file with one per line, or these. seed : of all that is random.
    group : column of the data by which samples belong together, such as the patient or the recording: those
    of one group are never divided between splits or folds. by : columns whose groups are measured one by one.
    anyway : learn even where the model only guesses on these samples, as wrong preprocessing would have it.
    inputs (the option `--input`) : value by name of inputs that are the same for all samples, in every place.
    unlabelled, boxes : whether samples without labels will do, whether labels are boxes; users are not asked.
    alphabet : of a model that reads text (CTC), whose labels are what stands in each sample then: the
    character of each class but the blank, a file with one a line or the characters themselves; None: the
    model's metadata. blank : the number of the class that is none, -1 for the last; None: the one
    with which the model reads labelled lines best.
    head : "labels" are a mark for each class, "classes" one class for each sample or position; None: as they
    look. ignore_index : a label at positions that does not count; None: 255, of bytes. counted : column that
    says which positions of a sample do, by its length or a mask; None: all.
    """

    data: tuple[SampleSource, ...] = ()
    val: tuple[SampleSource, ...] = ()
    test: tuple[SampleSource, ...] = ()
    must: tuple[SampleSource, ...] = ()
    lock: tuple[SampleSource, ...] = ()
    keep: tuple[SampleSource, ...] = ()
    names: str | tuple[str, ...] | None = None
    preprocess: Preprocess = field(default_factory=Preprocess)
    seed: Annotated[int, Range(least=0, most=2**63 - 1)] = 0
    anyway: bool = False
    inputs: tuple[tuple[str, float], ...] = ()
    group: str | None = None
    by: tuple[str, ...] = ()
    unlabelled: bool = False
    boxes: bool = False
    alphabet: str | tuple[str, ...] | None = None
    blank: Annotated[int | None, Range(least=-1)] = None
    head: HeadWord | None = None
    counted: str | None = None
    ignore_index: Annotated[int | None, Range(least=-255, most=2**31)] = None

    def sources(self, role: str) -> tuple[str, ...]:
        """Sources of "data" or of a list, by the name of its field."""
        found: tuple[str, ...] = getattr(self, role)
        return () if role == "keep" and found == NOTHING else found

    @property
    def columns(self) -> tuple[str, ...]:
        """All columns beside inputs and labels that are read, each once."""
        own = tuple(name for name in (self.group, self.counted) if name is not None)
        return tuple(dict.fromkeys((*own, *self.by)))


@dataclass(frozen=True)
class EngineSettings(Bounded):
    """Where and how the model runs.

    device : "auto", "cpu", "cuda", "cuda:0" or "cuda:0,1". backend : what does the arithmetic of scoring.
    memory : bytes that tables, state and batches may take. batch : samples per run; None: chosen from model
    and memory. threads : for the model, theta and reading samples; None: all cores. work_dir : folder in
    which scores and tables are saved as they grow; None: nowhere. resume : continue from what is saved there.
    shard : samples after which sums are combined and the state may be saved; also what a worker gets at a
    time. workers : processes that share passes; scheduler : address of a Dask scheduler to use
    instead. custom_ops : shared libraries with custom operators for ONNX Runtime.
    """

    device: str = "auto"
    backend: BackendName = "auto"
    memory: Annotated[int, Range(least=1024)] = 4 * GiB
    batch: Annotated[int | None, COUNT] = None
    threads: Annotated[int | None, COUNT] = None
    work_dir: str | None = None
    resume: bool = False
    shard: Annotated[int, COUNT] = 4096
    workers: Annotated[int | None, COUNT] = None
    scheduler: str | None = None
    custom_ops: tuple[str, ...] = ()

    @property
    def cores(self) -> int:
        """`threads`, at most the number of cores."""
        present = os.cpu_count() or 1
        return min(self.threads or present, present)

    @property
    def processes(self) -> int | None:
        """`workers`, at most one per core; two can be tried on a single core."""
        return None if self.workers is None else min(self.workers, max(os.cpu_count() or 1, 2))

    @property
    def notes(self) -> tuple[str, ...]:
        """Where less is used than was asked for."""
        present = os.cpu_count() or 1
        cores = f"this machine has {present:,} {'core' if present == 1 else 'cores'}"
        return tuple(
            f"--{option} {asked:,}: {cores}, {used:,} {'is' if used == 1 else 'are'} used"
            for option, asked, used in (
                ("threads", self.threads, self.cores),
                ("workers", self.workers, self.processes),
            )
            if asked is not None and used is not None and used < asked
        )


@dataclass(frozen=True)
class TapSettings(Bounded):
    """Which hidden tensors are watched.

    taps : selectors: "activations", "stages", "blocks", "penultimate", "front", "op:TYPE", or names with *
    and ?.
    pool : a neuron is a channel, its mean, deviation or maximum, or its mean over each half of every axis of
    positions ("grid2"), not each position; of several, all are watched. Where there are scores at positions,
    "none" is a channel there, and "mean" its mean over all of the sample; there is no other. logits : the
    tensor; class_axis : of one at positions, the axis of the classes, 0 for none; None: as the graph tells.
    threshold : of a number that is never negative, above which it means class 1; None: 0.5.
    """

    taps: tuple[str, ...] = ("activations",)
    pool: tuple[Pool, ...] = ("none",)
    logits: str | None = None
    threshold: Annotated[float | None, Range(above=0)] = None
    class_axis: Annotated[int | None, Range(least=-7, most=7)] = None


@dataclass(frozen=True)
class TargetSettings(Bounded):
    """Which classes should do better.

    targets (the option `target`) : numbers or names of classes. worst : instead, so many classes, those that
    do worst on validation.
    """

    targets: tuple[str, ...] = ()
    worst: Annotated[int | None, COUNT] = None


@dataclass(frozen=True)
class JoinSettings(Bounded):
    """Synaptic join (METHOD 1 to 4).

    count, scale : grids of n, the synapses per target, and of their strength; a single value fixes it.
    exact_scale : search the best scale exactly instead of on the grid. max_overall_drop, max_class_drop :
    percentage points that the overall accuracy, or any class, may lose on validation; None: no limit.
    theta : how a neuron is scored, exact for values of either sign or as the thesis prints it. criterion :
    what ranks the neurons; "auto" is "count", or "lift" where no fit sample of the class can be fixed.
    """

    count: Annotated[tuple[int, ...], COUNT] = (1, 10, 20, 40, 80, 120)
    scale: Annotated[tuple[float, ...], NOT_NEGATIVE] = (0, 1, 5, 10, 20, 30, 40, 60, 80)
    exact_scale: bool = False
    max_overall_drop: Annotated[float, NOT_NEGATIVE] = 0.0
    max_class_drop: Annotated[float | None, NOT_NEGATIVE] = None
    theta: Theta = "signed"
    criterion: JoinCriterion = "auto"


@dataclass(frozen=True)
class RetrainSettings(Bounded):
    """Synaptic retraining (METHOD 5), after a join with `JoinSettings`.

    penalty : weight of the loss on samples of the target classes; 1 is SR-1, 2 is SR-2. ridge : L2 penalties
    to choose from on validation, for columns of unit deviation. schedule : joins and retrainings in turn,
    such as "J100 R100 J50 R50 J10 R10 J10"; None: one join, one retraining. scale : strengths of the
    retrained synapses to choose from; 0 is always among them.
    """

    penalty: Annotated[float, POSITIVE] = 2.0
    ridge: Annotated[tuple[float, ...], NOT_NEGATIVE] = (1e-4, 1e-3, 1e-2, 1e-1)
    schedule: str | None = None
    scale: Annotated[tuple[float, ...], NOT_NEGATIVE] = (0.25, 0.5, 0.75, 1, 1.25, 1.5, 2, 3)


@dataclass(frozen=True)
class AugmentSettings(Bounded):
    """Augmentation with active neurons (METHOD 6).

    neurons : how many neurons feed the MLP; None: 1,000, or all where there are fewer. hidden : its hidden
    units. iterations : minibatches at most. batch (the option `minibatch`) : samples per minibatch. rate,
    decay : learning rate and decoupled weight decay of Adam. patience : checks on validation without a better
    loss before training stops. max_class_drop, theta, criterion : as for a join.
    """

    neurons: Annotated[int | None, COUNT] = None
    hidden: Annotated[int, Range(least=1, most=10**6)] = 96
    iterations: Annotated[int, COUNT] = 5000
    batch: Annotated[int, Range(least=1, most=10**9, option="minibatch")] = 128
    rate: Annotated[float, NOT_NEGATIVE] = 1e-3
    decay: Annotated[float, NOT_NEGATIVE] = 0.1
    patience: Annotated[int, COUNT] = 10
    max_class_drop: Annotated[float | None, NOT_NEGATIVE] = None
    theta: Theta = "signed"
    criterion: Criterion = "auto"


@dataclass(frozen=True)
class FitSettings(Bounded):
    """Fit (METHOD 7).

    max_overall_drop : percentage points that the overall accuracy may lose; negative: that it must gain.
    margin : standard errors of the difference to keep clear of that limit, and by which a patch has to beat
    the bias. neurons : how many a table may hold; of more, the best are chosen by screening. hidden : units
    of the hidden layer that is tried beside linear patches; 0: none. folds : of cross-validation; None: 5, or
    10 or 20 where the rarest class has few samples. mirror : learn from images with left and right exchanged
    as well: "auto" where that lowers the held-out log-loss, and only without `budget` and `synapses`.
    max_class_drop : percentage points that any class may lose; None: no limit. budget : numbers that a patch
    may hold, weights and biases together; synapses : weights that it may hold. Either makes the patch linear,
    and its neurons are chosen one by one. certify : share of all samples that may become wrong in
    expectation; validation is then kept for this check. slice : instead of target classes, a group of samples
    that should do better, COLUMN=VALUE, or the worst group of a COLUMN of the data. metric : what "better"
    means, one of `METRICS`; None: accuracy. One with a limit of its own (recall@...) knows no drops.
    """

    max_overall_drop: Annotated[float, FINITE] = 0.0
    margin: Annotated[float, NOT_NEGATIVE] = 1.0
    neurons: Annotated[int, COUNT] = 2000
    hidden: Annotated[int, Range(least=0, most=10**6)] = 96
    folds: Annotated[int | None, Range(least=2, most=1000)] = None
    mirror: Mirror = "auto"
    max_class_drop: Annotated[float | None, NOT_NEGATIVE] = 5.0
    budget: Annotated[int | None, COUNT] = None
    synapses: Annotated[int | None, COUNT] = None
    certify: Annotated[float | None, Range(above=0, below=1)] = None
    slice: str | None = None
    metric: str | None = None


@dataclass(frozen=True)
class MatchSettings(Bounded):
    """Match (METHOD 16).

    reference : the model whose decisions are taken for right. neurons : how many a table may hold; of more,
    the best are chosen by screening. margin : standard errors by which a patch has to beat the bias, and to
    stay clear of the limit. max_class_drop : percentage points of its agreement with the reference that any
    class may lose; None: no limit.
    """

    reference: str = ""
    neurons: Annotated[int, COUNT] = 2000
    margin: Annotated[float, NOT_NEGATIVE] = 1.0
    max_class_drop: Annotated[float | None, NOT_NEGATIVE] = 5.0


@dataclass(frozen=True)
class OutputSettings:
    """Where results go; None: nowhere.

    output : the new file. tweak : also save the tweak alone (*.safetensors). force : replace existing files.
    report : also draw the result as a page (*.html). evidence : measure what only the page needs, latency and
    samples that changed; `report` implies it.
    """

    output: str | None = None
    tweak: str | None = None
    force: bool = False
    report: str | None = None
    evidence: bool = False
    recipe: str | None = None  # sha256 of the recipe that asks for the result

    @property
    def path(self) -> str:
        """`output`, for commands that cannot do without. Raises UsageError where there is none."""
        if self.output is None:
            raise UsageError("no output", hint="name a file with -o")
        return self.output
