"""Learning on tables against training the base: 1,000 iterations each at one batch size, in one run.

    python benchmarks/speed/learning_speed.py [--iterations 1000] [--batch 128] [--rounds 3]
        [--threads 1] [--gpu]

The base is the thesis's 3-layer CNN (45,056 neurons) in PyTorch, trained with Adam on random images of
CIFAR-10's shape. Beside it, on tables of as many samples: augmentation with active neurons (1,000 neurons, 96
hidden units, checks on validation included), synaptic retraining by minibatches as the thesis does it, and
synaptic retraining as `onnxtweak retrain` does it: to the optimum, over the whole table. They take turns;
medians are printed. With --gpu the base trains on CUDA and augmentation on CuPy. Needs PyTorch.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import sys
import time
from pathlib import Path

THREADS = [sys.argv[at + 1] for at, word in enumerate(sys.argv[:-1]) if word == "--threads"] or ["1"]
for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[name] = THREADS[-1]  # before NumPy loads its BLAS

import numpy as np  # noqa: E402
import torch  # noqa: E402
from torch import nn  # noqa: E402

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from onnxtweak.method.augment import train  # noqa: E402
from onnxtweak.method.retrain.weights import RetrainProblem, retrain  # noqa: E402
from onnxtweak.method.table import Table  # noqa: E402
from onnxtweak.settings import AugmentSettings  # noqa: E402

CLASSES, NEURONS, HIDDEN, SYNAPSES = 10, 1000, 96, 120
SAMPLES, VALIDATION = 8000, 2000


def cnn3() -> nn.Module:
    """Three 5x5 convolutions of 32, 32 and 64 channels, each halved in size, and one linear layer."""
    return nn.Sequential(
        nn.Conv2d(3, 32, 5, padding=2, bias=False), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(32, 32, 5, padding=2, bias=False), nn.BatchNorm2d(32), nn.ReLU(), nn.AvgPool2d(2),
        nn.Conv2d(32, 64, 5, padding=2, bias=False), nn.BatchNorm2d(64), nn.ReLU(), nn.AvgPool2d(2),
        nn.Flatten(), nn.Linear(64 * 16, CLASSES),
    )  # fmt: skip


def base_seconds(iterations: int, batch: int, device: str) -> float:
    """Training the base."""
    x = torch.randn(SAMPLES, 3, 32, 32, device=device)
    y = torch.randint(0, CLASSES, (SAMPLES,), device=device)
    net = cnn3().to(device).train()
    optimizer = torch.optim.Adam(net.parameters())

    def steps(count: int) -> None:
        for _ in range(count):
            rows = torch.randint(0, SAMPLES, (batch,), device=device)
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(x[rows]), y[rows]).backward()
            optimizer.step()
        if device == "cuda":
            torch.cuda.synchronize()

    steps(5)
    began = time.perf_counter()
    steps(iterations)
    return time.perf_counter() - began


def tables(seed: int) -> tuple[Table, Table]:
    """Post-activation values as a network has them: zero about half of the time."""
    rng = np.random.default_rng(seed)

    def one(samples: int) -> Table:
        T = np.maximum(rng.standard_normal((samples, NEURONS), np.float32), 0)
        Z = rng.standard_normal((samples, CLASSES), np.float32)
        return Table(T, Z, rng.integers(0, CLASSES, samples))

    return one(SAMPLES), one(VALIDATION)


def augment_seconds(iterations: int, batch: int, xp) -> float:
    """Augmentation, never stopping early."""
    fit, validation = tables(0)
    settings = AugmentSettings(hidden=HIDDEN, iterations=iterations, batch=batch, patience=iterations)
    train(fit, validation, AugmentSettings(hidden=HIDDEN, iterations=5, batch=batch), xp=xp)
    began = time.perf_counter()
    made = train(fit, validation, settings, xp=xp)
    assert made.checkpoints[-1].iteration == iterations
    return time.perf_counter() - began


def minibatch_retrain_seconds(iterations: int, batch: int) -> float:
    """One target's synapses by stochastic gradients: the thesis's way of retraining."""
    fit, _ = tables(1)
    of = RetrainProblem.of([fit.T[:, :SYNAPSES]], fit.Z, fit.labels, np.array([0]), 2.0)
    T, offset, own = of.tables[0], of.offsets[:, 0] - of.offsets[:, 1], of.place == 0
    rng, w = np.random.default_rng(0), np.zeros(SYNAPSES)
    began = time.perf_counter()
    for _ in range(iterations):
        rows = rng.integers(0, SAMPLES, batch)
        p = 1 / (1 + np.exp(-(offset[rows] + T[rows] @ w)))
        w -= 1e-3 * (T[rows].T @ (of.weights[rows] * (p - own[rows]))) / batch
    return time.perf_counter() - began


def optimum_seconds() -> float:
    """One target's synapses to the optimum, over the whole table."""
    fit, _ = tables(1)
    of = RetrainProblem.of([fit.T[:, :SYNAPSES]], fit.Z, fit.labels, np.array([0]), 2.0)
    began = time.perf_counter()
    made = retrain(of, 1e-3)
    assert not made.note
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--iterations", type=int, default=1000)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--gpu", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    device, xp = "cpu", np
    if args.gpu:
        import cupy

        device, xp = "cuda", cupy
    ways = {
        "training the base": lambda: base_seconds(args.iterations, args.batch, device),
        "augment (AAN)": lambda: augment_seconds(args.iterations, args.batch, xp),
        "retrain (SR), minibatches": lambda: minibatch_retrain_seconds(args.iterations, args.batch),
        "retrain (SR), to the optimum": optimum_seconds,
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(args.rounds):
        for name, way in ways.items():
            seconds[name].append(way())
    where = torch.cuda.get_device_name() if args.gpu else platform.processor() or platform.machine()
    print(
        f"{args.iterations:,} iterations, batch {args.batch}, {args.threads} threads, {where}, torch"
        f" {torch.__version__}, NumPy {np.__version__}; median of {args.rounds} rounds (least, most)\n"
    )
    print("| what | seconds | times as fast as the base |")
    print("|---|---|---|")
    base = statistics.median(seconds["training the base"])
    for name, spent in seconds.items():
        middle = statistics.median(spent)
        print(f"| {name} | {middle:.2f} ({min(spent):.2f}, {max(spent):.2f}) | {base / middle:.1f} |")


if __name__ == "__main__":
    main()
