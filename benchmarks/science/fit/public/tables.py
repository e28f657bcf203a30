"""Which nets for rows of a table are there: coordinates of a moving finger, customers of a bank?"""

from __future__ import annotations

import csv
import io

import numpy as np

from benchmarks.science.fit.public import pickles
from benchmarks.science.fit.public.keras_file import convert
from benchmarks.science.fit.public.net import Made, Net, Tools
from benchmarks.science.fit.public.repositories import Repository

KINIVI = Repository(
    "kinivi/hand-gesture-recognition-mediapipe", "0e737bb8c45ea03f6fafb1f5dbfe9246c34a8003", "Apache-2.0"
)
CHURN = Repository(
    "Ankit8125/ANN-Classification-Churn", "d8718a7809815999e0c5330b81d280a693e094c7", "none stated"
)
FINGER = "model/point_history_classifier/point_history"


def finger(tools: Tools) -> Made:
    """16 positions of a finger tip -> stop, clockwise, counter clockwise, move."""
    rows = np.loadtxt(
        io.StringIO(tools.clones.read(KINIVI, f"{FINGER}.csv").decode()), delimiter=",", dtype=np.float32
    )
    model = convert(tools.clones.read(KINIVI, f"{FINGER}_classifier.hdf5"))
    return Made(model, np.ascontiguousarray(rows[:, 1:]), rows[:, 0].astype(np.int64))


def churn(tools: Tools) -> Made:
    """A customer -> leaves. The file holds two versions of its table, of which the first is read."""
    text = tools.clones.read(CHURN, "Churn_Modelling.csv").decode().partition("=======")[0]
    rows = list(csv.DictReader(io.StringIO(text.split("\n", 1)[1])))
    scaler = pickles.read(tools.clones.read(CHURN, "scaler.pkl")).state

    def value(row: dict[str, str], column: str) -> float:
        if column == "Gender":
            return float(row["Gender"] == "Male")
        if column.startswith("Geography_"):
            return float(row["Geography"] == column.removeprefix("Geography_"))
        return float(row[column])

    x = np.array([[value(row, column) for column in scaler["feature_names_in_"]] for row in rows])
    x = ((x - scaler["mean_"]) / scaler["scale_"]).astype(np.float32)
    return Made(
        convert(tools.clones.read(CHURN, "model.h5")), x, np.array([int(row["Exited"]) for row in rows])
    )


NETS = (
    Net(
        "finger_history",
        finger,
        f"{KINIVI.name}, {FINGER}_classifier.hdf5 and {FINGER}.csv",
        KINIVI.licence,
        claimed=0.97,
        kind="table of 32 coordinates, 4 gestures, MLP, softmax",
        note="as in the CSV; trained on three quarters of these rows, the accuracy stated is of the rest",
    ),
    Net(
        "churn",
        churn,
        f"{CHURN.name}, model.h5 and Churn_Modelling.csv",
        CHURN.licence,
        claimed=0.8535,
        kind="table of bank customers, 2 classes, MLP with one sigmoid output",
        note="standardised by scaler.pkl; trained on four fifths of these, accuracy stated of the rest",
    ),
)
