"""Where do labelled samples come from, and how do they become the model's input? Everything is streamed.

A source is written `PATH`, `PATH#KEY`, `PATH#KEY[start:stop]` or `PATH#[start:stop]`:

    data.npz              inputs under their tensor names, or `x`; labels `y` or `labels`; names `classes`
    data.npz#train        the arrays x_train and y_train of it
    x.npy                 with y.npy beside it; both memory-mapped
    folder/               of such .npz or numbered .npy shards, or of pictures: root/class/*.png|jpg|...
    table.csv             path,label
    table.parquet         tabular columns
    file.py:function      a Python function that yields batches

source_spec     how a source is written
sources         one reader for each kind of source
open_data       which reader opens which source, and several as one
samples         what a reader hands over
array_names     which stored array is which input, and which the labels
labels          raw labels as class numbers
preprocess      a stored sample as the model's input wants it
parallel_rows   the rows of a batch, made by several threads
dataset         labels in memory, inputs as a stream of batches: what later stages see
splits          which samples fit, validate, test
thumbnails      a small picture of a sample, for reports
"""

from onnxtweak.data.dataset import Batch, Dataset, check_labels
from onnxtweak.data.labels import read_names
from onnxtweak.data.open_data import open_data
from onnxtweak.data.samples import InputSpec
from onnxtweak.data.splits import Splits, View, open_splits, stratified_split

__all__ = [
    "Batch",
    "Dataset",
    "InputSpec",
    "Splits",
    "View",
    "check_labels",
    "open_data",
    "open_splits",
    "read_names",
    "stratified_split",
]
