"""A tagger to try `fit` on: which digits are on a board? Its own training labels lacked many. Needs PyTorch.

    python benchmarks/science/several_labels/boards.py MNIST.npz FOLDER
    onnxtweak fit FOLDER/boards.onnx -d FOLDER/boards.npz -o all.onnx
    onnxtweak fit FOLDER/boards.onnx -d FOLDER/boards.npz -t 2 -t 5 -t 8 -o three.onnx
    onnxtweak evaluate all.onnx -d FOLDER/boards.npz

MNIST.npz holds x_train (60,000, 28, 28) uint8 and y_train. A board is 56 x 56, with one to four MNIST digits
and noise; it is marked for each of the ten digits. The net, four convolutions, a maximum over the board and
a sigmoid for each digit, is trained on 8,000 boards of the first 30,000 digits, from whose marks digits were
left out: three of ten nearly always (`--missing some`, the default), or each the more often the higher it is,
10 % of the zeros and 80 % of the nines (`--missing all`). The 4,000 boards of `boards.npz` are of the other
digits and marked in full, but for 20 % of the marks, which are -1: not known.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from torch import nn

MISSING = {
    "some": np.where(np.isin(np.arange(10), (2, 5, 8)), 0.95, 0.3),
    "all": np.linspace(0.1, 0.8, 10),
}
UNKNOWN = 0.2
TRAINED, SAMPLES, EPOCHS, BATCH = 8000, 4000, 14, 50
SIZE, DIGIT, MOST, NOISE = 56, 28, 4, 0.15


def boards(images: np.ndarray, labels: np.ndarray, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Pictures (count, 1, 56, 56) float32 and marks (count, 10) int8: which digits are there."""
    rng = np.random.default_rng(seed)
    x, y = np.zeros((count, SIZE, SIZE), np.float32), np.zeros((count, 10), np.int8)
    for k in range(count):
        for drawn in rng.integers(0, len(images), rng.integers(1, MOST + 1)):
            top, left = rng.integers(0, SIZE - DIGIT + 1, 2)
            place = slice(top, top + DIGIT), slice(left, left + DIGIT)
            x[k][place] = np.maximum(x[k][place], images[drawn] / np.float32(255))
            y[k, labels[drawn]] = 1
        x[k] += rng.normal(0, NOISE, (SIZE, SIZE)).astype(np.float32)
    return x[:, None], y


def block(before: int, after: int, stride: int) -> nn.Sequential:
    """A convolution of 3 x 3, normalised over the batch."""
    conv = nn.Conv2d(before, after, 3, stride=stride, padding=1, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(after), nn.ReLU())


class Tagger(nn.Sequential):
    """Scores (N, 10) of pictures (N, 1, 56, 56)."""

    def __init__(self) -> None:
        super().__init__(
            block(1, 16, 2),
            block(16, 32, 2),
            block(32, 64, 1),
            block(64, 64, 2),
            nn.AdaptiveMaxPool2d(1),
            nn.Flatten(),
            nn.Linear(64, 10),
        )


def main() -> None:
    """Train, export, and write the samples."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("mnist", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--missing", choices=tuple(MISSING), default="some")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    torch.manual_seed(asked.seed)
    with np.load(asked.mnist) as held:
        images, labels = held["x_train"], held["y_train"]
    half = len(labels) // 2
    x, y = boards(images[:half], labels[:half], TRAINED, asked.seed + 1)
    rng = np.random.default_rng(asked.seed + 3)
    wanted = torch.tensor(y * (rng.random(y.shape) >= MISSING[asked.missing]), dtype=torch.float32)
    net = Tagger()
    optimizer = torch.optim.Adam(net.parameters(), 3e-3)
    for epoch in range(EPOCHS):
        for rows in np.array_split(rng.permutation(TRAINED), TRAINED // BATCH):
            loss = nn.functional.binary_cross_entropy_with_logits(net(torch.tensor(x[rows])), wanted[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        print(f"epoch {epoch + 1} of {EPOCHS}: loss {loss.item():.3f}", flush=True)
    asked.folder.mkdir(parents=True, exist_ok=True)
    torch.onnx.export(
        nn.Sequential(net, nn.Sigmoid()).eval(),
        (torch.zeros(1, 1, SIZE, SIZE),),
        str(asked.folder / "boards.onnx"),
        input_names=["board"],
        output_names=["there"],
        opset_version=17,
        dynamic_axes={"board": {0: "n"}, "there": {0: "n"}},
        dynamo=False,
    )
    x, y = boards(images[half:], labels[half:], SAMPLES, asked.seed + 2)
    y[rng.random(y.shape) < UNKNOWN] = -1
    np.savez(asked.folder / "boards.npz", x=x, y=y)
    print(f"seed {asked.seed}: {TRAINED:,} boards trained on, {SAMPLES:,} written to {asked.folder}")


if __name__ == "__main__":
    main()
