"""How was digits_resnet20.onnx trained, and on which samples?

Trains a narrow ResNet-20 on the `train` samples of digits.npz, of which the digits 3, 8 and 9 are rare, and
writes digits_resnet20.onnx beside this script: pixels 0..16 in, logits out, the division by 16 inside. It
prints what models/README.md says about it. It is weak for two reasons, neither of them damage: rare classes,
and few epochs.

Needs torch, onnx and onnxruntime:

    torch-venv/bin/pip install torch==2.13.0 onnx onnxruntime
    torch-venv/bin/python models/train_digits_resnet.py

Two runs on one machine write identical files; another processor may round differently.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from torch import Tensor, nn
from torch.nn import functional

SEED = 0
EPOCHS = 10
BATCH = 32
LEARNING_RATE = 2e-3
# Channels of the three stages; the published net has 16, 32 and 64.
WIDTHS = (4, 8, 16)
BLOCKS = 3

FOLDER = Path(__file__).resolve().parent


class Block(nn.Module):
    """Two 3x3 convolutions beside a short cut, which is a 1x1 convolution where the shape changes."""

    def __init__(self, inside: int, outside: int, stride: int):
        super().__init__()
        self.first = nn.Conv2d(inside, outside, 3, stride, padding=1, bias=False)
        self.second = nn.Conv2d(outside, outside, 3, padding=1, bias=False)
        self.norms = nn.ModuleList([nn.BatchNorm2d(outside), nn.BatchNorm2d(outside)])
        self.short: nn.Module = nn.Identity()
        if inside != outside:
            self.short = nn.Conv2d(inside, outside, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        long = functional.relu(self.norms[0](self.first(x)))
        return functional.relu(self.norms[1](self.second(long)) + self.short(x))


class Net(nn.Module):
    """Twenty layers of weights, from pixels 0..16 (N, 1, 8, 8) to logits (N, 10)."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(1, WIDTHS[0], 3, padding=1, bias=False)]
        layers += [nn.BatchNorm2d(WIDTHS[0]), nn.ReLU()]
        inside = WIDTHS[0]
        for outside in WIDTHS:
            for _ in range(BLOCKS):
                layers.append(Block(inside, outside, 1 if inside == outside else 2))
                inside = outside
        self.body = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.last = nn.Linear(inside, 10)

    def forward(self, image: Tensor) -> Tensor:
        return self.last(self.body(image / 16))


def train(images: np.ndarray, labels: np.ndarray) -> Net:
    """Train on images (N, 1, 8, 8) float32, 0..16, and labels (N,) int64."""
    torch.set_num_threads(1)  # sums in one order, so that two runs agree to the last bit
    torch.use_deterministic_algorithms(True)
    torch.manual_seed(SEED)
    net = Net()
    optimizer = torch.optim.Adam(net.parameters(), lr=LEARNING_RATE)
    x, y = torch.from_numpy(images), torch.from_numpy(labels)
    for _ in range(EPOCHS):
        for rows in torch.randperm(len(y)).split(BATCH):
            optimizer.zero_grad()
            functional.cross_entropy(net(x[rows]), y[rows]).backward()
            optimizer.step()
    return net.eval()


def report(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Print the numbers of the card, measured on the file as it was written."""
    content = path.read_bytes()
    print(f"seed {SEED}, {EPOCHS} epochs")
    print(f"{path.name} {len(content)} bytes sha256 {hashlib.sha256(content).hexdigest()}")
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    for split in ("train", "fit", "test"):
        x, y = arrays[f"x_{split}"], arrays[f"y_{split}"]
        right = session.run(["logits"], {"image": x})[0].argmax(axis=1) == y
        cells = [f"{right[y == digit].mean():.3f}" for digit in range(10)]
        print(f"| {split} | {right.mean():.3f} | " + " | ".join(cells) + " |")


def main() -> None:
    with np.load(FOLDER / "digits.npz") as file:
        arrays = dict(file)
    net = train(arrays["x_train"], arrays["y_train"])
    path = FOLDER / "digits_resnet20.onnx"
    torch.onnx.export(
        net,
        (torch.zeros(2, 1, 8, 8),),
        str(path),
        opset_version=17,
        dynamo=False,
        input_names=["image"],
        output_names=["logits"],
        dynamic_axes={"image": {0: "batch"}, "logits": {0: "batch"}},
    )
    report(path, arrays)


if __name__ == "__main__":
    main()
