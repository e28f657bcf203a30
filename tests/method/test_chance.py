"""Whether a model guesses: judged by its accuracy, and by what its answers have to do with the labels."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from onnxtweak.method.chance import mean_recall, renumbered, standing, tells_apart

SKEWED = (0.67, 0.11, 0.10, 0.05, 0.04, 0.02, 0.01)


def rng(seed=0):
    return np.random.default_rng(seed)


def knowing(labels, share, classes, seed=1):
    """Answers that are the label with a probability, and otherwise anything."""
    random = rng(seed)
    return np.where(random.random(len(labels)) < share, labels, random.integers(0, classes, len(labels)))


@pytest.mark.parametrize("classes", [2, 3, 10, 100])
@pytest.mark.parametrize("seed", range(5))
def test_answers_that_have_nothing_to_do_with_the_labels_are_guesses(classes, seed):
    labels, answers = rng(seed).integers(0, classes, (2, 512))
    assert standing(answers, labels, classes).guesses
    assert standing(np.zeros_like(answers), labels, classes).guesses  # one answer, whatever comes


@pytest.mark.parametrize(("classes", "share"), [(2, 0.4), (3, 0.4), (10, 0.3), (100, 0.3)])
def test_a_model_that_knows_something_does_better(classes, share):
    labels = rng().integers(0, classes, 512)
    assert standing(knowing(labels, share, classes), labels, classes).better


def test_skewed_labels_do_not_make_a_guess_of_knowledge():
    """62.8 % of seven classes, where one class alone is 67 %: a model that finds every class."""
    labels = rng().choice(7, 600, p=SKEWED)
    found = standing(knowing(labels, 0.55, 7), labels, 7)
    assert found.accuracy < found.most
    assert not found.better
    assert found.informed


@pytest.mark.parametrize("answers", [lambda n: rng(3).integers(0, 7, n), lambda n: np.zeros(n, np.int64)])
def test_skewed_labels_do_not_hide_a_guess(answers):
    labels = rng().choice(7, 600, p=SKEWED)
    assert standing(answers(600), labels, 7).guesses


def test_a_model_that_nearly_always_gives_the_commonest_answer_knows_when_not_to():
    labels = rng().choice(7, 600, p=SKEWED)
    answers = np.where(rng(1).random(600) < 0.06, labels, 0)
    found = standing(answers, labels, 7)
    assert not found.better
    assert found.informed


def test_samples_that_were_collected_because_they_are_wrong_are_no_guesses():
    labels = rng().integers(0, 10, 3000)
    answers = knowing(labels, 0.7, 10)
    wrong = answers != labels
    assert standing(answers[wrong], labels[wrong], 10).informed
    assert standing(np.full(3000, 7), labels, 10).guesses


@pytest.mark.parametrize("answer", [0, 1])
def test_a_single_class_tells_nothing(answer):
    assert not standing(np.full(50, answer), np.zeros(50, np.int64), 10).guesses


@pytest.mark.parametrize("samples", [10, 20, 40])
def test_few_samples_are_no_proof_of_a_guess(samples):
    labels = np.arange(samples) % 2
    answers = np.where(np.arange(samples) % 5 == 0, 1 - labels, labels)  # 80 % right
    assert not standing(answers, labels, 2).guesses or samples == 10


def test_labels_in_another_order_are_found_and_noise_is_not():
    labels, order = rng().integers(0, 10, 400), rng(1).permutation(10)
    answers = knowing(order[labels], 0.6, 10)
    np.testing.assert_array_equal(renumbered(answers, labels, 10), order)
    noise = rng(5).integers(0, 1000, 512)
    pairs = renumbered(noise, rng(6).integers(0, 1000, 512), 1000)
    assert (pairs >= 0).sum() < 5


def test_mean_recall_weighs_classes_alike():
    labels = np.array([0] * 90 + [4] * 10)
    assert mean_recall(labels == 0, labels) == 0.5


def test_scores_of_a_rare_class_may_tell_what_no_cut_shows():
    random = rng()
    labels = (np.arange(500) % 25 == 0).astype(np.int64)
    score = random.normal(size=500) + 1.5 * labels
    assert standing((score > 9).astype(np.int64), labels, 2).guesses
    assert tells_apart(score - 9, labels) and tells_apart(np.round(score), labels)
    assert not tells_apart(-score, labels) and not tells_apart(random.normal(size=500), labels)
    assert not tells_apart(np.zeros(500), labels) and not tells_apart(score, np.zeros(500, np.int64))
    assert tells_apart(score, labels) == (roc_auc_score(labels, score) > 0.6)
