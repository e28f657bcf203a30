"""Trained classifiers that others published, as ONNX files with labelled samples: what halves.py learns from.

    python -m benchmarks.science.fit.public_nets DATA OUT [NAME ...] [--mirrors CLONES] [--cache FOLDER]

DATA holds cifar10.npz and mnist.npz with the keys x_train, y_train, x_test, y_test, as
benchmarks/science/thesis/README.md makes them. OUT gets NAME.onnx and NAME.npz for each net, with the keys x
(brought to scale as the net's authors do) and y, and README: a line for each net with where it is from, what
accuracy its authors state and what it has on these samples. Without a name all are made. Needs h5py, git and
pip, and no PyTorch and no TensorFlow. Nothing of what is downloaded is run.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import onnxruntime

from benchmarks.science.fit.public.images import NETS as IMAGES
from benchmarks.science.fit.public.net import Made, Net, Tools
from benchmarks.science.fit.public.repositories import Clones
from benchmarks.science.fit.public.sounds import NETS as SOUNDS
from benchmarks.science.fit.public.tables import NETS as TABLES
from benchmarks.science.fit.public.words import NETS as WORDS

NETS = IMAGES + TABLES + SOUNDS + WORDS
BATCH = 500


def accuracy(made: Made) -> tuple[float, dict[int, float]]:
    """Of all samples, and of each class that has some, through plain ONNX Runtime."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 3, 1
    session = onnxruntime.InferenceSession(made.model, options)
    name = session.get_inputs()[0].name
    parts = range(0, len(made.x), BATCH)
    shown = np.concatenate([session.run(None, {name: made.x[i : i + BATCH]})[0] for i in parts])
    found = shown[:, 0] > 0.5 if shown.shape[1] == 1 else shown.argmax(1)
    right = found == made.y
    return right.mean(), {int(c): right[made.y == c].mean() for c in np.unique(made.y)}


def write(net: Net, tools: Tools, out: Path) -> str:
    """Make the net's two files; what README says of it."""
    made = net.make(tools)
    overall, of_class = accuracy(made)
    (out / f"{net.name}.onnx").write_bytes(made.model)
    np.savez_compressed(out / f"{net.name}.npz", x=made.x, y=made.y)
    stated = "no accuracy stated" if net.claimed is None else f"stated {net.claimed:.2%}"
    worst = min(of_class, key=lambda c: of_class[c])
    return (
        f"{net.name}: {net.kind}; {stated}, here {overall:.2%} of {len(made.y)} samples, worst class {worst} "
        f"{of_class[worst]:.1%}, {len(of_class)} classes; {len(made.model) / 1000:.0f} kB; "
        f"input {net.note}; from {net.source}; licence: {net.licence}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--mirrors", type=Path)
    parser.add_argument("--cache", type=Path, default=Path("build/public_nets"))
    asked = parser.parse_args()
    known = {net.name: net for net in NETS}
    unknown = set(asked.names) - set(known)
    if unknown:
        parser.error(f"{', '.join(sorted(unknown))} is none of {', '.join(known)}")
    asked.out.mkdir(parents=True, exist_ok=True)
    tools = Tools(Clones(asked.cache, asked.mirrors), asked.data)
    readme = asked.out / "README"
    lines = dict(line.split(": ", 1) for line in readme.read_text().splitlines()) if readme.exists() else {}
    for name in asked.names or known:
        said = write(known[name], tools, asked.out)
        print(said, flush=True)
        lines[name] = said.split(": ", 1)[1]
        readme.write_text("".join(f"{each}: {of}\n" for each, of in lines.items()))


if __name__ == "__main__":
    main()
