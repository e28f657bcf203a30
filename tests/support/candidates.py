"""Which neurons are the best, given the scores of all? For tests that begin with scores."""

from onnxtweak.method.selection.candidates import Candidates, add_scores, no_theta
from onnxtweak.theta.state import Scores


def candidates_of(scores: Scores, most: int) -> Candidates:
    """The `most` best neurons by each criterion."""
    return add_scores(no_theta(1, most).best[0], scores, 0, most)
