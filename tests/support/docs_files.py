"""Which files do the commands in the documentation read? Small models and samples of these names."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
from PIL import Image

from onnxtweak import commands
from onnxtweak.demo_files import demo_files
from onnxtweak.settings import DataSettings, JoinSettings, OutputSettings, Preprocess, TargetSettings
from tests.support import detectors
from tests.support.at_positions import model_at_positions
from tests.support.finders import finder
from tests.support.nets import cnn3, cnn_1x1, mlp
from tests.support.rounded import rounded
from tests.support.several_labels import several_labels
from tests.support.text_lines import text_lines
from tests.support.weak_class import run, weakened

NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
MEAN, STD = (np.array(values, np.float32) for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
PREPROCESS = Preprocess(
    pixel_scale=1 / 255, mean=tuple(map(float, MEAN)), std=tuple(map(float, STD)), layout="NCHW"
)


def write_docs_files(folder: Path) -> None:
    """Write every file that a page's commands read and none of them writes."""
    proto, lacks = weakened(cnn3(classes=10, size=8, channels=(2, 2, 16), seed=1))
    (folder / "model.onnx").write_bytes(proto.SerializeToString())
    x, y = _images(proto, lacks, 600, 0)
    x_test, y_test = _images(proto, lacks, 250, 1)
    np.savez(folder / "images.npz", x=x, y=y, x_test=x_test, y_test=y_test, classes=np.array(NAMES))
    # The others are stored as the model expects them, and fewer: most commands learn from them.
    fed, fed_test = _fed(x), _fed(x_test)
    few, site = slice(600), np.array(["lima", "kyoto", "oslo"])[np.arange(len(y)) % 3]
    np.savez(folder / "samples.npz", x=fed[few], y=y[few], classes=np.array(NAMES))
    np.savez(folder / "held-out.npz", x=fed[:300], y=y[:300], classes=np.array(NAMES), site=site[:300])
    np.savez(folder / "test.npz", x=fed_test, y=y_test, classes=np.array(NAMES))
    (folder / "mine.py").write_text(
        "import numpy as np\n"
        "def samples():\n"
        "    with np.load('samples.npz') as file:\n"
        "        yield file['x'], np.asarray(file['classes'])[file['y']]\n"
    )
    for name, target in (("eight", "ship"), ("nine", "truck"), ("later", "cat")):
        commands.join(
            model=str(folder / "model.onnx"),
            data=DataSettings((str(folder / "images.npz"),), preprocess=PREPROCESS),
            targets=TargetSettings((target,)),
            settings=JoinSettings(max_overall_drop=5.0),
            output=OutputSettings(tweak=str(folder / f"{name}.safetensors")),
        )
    scenes = model_at_positions("pixels", folder, samples=6)
    scenes.model.rename(folder / "segmenter.onnx")
    scenes.data.rename(folder / "scenes.npz")
    tagged = several_labels("sigmoid", folder, samples=300, unknown=0.1)
    tagged.model.rename(folder / "tagger.onnx")
    tagged.data.rename(folder / "tagged.npz")
    text_lines(folder, 60, pictures=True)
    _street(folder)
    mail, spam = detectors.samples(800, 0)
    (folder / "detector.onnx").write_bytes(detectors.detector_model("p").SerializeToString())
    np.savez(folder / "mail.npz", x=mail, y=spam)
    digits = demo_files()
    onnx.save(rounded(onnx.load(digits.model), 3), folder / "int4.onnx")
    with np.load(digits.data) as held:
        np.savez(folder / "images-unlabelled.npz", x=np.concatenate([held["x_train"], held["x_fit"]]))
    _customers(folder)
    _complaints(folder, proto, fed, y)
    (folder / "resnet.onnx").write_bytes(cnn_1x1(classes=3, size=224).SerializeToString())
    rng = np.random.default_rng(2)
    for number in range(3):
        path = folder / "images" / "abc"[number] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (40, 50, 3), dtype=np.uint8)).save(path)


def _images(proto, lacks: np.ndarray, n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Bytes (n, 8, 8, 3) and labels (n,) on which the model errs, most often by missing one class."""
    rng = np.random.default_rng(seed)
    x = rng.integers(0, 256, (n, 8, 8, 3), dtype=np.uint8)
    Z = run(proto, _fed(x)) + lacks
    return x, (Z + 0.4 * Z.std(axis=0) * rng.standard_normal(Z.shape)).argmax(axis=1)


def _fed(x: np.ndarray) -> np.ndarray:
    """Bytes (n, 8, 8, 3) as the model expects them, (n, 3, 8, 8) float32: what `PREPROCESS` makes of them."""
    return np.ascontiguousarray(((x.astype(np.float32) / 255 - MEAN) / STD).transpose(0, 3, 1, 2))


def _street(folder: Path) -> None:
    """A detector, and pictures with a COCO JSON of the objects in them."""
    found = finder("joined", folder)
    found.model.rename(folder / "yolo.onnx")
    found.data.unlink()
    (folder / "street").mkdir()
    images, objects = [], []
    for number, picture in enumerate(found.x):
        file = f"{number}.png"
        pixels = (picture.transpose(1, 2, 0).clip(0, 1) * 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / "street" / file)
        images.append({"id": number, "file_name": file, "height": pixels.shape[0], "width": pixels.shape[1]})
    for number, (sample, kind, left, top, right, bottom) in enumerate(found.boxes.tolist()):
        box = [left, top, right - left, bottom - top]
        objects.append({"id": number, "image_id": int(sample), "category_id": int(kind), "bbox": box})
    categories = [{"id": k, "name": name} for k, name in enumerate(("car", "person", "truck"))]
    listed = {"images": images, "annotations": objects, "categories": categories}
    (folder / "street" / "instances.json").write_text(json.dumps(listed), encoding="utf-8")


def _customers(folder: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    proto = mlp(inputs=8, classes=2)
    (folder / "mlp.onnx").write_bytes(proto.SerializeToString())
    rng = np.random.default_rng(3)
    x = rng.standard_normal((900, 8)).astype(np.float32)
    Z = run(proto, x)
    Z = Z - Z.mean(axis=0) + 0.6 * Z.std() * rng.standard_normal(Z.shape)
    columns = {f"value{k}": x[:, k] for k in range(8)}
    pq.write_table(pa.table({**columns, "churned": Z.argmax(axis=1)}), folder / "customers.parquet")


def _complaints(folder: Path, proto, fed: np.ndarray, y: np.ndarray) -> None:
    """Samples that the model has wrong, and right, one by one; and some whose answers are to stay."""
    right = run(proto, fed).argmax(axis=1) == y
    for name, rows in (
        ("complaints", np.flatnonzero(~right)[:5]),
        ("accepted", np.flatnonzero(right)[:50]),
    ):
        np.savez(folder / f"{name}.npz", x=fed[rows], y=y[rows], classes=np.array(NAMES))
    some = np.flatnonzero(y < len(NAMES) // 2)
    np.savez(folder / "half-of-the-classes.npz", x=fed[some], y=y[some], classes=np.array(NAMES))
    np.savez(folder / "unlabelled.npz", x=fed[y >= len(NAMES) // 2])
