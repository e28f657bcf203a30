"""Are the models that the repository ships the ones that their card describes?"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import numpy as np
import onnx
import pytest

import onnxtweak
from tests.support.few_folds import three_folds
from tests.support.plain_session import plain_session

MODELS = Path(__file__).resolve().parents[1] / "models"
SPLITS = ("train", "fit", "test")


@pytest.fixture(scope="module")
def card() -> str:
    return (MODELS / "README.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def digits() -> dict[str, np.ndarray]:
    with np.load(MODELS / "digits.npz") as archive:
        return dict(archive)


def rows(card: str, heading: str) -> dict[str, list[float]]:
    """The numbers of the card's table under `heading`, by split."""
    table = card.split(heading)[1].strip().split("\n\n")[0]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]
    return {split: [float(number) for number in numbers] for split, *numbers in cells}


@pytest.mark.parametrize(
    "name", sorted(path.name for path in MODELS.iterdir() if path.suffix in (".onnx", ".npz"))
)
def test_every_file_has_its_size_and_digest_in_the_card(card: str, name: str) -> None:
    row = re.search(rf"^\| `{re.escape(name)}` \|.*\| (\d+) \| `([0-9a-f]{{64}})` \|$", card, re.MULTILINE)
    assert row, f"{name} has no row in models/README.md"
    content = (MODELS / name).read_bytes()
    assert len(content) == int(row[1])
    assert hashlib.sha256(content).hexdigest() == row[2]
    assert len(content) < 100_000


def test_samples_are_as_counted_and_in_one_split_only(card: str, digits: dict[str, np.ndarray]) -> None:
    counted = rows(card, "Samples per digit:")
    for split in SPLITS:
        images, labels = digits[f"x_{split}"], digits[f"y_{split}"]
        assert images.shape == (len(labels), 1, 8, 8)
        assert images.dtype == np.float32 and labels.dtype == np.int64
        assert images.min() == 0 and images.max() == 16
        assert [len(labels), *np.bincount(labels, minlength=10)] == counted[split]
    everything = np.concatenate([digits[f"x_{split}"].reshape(-1, 64) for split in SPLITS])
    assert len(np.unique(everything, axis=0)) == len(everything)


def test_samples_are_scikit_learns_digits(digits: dict[str, np.ndarray]) -> None:
    datasets = pytest.importorskip("sklearn.datasets")
    published = datasets.load_digits()
    pixels = published.data.astype(np.float32)
    label_of = {image.tobytes(): label for image, label in zip(pixels, published.target, strict=True)}
    for split in SPLITS:
        found = [label_of[image.tobytes()] for image in digits[f"x_{split}"].reshape(-1, 64)]
        np.testing.assert_array_equal(found, digits[f"y_{split}"])


@pytest.mark.parametrize(
    ("model", "heading"),
    [
        ("digits_cnn3.onnx", "Accuracy, overall and per digit:"),
        ("digits_resnet20.onnx", "Accuracy of digits_resnet20, overall and per digit:"),
    ],
)
def test_accuracy_is_what_the_card_says(
    card: str, digits: dict[str, np.ndarray], model: str, heading: str
) -> None:
    claimed = rows(card, heading)
    session = plain_session(MODELS / model)
    for split in SPLITS:
        images, labels = digits[f"x_{split}"], digits[f"y_{split}"]
        right = session.run(["logits"], {"image": images})[0].argmax(axis=1) == labels
        groups = [np.ones(len(labels), bool), *(labels == digit for digit in range(10))]
        for group, accuracy in zip(groups, claimed[split], strict=True):
            # another processor's rounding may turn one sample that lies on a border
            assert abs(right[group].sum() - accuracy * group.sum()) <= 1.1


def test_one_class_is_weak_and_the_others_are_not(card: str) -> None:
    _, *per_digit = rows(card, "Accuracy, overall and per digit:")["test"]
    weakest, *others = sorted(per_digit)
    assert per_digit.index(weakest) == 8
    assert 0.5 <= weakest <= 0.75
    assert min(others) > 0.8


def test_model_is_plain_onnx_with_logits_out() -> None:
    model = onnx.load(MODELS / "digits_cnn3.onnx")
    onnx.checker.check_model(model, full_check=True)
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", 17)]
    assert [value.name for value in model.graph.output] == ["logits"]
    assert model.graph.output[0].type.tensor_type.shape.dim[0].dim_param == "batch"
    weights = sum(np.prod(tensor.dims, dtype=int) for tensor in model.graph.initializer if len(tensor.dims))
    assert weights == 15_338


def test_a_residual_net_is_repaired_at_its_stages_and_as_a_whole(card: str, tmp_path: Path) -> None:
    overall, *per_digit = rows(card, "Accuracy of digits_resnet20, overall and per digit:")["test"]
    data = MODELS / "digits.npz"
    shared = {"data": f"{data}#fit", "test": f"{data}#test", "target": 8, "device": "cpu"}
    model = MODELS / "digits_resnet20.onnx"
    joined = onnxtweak.join(model, taps="stages", output=tmp_path / "joined.onnx", **shared)
    assert joined.choice.neurons == 4 * 8 * 8 + 8 * 4 * 4 + 16 * 2 * 2
    with three_folds():
        fitted = onnxtweak.fit(model, hidden=0, mirror="off", output=tmp_path / "fitted.onnx", **shared)
    for made in (joined, fitted):
        assert abs(made.before.overall - overall) < 0.003
        assert abs(made.before.target - per_digit[8]) < 0.03
        assert made.after.target > made.before.target + 0.3
        assert made.after.overall > made.before.overall
        assert all(check.passed for check in made.checks)
    assert fitted.after.target > joined.after.target
