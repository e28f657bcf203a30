"""How much of the processor does a small `fit` take, now and at another revision?

    python benchmarks/speed/small_fits.py --against REVISION [--rounds 5] [--threads 1]

Ten fits as newcomers have them: 400 to 3,000 samples, 20 to 64 neurons, 3 to 10 classes, from table to patch
(`method.fit.by_goal.fit_goal`); and two of detectors, for 2 of 20 classes. Both revisions run in processes of
their own, fit by fit in turns, and the least seconds of the processor of all rounds count: on a busy machine
any one reading may be far off. Ends with exit code 1 where the two do not find the same patch, to the last
bit.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]


def fits() -> dict[str, Callable[[], str]]:
    """What each fit is called, and what runs it and gives the digest of its patch."""
    from onnxtweak.boxes.truth import Truth
    from onnxtweak.goal import ResolvedGoal
    from onnxtweak.head import ONE_LABEL, SEVERAL_LABELS, Head
    from onnxtweak.method.fit.boxes import AnchorJudge, fit_boxes
    from onnxtweak.method.fit.by_goal import fit_goal
    from onnxtweak.method.fit.fit import Fitted
    from onnxtweak.method.fit.learning import Learning
    from onnxtweak.method.table import Table
    from onnxtweak.metric.asked import metric_of
    from onnxtweak.settings import FitSettings

    def table(samples: int, neurons: int, classes: int, strength: float = 1.0) -> Table:
        """A base that ignores 5 telling neurons and holds class 0 back."""
        rng, fixed = np.random.default_rng(0), np.random.default_rng(77)
        T = rng.normal(size=(samples, neurons)).astype(np.float32)
        Z = rng.normal(size=(samples, classes)) * 2
        told = T[:, :5] @ fixed.normal(size=(5, classes)) * strength
        labels = (Z + told + rng.gumbel(size=Z.shape)).argmax(axis=1)
        Z[:, 0] -= 1
        return Table(T, Z.astype(np.float32), labels)

    def fit(of: Table, targets: list[int], metric: str | None = None, **settings: int) -> str:
        columns = np.arange(of.T.shape[1])
        asked = None if metric is None else metric_of(metric, [str(k) for k in range(of.Z.shape[1])])
        goal = ResolvedGoal(np.array(targets), max_class_drop=FitSettings.max_class_drop, metric=asked)
        families = {"half": columns[: len(columns) // 2], "all": columns}
        learning = Learning(of, np.ones(len(of.labels), bool))
        return digest(fit_goal(learning, families, goal, FitSettings(**settings)))

    def digest(found: Fitted) -> str:
        read, patch = found.patch
        arrays = [read, found.bias, *([] if patch is None else patch.arrays.values())]
        return hashlib.sha256(b"".join(array.tobytes() for array in arrays)).hexdigest()

    def fit_detector(head: Head) -> str:
        """20 pictures with 50 anchors each, of which one in eight holds an object of 20 classes."""
        rng, samples, classes = np.random.default_rng(0), np.repeat(np.arange(20), 50), 20
        corner, size = rng.uniform(0, 80, (1000, 2)), rng.uniform(8, 20, (1000, 2))
        box = np.concatenate([corner, corner + size], axis=1)
        number = np.where(rng.random(1000) < 1 / 8, rng.integers(0, classes, 1000), classes)
        marks = np.eye(classes + 1, dtype=np.int64)[number][:, : classes + (not head.several)]
        T = rng.normal(size=(1000, 16)).astype(np.float32)
        told = T @ rng.normal(size=(16, marks.shape[1]))
        Z = (4 * marks - 3 + 1.5 * rng.normal(size=marks.shape) - 0.5 * told).astype(np.float32)
        rows, there = np.column_stack([number, box]), number < classes
        truth = Truth.of([rows[there & (samples == k)] for k in range(20)])
        judge = AnchorJudge(head, truth, samples, np.arange(1000), box, np.ones(1000), Z)
        learning = Learning(Table(T, Z, marks if head.several else number, samples), np.ones(1000, bool))
        goal = ResolvedGoal(np.array([1, 4]), max_class_drop=FitSettings.max_class_drop, head=head)
        return digest(fit_boxes(learning, {"all": np.arange(16)}, goal, FitSettings(hidden=0), judge))

    three, four, ten = table(400, 20, 3), table(1000, 25, 4), table(1500, 64, 10)
    nothing, many = table(600, 25, 4, 0.0), table(3000, 25, 4)
    return {
        "400 samples, 20 neurons, 3 classes": lambda: fit(three, [0]),
        "the same, linear": lambda: fit(three, [0], hidden=0),
        "the same within 20 numbers": lambda: fit(three, [0], budget=20),
        "the same for F1, 16 hidden units": lambda: fit(three, [0], metric="f1", hidden=16),
        "1,000 samples, 25 neurons, 4 classes": lambda: fit(four, [0]),
        "the same, all classes": lambda: fit(four, [0, 1, 2, 3]),
        "600 samples, neurons that tell nothing": lambda: fit(nothing, [0]),
        "3,000 samples": lambda: fit(many, [0]),
        "1,500 samples, 64 neurons, 10 classes": lambda: fit(ten, [0, 1]),
        "the same, linear ": lambda: fit(ten, [0, 1], hidden=0),
        "a detector with a sigmoid for each class": lambda: fit_detector(SEVERAL_LABELS),
        "a detector with a softmax": lambda: fit_detector(ONE_LABEL),
    }


def answer() -> None:
    """Run the fits whose numbers come in, one a line; print seconds of the processor and digests."""
    runs = list(fits().values())
    print(len(runs), flush=True)
    for line in sys.stdin:
        began = time.process_time()
        digest = runs[int(line)]()
        print(time.process_time() - began, digest, flush=True)


def started(checkout: Path, threads: int) -> subprocess.Popen[str]:
    limits = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), str(threads))
    environment = os.environ | limits | {"PYTHONPATH": str(checkout), "PYTHONSAFEPATH": "1"}
    words = [sys.executable, __file__, "--answer"]
    return subprocess.Popen(words, stdin=-1, stdout=-1, text=True, env=environment)


def asked(process: subprocess.Popen[str], number: int) -> tuple[float, str]:
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write(f"{number}\n")
    process.stdin.flush()
    seconds, digest = process.stdout.readline().split()
    return float(seconds), digest


def compared(checkouts: tuple[Path, Path], rounds: int, threads: int) -> bool:
    """Print what both take; whether they find the same."""
    both, same, total = [started(checkout, threads) for checkout in checkouts], True, [0.0, 0.0]
    for process in both:
        assert process.stdout is not None
        process.stdout.readline()
    print("| fit | before | now | ratio |\n|---|--:|--:|--:|")
    for number, name in enumerate(fits()):
        readings = [[asked(process, number) for process in both] for _ in range(rounds)]
        before, now = (min(own[k][0] for own in readings) for k in range(2))
        total = [total[0] + before, total[1] + now]
        alike = len({digest for own in readings for _, digest in own}) == 1
        same &= alike
        note = "" if alike else " another patch"
        print(f"| {name.strip()} | {before:.3f} | {now:.3f} | {now / before:.2f}{note} |", flush=True)
    print(f"| all | {total[0]:.2f} | {total[1]:.2f} | {total[1] / total[0]:.2f} |")
    for process in both:
        process.communicate()
    return same


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--against", metavar="REVISION", default="main", help="git revision to compare with")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--answer", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.answer:
        answer()
        return 0
    sys.path.insert(0, str(ROOT))
    with tempfile.TemporaryDirectory() as scratch:
        tree = Path(scratch) / "tree"
        subprocess.run(
            ["git", "worktree", "add", "-q", "--detach", tree, given.against], cwd=ROOT, check=True
        )
        try:
            return 0 if compared((tree, ROOT), given.rounds, given.threads) else 1
        finally:
            subprocess.run(["git", "worktree", "remove", "--force", tree], cwd=ROOT, check=True)


if __name__ == "__main__":
    sys.exit(main())
