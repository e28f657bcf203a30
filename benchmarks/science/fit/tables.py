"""The tables of docs/lab_book.md from what contest.py wrote with --json.

    python benchmarks/science/fit/tables.py READINGS.json ...

One summary of all nets, then for each net every method. Means over targets and folds, standard errors over
folds; where a method keeps the overall accuracy of the base in some cases only, the mean is over these.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

SUMMARY = (
    "net",
    "base right",
    "targets: bias",
    "fit over bias",
    "nearest other",
    "fit over it",
    "delivered: overall over base",
    "targets, fit over bias",
    "all classes: AAN over base",
    "fit over base",
)
EACH = (
    "method",
    "targets at no overall loss",
    "over bias",
    "delivered: overall over base",
    "targets",
    "over bias",
)


def cubes(made: dict) -> dict[str, np.ndarray]:
    """Readings by method: (folds, targets, 3) in percent, at no overall loss, overall, targets."""
    return {name: np.array(of).reshape(made["folds"], -1, 3) * 100 for name, of in made["rows"].items()}


def interval(values: np.ndarray, sign: str = "") -> str:
    """Mean and standard error over folds of values (folds, targets)."""
    known = ~np.isnan(values)
    each = np.array([row[ok].mean() for row, ok in zip(values, known, strict=True) if ok.any()])
    if not len(each):
        return "not reached"
    error = f"{each.std(ddof=1) / np.sqrt(len(each)):.1f}" if len(each) > 1 else "?"
    missing = "" if known.all() else f" ({known.sum()} of {values.size})"
    return f"{each.mean():{sign}.1f} ± {error}{missing}"


def overall(made: dict, name: str) -> np.ndarray:
    """Gain over the base where all classes are targets: (folds, 1) in points."""
    return (np.array(made["overall"][name]) - np.array(made["overall"]["base"]))[:, None] * 100


def name_of(made: dict) -> str:
    return Path(made["model"]).stem + (", own samples" if made["own"] else "")


def summed_up(made: dict) -> tuple[str, ...]:
    """One row of the summary."""
    cube = cubes(made)
    others = {name: of[..., 0] for name, of in cube.items() if name not in ("base", "bias", "fit")}
    whole = {name: of for name, of in others.items() if not np.isnan(of).any()}
    nearest = max(whole, key=lambda name: whole[name].mean()) if whole else None
    fit, bias = cube["fit"], cube["bias"]
    return (
        name_of(made),
        f"{np.mean(made['overall']['base']) * 100:.1f}",
        interval(bias[..., 0]),
        interval(fit[..., 0] - bias[..., 0], "+"),
        nearest or "-",
        interval(fit[..., 0] - whole[nearest], "+") if nearest else "-",
        interval(fit[..., 1] - cube["base"][..., 1], "+"),
        interval(fit[..., 2] - bias[..., 2], "+"),
        interval(overall(made, "AAN"), "+"),
        interval(overall(made, "fit"), "+"),
    )


def each(made: dict) -> list[tuple[str, ...]]:
    """A row for every method."""
    cube = cubes(made)
    base, bias = cube["base"], cube["bias"]
    return [
        (
            name,
            interval(of[..., 0]),
            interval(of[..., 0] - bias[..., 0], "+"),
            interval(of[..., 1] - base[..., 1], "+"),
            interval(of[..., 2]),
            interval(of[..., 2] - bias[..., 2], "+"),
        )
        for name, of in cube.items()
    ]


def described(made: dict) -> str:
    """What a reader needs to know of the runs behind a table."""
    fit, validation, test = made["samples"]
    names = sorted(set(made["targets"]), key=lambda one: (-made["targets"].count(one), one))
    answers = ", ".join(f"{kind} {count}" for kind, count in made["kinds"]["one"].items())
    return (
        f"{fit:,} / {validation:,} / {test:,} samples to fit, validate, test in each of {made['folds']} "
        f"folds; targets {', '.join(names)}; answers of `fit`: {answers}."
    )


def table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def margins(every: list[dict]) -> str:
    """What the margin does, on each net."""
    found = []
    for made in every:
        base = cubes(made)["base"]
        for name, of in made["margins"].items():
            values = np.array(of).reshape(made["folds"], -1, 2) * 100
            drop, gain = values[..., 0] - base[..., 1], values[..., 1] - base[..., 2]
            found.append((name_of(made), *name.split(", margin "), interval(drop, "+"), interval(gain, "+")))
    return table(("net", "answer", "margin", "overall over base", "targets over base"), found)


def main() -> None:
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    every = [json.loads(Path(path).read_text(encoding="utf-8")) for path in sys.argv[1:]]
    print(table(SUMMARY, [summed_up(made) for made in every]))
    for made in every:
        print(f"\n### {name_of(made)}\n\n{described(made)}\n\n{table(EACH, each(made))}")
    print(f"\n### margins\n\n{margins(every)}")


if __name__ == "__main__":
    main()
