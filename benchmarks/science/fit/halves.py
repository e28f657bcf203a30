"""What does `fit` deliver on nets of others? Half of a labelled set to learn from, the other half to test on.

    python benchmarks/science/fit/halves.py NETS [NAME ...] --json OUT.json
        [--splits 5] [--learn 5000] [--several 3] [--minutes M] [--threads N]
        [--max-class-drop POINTS] [--margin ERRORS] [--keep none]
    python benchmarks/science/fit/halves.py --ratio OLD.json NEW.json

NETS holds NAME.onnx and NAME.npz (x, y), as `public_nets.py` makes them; without a name all are taken. For
each of five random halves, whose seeds are printed, the target is the class of the learning half that the
base does worst on, then its three worst together (two of a net with under five classes, none of one with
two). `fit` gets its default settings and at most 5,000 samples of the learning half; two versions are read
at the same promise by naming it (--max-class-drop, --margin, --keep). What counts is the written file, read
through plain ONNX Runtime on the whole test half; it must be what onnxtweak reports.

Another tree's onnxtweak is measured by naming its root: `PYTHONPATH=/other/tree python benchmarks/...`. Fits
that OUT.json has already are not repeated, so a run that was stopped goes on. `--ratio` compares two such
files over the fits that both have.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime

import onnxtweak
from onnxtweak.errors import OnnxtweakError

BATCH = 500
RARE = 10  # a class with fewer samples in the learning half is no target
COUNTED = 20  # what a class lost is read where the test half has so many samples of it


@dataclass(frozen=True)
class Half:
    """One split of one net. found_* : classes that the base shows, plain ONNX Runtime."""

    net: str
    seed: int
    x_learn: np.ndarray
    y_learn: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray
    found_learn: np.ndarray
    found_test: np.ndarray


def shown(model: Path, x: np.ndarray, threads: int = 0) -> np.ndarray:
    """The class (N,) that a file shows for each sample. threads : 0 for one on each core."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = threads, 3
    session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    port, made = session.get_inputs()[0], session.get_outputs()[0].name
    size = port.shape[0] if isinstance(port.shape[0], int) else BATCH
    parts = [session.run([made], {port.name: x[i : i + size]})[0] for i in range(0, len(x), size)]
    z = np.concatenate([part.reshape(len(part), -1) for part in parts])
    return (z[:, 0] > 0.5).astype(np.int64) if z.shape[1] == 1 else z.argmax(1)


