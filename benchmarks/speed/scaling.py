"""Time and memory of scoring against samples N, neurons M, targets C, and the memory allowed.

    python benchmarks/speed/scaling.py [--only N,M,C,memory] [--threads 1] [--repeats 3] [--googlenet 8]

A CNN-3 with 1,000 classes and seeded weights; its width sets M. Each point is one `score` in a process of its
own, the fastest of --repeats: seconds of the passes and of the whole command, peak memory of the process, and
a digest of what it found, which may not depend on the memory allowed. --googlenet adds the GoogLeNet topology
(3.0 million neurons) with so many samples, for 10 classes.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

CLASSES, SAMPLES, WIDTH, TARGETS, MEMORY = 1000, 2000, 32, 10, 4 * 2**30
POINTS = {
    "N": [{"samples": n} for n in (1000, 2000, 4000, 8000)],
    "M": [{"width": w} for w in (8, 16, 32, 64)],
    "C": [{"targets": c} for c in (1, 10, 100, 1000)],
    "memory": [
        {"targets": c, "memory": m * 2**20, "samples": 1000}
        for c, m in (
            *((10, m) for m in (4096, 512, 256, 64)),
            *((1000, m) for m in (4096, 2048, 1024, 512, 256)),
        )
    ],
}


def model(width: int) -> bytes:
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(0)
    nodes, stored, x, into = [], [], "input", 3
    for k, out in enumerate((width, width, 2 * width)):
        w = rng.normal(0, np.sqrt(2 / (into * 25)), (out, into, 5, 5)).astype(np.float32)
        stored.append(numpy_helper.from_array(w, f"w{k}"))
        nodes.append(helper.make_node("Conv", [x, f"w{k}"], [f"c{k}"], pads=[2, 2, 2, 2]))
        nodes.append(helper.make_node("Relu", [f"c{k}"], [f"r{k}"]))
        nodes.append(helper.make_node("MaxPool", [f"r{k}"], [f"p{k}"], kernel_shape=[2, 2], strides=[2, 2]))
        x, into = f"p{k}", out
    head = rng.normal(0, np.sqrt(1 / (into * 16)), (into * 16, CLASSES)).astype(np.float32)
    stored.append(numpy_helper.from_array(head, "w3"))
    nodes += [helper.make_node("Flatten", [x], ["f"]), helper.make_node("MatMul", ["f", "w3"], ["logits"])]
    ports = [("input", ["N", 3, 32, 32]), ("logits", ["N", CLASSES])]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in ports]
    graph = helper.make_graph(nodes, "cnn3", values[:1], values[1:], stored)
    opset = [helper.make_opsetid("", 17)]
    return helper.make_model(graph, opset_imports=opset, ir_version=8).SerializeToString()


def samples(folder: Path, path: Path, count: int, shape: tuple[int, ...]) -> None:
    """Seeded inputs; labels: most as the model says, and a sample of each class where there are enough."""
    import onnxruntime as ort

    rng = np.random.default_rng(1)
    x = np.lib.format.open_memmap(folder / "x.npy", "w+", np.float32, (count, *shape))
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    (port,) = session.get_inputs()
    step = port.shape[0] if isinstance(port.shape[0], int) else 20
    said = []
    for k in range(0, count, step):
        x[k : k + step] = rng.standard_normal(x[k : k + step].shape, np.float32)
        said.append(session.run(None, {port.name: x[k : k + step]})[0].reshape(step, -1).argmax(axis=1))
    y = np.where(rng.random(count) < 0.8, np.concatenate(said), rng.integers(0, CLASSES, count))
    if count >= CLASSES:
        y[rng.permutation(count)[:CLASSES]] = np.arange(CLASSES)
    np.save(folder / "y.npy", y)


def inside(folder: Path, settings: dict) -> None:
    """One point, in a process of its own; prints JSON."""
    from onnxtweak import commands
    from onnxtweak.settings import DataSettings, EngineSettings, TargetSettings

    labels = np.load(folder / "y.npy")
    count = settings["targets"]
    order = np.argsort(-np.bincount(labels, minlength=CLASSES), kind="stable")
    found = [int(j) for j in order[:count] if (labels == j).any()]
    ask = {
        "model": str(folder / "model.onnx"),
        "engine": EngineSettings(device="cpu", memory=settings["memory"], threads=settings["threads"]),
        "targets": TargetSettings(tuple(map(str, found))),
    }
    # Random nets may answer all alike: nothing to learn from, but as much work.
    few = DataSettings((f"{folder / 'x.npy'}#[0:{settings['warm']}]",), anyway=True)
    if settings["warm"]:
        commands.score(**{**ask, "targets": TargetSettings(worst=1)}, data=few)  # compilation is not measured
    made = commands.score(**ask, data=DataSettings((str(folder / "x.npy"),), anyway=True))
    passes = [name for name, _ in made.run.passes if name.startswith("score")]
    peak = next(
        int(line.split()[1])
        for line in Path("/proc/self/status").read_text().splitlines()
        if line.startswith("VmHWM")
    )
    print(
        json.dumps(
            {
                "neurons": made.neurons,
                "found": len(found),
                "passes": len(passes),
                "again": sum(name == "count" for name, _ in made.run.passes),
                "seconds": sum(made.run.seconds.values()) - made.run.seconds["all"],
                "all": made.run.seconds["all"],
                "peak": peak / 1e3,
                "digest": hashlib.sha256(json.dumps(made.top).encode()).hexdigest()[:8],
            }
        )
    )


def point(folder: Path, threads: int, warm: int, repeats: int, **change: int) -> None:
    asked = {"samples": SAMPLES, "width": WIDTH, "targets": TARGETS, "memory": MEMORY} | change
    asked |= {"threads": threads, "warm": warm}
    command = [sys.executable, __file__, "--inside", str(folder), json.dumps(asked)]
    runs = []
    for _ in range(repeats):
        made = subprocess.run(command, capture_output=True, text=True, check=False)
        if made.returncode:
            print(f"{asked}: {made.stderr.strip().splitlines()[-1]}")
            return
        runs.append(json.loads(made.stdout))
    found = min(runs, key=lambda run: run["seconds"])  # the others were disturbed
    allowed = f"{asked['memory'] / 2**20:,.0f} MiB"
    print(
        f"| {asked['samples']:,} | {found['neurons']:,} | {found['found']:,} | {allowed}"
        f" | {found['passes']} | {found['seconds']:.2f} | {found['all']:.2f} | {found['peak']:,.0f} MB"
        f" | {found['digest']} |",
        flush=True,
    )


def main() -> None:
    if sys.argv[1:2] == ["--inside"]:
        inside(Path(sys.argv[2]), json.loads(sys.argv[3]))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--only", default="N,M,C,memory")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--googlenet", type=int, default=0)
    args = parser.parse_args()
    print("| samples | neurons | targets | allowed | passes | seconds | with start | peak | found |")
    print("|--:|--:|--:|--:|--:|--:|--:|--:|---|")
    for what in filter(None, args.only.split(",")):
        for change in POINTS[what]:
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "model.onnx"
                path.write_bytes(model(change.get("width", WIDTH)))
                samples(Path(folder), path, change.get("samples", SAMPLES), (3, 32, 32))
                point(Path(folder), args.threads, 200, 1 if what == "memory" else args.repeats, **change)
    if args.googlenet:
        from tests.support.nets import reseed_light

        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.onnx"
            path.write_bytes(reseed_light("inception_v1").SerializeToString())
            samples(Path(folder), path, args.googlenet, (3, 224, 224))
            for memory in (4096, 2048, 1024, 512):
                point(Path(folder), args.threads, 0, 1, samples=args.googlenet, memory=memory * 2**20)


if __name__ == "__main__":
    main()
