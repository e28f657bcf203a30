"""Which classifier can a tweak improve? One with a weak class, and samples it errs on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from onnx import ModelProto, numpy_helper

from onnxtweak.settings import DataSettings, EngineSettings, OutputSettings, TargetSettings
from tests.support.nets import cnn3, mlp, random_inputs
from tests.support.plain_session import plain_session

TARGET = 2


def carry_out(command, model, samples, /, written=None, **changes):
    """Run a command for the weak class with the simplest arguments; `changes` replace them."""
    arguments = {
        "model": str(model),
        "data": DataSettings(data=(str(samples),)),
        "engine": EngineSettings(backend="numpy"),
        "targets": TargetSettings((str(TARGET),)),
    }
    if written is not None:
        arguments["output"] = OutputSettings(str(written))
    return command(**{**arguments, **changes})


def run(proto: ModelProto, x: np.ndarray) -> np.ndarray:
    """First output for all of x, sample by sample, so that models with a fixed batch of one run too."""
    session = plain_session(proto.SerializeToString())
    name = session.get_inputs()[0].name
    return np.concatenate([session.run(None, {name: x[k : k + 1]})[0] for k in range(len(x))])


def _inputs(proto: ModelProto, n: int, seed: int) -> np.ndarray:
    """n random samples, also for a model with a fixed batch of one."""
    free = ModelProto.FromString(proto.SerializeToString())
    free.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "N"
    (x,) = random_inputs(free, n, seed).values()
    return x


def weakened(proto: ModelProto) -> tuple[ModelProto, np.ndarray]:
    """The model with all classes made equally frequent, but for `TARGET`, which lacks the bias (C,) returned.

    The net's logits must come from a Gemm without a softmax behind it.
    """
    x = _inputs(proto, 400, 7)
    Z = run(proto, x)
    lacks = np.zeros(Z.shape[1])
    lacks[TARGET] = 1.0 * Z.std(axis=0).mean()
    gemm = next(node for node in proto.graph.node if "logits" in node.output)
    for tensor in proto.graph.initializer:
        if tensor.name == gemm.input[2]:
            value = numpy_helper.to_array(tensor) - Z.mean(axis=0) - lacks
            tensor.CopyFrom(numpy_helper.from_array(value.astype(Z.dtype), tensor.name))
    return proto, lacks


def labelled(proto: ModelProto, lacks: np.ndarray, n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Inputs (n, ...) and labels (n,): the model is right apart from noise and the bias that it lacks."""
    x = _inputs(proto, n, seed)
    Z = run(proto, x) + lacks
    noise = 0.4 * Z.std(axis=0) * np.random.default_rng((seed, 1)).standard_normal(Z.shape)
    return x, (Z + noise).argmax(axis=1)


def weak_mlp(folder: Path, n: int = 900) -> tuple[Path, Path]:
    """Paths of an MLP (.onnx) and of its samples (.npz with x, y)."""
    return _saved(folder, n, mlp, {})


def weak_cnn(folder: Path, n: int = 600, **options) -> tuple[Path, Path]:
    """Paths of a small CNN-3 (.onnx) and of its samples (.npz with x, y). options : as `nets.cnn3`."""
    return _saved(folder, n, cnn3, {"classes": 4, "size": 8, "channels": (4, 4, 8), **options})


def more_samples(model: Path, n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """More samples for the model of `weak_mlp` or of a `weak_cnn` without options."""
    import onnx

    proto = onnx.load(model)
    plain = mlp() if len(proto.graph.input[0].type.tensor_type.shape.dim) == 2 else cnn3(4, 8, (4, 4, 8))
    return labelled(*weakened(plain), n, seed)


def _saved(folder: Path, n: int, build, options: dict) -> tuple[Path, Path]:
    folder.mkdir(parents=True, exist_ok=True)
    plain = {**options, "tail": "none"} if "tail" in options else options
    proto, lacks = weakened(build(**plain))
    x, y = labelled(proto, lacks, n)
    if "tail" in options:  # the same weights with a tail behind them
        weights = list(proto.graph.initializer)
        proto = build(**options)
        for tensor in proto.graph.initializer:
            tensor.CopyFrom(next((w for w in weights if w.name == tensor.name), tensor))
    model, data = folder / "model.onnx", folder / "data.npz"
    model.write_bytes(proto.SerializeToString())
    np.savez(data, x=x, y=y)
    return model, data
