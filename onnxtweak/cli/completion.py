"""What could the word that is being typed become? Files, tensors of the model, names of classes.

The shell waits for the answer, so nothing heavy is imported: a model's nodes are scanned in its bytes,
without reading the weights.
"""

from __future__ import annotations

import mmap
from pathlib import Path

import click
from click.shell_completion import CompletionItem

from onnxtweak.errors import ModelError
from onnxtweak.model.file.protobuf_edit import Field, fields, scan

COMPLETE = "_ONNXTWEAK_COMPLETE"  # variable in which a shell's script asks for words

_SELECTORS = ("activations", "stages", "blocks", "penultimate", "front")
_MOST = 200  # offers
# ONNX's field numbers on the way from a model to its tensors' names.
_GRAPH, _NODE, _OUTPUT, _OPERATOR = 7, 1, 2, 4


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
    """Names from --names, or from the folders of a folder of images."""
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
    """Operator and output names of each node; nothing where the file is not a model."""
    try:
        with open(model or "", "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as held:
            return [
                _node(held, node)
                for graph in fields(scan(held), _GRAPH)
                for node in fields(scan(held, graph.value, graph.end), _NODE)
            ]
    except (OSError, ValueError, ModelError):
        return []


def _node(held: mmap.mmap, node: Field) -> tuple[str, list[str]]:
    records = list(scan(held, node.value, node.end))
    operators, outputs = (
        [held[record.value : record.end].decode("utf-8") for record in fields(records, number)]
        for number in (_OPERATOR, _OUTPUT)
    )
    return "".join(operators[-1:]), outputs
