"""How long would three very large jobs take on 1, 8 and 64 machines, and what would break first? On paper.

    python benchmarks/speed/large_jobs.py [--memory-gib 64]

Nothing here was run at that size. A machine is the one of RESULTS.md, GPU: one H200, 16 cores; the command
has `--memory-gib`. Parts are figures of RESULTS.md (the model, theta, merging, ranking, learning of the
largest table), and what is measured when this starts, in seconds of the processor: a row of a table, learning
from a table in files against one in memory, and biases. Splits are the usual ones: 60 % to fit on, 20 % to
choose on, 20 % to test on. What the command would refuse, hold or put into files is asked of the functions
that decide it.
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
from onnxtweak.engine.passes import Engine, RunStats
from onnxtweak.engine.scoring.scoring import theta_blocks, theta_sweeps
from onnxtweak.engine.scoring.sweep import ScoringTask
from onnxtweak.engine.shared.logits import logits_folder, logits_pass
from onnxtweak.engine.workers.chunks import ROWS as CHUNK
from onnxtweak.engine.workers.learning_device import VERY_LARGE
from onnxtweak.errors import DataError
from onnxtweak.method.selection.screening import screening_bytes
from onnxtweak.method.table import most_neurons
from onnxtweak.settings import DataSettings, EngineSettings, FitSettings, TapSettings
from onnxtweak.stages.gather import LOGITS_ON_DISK, ON_DISK
from onnxtweak.theta.state import bytes_per_neuron, bytes_sent
from onnxtweak.types import silent

CORES = 16
FIT, CHOOSE, TEST = 0.6, 0.2, 0.2
CHANNELS = 7_280  # GoogLeNet's activations as channel means
# `fit` of 50,000 x 2,048 x 1,000 (learning time): seconds of the processor for 10^9 rows x neurons x classes,
# and how many evaluations of loss and slope these are, of 4.3 s each.
LEARNING, EVALUATIONS = 844 / 102.4, 844 / 4.3
EXCHANGED, RANKED = 2.6e9, 38e6 / 2  # bytes a second of a worker; pairs a second of a core (the estimate)
RECEIVED = 1e9  # bytes a second of sums that the command is sent (learners' sums): assumed there, too
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


@dataclass(frozen=True)
class LearningParts:
    """What was measured of learning. in_files : seconds of the processor, of a table that lies in files,
    against one in memory. biases : seconds for a sample and class, where all classes are targets."""

    in_files: float
    biases: float


def learning() -> LearningParts:
    """Of 30,000 rows, 300 neurons, 40 classes, without a hidden layer, in chunks as of a very large table."""
    from onnxtweak.engine.machine.large_arrays import new_array
    from onnxtweak.engine.workers import learning_device
    from onnxtweak.goal import ResolvedGoal
    from onnxtweak.method.fit.fit import settle, try_all
    from onnxtweak.method.fit.learning import Learning
    from onnxtweak.method.table import Table

    learning_device.VERY_LARGE = 1
    rng, (rows, neurons, classes) = np.random.default_rng(0), (30_000, 300, 40)
    T, Z = (rng.standard_normal((rows, count), np.float32) for count in (neurons, classes))
    truth = Z + T @ rng.normal(0, 0.1, (neurons, classes)) + rng.gumbel(size=Z.shape)
    labels, took, biases = truth.argmax(axis=1), [], 0.0
    with tempfile.TemporaryDirectory() as name:
        for folder in (None, Path(name)):
            each = [new_array(array.shape, np.float32, folder) for array in (T, Z)]
            each[0][:], each[1][:] = T, Z
            whole = Learning(Table(each[0], each[1], labels), np.ones(rows, bool))
            begin = time.process_time()
            tried = try_all(whole, {"all": np.arange(neurons)}, whole.folds(None, 0), hidden=0)
            middle = time.process_time()
            settle(whole.table, tried, ResolvedGoal(np.arange(classes)))
            took.append(time.process_time() - begin)
            biases = time.process_time() - middle
    return LearningParts(took[1] / took[0], biases / rows / classes)


def jobs() -> tuple[LargeJob, ...]:
    row, theta = tabular()
    print(f"measured here: a row of the log {row * 1e6:.1f} us of a core, theta {theta * 1e6:.1f} us more;")
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


@dataclass(frozen=True)
class Tables:
    """Of one job. neurons : of a table. values, logits : bytes. in_files : whether each lies in files."""

    neurons: int
    values: float
    logits: float
    in_files: tuple[bool, bool]

    @classmethod
    def of(cls, job: LargeJob, memory: int) -> Tables:
        samples, neurons = int((FIT + CHOOSE) * job.samples), min(job.means, FitSettings.neurons)
        engine = Engine(EngineSettings(memory=memory), None, silent, RunStats())  # no pass is made
        values, logits = neurons > most_neurons(samples, engine), logits_folder(samples, job.classes, engine)
        return cls(neurons, 4.0 * samples * neurons, 4.0 * samples * job.classes, (values, logits))

    @property
    def read(self) -> float:
        """Bytes of files that are read for each evaluation of the loss."""
        return self.in_files[0] * self.values + self.in_files[1] * self.logits

    @property
    def disk(self) -> float:
        """Bytes of disk at most."""
        return self.in_files[0] * ON_DISK * self.values + self.in_files[1] * LOGITS_ON_DISK * self.logits


def learnt(job: LargeJob, machines: int, memory: int, parts: LearningParts) -> float:
    """Seconds of learning. On several machines each holds its rows, and sends sums for each chunk."""
    tables, rows = Tables.of(job, memory), (FIT + CHOOSE) * job.samples
    products = rows * tables.neurons * job.classes
    computed = products / 1e9 * LEARNING / CORES
    if machines == 1 or products < VERY_LARGE:
        slower = parts.in_files if any(tables.in_files) else 1.0
        return max(computed * slower, EVALUATIONS * tables.read / DISK)
    sums = math.ceil(rows / CHUNK) * 4 * tables.neurons * job.classes
    return computed / machines + EVALUATIONS * sums / RECEIVED


def seconds(job: LargeJob, machines: int, memory: int, parts: LearningParts) -> dict[str, float]:
    """Of each step, on so many machines; biases are the command's alone."""
    reading = max(job.row / DISK, job.seconds) * job.samples / machines
    blocks = math.ceil(job.neurons * bytes_per_neuron(job.targets) / state_room(memory))
    folding = job.theta * job.targets * FIT * job.samples / machines
    moved = min(SHARDS, math.ceil(FIT * job.samples / 4096)) * job.neurons * bytes_sent(job.targets)
    screens = math.ceil(job.means * screening_bytes(job.classes) / state_room(memory))
    tables = (FIT + screens * FIT + FIT + CHOOSE) * reading  # the base, screening, collecting
    return {
        "score": blocks * FIT * reading + folding,
        "merge": (moved / machines / EXCHANGED) if machines > 1 else 0.0,
        "rank": job.neurons * job.targets / RANKED / CORES,
        "tables": tables,
        "learn": learnt(job, machines, memory, parts),
        "biases": parts.biases * (FIT + CHOOSE) * job.samples * job.classes,
        "check": (CHOOSE + 2 * TEST) * reading,
    }


