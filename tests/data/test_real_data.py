"""The published data sets of the shared folder, read as NumPy reads them."""

from pathlib import Path

import numpy as np
import pytest

from onnxtweak.data import InputSpec, check_labels, open_data, open_splits
from onnxtweak.errors import DataError
from onnxtweak.settings import DataSettings, Preprocess

SHARED = Path(__file__).resolve().parents[2] / ".." / "shared" / "data"

pytestmark = pytest.mark.skipif(not (SHARED / "cifar10.npz").exists(), reason="../shared/data is not here")


@pytest.mark.parametrize("memory", [4 << 30, 1 << 20])
def test_cifar_held_and_streamed(memory):
    spec = (InputSpec("input", "float32", (None, 3, 32, 32)),)
    mean, std = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
    dataset = open_data(
        [f"{SHARED / 'cifar10.npz'}#test[0:6000]"],
        inputs=spec,
        preprocess=Preprocess(pixel_scale=1 / 255, mean=mean, std=std),
        memory=memory,
    )
    check_labels(dataset, 10)
    with np.load(SHARED / "cifar10.npz") as stored:
        x, y = stored["x_test"][:6000], stored["y_test"][:6000]
    rows = np.arange(1, 6000, 3)
    got = list(dataset.batches(rows, 512))
    expected = ((x[rows] / 255 - np.array(mean)) / np.array(std)).transpose(0, 3, 1, 2)
    np.testing.assert_allclose(np.concatenate([b["input"] for b, _, _ in got]), expected, atol=1e-5)
    np.testing.assert_array_equal(np.concatenate([labels for _, labels, _ in got]), y[rows])
    assert dataset.classes[3] == "cat"


def test_mnist_gets_its_channel_axis():
    spec = (InputSpec("input", "float32", (None, 1, 28, 28)),)
    dataset = open_data([f"{SHARED / 'mnist.npz'}#test"], inputs=spec, preprocess=Preprocess())
    assert next(dataset.batches(None, 8))[0]["input"].shape == (8, 1, 28, 28)


def test_letter_splits_by_class():
    spec = (InputSpec("input", "float32", (None, 16)),)
    source = str(SHARED / "letter.npz")
    splits = open_splits(DataSettings((f"{source}#train",), test=(f"{source}#test",)), spec)
    assert abs(len(splits.fit) - 12000) <= 1 and len(splits.test) == 4000
    assert splits.classes[:3] == ("A", "B", "C")


def test_the_key_is_hinted():
    spec = (InputSpec("input", "float32", (None, 3, 32, 32)),)
    with pytest.raises(DataError, match="x_train") as caught:
        open_data([str(SHARED / "cifar10.npz")], inputs=spec, preprocess=Preprocess())
    assert caught.value.hint.endswith("cifar10.npz#train, " + str(SHARED / "cifar10.npz") + "#test")
