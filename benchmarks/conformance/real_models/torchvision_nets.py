"""Are the topologies of torchvision patched soundly, from both of PyTorch's exporters?

    python benchmarks/conformance/real_models/torchvision_nets.py [NAME ...]

Each net has random weights, so the structure of the file is what is tried: `join` and `fit` on random
samples with labels drawn by turns, all checks, and `revert`, which must give the base back byte for byte.
Needs torch, torchvision and onnxscript. A row for each net, exporter and command; exits with 1 if any failed.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
import torchvision

import onnxtweak
from onnxtweak.errors import OnnxtweakError

CLASSES, SAMPLES, TARGET = 20, 160, 3
# Side of the square input: small, for speed, where the net takes any.
SIDES = {
    "resnet18": 64,
    "mobilenet_v3_small": 64,
    "efficientnet_b0": 64,
    "shufflenet_v2_x0_5": 64,
    "squeezenet1_1": 64,
    "googlenet": 96,
    "densenet121": 64,
    "regnet_y_400mf": 64,
    "mnasnet0_5": 64,
    "convnext_tiny": 64,
    "swin_t": 64,
    "vit_b_32": 224,
}
EXPORTERS = {"torchscript": False, "dynamo": True}


def export(name: str, dynamo: bool, path: Path) -> None:
    """Net `name` with random weights as an ONNX file with a free batch axis."""
    torch.manual_seed(0)
    only = {"aux_logits": False, "init_weights": True} if name == "googlenet" else {}
    net = getattr(torchvision.models, name)(weights=None, num_classes=CLASSES, **only).eval()
    if dynamo:
        free = {0: torch.export.Dim("batch", min=1, max=4096)}
        batch = {"dynamic_shapes": (free,), "external_data": False, "verbose": False}
    else:
        batch = {"dynamic_axes": {"x": {0: "batch"}, "logits": {0: "batch"}}}
    example = torch.randn(2, 3, SIDES[name], SIDES[name])
    names = {"input_names": ["x"], "output_names": ["logits"]}
    torch.onnx.export(net, (example,), str(path), dynamo=dynamo, **names, **batch)


def patched(command: str, model: Path, data: Path, folder: Path) -> str:
    """What came of patching and reverting, in a few words; starts with "failed" if anything did."""
    out, base = folder / "out.onnx", folder / "base.onnx"
    try:
        make = getattr(onnxtweak, command)
        # Labels are random, and so are the weights: nothing to learn, but a file to write.
        asked = {"data": str(data), "target": TARGET, "max_overall_drop": 5, "anyway": True}
        made = make(model, **asked, output=str(out), force=True)
        wrong = [check.name for check in made.checks if not check.passed]
        if wrong:
            return f"failed: {', '.join(wrong)}"
        said = f"{made.choice.neurons:,} neurons, {len(made.checks)} checks passed"
        if not made.tweak["parameters"]:
            return f"{said}, the answer is the base"
        onnxtweak.revert(out, output=str(base), force=True)
    except OnnxtweakError as problem:
        return f"failed: {problem}"
    same = base.read_bytes() == model.read_bytes()
    return f"{said}, reverted byte for byte" if same else "failed: the reverted file is another"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="of torchvision; all that are known without")
    chosen = parser.parse_args().names or list(SIDES)
    failed = 0
    print("| net | exporter | command | outcome |\n|---|---|---|---|")
    for name in chosen:
        with tempfile.TemporaryDirectory() as folder:
            model, data = Path(folder) / "model.onnx", Path(folder) / "data.npz"
            x = np.random.default_rng(0).normal(size=(SAMPLES, 3, SIDES[name], SIDES[name]))
            np.savez(data, x=x.astype(np.float32), y=np.arange(SAMPLES) % CLASSES)
            for exporter, dynamo in EXPORTERS.items():
                export(name, dynamo, model)
                for command in ("join", "fit"):
                    outcome = patched(command, model, data, Path(folder))
                    failed += outcome.startswith("failed")
                    print(f"| {name} | {exporter} | {command} | {outcome} |", flush=True)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
