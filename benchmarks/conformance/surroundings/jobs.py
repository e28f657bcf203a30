"""Which commands are tried? Each is right: with exit code 0 it writes the same bytes each time.

Their files are in `workshop`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec

from tests.support.weak_class import TARGET

MEMORY = 256 << 20  # bytes: `--memory` of every command that has it


@dataclass(frozen=True)
class Job:
    """A command. {out} in what is asked and made stands for a name: out.

    reads : files and folders of the workshop. makes : all that it delivers. keeps : files and folders that
    may be there afterwards, and more each time (caches). told : its stdout is a result. workers : it starts
    processes. alone : under another name it would write one of the same files.
    """

    name: str
    asked: tuple[str, ...]
    reads: tuple[str, ...]
    makes: tuple[str, ...] = ()
    keeps: tuple[str, ...] = ()
    told: bool = True
    workers: bool = False
    alone: bool = False
    out: str = "o"

    def named(self, out: str) -> Job:
        """The job with another name for what it writes."""
        return replace(self, out=out)

    @property
    def given(self) -> tuple[str, ...]:
        """The command line."""
        return tuple(each.replace("{out}", self.out) for each in self.asked)

    @property
    def writes(self) -> tuple[str, ...]:
        """Files and folders that it delivers."""
        return tuple(each.replace("{out}", self.out) for each in self.makes)


_THREADS = "--threads 1"
_SCALED = "--pixel-scale 1/64 --mean 2"
ENGINE = f"{_THREADS} --memory 256MiB"
JOIN = f"-d data.npz -t {TARGET} -n 5 {ENGINE} -f json"
_ALL = "-o {out}.onnx --tweak {out}.safetensors --report {out}.html"
_MADE = ("{out}.onnx", "{out}.safetensors", "{out}.html")
WORK = "--work-dir work --resume"
_DATA = ("model.onnx", "data.npz")
_MLP = ("mlp.onnx",)


def _job(name: str, line: str, reads: Sequence[str], writes: Sequence[str] = (), **more: object) -> Job:
    return Job(name, tuple(line.split()), tuple(reads), tuple(writes), **more)  # type: ignore[arg-type]


JOBS = (
    _job("inspect", "inspect model.onnx -d data.npz -f json", _DATA),
    _job("inspect a tweaked model", "inspect tweaked.onnx", ["tweaked.onnx"]),
    _job(
        "evaluate",
        f"evaluate model.onnx -d data.npz --names names.txt {ENGINE} -f json",
        [*_DATA, "names.txt"],
    ),
    _job(
        "evaluate pictures",
        f"evaluate model.onnx -d pictures {_SCALED} {ENGINE} -f json",
        ["model.onnx", "pictures"],
    ),
    _job(
        "evaluate a list of pictures",
        f"evaluate model.onnx -d list.csv {_SCALED} {ENGINE} -f json",
        ["model.onnx", "pictures", "list.csv"],
    ),
    _job("evaluate a CSV", f"evaluate mlp.onnx -d table.csv {ENGINE} -f json", [*_MLP, "table.csv"]),
    _job(
        "evaluate a function",
        f"evaluate model.onnx -d made.py:samples {ENGINE} -f json",
        [*_DATA, "made.py"],
    ),
    _job("evaluate shards", f"evaluate mlp.onnx -d shards {ENGINE} -f json", [*_MLP, "shards"]),
    _job("join", f"join model.onnx {JOIN} {_ALL}", _DATA, _MADE),
    _job(
        "join with a work directory", f"join model.onnx {JOIN} {_ALL} {WORK}", _DATA, _MADE, keeps=("work",)
    ),
    _job(
        "join from a work directory",
        f"join model.onnx {JOIN} {_ALL} {WORK}",
        [*_DATA, "work"],
        _MADE,
        keeps=("work",),
    ),
    _job(
        "join a CSV",
        f"join mlp.onnx -d table.csv -t {TARGET} {ENGINE} -o {{out}}.onnx -q",
        [*_MLP, "table.csv"],
        ["{out}.onnx"],
    ),
    _job(
        "join into a folder",
        f"join external/model.onnx -d table.npz --anyway -t 1 -n 2 {ENGINE} -o new/{{out}}.onnx -q",
        ["external", "table.npz", "new"],
        ["new/{out}.onnx", "new/weights.bin", "new/deep/more.bin"],
        keeps=("new/deep",),
        told=False,
    ),
    _job(
        "retrain",
        f"retrain mlp.onnx -d table.npz -t {TARGET} -n 4 {ENGINE} {_ALL} -f json",
        [*_MLP, "table.npz"],
        _MADE,
    ),
    _job(
        "retrain with a work directory",
        f"retrain mlp.onnx -d table.npz -t {TARGET} {ENGINE} {_ALL} {WORK} -q",
        [*_MLP, "table.npz"],
        _MADE,
        keeps=("work",),
    ),
    _job(
        "augment",
        f"augment mlp.onnx -d table.npz --neurons 8 --hidden 6 --iterations 60 {ENGINE} {_ALL} -q",
        [*_MLP, "table.npz"],
        _MADE,
    ),
    _job(
        "fit",
        f"fit mlp.onnx -d table.npz -t {TARGET} --hidden 0 {ENGINE} {_ALL} -f json",
        [*_MLP, "table.npz"],
        _MADE,
    ),
    _job(
        "fit with a work directory",
        f"fit mlp.onnx -d table.npz --hidden 0 {ENGINE} {_ALL} {WORK} -f json",
        [*_MLP, "table.npz"],
        _MADE,
        keeps=("work",),
    ),
    _job(
        "compare",
        f"compare mlp.onnx -d table.npz -t {TARGET} --method join --write join {ENGINE} -o {{out}}.onnx",
        [*_MLP, "table.npz"],
        ["{out}.onnx"],
    ),
    _job(
        "apply",
        f"apply model.onnx tweak.safetensors {_THREADS} -o {{out}}.onnx -f json",
        ["model.onnx", "tweak.safetensors"],
        ["{out}.onnx"],
    ),
    _job(
        "apply as a shadow",
        f"apply model.onnx tweak.safetensors --shadow {_THREADS} -o {{out}}.onnx",
        ["model.onnx", "tweak.safetensors"],
        ["{out}.onnx"],
    ),
    _job(
        "apply as a slot",
        f"apply model.onnx tweak.safetensors --slot {_THREADS} -o new/{{out}}.onnx",
        ["model.onnx", "tweak.safetensors", "new"],
        ["new/{out}.onnx", "new/tweak.onnx_adapter"],
        alone=True,
    ),
    _job("revert", "revert tweaked.onnx -o {out}.onnx", ["tweaked.onnx"], ["{out}.onnx"]),
    _job("diff", "diff model.onnx tweaked.onnx -f json", ["model.onnx", "tweaked.onnx"]),
    _job(
        "verify",
        f"verify tweaked.onnx --base model.onnx -d data.npz {ENGINE} -f json",
        ["tweaked.onnx", *_DATA],
    ),
    _job("dump", f"dump model.onnx -d data.npz {ENGINE} -o {{out}}", _DATA, ["{out}"]),
    _job(
        "score",
        f"score model.onnx -d data.npz -t {TARGET} {ENGINE} -o {{out}}.npz -f json",
        _DATA,
        ["{out}.npz"],
    ),
    _job(
        "score with a work directory",
        f"score model.onnx -d data.npz -t {TARGET} {ENGINE} -o {{out}}.npz {WORK}",
        _DATA,
        ["{out}.npz"],
        keeps=("work",),
    ),
    _job(
        "score a dump",
        f"score model.onnx -d tables -t {TARGET} {ENGINE} -o {{out}}.npz -f json",
        ["model.onnx", "tables"],
        ["{out}.npz"],
    ),
    _job(
        "run",
        "run recipe.toml -o {out} -f json",
        ["recipe.toml", *_DATA, "names.txt"],
        ["{out}"],
        keeps=(".onnxtweak",),
        told=False,
    ),
    _job(
        "run again",
        "run recipe.toml -o {out} -f json",
        ["recipe.toml", *_DATA, "names.txt", ".onnxtweak"],
        ["{out}"],
        keeps=(".onnxtweak",),
        told=False,
    ),
    _job(
        "dump chosen neurons",
        f"dump model.onnx -d data.npz --neurons scores.npz {ENGINE} -o {{out}}",
        [*_DATA, "scores.npz"],
        ["{out}"],
    ),
    _job("report", "report result.json -o {out}.html", ["result.json"], ["{out}.html"]),
    _job("init", f"init model.onnx -d data.npz -t {TARGET} -o {{out}}.toml", _DATA, ["{out}.toml"]),
    _job("a plan", f"join model.onnx {JOIN} -o {{out}}.onnx --dry-run", _DATA),
    _job("completion", "completion bash", []),
)
PARQUET = _job(
    "evaluate Parquet", f"evaluate mlp.onnx -d table.parquet {ENGINE} -f json", [*_MLP, "table.parquet"]
)
# Seconds each: seldom.
SLOW = (
    _job("demo", f"demo -o {{out}} {_THREADS} -q", [], ["{out}"]),
    _job("doctor", "doctor -f json", [], told=False, workers=True),
)
WORKERS = _job(
    "score with workers", f"score model.onnx -d data.npz -t {TARGET} {ENGINE} --workers 1 -o {{out}}.npz -q",
    _DATA, ["{out}.npz"], workers=True, told=False,
)  # fmt: skip


def jobs() -> tuple[Job, ...]:
    """Those that this machine can do quickly."""
    return (*JOBS, PARQUET) if find_spec("pyarrow") else JOBS