def halves(folder: Path, net: str, seed: int, learn: int, found: np.ndarray) -> Half:
    """found : what the base shows for all samples."""
    with np.load(folder / f"{net}.npz") as file:
        x, y = file["x"], file["y"]
    order = np.random.default_rng([seed, 15]).permutation(len(y))
    first, second = order[: len(y) // 2][:learn], order[len(y) // 2 :]
    return Half(net, seed, x[first], y[first], x[second], y[second], found[first], found[second])


def per_class(found: np.ndarray, y: np.ndarray) -> dict[int, tuple[float, int]]:
    """Accuracy and number of samples of each class that has some."""
    return {int(c): ((found == y)[y == c].mean(), int((y == c).sum())) for c in np.unique(y)}


def worst(half: Half, many: int) -> tuple[int, ...]:
    """The classes that the base does worst on, of the learning half alone."""
    of = per_class(half.found_learn, half.y_learn)
    enough = [c for c, (_, samples) in of.items() if samples >= RARE]
    return tuple(sorted(enough, key=lambda c: (of[c][0], c))[:many])


def reading(found: np.ndarray, y: np.ndarray, targets: tuple[int, ...]) -> dict[str, float]:
    right = found == y
    return {"overall": float(right.mean()), "target": float(right[np.isin(y, targets)].mean())}


def measure(half: Half, folder: Path, targets: tuple[int, ...], settings: dict) -> dict:
    """One fit: what it delivers on the test half, and what it costs. settings : of `onnxtweak.fit`."""
    row = {"net": half.net, "seed": half.seed, "targets": list(targets), "several": len(targets) > 1}
    row |= {"learn": len(half.y_learn), "test": len(half.y_test)}
    base = folder / f"{half.net}.onnx"
    with tempfile.TemporaryDirectory() as place:
        learn, test, output = (Path(place) / name for name in ("learn.npz", "test.npz", "tweaked.onnx"))
        np.savez(learn, x=half.x_learn, y=half.y_learn)
        np.savez(test, x=half.x_test, y=half.y_test)
        row["base"] = reading(half.found_test, half.y_test, targets)
        begin, worked = time.perf_counter(), time.process_time()
        try:
            made = onnxtweak.fit(
                base, data=str(learn), test=str(test), target=targets, output=str(output), **settings
            )
        except OnnxtweakError as refusal:
            lines = str(refusal).splitlines()
            return row | {"fit": row["base"], "bias": row["base"], "kind": "refused", "refusal": lines[0]}
        row["seconds"] = {"all": time.perf_counter() - begin, "cpu": time.process_time() - worked}
        row["seconds"]["fit"] = made.run.seconds["fit"]
        found = shown(output, half.x_test, settings["threads"]) if output.exists() else half.found_test
        row["bytes"] = output.stat().st_size - base.stat().st_size if output.exists() else 0
    row["fit"] = reading(found, half.y_test, targets)
    agree(row["base"], made.before, half.net)
    agree(row["fit"], made.after, half.net)
    control = made.bias_control
    row["bias"] = {"overall": float(control.overall), "target": float(control.target)}
    row |= {"kind": made.tweak["kind"], "changed": int((found != half.found_test).sum())}
    return row | lost(half, found, targets)


def agree(plain: dict[str, float], reported: onnxtweak.types.Metrics, net: str) -> None:
    """What plain ONNX Runtime shows is what onnxtweak reports, to the last sample."""
    ours = {"overall": float(reported.overall), "target": float(reported.target)}
    for name, value in plain.items():
        assert abs(value - ours[name]) < 1e-9, f"{net}: {name} is {value}, reported {ours[name]}"


def lost(half: Half, found: np.ndarray, targets: tuple[int, ...]) -> dict:
    """The class that is no target and lost most, in points."""
    before, after = per_class(half.found_test, half.y_test), per_class(found, half.y_test)
    others = [c for c, (_, samples) in before.items() if samples >= COUNTED and c not in targets]
    if not others:
        return {"lost": 0.0, "loser": None}
    loser = max(others, key=lambda c: before[c][0] - after[c][0])
    return {"lost": float(before[loser][0] - after[loser][0]) * 100, "loser": loser}


def several(classes: int, asked: int) -> int:
    """How many targets together, 0: not at all."""
    return 0 if classes < 3 else min(asked, 2 if classes < 5 else asked)


def run(asked: argparse.Namespace) -> dict:
    """All fits, those of one split after the other; saved after each."""
    folder, begin = asked.nets, time.perf_counter()
    names = asked.names or sorted(path.stem for path in folder.glob("*.npz"))
    promise = {name: getattr(asked, name) for name in ("max_class_drop", "margin", "keep")}
    promise = {name: value for name, value in promise.items() if value is not None}
    this = {"tree": tree(), "promise": promise}
    made = json.loads(asked.json.read_text()) if asked.json.exists() else {**this, "rows": []}
    if any(made.get(name) != value for name, value in this.items()):
        raise SystemExit(f"error: {asked.json} is of {made['tree']} {made.get('promise')}, this is {this}")
    have = {(row["net"], row["seed"], row["several"]) for row in made["rows"]}
    found: dict[str, np.ndarray] = {}
    print(f"{made['tree']}; seeds {', '.join(map(str, range(asked.splits)))}", flush=True)
    for seed in range(asked.splits):
        for net in names:
            with np.load(folder / f"{net}.npz") as file:
                if net not in found:
                    found[net] = shown(folder / f"{net}.onnx", file["x"], asked.threads)
                together = several(len(np.unique(file["y"])), asked.several)
            half = halves(folder, net, seed, asked.learn, found[net])
            for many in (1, together) if together else (1,):
                if (net, seed, many > 1) in have:
                    continue
                if asked.minutes and time.perf_counter() - begin > asked.minutes * 60:
                    return made
                row = measure(half, folder, worst(half, many), {"threads": asked.threads, **promise})
                made["rows"].append(row)
                asked.json.write_text(json.dumps(made, indent=1))
                print(line(row), flush=True)
    return made


def tree() -> str:
    """Version and commit of the onnxtweak that is measured."""
    root = Path(onnxtweak.__file__).parents[1]
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--exclude=*"]
    told = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    return f"onnxtweak {onnxtweak.__version__} {told.stdout.strip()}".strip()


def line(row: dict) -> str:
    base, fit = row["base"], row["fit"]
    points = {name: (fit[name] - base[name]) * 100 for name in fit}
    cost = (
        f"{row['seconds']['all']:.0f} s, {row['bytes'] / 1000:.0f} kB" if "seconds" in row else row["refusal"]
    )
    return (
        f"{row['net']} seed {row['seed']} targets {row['targets']}: {row['kind']}, overall "
        f"{points['overall']:+.2f}, targets {base['target']:.1%} {points['target']:+.1f}, {cost}"
    )


def gains(rows: list[dict], method: str, what: str) -> np.ndarray:
    """(fits,) in points over the base."""
    return np.array([(row[method][what] - row["base"][what]) * 100 for row in rows])


def mean(values: np.ndarray, digits: int = 1) -> str:
    """With its standard error over fits."""
    error = f" ± {values.std(ddof=1) / np.sqrt(len(values)):.{digits}f}" if len(values) > 1 else ""
    return f"{values.mean():+.{digits}f}{error}"


def summary(rows: list[dict]) -> str:
    """One Markdown row of a table, without its name."""
    base = [f"{np.mean([row['base'][what] for row in rows]):.1%}" for what in ("overall", "target")]
    overall, target = (gains(rows, "fit", what) for what in ("overall", "target"))
    bias = (gains(rows, "bias", what) for what in ("overall", "target"))
    paid = [row for row in rows if "seconds" in row]
    middle = [np.median([pick(row) for row in paid]) if paid else 0 for pick in (seconds, kilobytes)]
    cells = [*base, mean(overall, 2), mean(target), *(mean(each, 2 - i) for i, each in enumerate(bias))]
    cells += [f"{(overall < -1e-9).sum()} / {(overall < -0.5).sum()} of {len(rows)}"]
    cells += [f"{max(row.get('lost', 0) for row in rows):.1f}", f"{middle[0]:.0f}", f"{middle[1]:.0f}"]
    return " | ".join(cells)


def seconds(row: dict) -> float:
    return row["seconds"]["fit"]


def kilobytes(row: dict) -> float:
    return row["bytes"] / 1000


HEAD = (
    "| net | base | base, targets | fit | fit, targets | bias | bias, targets | below base / by > .5 "
    "| worst class lost | s | kB |\n|---|---|---|---|---|---|---|---|---|---|---|"
)


def grouped(rows: list[dict]) -> dict[str, list[dict]]:
    """Rows by net, one target and several apart, and all of each."""
    groups: dict[str, list[dict]] = {}
    for several in (False, True):
        of = [row for row in rows if row["several"] == several]
        for net in sorted({row["net"] for row in of}):
            groups[f"{net}, several" if several else net] = [row for row in of if row["net"] == net]
        if of:
            groups["**all, several targets**" if several else "**all, one target**"] = of
    return groups


def table(rows: list[dict]) -> str:
    """The Markdown table: accuracies of the base, then changes in points."""
    return "\n".join([HEAD, *(f"| {name} | {summary(of)} |" for name, of in grouped(rows).items())])


def compared(old: dict, new: dict) -> str:
    """The Markdown table of two runs over the fits that both have."""
    keys = [{key(row): row for row in run["rows"]} for run in (old, new)]
    both = [each for each in keys[0] if each in keys[1]]
    head = (
        f"{old['tree']} against {new['tree']}, {len(both)} fits\n\n"
        "| net | target, old | new | ratio | overall, old | new | below base, old | new "
        "| by > .5, old | new | s, old | new | kB, old | new |\n" + "|---" * 14 + "|"
    )
    rows = []
    for name, of in grouped([keys[0][each] for each in both]).items():
        pair = (of, [keys[1][key(row)] for row in of])
        target, overall = ([gains(rows, "fit", what) for rows in pair] for what in ("target", "overall"))
        ratio = f"{target[1].mean() / target[0].mean():.2f}" if target[0].mean() > 0 else "-"
        cells = [f"{each.mean():+.1f}" for each in target] + [ratio]
        cells += [f"{each.mean():+.2f}" for each in overall]
        cells += [f"{(each < bound).sum()}" for bound in (-1e-9, -0.5) for each in overall]
        for pick in (seconds, kilobytes):
            cells += [f"{np.median([pick(row) for row in part if 'seconds' in row]):.0f}" for part in pair]
        rows.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join([head, *rows])


def key(row: dict) -> tuple:
    return row["net"], row["seed"], tuple(row["targets"])


def main(words: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("nets", type=Path, nargs="?")
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--json", type=Path, default=Path("halves.json"))
    parser.add_argument("--splits", type=int, default=5)
    parser.add_argument("--learn", type=int, default=5000, help="at most so many samples to learn from")
    parser.add_argument("--several", type=int, default=3, help="targets together")
    parser.add_argument("--minutes", type=float, help="begin no fit after these")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--max-class-drop", type=float, help="points that a class that is no target may lose")
    parser.add_argument("--margin", type=float, help="standard errors to keep clear of limits")
    parser.add_argument("--keep", choices=["none"], help="what labels do not name need not stay")
    parser.add_argument("--ratio", type=Path, nargs=2, metavar=("OLD.json", "NEW.json"))
    asked = parser.parse_args(words)
    if asked.ratio:
        print(compared(*(json.loads(path.read_text()) for path in asked.ratio)))
    elif asked.nets:
        print(table(run(asked)["rows"]))
    else:
        parser.error("give the folder of the nets, or --ratio")


if __name__ == "__main__":
    main()
