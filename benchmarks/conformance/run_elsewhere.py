"""Files in one other runtime, in a process of its own: what `runtimes.py` starts. Needs NumPy alone.

    PYTHON benchmarks/conformance/run_elsewhere.py RUNTIME SAMPLES.npy INPUT [MODEL.onnx OUTPUT FOUND.npy ...]

PYTHON has the runtime; samples go in ten at a time, or one by one where a converter fixes the batch. For each
file a line of JSON says the runtime's version, and why it failed if it did.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import numpy as np

_AT_ONCE = 10
_MARK = "FOUND "
Run = Callable[[str, np.ndarray, str, str], np.ndarray]


def in_batches(x: np.ndarray, run: Callable[[np.ndarray], np.ndarray], size: int = _AT_ONCE) -> np.ndarray:
    return np.concatenate([np.array(run(x[at : at + size])) for at in range(0, len(x), size)])


def onnxruntime(model: str, x: np.ndarray, name: str, output: str) -> np.ndarray:
    import onnxruntime as ort

    session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
    return in_batches(x, lambda part: session.run([output], {name: part})[0])


def onnx(model: str, x: np.ndarray, name: str, output: str) -> np.ndarray:
    from onnx.reference import ReferenceEvaluator

    evaluator = ReferenceEvaluator(model)
    return in_batches(x, lambda part: evaluator.run([output], {name: part})[0])


def openvino(model: str, x: np.ndarray, name: str, output: str) -> np.ndarray:
    import openvino as ov

    core = ov.Core()
    compiled = core.compile_model(core.read_model(model), "CPU")
    place = compiled.output(output)
    return in_batches(x, lambda part: compiled({name: part})[place])


def opencv(model: str, x: np.ndarray, name: str, output: str) -> np.ndarray:
    import cv2

    net = cv2.dnn.readNetFromONNX(model)

    def run(part: np.ndarray) -> np.ndarray:
        net.setInput(part, name)
        return np.array(net.forward(output))

    return in_batches(x, run)


def mnn(model: str, x: np.ndarray, name: str, output: str) -> np.ndarray:
    # Never MNN.tools: on import it installs a package for its telemetry.
    import _tools
    import MNN

    made = model + ".mnn"
    _tools.mnnconvert(
        ["mnnconvert", "-f", "ONNX", "--modelFile", model, "--MNNModel", made, "--bizCode", "x"]
    )
    module = MNN.nn.load_module_from_file(made, [name], [output])

    def run(part: np.ndarray) -> np.ndarray:
        given = MNN.expr.const(part, list(part.shape), MNN.expr.NCHW)
        return np.array(MNN.expr.convert(module.forward([given])[0], MNN.expr.NCHW).read())

    return in_batches(x, run)


def ncnn(model: str, x: np.ndarray, name: str, output: str) -> np.ndarray:
    import ncnn as runtime
    import pnnx

    shape = ",".join(map(str, (1, *x.shape[1:])))
    subprocess.run(
        [pnnx.EXEC_PATH, model, f"inputshape=[{shape}]", "fp16=0"],
        check=True,
        capture_output=True,
        cwd=Path(model).parent,
    )
    stem = model.removesuffix(".onnx")
    net = runtime.Net()
    net.opt.use_fp16_packed = net.opt.use_fp16_storage = net.opt.use_fp16_arithmetic = False
    net.opt.use_bf16_storage = False
    net.load_param(stem + ".ncnn.param")
    net.load_model(stem + ".ncnn.bin")
    # pnnx numbers the outputs in the model's order.
    out = f"out{_outputs(model).index(output)}"

    def run(part: np.ndarray) -> np.ndarray:
        extractor = net.create_extractor()
        extractor.input("in0", runtime.Mat(part[0]).clone())
        code, found = extractor.extract(out)
        if code:
            raise RuntimeError(f"ncnn gives no {out}: code {code}")
        return np.array(found).reshape(1, -1)

    return in_batches(x, run, 1)


def _outputs(model: str) -> list[str]:
    import onnx as standard

    return [value.name for value in standard.load(model).graph.output]


def onnx2torch(model: str, x: np.ndarray, name: str, output: str) -> np.ndarray:
    import onnx2torch as converter
    import torch

    net = converter.convert(model).eval()
    place = _outputs(model).index(output)

    def run(part: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            found = net(torch.from_numpy(part))
        return (found if isinstance(found, torch.Tensor) else found[place]).numpy()

    return in_batches(x, run)


_SCRIPT = """
const ort = require('onnxruntime-web'), fs = require('fs');
const [model, input, name, output, found, rows, ...shape] = process.argv.slice(2);
(async () => {
  ort.env.wasm.numThreads = 1;
  const session = await ort.InferenceSession.create(new Uint8Array(fs.readFileSync(model)));
  const bytes = fs.readFileSync(input), size = shape.reduce((a, b) => a * b, 1), parts = [];
  const values = new Float32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4);
  for (let at = 0; at < rows; at += 10) {
    const count = Math.min(10, rows - at), part = values.slice(at * size, (at + count) * size);
    const fed = {[name]: new ort.Tensor('float32', part, [count, ...shape.map(Number)])};
    parts.push(Buffer.from(new Uint8Array((await session.run(fed, [output]))[output].data.buffer.slice(0))));
  }
  fs.writeFileSync(found, Buffer.concat(parts));
  console.log(ort.env.versions.web || ort.env.versions.common);
})().catch(error => { console.error(String(error)); process.exit(1); });
"""


def web(model: str, x: np.ndarray, name: str, output: str) -> np.ndarray:
    """ONNX Runtime's build for browsers, in Node. NODE_MODULES: the folder that npm installed it into."""
    script, given, found = (f"{model}.{end}" for end in ("cjs", "in", "out"))
    Path(script).write_text(_SCRIPT, encoding="utf-8")
    Path(given).write_bytes(x.astype(np.float32).tobytes())
    words = [model, given, name, output, found, str(len(x)), *map(str, x.shape[1:])]
    ran = subprocess.run(
        ["node", script, *words],
        capture_output=True,
        text=True,
        env={**os.environ, "NODE_PATH": os.environ.get("NODE_MODULES", "")},
    )
    if ran.returncode:
        raise RuntimeError((ran.stderr.strip().splitlines() or ["no message"])[-1])
    web.version = ran.stdout.split()[-1]  # type: ignore[attr-defined]
    return np.frombuffer(Path(found).read_bytes(), np.float32).reshape(len(x), -1)


