"""Every command on every kind of head: it works, and its file does what is claimed, or one line says why not.

A cell of the table is a command line: it ends with 0, or with the one sentence that stands in `REFUSED`. What
a file is said to be is compared with what plain ONNX Runtime shows. A variant of a command is tried on one
kind of head with a class at each position, on one with marks, and on detectors.
"""

from __future__ import annotations

import io
import json
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from subprocess import CompletedProcess

import numpy as np
import pytest
from sklearn.metrics import f1_score

from onnxtweak.cli.main import main
from onnxtweak.engine.runtimes import run_apart
from tests.support.at_positions import model_at_positions
from tests.support.finders import finder
from tests.support.labels_at_positions import labels_at_positions
from tests.support.plain_session import plain_session
from tests.support.several_labels import several_labels
from tests.support.text_lines import read, text_lines

# A class for each token is laid out as lines and marks are, and decided as pixels are: it has its tests in
# test_positions.
HEADS = ("pixels", "labels", "marks", "lines", "boxes")


@dataclass(frozen=True)
class Made:
    """A model of one kind of head.

    target : a class that it is bad at. measured : of a file, over all samples, what `evaluate` calls
    `overall`, or the character error rate. plain : the values of its own output.
    """

    model: Path
    data: Path
    target: str
    measured: Callable[[Path], float]
    plain: Callable[[Path], np.ndarray]

    @property
    def folder(self) -> Path:
        return self.model.parent


def _pixels(folder: Path) -> Made:
    made = model_at_positions("pixels", folder, samples=12)
    np.savez(made.data, x=made.x, y=made.labels, site=np.arange(len(made.x)) % 3)
    np.savez(folder / "listed.npz", x=made.x[:1] * np.float32(1.05), y=made.labels[:1])
    np.savez(folder / "keep.npz", x=made.x[:40] * np.float32(1.1))

    def plain(path: Path) -> np.ndarray:
        return _run(path, made.x)

    def measured(path: Path) -> float:
        return float((plain(path).argmax(made.class_axis) == made.labels).mean())

    return Made(made.model, made.data, "2", measured, plain)


def _labels(folder: Path) -> Made:
    made = several_labels("sigmoid", folder, samples=120)
    np.savez(made.data, x=made.x, y=made.labels, site=np.arange(len(made.x)) % 3)
    np.savez(folder / "listed.npz", x=made.x[:6] * np.float32(1.02), y=made.labels[:6])
    np.savez(folder / "keep.npz", x=made.x[:40] * np.float32(1.1))
    return Made(
        made.model,
        made.data,
        "1",
        lambda path: float(f1_score(made.labels, made.shown(path), average="macro")),
        lambda path: _run(path, made.x),
    )


def _marks(folder: Path) -> Made:
    """Several labels at every position."""
    made = labels_at_positions("tokens", folder, samples=32)
    np.savez(made.data, x=made.x, y=made.labels, site=np.arange(len(made.x)) % 3)
    np.savez(folder / "listed.npz", x=made.x[:3] * np.float32(1.02), y=made.labels[:3])
    np.savez(folder / "keep.npz", x=made.x[:40] * np.float32(1.1))

    def measured(path: Path) -> float:
        return float(f1_score(made.rows(made.labels), made.rows(made.shown(path)), average="macro"))

    return Made(made.model, made.data, "1", measured, lambda path: _run(path, made.x))


def _lines(folder: Path) -> Made:
    made = text_lines(folder, lines=26)
    np.savez(made.data, x=made.x, y=np.array(made.texts), site=np.arange(len(made.x)) % 3)
    np.savez(folder / "listed.npz", x=made.x[:3] * np.float32(1.05), y=np.array(made.texts[:3]))

    def measured(path: Path) -> float:
        lines = zip(read(path, made.x), made.texts, strict=True)
        wrong = sum(_distance(one, other) for one, other in lines)
        return wrong / sum(map(len, made.texts))

    return Made(made.model, made.data, "0", measured, lambda path: _run(path, made.x))


