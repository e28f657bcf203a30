"""Do two checkouts write the same files, and say the same numbers about them?

    python benchmarks/conformance/same_files.py --against REVISION [--shared DIR] [--only NAME]
        [--record FILE.json]

Runs every command that writes something, from the checkout of REVISION and from this one, over the demo's
models, a small letter reader made on the spot and, where `--shared` is given, a CIFAR-10 network. Compares
each file by its sha256 and each JSON result by its numbers. Not compared: seconds and latencies, which are
measured; sentences (notes, details of checks), which are for reading; pages, which hold both.
Ends with exit code 1 where anything differs. Digests depend on the machine, so both sides run here.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

ROOT = Path(__file__).resolve().parents[2]
CIFAR = "--pixel-scale 1/255 --mean .4914,.4822,.4465 --std .2470,.2435,.2616"
CIFAR_TABLE = """
pixel-scale = "1/255"
mean = [0.4914, 0.4822, 0.4465]
std = [0.2470, 0.2435, 0.2616]
"""
MEASURED = {"seconds", "latency", "files"}  # `files`: digests of pages and results, which hold the others
SENTENCES = {"notes", "detail", "note"}
MODELS_AND_TABLES = (".onnx", ".safetensors", ".onnx_adapter", ".npz", ".npy")

# Placeholders: {m} model, {s} samples to learn from, {e} samples to test on, {t} a target, {p} preprocessing.
LEARN = "{m} -d {s} --test {e} {p}"
JOBS = {
    "inspect": "inspect {m}",
    "evaluate": "evaluate {m} -d {e} {p}",
    "join": f"join {LEARN} -t {{t}} -o join.onnx --tweak join.safetensors",
    "join-worst": f"join {LEARN} --worst 2 --exact-scale --max-class-drop 5 -o worst.onnx",
    "join-net-gain": f"join {LEARN} -t {{t}} --criterion net-gain -n 10 -o gain.onnx",
    "join-pooled": f"join {LEARN} -t {{t}} --pool mean --theta thesis -o pooled.onnx",
    "retrain": f"retrain {LEARN} -t {{t}} -n 10,40 -o retrain.onnx --tweak retrain.safetensors",
    "retrain-schedule": f'retrain {LEARN} --schedule "J4 R4 J2 R2" -n 10 -o schedule.onnx',
    "augment": f"augment {LEARN} --neurons 60 --hidden 16 -o augment.onnx --tweak augment.safetensors",
    "fit": f"fit {LEARN} -t {{t}} --neurons 300 --hidden 16 -o fit.onnx --tweak fit.safetensors",
    "fit-all": f"fit {LEARN} --hidden 0 --neurons 200 -o all.onnx",
    "fit-budget": f"fit {LEARN} -t {{t}} --budget 60 --neurons 200 -o budget.onnx --tweak budget.safetensors",
    "fit-certified": f"fit {LEARN} -t {{t}} --certify .05 --hidden 0 --neurons 200 -o certified.onnx",
    "compare": f"compare {LEARN} -t {{t}} -n 1,10 --neurons 200 --hidden 8 --write cRT -o compare.onnx",
    "apply": "apply {m} join.safetensors -o apply.onnx --scale 0.5",
    "slot": "apply {m} join.safetensors budget.safetensors -o slot.onnx --slot",
    "shadow": "apply {m} fit.safetensors -o shadow.onnx --shadow",
    "stacked": "join join.onnx -d {s} --test {e} {p} --worst 1 -n 3 -o stacked.onnx",
    "revert": "revert stacked.onnx -o reverted.onnx --all",
    "diff": "diff {m} fit.onnx",
    "verify": "verify fit.onnx -d {e} {p}",
    "dump": "dump {m} -d {e} {p} --taps penultimate -o dump",
    "score": "score {m} -d {s} {p} -t {t} -o score.npz",
    "score-dump": "score {m} -d dump -t {t} -o score-dump.npz",
    "dry-run": f"fit {LEARN} -t {{t}} -o never.onnx --dry-run",
    "run": "run tweak.toml",
}
# Beside each other they take too long on the largest model; what they do there is in other jobs.
LARGE_LEAVES_OUT = {"compare", "join-pooled", "fit-all", "fit-certified", "retrain-schedule", "score-dump"}

RECIPE = """
[model]
path = "{m}"
[data]
data = ["{s}"]
test = ["{e}"]
[preprocess]
{preprocess}
[gates]
max-overall-drop = 5
[[tweak]]
name = "a"
target = ["{t}"]
count = [1, 10]
[[tweak]]
name = "b"
method = "fit"
worst = 2
hidden = 0
neurons = 100
"""


def letter_reader(folder: Path, samples: Path | None) -> tuple[Path, Path]:
    """A model with one random hidden layer and least squares behind it, and its samples (fit, test)."""
    rng = np.random.default_rng(0)
    if samples is not None and samples.is_file():
        with np.load(samples) as held:
            x, y = held["x_train"].astype(np.float32), held["y_train"].astype(np.int64)
            xe, ye = held["x_test"].astype(np.float32), held["y_test"].astype(np.int64)
        if not np.issubdtype(y.dtype, np.integer):
            raise SystemExit("letter.npz: labels are not integers")
        x, y, xe, ye = x[:6000], y[:6000], xe[:2000], ye[:2000]
    else:
        centres = rng.standard_normal((12, 16)).astype(np.float32)
        y, ye = rng.integers(0, 12, 3000), rng.integers(0, 12, 1000)
        x, xe = (centres[v] + rng.standard_normal((len(v), 16)).astype(np.float32) for v in (y, ye))
    classes, hidden = int(max(y.max(), ye.max())) + 1, 64
    mean, deviation = x.mean(axis=0), x.std(axis=0) + 1e-6
    w1 = (rng.standard_normal((x.shape[1], hidden)) / 4 / deviation[:, None]).astype(np.float32)
    b1 = (-mean @ w1).astype(np.float32)
    held = np.maximum(x @ w1 + b1, 0)
    few = np.isin(y, [3]) & (rng.random(len(y)) < 0.8)  # one class is seen little: it is the weak one
    once = np.linalg.lstsq(held[~few], np.eye(classes, dtype=np.float32)[y[~few]] * 6, rcond=1e-4)[0]
    weights = [("w1", w1), ("b1", b1), ("w2", once.astype(np.float32))]
    graph = helper.make_graph(
        [
            helper.make_node("Gemm", ["x", "w1", "b1"], ["h"]),
            helper.make_node("Relu", ["h"], ["a"]),
            helper.make_node("MatMul", ["a", "w2"], ["logits"]),
            helper.make_node("Softmax", ["logits"], ["p"], axis=1),
        ],
        "letters",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", x.shape[1]])],
        [helper.make_tensor_value_info("p", TensorProto.FLOAT, ["n", classes])],
        [numpy_helper.from_array(value, name) for name, value in weights],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, folder / "letters.onnx")
    np.savez(folder / "letters.npz", fit_x=x, fit_y=y, test_x=xe, test_y=ye)
    return folder / "letters.onnx", folder / "letters.npz"


def subjects(folder: Path, shared: Path | None) -> dict[str, dict[str, str]]:
    """What the jobs are run on: the words that fill their placeholders."""
    digits = {"s": "digits.npz#fit", "e": "digits.npz#test", "p": "", "preprocess": ""}
    for name in ("digits_cnn3.onnx", "digits_resnet20.onnx", "digits.npz"):
        shutil.copyfile(ROOT / "models" / name, folder / name)
    letters = None if shared is None else shared / "data" / "letter.npz"
    letter_reader(folder, letters)
    made = {
        "digits_cnn3": digits | {"m": "digits_cnn3.onnx", "t": "8"},
        "digits_resnet20": digits | {"m": "digits_resnet20.onnx", "t": "8"},
        "letters": digits | {"m": "letters.onnx", "s": "letters.npz#fit", "e": "letters.npz#test", "t": "3"},
    }
    if shared is not None:
        shutil.copyfile(shared / "models" / "cnn3_cifar10.onnx", folder / "cnn3_cifar10.onnx")
        os.symlink((shared / "data" / "cifar10.npz").resolve(), folder / "cifar10.npz")
        made["cnn3_cifar10"] = {
            "m": "cnn3_cifar10.onnx",
            "s": "cifar10.npz#test[:3000]",
            "e": "cifar10.npz#test[7000:]",
            "t": "3",
            "p": CIFAR,
            "preprocess": CIFAR_TABLE,
        }
    return made


def numbers(value: Any) -> Any:
    """A JSON result without what is measured and without sentences."""
    if isinstance(value, dict):
        kept = {k: v for k, v in value.items() if k not in MEASURED | SENTENCES}
        if isinstance(kept.get("logits"), list):  # of `inspect`: name, rule, and a sentence
            kept["logits"] = kept["logits"][:2]
        return {k: numbers(v) for k, v in kept.items()}
    if isinstance(value, list):
        return [numbers(item) for item in value]
    return value


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def files_of(folder: Path, inputs: set[str]) -> dict[str, str]:
    """sha256 of every file that is not an input; of JSON the numbers, of other text nothing."""
    found = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        name = path.relative_to(folder).as_posix()
        if name in inputs or ".onnxtweak/" in name:
            continue
        if path.suffix == ".json" and path.name not in ("metrics.json", "provenance.json"):
            found[name] = digest(json.dumps(numbers(json.loads(path.read_text())), sort_keys=True).encode())
        elif path.suffix in MODELS_AND_TABLES:
            found[name] = digest(path.read_bytes())
    return found


def carried_out(checkout: Path, folder: Path, words: dict[str, str], left_out: set[str]) -> dict[str, str]:
    """Digests of all that the jobs write and say, by job and file."""
    inputs = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    (folder / "tweak.toml").write_text(RECIPE.format(**words))
    inputs.add("tweak.toml")
    environment = os.environ | {"PYTHONPATH": str(checkout), "PYTHONSAFEPATH": "1"}
    found: dict[str, str] = {}
    for job, line in JOBS.items():
        if job in left_out:
            continue
        arguments = [*shlex.split(line.format(**words)), "-f", "json", "-q"]
        ran = subprocess.run(
            [sys.executable, "-m", "onnxtweak", *arguments],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
        )
        found[f"{job}: exit"] = str(ran.returncode)
        if ran.returncode not in (0, 1):
            found[f"{job}: exit"] += f" {ran.stderr.strip()[-400:]}"
        if ran.stdout.startswith("{"):
            found[f"{job}: json"] = digest(
                json.dumps(numbers(json.loads(ran.stdout)), sort_keys=True).encode()
            )
        print(f"  {job}: exit {ran.returncode}", file=sys.stderr, flush=True)
    return found | files_of(folder, inputs)


def all_digests(checkout: Path, shared: Path | None, only: list[str]) -> dict[str, dict[str, str]]:
    made = {}
    with tempfile.TemporaryDirectory() as scratch:
        names = list(subjects(_fresh(Path(scratch) / "names"), shared))
        for name in names:
            if only and name not in only:
                continue
            print(f"{checkout}: {name}", file=sys.stderr, flush=True)
            folder = _fresh(Path(scratch) / name)
            words = subjects(folder, shared)[name]
            made[name] = carried_out(
                checkout, folder, words, LARGE_LEAVES_OUT if name == "cnn3_cifar10" else set()
            )
    return made


def _fresh(folder: Path) -> Path:
    folder.mkdir()
    return folder


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--against", metavar="REVISION", help="git revision to compare with")
    parser.add_argument("--shared", type=Path, help="folder with data/letter.npz, models/cnn3_cifar10.onnx")
    parser.add_argument("--only", action="append", default=[], help="only this subject; repeatable")
    parser.add_argument("--record", type=Path, help="write the other revision's digests here, or read them")
    asked = parser.parse_args()
    if asked.record is not None and asked.record.is_file():
        before = json.loads(asked.record.read_text())
    elif asked.against is not None:
        with tempfile.TemporaryDirectory() as scratch:
            tree = Path(scratch) / "tree"
            subprocess.run(["git", "worktree", "add", "--detach", tree, asked.against], cwd=ROOT, check=True)
            try:
                before = all_digests(tree, asked.shared, asked.only)
            finally:
                subprocess.run(["git", "worktree", "remove", "--force", tree], cwd=ROOT, check=True)
        if asked.record is not None:
            asked.record.write_text(json.dumps(before, indent=2))
    else:
        parser.error("give --against REVISION, or --record FILE that an earlier run wrote")
    after = all_digests(ROOT, asked.shared, asked.only)
    if asked.only:
        before = {name: digests for name, digests in before.items() if name in asked.only}
    compared, different = 0, []
    for name in sorted(before.keys() | after.keys()):
        old, new = before.get(name, {}), after.get(name, {})
        for key in sorted(old.keys() | new.keys()):
            compared += 1
            if old.get(key) != new.get(key):
                different.append(f"{name}: {key}: {old.get(key)} -> {new.get(key)}")
    print(f"{compared} digests over {len(after)} models, {len(different)} different")
    print("\n".join(different))
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
