"""How does Google's magika classify the files of this machine, and where is it weak?

Takes files whose name gives their type away, turns them into magika's input, and writes

    OUT.npz    x_fit, y_fit, x_test, y_test (int32 [N, 2048] and int64 [N]) and the class names
    OUT.onnx   magika's own model, as it lies in its wheel

then prints, for each class, how many of the files the model gets right. The package is not imported, unless
--prove asks magika itself about the same files and compares.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import json
import sys
import sysconfig
import tempfile
import zipfile
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import labelled_files
import numpy as np
import onnxruntime

MODEL = "magika/models/standard_v3_3"


@dataclass(frozen=True)
class Config:
    """What magika's config.min.json says about its input (lengths in bytes) and its output."""

    begin: int
    end: int
    block: int
    padding: int
    least: int
    classes: tuple[str, ...]


def read_package(root: Path) -> tuple[bytes, Config]:
    """The model file and its configuration from a wheel, or from the folder that holds `magika/`."""
    try:
        parts = zipfile.Path(root) if root.is_file() else root
        model = (parts / MODEL / "model.onnx").read_bytes()
        stored = json.loads((parts / MODEL / "config.min.json").read_text(encoding="utf-8"))
    except (OSError, KeyError, zipfile.BadZipFile) as problem:
        sys.exit(
            f"error: no {MODEL} ({root}: {problem})\nhint: give the wheel, or the folder it was unpacked to"
        )
    if stored["mid_size"] or stored["use_inputs_at_offsets"]:
        sys.exit("error: this magika wants more than the first and the last bytes of a file")
    config = Config(
        begin=stored["beg_size"],
        end=stored["end_size"],
        block=stored["block_size"],
        padding=stored["padding_token"],
        least=stored["min_file_size_for_dl"],
        classes=tuple(stored["target_labels_space"]),
    )
    return model, config


def installed_package() -> Path:
    """The folder that holds an installed `magika/`, found without importing it."""
    spec = importlib.util.find_spec("magika")
    if spec is None or spec.origin is None:
        sys.exit("error: magika is not installed\nhint: pip download --no-deps magika, then --package WHEEL")
    return Path(spec.origin).parents[1]


def tokens(content: bytes, config: Config) -> np.ndarray | None:
    """The model's input (2048,) int32 for one file; None for a file too short for the model.

    The first and the last bytes, white space at the file's own ends stripped, each padded towards the middle.
    """
    head = content[: config.block].lstrip()[: config.begin]
    tail = content[-config.block :].rstrip()[-config.end :]
    if len(head) < config.least:
        return None
    row = np.full(config.begin + config.end, config.padding, np.int32)
    row[: len(head)] = np.frombuffer(head, np.uint8)
    row[len(row) - len(tail) :] = np.frombuffer(tail, np.uint8)
    return row


def read_ends(path: Path, block: int) -> bytes:
    """A file's content, the middle of a large one left out: nothing but its ends is looked at."""
    with path.open("rb") as file:
        head = file.read(2 * block)
        if len(head) < 2 * block:
            return head
        file.seek(-block, 2)
        return head[:block] + file.read(block)


def collect(folders: list[Path], config: Config, cap: int, least: int, small: int, seed: int):
    """Up to `cap` files of each label, no two alike to the model: {label: {path: tokens}}."""
    seen: set[bytes] = set()
    found: dict[str, dict[Path, np.ndarray]] = defaultdict(dict)
    for path in labelled_files.candidates(folders, seed):
        if path.suffix != ".h" and len(found[labelled_files.label(path)]) >= cap:
            continue
        try:
            content = read_ends(path, config.block)
        except OSError:
            continue
        label, row = labelled_files.label(path, content), tokens(content, config)
        if len(content) < small or row is None or label not in config.classes or len(found[label]) >= cap:
            continue
        digest = hashlib.sha256(row).digest()
        if digest not in seen:
            seen.add(digest)
            found[label][path] = row
    return {label: rows for label, rows in sorted(found.items()) if len(rows) >= least}


def divide(
    found: dict[str, dict], config: Config, seed: int
) -> tuple[dict[str, np.ndarray], list[Path], set]:
    """The arrays of the .npz, the test files' paths, and the labels whose folders had to be torn apart."""
    sides = {"fit": ([], []), "test": ([], [])}
    test_paths, torn = [], set()
    for label, rows in found.items():
        paths = sorted(rows)
        fit, whole = labelled_files.divide(paths, seed)
        if not whole:
            torn.add(label)
        for position, path in enumerate(paths):
            side = "fit" if position in set(fit) else "test"
            sides[side][0].append(rows[path])
            sides[side][1].append(config.classes.index(label))
            if side == "test":
                test_paths.append(path)
    arrays = {"classes": np.array(config.classes)}
    for side, (x, y) in sides.items():
        arrays[f"x_{side}"], arrays[f"y_{side}"] = np.stack(x), np.array(y, np.int64)
    return arrays, test_paths, torn


