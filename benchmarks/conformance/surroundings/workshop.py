"""On which files do the commands work, and what do they write when nobody disturbs them?

Everything is small: a convolutional net and an MLP with a weak class each, a few hundred samples as .npz,
CSV, Parquet, pictures and a function, and what onnxtweak makes of them. The commands are in `jobs`.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tempfile
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from benchmarks.conformance.surroundings.jobs import ENGINE, JOIN, WORK, Job
from benchmarks.conformance.surroundings.launch import Ended, Launcher, Surroundings
from tests.support.nets import cnn3, mlp
from tests.support.weak_class import TARGET, labelled, run, weakened

HIDDEN = ".onnxtweak-"  # begins the names of unfinished work
# What differs between two runs of a command: how long it took, and which passes an earlier one saved it.
_TIMES = {"seconds", "passes", "latency", "latency_increase", "a.latency_increase"}
_SPENT = re.compile(
    rb"^time [^\n]*|time=\"[\d.]+\""
    rb"|one sample, one CPU thread[^\n]*?</tr>|<dt>(seconds|passes)</dt>[^\n]*?</dd>"
    # The parameters and seconds of a method that is compared, before what became of the promises.
    rb"| {2,}\d+ {2,}\d+\.\d(?=$| {2,}(?:\d+/\d+/\d+|copy)$)"
    rb"|[-+][\d.]+ % \([\d,]+ \xc2\xb5s\)"  # latency
    rb"|\bin [\d.]+ (s|ms)\b|^- \*\*cached\*\*[^\n]*\n?",
    re.MULTILINE,
)


@dataclass
class Workshop:
    """All files that jobs read, in one folder, and a way to run jobs. results : of jobs left alone."""

    folder: Path
    launcher: Launcher
    program: tuple[str, ...] = ()
    results: dict[str, Result] = field(default_factory=dict)

    def result(self, job: Job) -> Result:
        """What a job writes when nobody disturbs it."""
        if job.name not in self.results:
            with tempfile.TemporaryDirectory() as made:
                job = job.named("o")
                bench = self.bench(job, Path(made))
                ended = self.launcher.run(job.given, bench.place, bench.around())
                if ended.code != 0:
                    raise RuntimeError(f"{job.name} ended with {ended.code}: {ended.err}")
                self.results[job.name] = Result(written(job, bench.place, ended), ended.seconds)
        return self.results[job.name]

    def bench(self, job: Job, folder: Path) -> Bench:
        """Put copies of what a job reads into a new place in a folder."""
        place = folder / "place"
        for each in (place, folder / "temporary", folder / "home"):
            each.mkdir()
        for name in job.reads:
            source = self.folder / name
            if source.is_dir():
                shutil.copytree(source, place / name)
            else:
                shutil.copy(source, place / name)
        return Bench(folder, self.program, job.workers)


@dataclass(frozen=True)
class Bench:
    """A case's own folder: `place`, where a job is done, `temporary` (TMPDIR) and `home`."""

    folder: Path
    program: tuple[str, ...] = ()
    workers: bool = False

    @property
    def place(self) -> Path:
        return self.folder / "place"

    def around(self, **changes: object) -> Surroundings:
        """Ordinary surroundings, with changes."""
        kept = {name: os.environ[name] for name in ("PATH", "NUMBA_CACHE_DIR", "LANG") if name in os.environ}
        environment = {
            **kept,
            "HOME": str(self.folder / "home"),
            "TMPDIR": str(self.folder / "temporary"),
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        around = Surroundings(environment, program=self.program, workers=self.workers)
        return replace(around, **changes)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Result:
    """What a job has written, by file, and `told` for stdout. seconds : it took."""

    files: dict[str, bytes]
    seconds: float


def written(job: Job, place: Path, ended: Ended | None = None) -> dict[str, bytes]:
    """The files of a job, without the times in them; and what it told on stdout, as `told`."""
    found = {}
    for name in job.writes:
        path = place / name
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.is_file() and not is_hidden(file.relative_to(place).as_posix()):
                data = sums_of(file) if file.name == "SHA256SUMS" else file.read_bytes()
                data = without_times(file.suffix, data)
                if file.suffix in (".html", ".json", ".md"):  # they name the model
                    data = re.sub(rb"\b%b(?=\.onnx|/a\.|\n)" % job.out.encode(), b"o", data)
                found[_as_if_o(job, file.relative_to(place).as_posix())] = data
    if ended is not None and job.told:
        found["told"] = without_times(".json" if "json" in job.given else ".txt", ended.out.encode())
    return found


def is_hidden(name: str) -> bool:
    """Whether a path is unfinished work, or inside it."""
    return any(part.startswith(HIDDEN) for part in name.split("/"))


def _as_if_o(job: Job, name: str) -> str:
    """The name that a file has where a job's name for what it writes is "o"."""
    return re.sub(rf"(^|/){job.out}(?=[./]|$)", r"\1o", name)


def without_times(kind: str, data: bytes) -> bytes:
    """Text without the times that something took."""
    if kind == ".json":
        try:
            return json.dumps(_untimed(json.loads(data))).encode()
        except ValueError:
            return data
    return data if kind in (".onnx", ".safetensors", ".npz", ".npy", ".bin") else _SPENT.sub(b"", data)


def sums_of(file: Path) -> bytes:
    """What SHA256SUMS says, with "right" for the digests that are."""
    lines = []
    for line in file.read_text().splitlines():
        digest, _, name = line.partition("  ")
        other = file.parent / name
        right = other.is_file() and hashlib.sha256(other.read_bytes()).hexdigest() == digest
        lines.append(f"{'right' if right else digest}  {name}")
    return "\n".join(lines).encode()


def _untimed(value: object) -> object:
    if isinstance(value, dict):
        return {name: _untimed(each) for name, each in value.items() if name not in _TIMES}
    return [_untimed(each) for each in value] if isinstance(value, list) else value


# ------------------------------------------------------------------------------------ the files


def furnish(folder: Path, launcher: Launcher) -> Workshop:
    """Make all files that jobs read."""
    _models(folder)
    shop = Workshop(folder, launcher)
    home = Bench(folder)
    (folder / "temporary").mkdir()

    def make(line: str) -> Ended:
        ended = launcher.run(line.split(), folder, home.around())
        if ended.code != 0:
            raise RuntimeError(f"{line} ended with {ended.code}: {ended.err}")
        return ended

    told = make(f"join model.onnx {JOIN} -o tweaked.onnx --tweak tweak.safetensors {WORK}").out
    (folder / "result.json").write_text(told)
    make("run recipe.toml -o build")
    make(f"score model.onnx -d data.npz -t {TARGET} -n 5 {ENGINE} -o scores.npz")
    make(f"dump model.onnx -d data.npz -o tables {ENGINE}")
    return shop


def _models(folder: Path) -> None:
    net, lacks = weakened(cnn3(4, 8, (4, 4, 8)))
    (folder / "model.onnx").write_bytes(net.SerializeToString())
    x, y = labelled(net, lacks, 200)
    np.savez(folder / "data.npz", x=x, y=y)
    _pictures(folder, net, lacks)
    (folder / "names.txt").write_text("ant\nbee\ncat\ndog\n")
    (folder / "made.py").write_text(
        "import numpy as np\n\n\ndef samples():\n    data = np.load('data.npz')\n"
        "    yield data['x'], data['y']\n"
    )
    (folder / "recipe.toml").write_text(
        '[model]\npath = "model.onnx"\n[data]\ndata = "data.npz"\nnames = "names.txt"\n'
        f'[[tweak]]\nname = "a"\ntarget = {TARGET}\ncount = [1, 10]\n'
    )
    (folder / "new").mkdir()
    _tables(folder)


def _tables(folder: Path) -> None:
    from tests.model.test_model_file import with_external_data

    net, lacks = weakened(mlp(hidden=(12, 8)))
    (folder / "mlp.onnx").write_bytes(net.SerializeToString())
    x, y = labelled(net, lacks, 300)
    np.savez(folder / "table.npz", x=x, y=y)
    (folder / "shards").mkdir()
    for k in range(2):
        np.savez(folder / "shards" / f"{k}.npz", x=x[k::2], y=y[k::2])
    names = ",".join(f"f{k}" for k in range(x.shape[1]))
    rows = "".join(f"{','.join(map(str, row))},{label}\n" for row, label in zip(x, y, strict=True))
    (folder / "table.csv").write_text(f"{names},label\n{rows}")
    if find_spec("pyarrow"):
        import pyarrow
        import pyarrow.parquet

        columns = {f"f{k}": x[:, k] for k in range(x.shape[1])}
        pyarrow.parquet.write_table(pyarrow.table({**columns, "label": y}), folder / "table.parquet")
    (folder / "external").mkdir()
    with_external_data(folder / "external", ("weights.bin", "deep/more.bin"), "model.onnx")


def _pictures(folder: Path, net: object, lacks: np.ndarray) -> None:
    from PIL import Image

    pictures = np.random.default_rng(3).integers(0, 256, (24, 8, 8, 3), np.uint8)
    shown = run(net, (pictures.transpose(0, 3, 1, 2) / 64 - 2).astype(np.float32)) + lacks  # type: ignore[arg-type]
    rows = ["path,label"]
    for k in range(4):
        (folder / "pictures" / str(k)).mkdir(parents=True)
    for k, (picture, label) in enumerate(zip(pictures, shown.argmax(axis=1), strict=True)):
        Image.fromarray(picture).save(folder / "pictures" / str(label) / f"{k}.png")
        rows.append(f"pictures/{label}/{k}.png,{label}")
    (folder / "list.csv").write_text("\n".join(rows) + "\n")
