"""How does a Keras file (*.h5) become an ONNX graph? Layer by layer from its configuration, without Keras.

Only the layers that the nets of `public_nets.py` use are known; any other is an error that names it. Maps are
carried as NCHW and turned back where a layer flattens them, so the weights stay as they are in the file.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from typing import Any

import numpy as np
from onnx import TensorProto

from benchmarks.science.fit.public.graph import Graph

ACTIVATIONS = {"relu": "Relu", "sigmoid": "Sigmoid"}
SKIPPED = ("Dropout", "TextVectorization")  # words become numbers before the net


def convert(blob: bytes, configuration: bytes | None = None) -> bytes:
    """The ONNX file of a sequential or functional model with one input and one output.

    configuration : the JSON beside a file that holds weights alone.
    """
    import h5py  # needed for these files alone

    with h5py.File(io.BytesIO(blob), "r") as file:
        whole = json.loads(configuration or file.attrs["model_config"])["config"]
        layers = whole if isinstance(whole, list) else whole["layers"]
        stored = file.get("model_weights", file)
        return Converter(layers, stored).run()


class Converter:
    def __init__(self, layers: list[dict], stored: Any) -> None:
        self.layers, self.stored, self.graph = layers, stored, Graph()
        self.made: dict[str, str] = {}
        self.is_map: dict[str, bool] = {}  # names of tensors that are held channels first
        self.shape: tuple[int | str | None, ...] = ()
        self.dtype = TensorProto.FLOAT

    def run(self) -> bytes:
        last = "x"
        for layer in self.layers:
            name = layer["config"]["name"]
            if layer is self.layers[0]:
                last = self.open(layer)
            if layer["class_name"] != "InputLayer":
                last = self.layer(layer, [self.made[n] for n in sources(layer)] or [last])
            self.made[name] = last
        return self.graph.model(self.shape, last, dtype=self.dtype)

    def open(self, layer: dict) -> str:
        """What the first layer reads: the input, cast or turned as the layers behind it need it."""
        of = layer["config"]
        self.shape = tuple((of.get("batch_input_shape") or of.get("batch_shape"))[1:])
        first = next(each for each in self.layers if each["class_name"] != "InputLayer")
        if first["class_name"] == "TextVectorization":
            self.shape, self.dtype = ("words",), TensorProto.INT64
        if len(self.shape) == 3:
            return self.turned("x", to_front=True)
        return "x"

    def turned(self, x: str, *, to_front: bool) -> str:
        made = self.graph.add("Transpose", x, perm=[0, 3, 1, 2] if to_front else [0, 2, 3, 1])
        self.is_map[made] = to_front
        return made

    def layer(self, layer: dict, inputs: list[str]) -> str:
        kind, of = layer["class_name"], layer["config"]
        if kind in SKIPPED:
            return inputs[0]
        make: Callable | None = getattr(self, f"make_{kind}", None)
        if make is None:
            raise ValueError(f"layers of the kind {kind} are not known here")
        made = self.activated(make(of, *inputs), of.get("activation"), kind)
        self.is_map.setdefault(made, kind != "Flatten" and self.is_map.get(inputs[0], False))
        return made

    def activated(self, x: str, activation: str | None, kind: str) -> str:
        if activation in (None, "linear") or kind == "LSTM":
            return x
        if activation == "softmax":
            return self.graph.add("Softmax", x, axis=-1)
        return self.graph.add(ACTIVATIONS[activation], x)

    def weights(self, of: dict) -> list[np.ndarray]:
        group = self.stored[of["name"]]
        return [np.asarray(group[name]) for name in group.attrs["weight_names"]]

    def make_Activation(self, of: dict, x: str) -> str:
        return x

    def make_Add(self, of: dict, *inputs: str) -> str:
        return self.graph.add("Add", *inputs)

    def make_Dense(self, of: dict, x: str) -> str:
        W, *b = self.weights(of)
        return self.graph.dense(x, W, b[0] if b else np.zeros(W.shape[1]))

    def make_Conv2D(self, of: dict, x: str) -> str:
        W, *b = self.weights(of)
        return self.graph.conv(
            x, W.transpose(3, 2, 0, 1), b[0] if b else None, strides=of["strides"], auto_pad=padding(of)
        )

    def make_BatchNormalization(self, of: dict, x: str) -> str:
        arrays = self.weights(of)
        return self.graph.batch_norm(x, *arrays, of["epsilon"])

    def pooled(self, op: str, of: dict, x: str) -> str:
        kernel = np.ravel(of["pool_size"]).tolist()
        steps = np.ravel(of.get("strides") or kernel).tolist()
        return self.graph.add(op, x, kernel_shape=kernel, strides=steps, auto_pad=padding(of))

    def make_MaxPooling2D(self, of: dict, x: str) -> str:
        return self.pooled("MaxPool", of, x)

    def make_AveragePooling2D(self, of: dict, x: str) -> str:
        return self.pooled("AveragePool", of, x)

    def make_GlobalMaxPooling1D(self, of: dict, x: str) -> str:
        return self.graph.add("ReduceMax", x, axes=[1], keepdims=0)

    def make_LSTM(self, of: dict, x: str) -> str:
        """The state of every step (samples, steps, units). Gates: i, f, c, o in Keras, i, o, f, c in ONNX."""
        units = of["units"]
        order = np.concatenate([np.arange(units) + gate * units for gate in (0, 3, 1, 2)])
        W, R, b = (each[..., order] for each in self.weights(of))
        arrays = [
            self.graph.constant(each[None]) for each in (W.T, R.T, np.concatenate([b, np.zeros_like(b)]))
        ]
        steps = self.graph.add("Transpose", x, perm=[1, 0, 2])
        made = self.graph.add("LSTM", steps, *arrays, hidden_size=units)
        made = self.graph.add("Squeeze", made, self.graph.constant([1], np.int64))
        return self.graph.add("Transpose", made, perm=[1, 0, 2])

    def make_Flatten(self, of: dict, x: str) -> str:
        if self.is_map.get(x):
            x = self.turned(x, to_front=False)
        return self.graph.add("Flatten", x, axis=1)

    def make_Embedding(self, of: dict, x: str) -> str:
        return self.graph.add("Gather", self.graph.constant(self.weights(of)[0]), x)


def padding(of: dict) -> str:
    return "SAME_UPPER" if of.get("padding") == "same" else "VALID"


def sources(layer: dict) -> list[str]:
    """Names of the layers that this one reads, where the file says so. Keras 3 nests them deeper."""
    nodes = layer.get("inbound_nodes") or []
    if not nodes:
        return []
    if isinstance(nodes[0], dict):
        tensor = nodes[0]["args"][0]
        return [
            each["config"]["keras_history"][0] for each in (tensor if isinstance(tensor, list) else [tensor])
        ]
    return [each[0] for each in nodes[0]]
