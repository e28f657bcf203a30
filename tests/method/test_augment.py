"""The MLP of augmentation: gradients, its start at the base, determinism, awkward tables."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from onnxtweak.errors import ModelError
from onnxtweak.goal import ResolvedGoal
from onnxtweak.head import ONE_LABEL, SEVERAL_LABELS
from onnxtweak.method.augment import train, train_together
from onnxtweak.method.descent.cross_entropy import EACH_BY_ITSELF
from onnxtweak.method.descent.steps import forward, gradients
from onnxtweak.method.selection.active_neurons import active_neurons
from onnxtweak.method.softmax import log_losses
from onnxtweak.method.table import Table
from onnxtweak.method.tuning.bias_control import overall_bias
from onnxtweak.settings import AugmentSettings
from onnxtweak.theta.state import empty_state, finish
from onnxtweak.types import Tap
from tests.support.candidates import candidates_of

QUICK = AugmentSettings(hidden=8, iterations=300, batch=32)


def a_table(seed: int, samples: int = 400, neurons: int = 6, classes: int = 3) -> Table:
    """Classes that the neurons tell apart and the logits hardly do."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, samples)
    T = rng.normal(size=(samples, neurons)).astype(np.float32)
    T[np.arange(samples), labels] += 2
    Z = rng.normal(size=(samples, classes)).astype(np.float32)
    return Table(T * 3 + 5, Z, labels)


def loss(parameters, T, Z, labels):
    logits = Z + forward(np, parameters, T)
    return float(np.mean(np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(len(labels)), labels]))


@pytest.mark.parametrize("kind", ["one label", "weighted", "several labels"])
def test_mlps_trained_together_are_what_each_is_alone(kind):
    fit, validation, head = a_table(0), a_table(1, samples=100), ONE_LABEL
    if kind == "weighted":
        fit = dataclasses.replace(fit, weight=np.random.default_rng(2).uniform(0.5, 2, 400))
    if kind == "several labels":
        head = SEVERAL_LABELS
        fit, validation = (
            dataclasses.replace(table, labels=np.eye(3, dtype=np.int64)[table.labels])
            for table in (fit, validation)
        )
    each = [dataclasses.replace(QUICK, decay=decay, patience=3, rate=0.02) for decay in (30.0, 1.0, 0.1)]
    alone = [train(fit, validation, settings, head=head) for settings in each]
    together = train_together(fit, validation, each, head=head)
    assert len({found.checkpoints[-1].iteration for found in alone}) > 1, "they stop at different steps"
    for one, other in zip(alone, together, strict=True):
        assert one.checkpoints == other.checkpoints and one.best == other.best
        for name, array in one.arrays.items():
            assert array.tobytes() == other.arrays[name].tobytes(), name


def test_gradients_are_the_slopes_of_the_loss():
    rng = np.random.default_rng(0)
    shapes = ((6, 4), (4,), (4, 3), (3,))
    parameters = [rng.normal(size=shape) for shape in shapes]
    table = a_table(0, samples=20)
    T, Z = table.T.astype(np.float64), table.Z.astype(np.float64)
    found = gradients(np, parameters, T, Z, table.labels)
    for p, gradient in zip(parameters, found, strict=True):
        for at in np.ndindex(p.shape):
            here, step = p[at], 1e-6
            p[at] = here + step
            above = loss(parameters, T, Z, table.labels)
            p[at] = here - step
            below = loss(parameters, T, Z, table.labels)
            p[at] = here
            assert gradient[at] == pytest.approx((above - below) / (2 * step), abs=1e-5)


def test_a_sample_that_counts_twice_pulls_as_two_do():
    table, rng = a_table(0, samples=20), np.random.default_rng(0)
    parameters = [rng.normal(size=shape) for shape in ((6, 4), (4,), (4, 3), (3,))]
    weight, twice = np.where(np.arange(20) < 5, 2.0, 1.0), np.append(np.arange(20), np.arange(5))
    found = gradients(np, parameters, table.T, table.Z, table.labels, weight=weight / weight.mean())
    again = gradients(np, parameters, table.T[twice], table.Z[twice], table.labels[twice])
    for one, other in zip(found, again, strict=True):
        assert one == pytest.approx(other, rel=1e-5)
    plain, counted = (
        train(one, a_table(2), QUICK) for one in (table, dataclasses.replace(table, weight=weight))
    )
    assert not np.array_equal(plain.patch.w1, counted.patch.w1)
    heavy = dataclasses.replace(a_table(2), weight=np.where(a_table(2).labels == 0, 5.0, 1.0))
    start = train(table, heavy, QUICK).checkpoints[0].loss
    assert start == pytest.approx(
        np.average(log_losses(heavy.Z, heavy.labels), weights=heavy.weight), rel=1e-4
    )


