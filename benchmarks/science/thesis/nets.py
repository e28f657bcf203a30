"""The thesis's nets, from bytes to logits: what is in them, and how do they become ONNX files?

CNN-3: three 5x5 convolutions of 32, 32, 64 channels with batch norm and ReLU, pooled after each, one linear
layer. ResNet-20 and DenseNet-40 (growth 12) as published. All bring bytes to scale in their first node.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

# Mean and standard deviation of the bytes, by channel.
_SCALE = {
    "cifar10": ((125.3, 123.0, 113.9), (63.0, 62.1, 66.7)),
    "mnist": ((33.3,), (78.6,)),
    "digits": ((4.9,), (6.0,)),
}
_OPSET = 17


class Net(nn.Module):
    """scale -> body (one vector a sample) -> dropout -> last, a linear layer to the logits."""

    def __init__(self, body: nn.Module, features: int, classes: int, dataset: str, dropout: float):
        super().__init__()
        mean, std = _SCALE[dataset]
        self.register_buffer("mean", torch.tensor(mean)[:, None, None])
        self.register_buffer("std", torch.tensor(std)[:, None, None])
        self.body, self.dropout = body, nn.Dropout(dropout)
        self.last = nn.Linear(features, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.dropout(self.body((x - self.mean) / self.std)))


def build(name: str, dataset: str, shape: tuple[int, int, int], classes: int, dropout: float = 0.0) -> Net:
    """name : a key of `BODIES`. shape : (channels, height, width). Dropout adds no weights."""
    body, features = BODIES[name](*shape)
    return Net(body, features, classes, dataset, dropout)


def cnn3(channels: int, height: int, width: int) -> tuple[nn.Module, int]:
    """body and number of features."""
    body = nn.Sequential(
        *_conv5(channels, 32),
        nn.MaxPool2d(2),
        *_conv5(32, 32),
        nn.AvgPool2d(2),
        *_conv5(32, 64),
        nn.AvgPool2d(2),
        nn.Flatten(),
    )
    return body, 64 * (height // 8) * (width // 8)


def resnet20(channels: int, height: int, width: int) -> tuple[nn.Module, int]:
    """Three stages of three blocks with 16, 32 and 64 channels; 1x1 convolutions where the shape changes."""
    layers: list[nn.Module] = [_conv3(channels, 16), nn.BatchNorm2d(16), nn.ReLU()]
    inside = 16
    for outside, stride in [(16, 1)] * 3 + [(32, 2), (32, 1), (32, 1)] + [(64, 2), (64, 1), (64, 1)]:
        layers.append(Residual(inside, outside, stride))
        inside = outside
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten()), 64


def densenet40(channels: int, height: int, width: int) -> tuple[nn.Module, int]:
    """Three blocks of twelve layers that each append 12 channels; no bottlenecks."""
    layers: list[nn.Module] = [_conv3(channels, 16)]
    inside = 16
    for block in range(3):
        for _ in range(12):
            layers.append(Appended(inside, 12))
            inside += 12
        layers += [nn.BatchNorm2d(inside), nn.ReLU()]
        if block < 2:
            layers += [nn.Conv2d(inside, inside, 1, bias=False), nn.AvgPool2d(2)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten()), inside


class Residual(nn.Module):
    """Two 3x3 convolutions beside a short cut."""

    def __init__(self, inside: int, outside: int, stride: int):
        super().__init__()
        self.long = nn.Sequential(
            _conv3(inside, outside, stride),
            nn.BatchNorm2d(outside),
            nn.ReLU(),
            _conv3(outside, outside),
            nn.BatchNorm2d(outside),
        )
        self.short: nn.Module = nn.Identity()
        if inside != outside:
            self.short = nn.Sequential(
                nn.Conv2d(inside, outside, 1, stride, bias=False), nn.BatchNorm2d(outside)
            )

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(self.long(x) + self.short(x))


class Appended(nn.Module):
    """A layer whose output is put beside its input."""

    def __init__(self, inside: int, growth: int):
        super().__init__()
        self.new = nn.Sequential(nn.BatchNorm2d(inside), nn.ReLU(), _conv3(inside, growth))

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, self.new(x)], dim=1)


BODIES = {"cnn3": cnn3, "resnet20": resnet20, "densenet40": densenet40}


def export(net: nn.Module, path: Path, shape: tuple[int, int, int]) -> None:
    """Write `net` as ONNX with a free batch axis; batch norm is folded into the convolutions."""
    net.eval()
    torch.onnx.export(
        net,
        (torch.zeros(2, *shape),),
        str(path),
        opset_version=_OPSET,
        dynamo=False,
        input_names=["image"],
        output_names=["logits"],
        dynamic_axes={"image": {0: "batch"}, "logits": {0: "batch"}},
        do_constant_folding=True,
    )


def parameters(net: nn.Module) -> int:
    """Numbers that are trained."""
    return sum(p.numel() for p in net.parameters())


def _conv5(inside: int, outside: int) -> tuple[nn.Module, ...]:
    return (
        nn.Conv2d(inside, outside, 5, padding=2, bias=False),
        nn.BatchNorm2d(outside),
        nn.ReLU(),
    )


def _conv3(inside: int, outside: int, stride: int = 1) -> nn.Module:
    return nn.Conv2d(inside, outside, 3, stride, padding=1, bias=False)
