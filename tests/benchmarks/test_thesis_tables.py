"""What the commands of benchmarks/science/thesis compute by themselves. No net is trained here."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.science.thesis.long_tail import RARE, rarest
from benchmarks.science.thesis.words import difference, flow
from onnxtweak.method.table import Table
from onnxtweak.theta.reference import outcome, signed_theta


def test_a_paragraph_loses_the_breaks_of_the_source():
    assert flow("one\n        two  three ") == "one two three"


def test_a_difference_says_when_it_may_be_nothing():
    assert difference([0.10, 0.10, 0.10]) == "+10.0 ± 0.0"
    assert difference([0.10, -0.08, 0.01]).endswith("(not clear of 0)")
    assert difference([3.0, 3.0, 3.0], 1.0) == "+3.0 ± 0.0"


def test_the_rarest_classes_come_in_order_of_their_numbers():
    assert rarest(np.array([5, 1, 9, 2, 7, 1])) == (1, 3, 5)
    assert len(rarest(np.arange(10))) == RARE


@pytest.fixture
def table() -> Table:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, 120)
    Z = rng.normal(size=(120, 4)).astype(np.float32)
    Z[np.arange(120), labels] += 1
    return Table(rng.normal(size=(120, 9)).astype(np.float32), Z, labels)


def test_counts_are_those_of_brute_force(table):
    shares = pytest.importorskip("benchmarks.science.thesis.table_3_2", reason="needs PyTorch")
    found = shares._counts(table)
    for target in range(4):
        for neuron in range(9):
            one = signed_theta(table.T[:, neuron], table.Z, table.labels, target)
            assert found[target, neuron] == max(one.count_hi, one.count_lo)


def test_what_one_synapse_fixes_and_breaks_is_what_a_new_prediction_says(table):
    shares = pytest.importorskip("benchmarks.science.thesis.table_3_2", reason="needs PyTorch")
    from onnxtweak.method.selection.ranking import Ranking
    from onnxtweak.method.table import all_neurons
    from onnxtweak.types import Tap

    weight = np.array([0.7, -0.4])
    ranking = Ranking(all_neurons([Tap("t", "", (2,))]), weight, np.zeros(2, int), weight, "count")
    columns = np.array([2, 5])
    for target in range(4):
        rankings, every = [ranking] * 4, [columns[:0]] * 4
        rankings = [ranking.take(np.arange(2 if c == target else 0)) for c in range(4)]
        every[target] = columns
        fixed, broken = shares._alone(table, rankings, every)
        wanted = [
            outcome(table.T[:, k], table.Z, table.labels, target, w)
            for k, w in zip(columns, weight, strict=True)
        ]
        assert fixed == sum(own + other for own, _, other in wanted) / 2
        assert broken == sum(harmed for _, harmed, _ in wanted) / 2


@pytest.mark.parametrize(("way", "added"), [("DA", 6 * 5 + 6 * 10 - 5 * 10 + 6), ("WA", 7 * 6 + 6 * 10 + 6)])
def test_a_grown_net_has_its_new_parameters_and_wa_starts_at_the_base(way, added):
    torch = pytest.importorskip("torch")
    grow = pytest.importorskip("benchmarks.science.thesis.grow")
    from benchmarks.science.thesis.nets import Net, parameters

    torch.manual_seed(0)
    body = torch.nn.Sequential(
        torch.nn.Conv2d(1, 7, 1),
        torch.nn.ReLU(),
        torch.nn.AdaptiveAvgPool2d(1),
        torch.nn.Conv2d(7, 5, 1),
        torch.nn.Flatten(),
    )
    net = Net(body, 5, 10, "mnist", 0.0).eval()
    x = torch.rand(3, 1, 4, 4)
    before, count = net(x), parameters(net)
    if way == "DA":
        grow.deeper(net, 6)
    else:
        grow.wider(net, 6, (1, 4, 4))
        assert torch.allclose(net.eval()(x), before, atol=1e-6)
    assert net(x).shape == (3, 10)
    assert parameters(net) - count == added