RUNTIMES: dict[str, tuple[Run, str]] = {
    "onnxruntime": (onnxruntime, "onnxruntime"),
    "onnx": (onnx, "onnx"),
    "openvino": (openvino, "openvino"),
    "opencv": (opencv, "opencv-python-headless"),
    "mnn": (mnn, "MNN"),
    "ncnn": (ncnn, "ncnn"),
    "onnx2torch": (onnx2torch, "onnx2torch"),
    "web": (web, ""),
}


def main() -> None:
    runtime, samples, name, *files = sys.argv[1:]
    x = np.load(samples)
    for model, output, place in zip(files[::3], files[1::3], files[2::3], strict=True):
        told = {"model": model, "version": "", "failed": ""}
        try:
            run, package = RUNTIMES[runtime]
            told["version"] = version(package) if package else ""
            with tempfile.TemporaryDirectory() as folder:
                copy = Path(folder) / "model.onnx"
                copy.write_bytes(Path(model).read_bytes())
                values = run(str(copy), x, name, output)
            told["version"] = told["version"] or getattr(run, "version", "")
            np.save(place, values)
        except Exception as error:  # a runtime may refuse a file in any way, and that is the answer
            told["failed"] = re.sub(r"\s+", " ", f"{type(error).__name__}: {error}").strip()[:300]
        sys.stdout.write("\n" + _MARK + json.dumps(told) + "\n")
        sys.stdout.flush()
    os._exit(0)  # some runtimes crash while they are taken down


if __name__ == "__main__":
    main()
