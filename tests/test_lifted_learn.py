"""Learning lifted networks: gradients against re-inference, what the papers prove of the objectives, checkpoints."""

from __future__ import annotations

import copy
import itertools
import pickle
import signal
import subprocess
import sys
import time
import tracemalloc
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_digits
from threadpoolctl import threadpool_info

from certnet.core.errors import (
    DatasetError,
    FileFormatError,
    InvalidInputError,
    NotConvergedWarning,
    OutputError,
    SolverError,
)
from certnet.core.outcome import Status
from certnet.data import load_images
from certnet.lifted import LiftedNetwork
from certnet.lifted.learn import Objective, Training, initial_network, linear_fraction, train
from certnet.lifted.learn.optimisers import Optimiser, rate_factor
from certnet.lifted.learn.parameters import Parameters
from certnet.lifted.learn.phases import Phases
from certnet.lifted.loss_functions import CrossEntropy, HuberLoss
from certnet.lifted.losses import infer_with_loss

SHAPES: dict[str, dict[str, Any]] = {
    "H": {"widths": (5, 4, 3, 2), "beta": [1.0, 1.0, 0.0], "gamma": 0.125},
    "Z": {"widths": (5, 4, 3, 2), "beta": 0.0, "gamma": 0.5},
    "boxes": {
        "widths": (5, 4, 3, 2),
        "beta": [1.0, 0.5, 0.7],
        "gamma": 0.5,
        "units": ["relu", "hard_sigmoid", (-2, 2)],
    },
    "one layer": {"widths": (5, 2), "beta": 0.5, "units": ["linear"]},
    "one layer in a box": {"widths": (5, 2), "beta": 0.5, "units": [(-1.5, 1.5)]},
    "last layer reconstructs": {"widths": (6, 3, 2), "beta": [0.3, 0.2], "gamma": 1.5, "units": "hard_sigmoid"},
}
OBJECTIVES = {
    "unsupervised": Objective("unsupervised"),
    "contrastive": Objective("contrastive"),
    "lifted": Objective("lifted"),
    "squared": Objective("contrastive", "squared", 2.0),
    "lifted squared": Objective("lifted", "squared", 0.5),
    "cross-entropy": Objective("contrastive", CrossEntropy(), 0.3),
    "huber": Objective("lifted", HuberLoss(0.5), 0.7),
}
N = 7


