"""A detector to try `fit` on: digits of all sizes in noise, two of which it has hardly seen. Needs PyTorch.

    python benchmarks/science/boxes/digits.py MNIST.npz FOLDER
    onnxtweak fit FOLDER/digits.onnx -d FOLDER/digits.npz -t 2 -t 7 -o targets.onnx
    onnxtweak evaluate targets.onnx -d FOLDER/digits.npz

MNIST.npz holds x_train (60,000, 28, 28) uint8 and y_train. Scenes are 96 x 96, with two to five MNIST digits
of 16 to 44 pixels and noise. The net has two levels, at strides of 8 and 16. `--layout yolo` (the default)
has one anchor a position, a sigmoid for each digit, and the output [N, 4 + 10, A] of YOLOv8 and its
successors, boxes as centre and size in pixels; `--layout ssd` has two anchors a position, a softmax with a
background, and the outputs `scores` [N, A, 11] and `boxes` [N, A, 4], as corners; `--layout yolox` has a
score for any object beside those of the digits, sigmoids at each level, and the output [N, A, 5 + 10], boxes
counted in cells of the level, as YOLOX shows them. It is trained on 3,000 scenes of the first 30,000 digits,
in which 2 and 7 are twelve times as rare as others; the 2,400 scenes of `digits.npz` are of the other digits,
all of them as frequent. Their boxes are rows of sample, class, left, top, right, bottom.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

RARE, SHARE = (2, 7), 0.04
TRAINED, SAMPLES, EPOCHS, BATCH = 3000, 2400, 14, 25
SIZE, SMALLEST, LARGEST, NOISE = 96, 16, 44, 0.2
STRIDES, PRIORS = (8, 16), ((18.0, 26.0), (34.0, 42.0))
SPLIT_AT = 28  # digits that are larger belong to the second level


def scenes(
    images: np.ndarray, labels: np.ndarray, count: int, likely: np.ndarray, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Pictures (count, 1, 96, 96) float32 and boxes (B, 6) float32. likely (10,) : of each digit."""
    rng = np.random.default_rng(seed)
    of_digit = [np.flatnonzero(labels == digit) for digit in range(10)]
    x, boxes = np.zeros((count, 1, SIZE, SIZE), np.float32), []
    for k in range(count):
        for _ in range(rng.integers(2, 6)):
            digit = rng.choice(10, p=likely)
            drawn = torch.tensor(images[rng.choice(of_digit[digit])] / np.float32(255))[None, None]
            size = int(rng.integers(SMALLEST, LARGEST + 1))
            drawn = nn.functional.interpolate(drawn, (size, size), mode="bilinear")[0, 0].numpy()
            rows, columns = (np.flatnonzero((drawn > 0.3).any(axis=axis)) for axis in (1, 0))
            top, left = rng.integers(0, SIZE - size + 1, 2)
            box = (left + columns[0], top + rows[0], left + columns[-1] + 1, top + rows[-1] + 1)
            if any(k == b[0] and _overlap(box, b[2:]) > 0.2 for b in boxes):
                continue
            place = x[k, 0, top : top + size, left : left + size]
            place[:] = np.maximum(place, drawn * rng.uniform(0.6, 1.0))
            boxes.append((k, digit, *box))
        x[k] += rng.normal(0, NOISE, (SIZE, SIZE)).astype(np.float32)
    return x, np.array(boxes, np.float32)


