"""The summary of each result."""

from __future__ import annotations

import numpy as np
import pytest

from onnxtweak.intervals import wilson
from onnxtweak.report.text import inspection, summary
from onnxtweak.report.text.layout import Facts, Heading, Note, TextTable, markdown, terminal
from onnxtweak.types import Check, GroupMetrics
from onnxtweak.verdict import copied
from tests.support import results


def table(blocks):
    return next(block for block in blocks if isinstance(block, TextTable))


def accuracies(blocks):
    """The table of a result that comes after its verdict."""
    return [block for block in blocks if isinstance(block, TextTable)][1]


def facts(blocks):
    return {name: said for block in blocks if isinstance(block, Facts) for name, said in block.pairs}


def test_a_result_puts_the_bias_control_beside_every_class():
    shown = accuracies(summary.result(results.a_result()))
    assert shown.columns == ("class", "samples", "base", "tweaked", "change", "bias only")
    assert shown.rows[2:] == (
        ("cat", "4", "50.0", "75.0", "+25.0", "75.0"),
        ("targets", "4", "50.0", "75.0", "+25.0", "75.0"),
        ("overall", "12", "83.3", "91.7", "+8.3", "83.3"),
    )
    assert shown.marked == {2}


def test_a_result_says_how_it_was_chosen_and_where_it_is():
    said = facts(summary.result(results.a_result()))
    assert said["chosen"] == "cat: 20 synapses, scale 30"
    assert said["fixed, broken"] == "1 and 0 samples (exact McNemar p = 1)"
    assert said["neurons"].startswith("45,056 scored (ranked by count; signed theta: the weight up to which")
    assert said["written"].startswith("out.onnx (sha256 bbbb")
    assert said["check neutral"] == "passed: logits bit-equal at scale 0"


def test_a_result_without_a_change_says_so():
    said = facts(summary.result(results.a_result(n=(0,), scale=(0.0,), output=None)))
    assert said["chosen"] == "cat: no change, nothing tried did better"
    assert "written" not in said


def test_targets_at_the_same_point_share_a_sentence():
    made = results.a_result(targets=("ant", "bee", "cat"), n=(20, 5, 20), scale=(1.0, 0.0, 1.0))
    said = facts(summary.result(made))
    assert said["chosen"] == "ant, cat: 20 synapses, scale 1; bee: no change, nothing tried did better"


def test_a_dense_patch_is_told_by_its_size():
    tweak = {"kind": "augment", "parameters": 97066, "synapses": None}
    made = results.a_result(targets=("ant", "bee", "cat"), n=(1000,) * 3, scale=(1.0,) * 3, tweak=tweak)
    assert facts(summary.result(made))["chosen"] == "all classes: 1,000 neurons, 97,066 parameters"


def test_a_class_without_samples_has_a_dash():
    unseen = results.metrics([[4, 0, 0], [0, 4, 0], [0, 0, 0]])
    shown = accuracies(summary.result(results.a_result(before=unseen, after=unseen, bias_control=unseen)))
    assert shown.rows[2] == ("cat", "0", "-", "-", "-", "-")


def test_of_many_classes_targets_and_the_most_changed_are_shown():
    classes = tuple(f"class {c}" for c in range(100))
    before, after = np.diag(np.full(100, 10)), np.diag(np.full(100, 10))
    after[70, 70], after[70, 0] = 4, 6
    made = results.a_result(
        classes=classes,
        targets=("class 99",),
        before=results.metrics(before.tolist(), (99,)),
        after=results.metrics(after.tolist(), (99,)),
        bias_control=results.metrics(before.tolist(), (99,)),
    )
    shown = accuracies(summary.result(made))
    assert len(shown.rows) == 33
    names = [row[0] for row in shown.rows]
    assert "class 70" in names
    assert names[-4:] == ["class 99", "(70 more)", "targets", "overall"]
    assert shown.marked == {29}


def test_the_verdict_stands_first_and_the_worst_of_it_on_top():
    gained = {"ahead": (0, 0, 90), "behind": (0, 0, 5)}
    judged = results.a_verdict((0, 0, 90), (200, 0, 5), (1000,) * 3, each=5.0, **gained)
    blocks = summary.result(results.a_result(verdict=judged))
    assert blocks[0].text == "Verdict on 3,000 test samples: 2 of 4 promises not kept, 2 kept"
    assert [(row[0], row[-1]) for row in blocks[1].rows] == [
        ("no class loses more than 5 points; worst: ant", "NOT KEPT"),
        ("overall accuracy kept", "NOT KEPT"),
        ("better on cat", "kept"),
        ("better than the best bias", "kept"),
    ]
    assert blocks[1].marked == {0, 1}
    assert blocks[1].rows[0][1:3] == ("-20.0", "-23.0 to -16.9")


@pytest.mark.parametrize(("broken", "place"), [(200, 1), (3, 3)])
def test_without_a_limit_the_class_that_pays_is_named(broken, place):
    judged = results.a_verdict((0, 0, 90), (broken, 0, 0), (1000,) * 3)
    rows = summary.result(results.a_result(verdict=judged))[1].rows
    assert (rows[place][0], rows[place][-1]) == ("the class that pays most: ant", "no limit")


def test_a_copy_is_called_a_copy_and_nowhere_tweaked():
    copy = results.a_result(verdict=copied("test", 12), n=(0,), scale=(0.0,))
    blocks = summary.result(copy)
    assert blocks[0].text == "Verdict: a copy of the base: nothing was changed"
    assert facts(blocks)["written"].endswith(", a copy of the base")
    assert "tweaked" not in terminal(blocks)
    assert summary.verdict(copy).startswith("a copy of the base: nothing was changed; test: ")