def instance(shape: str, seed: int = 0) -> tuple[LiftedNetwork, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    net = initial_network(**SHAPES[shape], random_state=seed)
    b, c = ([0.3 * rng.standard_normal(v.shape) for v in group] for group in (net.biases, net.reconstruction_biases))
    labels = np.eye(2)[rng.integers(0, 2, N)]
    return net.with_parameters(net.weights, b, c), rng.standard_normal((N, net.n_inputs)), labels


def energies(net: LiftedNetwork, X: np.ndarray, y: np.ndarray, objective: Objective) -> np.ndarray:
    """The objective of every sample by the package's inference, which shares no code with the loop."""
    free = net.infer(X, tol=1e-11).energy
    if objective.kind == "unsupervised":
        return free
    if objective.loss == "clamp":
        clamped = net.energy(X, y) if net.depth == 1 else net.infer(X, clamp=y, tol=1e-11).energy
    else:
        loss = objective.loss
        if loss == "squared":
            from certnet.lifted.loss_functions import SquaredLoss

            loss = SquaredLoss()
        found = infer_with_loss(net, X, loss, y, weight=objective.weight, tol=1e-11)
        clamped = found.energy + objective.weight * loss.value(found.output, y)
    return clamped - free if objective.kind == "contrastive" else clamped


def run(net: LiftedNetwork, X: np.ndarray, y: np.ndarray, objective: Objective, **options: Any) -> Any:
    """Values, gradient and activations of one batch."""
    params = Parameters.of(net)
    gradient = Parameters.over(np.full_like(params.flat, np.nan), net.widths)
    phases = Phases(net, params, objective, **({"tol": 1e-11, "max_passes": 50_000} | options))
    free, target = (net.project(np.zeros((len(X), net.n_units))) for _ in range(2))
    return phases.run(X, y, gradient, free, target), gradient.flat, free, target


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", OBJECTIVES)
def test_objective_and_gradient_of_a_batch_against_reinference(shape: str, name: str) -> None:
    net, X, y = instance(shape)
    objective = OBJECTIVES[name]
    values, gradient, *_ = run(net, X, y, objective)
    np.testing.assert_allclose(values, energies(net, X, y, objective), rtol=1e-8, atol=1e-9)
    params, rng = Parameters.of(net), np.random.default_rng(1)
    for direction in rng.standard_normal((3, params.flat.size)):
        ends = []
        for step in (1e-5, -1e-5):
            moved = params.network(net, params.flat + step * direction)
            ends.append(energies(moved, X, y, objective).mean())
        assert gradient @ direction == pytest.approx((ends[0] - ends[1]) / 2e-5, rel=1e-5, abs=1e-6)


def test_gradient_is_that_of_the_energy_by_danskin() -> None:
    net, X, y = instance("boxes")
    _, gradient, free, target = run(net, X, y, Objective("contrastive"))
    expected = net.gradients(X, target) - net.gradients(X, free)
    flat = np.concatenate([array.ravel() for group in expected.groups for array in group])
    np.testing.assert_allclose(gradient, flat, atol=1e-12)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", OBJECTIVES)
def test_first_layer_moved_in_place_is_moved_by_its_gradient(shape: str, name: str) -> None:
    net, X, y = instance(shape)
    gradients, params = [], []
    for rate in (None, 0.3):
        here = Parameters.of(net)
        out = Parameters.over(np.zeros_like(here.flat), net.widths)
        phases = Phases(net, here, OBJECTIVES[name], tol=1e-11, max_passes=50_000)
        free, target = (net.project(np.zeros((len(X), net.n_units))) for _ in range(2))
        phases.run(X, y, out, free, target, rate=rate)
        gradients.append(out)
        params.append(here)
    W, first = net.weights[0], net.weights[0].size
    np.testing.assert_array_equal(gradients[1].flat[first:], gradients[0].flat[first:])
    np.testing.assert_array_equal(gradients[1].flat[:first], 0.0)
    np.testing.assert_allclose(params[1].weights[0], W - 0.3 * gradients[0].weights[0], atol=1e-13)
    np.testing.assert_array_equal(params[1].flat[first:], params[0].flat[first:])


@pytest.mark.parametrize("shape", SHAPES)
def test_many_steps_in_place_are_those_of_gradients(shape: str) -> None:
    net, X, y = instance(shape)
    ends = []
    for fused in (True, False):
        params = Parameters.of(net)
        out = Parameters.over(np.zeros_like(params.flat), net.widths)
        phases = Phases(net, params, Objective("contrastive"), tol=1e-12, max_passes=50_000)
        first = params.weights[0].size if fused else 0
        for step in range(130):
            rows = slice(step % 3, step % 3 + 4)
            free, target = (net.project(np.zeros((4, net.n_units))) for _ in range(2))
            phases.run(X[rows], y[rows], out, free, target, rate=0.02 if fused else None)
            params.flat[first:] -= 0.02 * out.flat[first:]
        ends.append(params.flat)
    assert np.abs(ends[0] - Parameters.of(net).flat).max() > 1e-3
    np.testing.assert_allclose(ends[0], ends[1], atol=1e-9)


@pytest.mark.parametrize("kind", ["lifted", "unsupervised", "contrastive"])
def test_more_units_than_inputs_and_large_steps(kind: str) -> None:
    """W_0 says nothing of some eigenvectors of H: errors there, kept from step to step, would grow without notice."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((1500, 20)) * np.sqrt(0.2)
    y = np.tanh(X @ rng.standard_normal((20, 2)))
    net = initial_network((20, 40, 2), beta=[1.0, 0.0], gamma=0.5, random_state=0)
    done = train(net, X, y, Training(Objective(kind), learning_rate=0.2, max_epochs=2), random_state=0)
    assert done.status is Status.OPTIMAL
    assert 0.0 <= done.loss_curve[1] < done.loss_curve[0]
    after = energies(done.network, X, y, Objective(kind)).mean()
    assert after < done.loss_curve[0]


def test_memory_of_a_large_batch() -> None:
    """A batch of N samples takes arrays of N rows, not of N columns too."""
    rng = np.random.default_rng(0)
    net = initial_network((6, 5, 2), random_state=0)
    X, y = rng.standard_normal((20_000, 6)), rng.standard_normal((20_000, 2))
    tracemalloc.start()
    train(net, X, y, Training(batch_size=20_000, max_epochs=2), random_state=0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2e8


def test_copies_go_on_as_the_original(tmp_path: Path) -> None:
    net, X, y = instance("H")
    how = Training(max_epochs=1, batch_size=2)
    states = [train(net, X, y, how, random_state=0).state]
    states += [copy.deepcopy(states[0]), pickle.loads(pickle.dumps(states[0]))]
    ends = [train(net, X, y, how, state=state).network for state in states]
    assert ends[0] != net
    assert ends[0] == ends[1] == ends[2]


def test_an_error_in_mid_epoch_leaves_the_parameters_of_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    net, X, y = instance("H")
    how = Training(max_epochs=1, batch_size=2)
    state = train(net, X, y, how, random_state=0).state
    before, whole, batches = state.params.flat.copy(), Phases.run, []

    def failing(self: Phases, *given: Any, **options: Any) -> Any:
        batches.append(1)
        if len(batches) == 3:
            raise SolverError("in the third batch")
        return whole(self, *given, **options)

    monkeypatch.setattr(Phases, "run", failing)
    with pytest.raises(SolverError, match="third batch"):
        train(net, X, y, how, state=state)
    np.testing.assert_array_equal(state.params.flat, before)


def test_an_optimiser_that_remembers_goes_on_as_it_is() -> None:
    """Settings that change between calls do not leave a step that fits neither."""
    net, X, y = instance("H")
    state = train(net, X, y, Training(max_epochs=1, batch_size=2, momentum=0.9), random_state=0).state
    end = train(net, X, y, Training(max_epochs=1, batch_size=2), state=state).network
    assert np.isfinite(end.weights[0]).all()


def test_weight_decay_of_a_single_layer() -> None:
    """Its first weights are its last ones."""
    net, X, y = instance("one layer")
    how = Training(weight_decay=0.1, max_epochs=1, batch_size=len(X), learning_rate=0.01)
    moved = train(net, X, y, how, random_state=0).network
    slope = run(net, X, y, Objective())[1][: net.weights[0].size].reshape(net.weights[0].shape)
    np.testing.assert_allclose(moved.weights[0], net.weights[0] - 0.01 * (slope + 0.1 * net.weights[0]), atol=1e-9)


@pytest.mark.parametrize("rows", [2, 40])
def test_gradient_in_small_and_large_batches(rows: int) -> None:
    net = initial_network((9, 20, 3), random_state=0)
    X = np.random.default_rng(0).standard_normal((rows, 9))
    _, gradient, free, _ = run(net, X, np.zeros((rows, 3)), Objective("unsupervised"))
    groups = net.gradients(X, free).groups
    np.testing.assert_allclose(gradient, np.concatenate([a.ravel() for g in groups for a in g]), atol=1e-12)


@pytest.mark.parametrize("loss", ["clamp", "squared"])
def test_fixed_passes_are_those_of_the_papers(loss: str) -> None:
    net, X, y = instance("H")
    _, _, free, target = run(net, X, y, Objective("contrastive", loss), passes=3)
    expected = net.infer(X, passes=3).stacked
    np.testing.assert_allclose(free, expected, atol=1e-12)
    if loss == "clamp":
        np.testing.assert_allclose(target, net.infer(X, clamp=y, passes=3, start=expected).stacked, atol=1e-12)
    values, gradient, *_ = run(net, X, y, Objective("contrastive", loss), passes=5000)
    exact, exact_gradient, *_ = run(net, X, y, Objective("contrastive", loss))
    np.testing.assert_allclose(values, exact, atol=1e-9)
    np.testing.assert_allclose(gradient, exact_gradient, atol=1e-8)


def test_contrastive_gradient_tends_to_back_propagation() -> None:
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((6, 5)), rng.standard_normal((6, 2))

    def squared_error(net: LiftedNetwork) -> float:
        return 0.5 * float(np.square(net.feed_forward(X)[:, net.layers[-1]] - y).sum(axis=1).mean())

    errors = []
    for gamma in (1e-2, 1e-3, 1e-4):
        net = initial_network((5, 4, 3, 2), beta=0.0, gamma=gamma, random_state=0)
        gradient = run(net, X, y, Objective("contrastive"), tol=1e-14)[1] * gamma ** (1 - net.depth)
        params = Parameters.of(net)
        backward = np.empty_like(gradient)
        for i in range(len(backward)):
            ends = []
            for step in (1e-6, -1e-6):
                moved = params.flat.copy()
                moved[i] += step
                ends.append(squared_error(params.network(net, moved)))
            backward[i] = (ends[0] - ends[1]) / 2e-6
        errors.append(np.linalg.norm(gradient - backward) / np.linalg.norm(backward))
    assert errors[2] < 1e-3
    assert errors[2] < 0.2 * errors[1] < 0.04 * errors[0]


def test_optimisers_against_their_formulas() -> None:
    rng = np.random.default_rng(0)
    gradients = rng.standard_normal((6, 4))
    theta, velocity = np.zeros(4), np.zeros(4)
    sgd = Optimiser.fresh("sgd", 0.9, 4)
    for g in gradients:
        sgd.step(theta, g.copy(), 0.1)
    expected = np.zeros(4)
    for g in gradients:
        velocity = 0.9 * velocity + g
        expected = expected - 0.1 * velocity
    np.testing.assert_allclose(theta, expected, atol=1e-15)
    theta, adam = np.zeros(4), Optimiser.fresh("adam", 0.0, 4)
    expected = np.zeros(4)
    for t, g in enumerate(gradients, start=1):
        adam.step(theta, g.copy(), 0.1)
        mean = sum(0.1 * 0.9 ** (t - k) * gradients[k - 1] for k in range(1, t + 1)) / (1.0 - 0.9**t)
        square = sum(0.001 * 0.999 ** (t - k) * gradients[k - 1] ** 2 for k in range(1, t + 1)) / (1.0 - 0.999**t)
        expected -= 0.1 * mean / (np.sqrt(square) + 1e-10)
    np.testing.assert_allclose(theta, expected, rtol=1e-10)


def test_schedules() -> None:
    for schedule, middle in (("constant", 1.0), ("linear", 0.75), ("cosine", 0.5 + 0.25 * np.sqrt(2.0))):
        assert rate_factor(schedule, 0.0) == 1.0
        assert rate_factor(schedule, 0.25) == pytest.approx(middle)


def test_rates_of_both_scales() -> None:
    net = initial_network((3, 2, 2, 1), gamma=0.25)
    assert Training(learning_rate=0.05, rate_scale="backpropagation").rate(net) == pytest.approx(0.8)
    assert Training(learning_rate=0.05).rate(net) == 0.05
    lifted = Training(Objective("lifted"), learning_rate=0.05, rate_scale="backpropagation")
    assert lifted.rate(net) == 0.05


def test_initial_weights_have_the_documented_spread() -> None:
    net = initial_network((400, 300, 200), beta=[1.0, 0.0], units=["relu", "relu"], random_state=0)
    assert net.weights[0].var() == pytest.approx(1 / 400, rel=0.02)
    assert net.weights[1].var() == pytest.approx(2 / 300, rel=0.03)
    assert not any(b.any() for b in net.biases + net.reconstruction_biases)
    assert net == initial_network((400, 300, 200), beta=[1.0, 0.0], units=["relu", "relu"], random_state=0)


# ------------------------------------------------------------------------------------------- what the papers say of it


def low_rank(rank: int, spread: float = 0.0) -> np.ndarray:
    rng = np.random.default_rng(3)
    basis = np.linalg.qr(rng.standard_normal((12, rank)))[0]
    return rng.standard_normal((400, rank)) @ np.diag(np.linspace(2.0, 1.0, rank)) @ basis.T + spread * (
        rng.standard_normal((400, 12))
    )


def subspace_sine(W: np.ndarray, X: np.ndarray) -> float:
    """The sine of the largest angle between the rows of W and the leading eigenvectors of the scatter matrix."""
    leading = np.linalg.eigh(X.T @ X)[1][:, -len(W) :]
    Q = np.linalg.qr(W.T)[0]
    return float(np.linalg.norm(Q - leading @ (leading.T @ Q), 2))


def linear_layer(X: np.ndarray, rank: int, **settings: Any) -> LiftedNetwork:
    start = initial_network((X.shape[1], rank), beta=1.0, units=["linear"], random_state=0)
    how = Training(Objective("unsupervised"), biases=False, weight_decay=0.0, **settings)
    return train(start, X, None, how, random_state=0).network


def test_one_linear_layer_spans_the_leading_eigenvectors() -> None:
    X = low_rank(3, spread=0.1)
    net = linear_layer(X, 3, learning_rate=0.05, batch_size=400, max_epochs=600)
    assert not net.biases[0].any()
    assert not net.reconstruction_biases[0].any()
    assert subspace_sine(net.weights[0], X) < 1e-3


def test_on_data_of_exact_rank_the_energy_vanishes_and_the_weights_are_orthonormal() -> None:
    X = low_rank(3)
    net = linear_layer(X, 3, learning_rate=0.05, batch_size=50, max_epochs=150)
    assert net.infer(X).energy.max() < 1e-12
    np.testing.assert_allclose(net.weights[0] @ net.weights[0].T, np.eye(3), atol=1e-6)


def digits() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    data = load_digits()
    return data.data / 16.0, np.eye(10)[data.target], data.target


def test_lifted_training_collapses_to_a_linear_network_and_contrastive_does_not() -> None:
    X, y, _ = digits()
    X, y = X[:600], y[:600]
    start = initial_network((64, 32, 32, 10), beta=0.0, gamma=0.125, random_state=0)
    lifted = train(start, X, y, Training(Objective("lifted"), learning_rate=0.2, max_epochs=40), random_state=0)
    contrastive = train(start, X, y, Training(learning_rate=3.2, max_epochs=20), random_state=0)
    inside = linear_fraction(lifted.network, X)
    assert len(inside) == 3
    assert min(inside) > 0.9
    assert inside[-1] == 1.0
    assert max(linear_fraction(contrastive.network, X)[:2]) < 0.8
    assert min(contrastive.loss_curve) >= 0.0


def test_losses_instead_of_the_clamp_learn_too() -> None:
    X, y, labels = digits()
    start = initial_network((64, 16, 10), beta=[1.0, 0.0], gamma=0.25, random_state=0)
    rows = slice(0, 400)
    for loss in ("squared", CrossEntropy()):
        how = Training(Objective("contrastive", loss), learning_rate=1.0, max_epochs=5)
        done = train(start, X[rows], y[rows], how, random_state=0)
        assert (done.network.predict(X[rows]).argmax(axis=1) == labels[rows]).mean() > 0.85
        assert min(done.loss_curve) >= 0.0


@pytest.fixture(scope="module")
def mnist() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    try:
        images = load_images("mnist")
    except DatasetError as error:
        pytest.skip(str(error))
    return images.X_train[:5000], images.y_train[:5000], images.X_test[:2000], images.y_test[:2000]


def test_an_epoch_on_real_digits(mnist: Any) -> None:
    X, y, X_test, y_test = mnist
    start = initial_network((784, 64, 64, 10), beta=[1.0, 1.0, 0.0], gamma=0.125, random_state=0)
    done = train(start, X, np.eye(10)[y], Training(learning_rate=10.0, max_epochs=1), random_state=0)
    assert (done.network.predict(X_test).argmax(axis=1) == y_test).mean() > 0.85
    assert done.status is Status.OPTIMAL


def test_linear_layer_on_real_digits_spans_the_leading_eigenvectors(mnist: Any) -> None:
    X = mnist[0][:1000].astype(np.float64)
    net = linear_layer(X, 4, learning_rate=0.02, batch_size=1000, max_epochs=300)
    assert subspace_sine(net.weights[0], X) < 0.01


# ---------------------------------------------------------------------------------------------- the loop and its stops


def small(n: int = 60) -> tuple[LiftedNetwork, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(5)
    X = rng.standard_normal((n, 4))
    return (
        initial_network((4, 6, 2), beta=[1.0, 0.0], gamma=0.25, random_state=0),
        X,
        np.eye(2)[(X[:, 0] > 0).astype(int)],
    )


def test_equal_seeds_equal_networks_and_the_start_is_not_changed() -> None:
    net, X, y = small()
    before = net.digest
    first, second = (train(net, X, y, Training(max_epochs=2), random_state=3) for _ in range(2))
    other = train(net, X, y, Training(max_epochs=2), random_state=4)
    assert first.network == second.network != other.network
    assert Parameters.of(net).network(net).digest == before == net.digest
    assert len(first.loss_curve) == 2
    assert first.passes_per_sample > 0.0


def test_a_state_goes_on_where_it_ended() -> None:
    net, X, y = small()
    whole = train(net, X, y, Training(max_epochs=4, momentum=0.5), random_state=3)
    half = train(net, X, y, Training(max_epochs=2, momentum=0.5), random_state=3)
    rest = train(half.network, X, y, Training(max_epochs=2, momentum=0.5), state=half.state)
    assert rest.network == whole.network
    assert rest.loss_curve == whole.loss_curve


def test_single_precision_inputs_are_read_as_they_are() -> None:
    net, X, y = small()
    single = X.astype(np.float32)
    assert train(net, single, y, Training(max_epochs=1), random_state=0).network == (
        train(net, single.astype(np.float64), y, Training(max_epochs=1), random_state=0).network
    )


def test_kept_activations_lead_to_the_same_network() -> None:
    net, X, y = small()
    how = {"max_epochs": 3, "tol": 1e-11}
    cold = train(net, X, y, Training(**how), random_state=0)
    warm = train(net, X, y, Training(**how, warm_activations=True), random_state=0)
    np.testing.assert_allclose(warm.state.params.flat, cold.state.params.flat, atol=1e-7)
    assert warm.state.activations is not None
    assert warm.passes_per_sample < cold.passes_per_sample


def test_weight_decay_is_of_the_last_layer_only() -> None:
    net, X, y = small()
    how = Training(max_epochs=1, batch_size=len(X), learning_rate=0.1)
    without = train(net, X, y, Training(**{**vars(how), "weight_decay": 0.0}), random_state=0).network
    decayed = train(net, X, y, Training(**{**vars(how), "weight_decay": 0.5}), random_state=0).network
    assert (without.weights[0] == decayed.weights[0]).all()
    np.testing.assert_allclose(without.weights[1] - decayed.weights[1], 0.05 * net.weights[1], atol=1e-12)


def test_patience_returns_the_best_network() -> None:
    net, X, y = small()
    scores = iter([0.1, 0.5, 0.4, 0.3, 0.9])
    seen: list[LiftedNetwork] = []

    def score(found: LiftedNetwork) -> float:
        seen.append(found)
        return next(scores)

    done = train(net, X, y, Training(max_epochs=5), random_state=0, score=score, patience=2)
    assert done.best_epoch == 2
    assert done.network == seen[1]
    assert done.score_curve == (0.1, 0.5, 0.4, 0.3)
    by_loss = train(net, X, y, Training(max_epochs=3), random_state=0, patience=1)
    assert by_loss.score_curve == ()


def test_divergence_stops_with_advice_and_keeps_the_best_network() -> None:
    net, X, y = small()
    with pytest.warns(NotConvergedWarning, match="diverged in epoch 1 .* Lower the learning rate"):
        done = train(net, X, y, Training(learning_rate=5e4, max_epochs=3), random_state=0)
    assert done.status is Status.SOLVER_FAILED
    assert done.network == net


@pytest.mark.parametrize("shape", ["H", "boxes"])
@pytest.mark.parametrize("loss", ["clamp", "squared"])
@pytest.mark.parametrize("passes", [None, 3])
@pytest.mark.parametrize("size", [1e200, np.nan])
def test_an_energy_without_curvature_is_an_error_or_has_no_finite_value(
    shape: str, loss: str, passes: int | None, size: float
) -> None:
    net, X, y = instance(shape)
    params = Parameters.of(net)
    params.flat[:] = size
    gradient = Parameters.over(np.empty_like(params.flat), net.widths)
    phases = Phases(net, params, Objective("contrastive", loss), tol=1e-6, passes=passes)
    free, target = (net.project(np.zeros((len(X), net.n_units))) for _ in range(2))
    with np.errstate(all="ignore"):
        try:
            values = phases.run(X, y, gradient, free, target)
        except np.linalg.LinAlgError:
            return
    assert not np.isfinite(values.mean())


def test_a_gamma_without_a_usable_scale_is_refused_or_ends_with_a_status() -> None:
    _, X, y = small()
    net = initial_network((X.shape[1], 8, 8, y.shape[1]), gamma=1e-9, beta=[1.0, 1.0, 0.0], random_state=0)
    with pytest.raises(InvalidInputError, match=r"gamma is 1e-09 and .* Take gamma of at least 0\.00011, or set tol"):
        train(net, X, y, Training())
    assert train(net, X, y, Training(Objective("lifted"), max_epochs=0), random_state=0).network == net
    for passes in (None, 20):
        # steps of 1e17: whether H or the loss goes first is a matter of rounding
        how = Training(rate_scale="backpropagation", tol=1e-12, passes=passes)
        with warnings.catch_warnings(record=True) as heard:
            warnings.simplefilter("always")
            try:
                done = train(net, X, y, how, random_state=0)
            except SolverError as error:
                said = str(error)
            else:
                said = str(heard[0].message)
                assert (done.status, done.network) == (Status.SOLVER_FAILED, net)
        assert "cannot be negative" in said or "diverged in epoch 1" in said


def test_an_unsolved_free_phase_stops_with_advice() -> None:
    net, X, y = small()
    steep = net.with_parameters([4.0 * W for W in net.weights], net.biases, net.reconstruction_biases)
    with pytest.raises(SolverError, match=r"cannot be negative: the free phase is not solved\. Solve it further"):
        train(steep, X, y, Training(passes=1, learning_rate=1e-3), random_state=0)
    assert train(steep, X, y, Training(learning_rate=1e-3, max_epochs=1), random_state=0).loss_curve[0] > 0.0


def test_missed_tolerances_are_told() -> None:
    net, X, y = small()
    with pytest.warns(NotConvergedWarning, match="phases of epoch 1 missed the tolerance within 1 passes"):
        train(net, X, y, Training(Objective("lifted"), max_passes=1, tol=1e-12, max_epochs=1, learning_rate=1e-3))


def test_an_interrupt_keeps_the_finished_epochs() -> None:
    net, X, y = small()
    calls = itertools.count(1)

    def score(found: LiftedNetwork) -> float:
        if next(calls) == 3:
            raise KeyboardInterrupt
        return 0.0

    with pytest.warns(NotConvergedWarning, match="interrupted: the network after epoch 2"):
        done = train(net, X, y, Training(max_epochs=5), random_state=0, score=score)
    assert done.status is Status.INTERRUPTED
    assert done.network == train(net, X, y, Training(max_epochs=2), random_state=0).network


def test_threads_of_blas_are_restored() -> None:
    net, X, y = small()
    before = [pool["num_threads"] for pool in threadpool_info()]
    train(net, X, y, Training(max_epochs=1), random_state=0)
    assert [pool["num_threads"] for pool in threadpool_info()] == before


def test_progress_goes_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    net, X, y = small()
    train(net, X, y, Training(max_epochs=2), random_state=0, score=lambda _: 0.25, verbose=True)
    out, err = capsys.readouterr()
    assert out == ""
    assert "epoch 1/2  loss" in err
    assert "score 0.2500" in err
    assert "0:00:00 left" in err


# --------------------------------------------------------------------------------------------------------- checkpoints

SCRIPT = """
import sys, time
sys.path.insert(0, {tests!r})
from test_lifted_learn import slow_training
slow_training({path!r}, pauses=(0.1, 0.1, 0.1, 60.0))
"""


def slow_training(path: str | None, pauses: Iterable[float] = ()) -> Any:
    """Adam with kept activations, so that everything which a checkpoint must hold is in use."""
    net, X, y = small()
    how = Training(optimizer="adam", learning_rate=0.01, max_epochs=8, warm_activations=True, schedule="linear")

    waits = iter(pauses)

    def score(_: LiftedNetwork) -> float:
        time.sleep(next(waits, 0.0))
        return 0.0

    return train(net, X, y, how, random_state=1, score=score, checkpoint=path)


def test_a_killed_training_goes_on_to_the_same_network(tmp_path: Path) -> None:
    path = tmp_path / "run.npz"
    script = SCRIPT.format(tests=str(Path(__file__).parent), path=str(path))
    child = subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 60.0
        while not path.exists() and child.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.15)  # somewhere within the next epochs
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait()
    assert child.returncode == -signal.SIGKILL
    with np.load(path) as file:
        epochs = len(file["losses"])
    assert 1 <= epochs < 8
    resumed, whole = slow_training(str(path)), slow_training(None)
    assert resumed.network == whole.network
    assert resumed.loss_curve == whole.loss_curve
    assert len(resumed.loss_curve) == 8
    again = slow_training(str(path))  # nothing is left to do
    assert again.network == whole.network
    assert list(tmp_path.iterdir()) == [path]


def altered(**changes: Any) -> Callable[[Path], Any]:
    def call(path: Path) -> Any:
        net, X, y = small()
        parts: dict[str, Any] = {"X": X, "y": y, "how": Training(max_epochs=2), "random_state": 0} | changes
        return train(
            changes.get("net", net),
            parts["X"],
            parts["y"],
            parts["how"],
            random_state=parts["random_state"],
            patience=changes.get("patience"),
            checkpoint=path,
        )

    return call


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"how": Training(max_epochs=2, learning_rate=0.3)}, "other settings"),
        ({"how": Training(Objective("contrastive", "squared"), max_epochs=2)}, "other settings"),
        ({"random_state": 1}, "another seed"),
        ({"X": small()[1] + 1e-9}, "other data"),
        ({"y": small()[2][:, ::-1]}, "other data"),
        ({"net": initial_network((4, 6, 2), beta=[1.0, 0.0], gamma=0.25, random_state=1)}, "another starting network"),
        ({"patience": 2}, "another rule of stopping"),
    ],
)
def test_a_checkpoint_of_another_training_is_refused(changes: dict[str, Any], said: str, tmp_path: Path) -> None:
    path = tmp_path / "run.npz"
    altered()(path)
    with pytest.raises(InvalidInputError, match=f"checkpoint of a training with {said}: name another file"):
        altered(**changes)(path)


def test_more_epochs_go_on_from_a_finished_checkpoint(tmp_path: Path) -> None:
    net, X, y = small()
    altered()(tmp_path / "run.npz")
    longer = altered(how=Training(max_epochs=4))(tmp_path / "run.npz")
    assert longer.network == train(net, X, y, Training(max_epochs=4), random_state=0).network


def test_files_that_are_no_checkpoint(tmp_path: Path) -> None:
    net, *_ = small()
    net.save(tmp_path / "net.npz")
    with pytest.raises(FileFormatError, match="not a checkpoint of a training"):
        altered()(tmp_path / "net.npz")
    (tmp_path / "text.npz").write_text("nothing")
    with pytest.raises(FileFormatError, match="not a readable"):
        altered()(tmp_path / "text.npz")
    with pytest.raises(OutputError, match="does not exist"):
        altered()(tmp_path / "missing" / "run.npz")


# ----------------------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Objective("supervised"), "objective is 'supervised': one of unsupervised, contrastive, lifted"),
        (lambda: Objective("contrastive", "hinge"), "loss is 'hinge'"),
        (lambda: Objective("contrastive", object()), "loss is object, which has no targets"),
        (lambda: Objective("contrastive", "squared", -1.0), "loss_weight must be a finite positive number"),
        (lambda: Training(optimizer="lbfgs"), "optimizer is 'lbfgs': one of sgd, adam"),
        (lambda: Training(schedule="steps"), "schedule is 'steps'"),
        (lambda: Training(rate_scale="raw"), "rate_scale is 'raw'"),
        (lambda: Training(learning_rate=0.0), "learning_rate must be a finite positive number"),
        (lambda: Training(weight_decay=-1e-5), "weight_decay must be a finite non-negative number"),
        (lambda: Training(momentum=1.0), "momentum is 1.0"),
        (lambda: Training(batch_size=0), "batch_size must be at least 1"),
        (lambda: Training(max_epochs=-1), "max_epochs must be at least 0"),
        (lambda: Training(tol=0.0), "tol must be a finite positive number"),
        (lambda: Training(passes=0), "passes must be at least 1"),
        (lambda: initial_network((3,)), "the inputs and at least one layer"),
        (lambda: initial_network((3, 0)), r"widths\[1\] must be at least 1"),
    ],
)
def test_settings_out_of_range(make: Callable[[], Any], said: str) -> None:
    with pytest.raises(InvalidInputError, match=said):
        make()


@pytest.mark.parametrize(
    ("X", "y", "said"),
    [
        (np.zeros((20, 3)), np.zeros((20, 2)), "X has 3 columns, the network has 4 inputs"),
        (np.zeros((0, 4)), np.zeros((0, 2)), "X has no samples"),
        (np.full((20, 4), np.nan), np.zeros((20, 2)), "X has 80 entries that are NaN"),
        (np.zeros((20, 4)), np.zeros((19, 2)), "X has 20 samples and y has 19"),
        (np.zeros((20, 4)), np.zeros((20, 3)), "clamp has shape"),
        (np.zeros((20, 4)), np.full((20, 2), np.inf), "y has 40 entries that are NaN or infinite"),
        (np.zeros((20, 4)), None, "the objective 'contrastive' needs targets"),
        (np.zeros((5, 4)), np.zeros((5, 2)), "batch_size is 10 and there are 5 samples"),
    ],
)
def test_data_that_do_not_fit(X: np.ndarray, y: np.ndarray | None, said: str) -> None:
    with pytest.raises(InvalidInputError, match=said):
        train(small()[0], X, y)


def test_targets_outside_of_the_output_box_are_refused() -> None:
    net = initial_network((4, 3, 2), units=["relu", "hard_sigmoid"], random_state=0)
    with pytest.raises(InvalidInputError, match="outside of the box"):
        train(net, np.zeros((20, 4)), np.full((20, 2), 1.5))
