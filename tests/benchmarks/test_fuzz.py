"""A slice of the fuzzing run (benchmarks/conformance/fuzz.py): damaged files end with one clear error."""

from __future__ import annotations

import sys

import pytest

from benchmarks.conformance.fuzz import fuzz

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs SIGALRM to notice a hang")


@pytest.mark.parametrize("first", [0, 1_000_000])
def test_damaged_files_end_with_one_clear_error(first):
    counts = fuzz(300, seed=1, first=first)
    assert not [outcome for outcome in counts if outcome.startswith("FAILED")]
    assert counts["exit 2"] > 20 and counts["exit 3"] > 5 and counts["InputError"] > 20
