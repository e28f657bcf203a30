"""Files whose patches have an earlier form.

1 : a Gemm that adds what was computed, empty slots, two graphs. 2 : what is pooled is flattened tap by tap.
3 : maps of 16, 32 ... channels are transposed to channels last before they are read.
"""

from __future__ import annotations

import numpy as np
import pytest

from onnxtweak.commands.verify import verify
from onnxtweak.model.edit.diff import diff, only_the_splice
from onnxtweak.model.edit.revert import revert
from onnxtweak.model.edit.slot import fill, slot_inside
from onnxtweak.model.edit.splice import splice
from onnxtweak.model.file.model_file import parse, read_model
from tests.support import tweaks
from tests.support.nets import cnn3, random_inputs
from tests.support.tweaks import (
    CNN3_TAPS,
    FILES_OF_FORM_1,
    FILES_OF_FORM_2,
    FILES_OF_FORM_3,
    MAP_TAPS,
    POOLED_TAPS,
    random_tweak,
    saved,
)

PATCHES = ["synapses", "linear", "mlp"]
FILES = [
    *(FILES_OF_FORM_1 / f"{kind}.onnx" for kind in (*PATCHES, "shadow", "slot")),
    *(FILES_OF_FORM_2 / f"{kind}.onnx" for kind in PATCHES),
    FILES_OF_FORM_3 / "synapses.onnx",
]


def _name(path):
    return f"{path.parent.name} {path.stem}"


def base_of(folder, tmp_path):
    first = 16 if folder == FILES_OF_FORM_3 else 8
    return saved(cnn3(size=16, channels=(first, 8, 8), classes=5), tmp_path)


@pytest.mark.parametrize("path", FILES, ids=_name)
def test_they_revert_and_verify(path, tmp_path):
    base = base_of(path.parent, tmp_path)
    assert revert(path.read_bytes()) == base.data
    assert only_the_splice(diff(base.data, path.read_bytes()))
    found = verify(tweaked=str(path))
    assert found.checks and all(check.passed for check in found.checks)
    # A record gives the same bytes again only in its own form.
    assert "record" not in {check.name for check in found.checks}


@pytest.mark.parametrize("path", FILES, ids=_name)
def test_a_tweak_is_put_upon_them(path, tmp_path):
    old, base = read_model(path), base_of(path.parent, tmp_path)
    data = splice(old, random_tweak(old, CNN3_TAPS, 5, seed=3))
    assert revert(data) == old.data and revert(data, "all") == base.data


@pytest.mark.parametrize("path", [path for path in FILES if path.stem in PATCHES], ids=_name)
def test_the_present_form_computes_the_same(path, tmp_path):
    base = base_of(path.parent, tmp_path)
    taps, count = {FILES_OF_FORM_2: (POOLED_TAPS, 20), FILES_OF_FORM_3: (MAP_TAPS, 7)}.get(
        path.parent, (CNN3_TAPS, 7)
    )
    feeds = random_inputs(base.proto, 4)
    (before,) = tweaks.run(path, feeds)
    (now,) = tweaks.run(splice(base, random_tweak(base, taps, 5, path.stem, count)), feeds)
    np.testing.assert_allclose(now, before, rtol=1e-5, atol=1e-5)


def test_adapters_fill_their_slots(tmp_path):
    base = base_of(FILES_OF_FORM_1, tmp_path)
    data, feeds = (FILES_OF_FORM_1 / "slot.onnx").read_bytes(), random_inputs(base.proto, 4)
    tweak = random_tweak(base, CNN3_TAPS, 5)
    slot = slot_inside(parse(data))
    (filled,) = tweaks.run(data, feeds | fill(slot, tweak))
    (constant,) = tweaks.run(splice(base, tweak), feeds)
    np.testing.assert_allclose(filled, constant, rtol=1e-5, atol=1e-5)
