"""Legal files that trip up tools: each is tapped, tweaked, proven, taken back, or refused with a reason."""

from __future__ import annotations

import pytest

from benchmarks.conformance.corpus import CHECKS, Model, on_disk, page, tried
from tests.support import adversarial_models


@pytest.mark.parametrize("way", ["classifier", "forced"])
@pytest.mark.parametrize("name", adversarial_models.CASES)
def test_the_surgery_holds_on(name, way, tmp_path):
    path = adversarial_models.write(name, tmp_path)
    files = {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
    work = tmp_path / "work"
    work.mkdir()
    outcome = tried(Model("adversarial", name, path), way, work)
    assert not outcome.crash
    assert all(outcome.checks.values())
    asked = set(CHECKS) if name not in adversarial_models.NOT_RUNNABLE else set(CHECKS) - {"neutral"}
    if way == "classifier" and name in adversarial_models.NOT_RUNNABLE:
        assert "cannot load" in outcome.refused
    elif not outcome.refused.startswith("(forced)"):
        assert not outcome.refused and set(outcome.checks) == asked
    assert {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()} == files


def test_the_page_counts_what_happened(tmp_path):
    outcomes = [
        tried(model, way, tmp_path) for model in on_disk("simple") for way in ("classifier", "forced")
    ]
    assert not any(outcome.crash for outcome in outcomes)
    text = page(outcomes, 1.0)
    assert "| simple | classifier | 23 | 0 | 23 |" in text
    assert text.endswith("None.\n")
