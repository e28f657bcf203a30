"""How was digits_cnn3.onnx trained, and on which samples?

Trains a three-layer CNN on a long-tailed part of scikit-learn's digits and writes, beside this script,

    digits_cnn3.onnx   the model: pixels 0..16 in, logits out, the division by 16 inside
    digits.npz         every sample that is used, divided into train, fit and test

and prints what models/README.md says about them. A rare class is weak because the model has hardly seen it:
nothing is mislabelled, damaged or left half-trained on purpose.

Needs torch, onnx, onnxruntime and scikit-learn, which onnxtweak itself does not (torch) or not all (onnx):

    python3.11 -m venv torch-venv
    torch-venv/bin/pip install torch==2.13.0 onnx onnxruntime scikit-learn
    torch-venv/bin/python models/train_digits.py

Two runs on one machine write identical files. Another processor may round differently and give a model that
is as good but not the same; the samples of digits.npz stay the same.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import TensorProto, helper, numpy_helper
from sklearn.datasets import load_digits
from torch import nn

SPLIT_SEED = 0
TRAINING_SEED = 0
EPOCHS = 40
BATCH = 32
LEARNING_RATE = 2e-3

TEST_PER_CLASS = 50
FIT_PER_CLASS = 60
TRAIN_PER_CLASS = dict.fromkeys(range(10), 64) | {3: 32, 9: 16, 8: 8}

FOLDER = Path(__file__).resolve().parent


def divide(labels: np.ndarray) -> dict[str, np.ndarray]:
    """Choose sample numbers for train, fit and test; no sample is in two of them.

    Test and fit are drawn first and hold every class equally, so that a rare class is rare only for the
    model. What is left over (most of the rare digits' samples) is used nowhere.
    """
    rng = np.random.default_rng(SPLIT_SEED)
    chosen: dict[str, list[np.ndarray]] = {"train": [], "fit": [], "test": []}
    for digit, train_count in TRAIN_PER_CLASS.items():
        samples = rng.permutation(np.flatnonzero(labels == digit))
        borders = np.cumsum([TEST_PER_CLASS, FIT_PER_CLASS, train_count])
        test, fit, train, _unused = np.split(samples, borders)
        chosen["test"].append(test)
        chosen["fit"].append(fit)
        chosen["train"].append(train)
    return {name: np.sort(np.concatenate(parts)) for name, parts in chosen.items()}


def train(images: np.ndarray, labels: np.ndarray) -> nn.Sequential:
    """Train on images (N, 1, 8, 8) float32, 0..16, and labels (N,) int64."""
    torch.set_num_threads(1)  # sums in one order, so that two runs agree to the last bit
    torch.use_deterministic_algorithms(True)
    torch.manual_seed(TRAINING_SEED)
    net = nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(32, 32, 3, padding=1),
        nn.ReLU(),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Linear(128, 10),
    )
    optimizer = torch.optim.Adam(net.parameters(), lr=LEARNING_RATE)
    x, y = torch.from_numpy(images) / 16, torch.from_numpy(labels)
    for _ in range(EPOCHS):
        for batch in torch.randperm(len(y)).split(BATCH):
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(x[batch]), y[batch]).backward()
            optimizer.step()
    return net


def export(net: nn.Sequential) -> onnx.ModelProto:
    """Write the network as ONNX, opset 17, any batch size.

    Node by node rather than by torch's exporter: a dozen nodes are shorter than cleaning up its tensor
    names, and the file does not change with the exporter's version.
    """
    weights = {name: value.detach().numpy() for name, value in net.state_dict().items()}
    initializers = {"pixel_range": np.float32(16)}
    for name, layer in {"conv1": 0, "conv2": 3, "conv3": 5, "dense": 9}.items():
        initializers[f"{name}.weight"] = weights[f"{layer}.weight"]
        initializers[f"{name}.bias"] = weights[f"{layer}.bias"]
    halve = {"kernel_shape": [2, 2], "strides": [2, 2]}
    convolve = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}

    def node(op: str, inputs: list[str], output: str, **attributes: object) -> onnx.NodeProto:
        return helper.make_node(op, inputs, [output], name=output, **attributes)

    graph = helper.make_graph(
        [
            node("Div", ["image", "pixel_range"], "scaled"),
            node("Conv", ["scaled", "conv1.weight", "conv1.bias"], "conv1", **convolve),
            node("Relu", ["conv1"], "relu1"),
            node("MaxPool", ["relu1"], "pool1", **halve),
            node("Conv", ["pool1", "conv2.weight", "conv2.bias"], "conv2", **convolve),
            node("Relu", ["conv2"], "relu2"),
            node("Conv", ["relu2", "conv3.weight", "conv3.bias"], "conv3", **convolve),
            node("Relu", ["conv3"], "relu3"),
            node("AveragePool", ["relu3"], "pool3", **halve),
            node("Flatten", ["pool3"], "flat"),
            node("Gemm", ["flat", "dense.weight", "dense.bias"], "logits", transB=1),
        ],
        "digits_cnn3",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 1, 8, 8])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 10])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in initializers.items()],
        doc_string="Handwritten digits, 8x8 pixels of 0..16, to 10 logits. Trained on a long-tailed subset.",
    )
    model = helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
        producer_name="onnxtweak models/train_digits.py",
        producer_version="1",
    )
    onnx.checker.check_model(model, full_check=True)
    return model


def report(paths: list[Path], arrays: dict[str, np.ndarray]) -> None:
    """Print the numbers of the card, measured on the files as they were written."""
    print(f"split seed {SPLIT_SEED}, training seed {TRAINING_SEED}, {EPOCHS} epochs")
    for path in paths:
        content = path.read_bytes()
        print(f"{path.name} {len(content)} bytes sha256 {hashlib.sha256(content).hexdigest()}")
    session = onnxruntime.InferenceSession(paths[0], providers=["CPUExecutionProvider"])
    print("| split | samples | overall | " + " | ".join(map(str, range(10))) + " |")
    print("|---" * 13 + "|")
    for split in ("train", "fit", "test"):
        x, y = arrays[f"x_{split}"], arrays[f"y_{split}"]
        right = session.run(["logits"], {"image": x})[0].argmax(axis=1) == y
        cells = [f"{right[y == digit].mean():.3f}" for digit in range(10)]
        print(f"| {split} | {len(y)} | {right.mean():.3f} | " + " | ".join(cells) + " |")


def main() -> None:
    digits = load_digits()
    images = digits.images.astype(np.float32)[:, None]
    labels = digits.target.astype(np.int64)
    arrays = {}
    for split, samples in divide(labels).items():
        arrays[f"x_{split}"], arrays[f"y_{split}"] = images[samples], labels[samples]
    net = train(arrays["x_train"], arrays["y_train"])

    model_path, data_path = FOLDER / "digits_cnn3.onnx", FOLDER / "digits.npz"
    model_path.write_bytes(export(net).SerializeToString(deterministic=True))
    np.savez_compressed(data_path, **arrays)
    report([model_path, data_path], arrays)


if __name__ == "__main__":
    main()
