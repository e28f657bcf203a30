"""Which nets for text are there: messages that are spam or not, the language of a source file?"""

from __future__ import annotations

import csv
import io
import json
import re
import string
import zipfile
from pathlib import Path

import numpy as np

from benchmarks.science.fit.public import pickles
from benchmarks.science.fit.public.keras_file import convert
from benchmarks.science.fit.public.net import Made, Net, Tools
from benchmarks.science.fit.public.packages import wheel
from benchmarks.science.fit.public.repositories import Repository

SPAM = Repository(
    "PeyvandQuanchi/LSTM-Spam-Detector", "3668f384fc7682990b9a3e1886b40134212c1079", "none stated"
)
LINGUIST = Repository("github-linguist/linguist", "b45dbe9b2825a43285bcd035861be91cc0a7299e", "MIT")
MAGIKA = "magika==1.0.3"
STORED = "magika/models/standard_v3_3"
UNKNOWN = 1  # the number of a word that is not in the vocabulary; 0 pads
WORDS = 64  # of a message; longer ones are cut

# Folders of linguist's samples whose label in magika is not their name in small letters.
LABELS = {
    "Assembly": "asm",
    "Batchfile": "batch",
    "C#": "cs",
    "C++": "cpp",
    "Common Lisp": "lisp",
    "Emacs Lisp": "lisp",
    "Fortran Free Form": "fortran",
    "Git Attributes": "gitattributes",
    "HTML+ERB": "erb",
    "Ignore List": "ignorefile",
    "Jupyter Notebook": "ipynb",
    "M4Sugar": "m4",
    "Objective-C": "objectivec",
    "Protocol Buffer": "proto",
    "SystemVerilog": "verilog",
    "TeX": "latex",
    "Unix Assembly": "asm",
    "Visual Basic .NET": "vba",
    "reStructuredText": "rst",
}


def spam(tools: Tools) -> Made:
    """A message -> spam, from its first words in small letters and without punctuation."""
    text = tools.clones.read(SPAM, "spam.csv").decode("latin1")
    rows = list(csv.reader(io.StringIO(text)))[1:]
    stored = pickles.read(tools.clones.read(SPAM, "vectorizer_vocab.pkl"))
    number = {str(word): i for i, word in enumerate(stored)}
    x = np.zeros((len(rows), WORDS), np.int64)
    marks = re.compile(f"[{re.escape(string.punctuation)}]")
    for row, (_, message, *_) in zip(x, rows, strict=True):
        found = [number.get(word, UNKNOWN) for word in marks.sub("", message.lower()).split()][:WORDS]
        row[: len(found)] = found
    y = np.array([row[0] == "spam" for row in rows], np.int64)
    return Made(convert(tools.clones.read(SPAM, "spam_model.h5")), x, y)


def source_files(tools: Tools) -> Made:
    """Bytes of a file -> its type, of linguist's samples those whose language magika knows."""
    with zipfile.ZipFile(wheel(MAGIKA, tools.clones.cache)) as package:
        model = package.read(f"{STORED}/model.onnx")
        of = json.loads(package.read(f"{STORED}/config.min.json"))
    number = {label: i for i, label in enumerate(of["target_labels_space"])}
    x, y = [], []
    for name, blob in tools.clones.read_all(LINGUIST, "samples").items():
        folder = Path(name).parts[1]
        label = number.get(LABELS.get(folder, folder.lower()))
        if label is not None and len(blob) >= of["min_file_size_for_dl"]:
            x.append(both_ends(blob, of))
            y.append(label)
    return Made(model, np.array(x), np.array(y))


def both_ends(blob: bytes, of: dict) -> np.ndarray:
    """(beginning + end,) int32: bytes without white space around them, padded towards the middle."""
    begin, end, block = of["beg_size"], of["end_size"], of["block_size"]
    made = np.full(begin + end, of["padding_token"], np.int32)
    first, last = blob[:block].lstrip()[:begin], blob[-block:].rstrip()[-end:]
    made[: len(first)] = list(first)
    made[len(made) - len(last) :] = list(last)
    return made


NETS = (
    Net(
        "spam",
        spam,
        f"{SPAM.name}, spam_model.h5 and spam.csv",
        SPAM.licence,
        claimed=0.9679,
        kind="text, SMS, 2 classes, LSTM with one sigmoid output",
        note=f"numbers of the first {WORDS} words; trained on a third of these, accuracy stated of the rest",
    ),
    Net(
        "source_files",
        source_files,
        f"PyPI {MAGIKA}, {STORED}/model.onnx; files: {LINGUIST.name}, samples ({LINGUIST.licence})",
        "Apache-2.0",
        claimed=None,
        kind="bytes of text, 80 of 214 types, convolutions, softmax",
        note="int32, first and last 1024 bytes as magika cuts them",
    ),
)
