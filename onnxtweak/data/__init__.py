"""Where do labelled samples come from? One file an answer, everything streamed.

A source is written `PATH`, `PATH#KEY`, `PATH#KEY[start:stop]` or `PATH#[start:stop]`:

    data.npz              inputs under their tensor names, or `x`; labels `y` or `labels`; names `classes`
    data.npz#train        the arrays x_train and y_train of it
    x.npy                 with y.npy beside it; both memory-mapped
    folder/               of such .npz or numbered .npy shards, or of pictures: root/class/*.png|jpg|...
    table.csv             path,label
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
