"""Files whose patches have an earlier form: a Gemm that adds what was computed, empty slots, two graphs."""

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
from tests.support.tweaks import CNN3_TAPS, FILES_OF_FORM_1, random_tweak, saved

KINDS = ["synapses", "linear", "mlp", "shadow", "slot"]


@pytest.fixture
def base(tmp_path):
    return saved(cnn3(size=16, channels=(8, 8, 8), classes=5), tmp_path)


@pytest.mark.parametrize("kind", KINDS)
def test_they_revert_and_verify(kind, base):
    path = FILES_OF_FORM_1 / f"{kind}.onnx"
    assert revert(path.read_bytes()) == base.data
    assert only_the_splice(diff(base.data, path.read_bytes()))
    found = verify(tweaked=str(path))
    assert found.checks and all(check.passed for check in found.checks)
    # A record gives the same bytes again only in its own form.
    assert "record" not in {check.name for check in found.checks}


@pytest.mark.parametrize("kind", KINDS)
def test_a_tweak_is_put_upon_them(kind, base):
    old = read_model(FILES_OF_FORM_1 / f"{kind}.onnx")
    data = splice(old, random_tweak(old, CNN3_TAPS, 5, seed=3))
    assert revert(data) == old.data and revert(data, "all") == base.data


@pytest.mark.parametrize("kind", ["synapses", "linear", "mlp"])
def test_the_present_form_computes_the_same(kind, base):
    feeds = random_inputs(base.proto, 4)
    (before,) = tweaks.run(FILES_OF_FORM_1 / f"{kind}.onnx", feeds)
    (now,) = tweaks.run(splice(base, random_tweak(base, CNN3_TAPS, 5, kind)), feeds)
    np.testing.assert_allclose(now, before, rtol=1e-5, atol=1e-5)


def test_adapters_fill_their_slots(base):
    data, feeds = (FILES_OF_FORM_1 / "slot.onnx").read_bytes(), random_inputs(base.proto, 4)
    tweak = random_tweak(base, CNN3_TAPS, 5)
    slot = slot_inside(parse(data))
    (filled,) = tweaks.run(data, feeds | fill(slot, tweak))
    (constant,) = tweaks.run(splice(base, tweak), feeds)
    np.testing.assert_allclose(filled, constant, rtol=1e-5, atol=1e-5)
