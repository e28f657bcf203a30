"""Which nets for small images are there, and how are their images brought to scale?

CIFAR-10 and MNIST lie in the folder `--data` as `benchmarks/science/thesis/README.md` makes them. Of CIFAR-10
the published test images are taken, which none of these nets was trained on; of MNIST too.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from benchmarks.science.fit.public.graph import Graph, any_batch
from benchmarks.science.fit.public.keras_file import convert
from benchmarks.science.fit.public.net import Made, Net, Tools
from benchmarks.science.fit.public.repositories import Repository
from benchmarks.science.fit.public.torch_file import tensors

AKAMASTER = Repository(
    "akamaster/pytorch_resnet_cifar10", "d5489e8995e81e91ce6b1d69dcc98ad579b0b153", "BSD-2-Clause"
)
MLCOMMONS = Repository("mlcommons/tiny", "1afd2c9820f795965a6134facd0b4dfae41ef23f", "Apache-2.0")
ANDREW = Repository(
    "andrewtzeva/image-recognition-cifar10", "fef2fa132797ca84ea6e1e3e3d2a449683fe53ac", "none stated"
)
DENISKO = Repository(
    "denisko28/cifar10_model_improved", "54e3f096bdd75e9f8beedc4c872c2fb256ae7176", "none stated"
)
CROWN = Repository(
    "Verified-Intelligence/alpha-beta-CROWN", "8250d5fbd530c76e5e3243db28b3cad5fbaef740", "BSD-3-Clause"
)
VNNCOMP = Repository("stanleybak/vnncomp2021", "90419aadcf06cf543ce5c1706cae1059dc9fa6cf", "none stated")

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
CIFAR = ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616))
NARROW = ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010))
OVAL = ((0.485, 0.456, 0.406), (0.225, 0.225, 0.225))


def cifar(tools: Tools) -> tuple[np.ndarray, np.ndarray]:
    """(10,000, 32, 32, 3) float32 in 0 .. 1, and labels."""
    with np.load(tools.data / "cifar10.npz") as file:
        return file["x_test"].astype(np.float32) / 255, file["y_test"].astype(np.int64).ravel()


def scaled(x: np.ndarray, mean: tuple, std: tuple) -> np.ndarray:
    """NCHW, standardised."""
    return np.ascontiguousarray(
        ((x - np.float32(mean)) / np.float32(std)).transpose(0, 3, 1, 2), dtype=np.float32
    )


def mnist(tools: Tools) -> tuple[np.ndarray, np.ndarray]:
    """(10,000, 1, 28, 28) float32 in 0 .. 1, and labels."""
    with np.load(tools.data / "mnist.npz") as file:
        return file["x_test"][:, None].astype(np.float32) / 255, file["y_test"].astype(np.int64)


def onnx_of_vnncomp(tools: Tools, path: str, scale: tuple | None) -> Made:
    x, y = cifar(tools)
    model = any_batch(tools.clones.read(VNNCOMP, f"benchmarks/{path}"))
    return Made(model, x if scale is None else scaled(x, *scale), y)


def eran_mnist(tools: Tools) -> Made:
    return Made(
        any_batch(tools.clones.read(VNNCOMP, "benchmarks/eran/nets/mnist_relu_9_200.onnx")), *mnist(tools)
    )


def hobby(tools: Tools) -> Made:
    return Made(convert(tools.clones.read(ANDREW, "cifar10_model.h5")), *cifar(tools))


def hobby_normed(tools: Tools) -> Made:
    stored, configuration = (tools.clones.read(DENISKO, f"cifar10_model.{end}") for end in ("h5", "json"))
    return Made(convert(stored, configuration), *cifar(tools))


def sigmoid_net(tools: Tools) -> Made:
    """Two convolutions and two dense layers between sigmoids."""
    stored = tensors(
        tools.clones.read(CROWN, "complete_verifier/models/non_relu/cifar_conv_small_sigmoid.pth")
    )
    of = {name.removeprefix("state_dict."): values for name, values in stored.items()}
    graph, last = Graph(), "x"
    for layer in (0, 2):
        last = graph.conv(last, of[f"{layer}.weight"], of[f"{layer}.bias"], strides=[2, 2])
        last = graph.add("Sigmoid", last)
    last = graph.dense(graph.add("Flatten", last), of["5.weight"].T, of["5.bias"])
    last = graph.dense(graph.add("Sigmoid", last), of["7.weight"].T, of["7.bias"])
    x, y = cifar(tools)
    return Made(graph.model((3, 32, 32), last), scaled(x, *NARROW), y)


def mlcommons_resnet(tools: Tools) -> Made:
    path = "benchmark/training/image_classification/trained_models/pretrainedResnet.h5"
    x, y = cifar(tools)
    return Made(convert(tools.clones.read(MLCOMMONS, path)), x * 255, y)


def akamaster_resnet(tools: Tools) -> Made:
    stored = tensors(tools.clones.read(AKAMASTER, "pretrained_models/resnet20-12fca82f.th"))
    x, y = cifar(tools)
    return Made(resnet(stored, "state_dict.module."), scaled(x, *IMAGENET), y)


def resnet(stored: dict[str, np.ndarray], prefix: str, blocks: int = 3, epsilon: float = 1e-5) -> bytes:
    """The ResNet for CIFAR-10 with shortcuts without parameters: every second pixel, new channels zero."""
    of = {name.removeprefix(prefix): values for name, values in stored.items()}
    graph = Graph()

    def normed(x: str, conv: str, bn: str, step: int = 1) -> str:
        made = graph.conv(x, of[f"{conv}.weight"], pads=[1, 1, 1, 1], strides=[step, step])
        arrays = (of[f"{bn}.{part}"] for part in ("weight", "bias", "running_mean", "running_var"))
        return graph.batch_norm(made, *arrays, epsilon)

    last = graph.add("Relu", normed("x", "conv1", "bn1"))
    for stage in (1, 2, 3):
        for block in range(blocks):
            name, step = f"layer{stage}.{block}", 2 if stage > 1 and block == 0 else 1
            inner = graph.add("Relu", normed(last, f"{name}.conv1", f"{name}.bn1", step))
            inner = normed(inner, f"{name}.conv2", f"{name}.bn2")
            if step == 2:
                last = halved(graph, last, inner_width=len(of[f"{name}.conv1.weight"]))
            last = graph.add("Relu", graph.add("Add", inner, last))
    last = graph.add("Flatten", graph.add("GlobalAveragePool", last))
    return graph.model((3, 32, 32), graph.dense(last, of["linear.weight"].T, of["linear.bias"]))


def halved(graph: Graph, x: str, inner_width: int) -> str:
    """Every second pixel; a quarter of the new channels before the old ones and a quarter after are zero."""
    many = np.iinfo(np.int64).max
    bounds = [graph.constant(each, np.int64) for each in ([0, 0], [many, many], [2, 3], [2, 2])]
    extra = inner_width // 4
    pads = graph.constant([0, extra, 0, 0, 0, extra, 0, 0], np.int64)
    return graph.add("Pad", graph.add("Slice", x, *bounds), pads)


NETS = (
    Net(
        "resnet20_cifar10",
        akamaster_resnet,
        f"{AKAMASTER.name}, pretrained_models/resnet20-12fca82f.th",
        AKAMASTER.licence,
        claimed=0.9173,
        kind="CIFAR-10, ResNet-20",
        note="NCHW (x/255 - mean) / std, mean .485 .456 .406, std .229 .224 .225",
    ),
    Net(
        "resnet8_mlperf",
        mlcommons_resnet,
        f"{MLCOMMONS.name}, benchmark/training/image_classification/trained_models/pretrainedResnet.h5",
        MLCOMMONS.licence,
        claimed=0.87,
        kind="CIFAR-10, ResNet-8 of MLPerf Tiny, softmax",
        note="NHWC, raw values 0 .. 255",
    ),
    Net(
        "resnet4b_adversarial",
        partial(onnx_of_vnncomp, path="cifar10_resnet/onnx/resnet_4b.onnx", scale=CIFAR),
        f"{VNNCOMP.name}, benchmarks/cifar10_resnet/onnx/resnet_4b.onnx",
        VNNCOMP.licence,
        claimed=0.7720,
        kind="CIFAR-10, adversarially trained residual net without batch norm",
        note="NCHW (x/255 - mean) / std, mean .4914 .4822 .4465, std .2470 .2435 .2616",
    ),
    Net(
        "wide_certified",
        partial(onnx_of_vnncomp, path="oval21/nets/cifar_wide_kw.onnx", scale=OVAL),
        f"{VNNCOMP.name}, benchmarks/oval21/nets/cifar_wide_kw.onnx",
        VNNCOMP.licence,
        claimed=None,
        kind="CIFAR-10, small CNN trained for provable robustness",
        note="NCHW (x/255 - mean) / std, mean .485 .456 .406, std .225",
    ),
    Net(
        "cnn_marabou",
        partial(onnx_of_vnncomp, path="marabou-cifar10/nets/cifar10_large.onnx", scale=None),
        f"{VNNCOMP.name}, benchmarks/marabou-cifar10/nets/cifar10_large.onnx",
        VNNCOMP.licence,
        claimed=None,
        kind="CIFAR-10, small CNN with strided convolutions, from TensorFlow",
        note="NHWC, x/255",
    ),
    Net(
        "cnn_sigmoid",
        sigmoid_net,
        f"{CROWN.name}, complete_verifier/models/non_relu/cifar_conv_small_sigmoid.pth",
        CROWN.licence,
        claimed=0.6317,
        kind="CIFAR-10, small CNN with sigmoids",
        note="NCHW (x/255 - mean) / std, mean .4914 .4822 .4465, std .2023 .1994 .2010",
    ),
    Net(
        "cnn_tutorial",
        hobby,
        f"{ANDREW.name}, cifar10_model.h5",
        ANDREW.licence,
        claimed=None,
        kind="CIFAR-10, the CNN of a Keras tutorial, softmax",
        note="NHWC, x/255",
    ),
    Net(
        "cnn_batch_norm",
        hobby_normed,
        f"{DENISKO.name}, cifar10_model.h5 and .json",
        DENISKO.licence,
        claimed=None,
        kind="CIFAR-10, six convolutions with batch norm, softmax",
        note="NHWC, x/255",
    ),
    Net(
        "mnist_9x200",
        eran_mnist,
        f"{VNNCOMP.name}, benchmarks/eran/nets/mnist_relu_9_200.onnx",
        VNNCOMP.licence,
        claimed=None,
        kind="MNIST, MLP of nine layers",
        note="NCHW, x/255",
    ),
)
