"""How may a tweaked file be damaged? Bits flip, and records lose what newer versions write."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from onnxtweak.model.file.model_file import parse
from onnxtweak.model.file.tweak_metadata import record_entries, tweaks_inside


def bits_flipped(base: bytes, tweaked: bytes, count: int, seed: int = 0) -> Iterator[bytes]:
    """The tweaked file `count` times, each with another bit flipped of what a tweak added to `base`.

    Half of the bits are in the graph, half in the record.
    """
    rng = np.random.default_rng(seed)
    inside = tweaks_inside(parse(tweaked))[-1]
    record = tweaked.rindex(f"onnxtweak.{inside.number}.version".encode())
    end = inside.undo["length"] if inside.shadow is None else record
    places = [np.arange(start, stop) for start, stop, _ in inside.undo["edits"]] or [
        np.arange(len(base), end)
    ]
    for region in (np.concatenate(places), np.arange(record, len(tweaked))):
        bits = rng.choice(8 * len(region), min(count // 2, 8 * len(region)), replace=False)
        for bit in bits.tolist():
            damaged = bytearray(tweaked)
            damaged[region[bit // 8]] ^= 1 << bit % 8
            yield bytes(damaged)


def without_digests(tweaked: bytes) -> bytes:
    """The file as it was written before there were digests: the last entry of the record is missing."""
    proto = parse(tweaked)
    number = tweaks_inside(proto)[-1].number
    key, _ = record_entries(proto, number)[-1]
    assert key == f"onnxtweak.{number}.digests"
    cut = tweaked.rindex(key.encode())
    while not tweaked[cut:].startswith(b"\x72"):  # the tag of the model's metadata
        cut -= 1
    return tweaked[:cut]
