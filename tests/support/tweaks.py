"""Which tweaks do the tests put into their models, and how are the models run?"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx

from onnxtweak.model.file.model_file import ModelFile, read_model
from onnxtweak.patch import Linear, Mlp, Patch, Synapses, Tweak
from onnxtweak.types import Neurons, Tap
from tests.support.plain_session import plain_session

# What was written before the nodes of patches took the form that they have: of `cnn3`, with `CNN3_TAPS`; 20
# neurons, `POOLED_TAPS`; of one with 16 channels first, `MAP_TAPS`.
FILES_OF_FORM_1 = Path(__file__).resolve().parent / "files_of_form_1"
FILES_OF_FORM_2 = Path(__file__).resolve().parent / "files_of_form_2"
FILES_OF_FORM_3 = Path(__file__).resolve().parent / "files_of_form_3"
CNN3_TAPS = (
    Tap("relu1", "Relu", (8, 16, 16)),
    Tap("relu3", "Relu", (8, 4, 4), pool="mean"),
    Tap("flat", "Flatten", (32,)),
)
MAP_TAPS = (Tap("relu1", "Relu", (16, 16, 16)),)
POOLED_TAPS = (
    Tap("relu1", "Relu", (8, 16, 16), pool="mean"),
    Tap("relu2", "Relu", (8, 8, 8), pool="max"),
    Tap("relu2", "Relu", (8, 8, 8), pool="grid2"),
    Tap("relu3", "Relu", (8, 4, 4)),
    Tap("flat", "Flatten", (32,)),
)


def saved(proto: onnx.ModelProto, folder: Path, name: str = "base.onnx") -> ModelFile:
    """The model on disk, read back."""
    path = folder / name
    path.write_bytes(proto.SerializeToString())
    return read_model(path)


def run(
    model: onnx.ModelProto | bytes | str | Path,
    feeds: dict[str, np.ndarray],
    outputs: Sequence[str] | None = None,
) -> list[np.ndarray]:
    """The model's outputs from ONNX Runtime on the CPU; inputs it does not have are not fed."""
    if isinstance(model, onnx.ModelProto):
        model = model.SerializeToString()
    session = plain_session(str(model) if isinstance(model, Path) else model)
    known = {entry.name for entry in (*session.get_inputs(), *session.get_overridable_initializers())}
    return session.run(outputs, {name: array for name, array in feeds.items() if name in known})


def random_neurons(taps: Sequence[Tap], count: int, seed: int = 0) -> Neurons:
    """Neurons of all taps in mixed order, not grouped by tap."""
    rng = np.random.default_rng(seed)
    tap_of = rng.permutation(np.arange(count) % len(taps)).astype(np.int32)
    index = np.array([rng.integers(taps[tap].neurons) for tap in tap_of], dtype=np.int64)
    return Neurons(tuple(taps), tap_of, index)


def random_patch(kind: str, count: int, classes: int, seed: int = 0) -> Patch:
    rng = np.random.default_rng(seed)
    if kind == "synapses":
        weight = rng.normal(0, 0.5, count)
        return Synapses(rng.integers(0, classes, count), weight, 2 * weight, rng.integers(0, 9, count))
    if kind == "linear":
        return Linear(rng.normal(0, 0.5, (count, classes)), rng.normal(0, 1, classes))
    return Mlp(
        rng.normal(0, 0.5, (count, 5)),
        rng.normal(0, 1, 5),
        rng.normal(0, 0.5, (5, classes)),
        rng.normal(0, 1, classes),
    )


def random_tweak(
    model: ModelFile,
    taps: Sequence[Tap],
    classes: int,
    kind: str = "synapses",
    count: int = 7,
    logits: str = "logits",
    seed: int = 0,
) -> Tweak:
    return Tweak(
        kind="join",
        base_sha256=model.base_sha256,
        logits=logits,
        classes=classes,
        neurons=random_neurons(taps, count, seed),
        patch=random_patch(kind, count, classes, seed),
        provenance={"data_sha256": "ab" * 32, "scale": 1.5},
    )


def added(patch: Patch, values: np.ndarray, classes: int) -> np.ndarray:
    """What the patch adds to the logits (N, C), in float64, from the chosen values (N, K)."""
    values = values.astype(np.float64)
    if isinstance(patch, Synapses):
        delta = np.zeros((len(values), classes))
        for k, target in enumerate(patch.target):
            delta[:, target] += patch.weight[k] * values[:, k]
        return delta
    if isinstance(patch, Linear):
        return values @ patch.weight + patch.bias
    return np.maximum(values @ patch.w1 + patch.b1, 0) @ patch.w2 + patch.b2


def pooled(values: np.ndarray, pool: str) -> np.ndarray:
    """(N, C, ...) pooled over the axes after C."""
    if pool == "grid2":
        halves = [
            (slice(0, (size + 1) // 2), slice(size // 2, size))[: min(size, 2)] for size in values.shape[2:]
        ]
        cells = [values[(slice(None), slice(None), *cell)] for cell in itertools.product(*halves)]
        return np.stack([pooled(cell, "mean") for cell in cells], axis=2).reshape(len(values), -1)
    flat = values.reshape(*values.shape[:2], -1)
    return {"mean": np.mean, "std": np.std, "max": np.max}[pool](flat, axis=2)


def chosen(neurons: Neurons, arrays: Sequence[np.ndarray]) -> np.ndarray:
    """The chosen values (N, K), from the taps' own arrays in NumPy: the reference for the graph's Gather."""
    columns = []
    for tap, index in zip(neurons.tap_of, neurons.index, strict=True):
        values, kind = arrays[tap].astype(np.float32), neurons.taps[tap]
        if kind.pool != "none":
            values = pooled(np.moveaxis(values, 1 + kind.channel_axis, 1), kind.pool)
        columns.append(values.reshape(len(values), -1)[:, index])
    return np.stack(columns, axis=1)