def _boxes(folder: Path) -> Made:
    made = finder("joined", folder, samples=28)
    np.savez(made.data, x=made.x, boxes=made.boxes, site=np.arange(len(made.x)) % 3)
    few = made.boxes[made.boxes[:, 0] < 3]
    np.savez(folder / "listed.npz", x=made.x[:3] * np.float32(1.02), boxes=few)
    np.savez(folder / "keep.npz", x=made.x[:40] * np.float32(1.1))
    return Made(
        made.model,
        made.data,
        "2",
        lambda path: float(made.precision(path)[0].mean()),
        lambda path: _run(path, made.x),
    )


def _run(path: Path, x: np.ndarray) -> np.ndarray:
    session = plain_session(str(path))
    (value,) = session.run(None, {"x": x})
    return np.asarray(value)


def _distance(one: str, other: str) -> int:
    row = list(range(len(other) + 1))
    for i, a in enumerate(one, 1):
        before, row[0] = row[0], i
        for j, b in enumerate(other, 1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (a != b))
    return row[-1]


@pytest.fixture(scope="module", autouse=True)
def runtimes_in_this_process() -> Iterator[None]:
    """Whose own processes have tests of their own."""

    def run_here(words: list[str], **_options: object) -> CompletedProcess[str]:
        with warnings.catch_warnings(action="ignore"), redirect_stdout(io.StringIO()) as said:
            run_apart._child(words[-2], Path(words[-1]))
        return CompletedProcess(words, 0, said.getvalue(), "")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run_apart.subprocess, "run", run_here)
        yield


@pytest.fixture(scope="module")
def heads(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Made]:
    """A model of each kind, made once."""
    make = {"pixels": _pixels, "labels": _labels, "marks": _marks, "lines": _lines, "boxes": _boxes}
    return cache(lambda head: make[head](tmp_path_factory.mktemp(head)))


@pytest.fixture(params=HEADS)
def made(request: pytest.FixtureRequest, heads: Callable[[str], Made]) -> Made:
    return heads(request.param)


@pytest.fixture
def fitted(made: Made) -> Made:
    """With `fitted.onnx`, its tweak and its JSON beside the model, made once."""
    folder, words = made.folder, ["-t", made.target, "--hidden", "0", "--max-class-drop", "none"]
    files = ["-o", str(folder / "fitted.onnx"), "--tweak", str(folder / "fitted.safetensors")]
    if not (folder / "fitted.onnx").exists():
        assert main(["fit", str(made.model), "-d", str(made.data), *words, *files, "--device", "cpu"]) == 0
    return made


def _patching(made: Made, words: list[str]) -> tuple[int, Path]:
    new = made.folder / "new.onnx"
    data = [] if "--alone" in words else ["-d", str(made.data)]
    words = [
        str(made.folder / word[1:]) if word.startswith("@") else word for word in words if word != "--alone"
    ]
    words = [made.target if word == "TARGET" else word for word in words]
    files = ["-o", str(new), "--force"]
    return main([words[0], str(made.model), *data, *words[1:], *files, "--device", "cpu"]), new


