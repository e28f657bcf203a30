"""Every GPU path against the CPU, and the GPU's speed with the ceilings of the same run.

    python benchmarks/gpu/acceptance.py [--gpu 0] [--quick] [--rehearse]

Needs a CUDA GPU, NumPy, CuPy and Numba for theta and learning; onnx, onnx-graphsurgeon and ONNX Runtime for
the engine. With a CPU-only ONNX Runtime the hidden values come from the host, and what needs its CUDA
provider is left out, and said so. Takes at most 8 minutes; ends with 1 when a check failed. `--rehearse`
needs no GPU: NumPy takes CuPy's place, to see on any machine that the script still runs; its times mean
nothing.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import platform
import statistics
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path

import numpy as np

try:
    import cupy
except ImportError:  # `main` says what is missing, or rehearses without it
    cupy = None

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from onnxtweak.engine.backends import open_backend
from onnxtweak.errors import MachineError
from onnxtweak.settings import EngineSettings, Preprocess, TapSettings
from onnxtweak.theta.numba import backend as numba_backend
from onnxtweak.theta.numpy_backend import NumpyBackend
from onnxtweak.theta.state import ThetaState, begin_counting, empty_state

# Without a second sweep the CPU fills `last_*` only where there is no limit.
COUNTED = ("hi", "lo", "count_hi", "count_lo", "total", "peak", "bad")
EXACT = [name for name in ThetaState.__dataclass_fields__ if name not in ("seen", "gap")]

CEILINGS = r"""
// Multiply and maximum out of registers: 16 running maxima a thread, factors that change, nothing to hoist.
extern "C" __global__ void __launch_bounds__(256) peak_float(const float* in, float* out, int n) {
    float best[16], v[16], s = in[threadIdx.x % 7];
    for (int i = 0; i < 16; i++) best[i] = 0, v[i] = in[(threadIdx.x + i) % 64];
    for (int r = 0; r < n; r++) {
#pragma unroll
        for (int a = 0; a < 4; a++) {
#pragma unroll
            for (int i = 0; i < 16; i++) best[i] = fmaxf(best[i], v[i] * s);
            s += 1e-4f;
        }
    }
    float sum = 0;
    for (int i = 0; i < 16; i++) sum += best[i];
    out[blockIdx.x * blockDim.x + threadIdx.x] = sum;
}
// The same with the maximum of three on the bits of non-negative floats, where the chip has it.
extern "C" __global__ void __launch_bounds__(256) peak_bits(const float* in, float* out, int n) {
    int best[16];
    float v[16], s = in[threadIdx.x % 7], q = in[threadIdx.x % 5];
    for (int i = 0; i < 16; i++) best[i] = 0, v[i] = in[(threadIdx.x + i) % 64];
    for (int r = 0; r < n; r++) {
#pragma unroll
        for (int a = 0; a < 4; a += 2) {
#pragma unroll
            for (int i = 0; i < 16; i++)
                best[i] = max(max(best[i], __float_as_int(v[i] * s)), __float_as_int(v[i] * q));
            s += 1e-4f, q += 1e-5f;
        }
    }
    int sum = 0;
    for (int i = 0; i < 16; i++) sum += best[i];
    out[blockIdx.x * blockDim.x + threadIdx.x] = __int_as_float(sum);
}
extern "C" __global__ void __launch_bounds__(256) read_all(const float4* in, float* out, long long n) {
    const long long step = (long long)gridDim.x * blockDim.x;
    long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    float sum = 0;
    for (; i + 3 * step < n; i += 4 * step) {
        const float4 a = in[i], b = in[i + step], c = in[i + 2 * step], d = in[i + 3 * step];
        sum += a.x + a.y + a.z + a.w + b.x + b.y + b.z + b.w + c.x + c.y + c.z + c.w + d.x + d.y + d.z + d.w;
    }
    for (; i < n; i += step) sum += in[i].x + in[i].y + in[i].z + in[i].w;
    if (sum == 1.2345f) out[0] = sum;
}
"""

failed: list[str] = []
# What is compared with the CPU: CuPy's folds, or in a rehearsal NumPy's, and the library of its arrays.
xp = cupy or np
gpu_backend = "numpy" if cupy is None else "cupy"


def gpu_folds():
    """The folds that are compared with Numba's."""
    if cupy is None:
        return NumpyBackend()
    from onnxtweak.theta.cupy import folds

    return folds


