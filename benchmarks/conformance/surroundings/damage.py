"""What does a command do with damaged, exchanged or unreadable inputs and caches?

It says so in one line and leaves nothing, or it works. Results that were saved to be used again are made
again where they are damaged: the same bytes as ever.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.conformance.surroundings.judge import Expected
from benchmarks.conformance.surroundings.trial import NOBODY, Trial, can_be

_CODES = frozenset({0, 1, 2, 3, 4})
_HUGE = 2 << 30  # bytes that a sparse file claims to have


def damage(trial: Trial) -> None:
    """One job, after one of the files that it reads was damaged."""
    job = trial.job()
    while not job.reads:
        job = trial.job()
    trial.shop.result(job)
    bench, program = trial.bench(job), trial.program()
    files = sorted(path for name in job.reads for path in leaves(bench.place / name))
    victim = files[trial.rng.integers(len(files))]
    ways = [*BYTES, *(BYTES * 2), *WAYS]
    way = ways[trial.rng.integers(len(ways))]
    name = victim.relative_to(bench.place).as_posix()
    trial.said.append(f"{name} {way.__name__.strip('_').replace('_', ' ')}")
    if way in BYTES:
        victim.write_bytes(way(bytearray(victim.read_bytes()), trial.rng))
    else:
        way(victim, [other for other in files if other != victim], trial.rng)
    cache = name.split("/")[0] in job.keeps
    # A run whose gate failed delivers its reports, without a model.
    expected = Expected(_CODES, same=cache, whole=frozenset({0, 1}))
    starts = bool(program) or job.workers
    user = NOBODY if way is unreadable and can_be(NOBODY, starts) else None
    trial.open_to(user)
    trial.carry_out(job, bench.around(program=program, user=user), expected)


def leaves(path: Path) -> list[Path]:
    """A file, or all in a folder."""
    return [each for each in path.rglob("*") if each.is_file()] if path.is_dir() else [path]


# ------------------------------------------------------------------------------ damage to bytes


def flipped(data: bytearray, rng: np.random.Generator) -> bytes:
    for place in rng.integers(0, len(data), rng.integers(1, 9)) if data else ():
        data[place] ^= 1 << rng.integers(8)
    return bytes(data)


def cut_short(data: bytearray, rng: np.random.Generator) -> bytes:
    return bytes(data[: rng.integers(0, len(data) + 1)])


def zeroed(data: bytearray, rng: np.random.Generator) -> bytes:
    start, stop = _range(data, rng)
    data[start:stop] = bytes(stop - start)
    return bytes(data)


def grown(data: bytearray, rng: np.random.Generator) -> bytes:
    start, _ = _range(data, rng)
    data[start:start] = rng.bytes(int(rng.integers(1, 300)))
    return bytes(data)


def doubled(data: bytearray, rng: np.random.Generator) -> bytes:
    start, stop = _range(data, rng)
    data[start:stop] = data[start:stop] * 2
    return bytes(data)


def with_a_gap(data: bytearray, rng: np.random.Generator) -> bytes:
    start, stop = _range(data, rng)
    del data[start:stop]
    return bytes(data)


def emptied(data: bytearray, rng: np.random.Generator) -> bytes:
    return b""


def made_noise(data: bytearray, rng: np.random.Generator) -> bytes:
    return rng.bytes(len(data))


BYTES: tuple[Callable[[bytearray, np.random.Generator], bytes], ...] = (
    flipped,
    cut_short,
    zeroed,
    grown,
    doubled,
    with_a_gap,
    emptied,
    made_noise,
)


def _range(data: bytearray, rng: np.random.Generator) -> tuple[int, int]:
    start = int(rng.integers(0, len(data) + 1))
    return start, min(len(data), start + int(2 ** (rng.random() * 12)))


# ------------------------------------------------------------------- another thing in its place


def exchanged(path: Path, others: list[Path], rng: np.random.Generator) -> None:
    if others:
        shutil.copy(others[rng.integers(len(others))], path)


def a_folder(path: Path, others: list[Path], rng: np.random.Generator) -> None:
    path.unlink()
    path.mkdir()


def a_link_to_another(path: Path, others: list[Path], rng: np.random.Generator) -> None:
    if others:
        path.unlink()
        path.symlink_to(others[rng.integers(len(others))])


def a_link_to_nothing(path: Path, others: list[Path], rng: np.random.Generator) -> None:
    path.unlink()
    path.symlink_to("nowhere")


def a_link_to_itself(path: Path, others: list[Path], rng: np.random.Generator) -> None:
    path.unlink()
    path.symlink_to(path.name)


def gone(path: Path, others: list[Path], rng: np.random.Generator) -> None:
    path.unlink()


def a_pipe(path: Path, others: list[Path], rng: np.random.Generator) -> None:
    path.unlink()
    os.mkfifo(path)


def a_device(path: Path, others: list[Path], rng: np.random.Generator) -> None:
    path.unlink()
    path.symlink_to(("/dev/zero", "/dev/null", "/dev/full", "/dev/random")[rng.integers(4)])


def huge(path: Path, others: list[Path], rng: np.random.Generator) -> None:
    os.truncate(path, _HUGE)


def unreadable(path: Path, others: list[Path], rng: np.random.Generator) -> None:
    path.chmod(0)


WAYS: tuple[Callable[[Path, list[Path], np.random.Generator], None], ...] = (
    exchanged,
    a_folder,
    a_link_to_another,
    a_link_to_nothing,
    a_link_to_itself,
    gone,
    a_pipe,
    a_device,
    huge,
    unreadable,
)