def test_a_bias_is_called_a_bias():
    made = results.a_result(verdict=results.a_verdict(answer="bias"))
    assert "a bias alone, 2 promises not shown" in summary.verdict(made)


def test_a_failed_check_is_loud():
    made = results.a_result(checks=(Check("simulation", False, "2 of 12 differ"),))
    assert facts(summary.result(made))["check simulation"] == "FAILED: 2 of 12 differ"
    assert summary.verdict(made).endswith("0 of 1 checks passed")


def test_an_evaluation_shows_the_confusion_matrix_of_few_classes():
    tables = [block for block in summary.evaluation(results.an_evaluation()) if isinstance(block, TextTable)]
    assert tables[0].rows[-2:] == (("targets", "4", "50.0"), ("overall", "12", "83.3"))
    assert tables[1].rows[2] == ("cat", "1", "1", "2")


def test_an_evaluation_lists_the_most_frequent_confusions_of_many_classes():
    confusion = np.diag(np.full(40, 9))
    confusion[3, 5], confusion[8, 2] = 4, 6
    measured = results.an_evaluation(
        metrics=results.metrics(confusion.tolist()),
        classes=tuple(f"class {c}" for c in range(40)),
        targets=(),
    )
    blocks = summary.evaluation(measured)
    shown = [block for block in blocks if isinstance(block, TextTable)]
    assert shown[1].rows == (("class 8", "class 2", "6"), ("class 3", "class 5", "4"))
    assert len(shown[0].rows) == 31
    assert any(isinstance(block, Note) and "10 other classes" in block.text for block in blocks)


def a_group(name, right, samples, column="site"):
    interval = wilson(right, samples)
    return GroupMetrics(column, name, samples, right, right / samples, interval, samples < 30)


def test_groups_stand_worst_first_and_small_ones_are_marked():
    groups = (a_group("lima", 2, 4), a_group("oslo", 90, 100), a_group("old", 1, 40, "age"))
    blocks = summary.evaluation(results.an_evaluation(groups=groups))
    by_site, by_age = [b for b in blocks if isinstance(b, TextTable) and "95 % interval" in b.columns]
    assert by_site.rows == (
        ("lima", "4", "50.0", "15.0 to 85.0", "few samples"),
        ("oslo", "100", "90.0", "82.6 to 94.5", ""),
    )
    assert by_age.rows[0][:3] == ("old", "40", "2.5")
    said = [block.text for block in blocks if isinstance(block, Note)]
    assert sum("few samples" in text for text in said) == 1
    assert Heading("Accuracy by `site`, in percent, worst first") in blocks


def test_of_many_groups_the_worst_are_shown():
    groups = tuple(a_group(f"g{k}", 40 + k // 2, 90) for k in range(50))
    blocks = summary.evaluation(results.an_evaluation(groups=groups))
    shown = next(b for b in blocks if isinstance(b, TextTable) and "95 % interval" in b.columns)
    assert [row[0] for row in shown.rows] == [f"g{k}" for k in range(30)]
    assert any(isinstance(b, Note) and "better: 20 other groups" in b.text for b in blocks)


def test_a_hostile_group_cannot_forge_a_line():
    groups = (a_group("a\x1b[2J\nnote: all is well", 2, 40, "si\u202ete"),)
    said = terminal(summary.evaluation(results.an_evaluation(groups=groups)), width=200)
    assert "a\\x1b[2J\\nnote: all is well" in said and "\x1b" not in said and "\u202e" not in said
    assert "&lt;b>" in markdown(summary.evaluation(results.an_evaluation(groups=(a_group("<b>", 1, 40),))))


def test_an_inspection_marks_the_tensors_that_are_watched():
    inside = {"number": 1, "kind": "join", "version": "0.1.0", "base_sha256": "a" * 64, "scale": 0.5}
    blocks = inspection.inspection(results.an_inspection(tweaks=(inside,)))
    shown = table(blocks)
    assert [row[0] for row in shown.rows] == ["relu", "conv"]
    assert shown.marked == {0}
    said = facts(blocks)
    assert said["opset"] == "ai.onnx 17"
    assert said["input"] == "image float32 ?x3x32x32"
    assert said["logits"] == "the graph's only output"
    assert said["tweak inside"].startswith(
        "1: join, scale 0.5, made by onnxtweak 0.1.0 for the base with sha256 aaaa"
    )


def test_a_score_names_what_was_left_out():
    said = facts(summary.scored(results.a_score(dropped=3)))
    assert said["left out"] == "3 neurons with NaN or infinite values"
    assert "left out" not in facts(summary.scored(results.a_score(dropped=0)))


@pytest.mark.parametrize(
    "blocks",
    [
        summary.result(results.a_result()),
        summary.evaluation(results.an_evaluation()),
        inspection.inspection(results.an_inspection()),
        summary.applied(results.an_applied()),
        summary.dumped(results.a_dump()),
        summary.scored(results.a_score()),
    ],
)
def test_every_story_fits_a_narrow_terminal(blocks):
    assert max(map(len, terminal(blocks, width=80).splitlines())) <= 80


def test_the_last_line_names_the_class_that_pays():
    before, after = results.metrics([[9, 1], [5, 5]]), results.metrics([[7, 3], [1, 9]])
    judged = results.a_verdict((0, 5), (2, 1), (10, 10), targets=(1,), names=("ant", "bee"))
    made = results.a_result(before=before, after=after, bias_control=before, verdict=judged)
    assert "class ant pays 20.0 points" in summary.verdict(made)
    assert "pays" not in summary.verdict(results.a_result())
