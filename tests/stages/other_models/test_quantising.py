"""Before a patch is quantised it is said whether that would lose it, and the exclusion works as printed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

import onnxtweak
from onnxtweak.demo_files import demo_files
from tests.support.plain_session import plain_session

quantization = pytest.importorskip("onnxruntime.quantization")
MODEL, DATA = str(demo_files().model), str(demo_files().data)
EXCLUDE = "nodes_to_exclude="


def right(path: Path | str) -> float:
    with np.load(DATA) as held:
        x, y = held["x_test"], held["y_test"]
    session = plain_session(path)
    return float((session.run(None, {"image": x})[0].argmax(axis=1) == y).mean())


def excluded(notes, file: Path) -> list[str]:
    """The nodes that the one note says should be left as they are, by the words of the note."""
    (note,) = [note for note in notes if EXCLUDE in note]
    return eval(note.split(EXCLUDE)[1], {"onnx": onnx, "FILE": file})


def test_what_int8_would_lose_is_said_and_stays_with_the_nodes_left_out(tmp_path):
    file, whole, spared = (tmp_path / f"{name}.onnx" for name in ("tweaked", "whole", "spared"))
    made = onnxtweak.fit(MODEL, data=f"{DATA}#fit", pool="mean", hidden=0, output=str(file))
    assert any("weights of 8 bits would change what the tweak adds" in note for note in made.notes)
    nodes = excluded(made.notes, file)
    assert nodes and nodes == excluded(onnxtweak.inspect(file).notes, file)
    quantization.quantize_dynamic(file, whole)
    quantization.quantize_dynamic(file, spared, nodes_to_exclude=nodes)
    assert right(file) > right(MODEL)
    assert right(whole) < right(MODEL)
    assert right(spared) >= right(MODEL) + 0.9 * (right(file) - right(MODEL)) - 1 / 500


def test_nothing_is_said_of_a_tweak_that_int8_does_not_harm(tmp_path):
    file, whole = tmp_path / "tweaked.onnx", tmp_path / "whole.onnx"
    made = onnxtweak.join(MODEL, data=f"{DATA}#fit", target=8, output=str(file))
    assert not any(EXCLUDE in note for note in made.notes)
    quantization.quantize_dynamic(file, whole)
    assert right(whole) >= right(file) - 2 / 500


def test_of_a_quantised_model_nothing_is_said(tmp_path):
    base, file = tmp_path / "base.onnx", tmp_path / "tweaked.onnx"
    quantization.quantize_dynamic(MODEL, base)
    made = onnxtweak.fit(base, data=f"{DATA}#fit", pool="mean", hidden=0, output=str(file))
    assert not any(EXCLUDE in note for note in (*made.notes, *onnxtweak.inspect(file).notes))
