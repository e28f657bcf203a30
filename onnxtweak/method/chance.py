"""Does a model guess? Whether its answers have to do with the labels, beyond what one class alone reaches.

A model that is not better than always answering the most frequent class may still know much: labels are often
skewed, and what is to be improved may be bad. So two questions are asked, of accuracy and of dependence.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

_ERRORS = 3.0  # standard errors by which a share must differ from what chance gives
# What answers must agree with labels beyond chance, as a share of what is possible, and in standard errors.
_SKILL = 0.2
_SKILL_ERRORS = 2.0
# From so many times its even share on the most frequent class dominates the labels.
_DOMINATES = 1.5
# So few right ones, where chance alone gives more, mean that samples were collected because they are wrong.
_ALL_WRONG = 0.01


@dataclass(frozen=True)
class Standing:
    """How predictions stand to labels.

    accuracy : share of right ones. most : share of the most frequent class. kappa : Cohen's, agreement beyond
    chance as a share of what is possible. better : whether the accuracy is clearly above `most`, and above
    one in as many classes as there are. informed : whether the answers depend on the labels as those of a
    model do that does not guess, in spite of that accuracy.
    """

    accuracy: float
    most: float
    kappa: float
    better: bool
    informed: bool

    @property
    def guesses(self) -> bool:
        """Neither a good accuracy nor a sign of knowledge."""
        return not (self.better or self.informed)


def standing(predicted: np.ndarray, labels: np.ndarray, classes: int) -> Standing:
    """The standing of predictions (N,) to labels (N,), both int in [0, classes). O(N log N).

    With labels of a single class nothing can be told, and the model is taken to be informed.
    """
    samples = len(labels)
    counts = np.bincount(labels, minlength=classes).astype(np.float64)
    accuracy, most = float((predicted == labels).mean()), float(counts.max()) / samples
    least = max(most, 1 / classes)
    excess = _excess(predicted, labels, counts)
    all_wrong = accuracy <= _ALL_WRONG and excess < -_ERRORS
    # A model that nearly always gives the most frequent answer, and is right to.
    prior = most >= _DOMINATES / classes and accuracy >= most and excess > _ERRORS
    skilled = excess > _SKILL_ERRORS and _skill(predicted, labels, counts) >= _SKILL
    return Standing(
        accuracy=accuracy,
        most=most,
        kappa=_kappa(predicted, labels, counts),
        better=bool(accuracy > least + _ERRORS * np.sqrt(least * (1 - least) / samples)),
        informed=bool(most == 1 or skilled or prior or all_wrong),
    )


def _skill(predicted: np.ndarray, labels: np.ndarray, counts: np.ndarray) -> float:
    """Agreement beyond chance: Cohen's kappa, or the mean recall of the classes, where that is more."""
    samples, answers = len(labels), np.bincount(predicted, minlength=len(counts))
    right = np.bincount(labels[predicted == labels], minlength=len(counts))
    present = counts > 0
    recall, chance = right[present] / counts[present], answers[present] / samples
    balanced = float((recall - chance).mean() / max(1 - chance.mean(), 1e-9))
    return max(_kappa(predicted, labels, counts), balanced)


def _kappa(predicted: np.ndarray, labels: np.ndarray, counts: np.ndarray) -> float:
    """Cohen's kappa; 0 where nothing but one class is labelled and answered."""
    expected = float(counts @ np.bincount(predicted, minlength=len(counts))) / len(labels)
    return float((predicted == labels).sum() - expected) / max(len(labels) - expected, 1.0)


def _excess(predicted: np.ndarray, labels: np.ndarray, counts: np.ndarray) -> float:
    """By how many standard errors more samples are right than if labels were shuffled; 0 where all are alike.

    The number of matches of two shuffled lists has a mean and a variance in closed form.
    """
    samples, answers = len(labels), np.bincount(predicted, minlength=len(counts))
    both = counts * answers
    rest = (samples - counts) * (samples - answers)
    variance = (both @ rest + both.sum() ** 2 - both @ both) / max(samples**2 * (samples - 1.0), 1)
    matches = float((predicted == labels).sum())
    return float((matches - both.sum() / samples) / np.sqrt(variance)) if variance > 0 else 0.0


def tells_apart(score: np.ndarray, labels: np.ndarray, skill: float = _SKILL) -> bool:
    """Whether scores (N,) of two classes order them better than chance, wherever they are cut.

    skill : the least that counts, twice the area under the ROC curve less one. Its variance by chance is Mann
    and Whitney's.
    """
    of_one = labels == 1
    many, others = int(of_one.sum()), int((~of_one).sum())
    if not many or not others:
        return False
    order = np.argsort(score, kind="stable")
    _, first, count = np.unique(score[order], return_index=True, return_counts=True)
    rank = np.empty(len(score))
    rank[order] = np.repeat(first + (count + 1) / 2, count)  # equal scores share their mean rank
    area = float(rank[of_one].sum() - many * (many + 1) / 2) / (many * others)
    error = float(np.sqrt((many + others + 1) / (12 * many * others)))
    return 2 * area - 1 >= skill and area - 0.5 > _ERRORS * error


def mean_recall(right: np.ndarray, labels: np.ndarray) -> float:
    """The share of right samples (N,) bool in a class, as a mean over the classes, whatever their sizes."""
    counts = np.bincount(labels)
    shares = np.bincount(labels, weights=right)[counts > 0] / counts[counts > 0]
    return float(shares.mean())


def renumbered(predicted: np.ndarray, labels: np.ndarray, classes: int) -> np.ndarray:
    """For each label (C,) the answer of its own that goes with it, -1 for none.

    The commonest pairs come first; one that occurs once says nothing.
    """
    pairs, counts = np.unique(labels.astype(np.int64) * classes + predicted, return_counts=True)
    answers, taken = np.full(classes, -1), np.zeros(classes, bool)
    for k in np.argsort(-counts, kind="stable"):
        label, answer = divmod(int(pairs[k]), classes)
        if counts[k] > 1 and answers[label] < 0 and not taken[answer]:
            answers[label], taken[answer] = answer, True
    return answers
