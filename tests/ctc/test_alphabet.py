"""Which characters classes stand for, and what a path reads as."""

from __future__ import annotations

import numpy as np
import pytest

from onnxtweak.ctc.alphabet import Alphabet, alphabet_in, read_alphabet
from onnxtweak.errors import DataError
from onnxtweak.settings import DataSettings
from onnxtweak.stages.lines.find_alphabet import alphabet_of


def test_a_path_reads_as_its_runs_without_the_blank():
    alphabet = Alphabet.of_classes(("a", "b"), 3, blank=0)
    assert alphabet.read(np.array([0, 1, 1, 0, 1, 2, 2, 0])) == "aab"
    assert Alphabet.of_classes(("a", "b"), 3, blank=-1).read(np.array([2, 0, 0, 2, 0, 1])) == "aab"
    assert alphabet.read(np.array([0, 0])) == ""


def test_the_blank_may_be_any_class():
    alphabet = Alphabet.of_classes(("a", "b"), 3, blank=1)
    assert alphabet.characters == ("a", "", "b") and alphabet.read(np.array([0, 1, 0, 2, 2])) == "aab"
    with pytest.raises(DataError, match="no class 3: the model has 3") as caught:
        Alphabet.of_classes(("a", "b"), 3, blank=3)
    assert caught.value.hint == "give a number from 0 to 2, or -1 for the last class"


@pytest.mark.parametrize("blank", [0, 1, 3])
def test_the_blank_is_the_class_with_which_lines_are_read_best(blank):
    wanted = Alphabet.of_classes(("a", "b", "c"), 4, blank)
    a, b, c = wanted.numbers("abc")
    seen = [("ab", np.array([blank, a, blank, blank, b])), ("cc", np.array([c, blank, c, c, blank]))]
    settings = DataSettings(alphabet=("a", "b", "c"))
    assert alphabet_of(settings, 4, seen) == wanted
    # A character that is held for longer than nothing is shown is not taken for the blank.
    held = [("ab", np.array([a] * 9 + [b])), ("ba", np.array([blank, b, a, a, a]))]
    if blank != 1:
        assert alphabet_of(settings, 4, held) == wanted


def test_the_space_may_be_left_out():
    alphabet = Alphabet.of_classes(("a", "b"), 4, blank=0)
    assert alphabet.characters == ("", "a", "b", " ")
    assert alphabet.names == ("(blank)", "a", "b", "(space)")
    assert alphabet.numbers("b a").tolist() == [2, 3, 1]
    with pytest.raises(DataError, match="3 characters, and the model 5 classes"):
        Alphabet.of_classes(("a", "b", " "), 5, blank=0)


def test_what_has_no_class_is_found():
    alphabet = Alphabet.of_classes(("a", "b"), 3, blank=0)
    assert alphabet.unknown(["ab", "bca"]) == "c" and alphabet.unknown(["ab"]) is None


def test_a_file_holds_one_character_a_line(tmp_path):
    file = tmp_path / "alphabet.txt"
    file.write_text("\ufeffa\n \n#\n", encoding="utf-8")
    assert read_alphabet(file) == ("a", " ", "#")
    assert alphabet_in("'\n疗", "a model") == ("'", "疗")
    file.write_bytes(b"a\n\xff\n")
    with pytest.raises(DataError, match="the alphabet cannot be read"):
        read_alphabet(file)