def breaks(job: LargeJob, memory: int) -> list[str]:
    """What would not work, in the order of a run."""
    from onnxtweak.data.sources.held_whole import require_small

    found, tables = [], Tables.of(job, memory)
    for dtype in ("i8", "u1"):
        try:
            require_small((job.samples,), np.dtype(dtype), "y.npy", "labels", memory)
        except DataError as error:
            found.append(f"labels of {8 * np.dtype(dtype).itemsize} bits: {error.what}")
    if tables.disk:
        found.append(f"tables in files take up to {tables.disk / 1e9:,.0f} GB of disk")
    checked = 2 * (CHOOSE + TEST) * 4 * job.samples * job.classes
    if checked > table_room(memory):
        found.append(
            f"logits of validation and test, base and tweaked, held while the file is checked:"
            f" {checked / 1e9:,.0f} GB"
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
    made, parts = jobs(), learning()
    print(f"learning from files {parts.in_files:.2f} x as long as from memory;")
    print(f"biases {parts.biases * 1e9:.0f} ns for a sample and class\n")
    print("| job | machines | score | merge | rank | tables | learn | biases | check | join | fit |")
    print("|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|")
    for job in made:
        for machines in (1, 8, 64):
            took = seconds(job, machines, memory, parts)
            join = took["score"] + took["merge"] + took["rank"] + took["check"]
            fit = took["tables"] + took["learn"] + took["biases"] + took["check"]
            cells = " | ".join(f"{x:,.0f} s" for x in (*took.values(), join, fit))
            print(f"| {job.name} | {machines} | {cells} |")
    for job in made:
        tables = Tables.of(job, memory)
        where = ("in memory", "in files")
        print(f"\n{job.name}: {tables.values / 1e9:,.1f} GB of {tables.neurons:,} neurons", end=" ")
        print(f"{where[tables.in_files[0]]}, {tables.logits / 1e9:,.1f} GB of logits", end=" ")
        print(f"{where[tables.in_files[1]]}.")
        for what in breaks(job, memory):
            print(f"- {what}")


if __name__ == "__main__":
    main()
