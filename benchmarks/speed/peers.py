"""Scoring every hidden neuron, by onnxtweak and by what one would write without it; time and peak memory.

    python benchmarks/speed/peers.py [--samples 4000] [--targets 10] [--scale]

Each way runs in a process of its own on the same samples and the same CNN-3 (45,056 neurons, seeded weights):

    floor      ONNX Runtime alone: inference, nothing scored
    onnxtweak  capture and score in one streaming pass
    hooks      PyTorch forward hooks, theta of each batch in NumPy (needs torch)
    dump       every activation marked as an output and stored (table V on disk), scored afterwards in NumPy

--scale adds onnxtweak alone at 1, 2, 4 and 8 times the samples, and at 1, 3 and 10 targets.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

CHANNELS = ((3, 32), (32, 32), (32, 64))


def weights() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    shapes = [(out, into, 5, 5) for into, out in CHANNELS] + [(10, 64 * 16)]
    return [rng.normal(0, np.sqrt(2 / np.prod(s[1:])), s).astype(np.float32) for s in shapes]


def onnx_model() -> bytes:
    from onnx import TensorProto, helper, numpy_helper

    nodes, stored, x = [], [], "input"
    for k, w in enumerate(weights()[:3]):
        stored.append(numpy_helper.from_array(w, f"w{k}"))
        nodes.append(helper.make_node("Conv", [x, f"w{k}"], [f"c{k}"], pads=[2, 2, 2, 2]))
        nodes.append(helper.make_node("Relu", [f"c{k}"], [f"r{k}"]))
        nodes.append(helper.make_node("MaxPool", [f"r{k}"], [f"p{k}"], kernel_shape=[2, 2], strides=[2, 2]))
        x = f"p{k}"
    stored.append(numpy_helper.from_array(np.ascontiguousarray(weights()[3].T), "w3"))
    nodes += [helper.make_node("Flatten", [x], ["f"]), helper.make_node("MatMul", ["f", "w3"], ["logits"])]
    graph = helper.make_graph(
        nodes,
        "cnn3",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["N", 3, 32, 32])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 10])],
        stored,
    )
    opsets = [helper.make_opsetid("", 17)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString()


def labels_for(folder: Path, samples: int) -> np.ndarray:
    rng = np.random.default_rng(1)
    Z = np.load(folder / "Z.npy")[:samples]
    return np.where(rng.random(samples) < 0.8, Z.argmax(axis=1), rng.integers(0, 10, samples))


def run_floor(folder: Path, samples: int, targets: int) -> None:
    import onnxruntime as ort

    session = ort.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
    x = np.load(folder / "x.npy", mmap_mode="r")
    out = [session.run(None, {"input": x[k : k + 24]})[0] for k in range(0, samples, 24)]
    if not (folder / "Z.npy").exists():
        np.save(folder / "Z.npy", np.concatenate(out))


def run_onnxtweak(folder: Path, samples: int, targets: int) -> None:
    from onnxtweak import commands
    from onnxtweak.settings import DataSettings, EngineSettings, TargetSettings

    np.save(folder / "y.npy", labels_for(folder, len(np.load(folder / "x.npy", mmap_mode="r"))))
    commands.score(
        model=str(folder / "model.onnx"),
        data=DataSettings((f"{folder / 'x.npy'}#[0:{samples}]",), anyway=True),
        engine=EngineSettings(device="cpu"),
        targets=TargetSettings(tuple(str(j) for j in range(targets))),
    )


def fold(states, V, Z, L, targets) -> None:
    from onnxtweak.theta import numpy_backend
    from onnxtweak.theta.gaps import reciprocal_gaps

    gaps = reciprocal_gaps(Z, L, np.arange(targets))
    for state, v in zip(states, V, strict=True):
        v = np.ascontiguousarray(v.reshape(len(v), -1))
        numpy_backend.fold_limits(v, gaps.limit, state.hi, state.lo, state.bad)
        numpy_backend.find_survivors(v, gaps.wanted, state.hi, state.lo)


def run_hooks(folder: Path, samples: int, targets: int) -> None:
    import torch

    from onnxtweak.theta.state import empty_state

    w = [torch.from_numpy(a) for a in weights()]
    relus = [torch.nn.ReLU() for _ in range(3)]
    seen: list[np.ndarray] = []
    for relu in relus:
        relu.register_forward_hook(lambda module, given, made: seen.append(made.numpy()))
    x, L = np.load(folder / "x.npy", mmap_mode="r"), labels_for(folder, samples)
    states = [empty_state(n, targets) for n in (32_768, 8_192, 4_096)]
    with torch.no_grad():
        for k in range(0, samples, 24):
            seen.clear()
            y = torch.from_numpy(np.ascontiguousarray(x[k : min(k + 24, samples)]))
            for kernel, relu in zip(w[:3], relus, strict=True):
                y = relu(torch.nn.functional.conv2d(y, kernel, padding=2))
                y = torch.nn.functional.max_pool2d(y, 2)
            Z = (y.flatten(1) @ w[3].T).numpy()
            fold(states, seen, Z, L[k : k + 24], targets)


def run_dump(folder: Path, samples: int, targets: int) -> None:
    import onnx
    import onnxruntime as ort

    from onnxtweak.theta.state import empty_state

    proto = onnx.load(folder / "model.onnx")
    names = [name for node in proto.graph.node for name in node.output if node.op_type == "Relu"]
    proto.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    session = ort.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    x, L = np.load(folder / "x.npy", mmap_mode="r"), labels_for(folder, samples)
    V = np.lib.format.open_memmap(folder / "V.npy", "w+", np.float32, (samples, 45_056))
    Z = np.empty((samples, 10), np.float32)
    for k in range(0, samples, 24):
        stop = min(k + 24, samples)
        Z[k:stop], *maps = session.run(None, {"input": x[k:stop]})
        V[k:stop] = np.concatenate([m.reshape(len(m), -1) for m in maps], axis=1)
    V.flush()
    states = [empty_state(45_056, targets)]
    for k in range(0, samples, 24):
        fold(states, [V[k : k + 24]], Z[k : k + 24], L[k : k + 24], targets)


def peak_memory() -> float:
    """Of this process, in MB; getrusage would count the parent it was forked from."""
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")) / 1e3


WAYS = {"floor": run_floor, "onnxtweak": run_onnxtweak, "hooks": run_hooks, "dump": run_dump}


def timed(way: str, folder: str, samples: int, targets: int) -> tuple[float, float] | None:
    """Seconds without the imports, and peak memory in MB, of a process; None where it cannot run."""
    command = [sys.executable, __file__, "--inside", way, folder, str(samples), str(targets)]
    made = subprocess.run(command, capture_output=True, text=True, check=False)
    if made.returncode:
        print(f"{way:10s} not run: {made.stderr.strip().splitlines()[-1]}")
        return None
    seconds, memory = made.stdout.split()[-2:]
    return float(seconds), float(memory)


def main() -> None:
    if sys.argv[1:2] == ["--inside"]:
        way, folder, samples, targets = sys.argv[2], Path(sys.argv[3]), int(sys.argv[4]), int(sys.argv[5])
        WAYS[way](folder, 400, targets)  # imports and compilation are not what is measured
        begin = time.perf_counter()
        WAYS[way](folder, samples, targets)
        print(time.perf_counter() - begin, peak_memory())
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--samples", type=int, default=4000)
    parser.add_argument("--targets", type=int, default=10)
    parser.add_argument("--scale", action="store_true")
    args = parser.parse_args()
    most = args.samples * (8 if args.scale else 1)
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "model.onnx").write_bytes(onnx_model())
        x = np.lib.format.open_memmap(Path(folder) / "x.npy", "w+", np.float32, (most, 3, 32, 32))
        rng = np.random.default_rng(2)
        for k in range(0, most, 1000):
            x[k : k + 1000] = rng.standard_normal((len(x[k : k + 1000]), 3, 32, 32), np.float32)
        run_floor(Path(folder), most, args.targets)
        size = args.samples * 45_056 * 4 / 1e9
        print(f"{args.samples} samples, 45,056 neurons, {args.targets} targets; V is {size:.1f} GB")
        floor = None
        for way in WAYS:
            found = timed(way, folder, args.samples, args.targets)
            if found is not None:
                floor = floor or found[0]
                ratio = found[0] / floor
                print(f"{way:10s} {found[0]:7.2f} s ({ratio:5.2f} x the floor), peak {found[1]:6.0f} MB")
        if args.scale:
            for times, targets in ((1, 10), (2, 10), (4, 10), (8, 10), (1, 1), (1, 3)):
                samples = args.samples * times
                seconds, memory = timed("onnxtweak", folder, samples, targets)
                said = f"{seconds:6.2f} s, peak {memory:5.0f} MB (V is {samples * 45_056 * 4 / 1e9:.1f} GB)"
                print(f"onnxtweak  {samples:6d} samples, {targets:2d} targets: {said}")


if __name__ == "__main__":
    main()
