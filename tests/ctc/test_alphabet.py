"""Which characters classes stand for, and what a path reads as."""

from __future__ import annotations

import numpy as np
import pytest

from onnxtweak.ctc.alphabet import Alphabet, alphabet_in, read_alphabet
from onnxtweak.errors import DataError


def test_a_path_reads_as_its_runs_without_the_blank():
    alphabet = Alphabet.of_classes(("a", "b"), 3, first=True)
    assert alphabet.read(np.array([0, 1, 1, 0, 1, 2, 2, 0])) == "aab"
    assert Alphabet.of_classes(("a", "b"), 3, first=False).read(np.array([2, 0, 0, 2, 0, 1])) == "aab"
    assert alphabet.read(np.array([0, 0])) == ""


def test_the_space_may_be_left_out():
    alphabet = Alphabet.of_classes(("a", "b"), 4, first=True)
    assert alphabet.characters == ("", "a", "b", " ")
    assert alphabet.names == ("(blank)", "a", "b", "(space)")
    assert alphabet.numbers("b a").tolist() == [2, 3, 1]
    with pytest.raises(DataError, match="3 characters, and the model 5 classes"):
        Alphabet.of_classes(("a", "b", " "), 5, first=True)


def test_what_has_no_class_is_found():
    alphabet = Alphabet.of_classes(("a", "b"), 3, first=True)
    assert alphabet.unknown(["ab", "bca"]) == "c" and alphabet.unknown(["ab"]) is None


def test_a_file_holds_one_character_a_line(tmp_path):
    file = tmp_path / "alphabet.txt"
    file.write_text("\ufeffa\n \n#\n", encoding="utf-8")
    assert read_alphabet(file) == ("a", " ", "#")
    assert alphabet_in("'\n疗", "a model") == ("'", "疗")
    file.write_bytes(b"a\n\xff\n")
    with pytest.raises(DataError, match="the alphabet cannot be read"):
        read_alphabet(file)
