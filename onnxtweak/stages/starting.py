"""Is a model so large that to start it takes time that the user should see pass?"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from onnxtweak.engine.opened import Opened
from onnxtweak.types import Progress, ticking

MANY_NODES = 20_000  # ONNX Runtime starts fewer within seconds


@contextmanager
def starting(opened: Opened, what: str, progress: Progress) -> Iterator[None]:
    """Show how long the block takes, where it starts a model of very many nodes. what : it does."""
    nodes = len(opened.model.graph.nodes)
    if nodes < MANY_NODES:
        yield
        return
    progress.start(what, 0, "nodes")
    with ticking(progress):
        yield
    progress.advance(nodes)
    progress.finish()