def _overlap(one: tuple[float, ...], other: tuple[float, ...]) -> float:
    """The share of the smaller of two boxes that the other covers."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    areas = ((b[2] - b[0]) * (b[3] - b[1]) for b in (one, other))
    return max(0.0, width) * max(0.0, height) / min(areas)


def block(before: int, after: int, stride: int) -> nn.Sequential:
    """A convolution of 3 x 3, normalised over the batch."""
    conv = nn.Conv2d(before, after, 3, stride=stride, padding=1, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(after), nn.SiLU())


class Detector(nn.Module):
    """Logits (N, A, C) and distances (N, A, 4) of pictures (N, 1, 96, 96); export shows scores and boxes."""

    def __init__(self, layout: str) -> None:
        super().__init__()
        self.layout, self.anchors = layout, 2 if layout == "ssd" else 1
        self.classes = 11 if layout == "ssd" else 10
        self.stem = nn.Sequential(block(1, 16, 2), block(16, 32, 2), block(32, 48, 2), block(48, 64, 1))
        self.deep = nn.Sequential(block(64, 64, 2), block(64, 64, 1))
        self.of_class = nn.ModuleList(
            nn.Sequential(block(64, 48, 1), nn.Conv2d(48, self.anchors * self.classes, 1)) for _ in STRIDES
        )
        self.of_box = nn.ModuleList(
            nn.Sequential(block(64, 32, 1), nn.Conv2d(32, self.anchors * self.numbers, 1)) for _ in STRIDES
        )
        if layout == "yolo":
            for head in self.of_class:
                nn.init.constant_(head[1].bias, -4.0)
        if layout == "yolox":
            for head in self.of_box:
                nn.init.constant_(head[1].bias[4:], -4.0)
        centres, sizes = [], []
        for stride, priors in zip(STRIDES, PRIORS, strict=True):
            at = (np.arange(SIZE // stride) + 0.5) * stride
            y, x = np.meshgrid(at, at, indexing="ij")
            grid = np.stack([x, y], -1).reshape(-1, 1, 2)
            centres.append(np.repeat(grid, self.anchors, axis=1).reshape(-1, 2))
            each = np.full(self.anchors, stride) if self.anchors == 1 else np.array(priors)
            sizes.append(np.tile(each, len(grid)))
        self.register_buffer("centres", torch.tensor(np.concatenate(centres), dtype=torch.float32))
        self.register_buffer("sizes", torch.tensor(np.concatenate(sizes), dtype=torch.float32)[:, None])

    @property
    def numbers(self) -> int:
        """Of a box; the last one of five says how likely any object is there."""
        return 5 if self.layout == "yolox" else 4

    def raw(self, x: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Maps of logits and of boxes, a pair for each level."""
        first = self.stem(x)
        levels = (first, self.deep(first))
        pairs = zip(levels, self.of_class, self.of_box, strict=True)
        return [(c(level), b(level)) for level, c, b in pairs]

    def rows(self, value: Tensor, width: int) -> Tensor:
        """(N, anchors * width, H, W) as (N, H W anchors, width)."""
        return value.permute(0, 2, 3, 1).reshape(value.shape[0], -1, width)

    def boxes(self, found: Tensor) -> Tensor:
        """Corners (N, A, 4) of what the net says of each anchor."""
        if self.layout == "yolo":  # distances to the four sides
            away = nn.functional.softplus(found) * self.sizes
            return torch.cat([self.centres - away[..., :2], self.centres + away[..., 2:]], -1)
        if self.layout == "yolox":  # from the corner of the cell, in cells
            centre = self.centres + (found[..., :2] - 0.5) * self.sizes
            half = torch.exp(found[..., 2:4].clamp(max=4)) * self.sizes / 2
            return torch.cat([centre - half, centre + half], -1)
        centre = self.centres + 0.1 * found[..., :2] * self.sizes
        half = torch.exp(0.2 * found[..., 2:]) * self.sizes / 2
        return torch.cat([centre - half, centre + half], -1)

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        raw = self.raw(x)
        if self.training or self.layout == "ssd":
            Z = torch.cat([self.rows(c, self.classes) for c, _ in raw], 1)
            numbers = torch.cat([self.rows(b, self.numbers) for _, b in raw], 1)
            boxes = torch.cat([self.boxes(numbers), numbers[..., 4:]], -1)
            return (Z, boxes) if self.training else (Z.softmax(-1), boxes)
        if self.layout == "yolox":
            each = [torch.cat([b[:, :4], b[:, 4:].sigmoid(), c.sigmoid()], 1).flatten(2) for c, b in raw]
            return torch.cat(each, 2).transpose(1, 2)
        joined = torch.cat([torch.cat([b, c], 1).flatten(2) for c, b in raw], 2)
        sides, Z = joined.split((4, self.classes), 1)
        corners = self.boxes(sides.transpose(1, 2)).transpose(1, 2)
        low, high = corners.chunk(2, 1)
        return torch.cat([(low + high) / 2, high - low, Z.sigmoid()], 1)