def test_marks_may_be_shares():
    logits, rng = np.random.default_rng(0).normal(size=(8, 2)).astype(np.float32), np.random.default_rng(1)
    shares = rng.random((8, 2)).astype(np.float32)
    shares[0, 0] = -1
    loss = EACH_BY_ITSELF.total(np, logits, shares)
    error, step = EACH_BY_ITSELF.error(np, logits, shares), 1e-2
    for at in np.ndindex(logits.shape):
        moved = [logits.copy(), logits.copy()]
        moved[0][at] += step
        moved[1][at] -= step
        above, below = (EACH_BY_ITSELF.total(np, one, shares) for one in moved)
        assert error[at] == pytest.approx((above - below) / (2 * step), abs=1e-3)
    assert error[0, 0] == 0 and loss > 0


def test_training_starts_at_the_base():
    table = a_table(1)
    trained = train(table, a_table(2), dataclasses.replace(QUICK, iterations=1, rate=0.0))
    assert not trained.patch.delta(table.T).any()
    base = trained.checkpoints[0]
    assert base.right == int((a_table(2).Z.argmax(axis=1) == a_table(2).labels).sum())


def test_training_learns_and_foretells_its_own_accuracy():
    validation = a_table(2)
    trained = train(a_table(1), validation, QUICK, seed=3)
    right = ((validation.Z + trained.patch.delta(validation.T)).argmax(axis=1) == validation.labels).sum()
    assert trained.best.loss < trained.checkpoints[0].loss - 0.3
    assert right == trained.best.right > trained.checkpoints[0].right


def test_the_seed_decides_everything():
    first, again, other = (train(a_table(1), a_table(2), QUICK, seed=seed) for seed in (3, 3, 4))
    for name in ("w1", "b1", "w2", "b2"):
        assert np.array_equal(getattr(first.patch, name), getattr(again.patch, name))
    assert not np.array_equal(first.patch.w1, other.patch.w1)


def test_training_stops_early_and_keeps_the_best():
    rng = np.random.default_rng(0)
    noise = Table(*(rng.normal(size=(100, k)).astype(np.float32) for k in (20, 3)), rng.integers(0, 3, 100))
    validation = Table(noise.T[::-1].copy(), noise.Z, noise.labels)
    trained = train(noise, validation, dataclasses.replace(QUICK, iterations=5000, patience=3))
    assert trained.checkpoints[-1].iteration < 5000
    assert trained.best.loss == min(c.loss for c in trained.checkpoints)
    assert len(trained.checkpoints) - 1 - trained.checkpoints.index(trained.best) == 3


def test_constant_and_collinear_columns_do_no_harm():
    fit, validation = a_table(1), a_table(2)

    def spoiled(table):
        more = [np.full(len(table.T), 7.0), table.T[:, 0], np.zeros(len(table.T))]
        return Table(np.column_stack([table.T, *more]).astype(np.float32), table.Z, table.labels)

    trained = train(spoiled(fit), spoiled(validation), QUICK)
    assert trained.best.loss < trained.checkpoints[0].loss - 0.3
    assert all(np.isfinite(w).all() for w in vars(trained.patch).values())
    for column in (6, 8):
        assert not trained.patch.w1[column].any()


def test_a_neuron_that_hardly_spoke_while_learning_does_not_drown_the_others():
    fit, validation = a_table(1), a_table(2)
    quiet, loud = (np.zeros((len(table.T), 1), np.float32) for table in (fit, validation))
    quiet[::40], loud[::4] = 0.01, 3.0
    noisy = [
        Table(np.hstack([table.T, column]), table.Z, table.labels)
        for table, column in ((fit, quiet), (validation, loud))
    ]
    plain, made = train(fit, validation, QUICK, seed=3), train(*noisy, QUICK, seed=3)
    assert made.best.loss < plain.checkpoints[0].loss - 0.3
    assert made.best.loss < plain.best.loss + 0.1


def test_weights_stay_finite_where_classes_are_separable():
    labels = np.arange(200) % 2
    T = (labels[:, None] * 1e4 + np.random.default_rng(0).normal(size=(200, 1))).astype(np.float32)
    table = Table(T, np.zeros((200, 2), np.float32), labels)
    trained = train(table, table, dataclasses.replace(QUICK, iterations=3000))
    assert all(np.isfinite(w).all() for w in vars(trained.patch).values())
    assert trained.best.right == 200


