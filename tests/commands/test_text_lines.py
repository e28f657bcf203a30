"""Lines of text at a CTC head: labelled by their text, learnt, written and read by plain ONNX Runtime."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

import onnxtweak
from onnxtweak.cli.main import main
from onnxtweak.commands.verify import verify
from onnxtweak.errors import DataError, UsageError
from onnxtweak.settings import DataSettings
from tests.support.nets import mlp
from tests.support.plain_session import plain_session
from tests.support.text_lines import CHARACTERS, CLASSES, USED, read, text_lines

QUICK = {"backend": "numpy", "hidden": 0, "device": "cpu"}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return text_lines(tmp_path_factory.mktemp("lines"), lines=160)


@pytest.fixture(scope="module")
def seen(made):
    """What the model is measured to be."""
    return onnxtweak.evaluate(made.model, data=made.data)


@pytest.fixture(scope="module")
def fitted(made, tmp_path_factory):
    new = tmp_path_factory.mktemp("fitted") / "new.onnx"
    tweak = new.with_suffix(".safetensors")
    result = onnxtweak.fit(made.model, data=made.data, keep=made.keep, output=new, tweak=tweak, **QUICK)
    return new, tweak, result


@pytest.fixture(scope="module")
def careless(made, tmp_path_factory):
    """Without lines to keep."""
    new = tmp_path_factory.mktemp("careless") / "new.onnx"
    return new, onnxtweak.fit(made.model, data=made.data, output=new, **QUICK)


def character_errors(made, texts):
    """By a distance of its own: dynamic programming, cell by cell."""
    wrong = 0
    for one, other in zip(made.texts, texts, strict=True):
        row = list(range(len(other) + 1))
        for i, a in enumerate(one, 1):
            corner, row[0] = row[0], i
            for j, b in enumerate(other, 1):
                corner, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, corner + (a != b))
        wrong += row[-1]
    return wrong / sum(map(len, made.texts))


def test_lines_are_measured_as_they_are_read(made, seen):
    values = {one.name: one.value for one in seen.readings}
    texts = read(made.model, made.x)
    assert values["cer"] == pytest.approx(character_errors(made, texts))
    right = np.mean([one == other for one, other in zip(made.texts, texts, strict=True)])
    assert values["lines"] == pytest.approx(right)
    assert values["wer"] == pytest.approx(1 - right)  # of lines of one word
    assert "base's own best path" in " ".join(seen.notes)


def test_tables_hold_the_classes_that_labels_name(seen):
    assert seen.classes == ("(blank)", *USED[:3], "0", "1", "l", "(any other)")
    assert f"labels name 7 of {CLASSES} classes" in " ".join(seen.notes)


def test_a_line_is_read_better_and_the_file_shows_it(made, fitted):
    new, _, result = fitted
    assert all(check.passed for check in result.checks)
    assert {check.name for check in result.checks} >= {"simulation", "neutral", "answer"}
    was, now = (character_errors(made, read(path, made.x)) for path in (made.model, new))
    assert was > 0.15 and now < was / 4
    assert result.metric.after.name == "cer" and result.metric.after.value < result.metric.before.value / 4
    states = {promise.name: promise.state for promise in result.verdict.promises}
    assert states.pop("classes") in ("kept", "not shown")  # of some characters there are few
    assert set(states) >= {"metric", "overall", "keep"} and set(states.values()) == {"kept"}
    assert any(note.startswith("lines read right: ") for note in result.notes)


def test_what_no_label_names_stays_bit_for_bit(made, fitted):
    new, _, _ = fitted
    both = []
    for path in (made.model, new):
        model = onnx.load(path)
        logits = next(node.input[0] for node in model.graph.node if node.op_type == "Softmax")
        model.graph.output.append(onnx.ValueInfoProto(name=logits))
        session = plain_session(model.SerializeToString())
        both.append(session.run([logits], {"x": made.x[:40]})[0])
    named = [0, *(1 + CHARACTERS.index(one) for one in USED)]
    others = np.setdiff1d(np.arange(CLASSES), named)
    assert np.array_equal(both[0][..., others].view(np.uint32), both[1][..., others].view(np.uint32))
    assert not np.array_equal(both[0], both[1])
    assert new.stat().st_size - made.model.stat().st_size < 40_000  # no column of weights for each of them


def test_the_written_file_is_applied_verified_and_reverted(made, fitted, tmp_path):
    new, tweak, _ = fitted
    again, back = tmp_path / "again.onnx", tmp_path / "back.onnx"
    onnxtweak.apply(made.model, tweak, again)
    assert again.read_bytes() == new.read_bytes()
    found = verify(tweaked=str(new), base=str(made.model), data=DataSettings(data=(str(made.data),)))
    assert all(check.passed for check in found.checks) and not found.unchecked
    assert found.after.overall > found.before.overall
    onnxtweak.revert(new, back)
    assert back.read_bytes() == made.model.read_bytes()


def test_a_file_is_measured_by_the_labels_of_its_base(made, fitted):
    new, _, _ = fitted
    found = onnxtweak.evaluate(new, data=made.data)
    assert next(one.value for one in found.readings if one.name == "cer") == pytest.approx(
        character_errors(made, read(new, made.x))
    )
    again = verify(tweaked=str(new), base=str(made.model), data=DataSettings(data=(str(made.data),)))
    assert found.metrics.overall == pytest.approx(again.after.overall)


def test_without_lines_to_keep_a_note_says_what_that_may_cost(careless):
    _, result = careless
    assert "Give --keep LINES" in " ".join(result.notes) and result.listed is None


def test_lines_to_keep_are_kept(made, fitted, careless):
    with np.load(made.keep) as held:
        x = held["x"]
    before = read(made.model, x)
    changed = [
        sum(one != other for one, other in zip(before, read(path, x), strict=True))
        for path in (careless[0], fitted[0])
    ]
    assert changed[1] < changed[0] / 2
    assert fitted[2].listed.keep.broken < 0.05 * fitted[2].listed.keep.right


@pytest.mark.parametrize("blank", [None, 0])
def test_an_alphabet_may_be_given(made, seen, tmp_path, blank):
    model, alphabet = tmp_path / "bare.onnx", tmp_path / "alphabet.txt"
    proto = onnx.load(made.model)
    del proto.metadata_props[:]
    onnx.save(proto, model)
    alphabet.write_text("\n".join(CHARACTERS) + "\n", encoding="utf-8")
    found = onnxtweak.evaluate(model, data=made.data, alphabet=alphabet, blank=blank)
    assert [one.value for one in found.readings] == [one.value for one in seen.readings]


def test_from_lines_that_are_hardly_read_nothing_is_learnt(made, tmp_path):
    wrong = {"data": made.data, "blank": -1, "alphabet": [*CHARACTERS, " "]}
    found = onnxtweak.evaluate(made.model, **wrong)
    rate = next(one.value for one in found.readings if one.name == "cer")
    assert rate > 0.9
    assert f"the model's character error rate is {rate:.0%}: check that the alphabet" in " ".join(found.notes)
    with pytest.raises(DataError, match=r"on 512 fit samples, the model's character error rate is"):
        onnxtweak.fit(made.model, **wrong, output=tmp_path / "x.onnx", **QUICK)
    assert not list(tmp_path.iterdir())


def test_texts_without_an_alphabet_and_scores_without_a_softmax(made, seen, tmp_path):
    proto = onnx.load(made.model)
    del proto.metadata_props[:]
    onnx.save(proto, tmp_path / "bare.onnx")
    with pytest.raises(DataError, match="a label per sample") as caught:
        onnxtweak.evaluate(tmp_path / "bare.onnx", data=made.data)
    assert caught.value.hint.endswith("--alphabet FILE")
    softmax = proto.graph.node.pop()
    proto.graph.node.append(onnx.helper.make_node("Identity", softmax.input, softmax.output))
    onnx.save(proto, tmp_path / "raw.onnx")
    asked = {"data": made.data, "alphabet": list(CHARACTERS)}
    guessed = onnxtweak.evaluate(tmp_path / "raw.onnx", **asked)  # only one axis has a known size
    inside = onnxtweak.inspect(tmp_path / "raw.onnx")
    assert (inside.class_axis, inside.classes) == (2, CLASSES)
    assert any("axis 2 counts the classes is a guess" in note for note in inside.notes)
    proto.graph.output[0].type.tensor_type.shape.dim[2].dim_param = "classes"
    reshaped = onnx.helper.make_node("Reshape", [softmax.input[0], "sizes"], softmax.output)
    proto.graph.node[-1].CopyFrom(reshaped)  # behind which the layer that makes the scores is not seen
    proto.graph.initializer.append(onnx.numpy_helper.from_array(np.array([0, 0, -1]), "sizes"))
    onnx.save(proto, tmp_path / "raw.onnx")
    with pytest.raises(UsageError, match="shows no class at each position") as caught:
        onnxtweak.evaluate(tmp_path / "raw.onnx", **asked)
    assert caught.value.hint.endswith("--class-axis 2")
    raw = onnxtweak.evaluate(tmp_path / "raw.onnx", **asked, class_axis=2)
    values = [[one.value for one in found.readings] for found in (raw, guessed, seen)]
    assert values[0] == values[1] == values[2]


def test_empty_lines_and_blanks_at_the_ends_do_not_count(made, tmp_path):
    texts = np.array([f" {text} " if row else "" for row, text in enumerate(made.texts)])
    np.savez(tmp_path / "d.npz", x=made.x, y=texts)
    found = onnxtweak.evaluate(made.model, data=tmp_path / "d.npz")
    assert f"1 of {len(texts)} lines have no text: they do not count" in found.notes
    known = onnxtweak.evaluate(made.model, data=f"{made.data}#[1:]")
    assert next(one.value for one in found.readings) == next(one.value for one in known.readings)
    with pytest.raises(DataError, match="no line has any text"):
        onnxtweak.evaluate(made.model, data=(made.x[:3], np.array(["", "", ""])))
    with pytest.raises(DataError, match=r"no line has any text \(labels of test"):
        onnxtweak.fit(made.model, data=made.data, test=(made.x[:2], np.array(["", ""])))


@pytest.mark.parametrize(
    ("alphabet", "what"),
    [
        ("a\nb\n", "the alphabet has 2 characters, and the model 300 classes"),
        ("a\nb\na\n", "`a` is in line 1 and 3"),
        ("a\n\nb\n", "line 2 of the alphabet is empty"),
    ],
)
def test_an_alphabet_that_does_not_fit_is_refused(made, tmp_path, alphabet, what):
    file = tmp_path / "alphabet.txt"
    file.write_text(alphabet, encoding="utf-8")
    with pytest.raises(DataError, match=what):
        onnxtweak.evaluate(made.model, data=made.data, alphabet=file)


def test_a_character_that_the_model_does_not_know_is_named(made, tmp_path):
    data = tmp_path / "odd.npz"
    np.savez(data, x=made.x[:4], y=np.array([*made.texts[:3], "a€"]))
    with pytest.raises(DataError, match="no class for `€`, which stands in `a€`") as error:
        onnxtweak.evaluate(made.model, data=data)
    assert "row 3" in str(error.value.where)


def test_lines_longer_than_the_positions_do_not_count(made, tmp_path):
    data = tmp_path / "long.npz"
    np.savez(data, x=made.x[:40], y=np.array(["ab" * 40, *made.texts[1:40]]))
    found = onnxtweak.evaluate(made.model, data=data)
    assert "not counted: 1 line of more characters than" in " ".join(found.notes)
    np.savez(data, x=made.x[:2], y=np.array(["ab" * 40, "ba" * 40]))
    with pytest.raises(DataError, match="no line fits into the 30 positions"):
        onnxtweak.evaluate(made.model, data=data)


def test_a_list_of_pictures_may_hold_their_text(tmp_path):
    """Of any width, as recognisers take them: a height of 48, filled up on the right."""
    made = text_lines(tmp_path, lines=90, pictures=True)
    as_fed = {"resize": (48, 320), "resize_mode": "line", "pad_value": 127}
    as_fed |= {"pixel_scale": "1/255", "mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}
    found = onnxtweak.evaluate(made.model, data=made.data, **as_fed)
    before = character_errors(made, read(made.model, made.x))
    assert next(one.value for one in found.readings if one.name == "cer") == pytest.approx(before)
    new = tmp_path / "new.onnx"
    fitted = onnxtweak.fit(made.model, data=made.data, keep=made.keep, output=new, **QUICK, **as_fed)
    assert fitted.listed.keep.samples > 500
    assert character_errors(made, read(new, made.x)) < before / 3


def test_inspect_says_that_labels_may_be_texts(made):
    assert f"{len(CHARACTERS)} characters: labels" in " ".join(onnxtweak.inspect(made.model).notes)


def test_the_command_line_takes_an_alphabet(made, tmp_path, capsys):
    alphabet = tmp_path / "alphabet.txt"
    alphabet.write_text("\n".join(CHARACTERS), encoding="utf-8")
    words = [
        "evaluate",
        str(made.model),
        "-d",
        str(made.data),
        "--alphabet",
        str(alphabet),
        "--blank",
        "0",
    ]
    assert main(words) == 0
    assert "cer" in capsys.readouterr().out


def test_a_classifier_has_no_alphabet(tmp_path):
    model, data = tmp_path / "m.onnx", tmp_path / "d.npz"
    model.write_bytes(mlp().SerializeToString())
    np.savez(data, x=np.zeros((30, 8), np.float32), y=np.arange(30) % 3)
    with pytest.raises(UsageError, match="does not read text"):
        onnxtweak.evaluate(model, data=data, alphabet=["a", "b"])


def test_verify_and_summaries_count_lines(made, fitted, capsys):
    new, _, _ = fitted
    found = verify(tweaked=str(new), data=DataSettings(data=(str(made.data),)))
    right = [
        sum(a == b for a, b in zip(made.texts, read(path, made.x), strict=True)) for path in (made.model, new)
    ]
    shares = [f"{count / len(made.texts):.1%}" for count in right]
    assert any(note.startswith(f"lines read right: {shares[0]} -> {shares[1]}") for note in found.notes)
    assert found.unit == "positions"
    assert main(["evaluate", str(new), "-d", str(made.data)]) == 0
    assert "Metrics, per 100 characters, lines, words" in capsys.readouterr().out
