"""Tables 3.3 and 3.4, Fig. 3.7: retraining, calibration, join, synaptic retraining and fit, one target class.

CNN-3 on CIFAR-10. The target is the class that is weakest on the held-out samples. Join, retraining,
augmentation and fit are also called as a user would, on the first base: the files they write are measured.
"""

from __future__ import annotations

from benchmarks.science.thesis.rivals import rivals_page
from benchmarks.science.thesis.sizes import Options
from benchmarks.science.thesis.tables import Page, command


def run(options: Options) -> Page:
    title = "Tables 3.3 and 3.4, Fig. 3.7: one target class, CNN-3"
    calls = ("join", "retrain", "augment", "fit")
    return rivals_page("table_3_3", title, "cnn3", options, calls=calls, thesis=True)


if __name__ == "__main__":
    command(run, __doc__)
