"""Do commands keep their promises whatever happens around them? Random cases, each repeated by its number.

    python -m benchmarks.conformance.surroundings [--cases 5000] [--seed 0] [--case NUMBER] [--keep FOLDER]

A case takes a command that is right and stops it, lets its disk be full, damages what it reads, starts a
second one beside it, or puts it into a container (see the modules of this folder). A case fails as `judge`
says. Most commands begin as forks of a process that has loaded everything (`warm`), the others by a new
interpreter; a case's number and the seed decide all but the timing. Needs Linux; as root it covers more
(disks, other users).
"""

from __future__ import annotations

import argparse
import collections
import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from queue import Queue
from threading import Thread

import numpy as np

from benchmarks.conformance.surroundings.containers import contain
from benchmarks.conformance.surroundings.damage import damage
from benchmarks.conformance.surroundings.kills import kill
from benchmarks.conformance.surroundings.launch import HANG, ROOT, Launcher
from benchmarks.conformance.surroundings.limits import limit
from benchmarks.conformance.surroundings.pairs import pair
from benchmarks.conformance.surroundings.trial import Trial
from benchmarks.conformance.surroundings.workshop import Workshop, furnish

KINDS = {"kill": kill, "limit": limit, "damage": damage, "pair": pair, "container": contain}
_NEWS = 250  # cases between two lines that say how many are done
_LARGEST = 1 << 24  # bytes of a file that is kept
# A case of each kind in turn; some kinds have more to try.
ORDER = ("kill", "damage", "limit", "damage", "container", "kill", "damage", "pair", "container", "limit")


@dataclass(frozen=True)
class Outcome:
    """What became of a case. said : what was done. faults : none where all held. errors : end of stderr."""

    number: int
    kind: str
    said: list[str]
    faults: list[str]
    errors: list[str]


def try_case(shop: Workshop, seed: int, number: int, keep: Path | None = None) -> Outcome:
    """Carry out one case. keep : a folder for the files of one that fails."""
    kind = ORDER[number % len(ORDER)]
    folder = Path(tempfile.mkdtemp(prefix="surroundings-"))
    trial = Trial(shop, np.random.default_rng((seed, number)), folder)
    folder.chmod(0o755)
    try:
        KINDS[kind](trial)
        if trial.faults and keep is not None and (folder / "place").exists():
            shutil.copytree(folder, keep / str(number), symlinks=True, ignore=_not_kept, dirs_exist_ok=True)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return Outcome(number, kind, trial.said, trial.faults, trial.errors)


def _not_kept(folder: str, names: list[str]) -> list[str]:
    """Pipes, and files that are large, or seem so."""
    paths = [Path(folder, name) for name in names]
    return [
        path.name
        for path in paths
        if path.is_fifo() or (path.is_file() and not path.is_symlink() and path.stat().st_size > _LARGEST)
    ]


def try_cases(numbers: range, seed: int, hang: float = HANG, keep: Path | None = None) -> Iterator[Outcome]:
    """Carry out cases, one after the other."""
    with Launcher(hang) as launcher, tempfile.TemporaryDirectory() as made:
        os.chmod(made, 0o755)
        shop = furnish(Path(made), launcher)
        for number in numbers:
            yield try_case(shop, seed, number, keep)


def options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--cases", type=int, default=5000)
    parser.add_argument("--seed", type=int, help="default: any, which is printed")
    parser.add_argument("--case", type=int, metavar="NUMBER", help="only this one")
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--lanes", type=int, default=2, help="how many are tried at a time")
    parser.add_argument("--hang", type=float, default=HANG, help="seconds that a command may take")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="keep the files of cases that fail")
    parser.add_argument("--lane", type=int, help=argparse.SUPPRESS)
    return parser


def lanes(args: argparse.Namespace, seed: int) -> Iterator[Outcome]:
    """All cases, by processes like this one."""
    own = [f"--{name}={getattr(args, name)}" for name in ("cases", "first", "lanes", "hang")]
    own += [f"--keep={args.keep.resolve()}"] if args.keep else []
    command = [sys.executable, "-m", __spec__.name, *own, f"--seed={seed}"]
    lines: Queue[str] = Queue()

    def follow(number: int) -> None:
        process = subprocess.Popen(
            [*command, f"--lane={number}"], cwd=ROOT, stdout=subprocess.PIPE, text=True
        )
        for line in process.stdout or ():
            lines.put(line)
        lines.put("" if process.wait() == 0 else "!")

    for number in range(args.lanes):
        Thread(target=follow, args=(number,)).start()
    living = args.lanes
    while living:
        if (line := lines.get()) and line != "!":
            yield Outcome(**json.loads(line))
        else:
            living -= 1
            if line:
                raise SystemExit("a lane has broken off")


def show(outcome: Outcome) -> None:
    print(f"case {outcome.number} ({outcome.kind}): {'; '.join(outcome.said)}", flush=True)
    for line in outcome.faults:
        print(f"    FAILED {line}")
    for line in outcome.errors:
        print(f"    | {line}")


def main() -> int:
    args = options().parse_args()
    seed = secrets.randbelow(1 << 32) if args.seed is None else args.seed
    if args.lane is not None:
        numbers = range(args.first + args.lane, args.first + args.cases, args.lanes)
        for outcome in try_cases(numbers, seed, args.hang, args.keep):
            os.write(1, f"{json.dumps(asdict(outcome))}\n".encode())
        return 0
    print(f"seed {seed}", flush=True)
    if args.case is not None:
        numbers = range(args.case, args.case + 1)
        (outcome,) = try_cases(numbers, seed, args.hang, args.keep)
        show(outcome)
        return int(bool(outcome.faults))
    begin = time.perf_counter()
    counts: dict[str, collections.Counter[str]] = {kind: collections.Counter() for kind in KINDS}
    for done, outcome in enumerate(lanes(args, seed), start=1):
        counts[outcome.kind]["failed" if outcome.faults else "held"] += 1
        if outcome.faults:
            show(outcome)
        if done % _NEWS == 0:
            print(f"{done:,} of {args.cases:,} cases ({time.perf_counter() - begin:.0f} s)", flush=True)
    for kind, count in counts.items():
        print(f"{kind:>10}: {count['held']:>6,} held, {count['failed']} failed")
    failed = sum(count["failed"] for count in counts.values())
    print(f"{args.cases:,} cases, {failed} failed ({time.perf_counter() - begin:.0f} s)")
    return int(failed > 0)


if __name__ == "__main__":
    raise SystemExit(main())