TARGETED, QUICK = ["-t", "TARGET"], ["--hidden", "0", "--max-class-drop", "none"]
FIT = ["fit", *TARGETED, *QUICK]
# Commands that write a patched file; `fit` itself is `fitted`.
PATCHES: dict[str, list[str]] = {
    "join": ["join", *TARGETED],
    "join by thesis": ["join", *TARGETED, "--theta", "thesis"],
    "join exactly": ["join", *TARGETED, "--criterion", "net-gain", "--exact-scale"],
    "retrain": ["retrain", *TARGETED],
    "schedule": ["retrain", *TARGETED, "--schedule", "J2 R2 J1"],
    "augment": ["augment", "--iterations", "200"],
    "fit": [],
    "fit by metric": ["fit", "--metric", "f1", "--hidden", "0"],
    "fit certified": [*FIT, "--certify", "0.2", "--by", "site", "--keep", "@keep.npz"],
    "fit a slice": ["fit", *QUICK, "--slice", "site=1"],
    "fit in a budget": [*FIT, "--budget", "24", "--synapses", "5"],
    "fit must": ["fit", *QUICK, "--must", "@listed.npz"],
    "fit lock": [*FIT, "--lock", "@listed.npz"],
    "fit must alone": ["fit", *QUICK, "--must", "@listed.npz", "--alone"],
    "fit mirrored": [*FIT, "--mirror", "on"],
    "compare and write": ["compare", *TARGETED, "--method", "join", "--write", "SR-1", "--hidden", "0"],
    "match": ["match", "--reference", "@fitted.onnx"],
}
# Variants, and the heads of each: others are tried on all.
DEALT: dict[str, tuple[str, ...]] = {
    "join by thesis": ("pixels", "marks", "boxes"),
    "join exactly": ("lines", "labels", "boxes"),
    "schedule": ("lines", "marks", "boxes"),
    "fit by metric": ("lines", "marks", "boxes"),
    "fit certified": ("pixels", "labels", "boxes"),
    "fit a slice": ("pixels", "marks", "boxes"),
    "fit in a budget": ("lines", "labels", "boxes"),
    "fit must": ("pixels", "labels", "boxes"),
    "fit lock": ("lines", "labels", "boxes"),
    "fit must alone": ("lines", "marks", "boxes"),
    "join dry": ("pixels", "labels", "boxes"),
    "retrain dry": ("lines", "marks", "boxes"),
    "compare dry": ("pixels", "marks", "boxes"),
    "score dry": ("lines", "labels", "boxes"),
    "augment dry": ("pixels", "labels", "boxes"),
}
# Options that a detector's fit does not have yet, each by itself.
OF_SAMPLES = {
    "--metric": ["fit", "--metric", "f1", "--hidden", "0"],
    "--certify": [*FIT, "--certify", "0.2"],
    "--by": [*FIT, "--by", "site"],
    "--budget": [*FIT, "--budget", "24"],
    "--synapses": [*FIT, "--synapses", "5"],
    "--keep": [*FIT, "--keep", "@keep.npz"],
}
# What is refused, and by which words; everything else works.
REFUSED = {
    ("fit mirrored", "labels"): "--mirror on does not work with several labels at once yet",
    ("fit mirrored", "marks"): "--mirror on does not work with several labels at once yet",
    **dict.fromkeys(
        (("fit mirrored", head) for head in ("pixels", "lines")), "do not work with labels at positions"
    ),
    ("match", "boxes"): "does not work with detectors yet",
    ("score", "boxes"): "scoring does not work with detectors yet",
    ("score dry", "boxes"): "scoring does not work with detectors yet",
    ("dump", "boxes"): "dumping tables does not work with detectors yet",
    ("verify in a runtime", "boxes"): "comparing runtimes does not work with detectors yet",
    ("verify a rewritten file", "boxes"): "comparing a rewritten file does not work with detectors yet",
    **{
        (f"fit {cell}", "boxes"): f"not possible for a detector yet ({option}"
        for cell, option in (
            ("by metric", "--metric"),
            ("certified", "--"),
            ("a slice", "--slice"),
            ("in a budget", "--"),
            ("must", "--must"),
            ("must alone", "--must"),
            ("lock", "--lock"),
            ("mirrored", "--mirror on"),
        )
    },
    ("evaluate groups", "boxes"): "not possible for a detector yet (--by",
    ("verify", "boxes"): "not possible for a detector yet (--by",
}


def _head(made: Made) -> str:
    return made.folder.name.rstrip("0123456789")


def _refused(made: Made, cell: str, code: int, said: str) -> bool:
    """Whether a cell is one that is refused, in one sentence and with a hint."""
    wanted = REFUSED.get((cell, _head(made)))
    if wanted is None:
        assert code == 0, said
        return False
    assert code == 2 and wanted in said and said.count("error:") == 1 and "hint:" in said
    return True


def _cells(commands: Mapping[str, object]) -> pytest.MarkDecorator:
    pairs = [(head, cell) for cell in commands for head in DEALT.get(cell, HEADS)]
    return pytest.mark.parametrize(("made", "cell"), pairs, indirect=["made"])


