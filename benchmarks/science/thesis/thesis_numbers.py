"""Which numbers does the thesis report? Only those that we have, each with its table; the rest is unknown.

Accuracies in per cent. Its base of tables 3.1 to 3.8 is a CNN-3 on SVHN, a checkpoint that stands out from a
fluctuating curve: class 9 is right on 91.4 % of validation and 76.26 % of test.
"""

from __future__ import annotations

# (target, overall) on test; None: not known to us.
TABLE_3_3: dict[str, tuple[float | None, float | None]] = {
    "base": (76.26, 88.99),
    "Retraining-2": (85.9, None),
    "calibration, mu = 0.9": (97.19, 87.36),
    "SR-1": (87.9, None),
}
# One target: overall accuracy in table 3.8's text, and in tables 3.3 and 3.7.
ONE_TARGET_OVERALL = (89.03, 89.02)
# Validation accuracy of the base's target class in table 3.1.
TABLE_3_1_VALIDATION = 91.4
# The schedule's last stage on ImageNet's ten worst classes, 500 images: gain in points, overall unchanged.
TABLE_3_9_GAIN = 8.6
SCHEDULE = "J100 R100 J50 R50 J10 R10 J10"

# Neurons that it watched, by net.
TAPPED = {"CNN-3": 45_056, "ResNet-20": 28_672, "DenseNet-40": 270_336, "GoogLeNet": 1_586_816}
# Seconds on four GTX 1080 Ti: a join of 45,056 neurons, 73,257 images, 10 classes, without running the net;
# and GoogLeNet's on ImageNet, of which the thesis does not say how many classes or whether the net was run.
TABLE_3_11_JOIN, TABLE_3_11_GOOGLENET = 0.83, 19_422
# Parameters of WA and of its base, and the ratio printed beside them in per cent.
TABLE_4_2 = ((10.9e6, 272e3, 1077), (2.37e6, 1.02e6, 872))
# Parameters of CNN-3's MLP as printed; with the sizes of table 4.1 there are more.
TABLE_4_3 = {"cnn-3": 35.2e3}
# Hidden units that table 4.3's numbers would need with the neurons of table 4.1.
TABLE_4_3_HIDDEN = {
    "cnn-3": 35,
    "resnet-20": 70,
    "densenet-40": 54,
    "resnet-18": 73,
    "resnet-56": 70,
    "googlenet": 371,
    "densenet-121": 68,
}
# Least and largest gain of overall accuracy over all nets, in points.
TABLE_4_4 = {"DA": (-1.3, 1.2), "WA": (-4.1, 1.9), "AAN": (0.05, 2.01)}


def told(number: float | None, digits: int = 2) -> str:
    """A number as a cell, or a dash."""
    return "-" if number is None else f"{number:.{digits}f}"