def predict(model: bytes, x: np.ndarray) -> np.ndarray:
    """Probabilities (N, C) float32, the files one after another in small batches."""
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    return np.concatenate([session.run(None, {"bytes": x[i : i + 32]})[0] for i in range(0, len(x), 32)])


def prove(package: Path, paths: list[Path], probabilities: np.ndarray, config: Config) -> None:
    """Ask magika itself about the same files; its label and score must be ours."""
    with tempfile.TemporaryDirectory() as unpacked:
        if package.is_file():
            zipfile.ZipFile(package).extractall(unpacked)
        sys.path.insert(0, unpacked if package.is_file() else str(package))
        from magika import Magika

        answers = Magika().identify_paths(paths)
    ours = [config.classes[best] for best in probabilities.argmax(axis=1)]
    agreeing = sum(answer.prediction.dl.label == label for answer, label in zip(answers, ours, strict=True))
    scores = np.array([answer.prediction.score for answer in answers])
    print(
        f"magika itself gives the same label for {agreeing} of {len(paths)} test files; "
        f"largest difference of a score {np.abs(scores - probabilities.max(axis=1)).max():.1e}"
    )
    if agreeing < len(paths):
        sys.exit("error: the features are not magika's")


def report(arrays: dict, right: dict[str, np.ndarray], predicted: np.ndarray, torn: set) -> None:
    """A table: files and accuracy per class and side, and what the errors on test are taken for."""
    classes, y_test = arrays["classes"], arrays["y_test"]
    print(f"{'class':16}{'fit':>6}{'right':>8}{'test':>6}{'right':>8}  mostly taken for")
    for number in np.unique(y_test):
        fit, test = arrays["y_fit"] == number, y_test == number
        wrong = predicted[test & ~right["test"]]
        names, counts = np.unique(classes[wrong], return_counts=True)
        taken = ", ".join(f"{names[i]} {counts[i]}" for i in np.argsort(-counts, kind="stable")[:3])
        name = classes[number] + ("*" if classes[number] in torn else "")
        print(
            f"{name:16}{fit.sum():6}{right['fit'][fit].mean():8.3f}"
            f"{test.sum():6}{right['test'][test].mean():8.3f}  {taken}"
        )
    print(
        f"{'all':16}{len(arrays['y_fit']):6}{right['fit'].mean():8.3f}"
        f"{len(y_test):6}{right['test'].mean():8.3f}"
    )
    print("* too few folders: fit and test share folders")


def main() -> None:
    python = [Path(sysconfig.get_path("stdlib")), Path(sysconfig.get_path("purelib"))]
    system = [Path(place) for place in ("/usr/include", "/usr/share", "/usr/lib", "/etc")]
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "folders", nargs="*", type=Path, default=python + system, help="where to look for files"
    )
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="OUT.npz")
    parser.add_argument("--package", type=Path, help="magika's wheel, or a folder with magika/ in it")
    parser.add_argument("--cap", type=int, default=400, help="files per class at most (default 400)")
    parser.add_argument("--least", type=int, default=20, help="files per class at least (default 20)")
    parser.add_argument("--small", type=int, default=64, help="skip files under so many bytes (default 64)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--prove", action="store_true", help="compare with magika's own answers (imports it)")
    options = parser.parse_args()

    package = options.package or installed_package()
    model, config = read_package(package)
    found = collect(options.folders, config, options.cap, options.least, options.small, options.seed)
    if not found:
        sys.exit("error: no class has enough files\nhint: name more folders, or lower --least")
    arrays, test_paths, torn = divide(found, config, options.seed)
    np.savez_compressed(options.output, **arrays)
    options.output.with_suffix(".onnx").write_bytes(model)

    probabilities = {side: predict(model, arrays[f"x_{side}"]) for side in ("fit", "test")}
    right = {side: p.argmax(axis=1) == arrays[f"y_{side}"] for side, p in probabilities.items()}
    report(arrays, right, probabilities["test"].argmax(axis=1), torn)
    if options.prove:
        prove(package, test_paths, probabilities["test"], config)


if __name__ == "__main__":
    main()