def matched(net: Detector, own: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The class of each anchor, -1 for background, and its box. own (b, 5) : of a picture."""
    centres, sizes = net.centres.numpy(), net.sizes.numpy()[:, 0]
    found, boxes = np.full(len(centres), -1), np.zeros((len(centres), 4), np.float32)
    for digit, *box in own:
        box = np.array(box, np.float32)
        size, middle = (box[2:] - box[:2]).max(), (box[:2] + box[2:]) / 2
        near = np.abs(centres - middle).max(axis=1)
        if net.layout != "ssd":
            taken = (sizes == STRIDES[int(size > SPLIT_AT)]) & (near <= 0.8 * sizes)
        else:
            stride = np.where(sizes < PRIORS[1][0], *STRIDES)
            taken = (np.abs(np.log(sizes / size)) < 0.25) & (near <= 0.8 * stride)
            taken |= (
                np.abs(np.log(sizes / size)) + near / sizes
                <= (np.abs(np.log(sizes / size)) + near / sizes).min()
            )
        found[taken], boxes[taken] = int(digit), box
    return found, boxes


def loss_of(net: Detector, x: Tensor, own: list[np.ndarray]) -> Tensor:
    """Of a batch: cross-entropies of the classes, and one less the overlap of boxes."""
    Z, boxes = net(x)
    pairs = [matched(net, each) for each in own]
    truth, wanted = (torch.tensor(np.stack(each)) for each in zip(*pairs, strict=True))
    there = truth >= 0
    count = max(int(there.sum()), 1)
    if net.layout != "ssd":
        marks = torch.zeros_like(Z)
        marks[there] = nn.functional.one_hot(truth[there], net.classes).float()
        if net.layout == "yolox":  # classes are learnt where objects are, and elsewhere that there is none
            of_class = nn.functional.binary_cross_entropy_with_logits(Z[there], marks[there], reduction="sum")
            any_object = nn.functional.binary_cross_entropy_with_logits(
                boxes[..., 4], there.float(), reduction="sum"
            )
            classes = (of_class + any_object) / count
        else:
            classes = nn.functional.binary_cross_entropy_with_logits(Z, marks, reduction="sum") / count
    else:
        each = nn.functional.cross_entropy(
            Z.flatten(0, 1), torch.where(there, truth + 1, 0).flatten(), reduction="none"
        ).view_as(truth)
        hard = torch.where(there, torch.zeros_like(each), each).flatten().topk(3 * count).values
        classes = (each[there].sum() + hard.sum()) / count
    one, other = boxes[there][:, :4], wanted[there]
    inner = (torch.min(one[:, 2:], other[:, 2:]) - torch.max(one[:, :2], other[:, :2])).clamp(min=0).prod(1)
    outer = (torch.max(one[:, 2:], other[:, 2:]) - torch.min(one[:, :2], other[:, :2])).prod(1)
    both = (one[:, 2:] - one[:, :2]).prod(1) + (other[:, 2:] - other[:, :2]).prod(1) - inner
    overlap = inner / both - (outer - both) / outer
    return classes + 2 * (1 - overlap).mean()


def main() -> None:
    """Train, export, and write the samples."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("mnist", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--layout", choices=("yolo", "ssd", "yolox"), default="yolo")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    torch.manual_seed(asked.seed)
    with np.load(asked.mnist) as held:
        images, labels = held["x_train"], held["y_train"]
    half = len(labels) // 2
    likely = np.where(np.isin(np.arange(10), RARE), SHARE, 1.0)
    x, boxes = scenes(images[:half], labels[:half], TRAINED, likely / likely.sum(), asked.seed + 1)
    own = [boxes[boxes[:, 0] == k, 1:] for k in range(TRAINED)]
    rng, net = np.random.default_rng(asked.seed + 3), Detector(asked.layout)
    steps = EPOCHS * (TRAINED // BATCH)
    optimizer = torch.optim.Adam(net.parameters(), 3e-3)
    slower = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps, 1e-4)
    for epoch in range(EPOCHS):
        for rows in np.array_split(rng.permutation(TRAINED), TRAINED // BATCH):
            loss = loss_of(net, torch.tensor(x[rows]), [own[k] for k in rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            slower.step()
        print(f"epoch {epoch + 1} of {EPOCHS}: loss {loss.item():.3f}", flush=True)
    asked.folder.mkdir(parents=True, exist_ok=True)
    outputs = ["scores", "boxes"] if asked.layout == "ssd" else ["output0"]
    torch.onnx.export(
        net.eval(),
        (torch.zeros(1, 1, SIZE, SIZE),),
        str(asked.folder / "digits.onnx"),
        input_names=["image"],
        output_names=outputs,
        opset_version=17,
        dynamic_axes={name: {0: "n"} for name in ("image", *outputs)},
        dynamo=False,
    )
    x, boxes = scenes(images[half:], labels[half:], SAMPLES, np.full(10, 0.1), asked.seed + 2)
    np.savez(asked.folder / "digits.npz", x=x, boxes=boxes)
    print(f"seed {asked.seed}: {TRAINED:,} scenes trained on, {SAMPLES:,} written to {asked.folder}")


if __name__ == "__main__":
    main()
