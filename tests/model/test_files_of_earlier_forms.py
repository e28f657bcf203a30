"""Files whose patches have an earlier form.

1 : a Gemm that adds what was computed, empty slots, two graphs. 2 : what is pooled is flattened tap by tap.
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
    POOLED_TAPS,
    random_tweak,
    saved,
)

PATCHES = ["synapses", "linear", "mlp"]
FILES = [
    *(FILES_OF_FORM_1 / f"{kind}.onnx" for kind in (*PATCHES, "shadow", "slot")),
    *(FILES_OF_FORM_2 / f"{kind}.onnx" for kind in PATCHES),
]


def _name(path):
    return f"{path.parent.name} {path.stem}"


@pytest.fixture
def base(tmp_path):
    return saved(cnn3(size=16, channels=(8, 8, 8), classes=5), tmp_path)


@pytest.mark.parametrize("path", FILES, ids=_name)
def test_they_revert_and_verify(path, base):
    assert revert(path.read_bytes()) == base.data
    assert only_the_splice(diff(base.data, path.read_bytes()))
    found = verify(tweaked=str(path))
    assert found.checks and all(check.passed for check in found.checks)
    # A record gives the same bytes again only in its own form.
    assert "record" not in {check.name for check in found.checks}


@pytest.mark.parametrize("path", FILES, ids=_name)
def test_a_tweak_is_put_upon_them(path, base):
    old = read_model(path)
    data = splice(old, random_tweak(old, CNN3_TAPS, 5, seed=3))
    assert revert(data) == old.data and revert(data, "all") == base.data


@pytest.mark.parametrize("kind", PATCHES)
@pytest.mark.parametrize(
    ("folder", "taps", "count"), [(FILES_OF_FORM_1, CNN3_TAPS, 7), (FILES_OF_FORM_2, POOLED_TAPS, 20)]
)
def test_the_present_form_computes_the_same(folder, taps, count, kind, base):
    feeds = random_inputs(base.proto, 4)
    (before,) = tweaks.run(folder / f"{kind}.onnx", feeds)
    (now,) = tweaks.run(splice(base, random_tweak(base, taps, 5, kind, count)), feeds)
    np.testing.assert_allclose(now, before, rtol=1e-5, atol=1e-5)


def test_adapters_fill_their_slots(base):
    data, feeds = (FILES_OF_FORM_1 / "slot.onnx").read_bytes(), random_inputs(base.proto, 4)
    tweak = random_tweak(base, CNN3_TAPS, 5)
    slot = slot_inside(parse(data))
    (filled,) = tweaks.run(data, feeds | fill(slot, tweak))
    (constant,) = tweaks.run(splice(base, tweak), feeds)
    np.testing.assert_allclose(filled, constant, rtol=1e-5, atol=1e-5)