def test_classes_without_samples_are_left_alone():
    fit = a_table(1)
    wide = Table(
        fit.T, np.column_stack([fit.Z[:, :1], fit.Z[:, 0] - 5, fit.Z[:, 1:]]), fit.labels + (fit.labels > 0)
    )
    trained = train(wide, wide, QUICK)
    assert trained.patch.w2.shape[1] == 4
    assert not trained.patch.w2[:, 1].any()
    assert trained.patch.b2[1] == 0
    assert trained.patch.w2.sum(axis=1) == pytest.approx(0, abs=1e-6)


def state_with_counts(counts):
    """State of one tap whose theta counts are `counts` (c, M)."""
    counts = np.array(counts)
    state = empty_state(counts.shape[1], counts.shape[0])
    state.hi[:] = 1
    state.peak[:] = 1
    state.count_hi[:] = counts
    return state


def best_of(state):
    return [candidates_of(finish(state, t), 10) for t in range(len(state.hi))]


def test_every_class_gives_its_best_neuron_first():
    state = state_with_counts([[9, 8, 7, 1, 1, 1], [1, 1, 1, 7, 8, 9]])
    tap = Tap("relu", "Relu", (6,))
    chosen, helpless = active_neurons(best_of(state), [tap], ("ant", "bee"), "count", 3)
    assert chosen.index.tolist() == [0, 1, 5]
    assert helpless == ()


def test_a_neuron_of_two_classes_counts_once():
    state = state_with_counts([[9, 8, 7, 1], [9, 1, 1, 8]])
    chosen, _ = active_neurons(best_of(state), [Tap("relu", "Relu", (4,))], ("ant", "bee"), "count", 3)
    assert chosen.index.tolist() == [0, 1, 3]


def test_a_class_that_no_neuron_can_help_is_named():
    state = state_with_counts([[1, 2], [1, 2]])
    state.peak[1] = 0
    chosen, helpless = active_neurons(best_of(state), [Tap("relu", "Relu", (2,))], ("ant", "bee"), "count", 2)
    assert chosen.index.tolist() == [0, 1]
    assert helpless == ("bee",)
    state.peak[0] = 0
    with pytest.raises(ModelError, match="any class"):
        active_neurons(best_of(state), [Tap("relu", "Relu", (2,))], ("ant", "bee"), "count", 2)


def test_cupy_trains_as_numpy_does():
    cupy = pytest.importorskip("cupy")
    if not cupy.cuda.is_available():
        pytest.skip("no GPU answers")
    fit, validation = a_table(1), a_table(2)
    on_cpu, on_gpu = (train(fit, validation, QUICK, seed=3, xp=xp) for xp in (np, cupy))
    assert on_gpu.best.iteration == on_cpu.best.iteration
    assert on_gpu.best.loss == pytest.approx(on_cpu.best.loss, abs=1e-3)
    assert on_gpu.patch.delta(fit.T) == pytest.approx(on_cpu.patch.delta(fit.T), abs=0.05)


def test_a_scaled_patch_adds_as_much():
    table = a_table(1)
    patch = train(table, a_table(2), QUICK).patch
    assert patch.scaled(0.5).delta(table.T) == pytest.approx(0.5 * patch.delta(table.T), abs=1e-5)


def test_the_bias_control_finds_what_the_logits_lack():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, 2000)
    Z = rng.normal(size=(2000, 4)).astype(np.float32)
    Z[np.arange(2000), labels] += 2
    lacking = np.array([1.5, 0.0, -1.0, 0.0])
    before = (Z.argmax(axis=1) == labels).sum()
    worse = ((Z - lacking).argmax(axis=1) == labels).sum()
    bias = overall_bias(Z - lacking, labels, ResolvedGoal(np.arange(4)))
    after = ((Z - lacking + bias).argmax(axis=1) == labels).sum()
    assert worse < before - 100
    assert after >= before - 5
    assert not overall_bias(Z[:0], labels[:0], ResolvedGoal(np.arange(4))).any()


def test_no_single_bias_could_still_gain():
    rng = np.random.default_rng(1)
    labels, Z = rng.integers(0, 3, 300), rng.normal(size=(300, 3)).astype(np.float32)
    bias = overall_bias(Z, labels, ResolvedGoal(np.arange(3)))
    best = ((Z + bias).argmax(axis=1) == labels).sum()
    assert best >= (Z.argmax(axis=1) == labels).sum()
    for j in range(3):
        for step in np.linspace(-3, 3, 61):
            tried = bias + step * (np.arange(3) == j)
            assert ((Z + tried).argmax(axis=1) == labels).sum() <= best
