"""What does training through the net reach that the tables' methods are compared with in chapter 4?

DA is a new layer after the last representation, WA one beside it, which reads what the last block reads; the
whole net is trained on. Growing nothing, for as long, is their control. All learn either from the base's
training samples, or from the held-out ones, which is what onnxtweak's methods learn from.
"""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.science.thesis.data import Divided, divide
from benchmarks.science.thesis.nets import Net, build
from benchmarks.science.thesis.recipes import Recipe
from benchmarks.science.thesis.train import Trained, finish, learn, opened, weights

TRAINING, HELD_OUT = "training", "held-out"


@dataclass(frozen=True)
class Growth:
    """All that determines a grown net.

    way : "more" (nothing is added), "DA" or "WA". hidden : units of the new layer. samples : `TRAINING` or
    `HELD_OUT`. iterations : about so many; whole epochs are trained.
    """

    base: Recipe
    way: str
    samples: str
    iterations: int
    hidden: int = 0

    @property
    def name(self) -> str:
        """Of its files."""
        asked = [self.base.name, self.way, self.samples, self.iterations, self.hidden]
        digest = hashlib.sha256(json.dumps(asked).encode()).hexdigest()
        return f"{self.base.sample.dataset}-{self.base.net}-{self.way}-{digest[:10]}"


class Beside(nn.Module):
    """The last block of a body, and a linear layer with ReLU on the same map, end to end."""

    def __init__(self, before: nn.Module, last: nn.Module, inputs: int, hidden: int):
        super().__init__()
        self.before, self.last, self.new = before, last, nn.Linear(inputs, hidden)

    def forward(self, x: Tensor) -> Tensor:
        x = self.before(x)
        return torch.cat([self.last(x), functional.relu(self.new(torch.flatten(x, 1)))], dim=1)


def deeper(net: Net, hidden: int) -> None:
    """DA, in place: the representation feeds `hidden` new units, these the logits. The old one goes."""
    net.last = nn.Sequential(
        nn.Linear(net.last.in_features, hidden), nn.ReLU(), nn.Linear(hidden, net.last.out_features)
    )


def wider(net: Net, hidden: int, shape: tuple[int, int, int]) -> None:
    """WA, in place: `hidden` new units beside the representation; their weights to the logits start at 0."""
    layers = list(net.body)
    cut = max(at for at, layer in enumerate(layers) if any(isinstance(m, nn.Conv2d) for m in layer.modules()))
    before, last = nn.Sequential(*layers[:cut]), nn.Sequential(*layers[cut:])
    with torch.no_grad():
        inputs = before.eval()(torch.zeros(1, *shape)).numel()
    old = net.last
    net.body = Beside(before, last, inputs, hidden)
    net.last = nn.Linear(old.in_features + hidden, old.out_features)
    with torch.no_grad():
        net.last.weight.zero_()
        net.last.weight[:, : old.in_features] = old.weight
        net.last.bias.copy_(old.bias)


def grown(growth: Growth, data: Path, work: Path) -> tuple[Trained, int]:
    """The net, from disk or trained now, its base first; and how many iterations it took."""
    path = work / "nets" / growth.name
    if not path.with_suffix(".json").exists():
        _train(growth, data, work, path)
    return opened(path), json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))["iterations"]


def _train(growth: Growth, data: Path, work: Path, path: Path) -> None:
    of = divide(growth.base.sample, data)
    shape = of.x_train.shape[1:]
    start = weights(growth.base, data, work)
    torch.manual_seed(growth.base.seed)
    net = build(growth.base.net, growth.base.sample.dataset, shape, of.classes)
    net.load_state_dict(start)
    if growth.way == "DA":
        deeper(net, growth.hidden)
    elif growth.way == "WA":
        wider(net, growth.hidden, shape)
    seen = of if growth.samples == TRAINING else as_training(of)
    rows, batch = np.arange(len(seen.y_train)), growth.base.batch
    epochs = max(1, round(growth.iterations * batch / len(rows)))
    print(f"# {path.name}: {growth.samples} samples, {epochs} epochs", flush=True)
    since = time.perf_counter()
    history = learn(net, seen, rows, np.ones(len(rows)), epochs, batch, growth.base.rate, growth.base.seed)
    seconds = time.perf_counter() - since
    done = epochs * -(-len(rows) // batch)
    told = {"growth": asdict(growth), "seconds": seconds, "history": history, "iterations": done}
    finish(net, of, path, shape, told)


def as_training(of: Divided) -> Divided:
    """The held-out samples in the place of the training samples."""
    return replace(of, x_train=of.x_held, y_train=of.y_held)
