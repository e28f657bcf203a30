"""How long would three very large jobs take on 1, 8 and 64 machines, and what would break first? On paper.

    python benchmarks/speed/large_jobs.py [--memory-gib 64]

Nothing here was run at that size. A machine is the one of RESULTS.md, GPU: one H200, 16 cores; the command
has `--memory-gib`. Parts are figures of RESULTS.md (the model, theta, merging, ranking, learning), and what a
row of a table costs, which is measured when this starts, in seconds of the processor. Splits are the usual
ones: 60 % to fit on, 20 % to choose on, 20 % to test on. What the command would refuse or could not hold is
asked of the functions that decide it.
"""

from __future__ import annotations

import argparse
import math
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.speed.estimate import DISK, IMAGE, NEURONS, PAIRS, PLAIN
from onnxtweak.engine.machine.memory_plan import state_room, table_room
from onnxtweak.engine.scoring.scoring import theta_blocks, theta_sweeps
from onnxtweak.engine.scoring.sweep import ScoringTask
from onnxtweak.engine.shared.logits import logits_pass
from onnxtweak.errors import DataError
from onnxtweak.method.selection.screening import screening_bytes
from onnxtweak.settings import DataSettings, EngineSettings, TapSettings
from onnxtweak.theta.state import bytes_per_neuron, bytes_sent

CORES = 16
FIT, CHOOSE, TEST = 0.6, 0.2, 0.2
CHANNELS = 7_280  # GoogLeNet's activations as channel means
# Seconds of the processor for 10^9 rows x neurons x classes of `fit`: noisy and telling data (learning time).
LEARNING = 32.0, 71.8
EXCHANGED, RANKED = 2.6e9, 38e6 / 2  # bytes a second of a worker; pairs a second of a core (the estimate)
COPIES = 4  # of a table's values while its weights are learnt
SHARDS = 64
FEATURES, HIDDEN = 64, 256  # of the tabular model: two hidden layers


@dataclass(frozen=True)
class LargeJob:
    """samples, classes; neurons : that theta scores for `targets`; means : that tables are filled from.

    seconds : of one machine for a sample of plain inference. theta : more, for a target and sample. row :
    bytes of a stored sample.
    """

    name: str
    samples: int
    classes: int
    neurons: int
    targets: int
    means: int
    seconds: float
    theta: float
    row: int


def tabular() -> tuple[float, float]:
    """Seconds of the processor for a row: its logits, and theta for one target besides."""
    from onnx import TensorProto, helper, numpy_helper

    from onnxtweak.engine.scoring.scoring import from_model
    from onnxtweak.stages.open_job import prepare
    from onnxtweak.types import silent

    rng, widths = np.random.default_rng(0), (FEATURES, HIDDEN, HIDDEN, 2)
    nodes, stored, x = [], [], "input"
    for k, (into, out) in enumerate(zip(widths, widths[1:], strict=False)):
        w = rng.normal(0, math.sqrt(2 / into), (into, out)).astype(np.float32)
        stored.append(numpy_helper.from_array(w, f"w{k}"))
        name = "logits" if out == 2 else f"h{k}"
        nodes.append(helper.make_node("MatMul", [x, f"w{k}"], [name]))
        if out != 2:
            nodes.append(helper.make_node("Relu", [name], [f"r{k}"]))
        x = f"r{k}"
    ports = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", size])
        for name, size in (("input", FEATURES), ("logits", 2))
    ]
    graph = helper.make_graph(nodes, "log", ports[:1], ports[1:], stored)
    with tempfile.TemporaryDirectory() as folder:
        path, count = Path(folder) / "log.onnx", 200_000
        opset = [helper.make_opsetid("", 17)]
        path.write_bytes(helper.make_model(graph, opset_imports=opset, ir_version=8).SerializeToString())
        np.save(Path(folder) / "x.npy", rng.standard_normal((count, FEATURES), np.float32))
        np.save(Path(folder) / "y.npy", rng.integers(0, 2, count).astype(np.uint8))
        data = DataSettings((str(Path(folder) / "x.npy"),), anyway=True)
        job = prepare(str(path), data, EngineSettings(device="cpu", threads=1), TapSettings(), silent)
        fit = job.splits.fit
        read = from_model(job.subject, fit, job.engine, job.taps)
        task = ScoringTask(fit.labels, np.array([1]), "signed")
        blocks = theta_blocks(job.taps, 1, job.engine)
        plain, scored = [], []
        for _ in range(4):  # the first compiles
            begin = time.process_time()
            logits_pass(job.subject, fit, job.engine, "plain")
            middle = time.process_time()
            list(theta_sweeps(read, blocks, task, job.engine))
            plain.append(middle - begin)
            scored.append(time.process_time() - middle)
        return min(plain) / len(fit), max(min(scored) - min(plain), 0) / len(fit)


