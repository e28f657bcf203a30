"""Which samples does a Python program hold itself, in place of a file? What takes a path takes these too."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, eq=False)
class InMemory:
    """Samples that a program hands over.

    name : how messages and results name them, `data=<arrays>`. samples : an array (N, ...), a mapping of
    arrays by name, a table with named columns, or an iterable of batches. labels : (N,), or the name of the
    table's column that holds them; None where they are among the samples. Nothing in it is ever written to.
    kept : what a reader has taken from batches, which may come only once.
    """

    name: str
    samples: Any = field(repr=False)
    labels: Any = field(default=None, repr=False)
    kept: dict[Any, Any] = field(default_factory=dict, repr=False)

    def __str__(self) -> str:
        return self.name


SampleSource = str | InMemory


def is_table(value: Any) -> bool:
    """Whether a value is a table of named columns: pandas, polars, pyarrow and all that interchange them."""
    if hasattr(value, "__dataframe__"):
        return True
    # A single column may speak Arrow too; but that is an array, and has no names.
    return hasattr(value, "__arrow_c_stream__") and (
        hasattr(value, "columns") or not hasattr(value, "__array__")
    )


def is_array(value: Any) -> bool:
    """Whether a value is an array of some library: NumPy, PyTorch, TensorFlow, JAX, a column of a table."""
    return any(hasattr(value, protocol) for protocol in ("__array__", "__dlpack__")) and not is_table(value)
