"""What could the word that is being typed become? Files, tensors of the model, names of classes.

The shell waits for the answer, so nothing heavy is imported: a model's nodes are read from its bytes, past
the weights, which are skipped.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path

import click
from click.shell_completion import CompletionItem

COMPLETE = "_ONNXTWEAK_COMPLETE"  # variable in which a shell's script asks for words

_SELECTORS = ("activations", "stages", "blocks", "penultimate")
_MOST = 200  # offers
# Protobuf: field numbers on the way from a model to its tensors' names, and wire types.
_GRAPH, _NODE, _OUTPUT, _OPERATOR = 7, 1, 2, 4
_VARINT, _EIGHT_BYTES, _LENGTH, _FOUR_BYTES = 0, 1, 2, 5


def files(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Whatever the shell finds on the disk."""
    return [CompletionItem(incomplete, type="file")]


def taps(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Selectors, operators and tensors of the model on the line."""
    nodes = _nodes(_model(ctx))
    operators = sorted({f"op:{operator}" for operator, _ in nodes})
    names = [name for _, outputs in nodes for name in outputs]
    return _offered([*_SELECTORS, *operators, *names], incomplete)


def tensors(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Tensors of the model on the line."""
    return _offered([name for _, outputs in _nodes(_model(ctx)) for name in outputs], incomplete)


def classes(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Names from --names, or from the folders of a folder of pictures."""
    names: list[str] = []
    try:
        if listed := ctx.params.get("names"):
            names = Path(listed).read_text(encoding="utf-8").split("\n")
        for source in ctx.params.get("data") or ():
            folder = Path(source.partition("#")[0])
            names += (
                sorted(path.name for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
            )
    except (OSError, ValueError):
        return []
    return _offered([name.strip() for name in names if name.strip()], incomplete)


def _model(ctx: click.Context) -> str | None:
    # While an option still lacks its value, click leaves arguments where they are.
    return ctx.params.get("model") or next((word for word in ctx.args if Path(word).is_file()), None)


def _offered(words: list[str], incomplete: str) -> list[CompletionItem]:
    # The protocol with the shell is one word a line.
    found = (w for w in dict.fromkeys(words) if w.startswith(incomplete) and w.isprintable())
    return [CompletionItem(word) for word, _ in zip(found, range(_MOST), strict=False)]


def _nodes(model: str | None) -> list[tuple[str, list[str]]]:
    """Operator and output names of each node; nothing where the file is no model."""
    try:
        with open(model or "", "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as held:
            graphs = (span for number, span in _fields(held, 0, len(held)) if number == _GRAPH)
            return [
                _node(held, *span)
                for graph in graphs
                for number, span in _fields(held, *graph)
                if number == _NODE
            ]
    except (OSError, ValueError, IndexError):
        return []


def _node(held: mmap.mmap, start: int, end: int) -> tuple[str, list[str]]:
    operator, outputs = "", []
    for number, (a, b) in _fields(held, start, end):
        if number == _OUTPUT:
            outputs.append(held[a:b].decode("utf-8"))
        elif number == _OPERATOR:
            operator = held[a:b].decode("utf-8")
    return operator, outputs


def _fields(held: mmap.mmap, at: int, end: int) -> Iterator[tuple[int, tuple[int, int]]]:
    """Number and span of every record with a length."""
    while at < end:
        tag, at = _varint(held, at)
        kind = tag & 7
        if kind == _LENGTH:
            length, at = _varint(held, at)
            yield tag >> 3, (at, at + length)
            at += length
        elif kind == _VARINT:
            _, at = _varint(held, at)
        elif kind in (_EIGHT_BYTES, _FOUR_BYTES):
            at += 8 if kind == _EIGHT_BYTES else 4
        else:
            raise ValueError("no protobuf")


def _varint(held: mmap.mmap, at: int) -> tuple[int, int]:
    value = shift = 0
    while shift < 70:
        byte = held[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at
    raise ValueError("no protobuf")
