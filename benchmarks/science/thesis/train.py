"""How are the bases trained, and the thesis's rivals that go through the net? Once each, then read from disk.

A `Recipe` says all that determines a net; its digest is the name of the files in `WORK/nets`, so that every
table that asks for the same recipe gets the same net:

    NAME.onnx  the net                NAME.pt    its weights, to go on from
    NAME.npz   logits of the held-out and the test samples, computed from the ONNX file
    NAME.json  the recipe, seconds, and the accuracy of each class on the held-out samples after every epoch
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from torch import nn
from torch.nn import functional

from benchmarks.science.thesis.data import Divided, divide
from benchmarks.science.thesis.nets import build, export, parameters
from benchmarks.science.thesis.recipes import Recipe, calm_epochs, repeated

# The last epochs' share of the rate.
_CALMER = 0.1


@dataclass(frozen=True)
class Trained:
    """A net on disk.

    held, test (n, C) float32 : its logits, from the ONNX file. history (epochs, C) : accuracy of each class
    on the held-out samples. seconds : of one core's time, in training.
    """

    model: Path
    held: np.ndarray
    test: np.ndarray
    history: np.ndarray
    seconds: float
    parameters: int


def trained(recipe: Recipe, data: Path, work: Path) -> Trained:
    """The net of a recipe: from disk, or trained now, its start first."""
    path = work / "nets" / recipe.name
    if not path.with_suffix(".json").exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        _train(recipe, data, work, path)
    return opened(path)


def opened(path: Path) -> Trained:
    """A net that `finish` wrote. path : of its files, without a suffix."""
    told = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    with np.load(path.with_suffix(".npz")) as logits:
        return Trained(
            path.with_suffix(".onnx"),
            logits["held"],
            logits["test"],
            np.array(told["history"]),
            told["seconds"],
            told["parameters"],
        )


def weights(recipe: Recipe, data: Path, work: Path) -> dict:
    """The state of a recipe's net, for those who build on it."""
    trained(recipe, data, work)
    return torch.load(work / "nets" / f"{recipe.name}.pt")


def _train(recipe: Recipe, data: Path, work: Path, path: Path) -> None:
    of = divide(recipe.sample, data)
    if recipe.held_too:
        x, y = np.concatenate([of.x_train, of.x_held]), np.concatenate([of.y_train, of.y_held])
        of = replace(of, x_train=x, y_train=y)
    start = None if recipe.start is None else weights(recipe.start, data, work)
    torch.manual_seed(recipe.seed)
    shape = of.x_train.shape[1:]
    net = build(recipe.net, recipe.sample.dataset, shape, of.classes, recipe.dropout)
    if start is not None:
        net.load_state_dict(start)
    own = np.isin(of.y_train, recipe.targets)
    loss_weight = np.where(own, recipe.on_target, recipe.off_target)
    rows = repeated(of.y_train, own, recipe.copies, recipe.balanced)
    print(
        f"# {path.name}: {recipe.net}, seed {recipe.seed}, {len(rows):,} samples, {recipe.epochs} epochs",
        flush=True,
    )
    since = time.process_time()
    history = learn(net, of, rows, loss_weight, recipe.epochs, recipe.batch, recipe.rate, recipe.seed)
    seconds = time.process_time() - since
    print(f"#   {seconds:.0f} s, {np.mean(history[-1]):.1%} on the held-out samples", flush=True)
    finish(net, of, path, shape, {"recipe": asdict(recipe), "seconds": seconds, "history": history})


def learn(
    net: nn.Module,
    of: Divided,
    rows: np.ndarray,
    loss_weight: np.ndarray,
    epochs: int,
    batch: int,
    rate: float,
    seed: int,
) -> list[list[float]]:
    """Train what of `net` is not frozen, in place; the accuracy of each class on held-out after each epoch.

    rows : training samples of an epoch, possibly repeated. loss_weight (n,) : of every training sample.
    """
    torch.set_num_threads(1)  # sums in one order: two runs on one machine agree
    torch.manual_seed(seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    net.to(device, memory_format=torch.channels_last)  # 1.3 times as fast on a processor
    x, y = torch.from_numpy(of.x_train).to(device), torch.from_numpy(of.y_train).to(device)
    weight = torch.from_numpy(loss_weight.astype(np.float32)).to(device)
    order = torch.from_numpy(rows)
    optimizer = torch.optim.Adam([p for p in net.parameters() if p.requires_grad], lr=rate)
    calm = epochs - calm_epochs(epochs)
    history = []
    for epoch in range(epochs):
        net.train()
        for group in optimizer.param_groups:
            group["lr"] = rate * (_CALMER if epoch >= calm else 1)
        for part in order[torch.randperm(len(order))].to(device).split(batch):
            if len(part) == 1:
                continue  # batch norm needs two
            optimizer.zero_grad()
            images = x[part].float().to(memory_format=torch.channels_last)
            loss = functional.cross_entropy(net(images), y[part], reduction="none")
            (loss * weight[part]).mean().backward()
            optimizer.step()
        predicted = _logits_of(net, of.x_held, device).argmax(axis=1)
        history.append(_by_class(predicted, of.y_held, of.classes))
    net.cpu()
    return history


def finish(net: nn.Module, of: Divided, path: Path, shape: tuple[int, int, int], told: dict) -> None:
    """Write a trained net's four files; the one that says that it is there comes last."""
    export(net, path.with_suffix(".onnx"), shape)
    torch.save(net.state_dict(), path.with_suffix(".pt"))
    model = path.with_suffix(".onnx")
    np.savez(path.with_suffix(".npz"), held=logits(model, of.x_held), test=logits(model, of.x_test))
    told = {"parameters": parameters(net), **told}
    path.with_suffix(".json").write_text(json.dumps(told), encoding="utf-8")


def logits(model: Path, x: np.ndarray) -> np.ndarray:
    """Logits (n, C) float32 of an ONNX file."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    parts = np.array_split(x, max(1, len(x) // 250))
    return np.concatenate([session.run(None, {name: part.astype(np.float32)})[0] for part in parts])


@torch.no_grad()
def _logits_of(net: nn.Module, x: np.ndarray, device: torch.device) -> np.ndarray:
    net.eval()
    parts = torch.from_numpy(x).split(500)
    return torch.cat([net(part.to(device).float()).cpu() for part in parts]).numpy()


def _by_class(predicted: np.ndarray, labels: np.ndarray, classes: int) -> list[float]:
    return [float((predicted[labels == c] == c).mean()) for c in range(classes)]
