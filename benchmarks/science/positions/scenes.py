"""A segmenter to try `fit` on: scenes of MNIST digits, two of which it has hardly seen. Needs PyTorch.

    python benchmarks/science/positions/scenes.py MNIST.npz FOLDER
    onnxtweak fit FOLDER/scenes.onnx -d FOLDER/scenes.npz -t 3 -t 8 -o targets.onnx
    onnxtweak fit FOLDER/scenes.onnx -d FOLDER/scenes.npz --metric iou -o iou.onnx
    onnxtweak evaluate iou.onnx -d FOLDER/scenes.npz

MNIST.npz holds x_train (60,000, 28, 28) uint8 and y_train. Scenes are 64 x 64, with three digits each and
noise; labels are 0 for the background and digit + 1. The net, four convolutions with a 1 x 1 head on a
quarter of the resolution, is trained on 2,500 scenes of the first 30,000 digits, in which 2 and 7 are twelve
times as rare as others; the 900 scenes of `scenes.npz` are of the other digits, all of them as frequent.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from torch import nn

RARE, SHARE = (2, 7), 0.08
TRAINED, SAMPLES, EPOCHS, BATCH = 2500, 900, 6, 25
SIZE, DIGIT, DIGITS, NOISE = 64, 28, 3, 0.15


def scenes(
    images: np.ndarray, labels: np.ndarray, count: int, likely: np.ndarray, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Pictures (count, 1, 64, 64) float32 and classes (count, 64, 64) uint8. likely (10,) : of each digit."""
    rng = np.random.default_rng(seed)
    of_digit = [np.flatnonzero(labels == digit) for digit in range(10)]
    x = np.zeros((count, SIZE, SIZE), np.float32)
    y = np.zeros((count, SIZE, SIZE), np.uint8)
    for k in range(count):
        for _ in range(DIGITS):
            digit = rng.choice(10, p=likely)
            drawn = images[rng.choice(of_digit[digit])] / np.float32(255)
            top, left = rng.integers(0, SIZE - DIGIT, 2)
            place = slice(top, top + DIGIT), slice(left, left + DIGIT)
            x[k][place] = np.maximum(x[k][place], drawn)
            y[k][place][drawn > 0.25] = digit + 1
        x[k] += rng.normal(0, NOISE, (SIZE, SIZE)).astype(np.float32)
    return x[:, None], y


class Segmenter(nn.Sequential):
    """Scores (N, 11, 64, 64) of pictures (N, 1, 64, 64)."""

    def __init__(self) -> None:
        super().__init__(
            nn.Sequential(nn.Conv2d(1, 16, 3, padding=1), nn.ReLU()),
            nn.Sequential(nn.Conv2d(16, 32, 3, stride=2, padding=1), nn.ReLU()),
            nn.Sequential(nn.Conv2d(32, 64, 3, stride=2, padding=1), nn.ReLU()),
            nn.Sequential(nn.Conv2d(64, 64, 3, padding=2, dilation=2), nn.ReLU()),
            nn.Conv2d(64, 11, 1),
            nn.Upsample(scale_factor=4, mode="bilinear"),
        )


def main() -> None:
    """Train, export, and write the samples."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("mnist", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    torch.manual_seed(asked.seed)
    with np.load(asked.mnist) as held:
        images, labels = held["x_train"], held["y_train"]
    half = len(labels) // 2
    likely = np.where(np.isin(np.arange(10), RARE), SHARE, 1.0)
    x, y = scenes(images[:half], labels[:half], TRAINED, likely / likely.sum(), asked.seed + 1)
    net = Segmenter()
    optimizer = torch.optim.Adam(net.parameters(), 2e-3)
    for epoch in range(EPOCHS):
        for start in range(0, TRAINED, BATCH):
            span = slice(start, start + BATCH)
            loss = nn.functional.cross_entropy(net(torch.tensor(x[span])), torch.tensor(y[span]).long())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        print(f"epoch {epoch + 1} of {EPOCHS}: loss {float(loss):.3f}", flush=True)
    asked.folder.mkdir(parents=True, exist_ok=True)
    torch.onnx.export(
        net.eval(),
        (torch.zeros(1, 1, SIZE, SIZE),),
        str(asked.folder / "scenes.onnx"),
        input_names=["image"],
        output_names=["scores"],
        opset_version=17,
        dynamic_axes={"image": {0: "n"}, "scores": {0: "n"}},
        dynamo=False,
    )
    x, y = scenes(images[half:], labels[half:], SAMPLES, np.full(10, 0.1), asked.seed + 2)
    np.savez(asked.folder / "scenes.npz", x=x, y=y)
    print(f"seed {asked.seed}: {TRAINED:,} scenes trained on, {SAMPLES:,} written to {asked.folder}")


if __name__ == "__main__":
    main()
