"""Which nodes say at which place of an axis a row is, and add weights of each place's own?

Values are multiplied with the weights of their places, and channels summed up by a 1x1 convolution with ones:
a ReduceSum, without its axes, which moved from an attribute to an input.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
import onnx_graphsurgeon as gs

from onnxtweak.model.edit.piece_builder import ELEMENT_TYPES, Builder
from onnxtweak.model.edit.positions.context_nodes import sizes_of_axes

PLACES_FROM = 10  # opset: the first with a Mod


def place_rows(
    build: Builder,
    name: str,
    index: np.ndarray,
    logits: gs.Tensor,
    axes: Sequence[int],
    rows: gs.Tensor | None,
) -> gs.Variable:
    """Places (r, k) as numbers from 0, of rows on some axes of positions.

    index (k,) int64 : which axes of positions. axes : these, of the logits. rows (r,) int64 : counted over
    samples and positions; None: all of them.
    """
    sizes = sizes_of_axes(build, name, logits, axes)
    if rows is None:
        whole = build.node(f"{name}whole", "Shape", [logits])
        batch = build.node(f"{name}batch", "Gather", [whole, build.index(f"{name}batch/axis", [0])], axis=0)
        every = build.node(f"{name}every", "Concat", [batch, *sizes], axis=0)
        one = onnx.numpy_helper.from_array(np.ones(1, np.int64))
        ones = build.node(f"{name}ones", "ConstantOfShape", [every], value=one)
        line = build.node(f"{name}line", "Reshape", [ones, build.index(f"{name}line/shape", [-1])])
        found = build.node(f"{name}found", "NonZero", [line])
        rows = build.node(f"{name}all", "Reshape", [found, build.index(f"{name}all/shape", [-1])])
    columns, left = dict[int, gs.Variable](), rows
    for number in reversed(range(len(axes))):
        at = f"{name}axis{number}/"
        here = build.node(f"{at}here", "Mod", [left, sizes[number]])
        left = build.node(f"{at}left", "Div", [left, sizes[number]])
        real = build.node(f"{at}real", "Cast", [here], to=int(ELEMENT_TYPES["float32"]))
        shape = build.index(f"{at}shape", [-1, 1])
        columns[number] = build.node(f"{at}column", "Reshape", [real, shape])
    chosen = [columns[number] for number in index.tolist()]
    return chosen[0] if len(chosen) == 1 else build.node(f"{name}columns", "Concat", chosen, axis=1)


def own_layer(build: Builder, values: gs.Tensor, own: np.ndarray, axis: int, axes: int) -> gs.Variable:
    """Values (N, K, positions) times the weights of their places, summed up: (N, C, positions).

    own (P, K, C). axis : of positions, which the places are of; axes : how many there are.
    """
    every = range(own.shape[2])
    classes = [c for c in every if own[:, :, c].any()] or list(every)
    neurons, products = own.shape[1], []
    for c in classes:
        shape = [1, neurons, *(len(own) if number == axis else 1 for number in range(axes))]
        weight = build.weights(f"own/{c}/weight", own[:, :, c].T.reshape(shape))
        products.append(build.node(f"own/{c}", "Mul", [values, weight]))
    kernel = np.zeros((own.shape[2], len(classes), neurons))
    kernel[classes, range(len(classes))] = 1.0
    ones = build.weights("own/ones", kernel.reshape(own.shape[2], -1, *(1 for _ in range(axes))))
    joined = build.joined("own/products", products)
    return build.node("own/sum", "Conv", [joined, ones], kernel_shape=[1] * axes)


def bias_layer(build: Builder, total: gs.Tensor, bias: np.ndarray, axis: int, axes: int) -> gs.Variable:
    """A map (N, C, positions) with the bias of each place, (P, C). axis, axes : as of `own_layer`."""
    shape = [1, bias.shape[1], *(len(bias) if number == axis else 1 for number in range(axes))]
    return build.node("own/biased", "Add", [total, build.weights("own/bias", bias.T.reshape(shape))])
