"""The graph around a splice, small enough for a picture."""

from __future__ import annotations

import onnx
import pytest

from onnxtweak.model.edit.neighborhood import neighborhood
from onnxtweak.model.edit.splice import splice
from onnxtweak.model.graph import GraphIndex
from tests.support.nets import cnn3
from tests.support.tweaks import CNN3_TAPS, random_tweak, saved


@pytest.mark.parametrize("kind", ["synapses", "linear", "mlp"])
def test_what_is_added_what_it_reads_and_what_follows(tmp_path, kind):
    base = saved(cnn3(), tmp_path)
    tweak = random_tweak(base, CNN3_TAPS, 10, kind)
    seen = neighborhood(GraphIndex(onnx.load_from_string(splice(base, tweak))))
    by_role = {}
    for place in seen.places:
        by_role.setdefault(place.role, []).append(place)
    assert {"input", "output", "added", "read"} <= set(by_role)
    assert all(place.name.startswith("onnxtweak/") for place in by_role["added"])
    assert {tap.name for tap in CNN3_TAPS[:1]} & {place.name for place in by_role["read"]}
    for a, b, _ in seen.edges:
        assert 0 <= a < len(seen.places) and 0 <= b < len(seen.places) and a != b
    reached = {b for _, b, _ in seen.edges}
    assert all(k in reached for k, place in enumerate(seen.places) if place.role in ("added", "output"))


def test_a_base_has_no_tweak():
    assert neighborhood(GraphIndex(cnn3())) is None
