"""Which files on this machine have a type that their name gives away, and which type is it?

Names are trusted only where one extension means one label in practice: `.txt` is left out, because half of
such files are reStructuredText, tables or settings. A few need a look inside as well: a `.h` file may be C or
C++, a `.crt` file text or binary.
"""

from __future__ import annotations

import os
import random
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

EXTENSIONS = {
    "asm": "S asm nasm",
    "awk": "awk",
    "batch": "bat cmd",
    "bib": "bib",
    "bmp": "bmp",
    "bzip": "bz2",
    "c": "c h",
    "cmake": "cmake",
    "cpp": "cpp cc cxx hpp hh hxx tcc",
    "crt": "crt pem",
    "cs": "cs",
    "css": "css",
    "csv": "csv",
    "deb": "deb",
    "diff": "diff patch",
    "elf": "so o",
    "fortran": "f f90 f95",
    "gif": "gif",
    "go": "go",
    "gzip": "gz",
    "h5": "h5 hdf5",
    "html": "html htm",
    "ico": "ico",
    "ini": "ini",
    "ipynb": "ipynb",
    "jar": "jar",
    "java": "java",
    "javabytecode": "class",
    "javascript": "js mjs cjs",
    "jpeg": "jpg jpeg",
    "json": "json",
    "latex": "tex sty",
    "lisp": "el lisp lsp",
    "lua": "lua",
    "m4": "m4",
    "markdown": "md",
    "npy": "npy",
    "npz": "npz",
    "onnx": "onnx",
    "otf": "otf",
    "pdf": "pdf",
    "pebin": "exe dll",
    "perl": "pl pm",
    "php": "php",
    "pickle": "pkl pickle",
    "png": "png",
    "po": "po pot",
    "postscript": "ps eps",
    "powershell": "ps1 psm1",
    "proto": "proto",
    "python": "py pyi",
    "pythonbytecode": "pyc",
    "r": "R r",
    "rst": "rst",
    "ruby": "rb",
    "rust": "rs",
    "scss": "scss",
    "shell": "sh bash",
    "sql": "sql",
    "sqlite": "sqlite sqlite3",
    "srt": "srt",
    "svg": "svg",
    "tar": "tar",
    "tcl": "tcl tm",
    "toml": "toml",
    "tsv": "tsv",
    "ttf": "ttf",
    "typescript": "ts tsx",
    "vba": "vbs",
    "wasm": "wasm",
    "wav": "wav",
    "webp": "webp",
    "woff": "woff",
    "woff2": "woff2",
    "xml": "xml xsd xsl xslt",
    "xz": "xz",
    "yaml": "yaml yml",
    "zip": "zip whl",
}
NAMES = {
    "CMakeLists.txt": "cmake",
    "Dockerfile": "dockerfile",
    "Makefile": "makefile",
    "makefile": "makefile",
    ".gitignore": "ignorefile",
    ".gitattributes": "gitattributes",
}
CPLUSPLUS = re.compile(
    rb"^\s*(namespace\s+\w+|template\s*<|class\s+\w+|using\s+namespace|(public|private):)", re.M
)

LABEL_OF = {f".{ending}": label for label, endings in EXTENSIONS.items() for ending in endings.split()}


def label(path: Path, head: bytes = b"") -> str | None:
    """The type that the name (and, where that is not enough, the first bytes) gives; None if unclear."""
    found = NAMES.get(path.name) or LABEL_OF.get(path.suffix)
    if path.suffix == ".h":
        cplusplus, both = CPLUSPLUS.search(head) is not None, b"__cplusplus" in head
        if cplusplus:
            return None if both else "cpp"
    if found == "crt":
        return "pem" if b"-----BEGIN " in head else found
    if found == "xml" and b"<svg" in head:
        return None
    return found


def walk(folders: list[Path]) -> Iterator[Path]:
    """Every ordinary file below the folders, links left out, in sorted order."""
    for top in folders:
        for folder, inner, names in os.walk(top):
            inner.sort()
            for name in sorted(names):
                path = Path(folder, name)
                if (path.suffix in LABEL_OF or name in NAMES) and not path.is_symlink():
                    yield path


def candidates(folders: list[Path], seed: int) -> list[Path]:
    """Every path that a name gives a label to, in a seeded random order."""
    paths = list(walk(folders))
    random.Random(seed).shuffle(paths)
    return paths


def divide(paths: list[Path], seed: int) -> tuple[list[int], bool]:
    """Send half of the files of one label to fit: (their positions, whether folders stayed whole).

    Neighbours in a folder resemble each other, so a folder goes to one side as a whole; folders whose last
    three names agree count as one, since they hold versions of the same package. Where a label lives in too
    few folders to leave a quarter of its files on each side, single files are drawn instead.
    """
    chooser = random.Random(seed)
    by_folder = defaultdict(list)
    for position, path in enumerate(paths):
        by_folder[path.parts[-4:-1]].append(position)
    groups = [by_folder[folder] for folder in sorted(by_folder)]
    chooser.shuffle(groups)
    fit: list[int] = []
    for group in groups:
        if len(fit) + len(group) / 2 <= len(paths) / 2:
            fit += group
    if len(fit) >= len(paths) / 4 and len(groups) >= 4:
        return sorted(fit), True
    return sorted(chooser.sample(range(len(paths)), len(paths) // 2)), False
