"""What anybody may have written reaches no terminal as a command."""

from __future__ import annotations

import codecs
import json

import pytest

from onnxtweak.printable import ascii_json, plain, visible, visible_json, visible_lines

HOSTILE = [
    "\x1b[31m",
    "\x07",
    "\n",
    "\r",
    "\t",
    "\x9b2J",
    "\x7f",
    "\u202e",
    "\u2066",
    "\u200b",
    "\u2028",
    "\ufeff",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_what_a_terminal_would_obey_is_shown_as_an_escape(text):
    shown = visible(f"a{text}b")
    assert shown.isprintable() and shown.isascii() and shown.startswith("a\\") and shown.endswith("b")
    assert visible_lines(f"a{text}b\nc").split("\n")[-1] == "c"


def test_what_can_be_seen_stays():
    for text in ("conv1/relu:0", "Größe", "猫　犬", "a\u00a0b", "1 – 2…", "C:\\models\\m.onnx", ""):
        assert visible(text) == text


def test_bytes_of_a_path_that_are_no_utf8_are_shown():
    assert visible(b"caf\xe9.onnx".decode("utf-8", "surrogateescape")) == "caf\\udce9.onnx"


@pytest.mark.parametrize("text", [*HOSTILE, "é", "\udce9", "\U000e0041", '"\\'])
def test_json_means_the_same(text):
    written = json.dumps({text: [text]}, ensure_ascii=False, indent=1)
    for safe in (visible_json(written), ascii_json(visible_json(written))):
        assert json.loads(safe) == {text: [text]}
        assert all(c.isprintable() or c == "\n" for c in safe)
    assert ascii_json(written).isascii()


def test_an_encoding_that_lacks_a_character_gets_a_stand_in():
    codecs.register_error("onnxtweak", plain)
    assert "12 ± 3 µs → a…\udce9猫".encode("ascii", "onnxtweak") == b"12 +/- 3 us -> a...\\udce9\\u732b"