def check(name: str, passed: bool, detail: str = "") -> None:
    print(f"  {'ok  ' if passed else 'FAIL'} {name}{': ' if detail else ''}{detail}", flush=True)
    if not passed:
        failed.append(name)


def on_gpu(function, repeats: int = 7) -> float:
    """Median seconds by the GPU's own clock, after two rounds of warming up."""
    times = []
    for k in range(repeats + 2):
        begin, end = cupy.cuda.Event(), cupy.cuda.Event()
        begin.record()
        function()
        end.record()
        end.synchronize()
        if k >= 2:
            times.append(cupy.cuda.get_elapsed_time(begin, end) / 1e3)
    return statistics.median(times)


def ceilings() -> tuple[float, float]:
    """What can be had a second: bytes out of the GPU's memory, and pairs out of its registers."""
    blocks = cupy.cuda.Device().attributes["MultiProcessorCount"] * 8
    numbers = cupy.random.random(64, dtype=np.float32) + np.float32(0.5)
    out, rounds = cupy.empty(blocks * 256, np.float32), 4000
    pairs = 0.0
    for name in ("peak_float", "peak_bits"):
        kernel = cupy.RawKernel(CEILINGS, name)
        seconds = on_gpu(lambda k=kernel: k((blocks,), (256,), (numbers, out, np.int32(rounds))))
        print(f"  {name}: {blocks * 256 * rounds * 64 / seconds / 1e12:.2f} T pairs/s")
        pairs = max(pairs, blocks * 256 * rounds * 64 / seconds)
    much = cupy.random.random((4096, 1 << 16), dtype=np.float32)
    read = cupy.RawKernel(CEILINGS, "read_all")
    shapes = [((blocks * k,), (256,)) for k in (1, 2, 4)]
    seconds = min(on_gpu(lambda s=s: read(*s, (much, out, np.int64(much.size // 4)))) for s in shapes)
    memory = cupy.cuda.alloc_pinned_memory(1 << 28)
    host = np.frombuffer(memory, np.float32, 1 << 26).reshape(1024, -1)
    host[:] = 1
    there = cupy.empty_like(cupy.asarray(host))
    link = host.nbytes / on_gpu(lambda: there.set(host))
    print(f"  memory read: {much.nbytes / seconds / 1e12:.2f} TB/s; host to GPU: {link / 1e9:.1f} GB/s")
    return much.nbytes / seconds, pairs


def gaps(rng, rows: int, targets: int, classes: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Reciprocal gaps as a classifier of 76 % accuracy gives them: limit, wanted, member."""
    label = rng.integers(0, classes, rows)
    size = (1 / (np.abs(rng.standard_normal((rows, targets))) + 0.01)).astype(np.float32)
    own = label[:, None] == np.arange(targets)
    right = rng.random(rows)[:, None] < 0.76
    limit = np.where(right, np.where(own, -size, size), np.float32(0))
    return limit, np.where(own & ~right, size, np.float32(0)), np.where(label < targets, label, -1)


def same_bits(ours: ThetaState, theirs: ThetaState) -> str:
    """Names of the arrays that differ anywhere but at neurons marked bad."""
    good = ~theirs.bad
    differing = [] if np.array_equal(ours.bad, theirs.bad) else ["bad"]
    for name in EXACT:
        a, b = getattr(ours, name), getattr(theirs, name)
        if not np.array_equal(a[..., good], b[..., good]):
            differing.append(name)
    return ", ".join(differing)


def check_folds(quick: bool) -> None:
    """Both back ends over the same batches, few and many targets, odd sizes, all kinds of values."""
    folds_there = gpu_folds()
    rng = np.random.default_rng(0)
    for targets in (1, 2, 10, 16, 17, 40, 100, *(() if quick else (1000,))):
        for kind in ("relu", "signed", "one negative", "not finite"):
            neurons = {1000: 4100}.get(targets, int(rng.integers(1000, 20_000)))
            ours, theirs = (
                begin_counting(folds_there.new_state(neurons, targets)),
                empty_state(neurons, targets),
            )
            for sweep in range(2):
                draw = np.random.default_rng([targets, neurons])
                for rows in (300, 7, 64):
                    V = draw.standard_normal((rows, neurons)).astype(np.float32)
                    V = V if kind == "signed" else np.maximum(V, 0)
                    if kind == "one negative":
                        V[rows // 2, neurons - 1] = -3
                    if kind == "not finite":
                        V[1, 2], V[rows - 1, neurons - 2], V[0, 0] = np.nan, -np.inf, np.inf
                    limit, wanted, member = gaps(draw, rows, targets, targets + 3)
                    for folds, s, v in ((folds_there, ours, xp.asarray(V)), (numba_backend, theirs, V)):
                        if sweep == 0:
                            folds.fold_limits(v, limit, s.hi, s.lo, s.bad)
                            folds.fold_sums(v, member, s.total, s.peak)
                        else:
                            folds.fold_wanted(
                                v, wanted, s.hi, s.lo, s.count_hi, s.count_lo, s.last_hi, s.last_lo
                            )
            wrong = same_bits(folds_there.host_state(ours), theirs)
            counted = int(theirs.count_hi.sum()) + int(theirs.count_lo.sum())
            check(
                f"theta of {neurons} neurons, {targets} targets, {kind}",
                not wrong and (counted > 0 or targets < 10),
                wrong and f"differs: {wrong}",
            )


def rate_folds(bandwidth: float, peak: float, quick: bool) -> None:
    """Theta on the GPU, kernels by the GPU's clock and the whole call by the host's."""
    print("| theta, 45,056 neurons | limits: V read | limits: pairs | limits and sums, whole call: pairs |")
    print("|---|---|---|---|")
    rows, neurons = (2048 if quick else 4096), 45_056
    for kind, counts in (("relu", (1, 10, 100, 1000)), ("signed", (1, 1000))):
        V = cupy.random.standard_normal((rows, neurons), dtype=np.float32)
        V = cupy.maximum(V, 0) if kind == "relu" else V
        for targets in counts:
            kernels, whole = rate(V, targets)
            pairs = rows * neurons * targets
            print(
                f"| {kind}, {targets} targets "
                f"| {V.nbytes / kernels / 1e12:.2f} TB/s, {100 * V.nbytes / kernels / bandwidth:.0f} % "
                f"| {pairs / kernels / 1e12:.2f} T/s, {100 * pairs / kernels / peak:.0f} % "
                f"| {pairs / whole / 1e12:.2f} T/s, {100 * pairs / whole / peak:.0f} % |",
                flush=True,
            )


def rate(V: cupy.ndarray, targets: int) -> tuple[float, float]:
    """Seconds of the limits with gaps that are on the GPU, and of limits and sums as a run calls them."""
    folds = gpu_folds()
    limit, _, member = gaps(np.random.default_rng(0), len(V), targets, max(targets, 10))
    there = folds.place_limit(limit)
    state = folds.new_state(V.shape[1], targets)
    kernels = on_gpu(lambda: folds.fold_limits(V, there, state.hi, state.lo, state.bad), 5)
    begin = time.perf_counter()
    for _ in range(3):
        folds.fold_limits(V, limit, state.hi, state.lo, state.bad)
        folds.fold_sums(V, member, state.total, state.peak)
    cupy.cuda.Device().synchronize()
    return kernels, (time.perf_counter() - begin) / 3


def check_engine(gpu: int, quick: bool) -> None:
    """Whole runs: the embedded demo to the last byte; hidden values and speed of the GoogLeNet topology."""
    import onnxruntime

    cuda = "CUDAExecutionProvider" in onnxruntime.get_available_providers()
    if not cuda:
        print("  left out: this ONNX Runtime has no CUDA provider, so the hidden values come from the host")
    with tempfile.TemporaryDirectory() as folder:
        check_demo(Path(folder), gpu, cuda)
        net = GoogleNet(Path(folder), samples=256 if quick or not cuda else 32_768)
        check_sweeps(net, gpu, cuda)
        rate_sweeps(net, gpu, cuda, quick)


def check_demo(folder: Path, gpu: int, cuda: bool) -> None:
    """Every way of running the demo gives the same file."""
    from onnxtweak.commands.augment import augment
    from onnxtweak.commands.demo import demo
    from onnxtweak.demo_files import demo_files
    from onnxtweak.settings import AugmentSettings, DataSettings, OutputSettings

    digests, files = {}, demo_files()
    # With one GPU two processes share it: sending and merging are the same.
    present = range(cupy.cuda.runtime.getDeviceCount()) if cupy else ()
    others = [i for i in present if i != gpu] or [gpu]
    several = f"cuda:{gpu},{others[0]}"
    runs = [("cpu", "numba"), ("cpu", gpu_backend)]
    runs += [(f"cuda:{gpu}", "cupy"), (several, "cupy")] if cuda else []
    for device, backend in runs:
        name = f"{device}-{backend}".replace(":", "-")
        settings = EngineSettings(device=device, backend=backend, shard=128)
        made = demo(directory=f"{folder}/{name}", engine=settings)
        digests[device, backend] = hashlib.sha256(Path(made.output.path).read_bytes()).hexdigest()
        check(
            f"demo with --device {device} --backend {backend}",
            all(c.passed for c in made.checks) and made.run.device["device"] == device.partition(",")[0],
            f"target {100 * made.before.target:.1f} % -> {100 * made.after.target:.1f} %, {made.run.device}",
        )
        if device == several:
            continue
        begin = time.perf_counter()
        made = augment(
            model=str(files.model),
            data=DataSettings(data=(f"{files.data}#fit",), test=(f"{files.data}#test",)),
            engine=settings,
            settings=AugmentSettings(iterations=500),
            output=OutputSettings(f"{folder}/{name}.onnx"),
        )
        check(
            f"augment with --device {device} --backend {backend}",
            all(c.passed for c in made.checks) and made.after.overall >= made.before.overall,
            f"overall {100 * made.before.overall:.1f} % -> {100 * made.after.overall:.1f} %, "
            f"{time.perf_counter() - begin:.1f} s",
        )
    check("theta on the GPU writes the same file", digests["cpu", "numba"] == digests["cpu", gpu_backend])
    if cuda:
        same = digests[f"cuda:{gpu}", "cupy"] == digests[several, "cupy"]
        check(f"two processes ({several}) write the same file as one", same)
    try:
        demo(directory=f"{folder}/none", engine=EngineSettings(device=f"cuda:{gpu + 90}"))
        check("a GPU that is not there is an error", False)
    except MachineError as error:
        check("a GPU that is not there is an error", error.exit_code == 4, str(error))


class GoogleNet:
    """The GoogLeNet topology with any batch size, and random pictures in a file, as bytes."""

    def __init__(self, folder: Path, samples: int) -> None:
        from onnxtweak.data.open_data import open_data
        from onnxtweak.engine.opened import open_model
        from onnxtweak.engine.subject import watchable
        from tests.support.nets import free_batch, reseed_light

        (folder / "googlenet.onnx").write_bytes(free_batch(reseed_light("inception_v1")).SerializeToString())
        rng, some = np.random.default_rng(0), min(samples, 256)
        x = np.lib.format.open_memmap(folder / "x.npy", "w+", np.uint8, (samples, 3, 224, 224))
        pictures = rng.integers(0, 256, (some, *x.shape[1:]), np.uint8)
        for k in range(0, samples, some):  # the same ones, brighter and brighter
            x[k : k + some] = pictures + np.uint8(k // some)
        np.save(folder / "y.npy", np.zeros(samples, np.int64))
        self.opened = open_model(folder / "googlenet.onnx", TapSettings())
        self.data = open_data(
            [str(folder / "x.npy")],
            inputs=self.opened.specs,
            preprocess=Preprocess(pixel_scale=1 / 255, mean=(0.5,), std=(0.29,)),
        )
        self.found = tuple(c for c in watchable(self.opened) if c.activation)

    def run(self, device: str, backend: str, samples: int, among: int, **settings):
        """(engine, subject, taps, view): labelled as the model says, or for one of five as any of `among`."""
        from onnxtweak.data.dataset import Dataset
        from onnxtweak.data.splits import View
        from onnxtweak.engine.passes import Engine, RunStats
        from onnxtweak.engine.shared.logits import logits_pass
        from onnxtweak.engine.subject import choose_taps, few_samples, measured
        from onnxtweak.types import silent

        chosen = EngineSettings(device=device, backend=backend, **{"memory": 16 * 2**30, **settings})
        engine = Engine(chosen, open_backend(chosen), silent, RunStats())
        view = View(self.data, np.arange(samples))
        names, few = [c.name for c in self.found], few_samples(self.opened, view, 3)
        subject, shapes = measured(self.opened, names, few, chosen)
        taps = choose_taps(self.opened, self.found, shapes, TapSettings())
        Z, rng = logits_pass(subject, view, engine, "labels"), np.random.default_rng(0)
        labels = np.where(rng.random(samples) < 0.8, Z.argmax(1), rng.integers(0, among, samples))
        labels = np.concatenate([labels, self.data.labels[samples:]])
        data = Dataset(labels, self.data.inputs, None, self.data.parts, self.data.plans)
        return engine, subject, taps, View(data, view.rows)


def some_targets(labels: np.ndarray, count: int) -> np.ndarray:
    """The class that most samples have, and the first ones, which those have that the model gets wrong."""
    most = int(np.bincount(labels).argmax())
    return np.array(sorted([*range(count - 1), max(most, count - 1)]) if count > 1 else [0])


def check_sweeps(net: GoogleNet, gpu: int, cuda: bool) -> None:
    """Theta of all activations: the GPU's is the CPU's, in one pass and in blocks."""
    from onnxtweak.engine.scoring.scoring import from_model, theta_blocks, theta_sweeps
    from onnxtweak.engine.scoring.sweep import ScoringTask
    from onnxtweak.theta.state import state_slice

    hidden = {}
    for device in ["cpu", *([f"cuda:{gpu}"] if cuda else [])]:
        states = {}
        for name, backend, memory in (
            ("Numba", "numba", 16),
            ("CuPy", gpu_backend, 16),
            ("blocks", gpu_backend, 1),
        ):
            # One batch size: another may be computed in another order.
            engine, subject, taps, view = net.run(
                device, backend, samples=128, among=10, batch=32, memory=memory * 2**30
            )
            read = from_model(subject, view, engine, taps)
            if backend == "cupy" and device != "cpu":
                first = next(read("look", taps[:1], np.arange(8)))
                check("hidden values stay on the GPU", isinstance(first.V[0], cupy.ndarray))
            looked = next(read("look", taps[:1], np.arange(8))).V[0]
            hidden[device] = cupy.asnumpy(looked) if cupy else looked.copy()
            for count in (1, 10):
                targets, blocks = some_targets(view.labels, count), theta_blocks(taps, count, engine)
                for made in theta_sweeps(read, blocks, ScoringTask(view.labels, targets, "signed"), engine):
                    for stretch, state in zip(made.block, made.states, strict=True):
                        if name == "Numba":
                            states[count, stretch.tap.name] = state
                            continue
                        whole = states[count, stretch.tap.name]
                        part = state_slice(whole, stretch.start, stretch.stop)
                        wrong = [
                            n for n in COUNTED if not np.array_equal(getattr(part, n), getattr(state, n))
                        ]
                        if wrong:
                            check(f"{name} {stretch.tap.name} {count} targets", False, ", ".join(wrong))
                if name != "Numba":
                    counted = sum(int((s.count_hi > 0).sum()) for (c, _), s in states.items() if c == count)
                    limited = sum(int((s.hi > 0).sum()) for (c, _), s in states.items() if c == count)
                    check(
                        f"{count} targets, model on {device}: theta by CuPy is Numba's",
                        not any(f.startswith(name) for f in failed) and counted > 0 and limited > 0,
                        f"{len(blocks)} passes",
                    )
    if cuda:
        a, b = hidden[f"cuda:{gpu}"].astype(np.float64), hidden["cpu"]
        error = float(np.linalg.norm(a - b) / np.linalg.norm(b))
        check(
            "hidden values on the GPU are float32's, not TF32's", error < 2e-5, f"relative error {error:.1e}"
        )


def rate_sweeps(net: GoogleNet, gpu: int, cuda: bool, quick: bool) -> None:
    """Capture and score against plain inference, in turns."""
    from onnxtweak.engine.scoring.scoring import from_model, theta_blocks, theta_sweeps
    from onnxtweak.engine.scoring.sweep import ScoringTask
    from onnxtweak.engine.shared.logits import logits_pass

    print("| GoogLeNet topology, all activations | plain inference | capture and score / plain | nodes |")
    print("|---|---|---|---|")
    runs = [(f"cuda:{gpu}", "cupy")] if cuda else []
    for device, backend in [*runs, ("cpu", gpu_backend), ("cpu", "numba")]:
        fast = device != "cpu"
        samples = len(net.data) if fast else 64 if quick else 256
        engine, subject, taps, view = net.run(device, backend, samples, among=1000)
        alone = bare(subject, view, engine.settings)
        print(
            f"  {device}: the runtime alone, {alone[0]} samples in memory again and again: {alone[1]:.0f}/s"
        )
        read = from_model(subject, view, engine, taps)
        for count in (1, 10):
            targets, ratios = some_targets(view.labels, count), []
            for k in range(4 if fast else 2 if quick else 3):
                begin = time.perf_counter()
                logits_pass(subject, view, engine, "plain")
                middle = time.perf_counter()
                blocks = theta_blocks(taps, count, engine)
                (made,) = theta_sweeps(read, blocks, ScoringTask(view.labels, targets, "signed"), engine)
                scored = time.perf_counter() - middle
                del made
                ratios += [(scored / (middle - begin), scored, middle - begin)] if k else []
            middle = statistics.median_low(ratios)
            print(
                f"| {sum(tap.neurons for tap in taps):,} neurons, {samples:,} samples, model on {device}, "
                f"theta by {backend}, {count} targets | {samples / middle[2]:.0f} samples/s "
                f"| {middle[0]:.2f} ({min(ratios)[0]:.2f} to {max(ratios)[0]:.2f}) "
                f"| {engine.stats.providers} |",
                flush=True,
            )


def bare(subject, view, settings: EngineSettings) -> tuple[int, float]:
    """Samples a second of ONNX Runtime on the untouched model, one batch from the host again and again."""
    from onnxtweak.engine.session import open_session

    session = open_session(subject.model.path, subject.model.folder, settings, subject.model.path)
    feeds, labels, _ = next(view.dataset.batches(view.rows, 128 if session.device != "cpu" else 16))
    times = []
    for _ in range(7):
        begin = time.perf_counter()
        session.run(feeds)
        times.append(time.perf_counter() - begin)
    return len(labels), len(labels) / statistics.median(times)


def rate_solvers(quick: bool) -> None:
    """What `fit` and `match` solve, on the GPU and on the CPU, over the same tables; both must find the same.

    A design, a path of three ridges, each going on from the last, and a regression; on the GPU twice, for the
    bits, after a warming up.
    """
    from onnxtweak.engine.workers.learning_device import LearningDevice

    print("| rows x neurons x classes | made ready, CPU | GPU | ridges, CPU | GPU | regression, CPU | GPU |")
    print("|---|---|---|---|---|---|---|")
    sizes = [(8_000, 500, 10), (10_000, 2_000, 50), (50_000, 2_048, 1_000)]
    far = learning_library()
    if cupy is not None:
        solved(cupy, *learning_table(1000, 100, 10))
    for rows, neurons, classes in sizes[:1] if quick else sizes:
        table = learning_table(rows, neurons, classes)
        (cpu, here), (gpu, there), (_, again) = (solved(library, *table) for library in (np, far, far))
        size = f"{rows:,} x {neurons:,} x {classes:,}"
        each = " | ".join(f"{a:.2f} s | {b:.2f} s" for a, b in zip(cpu, gpu, strict=True))
        print(f"| {size} | {each} |", flush=True)
        losses, bent = abs(here[1] - there[1]) / here[1], float(np.abs(here[0] - there[0]).max())
        check(
            f"solvers of {size} find on the GPU what they do on the CPU",
            losses < 1e-3 and bent < 1e-3,
            f"loss {here[1]:.5f} and {there[1]:.5f}; held-out regression differs by {bent:.1e} at most",
        )
        check(f"solvers of {size} give the same bits again", np.array_equal(there[2], again[2]))
    left = LearningDevice(far, 2**30, "cuda:0")
    check("small tables stay on the CPU", left.for_solver(1_000, 100, 10) is np and left.used == {"cpu"})


def learning_library():
    """CuPy; in a rehearsal its stand-in, which is as strict about whose arrays are whose."""
    if cupy is not None:
        return cupy
    from tests.support import device_arrays

    return device_arrays


def learning_table(rows: int, neurons: int, classes: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """T, Z and labels that the neurons tell something of."""
    rng = np.random.default_rng(0)
    T = np.maximum(rng.standard_normal((rows, neurons), np.float32), 0)
    Z = rng.standard_normal((rows, classes), np.float32)
    return T, Z, (Z + T[:, np.arange(classes) % neurons]).argmax(axis=1)


def solved(library, T: np.ndarray, Z: np.ndarray, labels: np.ndarray):
    """Seconds of each part; what a regression on half of the rows says of the rest, a loss, and weights."""
    from onnxtweak.engine.workers.learning_device import on_host
    from onnxtweak.method.solvers.design import design
    from onnxtweak.method.solvers.multinomial import multinomial
    from onnxtweak.method.solvers.regression import moments

    at, found = [time.perf_counter()], None
    made = design(T, xp=library)
    float(made.X[0, 0])  # waits for the GPU
    at.append(time.perf_counter())
    for ridge in (0.1, 0.03, 0.01):
        found = multinomial(made, Z, labels, ridge=ridge, start=found, tolerance=1e-5)
    at.append(time.perf_counter())
    half = np.arange(len(T) // 2)
    axes = moments(made, Z[:, ::-1], half).regressed(0.1, library)
    said = on_host(made.of_rows(half + len(T) - len(half)).scores(axes))
    at.append(time.perf_counter())
    return np.diff(at), (said, found.loss, found.weight)


def rate_training(quick: bool) -> None:
    """`augment` on the GPU and on the CPU, over the same tables, by turns; both must learn alike."""
    from onnxtweak.method.augment import train
    from onnxtweak.method.table import Table
    from onnxtweak.settings import AugmentSettings

    print("| augment: rows x neurons x classes, hidden, batch | CPU | GPU | CPU / GPU |")
    print("|---|---|---|---|")
    sizes = [(8_000, 1_000, 10, 96, 128), (50_000, 2_048, 1_000, 512, 4_096)]
    for rows, neurons, classes, hidden, batch in sizes[:1] if quick else sizes:
        iterations = 100 if quick else 500
        T, Z, labels = learning_table(rows, neurons, classes)
        fit, validation = (
            Table(T[some], Z[some], labels[some]) for some in (slice(rows // 5, None), slice(rows // 5))
        )
        asked = AugmentSettings(hidden=hidden, iterations=iterations, batch=batch, patience=iterations)
        taken: dict[str, list[float]] = {"CPU": [], "GPU": []}
        right = {}
        for _ in range(2 if quick else 3):
            for name, library in (("CPU", np), ("GPU", learning_library())):
                begin = time.perf_counter()
                made = train(fit, validation, asked, xp=library)
                taken[name].append(time.perf_counter() - begin)
                learnt = made.patch.applied(validation.Z, validation.T)
                right[name] = float((learnt.argmax(axis=1) == validation.labels).mean())
        cpu, on_it = (min(taken[name]) for name in ("CPU", "GPU"))  # the first also compiles
        size = f"{rows:,} x {neurons:,} x {classes:,}, {hidden}, {batch:,}"
        print(f"| {size} | {cpu:.2f} s | {on_it:.2f} s | {cpu / on_it:.1f} |", flush=True)
        check(
            f"augment of {size} learns on the GPU what it does on the CPU",
            abs(right["CPU"] - right["GPU"]) < 0.02,
            ", ".join(f"{name} {100 * value:.1f} %" for name, value in right.items()),
        )


def describe(gpu: int) -> None:
    shown = cupy.cuda.runtime.getDeviceProperties(gpu)
    driver = cupy.cuda.runtime.driverGetVersion()
    print(
        f"{shown['name'].decode()}, {shown['totalGlobalMem'] / 2**30:.0f} GiB, "
        f"{shown['multiProcessorCount']} multiprocessors, "
        f"driver for CUDA {driver // 1000}.{driver % 1000 // 10}"
    )
    print(
        f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}, "
        f"NumPy {np.__version__}, CuPy {cupy.__version__}"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--gpu", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="smaller sizes, fewer repeats")
    parser.add_argument("--part", choices=("all", "theta", "engine", "learning"), default="all")
    parser.add_argument("--rehearse", action="store_true", help="without a GPU, NumPy in CuPy's place")
    args = parser.parse_args()
    began = time.perf_counter()
    if args.rehearse:
        global cupy, xp, gpu_backend
        cupy, xp, gpu_backend, args.quick = None, np, "numpy", True
        print("a rehearsal without a GPU: NumPy is what is called CuPy and GPU below")
    elif cupy is None:
        parser.error("CuPy is not installed: a GPU and `pip install 'onnxtweak[gpu]'`, or --rehearse")
    else:
        cupy.cuda.Device(args.gpu).use()
        describe(args.gpu)
    if args.part in ("all", "theta"):
        if cupy is not None:
            print("ceilings")
            bandwidth, peak = ceilings()
        print("theta against the CPU")
        check_folds(args.quick)
        if cupy is not None:
            rate_folds(bandwidth, peak, args.quick)
    if args.part in ("all", "learning"):
        print("learning")
        rate_solvers(args.quick)
        rate_training(args.quick)
    missing = [name for name in ("onnx", "onnxruntime", "onnx_graphsurgeon") if find_spec(name) is None]
    engine = args.part in ("all", "engine")
    if missing and engine:
        print(f"engine: left out, {', '.join(missing)} is not installed")
    elif engine:
        print("engine")
        check_engine(args.gpu, args.quick)
    print(f"{time.perf_counter() - began:.0f} s; {len(failed)} checks failed {failed or ''}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
