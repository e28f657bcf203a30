"""Every GPU path against the CPU, and SPEC 7's GPU rows with the ceilings of the same run beside them.

    python benchmarks/gpu_acceptance.py [--gpu 0] [--quick]

Needs a CUDA GPU, NumPy, CuPy and Numba for theta; onnx, onnx-graphsurgeon and ONNX Runtime for the engine.
With a CPU-only ONNX Runtime the hidden values come from the host, and what needs its CUDA provider is left
out, and said so. Takes at most 8 minutes; ends with 1 when a check failed.
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

import cupy
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from onnxtweak.engine.backends import open_backend
from onnxtweak.errors import MachineError
from onnxtweak.settings import EngineSettings, Preprocess, TapSettings
from onnxtweak.theta import cupy_backend, numba_backend
from onnxtweak.theta.state import ThetaState, empty_state

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
    rng = np.random.default_rng(0)
    for targets in (1, 2, 10, 16, 17, 40, 100, *(() if quick else (1000,))):
        for kind in ("relu", "signed", "one negative", "not finite"):
            neurons = {1000: 4100}.get(targets, int(rng.integers(1000, 20_000)))
            ours, theirs = cupy_backend.new_state(neurons, targets), empty_state(neurons, targets)
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
                    for folds, s, v in ((cupy_backend, ours, cupy.asarray(V)), (numba_backend, theirs, V)):
                        if sweep == 0:
                            folds.fold_limits(v, limit, s.hi, s.lo, s.bad)
                            folds.fold_sums(v, member, s.total, s.peak)
                        else:
                            folds.fold_wanted(
                                v, wanted, s.hi, s.lo, s.count_hi, s.count_lo, s.last_hi, s.last_lo
                            )
            wrong = same_bits(cupy_backend.host_state(ours), theirs)
            counted = int(theirs.count_hi.sum()) + int(theirs.count_lo.sum())
            check(
                f"theta of {neurons} neurons, {targets} targets, {kind}",
                not wrong and (counted > 0 or targets < 10),
                wrong and f"differs: {wrong}",
            )


def rate_folds(bandwidth: float, peak: float, quick: bool) -> None:
    """SPEC 7: theta on the GPU, kernels by the GPU's clock and the whole call by the host's."""
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
    limit, _, member = gaps(np.random.default_rng(0), len(V), targets, max(targets, 10))
    there = cupy_backend.place_limit(limit)
    state = cupy_backend.new_state(V.shape[1], targets)
    kernels = on_gpu(lambda: cupy_backend.fold_limits(V, there, state.hi, state.lo, state.bad), 5)
    begin = time.perf_counter()
    for _ in range(3):
        cupy_backend.fold_limits(V, limit, state.hi, state.lo, state.bad)
        cupy_backend.fold_sums(V, member, state.total, state.peak)
    cupy.cuda.Device().synchronize()
    return kernels, (time.perf_counter() - begin) / 3


def check_engine(gpu: int, quick: bool) -> None:
    """Whole runs: the embedded demo to the last byte; hidden values and speed of the GoogLeNet topology."""
    import onnxruntime

    from onnxtweak.embedded import demo_files
    from onnxtweak.pipeline.augment import augment
    from onnxtweak.pipeline.demo import demo
    from onnxtweak.settings import AugmentSettings, DataSettings, OutputSettings

    cuda = "CUDAExecutionProvider" in onnxruntime.get_available_providers()
    digests = {}
    runs = [("cpu", "numba"), ("cpu", "cupy"), *([(f"cuda:{gpu}", "cupy")] if cuda else [])]
    files = demo_files()
    with tempfile.TemporaryDirectory() as folder:
        for device, backend in runs:
            settings = EngineSettings(device=device, backend=backend)
            made = demo(directory=f"{folder}/{device.replace(':', '-')}-{backend}", engine=settings)
            digests[device, backend] = hashlib.sha256(Path(made.output.path).read_bytes()).hexdigest()
            check(
                f"demo with --device {device} --backend {backend}",
                all(c.passed for c in made.checks) and made.device["device"] == device,
                f"target {100 * made.before.target:.1f} % -> {100 * made.after.target:.1f} %, {made.device}",
            )
            begin = time.perf_counter()
            made = augment(
                model=str(files.model),
                data=DataSettings(data=(f"{files.data}#fit",), test=(f"{files.data}#test",)),
                engine=settings,
                augment=AugmentSettings(iterations=500),
                output=OutputSettings(f"{folder}/{device.replace(':', '-')}-{backend}.onnx"),
            )
            check(
                f"augment with --device {device} --backend {backend}",
                all(c.passed for c in made.checks) and made.after.overall >= made.before.overall,
                f"overall {100 * made.before.overall:.1f} % -> {100 * made.after.overall:.1f} %, "
                f"{time.perf_counter() - begin:.1f} s",
            )
        check("theta on the GPU writes the same file", digests["cpu", "numba"] == digests["cpu", "cupy"])
        try:
            demo(directory=f"{folder}/none", engine=EngineSettings(device=f"cuda:{gpu + 90}"))
            check("a GPU that is not there is an error", False)
        except MachineError as error:
            check("a GPU that is not there is an error", error.exit_code == 4, str(error))
        if not cuda:
            print(
                "  left out: this ONNX Runtime has no CUDA provider, so the hidden values come from the host"
            )
        googlenet(Path(folder), gpu, cuda, quick)


def googlenet(folder: Path, gpu: int, cuda: bool, quick: bool) -> None:
    """Capture and score against plain inference, in turns; and what each device computes."""
    from onnxtweak.data.dataset import Dataset
    from onnxtweak.data.opening import open_data
    from onnxtweak.data.splits import View
    from onnxtweak.engine.passes import Engine, Ledger, logits_pass
    from onnxtweak.engine.scoring import from_model, theta_blocks, theta_sweeps
    from onnxtweak.engine.subject import choose_taps, few_samples, measured, open_model, watchable
    from onnxtweak.types import silent
    from tests.nets import reseed_light

    path = folder / "googlenet.onnx"
    path.write_bytes(reseed_light("inception_v1").SerializeToString())
    few, samples = (64, 64) if quick else (256, 1536 if cuda else 256)
    rng = np.random.default_rng(0)
    x = np.lib.format.open_memmap(folder / "x.npy", "w+", np.float32, (samples, 3, 224, 224))
    for k in range(samples):
        x[k] = rng.standard_normal(x.shape[1:], np.float32)
    np.save(folder / "y.npy", np.zeros(samples, np.int64))
    opened = open_model(path, TapSettings())
    data = open_data([str(folder / "x.npy")], inputs=opened.specs, preprocess=Preprocess())
    found = tuple(c for c in watchable(opened) if c.activation)
    states, hidden = {}, {}
    runs = [("cpu", "numba"), ("cpu", "cupy")]
    runs = [(f"cuda:{gpu}", "cupy"), (f"cuda:{gpu}", "numba"), *runs] if cuda else runs
    taps = None
    print("| GoogLeNet topology, all activations | plain inference | capture and score / plain | nodes |")
    print("|---|---|---|---|")
    for device, backend in runs:
        # One batch size on the GPU, for both back ends: another may be computed in another order.
        batch = None if device == "cpu" else 128
        settings = EngineSettings(device=device, backend=backend, memory=16 * 2**30, batch=batch)
        engine = Engine(settings, open_backend(settings), silent, Ledger())
        view = View(data, np.arange(few if device == "cpu" else samples))
        subject, shapes = measured(opened, [c.name for c in found], few_samples(opened, view, 3), settings)
        if taps is None:
            taps = choose_taps(opened, found, shapes, TapSettings())
            Z = logits_pass(subject, view, engine, "labels")
            labels = np.where(rng.random(samples) < 0.8, Z.argmax(1), rng.integers(0, Z.shape[1], samples))
            data = Dataset(labels, data.inputs, None, data.parts, data.plans)
            view = View(data, view.rows)
            order = np.argsort(-np.bincount(labels[:few], minlength=Z.shape[1]), kind="stable")
        print(
            f"  {device}: the runtime alone, samples in memory: {bare(subject, view, settings):.0f} samples/s"
        )
        read = from_model(subject, view, engine, taps)
        first = next(read("look", taps[:1], np.arange(8)))
        hidden[device, backend] = cupy.asnumpy(first.V[0])
        if device != "cpu" and backend == "cupy":
            check("hidden values stay on the GPU", isinstance(first.V[0], cupy.ndarray))
        for count in (1, 10):
            targets = np.sort(order[:count])
            ratios = []
            for k in range(2 if quick or (device != "cpu" and backend == "numba") else 4):
                begin = time.perf_counter()
                logits_pass(subject, view, engine, "plain")
                middle = time.perf_counter()
                blocks = theta_blocks(taps, count, engine)
                (made,) = theta_sweeps(read, blocks, view.labels, targets, "signed", engine)
                ratios += [(time.perf_counter() - middle) / (middle - begin)] if k else []
            states[device, backend, count] = made.states
            print(
                f"| model on {device}, theta by {backend}, {count} targets "
                f"| {len(view.rows) / (middle - begin):.0f} samples/s "
                f"| {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}) "
                f"| {engine.ledger.providers} |",
                flush=True,
            )
    for device in ["cpu", *([f"cuda:{gpu}"] if cuda else [])]:
        for count in (1, 10):
            pairs = zip(states[device, "cupy", count], states[device, "numba", count], strict=True)
            wrong = {
                name
                for a, b in pairs
                for name in COUNTED
                if not np.array_equal(getattr(a, name), getattr(b, name))
            }
            check(
                f"{count} targets, model on {device}: theta by CuPy is Numba's",
                not wrong,
                ", ".join(sorted(wrong)),
            )
    if cuda:
        a, b = hidden[f"cuda:{gpu}", "cupy"].astype(np.float64), hidden["cpu", "numba"]
        error = float(np.linalg.norm(a - b) / np.linalg.norm(b))
        check(
            "hidden values on the GPU are float32's, not TF32's", error < 2e-5, f"relative error {error:.1e}"
        )


def bare(subject, view, settings: EngineSettings) -> float:
    """Samples a second of ONNX Runtime on the untouched model, one batch from the host again and again."""
    from onnxtweak.engine.session import open_session

    session = open_session(subject.model.path, subject.model.folder, settings, subject.model.path)
    feeds, labels, _ = next(view.dataset.batches(view.rows, subject.batch or 64))
    times = []
    for _ in range(7):
        begin = time.perf_counter()
        session.run(feeds)
        times.append(time.perf_counter() - begin)
    return len(labels) / statistics.median(times)


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
    parser.add_argument("--part", choices=("all", "theta", "engine"), default="all")
    args = parser.parse_args()
    began = time.perf_counter()
    cupy.cuda.Device(args.gpu).use()
    describe(args.gpu)
    if args.part != "engine":
        print("ceilings")
        bandwidth, peak = ceilings()
        print("theta against the CPU")
        check_folds(args.quick)
        rate_folds(bandwidth, peak, args.quick)
    missing = [name for name in ("onnx", "onnxruntime", "onnx_graphsurgeon") if find_spec(name) is None]
    if missing and args.part != "theta":
        print(f"engine: left out, {', '.join(missing)} is not installed")
    elif args.part != "theta":
        print("engine")
        check_engine(args.gpu, args.quick)
    print(f"{time.perf_counter() - began:.0f} s; {len(failed)} checks failed {failed or ''}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