@_cells(PATCHES)
def test_what_is_claimed_of_the_written_file_is_what_it_shows(fitted, cell, capsys):
    new = fitted.folder / "new.onnx"
    new.unlink(missing_ok=True)
    code, new = _patching(fitted, PATCHES[cell]) if PATCHES[cell] else (0, fitted.folder / "fitted.onnx")
    if _refused(fitted, cell, code, capsys.readouterr().err):
        assert not new.exists()
        return
    assert main(["evaluate", str(new), "-d", str(fitted.data), "--device", "cpu", "-f", "json"]) == 0
    claimed = json.loads(capsys.readouterr().out)
    readings = {one["name"]: one["value"] for one in claimed["readings"]}
    overall = readings["cer"] if "cer" in readings else claimed["metrics"]["overall"]
    assert overall == pytest.approx(fitted.measured(new), abs=1e-9)


@pytest.mark.parametrize("made", ["boxes"], indirect=True)
@pytest.mark.parametrize("option", OF_SAMPLES)
def test_a_detectors_fit_names_each_option_that_it_lacks(made, option, capsys):
    code, new = _patching(made, OF_SAMPLES[option])
    said = capsys.readouterr().err
    assert code == 2 and f"not possible for a detector yet ({option}" in said, said
    assert said.count("error:") == 1 and "hint:" in said and not new.exists()


OTHERS: dict[str, list[str]] = {
    "inspect": ["inspect", "MODEL"],
    "evaluate groups": ["evaluate", "MODEL", "-d", "DATA", "--by", "site"],
    "score": ["score", "MODEL", "-d", "DATA", *TARGETED, "-o", "@scores.npz", "--force"],
    "dump": ["dump", "MODEL", "-d", "DATA", "-o", "@dump", "--force"],
    "compare": ["compare", "MODEL", "-d", "DATA", *TARGETED, "--method", "OMP-n", "--method", "schedule"],
    "verify": ["verify", "@fitted.onnx", "--base", "MODEL", "-d", "DATA", "--by", "site"],
    "verify in a runtime": [
        "verify",
        "@fitted.onnx",
        "--base",
        "MODEL",
        "-d",
        "FEW",
        "--runtime",
        "onnx",
    ],
    "verify a rewritten file": ["verify", "@fitted.onnx", "--same-as", "@fitted.onnx", "-d", "DATA"],
    "diff": ["diff", "MODEL", "@fitted.onnx"],
    **{
        f"{command} dry": [command, "MODEL", "-d", "DATA", *TARGETED, "--dry-run"]
        for command in ("fit", "join", "retrain", "compare", "score")
    },
    "augment dry": ["augment", "MODEL", "-d", "DATA", "--dry-run"],
}


@_cells(OTHERS)
def test_the_other_commands_work_or_say_why_not(fitted, cell, capsys):
    data = str(fitted.data)
    named = {"MODEL": str(fitted.model), "DATA": data, "FEW": f"{data}#[:8]", "TARGET": fitted.target}
    words = [named.get(word, word) for word in OTHERS[cell]]
    words = [str(fitted.folder / word[1:]) if word.startswith("@") else word for word in words]
    _refused(fitted, cell, main(words), capsys.readouterr().err)


def test_a_tweak_is_applied_in_every_way_and_taken_out(fitted, capsys):
    """Written, filled into a slot, as a shadow: what the file shows, or beside what the base shows."""
    base, tweak, folder = str(fitted.model), str(fitted.folder / "fitted.safetensors"), fitted.folder
    again, slot, shadow, back = (folder / f"{name}.onnx" for name in ("again", "slot", "shadow", "back"))
    assert main(["apply", base, tweak, "-o", str(again), "--force"]) == 0
    assert again.read_bytes() == (folder / "fitted.onnx").read_bytes()
    assert main(["revert", str(again), "-o", str(back), "--force"]) == 0
    assert back.read_bytes() == fitted.model.read_bytes()
    at_anchors = _head(fitted) == "boxes"
    assert main(["apply", base, tweak, "-o", str(slot), "--slot", "--force"]) == (2 if at_anchors else 0)
    if at_anchors:
        assert "a slot does not work with detectors yet" in capsys.readouterr().err and not slot.exists()
    else:
        assert np.array_equal(fitted.plain(slot), fitted.plain(fitted.model))
    assert main(["apply", base, tweak, "-o", str(shadow), "--shadow", "--force"]) == 0
    session = plain_session(str(shadow))
    x = np.load(fitted.data)["x"]
    shown, logits = session.run(None, {"x": x})
    assert np.array_equal(shown, fitted.plain(fitted.model))
    wanted = fitted.plain(again)
    if at_anchors:
        assert 1 / (1 + np.exp(-logits)) == pytest.approx(wanted[:, 4:], abs=1e-5)
        return
    assert logits.shape == shown.shape
    decided = (
        (logits > 0) == (wanted > 0.5) if _head(fitted) in ("labels", "marks") else _alike(logits, wanted)
    )
    assert decided.mean() > 0.999


