"""Does a model guess? Whether its answers have to do with the labels, beyond what one class alone reaches.

A model that is not better than always answering the most frequent class may still know much: labels are often
skewed, and what is to be improved may be bad. So two questions are asked, of accuracy and of dependence.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

_ERRORS = 3.0  # standard errors that an accuracy must have over the most frequent class's share
# What answers must agree with labels beyond chance, as a share of what is possible, and in standard errors.
_SKILL = 0.2
_SKILL_ERRORS = 2.0
# Accuracy of samples that were collected because they are wrong, and how well labels must then follow from
# the answers (3 -> 8 and the like), beyond always naming the most frequent label.
_ALL_WRONG = 0.01
_FOLLOWS = 0.25


@dataclass(frozen=True)
class Standing:
    """How predictions stand to labels.

    accuracy : share of right ones. most : share of the most frequent class. better : whether the accuracy is
    clearly above `most`, and above one in as many classes as there are. informed : whether the answers depend
    on the labels as those of a model do that does not guess, in spite of that accuracy.
    """

    accuracy: float
    most: float
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
    right = int((predicted == labels).sum())
    most = float(counts.max()) / samples
    least = max(most, 1 / classes)
    error = np.sqrt(least * (1 - least) / samples)
    return Standing(
        accuracy=right / samples,
        most=most,
        better=bool(right / samples > least + _ERRORS * error),
        informed=most == 1 or _skilled(predicted, labels, counts) or _only_wrong(predicted, labels, counts),
    )


def _only_wrong(predicted: np.ndarray, labels: np.ndarray, counts: np.ndarray) -> bool:
    """Whether the samples are ones that the model confuses: next to none is right, but labels follow."""
    samples = len(labels)
    if (predicted == labels).mean() > _ALL_WRONG or _excess(predicted, labels, counts) > -_ERRORS:
        return False
    most = counts.max() / samples
    gain = label_from_answer(predicted, labels, len(counts)) - most
    return bool(gain > max(_ERRORS * np.sqrt(most * (1 - most) / samples), _FOLLOWS * (1 - most)))


def _skilled(predicted: np.ndarray, labels: np.ndarray, counts: np.ndarray) -> bool:
    """Whether agreement exceeds chance by Cohen's kappa, or recall does in the mean over the classes."""
    samples, answers = len(labels), np.bincount(predicted, minlength=len(counts))
    right = np.bincount(labels[predicted == labels], minlength=len(counts))
    expected = float(counts @ answers) / samples
    kappa = (right.sum() - expected) / max(samples - expected, 1)
    present = counts > 0
    recall, chance = right[present] / counts[present], answers[present] / samples
    balanced = (recall - chance).mean() / max(1 - chance.mean(), 1e-9)
    return bool(max(kappa, balanced) >= _SKILL and _excess(predicted, labels, counts) > _SKILL_ERRORS)


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


def label_from_answer(predicted: np.ndarray, labels: np.ndarray, classes: int) -> float:
    """How often a label is the most frequent one among the other samples with the same answer."""
    pairs, counts = np.unique(predicted.astype(np.int64) * classes + labels, return_counts=True)
    answer = pairs // classes
    order = np.lexsort((counts, answer))
    answer, counts = answer[order], counts[order]
    last = np.append(answer[1:] != answer[:-1], True)
    second = np.where(np.append(False, answer[1:] == answer[:-1]), np.append(0, counts[:-1]), 0)
    won = last & (counts - 1 > second)
    return float(counts[won].sum() / len(labels))


def renumbered(predicted: np.ndarray, labels: np.ndarray, classes: int) -> tuple[np.ndarray, float]:
    """The answer (C,) most frequent for each label, -1 for one without samples, and how often it is given.

    Where two labels share an answer the labels are not merely numbered in another way: the share is then 0.
    """
    pairs, counts = np.unique(labels.astype(np.int64) * classes + predicted, return_counts=True)
    label, answer = pairs // classes, pairs % classes
    order = np.lexsort((counts, label))
    label, answer, counts = label[order], answer[order], counts[order]
    last = np.append(label[1:] != label[:-1], True)
    answers = np.full(classes, -1)
    answers[label[last]] = answer[last]
    distinct = len(np.unique(answer[last])) == int(last.sum())
    return answers, float(counts[last].sum() / len(labels)) if distinct else 0.0
