"""Maxima inside the graph, or hidden values out of it? Time a sample of both, and of plain inference.

    python benchmarks/speed/in_graph.py [--samples 480] [--batch 24] [--targets 1,10] [--nets cnn3,googlenet]

"in graph" appends nodes to the tapped model, so that for a batch only maxima leave the session: for each tap
and target Mul by the sample's reciprocal gap, ReduceMax and ReduceMin over the batch, and the maxima of the
batches are folded in NumPy. It is spared what it would need beside that: the gaps come ready made as an input
(in truth they need the logits of the same samples), nothing is summed and nothing counted. "today" is the
whole pass of onnxtweak: taps come out whole, limits, sums and counts by Numba. All three take turns.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from onnx import ModelProto, TensorProto, helper, numpy_helper

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.speed.capture import dataset
from benchmarks.speed.peers import onnx_model
from onnxtweak.data.dataset import Dataset
from onnxtweak.data.splits import View
from onnxtweak.engine.backends import open_backend
from onnxtweak.engine.opened import open_model
from onnxtweak.engine.passes import Engine, RunStats
from onnxtweak.engine.scoring.scoring import from_model, theta_blocks, theta_sweeps
from onnxtweak.engine.scoring.sweep import ScoringTask
from onnxtweak.engine.session import open_session
from onnxtweak.engine.shared.logits import logits_pass
from onnxtweak.engine.subject import choose_taps, few_samples, measured, watchable
from onnxtweak.settings import EngineSettings, TapSettings
from onnxtweak.theta.gaps import reciprocal_gaps
from onnxtweak.types import silent


def googlenet() -> bytes:
    """The GoogLeNet topology for any batch size."""
    from tests.support.nets import reseed_light

    proto = reseed_light("inception_v1")
    stored = {tensor.name for tensor in proto.graph.initializer}
    for value in (*proto.graph.input, *proto.graph.output):
        if value.name not in stored:
            value.type.tensor_type.shape.dim[0].dim_param = "N"
    reshapes = {node.input[1] for node in proto.graph.node if node.op_type == "Reshape"}
    for tensor in proto.graph.initializer:
        if tensor.name in reshapes:
            tensor.CopyFrom(numpy_helper.from_array(np.array([-1, 1024], np.int64), tensor.name))
    return proto.SerializeToString()


def reduced(proto: ModelProto, taps, logits: str, targets: int) -> tuple[bytes, list[str]]:
    """The model with limits (N, targets) as an input and the maxima of a batch as outputs."""
    made = ModelProto.FromString(proto.SerializeToString())
    graph, outputs = made.graph, []
    graph.input.append(helper.make_tensor_value_info("limit", TensorProto.FLOAT, ["N", targets]))
    graph.initializer.append(numpy_helper.from_array(np.array([0, -1], np.int64), "rows"))
    if made.ir_version < 4:
        graph.input.append(helper.make_tensor_value_info("rows", TensorProto.INT64, [2]))
    columns = [f"limit_{j}" for j in range(targets)]
    if targets > 1:
        graph.node.append(helper.make_node("Split", ["limit"], columns, axis=1))
    else:
        graph.node.append(helper.make_node("Identity", ["limit"], columns))
    for k, tap in enumerate(taps):
        graph.node.append(helper.make_node("Reshape", [tap.name, "rows"], [f"flat_{k}"]))
        for j, column in enumerate(columns):
            graph.node.append(helper.make_node("Mul", [f"flat_{k}", column], [f"ratio_{k}_{j}"]))
            for op in ("Max", "Min"):
                name = f"{op}_{k}_{j}"
                reduce = helper.make_node(f"Reduce{op}", [f"ratio_{k}_{j}"], [name], axes=[0], keepdims=0)
                graph.node.append(reduce)
                outputs.append(name)
    del graph.output[:]
    graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs)
    return made.SerializeToString(), outputs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--samples", type=int, default=480)
    parser.add_argument("--batch", type=int, default=24)
    parser.add_argument("--targets", default="1,10")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--nets", default="cnn3,googlenet")
    args = parser.parse_args()
    print("| net | targets | plain, ms a sample | today / plain | in graph / plain | same limits |")
    print("|---|--:|--:|--:|--:|---|")
    for net in args.nets.split(","):
        with tempfile.TemporaryDirectory() as folder:
            compare(net, args, Path(folder))


def compare(net: str, args, folder: Path) -> None:
    path = folder / f"{net}.onnx"
    path.write_bytes(googlenet() if net == "googlenet" else onnx_model())
    settings = EngineSettings(device="cpu", batch=args.batch, threads=args.threads)
    opened = open_model(path, TapSettings())
    count = args.samples if net == "cnn3" else max(args.samples // 10, 2 * args.batch)
    data = dataset(opened, count, folder)
    view = View(data, np.arange(count))
    found = tuple(c for c in watchable(opened) if c.activation)
    subject, shapes = measured(opened, [c.name for c in found], few_samples(opened, view, 3), settings)
    taps = choose_taps(opened, found, shapes, TapSettings())
    engine = Engine(settings, open_backend(settings), silent, RunStats())
    Z = logits_pass(subject, view, engine, "labels")
    rng = np.random.default_rng(1)
    labels = np.where(rng.random(count) < 0.8, Z.argmax(axis=1), rng.integers(0, Z.shape[1], count))
    view = View(Dataset(labels, data.inputs, None, data.parts, data.plans), view.rows)
    read = from_model(subject, view, engine, taps)
    for number in [int(text) for text in args.targets.split(",")]:
        targets = np.sort(np.argsort(-np.bincount(labels, minlength=Z.shape[1]), kind="stable")[:number])
        limit = reciprocal_gaps(Z, labels, targets).limit
        proto, outputs = reduced(subject.model.proto, taps, opened.logits.name, number)
        session = open_session(proto, folder, settings, net)
        (port,) = (port for port in session.inputs if port.name != "limit")

        def in_graph(session=session, port=port, limit=limit, outputs=outputs):
            best = None
            for feeds, _, rows in view.dataset.batches(view.rows, args.batch):
                values = session.run({port.name: feeds[port.name], "limit": limit[rows]}, outputs)
                if best is None:
                    best = values
                    continue
                for k, value in enumerate(values):
                    (np.maximum if k % 2 == 0 else np.minimum)(best[k], value, out=best[k])
            return best

        blocks = theta_blocks(taps, number, engine)

        def today(targets=targets, blocks=blocks):
            (made,) = theta_sweeps(read, blocks, ScoringTask(labels, targets, "signed"), engine)
            return made.states

        times = {"plain": [], "today": [], "in graph": []}
        for k in range(args.repeats + 1):
            for name, job in (
                ("plain", lambda: logits_pass(subject, view, engine, "plain")),
                ("today", today),
                ("in graph", in_graph),
            ):
                begin = time.perf_counter()
                result = job()
                if k:  # the first round warms up
                    times[name].append(time.perf_counter() - begin)
                if name == "today":
                    states = result
        maxima = [np.maximum(value.reshape(-1), 0) for value in result[0::2]]
        whole = [state.hi[j] for state in states for j in range(number)]
        same = all(np.allclose(a, b, rtol=1e-5) for a, b in zip(maxima, whole, strict=True))
        ratios = {
            name: statistics.median(a / b for a, b in zip(times[name], times["plain"], strict=True))
            for name in ("today", "in graph")
        }
        plain = statistics.median(times["plain"]) / count * 1e3
        print(
            f"| {net}, {sum(tap.neurons for tap in taps):,} neurons | {number} | {plain:.2f}"
            f" | {ratios['today']:.2f} | {ratios['in graph']:.2f} | {'yes' if same else 'NO'} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
