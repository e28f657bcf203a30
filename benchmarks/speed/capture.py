"""Capture and score against plain inference over the same samples, in one run.

    python benchmarks/speed/capture.py [--model MODEL.onnx] [--samples 512] [--targets 1,10] [--repeats 5]

Without a model: `light_inception_v1` of the onnx wheel (the GoogLeNet topology) with seeded weights. Plain
inference and scoring take turns; the ratio is taken pair by pair and its median is printed. The floor is
ONNX Runtime on the untouched model in the same batches.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from onnxtweak.data.dataset import Dataset
from onnxtweak.data.open_data import open_data
from onnxtweak.data.splits import View
from onnxtweak.engine.backends import open_backend
from onnxtweak.engine.opened import open_model
from onnxtweak.engine.passes import Engine, RunStats
from onnxtweak.engine.scoring.scoring import from_model, theta_blocks, theta_sweeps
from onnxtweak.engine.scoring.sweep import ScoringTask
from onnxtweak.engine.shared.logits import logits_pass
from onnxtweak.engine.subject import choose_taps, few_samples, measured, watchable
from onnxtweak.settings import EngineSettings, Preprocess, TapSettings
from onnxtweak.types import silent


def dataset(opened, samples: int, folder: Path) -> Dataset:
    """Random samples in the model's shape; labels are drawn later, from what the model says."""
    spec = opened.specs[0]
    shape = (samples, *(spec.shape[1:]))
    x = np.lib.format.open_memmap(folder / "x.npy", "w+", np.float32, shape)
    rng = np.random.default_rng(0)
    for k in range(samples):
        x[k] = rng.standard_normal(shape[1:], np.float32)
    np.save(folder / "y.npy", np.zeros(samples, np.int64))
    return open_data([str(folder / "x.npy")], inputs=opened.specs, preprocess=Preprocess())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--model")
    parser.add_argument("--samples", type=int, default=256)
    parser.add_argument("--targets", default="1,10")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--backend", default="auto")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = args.model
        if path is None:
            from tests.support.nets import reseed_light

            path = Path(folder) / "light_inception_v1.onnx"
            path.write_bytes(reseed_light("inception_v1").SerializeToString())
        settings = EngineSettings(backend=args.backend)
        opened = open_model(path, TapSettings())
        data = dataset(opened, args.samples, Path(folder))
        view = View(data, np.arange(len(data)))
        found = tuple(c for c in watchable(opened) if c.activation)
        subject, shapes = measured(opened, [c.name for c in found], few_samples(opened, view, 3), settings)
        taps = choose_taps(opened, found, shapes, TapSettings())
        engine = Engine(settings, open_backend(settings), silent, RunStats())
        Z = logits_pass(subject, view, engine, "labels")
        # Most samples right, some wrong, as with a real classifier.
        rng = np.random.default_rng(1)
        labels = np.where(rng.random(len(Z)) < 0.8, Z.argmax(axis=1), rng.integers(0, Z.shape[1], len(Z)))
        view = View(Dataset(labels, data.inputs, None, data.parts, data.plans), view.rows)
        neurons = sum(tap.neurons for tap in taps)
        about = f"{neurons:,} neurons, {len(Z)} samples, {len(taps)} taps, {Z.shape[1]} classes"
        print(f"{Path(path).name}: {about}")
        for count in [int(text) for text in args.targets.split(",")]:
            targets = np.sort(np.argsort(-np.bincount(labels, minlength=Z.shape[1]), kind="stable")[:count])
            ratios, plain, score, sweep = [], [], [], []
            for k in range(args.repeats + 1):
                begin = time.perf_counter()
                logits_pass(subject, view, engine, "plain")
                middle = time.perf_counter()
                engine.stats.seconds.clear()
                read, blocks = from_model(subject, view, engine, taps), theta_blocks(taps, count, engine)
                for _ in theta_sweeps(read, blocks, ScoringTask(labels, targets, "signed"), engine):
                    pass
                end = time.perf_counter()
                if k:  # the first round warms up
                    plain.append(middle - begin)
                    score.append(end - middle)
                    sweep.append(engine.stats.seconds["score"])
                    ratios.append((end - middle) / (middle - begin))
            print(
                f"targets {count:4d}: plain {statistics.median(plain):6.2f} s, capture and score"
                f" {statistics.median(score):6.2f} s (limits {statistics.median(sweep):.2f} s),"
                f" ratio {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
            )
        print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3:.0f} MB")


if __name__ == "__main__":
    main()
