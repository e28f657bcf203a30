"""What a user can ask for: one frozen dataclass per question, the same words as the command line."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

GiB = 1024**3


@dataclass(frozen=True)
class Preprocess:
    """How a raw sample becomes the model's input (docs/quickstart.md). None means: leave it as it is.

    resize, crop : (height, width); crop is central. layout : "NCHW" or "NHWC", the layout the model wants.
    color : "RGB", "BGR" or "GRAY", what the model wants. pixel_scale : multiplies raw values (1/255 for
    bytes). mean, std : one number per channel, applied after `pixel_scale` as (x - mean) / std.
    dtype : NumPy name; default is what the model's input says.
    """

    resize: tuple[int, int] | None = None
    crop: tuple[int, int] | None = None
    layout: str | None = None
    color: str | None = None
    pixel_scale: float | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    dtype: str | None = None


@dataclass(frozen=True)
class DataSettings:
    """Where labelled samples come from.

    data, val, test : sources, each `PATH` or `PATH#KEY` or `PATH#KEY[start:stop]` (see `onnxtweak.data`).
    names : file with one class name a line. seed : of the stratified split, used for what is not given.
    """

    data: tuple[str, ...]
    val: tuple[str, ...] = ()
    test: tuple[str, ...] = ()
    names: str | None = None
    preprocess: Preprocess = field(default_factory=Preprocess)
    seed: int = 0


@dataclass(frozen=True)
class EngineSettings:
    """Where and how the model runs.

    device : "auto", "cpu", "cuda", "cuda:0", "cuda:0,1". backend : "auto", "numpy", "numba", "cupy".
    memory : bytes the process may use for tables, state and batches. batch : samples per run; None: chosen.
    threads : of the model, of theta and of reading samples; None: all cores. work_dir : folder where scores
    and tables are kept as they grow; None: nowhere. resume : whether to go on from what is there. shard :
    samples after which sums are added up, the state may be saved, and which one worker is given at a time.
    workers : processes to share the score pass among; scheduler : address of a Dask scheduler instead.
    custom_ops : shared libraries with operators for ONNX Runtime.
    """

    device: str = "auto"
    backend: str = "auto"
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
        """`threads`, or as many as there are cores."""
        return self.threads or os.cpu_count() or 1


@dataclass(frozen=True)
class TapSettings:
    """Which hidden tensors are watched.

    taps : selectors as `--taps` takes them (docs/cli.md). pool : "none", "mean" or "max". logits : the logits
    tensor; None: it is looked for.
    """

    taps: tuple[str, ...] = ("activations",)
    pool: str = "none"
    logits: str | None = None


@dataclass(frozen=True)
class TargetSettings:
    """Which classes should do better: numbers or names, or the `worst` K on validation."""

    targets: tuple[str, ...] = ()
    worst: int | None = None


@dataclass(frozen=True)
class JoinSettings:
    """Synaptic join (METHOD 1 to 4).

    count, scale : the grids of n and scale; a single value fixes it. exact_scale : exact search instead of
    the scale grid. max_overall_drop, max_class_drop : percentage points the overall accuracy, or any class,
    may lose on validation. theta : "signed" or "thesis". criterion : "auto" (count; lift where no fit sample
    can be fixed), "count", "threshold", "lift" or "net-gain".
    """

    count: tuple[int, ...] = (1, 10, 20, 40, 80, 120)
    scale: tuple[float, ...] = (0, 1, 5, 10, 20, 30, 40, 60, 80)
    exact_scale: bool = False
    max_overall_drop: float = 0.0
    max_class_drop: float | None = None
    theta: str = "signed"
    criterion: str = "auto"


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
    to choose from on validation, on columns of unit deviation. schedule : "J100 R100 J50 R50 J10 R10 J10", or
    None: one join, one retraining. scale : of the retrained weights, to choose from; 0 is always among them.
    """

    penalty: float = 2.0
    ridge: tuple[float, ...] = (1e-4, 1e-3, 1e-2, 1e-1)
    schedule: str | None = None
    scale: tuple[float, ...] = (0.25, 0.5, 0.75, 1, 1.25, 1.5, 2, 3)


@dataclass(frozen=True)
class AugmentSettings:
    """Augmentation with active neurons (METHOD 6).

    neurons : how many feed the MLP; None: 1,000, or all where there are fewer. hidden : its hidden
    units. iterations, batch, rate, decay : of Adam; decay is decoupled. patience : checks on validation
    without a better loss before training stops. max_class_drop, theta, criterion : as in `JoinSettings`.
    """

    neurons: int | None = None
    hidden: int = 96
    iterations: int = 5000
    batch: int = 128
    rate: float = 1e-3
    decay: float = 0.1
    patience: int = 10
    max_class_drop: float | None = None
    theta: str = "signed"
    criterion: str = "auto"


@dataclass(frozen=True)
class FitSettings:
    """Fit (METHOD 7).

    max_overall_drop : percentage points the overall accuracy may lose; negative: must gain. margin : standard
    errors of the difference that are kept clear of that limit, and by which a patch has to beat the bias.
    neurons : how many a table may hold; of more the best are chosen by screening. hidden : units of the
    hidden layer that is tried beside linear patches; 0: none. folds : of cross-validation.
    max_class_drop : points that any class may lose. budget : numbers a patch may hold, weights and biases
    together; synapses : weights it may hold; either makes it linear and chooses its neurons one by one.
    certify : share of all samples that may become wrong, in expectation; validation is then kept for that
    proof.
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
    """Where results go. `tweak` : also save the tweak as *.safetensors. `force` : replace existing files.

    report : also write the pictures, as a page (*.html). evidence : measure what only the pictures need:
    latency, and samples that changed; `report` implies it. recipe : sha256 of the recipe that asks for it.
    """

    output: str | None = None
    tweak: str | None = None
    force: bool = False
    report: str | None = None
    evidence: bool = False
    recipe: str | None = None
