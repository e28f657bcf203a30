"""Which neurons deserve a synapse? The best of each target by theta, or by an exact search along each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from onnxtweak.goal import ResolvedGoal
from onnxtweak.method.selection.candidates import Candidates
from onnxtweak.method.selection.ranking import (
    Ranking,
    by_net_gain,
    candidates_wanted,
    empty_ranking,
    rank,
    united,
)
from onnxtweak.method.tuning.by_head import gaps_and_gains
from onnxtweak.settings import JoinSettings
from onnxtweak.stages.gather import gather_table
from onnxtweak.stages.open_job import Job
from onnxtweak.stages.score import scored_view


def criterion_of(rankings: Sequence[Ranking]) -> str:
    """The criterion that ranked the neurons; all of them where the targets differ."""
    return "/".join(dict.fromkeys(ranking.criterion for ranking in rankings))


def ranking_provenance(join: JoinSettings) -> dict[str, Any]:
    """The settings that neurons were ranked by, and joined, for the provenance of a tweak."""
    return {name: getattr(join, name) for name in ("theta", "criterion", "max_overall_drop")}


def rank_neurons(
    job: Job, best: Sequence[Candidates], goal: ResolvedGoal, join: JoinSettings, *, skip: bool = False
) -> list[Ranking]:
    """The neurons of each target, best first, as many as the largest n; one more pass for `net-gain`.

    best : the candidates of each target. skip : whether a target that no neuron can raise gets an empty
    ranking instead of a ModelError.
    """
    most = max(join.count)
    criterion = "auto" if join.criterion == "net-gain" else join.criterion
    found = []
    for candidates, j in zip(best, goal.targets, strict=True):
        if skip and not len(candidates.number):
            found.append(empty_ranking(job.taps, criterion))
        else:
            name = f"class {job.names[j]}"
            found.append(rank(candidates, job.taps, criterion, candidates_wanted(join), name))
    if join.criterion != "net-gain" or not any(len(r.weight) for r in found):
        return found
    searched = gather_table(job, scored_view(job), united(found), "search")
    ends = np.cumsum([0, *(len(r.weight) for r in found)])
    return [
        by_net_gain(
            ranking,
            searched.T[:, ends[i] : ends[i + 1]],
            *gaps_and_gains(searched.Z, searched.labels, goal, i),
            most,
        )
        for i, ranking in enumerate(found)
    ]
