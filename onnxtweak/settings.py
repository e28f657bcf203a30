"""What can a user ask for? One frozen dataclass of settings per question, in the words of the command line.

Choices are `Literal`s; the command line, recipes and the Python API take them from here.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Literal

from onnxtweak.errors import UsageError

GiB = 1024**3

Layout = Literal["NCHW", "NHWC"]
Color = Literal["RGB", "BGR", "GRAY"]
ResizeMode = Literal["exact", "short", "letterbox"]
BackendName = Literal["auto", "numpy", "numba", "cupy"]
Pool = Literal["none", "mean", "max"]
Theta = Literal["signed", "thesis"]
Criterion = Literal["auto", "count", "threshold", "lift"]
JoinCriterion = Literal[Criterion, "net-gain"]


@dataclass(frozen=True)
class Preprocess:
    """How a raw sample becomes the model's input, in this order; None leaves it as it is.

    resize, crop : (height, width) in pixels, or one number for a square; the crop is central. resize_mode :
    "exact" (or None): to this size, whatever the shape of the image; "short": the shape is kept, and the
    shorter side becomes so long (both sides at least); "letterbox": the shape is kept, and the rest is filled
    with pad_value, a raw value (None: 0). layout : the
    axis order that the model expects. color : the color order that the model expects. pixel_scale : factor
    for raw values, such as 1/255 for bytes. mean, std : one number per channel, applied as (x - mean) / std.
    dtype : element type to feed, as NumPy spells it; None: the type of the model's input.
    """

    resize: tuple[int, int] | None = None
    resize_mode: ResizeMode | None = None
    pad_value: float | None = None
    crop: tuple[int, int] | None = None
    layout: Layout | None = None
    color: Color | None = None
    pixel_scale: float | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    dtype: str | None = None


@dataclass(frozen=True)
class DataSettings:
    """Where labelled samples come from.

    data, val, test : sources to fit on, to choose settings on, and to report on, each `PATH`, `PATH#KEY` or
    `PATH#KEY[start:stop]` (see `onnxtweak.data`); without val or test, a stratified part of the data.
    names : file with one class name per line. seed : of the stratified split, and of everything random after.
    anyway : learn even where the model only guesses on these samples, as wrong preprocessing would have it.
    inputs (the option `--input`) : value by name of inputs that are the same for all samples; an input that
    is no single number has the value in every place.
    """

    data: tuple[str, ...]
    val: tuple[str, ...] = ()
    test: tuple[str, ...] = ()
    names: str | None = None
    preprocess: Preprocess = field(default_factory=Preprocess)
    seed: int = 0
    anyway: bool = False
    inputs: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True)
class EngineSettings:
    """Where and how the model runs.

    device : "auto", "cpu", "cuda", "cuda:0" or "cuda:0,1". backend : what does the arithmetic of scoring.
    memory : bytes that tables, state and batches may take. batch : samples per run; None: chosen from model
    and memory. threads : for the model, theta and reading samples; None: all cores. work_dir : folder in
    which scores and tables are saved as they grow; None: nowhere. resume : continue from what is saved there.
    shard : samples after which sums are combined and the state may be saved; also what a worker gets at a
    time. workers : processes that share the score pass; scheduler : address of a Dask scheduler to use
    instead. custom_ops : shared libraries with custom operators for ONNX Runtime.
    """

    device: str = "auto"
    backend: BackendName = "auto"
    memory: int = 4 * GiB
    batch: int | None = None
    threads: int | None = None
    work_dir: str | None = None
    resume: bool = False
    shard: int = 4096
    workers: int | None = None
    scheduler: str | None = None
    custom_ops: tuple[str, ...] = ()

    @property
    def cores(self) -> int:
        """`threads`, or the number of cores."""
        return self.threads or os.cpu_count() or 1


@dataclass(frozen=True)
class TapSettings:
    """Which hidden tensors are watched.

    taps : selectors: "activations", "stages", "blocks", "penultimate", "op:TYPE", or tensor names with * and
    ?. pool : make a neuron of each channel, its mean or maximum, instead of each position. logits : the
    logits tensor; None: found in the graph. threshold : of a model that shows one probability, above which
    it means class 1; None: 0.5.
    """

    taps: tuple[str, ...] = ("activations",)
    pool: Pool = "none"
    logits: str | None = None
    threshold: float | None = None


@dataclass(frozen=True)
class TargetSettings:
    """Which classes should do better.

    targets (the option `target`) : numbers or names of classes. worst : instead, so many classes, those that
    do worst on validation.
    """

    targets: tuple[str, ...] = ()
    worst: int | None = None


@dataclass(frozen=True)
class JoinSettings:
    """Synaptic join (METHOD 1 to 4).

    count, scale : grids of n, the synapses per target, and of their strength; a single value fixes it.
    exact_scale : search the best scale exactly instead of on the grid. max_overall_drop, max_class_drop :
    percentage points that the overall accuracy, or any class, may lose on validation; None: no limit.
    theta : how a neuron is scored, exact for values of either sign or as the thesis prints it. criterion :
    what ranks the neurons; "auto" is "count", or "lift" where no fit sample of the class can be fixed.
    """

    count: tuple[int, ...] = (1, 10, 20, 40, 80, 120)
    scale: tuple[float, ...] = (0, 1, 5, 10, 20, 30, 40, 60, 80)
    exact_scale: bool = False
    max_overall_drop: float = 0.0
    max_class_drop: float | None = None
    theta: Theta = "signed"
    criterion: JoinCriterion = "auto"


# Neurons and hidden units that the thesis gave the networks it augmented (Table 4.1).
AUGMENT_SIZES = {
    "cnn-3": (1000, 96),
    "resnet-20": (300, 192),
    "densenet-40": (1600, 192),
    "resnet-18": (4000, 320),
    "resnet-56": (3000, 192),
    "googlenet": (6314, 1024),
    "densenet-121": (11910, 256),
}


@dataclass(frozen=True)
class RetrainSettings:
    """Synaptic retraining (METHOD 5), after a join with `JoinSettings`.

    penalty : weight of the loss on samples of the target classes; 1 is SR-1, 2 is SR-2. ridge : L2 penalties
    to choose from on validation, for columns of unit deviation. schedule : joins and retrainings in turn,
    such as "J100 R100 J50 R50 J10 R10 J10"; None: one join, one retraining. scale : strengths of the
    retrained synapses to choose from; 0 is always among them.
    """

    penalty: float = 2.0
    ridge: tuple[float, ...] = (1e-4, 1e-3, 1e-2, 1e-1)
    schedule: str | None = None
    scale: tuple[float, ...] = (0.25, 0.5, 0.75, 1, 1.25, 1.5, 2, 3)


@dataclass(frozen=True)
class AugmentSettings:
    """Augmentation with active neurons (METHOD 6).

    neurons : how many neurons feed the MLP; None: 1,000, or all where there are fewer. hidden : its hidden
    units. iterations : minibatches at most. batch (the option `minibatch`) : samples per minibatch. rate,
    decay : learning rate and decoupled weight decay of Adam. patience : checks on validation without a better
    loss before training stops. max_class_drop, theta, criterion : as for a join.
    """

    neurons: int | None = None
    hidden: int = 96
    iterations: int = 5000
    batch: int = 128
    rate: float = 1e-3
    decay: float = 0.1
    patience: int = 10
    max_class_drop: float | None = None
    theta: Theta = "signed"
    criterion: Criterion = "auto"


@dataclass(frozen=True)
class FitSettings:
    """Fit (METHOD 7).

    max_overall_drop : percentage points that the overall accuracy may lose; negative: that it must gain.
    margin : standard errors of the difference to keep clear of that limit, and by which a patch has to beat
    the bias. neurons : how many a table may hold; of more, the best are chosen by screening. hidden : units
    of the hidden layer that is tried beside linear patches; 0: none. folds : of cross-validation.
    max_class_drop : percentage points that any class may lose; None: no limit. budget : numbers that a patch
    may hold, weights and biases together; synapses : weights that it may hold. Either makes the patch linear,
    and its neurons are chosen one by one. certify : share of all samples that may become wrong in
    expectation; validation is then kept for this check.
    """

    max_overall_drop: float = 0.0
    margin: float = 0.5
    neurons: int = 2000
    hidden: int = 96
    folds: int = 5
    max_class_drop: float | None = None
    budget: int | None = None
    synapses: int | None = None
    certify: float | None = None


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