def _alike(logits: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    axis = 1 if logits.ndim == 4 else 2
    return logits.argmax(axis) == wanted.argmax(axis)


def test_a_recipe_with_gates_makes_pages_of_every_head(made):
    recipe = made.folder / "recipe.toml"
    recipe.write_text(
        f'[model]\npath = "{made.model.name}"\n[data]\ndata = ["{made.data.name}"]\n'
        f'[goal]\ntarget = ["{made.target}"]\n[engine]\ndevice = "cpu"\n'
        '[[tweak]]\nname = "a"\nmethod = "fit"\nhidden = 0\n'
        '[gates]\nmin-target-gain = 1.0\n[output]\ndirectory = "build"\n',
        encoding="utf-8",
    )
    assert main(["run", str(recipe), "--force"]) == 0
    assert (made.folder / "build" / "a.onnx").exists()
    page = made.folder / "page.html"
    (written,) = made.folder.glob("build/a*.json")
    assert main(["report", str(written), "-o", str(page), "--force"]) == 0
    assert "<html" in page.read_text(encoding="utf-8")


def test_a_recipe_patches_a_detector(tmp_path, monkeypatch, capsys):
    made = finder("joined", tmp_path, samples=24)
    monkeypatch.chdir(tmp_path)
    assert main(["init", made.model.name, "-d", made.data.name]) == 0
    assert main(["run", "tweak.toml", "--dry-run"]) == 0
    assert main(["fit", made.model.name, "-d", made.data.name, "-o", "n.onnx", "--dry-run"]) == 0
    assert main(["match", made.model.name, "-d", made.data.name, "--reference", "x", "-o", "n.onnx"]) == 2
    assert main(["run", "tweak.toml"]) == 0
    (shown,) = made.outputs(tmp_path / "build" / "tweaked.onnx")
    (before,) = made.outputs()
    assert np.array_equal(shown[:, :4], before[:, :4]) and not np.array_equal(shown[:, 4:], before[:, 4:])


def test_a_comparison_of_a_detector_says_what_it_counts(tmp_path, capsys):
    made = finder("background", tmp_path, samples=24)
    words = [
        "compare",
        str(made.model),
        "-d",
        str(made.data),
        "-t",
        "2",
        "--method",
        "join",
        "--device",
        "cpu",
    ]
    assert main(words) == 0
    assert "decisions at anchors are counted here" in " ".join(capsys.readouterr().out.split())


IGNORED = {
    "--threshold=0.7": {
        "pixels": "shows scores of several classes",
        "tokens": "shows scores of several classes",
    },
    "--blank=1": {
        "boxes": "it does not read text",
        "pixels": "no sample has a text as its label",
        "tokens": "no sample has a text as its label",
    },
    "--worst=99": dict.fromkeys(HEADS, "cannot pick the worst 99 of"),
}


@pytest.mark.parametrize("option", IGNORED)
def test_an_option_that_a_head_has_no_use_for_is_not_ignored(made, option, capsys):
    wanted = IGNORED[option].get(_head(made))
    if wanted is None:
        return
    command = ["fit", "-o", str(made.folder / "no.onnx")] if "worst" in option else ["evaluate"]
    code = main([*command, str(made.model), "-d", str(made.data), *option.split("="), "--device", "cpu"])
    said = capsys.readouterr().err
    assert code == 2 and wanted in said and said.count("error:") == 1
