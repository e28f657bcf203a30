"""How does a copy agree with the reference that it was matched to? And how accurate are both?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from onnxtweak.report.markup import percent, safe, section, table

_COLUMNS = ("reference", "base", "tweaked", "bias")


def matched(made: Mapping[str, Any]) -> str:
    """A section; nothing for a result that was not matched."""
    found = made.get("matched")
    if not found:
        return ""
    rows = [_row("decides as the reference", {"reference": 1.0, **found["agreement"]})]
    if found["accuracy"]:
        rows.append(_row("right by the labels", found["accuracy"]))
    head = ["", "reference", "base", "tweaked", "bias only"]
    reference = f"<p>The reference: <bdi>{safe(found['reference']['path'])}</bdi></p>"
    said = (
        "Percent of samples. Nothing was learnt from labels: what the reference decides was taken for right."
    )
    return section("A copy matched to a reference", table(head, rows, numbers=4), reference, said=said)


def _row(name: str, shares: Mapping[str, float]) -> list[str]:
    return [name, *(percent(shares[column]) for column in _COLUMNS)]
