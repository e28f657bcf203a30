"""Scoring one fold while the model runs the next, or one after the other? Both over plain inference.

    python benchmarks/speed/overlap.py [--net cnn3] [--samples 2400] [--targets 1,10] [--repeats 5]

"in turn" is what onnxtweak does on the CPU: all cores run the model, then all cores score. "beside" keeps two
sets of buffers: a second thread runs the model on the next fold (ONNX Runtime lets go of Python's lock) while
this one scores (so do Numba's kernels). It is tried with all cores for both, and with the cores shared. The
ways take turns, and ratios are taken round by round.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.speed.capture import dataset
from benchmarks.speed.in_graph import googlenet
from benchmarks.speed.peers import onnx_model
from onnxtweak.data.splits import View
from onnxtweak.engine.backends import open_backend
from onnxtweak.engine.opened import open_model
from onnxtweak.engine.passes import Captured, Engine, Folding, RunStats, plan_of
from onnxtweak.engine.scoring.scoring import theta_blocks
from onnxtweak.engine.scoring.sweep import ScoringTask, fold, new_sweep
from onnxtweak.engine.session import open_session
from onnxtweak.engine.subject import choose_taps, few_samples, measured, watchable
from onnxtweak.settings import EngineSettings, TapSettings
from onnxtweak.types import silent


class Runner:
    """A model with its taps, and as many sets of buffers as wanted."""

    def __init__(self, subject, taps, threads: int, x: np.ndarray, labels: np.ndarray, sets: int) -> None:
        settings = EngineSettings(device="cpu", threads=threads)
        self.exposed, self.taps = subject.exposed(taps), taps
        self.session = open_session(self.exposed.proto, subject.model.folder, settings, "taps")
        self.engine = Engine(settings, open_backend(settings), silent, RunStats())
        neurons = sum(tap.neurons for tap in taps)
        self.plan = plan_of(subject, self.engine, neurons, len(x), "cpu", Folding(for_theta=True))
        self.x, self.labels, self.name = x, labels, self.session.inputs[0].name
        self.shape, widths = subject.shape, [subject.classes, *(tap.neurons for tap in taps)]
        empty = [[np.empty((self.plan.rows, width), np.float32) for width in widths] for _ in range(sets)]
        self.buffers = [(Z, V) for Z, *V in empty]

    def run(self, start: int, which: int) -> Captured:
        """The model over one fold."""
        Z, V = self.buffers[which]
        count = min(self.plan.rows, len(self.x) - start)
        for first in range(0, count, self.plan.batch):
            last = min(first + self.plan.batch, count)
            into = {self.exposed.logits: Z[first:last].reshape(-1, *self.shape)}
            for name, array, tap in zip(self.exposed.outputs, V, self.taps, strict=True):
                into[name] = array[first:last].reshape(-1, *tap.shape)
            self.session.run_into({self.name: self.x[start + first : start + last]}, into)
        rows = np.arange(start, start + count)
        return Captured(Z[:count], tuple(v[:count] for v in V), self.labels[rows], rows)

    def score(self, targets: np.ndarray, beside: bool) -> None:
        """The whole sweep."""
        (block,) = theta_blocks(self.taps, len(targets), self.engine)
        task = ScoringTask(self.labels, targets, "signed")
        sweep = new_sweep(block, task, self.engine)
        starts = range(0, len(self.x), self.plan.rows)
        if not beside:
            for start in starts:
                fold(sweep, self.run(start, 0), task, self.engine)
            return
        with ThreadPoolExecutor(1) as other:
            coming = other.submit(self.run, 0, 0)
            for k in range(len(starts)):
                got = coming.result()
                if k + 1 < len(starts):
                    coming = other.submit(self.run, starts[k + 1], (k + 1) % 2)
                fold(sweep, got, task, self.engine)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--net", default="cnn3")
    parser.add_argument("--samples", type=int, default=2400)
    parser.add_argument("--targets", default="1,10")
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    cores = os.cpu_count() or 1
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        path.write_bytes(googlenet() if args.net == "googlenet" else onnx_model())
        settings = EngineSettings(device="cpu")
        opened = open_model(path, TapSettings())
        data = dataset(opened, args.samples, Path(folder))
        view = View(data, np.arange(args.samples))
        found = tuple(c for c in watchable(opened) if c.activation)
        subject, shapes = measured(opened, [c.name for c in found], few_samples(opened, view, 3), settings)
        taps = choose_taps(opened, found, shapes, TapSettings())
        x = np.load(Path(folder) / "x.npy")
        plain = open_session(path, path.parent, settings, "plain")
        name = plain.inputs[0].name

        def infer(batch: int) -> np.ndarray:
            return np.concatenate([plain.run({name: x[k : k + batch]})[0] for k in range(0, len(x), batch)])

        Z = infer(24).reshape(len(x), -1)
        rng = np.random.default_rng(1)
        labels = np.where(rng.random(len(x)) < 0.8, Z.argmax(axis=1), rng.integers(0, Z.shape[1], len(x)))
        half = max(cores // 2, 1)
        ways = {
            "in turn": (Runner(subject, taps, cores, x, labels, 1), False),
            "beside, all cores for both": (Runner(subject, taps, cores, x, labels, 2), True),
            "beside, half the cores each": (Runner(subject, taps, half, x, labels, 2), True),
        }
        print(f"{args.net}, {sum(t.neurons for t in taps):,} neurons, {len(x)} samples, {cores} cores")
        for count in [int(text) for text in args.targets.split(",")]:
            targets = np.sort(np.argsort(-np.bincount(labels, minlength=Z.shape[1]), kind="stable")[:count])
            ratios: dict[str, list[float]] = {way: [] for way in ways}
            for k in range(args.repeats + 1):
                begin = time.perf_counter()
                infer(ways["in turn"][0].plan.batch)
                floor = time.perf_counter() - begin
                for way, (runner, beside) in ways.items():
                    begin = time.perf_counter()
                    runner.score(targets, beside)
                    if k:
                        ratios[way].append((time.perf_counter() - begin) / floor)
            for way, r in ratios.items():
                said = f"{statistics.median(r):.2f} ({min(r):.2f} to {max(r):.2f})"
                print(f"| {count} | {way} | {said} |", flush=True)


if __name__ == "__main__":
    main()
