"""Are strangers' models answered rightly? The scripts that rebuild them run here, with the values expected.

Accuracies are those of the files' own output, by ONNX Runtime alone. Where a hint is given, it is followed.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.support.cases import (
    ROUNDED,
    Call,
    Section,
    Sections,
    accuracies,
    own_outputs,
    play,
    run_here,
)

pytest.importorskip("sklearn", reason="the cases train small models with scikit-learn")

BASE = 73.2  # percent, of the net that most cases share
WORKS = {"inspect": 0, "evaluate": 0, "join": 0, "verify": 0, "diff": 0, "revert": 0}
BOTH = {**WORKS, "fit": 0}
REFUSED = {"evaluate": 2, "join": 2}
OWN = re.compile(r"own output is right on ([\d.]+) %")
IN_FULL = ("25", "26")  # cases with all their samples, and hidden layers that are trained to the end
TESTED = {"22": 200}  # cases that are measured one sample at a time, on so many
Player = Callable[..., Sections]


def highest(outputs: list[np.ndarray]) -> np.ndarray:
    """The class of the highest score in the first output."""
    return outputs[0].argmax(axis=1)


def first(outputs: list[np.ndarray]) -> np.ndarray:
    """The first output itself, one value per sample."""
    return outputs[0].ravel()


@pytest.fixture
def cases(shared: Path) -> Path:
    folder = shared / "cases"
    if not folder.is_dir():
        pytest.skip("no cases in the folder of shared data")
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the cases' files are, each in a folder of its number."""
    return tmp_path_factory.mktemp("cases")


@pytest.fixture(scope="module")
def known() -> dict[str, Sections]:
    """What came of the cases that several tests look at."""
    return {}


@pytest.fixture
def played(cases: Path, folder: Path, known: dict[str, Sections], monkeypatch: pytest.MonkeyPatch) -> Player:
    """Runs the case of a number, once. Further arguments are those of `play`."""

    def player(number: str, *more: Callable[[Call], None]) -> Sections:
        if number not in known:
            (script,) = cases.glob(f"{number}_*.py")
            how = {"quick": number not in IN_FULL, "tested": TESTED.get(number)}
            known[number] = play(script, folder, monkeypatch, *more, **how)
        return known[number]

    return player


def working(section: Section) -> list[Call]:
    """The commands that report an accuracy."""
    return [call for call in section.all("evaluate", "join", "fit") if call.returncode == 0]


def starting(sections: Sections, start: str) -> Section:
    """The section whose heading starts so."""
    return next(section for name, section in sections.items() if name.startswith(start))


def inspected(section: Section, field: str) -> str:
    """What `inspect` says of a field, on one line."""
    found = re.search(rf"^{field} +(.*(?:\n {{12,}}.*)*)", section.one("inspect").stdout, re.MULTILINE)
    return " ".join(found[1].split())


def fed_again(call: Call, *more: str) -> Call:
    """The same command with further arguments."""
    return run_here(*call.arguments, *more)


