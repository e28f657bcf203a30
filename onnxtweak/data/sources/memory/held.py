"""Which reader takes what a program hands over in place of a file?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from onnxtweak.data.samples import InputSpec, Part, Reading
from onnxtweak.data.sources.memory.arrays import read_arrays
from onnxtweak.data.sources.memory.batches import read_batches
from onnxtweak.data.sources.memory.table import read_table
from onnxtweak.in_memory import InMemory, is_array, is_table


def read_held(source: InMemory, inputs: Sequence[InputSpec], reading: Reading) -> list[Part]:
    """The samples, by their form: a table, arrays by name or one array, or batches. Raises DataError."""
    samples = source.samples
    if is_table(samples):
        return read_table(source, inputs, reading)
    if isinstance(samples, Mapping) or is_array(samples) or source.labels is not None:
        return read_arrays(source, inputs, reading)
    return read_batches(source, inputs, reading)
