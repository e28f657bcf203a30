"""How is a result written? Means and intervals over seeds, Markdown, JSON, files."""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from benchmarks.science.thesis.sizes import Options, add_options, options_of

# 97.5 % quantiles of Student's t, by degrees of freedom.
_T = (math.nan, 12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)


@dataclass(frozen=True)
class Page:
    """What a command found.

    name : of its files. title : of its section. blocks : Markdown, in order; a picture is a block
    `![words](pictures/NAME.svg)`. raw : the numbers behind it, for JSON. pictures : SVG by NAME.
    """

    name: str
    title: str
    blocks: Sequence[str]
    raw: Mapping
    pictures: Mapping[str, str] = field(default_factory=dict)


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Mean and half the width of its 95 % t-interval; NaN where there are fewer than two."""
    known = np.asarray(values, float)
    known = known[~np.isnan(known)]
    if not len(known):
        return math.nan, math.nan
    if len(known) == 1 or len(known) > len(_T):
        return float(known.mean()), math.nan
    return float(known.mean()), float(_T[len(known) - 1] * known.std(ddof=1) / math.sqrt(len(known)))


def cell(values: Sequence[float], times: float = 100.0, digits: int = 1, sign: bool = False) -> str:
    """`mean ± half width` of one number a seed, times 100 as accuracies are written."""
    mean, half = (v * times for v in interval(values))
    if math.isnan(mean):
        return "not reached"
    told = f"{mean:{'+' if sign else ''}.{digits}f}"
    missing = sum(map(math.isnan, values))
    told += "" if math.isnan(half) else f" ± {half:.{digits}f}"
    return told + (f" ({missing} of {len(values)} not reached)" if missing else "")


def grid(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def sizes_told(options: Options, net: str) -> str:
    """What the bases were trained on, in a sentence."""
    size = options.sizes.nets[net]
    return (
        f"{options.sizes.seeds} seeds, each with its own {size.train:,} training and {size.held_out:,}"
        f" held-out images and its own weights; base: {size.epochs} epochs. ± is half a 95 % t-interval over"
        " the seeds: with so few it is wide."
    )


def write(page: Page, options: Options) -> None:
    """NAME.md, NAME.json and the pictures into WORK/results."""
    folder = options.work / "results"
    folder.mkdir(parents=True, exist_ok=True)
    size = "" if options.sizes.name == "default" else f" --{options.sizes.name}"
    call = f"```sh\npython -m benchmarks.science.thesis.{page.name} --data DIR{size}\n```"
    text = "\n\n".join([f"### {page.title}", call, *page.blocks]) + "\n"
    (folder / f"{page.name}.md").write_text(text, encoding="utf-8")
    (folder / f"{page.name}.json").write_text(json.dumps(page.raw, indent=1), encoding="utf-8")
    for name, svg in page.pictures.items():
        (folder / f"{name}.svg").write_text(svg, encoding="utf-8")
    print(text, flush=True)


def command(run: Callable[[Options], Page], said: str) -> None:
    """A table's `main`."""
    parser = argparse.ArgumentParser(description=said, formatter_class=argparse.RawTextHelpFormatter)
    add_options(parser)
    options = options_of(parser.parse_args())
    carry_out(run, options)


def carry_out(run: Callable[[Options], Page], options: Options) -> None:
    since = time.perf_counter()
    page = run(options)
    write(page, options)
    print(f"# {page.name}: {time.perf_counter() - since:.0f} s", flush=True)