def repaired(call: Call, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The model that the hint's command makes."""
    python, option, code = shlex.split(call.hint[call.hint.index("python -c") :])
    assert (python, option) == ("python", "-c")
    with monkeypatch.context() as there:
        there.chdir(call.model.parent)
        exec(compile(code, "<hint>", "exec"), {"__name__": "__main__"})
    (made,) = call.model.parent.glob("*-repaired.onnx")
    return made


def test_tails_that_change_the_decision(played):
    """Weights before an ArgMax or of a float output, classes in another order, a class cut off."""
    sections = played("04")
    own = {
        "per_class_weights_then_argmax": 70.4,
        "per_class_weights_float": 70.4,
        "class_reordered_by_gather": 73.2,
        "background_sliced_off": 70.9,
    }
    assert set(sections) == {"", *own}
    for name, before in own.items():
        section = sections[name]
        assert section.codes() == WORKS, name
        said = [float(percent) for percent in OWN.findall(section.said)]
        assert said == pytest.approx([before, section.one("join").accuracy], abs=ROUNDED), name
        assert section.one("evaluate").accuracy == pytest.approx(before, abs=ROUNDED)
        for call in working(section):
            accuracies(call, first if name.endswith("argmax") else highest)


def test_one_probability_shown_as_two_columns(played):
    sections = played("05")
    for name in ("p_first", "p_last"):
        section = starting(sections, name)
        assert section.codes() == BOTH, name
        said = [float(percent) for percent in OWN.findall(section.said)]
        told = [section.one(command).accuracy for command in ("evaluate", "join", "fit")]
        assert told == pytest.approx(said, abs=ROUNDED), name
        assert min(told) > 80
        assert ("it speaks for class 0" in inspected(section, "logits")) == (name == "p_first")
        for call in working(section):
            accuracies(call, highest)


def test_models_exported_in_training_mode(played):
    sections = played("08")
    for name, operator in (
        ("batchnorm_training", "BatchNormalization"),
        ("centred_over_batch", "ReduceMean"),
    ):
        for call in sections[name].all("evaluate", "join", "fit"):
            assert call.returncode == 2
            assert operator in call.error
            assert "inference mode" in call.hint
    dropout = sections["dropout_training"]
    assert dropout.codes() == BOTH
    assert dropout.one("evaluate").accuracy == BASE
    assert all("Dropout" in call.told() for call in working(dropout))
    for call in working(dropout):
        accuracies(call, highest)


SOUND_FILES = {
    "ext": BOTH,
    "ir3_initializers_are_inputs": BOTH,
    "node_named_like_tensor": WORKS,
    "wrong_value_info": WORKS,
    "wrong_output_shape": WORKS,
    "two_opsets_same_domain": WORKS,
    "opset_domain_ai_onnx": WORKS,
    "unused_input": WORKS,
    "unused_scalar_input": WORKS,
}
# What the error names, and whether the hint is a command that repairs the file.
BROKEN_FILES = {
    "ext_missing": ("'model.onnx.data'", False),
    "ort_format": ("(ORT)", False),
    "gzip": ("gzip", False),
    "lfs_pointer": ("Git LFS pointer", False),
    "html_page": ("web page", False),
    "pytorch_checkpoint": ("PyTorch checkpoint", False),
    "text_format": ("textproto", False),
    "duplicate_node_names": ("`same`", True),
    "wrong_output_type": ("`logits`", True),
    "opset_missing": ("Flatten", True),
    "opset6": ("Gemm", True),
    "opset99": ("opset 99", False),
    "ir99": ("IR version 99", True),
    "output_renamed_only": ("`renamed`", False),
    "dead_node_with_unknown_input": ("`nothere`", False),
}


def test_files_as_they_lie_about(played, tmp_path, monkeypatch):
    sections = played("10")
    assert set(sections) == {"", *SOUND_FILES, *BROKEN_FILES, "output in another folder"}
    for name, codes in SOUND_FILES.items():
        assert sections[name].codes() == codes, name
        assert sections[name].one("evaluate").accuracy == BASE, name
        for call in working(sections[name]):
            accuracies(call, highest)
    for name, (named, repairs) in BROKEN_FILES.items():
        refused = [call for call in sections[name].calls if call.command != "inspect" or call.returncode]
        assert {call.returncode for call in refused} == {2}, name
        assert all(named in call.error for call in refused), (name, refused[0].error)
        if repairs:
            call = sections[name].one("join")
            sound = run_here("evaluate", repaired(call, monkeypatch), "-d", call.test)
            assert (sound.returncode, sound.accuracy) == (0, BASE), name
    for name, start in (("gzip", "gzip -dc"), ("text_format", "python -c")):
        call = sections[name].one("join")
        command = call.hint[call.hint.index(start) :].replace("python -c", f"{sys.executable} -c", 1)
        folder = tmp_path / f"unpacked {name}"
        folder.mkdir()
        subprocess.run(command, shell=True, check=True, cwd=folder)
        sound = run_here("evaluate", folder / "model.onnx", "-d", call.test)
        assert (sound.returncode, sound.accuracy) == (0, BASE), name
    moved = sections["output in another folder"]
    assert moved.codes() == {"join": 0, "verify": 0, "revert": 0}
    assert "runs there" in moved.said
    assert "model.onnx.data" in moved.one("join").told()  # the weights that were copied are named


def test_models_quantised_by_the_runtime(played):
    sections = played("11")
    quantised = ["plain_QDQ", "plain_QOperator", "softmax_QDQ", "dynamic"]
    halves = [name for name in sections if name.startswith("fp16")]
    for name in [*quantised, *halves]:
        section = sections[name]
        assert {**section.codes(), "verify": 0} == BOTH, name
        assert section.one("evaluate").accuracy > 73
        for call in working(section):
            accuracies(call, highest, apart=name == "dynamic")
        if any(call.returncode for call in section.all("verify")):
            # On the test split `fit` reports more loss than it should cause, and `verify` says so too.
            harmful = section.one("fit")
            assert harmful.accuracy < harmful.accuracy_before - 3
            assert "--margin 1" in section.all("verify")[-1].hint
            sound(fed_again(harmful, "--margin", "1"))
    integers = sections["softmax_QOperator"]
    assert all(call.returncode == 2 and "QLinearSoftmax" in call.error for call in integers.calls)


def test_tables(played):
    pytest.importorskip("skl2onnx", reason="the tables' models are made with skl2onnx")
    pytest.importorskip("pyarrow", reason="one of the tables is Parquet")
    sections = played("13")
    shown = {name: table_decision(name) for name in sections}
    codes = {
        "mlp_raw_scores": BOTH,
        "binary_mlp": BOTH,
        "input_a_column_flat": WORKS,
        "label_column_is_input": WORKS,
        "label_column_given": WORKS,
        "text_labels_one_class_absent": FIT,
        "multilabel_mlp": FIT,
        "voting": FIT,
        "calibrated": FIT,
    }
    accuracy = {
        "text_labels_one_class_absent": 66.8,
        "binary_mlp": 81.0,
        "multilabel_mlp": 63.0,
        "calibrated": 62.8,
        "csv of numbers": 62.7,
    }
    for name in REFUSED_TABLES:
        refused = [call for call in sections[name].calls if call.returncode]
        assert {call.command for call in refused} >= {"evaluate", "fit"}
        assert all(REFUSED_TABLES[name] in call.error for call in refused)
    for name, section in sections.items():
        if name in REFUSED_TABLES or name in ("", "csv of numbers", "parquet"):
            continue
        if name == "multilabel_mlp_rows_of_flags":  # several labels at once, which are not accuracies
            assert section.codes()["evaluate"] == section.codes()["fit"] == 0
            continue
        assert {code for command, code in section.codes().items() if command in TABLE_COMMANDS} == {0}, name
        assert section.one("evaluate").accuracy == accuracy.get(name, 64.8), name
        for call in working(section):
            accuracies(call, shown[name])
        for call in section.all("join", "fit"):
            rows_are_probabilities(call, name)
        refused = [call for call in section.calls if call.returncode]
        if refused:  # what held no gain is the base, in which there is nothing to verify
            assert {call.error.split(" (")[0] for call in refused} == {"the model has no tweak inside"}
            assert "the base" in section.one("fit").told()
        elif name in codes:
            assert section.codes() == codes[name], name
    tables = sections["csv of numbers"].calls + sections["parquet"].calls
    assert [call.accuracy for call in tables] == [accuracy["csv of numbers"]] * 3
    assert "Col0, Col1, Col2, Col3, Col4, Col5" in tables[0].told()


FIT = {"inspect": 0, "evaluate": 0, "fit": 0, "verify": 0, "diff": 0, "revert": 0}
TABLE_COMMANDS = ("inspect", "evaluate", "join", "fit")
REFUSED_TABLES = {
    "random_forest": "a tree ensemble",
}


def table_decision(name: str) -> Callable[[list[np.ndarray]], np.ndarray]:
    """From the outputs of a table's model, labels and scores, to decisions as its labels are given."""
    numbers = {"mlp_string_labels_numbers": ["ash", "birch", "cedar", "dogwood"]}.get(name)
    if name == "multilabel_mlp":  # its own labels are flags: the class is that of the highest score
        return lambda outputs: outputs[1].argmax(axis=1)
    if numbers:
        return lambda outputs: np.array([numbers.index(text) for text in outputs[0]])
    return first


def rows_are_probabilities(call: Call, name: str) -> None:
    """Assert that the file's scores lie in [0, 1], and sum to 1 unless each class has its own flag."""
    scores = own_outputs(call.option("-o"), call.test)[1]
    if isinstance(scores, list):  # a dictionary per sample
        scores = np.array([list(row.values()) for row in scores])
    assert scores.min() >= 0
    assert scores.max() <= 1 + 1e-6
    if name != "multilabel_mlp":
        assert np.allclose(scores.sum(axis=1), 1, atol=1e-5), name


def test_what_is_no_plain_classifier(played):
    sections = played("15")
    kinds = {
        "segmentation_dynamic": ("positions, classes on axis 1", "there is a label per sample"),
        "embedding_normalised": ("embedding", "looks like an embedding"),
        "regression": ("one number", "looks like a regression"),
        "age_as_expectation": ("one number", "looks like a regression"),
    }
    for name, (kind, named) in kinds.items():
        section = sections[name]
        assert inspected(section, "kind") == kind, name
        assert section.codes() == {"inspect": 0, **REFUSED}, name
        assert all(named in call.error for call in section.all("evaluate", "join")), name
    several = sections["multilabel"]
    assert inspected(several, "kind") == "several labels"
    assert several.codes() == {"inspect": 0, "evaluate": 0, "join": 2}
    assert "the scores of no label tell the samples that have it" in several.one("join").error
    # Of boxes with class scores each, the scores alone could be learnt, given a label for every box.
    refused = {"detection_yolo_like": "many positions", "detection_boxes_scores": "at each of 10 positions"}
    for name, named in refused.items():
        assert section_refused(sections[name], named), name
    # The hint on an embedding is right where its numbers are class scores after all.
    embedding = fed_again(sections["embedding_normalised"].one("evaluate"), "--logits", "embedding")
    assert embedding.returncode == 0
    accuracies(embedding, highest)


def section_refused(section: Section, named: str) -> bool:
    calls = [call for call in section.calls if call.command != "inspect"]
    return bool(calls) and all(call.returncode == 2 and named in call.error for call in calls)


def test_states_and_scalars(played):
    """Labels are drawn at random, so `join` stops at a base near chance; with --anyway it goes on."""
    sections = played("15")
    decisions = {
        "stateful_vad": lambda outputs: (outputs[0][:, 0] > 0.5).astype(int),
        "scalar_input": highest,
    }
    given = {"stateful_vad_state_missing": "state=0", "scalar_input_missing": "sr=16000"}
    for name, section in sections.items():
        decide = next((decide for start, decide in decisions.items() if name.startswith(start)), None)
        if decide is None:
            continue
        assert inspected(section, "kind") == "one label", name
        evaluated, joined = section.one("evaluate"), section.one("join")
        assert joined.returncode == 2
        more: tuple[str, ...] = ()
        if name in given:
            missing = given[name].split("=")[0]
            assert evaluated.returncode == 2
            assert f"`{missing}`" in evaluated.error
            assert f"--input {missing}=VALUE" in evaluated.hint
            more = ("--input", given[name])
            evaluated = fed_again(evaluated, *more)
        else:
            assert "chance" in joined.error
            assert "--anyway" in joined.hint
        assert evaluated.returncode == 0, evaluated.stderr
        if not more:
            accuracies(evaluated, decide)
        done = fed_again(joined, *more, "--anyway")
        assert done.returncode == 0, done.stderr
        assert done.accuracy_before == evaluated.accuracy
        if not more:
            accuracies(done, decide)
    missing, whole = (sections[f"scalar_input_{name}"].one("evaluate") for name in ("missing", "0d"))
    assert fed_again(missing, "--input", "sr=16000").accuracy == whole.accuracy


def test_inputs_that_the_logits_do_not_need(played):
    sections = played("20", lambda call: accuracies(call, highest))
    assert len(sections) == 3
    for section in sections.values():
        (call,) = section.calls
        assert (call.returncode, call.accuracy_before) == (0, BASE)
    last = sections["the same, with the second input in the data"].one("join")
    changed = own_outputs(last.option("-o"), last.test)[1]
    assert np.array_equal(changed, own_outputs(last.model, last.test)[1])  # the head that is not tweaked


def test_half_precision_fits(played):
    (section,) = played("21", sound).values()
    assert section.codes() == {"fit": 2, "join": 0}
    assert [call.returncode for call in section.all("fit")] == [0, 2, 0]
    refused = section.all("fit")[1]
    suggested = re.findall(r"--taps (op:\w+)", refused.hint)
    assert suggested
    for tap in suggested:
        words = [tap if word == "penultimate" else word for word in refused.arguments]
        call = run_here(*words, "--hidden", "0", "--mirror", "off")  # which is fast
        assert call.returncode == 0, call.stderr
        sound(call)


def sound(call: Call) -> None:
    """Assert that a file that was just written answers as reported, and that `verify` finds nothing."""
    accuracies(call, highest)
    written = call.option("-o")
    assert run_here("verify", written, "--base", call.model, "-d", call.test).returncode == 0


def test_dynamic_quantisation_is_measured_one_at_a_time(played):
    asked: list[Call] = []

    def measured(call: Call) -> None:
        asked.append(call)
        accuracies(call, highest, apart=True)

    (section,) = played("22", measured).values()
    assert len(asked) == 6
    assert section.codes() == {"join": 0, "fit": 0, "verify": 0}
    assert all("one at a time" in call.told() for call in asked)


def test_hints_of_inspect_and_of_data_can_be_followed(played, folder):
    sections = played("25")
    samples = folder / "25" / "samples.npz"
    blind, seeing = sections["free axes"].calls
    assert (blind.returncode, seeing.returncode) == (0, 0)
    assert "give samples with -d" in blind.told()
    assert "24 neurons" in seeing.told()
    shapeless = sections["no shape"].one("inspect")
    assert "scalar" not in shapeless.stdout
    assert "give samples with -d DATA" in shapeless.told()
    assert "24 neurons" in fed_again(shapeless, "-d", str(samples)).told()
    ragged = sections["ragged"].one("evaluate")
    assert "different lengths" in ragged.error
    assert "(4,)" in ragged.hint
    other = sections["other files"].one("inspect")
    assert "(ORT)" in other.error


def test_csv_of_numbers_counts_as_the_same_samples_elsewhere(played, folder, tmp_path):
    table = played("25")["CSV of numbers"].one("evaluate")
    with np.load(folder / "25" / "samples.npz") as samples:
        flat = {"x": samples["x"].reshape(len(samples["x"]), -1), "y": samples["y"]}
    np.savez(tmp_path / "flat.npz", **flat)
    same = run_here("evaluate", table.model, "-d", tmp_path / "flat.npz")
    assert table.accuracy == same.accuracy
    accuracies(same, highest)
    assert "px0, px1, px2" in table.told()


def test_a_scalar_input_is_given_by_data_or_by_option(played, tmp_path):
    left_out, number, each = played("25")["scalar input"].calls
    assert left_out.returncode == 2
    assert "--input rate=VALUE" in left_out.hint
    assert [number.accuracy, each.accuracy] == [BASE, BASE]
    with np.load(number.option("-d")) as samples:
        np.savez(tmp_path / "image.npz", image=samples["image"], y=samples["y"])
    given = run_here("evaluate", number.model, "-d", tmp_path / "image.npz", "--input", "rate=16000")
    assert (given.returncode, given.accuracy) == (0, BASE)


def test_averaged_softmaxes_stay_probabilities(played, folder):
    (section,) = played("26").values()
    assert section.codes() == BOTH
    assert re.search(r"(?<!not )chosen: [^:]* 96 hidden units", section.one("fit").told())
    for call in working(section):
        accuracies(call, highest)
    files = [folder / "26" / name for name in ("model.onnx", "join.onnx", "fit.onnx")]
    for file in files:
        (scores,) = own_outputs(file, folder / "26" / "test.npz")
        assert np.allclose(scores.sum(axis=1), 1, atol=1e-5)
        assert scores.min() >= 0
        assert scores.max() <= 1
    assert section.said.count("sums 1.00 .. 1.00") == len(files)
