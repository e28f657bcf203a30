"""Where do labelled samples come from, and how are they read, preprocessed and split? All of it streamed.

A source is written `PATH`, `PATH#KEY`, `PATH#KEY[start:stop]` or `PATH#[start:stop]`:

    data.npz              inputs under their tensor names, or `x`; labels `y` or `labels`; names `classes`
                          or numbered, x_0, y_0, x_1, ...: of each sample its own
    data.npz#train        the arrays x_train and y_train of it
    x.npy                 with y.npy beside it; both memory-mapped
    folder/               of such .npz or numbered .npy shards, or of images: root/class/*.png|jpg|...
    table.csv             columns named after the inputs; labels in `label` or another column, as #KEY;
                          or a list of pictures, path,label
    table.parquet         columns as in a .csv; one may hold lists
    instances.json        a COCO JSON: pictures and boxes of objects, for a detector
    folder/               of `images` and `labels`, as YOLO has them, for a detector
    file.py:function      a function that yields (inputs, labels)

or held in memory by a Python program (`onnxtweak.in_memory`): arrays, tables, batches.

Beside inputs and labels it may hold columns of groups, one value per sample, that are read by name.

open_data        a source opened by the reader for its file type, several joined into one Dataset
dataset          labels in memory, inputs as a stream of batches
splits           fit, validation and test
listed           samples that are listed one by one, and never split
stratified       samples dealt out by class, groups whole
labels           raw labels to class numbers
groups           which samples belong together, by a column of the data
samples          what every reader returns: Column, Part; and InputSpec, what the model expects
constants        which inputs have one value for all samples
source_spec      how a source is written
several          a sample's labels, of several at once
array_names      which stored array is which input
thumbnails       a small PNG of a sample
sources           a reader per file format
preprocess        from stored values to the model's input
"""

from onnxtweak.data.dataset import Batch, Dataset, check_labels
from onnxtweak.data.labels import read_names
from onnxtweak.data.open_data import open_data
from onnxtweak.data.samples import InputSpec
from onnxtweak.data.splits import Splits, View, open_splits
from onnxtweak.data.stratified import stratified_split

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