def jobs() -> tuple[LargeJob, ...]:
    row, theta = tabular()
    print(f"measured here: a row of the log {row * 1e6:.1f} us of a core, theta {theta * 1e6:.1f} us more\n")
    image = {"seconds": 1 / PLAIN, "theta": NEURONS / PAIRS, "row": IMAGE}
    return (
        LargeJob("ImageNet", 1_281_167, 1000, NEURONS, 1000, CHANNELS, **image),
        LargeJob("retail, 500 pictures a class", 5_000_000, 10_000, NEURONS, 10_000, CHANNELS, **image),
        LargeJob(
            name="tabular log",
            samples=100_000_000,
            classes=2,
            neurons=2 * HIDDEN,
            targets=1,
            means=2 * HIDDEN,
            seconds=row / CORES,
            theta=theta / CORES,
            row=4 * FEATURES,
        ),
    )


def in_table(job: LargeJob, memory: int) -> int:
    """Neurons that a table holds."""
    samples = (FIT + CHOOSE) * job.samples
    return min(job.means, int(table_room(memory) / (4 * COPIES * samples)))


def seconds(job: LargeJob, machines: int, memory: int) -> dict[str, float]:
    """Of each step, on so many machines; `learning` and what follows is the command's alone."""
    reading = max(job.row / DISK, job.seconds) * job.samples / machines
    blocks = math.ceil(job.neurons * bytes_per_neuron(job.targets) / state_room(memory))
    folding = job.theta * job.targets * FIT * job.samples / machines
    moved = min(SHARDS, math.ceil(FIT * job.samples / 4096)) * job.neurons * bytes_sent(job.targets)
    screens = math.ceil(job.means * screening_bytes(job.classes) / state_room(memory))
    tables = (FIT + screens * FIT + FIT + CHOOSE) * reading  # the base, screening, collecting
    products = FIT * job.samples * in_table(job, memory) * job.classes / 1e9
    return {
        "score": blocks * FIT * reading + folding,
        "merge": (moved / machines / EXCHANGED) if machines > 1 else 0.0,
        "rank": job.neurons * job.targets / RANKED / CORES,
        "tables": tables,
        "learn": products * LEARNING[1] / CORES,
        "check": (CHOOSE + 2 * TEST) * reading,
    }


def breaks(job: LargeJob, memory: int) -> list[str]:
    """What would not work, in the order of a run."""
    from onnxtweak.data.sources.held_whole import require_small

    found, kept = [], (FIT + CHOOSE) * job.samples
    for dtype in ("i8", "u1"):
        try:
            require_small((job.samples,), np.dtype(dtype), "y.npy", "labels", memory)
        except DataError as error:
            found.append(f"labels of {8 * np.dtype(dtype).itemsize} bits: {error.what}")
    Z, T = 4 * kept * job.classes, in_table(job, memory)
    if T < min(64, job.means):
        found.append(f"a table in memory holds {T} of {job.means:,} neurons")
    if Z > table_room(memory) / 2:
        found.append(
            f"logits of a table take {Z / 1e9:,.0f} GB beside {memory / 2**30:,.0f} GiB for its values"
        )
    sent = 8 * (1 + FIT) * job.samples
    if sent > 2**29:
        found.append(f"numbers and labels of samples, {sent / 1e9:.1f} GB, go to each worker for each pass")
    state = job.neurons * bytes_per_neuron(job.targets)
    blocks = math.ceil(state / state_room(memory))
    if blocks > 4:
        found.append(f"{state / 1e9:,.0f} GB of theta's state: {blocks} passes")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--memory-gib", type=int, default=64)
    memory = parser.parse_args().memory_gib * 2**30
    made = jobs()
    print("| job | machines | score | merge | rank | base, screen, collect | learn | check | join | fit |")
    print("|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|")
    for job in made:
        for machines in (1, 8, 64):
            took = seconds(job, machines, memory)
            join = took["score"] + took["merge"] + took["rank"] + took["check"]
            fit = took["tables"] + took["learn"] + took["check"]
            cells = " | ".join(f"{x:,.0f} s" for x in (*took.values(), join, fit))
            print(f"| {job.name} | {machines} | {cells} |")
    for job in made:
        print(f"\n{job.name}: a table of {in_table(job, memory):,} neurons and {job.classes:,} logits.")
        for what in breaks(job, memory):
            print(f"- {what}")


if __name__ == "__main__":
    main()
