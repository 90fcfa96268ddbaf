"""Contrastive learning against back-propagation, the linear range, linear regression, targets."""

from __future__ import annotations

import os
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LinearRegression, Ridge

from certnet.core.errors import InvalidInputError, SolverError, UnsupportedModelError
from certnet.lifted import infer
from certnet.lifted.baselines import linear_regression
from certnet.lifted.feed_forward import linear_fraction_feed_forward, to_feed_forward
from certnet.lifted.fractions import fractions_inside, strictly_inside
from certnet.lifted.limits import GradientGap, contrastive_gradient, gradient_gap, limit_gradient
from certnet.lifted.stiff import activations_at, solve_on
from certnet.lifted.targets import accuracy, as_targets, labels_of, one_hot
from certnet.networks.energy import Gradients, LiftedEnergy
from certnet.networks.feedforward import FeedForward
from certnet.programs.box_qp import posed

needs_data = pytest.mark.skipif("CERTNET_DATA_HOME" not in os.environ, reason="CERTNET_DATA_HOME is not set")


def network(
    widths: tuple[int, ...] = (6, 8, 7, 5, 3), beta: Any = 0.0, units: Any = "relu", gamma: float = 1.0, seed: int = 0
) -> LiftedEnergy:
    rng = np.random.default_rng(seed)
    pairs = list(pairwise(widths))
    return LiftedEnergy(
        [1.4 * rng.normal(size=(m, n)) / np.sqrt(n) for n, m in pairs],
        [0.3 * rng.normal(size=m) for _, m in pairs],
        [0.3 * rng.normal(size=n) for n, _ in pairs],
        beta=beta,
        gamma=gamma,
        units=units,
    )


def samples(net: LiftedEnergy, N: int = 20, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(N, net.n_inputs)), rng.uniform(size=(N, net.n_outputs))


def with_gamma(net: LiftedEnergy, gamma: float) -> LiftedEnergy:
    return LiftedEnergy(net.weights, net.biases, net.reconstruction_biases, beta=net.beta, gamma=gamma, units=net.units)


def largest_difference(a: Gradients, b: Gradients) -> float:
    return max(float(np.abs(x - y).max()) for p, q in zip(a.groups, b.groups) for x, y in zip(p, q))


NETWORKS = {
    "relu": network(),
    "hard sigmoid": network((6, 8, 7, 3), units="hard_sigmoid"),
    "linear": network((6, 8, 4, 5), units="linear"),
    "clipped output": network((6, 8, 7, 3), units=["relu", "relu", "hard_sigmoid"]),
    "reconstruction": network(beta=[1.0, 1.0, 1.0, 0.0]),
    "reconstruction of the output": network(beta=[1.0, 0.5, 1.0, 0.7]),
    "two layers": network((6, 8, 3), beta=[1.0, 0.5], units=["relu", "hard_sigmoid"]),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_the_contrastive_gradient_tends_to_back_propagation_with_order_one(name: str) -> None:
    net = NETWORKS[name]
    gap = gradient_gap(net, *samples(net), 10.0 ** -np.arange(3, 10))
    assert gap.errors.shape == (7, net.depth)
    np.testing.assert_allclose(np.log10(gap.errors[:-1] / gap.errors[1:]), 1.0, atol=0.25)
    np.testing.assert_allclose(np.log10(gap.errors[2:-1] / gap.errors[3:]), 1.0, atol=0.01)
    np.testing.assert_allclose(gap.orders, 1.0, atol=0.1)
    assert gap.errors[-1].max() < 1e-7
    assert (np.diff(gap.total) < 0.0).all()
    assert gap.shared[-1] == 1.0


@pytest.mark.parametrize("units", ["relu", ["hard_sigmoid", "linear", "relu", "linear"]])
def test_the_limit_is_the_gradient_of_autograd(units: Any) -> None:
    torch = pytest.importorskip("torch", reason='PyTorch is not installed: pip install "certnet[torch]"')
    net = network(units=units)
    X, y = samples(net)
    Ws, bs = ([torch.tensor(p, requires_grad=True) for p in group] for group in (net.weights, net.biases))
    z = torch.tensor(X)
    for W, b, low, high in zip(Ws, bs, net.lower, net.upper):
        z = (z @ W.T + b).clamp(torch.tensor(low), torch.tensor(high))
    (0.5 * (z - torch.tensor(y)).square().sum() / len(X)).backward()
    zeros = tuple(np.zeros_like(c) for c in net.reconstruction_biases)
    wanted = Gradients(tuple(W.grad.numpy() for W in Ws), tuple(b.grad.numpy() for b in bs), zeros)
    assert largest_difference(limit_gradient(net, X, y), wanted) < 1e-13


@pytest.mark.parametrize("name", ["reconstruction", "reconstruction of the output", "two layers", "clipped output"])
def test_the_limit_is_the_gradient_of_the_excess_energy(name: str) -> None:
    """Finite differences of layer after layer, each by inference alone."""
    net = NETWORKS[name]
    X, y = samples(net, 5)

    def excess(weights: list[np.ndarray]) -> float:
        x = X
        parts = zip(weights, net.biases, net.reconstruction_biases, net.beta, net.units)
        for k, (W, b, c, beta, unit) in enumerate(parts):
            layer = LiftedEnergy([W], [b], [c], beta=beta, units=[unit])
            z = infer(layer, x, solver="reference", tol=1e-13)
            if k == net.depth - 1:
                return float((layer.energy(x, y) - z.energy).mean())
            x = z.output
        raise AssertionError

    slopes = limit_gradient(net, X, y).weights
    rng = np.random.default_rng(2)
    for k in range(net.depth):
        direction = rng.normal(size=net.weights[k].shape)
        ahead, behind = (
            excess([W + s * 1e-6 * direction if j == k else W for j, W in enumerate(net.weights)]) for s in (1.0, -1.0)
        )
        assert (ahead - behind) / 2e-6 == pytest.approx(float((slopes[k] * direction).sum()), rel=1e-5, abs=1e-7)


@pytest.mark.parametrize("gamma", [2.0, 0.5, 0.05])
@pytest.mark.parametrize("name", NETWORKS)
def test_the_contrastive_gradient_is_the_difference_of_two(name: str, gamma: float) -> None:
    net = with_gamma(NETWORKS[name], gamma)
    X, y = samples(net)
    free, clamped = infer(net, X, solver="reference", tol=1e-13), infer(net, X, clamp=y, solver="reference", tol=1e-13)
    wanted = net.gradients(X, clamped.stacked) - net.gradients(X, free.stacked)
    found, shared = contrastive_gradient(net, X, y)
    assert largest_difference(found, wanted) < 1e-8
    inside = [strictly_inside(i.stacked, np.concatenate(net.lower), np.concatenate(net.upper)) for i in (free, clamped)]
    hidden = net.n_units - net.n_outputs
    assert shared == (inside[0] == inside[1])[:, :hidden].all(axis=1).mean()


def test_a_plain_difference_is_lost_where_this_one_is_not() -> None:
    net = with_gamma(NETWORKS["relu"], 1e-6)
    X, y = samples(net)
    limit = limit_gradient(net, X, y)
    found, _ = contrastive_gradient(net, X, y)
    scale = net.gamma ** (1 - net.depth)
    assert np.abs(found.weights[0] * scale - limit.weights[0]).max() < 1e-4 * np.abs(limit.weights[0]).max()
    free, q = posed(net, X)
    held, p = posed(net, X, y)
    start = net.feed_forward(X)
    z = activations_at(net, free, q, start)
    clamped = np.concatenate([activations_at(net, held, p, start[:, : held.n]), y], axis=1)
    naive = net.gradients(X, clamped) - net.gradients(X, z)
    assert np.abs(naive.weights[0] * scale - limit.weights[0]).max() > 1e-2 * np.abs(limit.weights[0]).max()


def test_stiff_activations_are_those_of_inference_where_it_can_tell() -> None:
    net = with_gamma(NETWORKS["reconstruction"], 0.3)
    X, _ = samples(net)
    problem, q = posed(net, X)
    z = activations_at(net, problem, q, np.full_like(q, 5.0))
    np.testing.assert_allclose(z, infer(net, X, solver="reference", tol=1e-13).stacked, atol=1e-10)


@needs_data
def test_the_gap_on_digits() -> None:
    with np.load(Path(os.environ["CERTNET_DATA_HOME"]) / "images" / "mnist.npz") as file:
        X, labels = file["x_train"][:20].reshape(20, -1) / 255.0, file["y_train"][:20]
    net = network((784, 64, 64, 10))
    gap = gradient_gap(net, X, one_hot(labels, 10), [1 / 8, 1e-2, 1e-4, 1e-6])
    assert (np.diff(gap.errors, axis=0) < 0.0).all()
    assert gap.errors[-1].max() < 1e-4


def test_an_error_of_nothing_is_zero_or_infinite() -> None:
    dead = LiftedEnergy([[[1.0]], [[0.0]]], beta=0.0)
    gap = gradient_gap(dead, [[-1.0]], [[0.5]], [0.1, 0.01])
    assert (gap.errors[:, 0] == 0.0).all()
    assert isinstance(gap, GradientGap)
    assert np.isnan(gap.orders[0])


def test_bad_input_of_the_gap() -> None:
    net = NETWORKS["relu"]
    X, y = samples(net)
    with pytest.raises(InvalidInputError, match="the network has one layer"):
        gradient_gap(network((3, 2)), X[:, :3], y[:, :2], [0.1])
    with pytest.raises(InvalidInputError, match="gammas is empty"):
        gradient_gap(net, X, y, [])
    with pytest.raises(InvalidInputError, match="gamma must be a finite positive number"):
        gradient_gap(net, X, y, [0.1, -1.0])
    with pytest.raises(InvalidInputError, match="X has no samples"):
        gradient_gap(net, X[:0], y[:0], [0.1])
    with pytest.raises(InvalidInputError, match="clamp has shape"):
        gradient_gap(net, X, y[:, :1], [0.1])
    clipped = NETWORKS["clipped output"]
    with pytest.raises(InvalidInputError, match="outside of the box"):
        gradient_gap(clipped, X, y + 1.0, [0.1])


def test_a_singular_system_is_told() -> None:
    for H in (np.zeros((2, 2)), np.full((2, 2), np.inf)):
        with pytest.raises(SolverError, match="not positive definite"):
            solve_on(H, np.array([True, False]), np.ones(2))


# --- the linear range ---------------------------------------------------------------------------------------------


def test_strictly_inside_and_its_margin() -> None:
    z, low, high = np.array([[0.0, 1e-10, 0.5, 1.0, 1.0 - 1e-10]]), np.zeros(5), np.ones(5)
    assert strictly_inside(z, low, high).tolist() == [[False, False, True, False, False]]
    assert strictly_inside(z, low, high, margin=0.0).tolist() == [[False, True, True, False, True]]
    assert strictly_inside(z, low - np.inf, high + np.inf).all()
    assert fractions_inside([z, z], [low, low - np.inf], [high, high + np.inf]) == (0.2, 1.0)


@pytest.mark.parametrize("units", ["relu", "hard_sigmoid", ["linear", "relu", "hard_sigmoid", "linear"]])
def test_fractions_of_the_forward_pass_counted_one_by_one(units: Any) -> None:
    net = network(units=units)
    X, _ = samples(net, 50)
    counts, x = [], X
    for W, b, low, high in zip(net.weights, net.biases, net.lower, net.upper):
        x = np.minimum(np.maximum(x @ W.T + b, low), high)
        inside = sum(float(a < v < c) for row in x for v, a, c in zip(row, low, high))
        counts.append(inside / x.size)
    assert linear_fraction_feed_forward(net, X) == pytest.approx(counts)
    assert linear_fraction_feed_forward(to_feed_forward(net), X) == pytest.approx(counts)


def test_a_box_has_fractions_and_no_feed_forward_form() -> None:
    net = network((6, 8, 3), units=[(-0.2, 0.3), "linear"])
    X, _ = samples(net)
    assert 0.0 < linear_fraction_feed_forward(net, X)[0] < 1.0
    with pytest.raises(UnsupportedModelError, match="the layers have the units box, linear"):
        to_feed_forward(net)
    with pytest.raises(UnsupportedModelError, match="a linear output"):
        to_feed_forward(network((6, 8, 3), units=["relu", "relu"]))


def test_the_feed_forward_form_is_the_forward_pass() -> None:
    net = network(units=["linear", "relu", "hard_sigmoid", "linear"])
    X, _ = samples(net)
    np.testing.assert_allclose(to_feed_forward(net).forward(X), net.feed_forward(X)[:, net.layers[-1]], atol=1e-13)


def test_bad_input_of_fractions() -> None:
    smooth = FeedForward([[[1.0]], [[1.0]]], [[0.0], [0.0]], "tanh")
    with pytest.raises(UnsupportedModelError, match="tanh has no linear range"):
        linear_fraction_feed_forward(smooth, [[1.0]])
    with pytest.raises(InvalidInputError, match="there are no samples"):
        linear_fraction_feed_forward(network(), np.zeros((0, 6)))


# --- linear regression and targets --------------------------------------------------------------------------------


@pytest.mark.parametrize("ridge", [0.0, 0.1])
@pytest.mark.parametrize(("N", "d"), [(50, 4), (20_000, 3), (5, 9)])
def test_linear_regression_against_scikit_learn(N: int, d: int, ridge: float) -> None:
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(N, d)) * np.logspace(0, 2, d) + 3.0, rng.normal(size=(N, 2))
    found = linear_regression(X, y, ridge=ridge)
    wanted = Ridge(alpha=N * ridge).fit(X, y) if ridge else LinearRegression().fit(X, y)
    np.testing.assert_allclose(found.W, wanted.coef_, atol=1e-9)
    np.testing.assert_allclose(found.b, wanted.intercept_, atol=1e-7)
    np.testing.assert_allclose(found.predict(X), wanted.predict(X), atol=1e-7)
    assert found.train_accuracy is None


def test_constant_and_repeated_columns_get_the_least_weights() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(40, 1))
    found = linear_regression(np.hstack([x, np.full((40, 1), 7.0), x]), 2.0 * x[:, 0] + 1.0)
    np.testing.assert_allclose(found.W, [[1.0, 0.0, 1.0]], atol=1e-12)
    np.testing.assert_allclose(found.b, [1.0], atol=1e-12)


@needs_data
def test_linear_regression_of_digits_is_about_as_good_as_published() -> None:
    with np.load(Path(os.environ["CERTNET_DATA_HOME"]) / "images" / "mnist.npz") as file:
        X, y = file["x_train"][:9000].reshape(9000, -1) / 255.0, file["y_train"][:9000]
    found = linear_regression(X[:6000], y[:6000], n_outputs=10, ridge=1e-3)
    assert found.train_accuracy is not None
    test = found.accuracy(X[6000:], y[6000:])
    assert test is not None
    assert 0.80 < test < found.train_accuracy < 0.92


def test_labels_and_one_hot_rows() -> None:
    rows = one_hot([2, 0], 3)
    assert rows.tolist() == [[0.0, 0.0, 1.0], [1.0, 0.0, 0.0]]
    assert labels_of(rows).tolist() == [2, 0]  # type: ignore[union-attr]
    assert labels_of(rows * 2.0) is None
    assert labels_of(np.ones((2, 1))) is None
    assert accuracy(np.array([[0.0, 0.1, 0.2], [0.0, 1.0, 0.0]]), rows) == 0.5
    assert accuracy(rows, rows + 0.5) is None
    assert as_targets([1.5, 2.0], 1, 2).tolist() == [[1.5], [2.0]]
    assert as_targets(rows, 3, 2).tolist() == rows.tolist()


def test_bad_input_of_linear_regression_and_targets() -> None:
    with pytest.raises(InvalidInputError, match=r"y\[1\] is -1: labels are whole numbers from 0 to 2"):
        one_hot([0, -1], 3)
    with pytest.raises(InvalidInputError, match="at least one sample"):
        linear_regression(np.zeros((0, 2)), np.zeros(0))
    with pytest.raises(InvalidInputError, match="X has 3 samples and y has 2"):
        linear_regression(np.zeros((3, 2)), np.zeros(2))
    with pytest.raises(InvalidInputError, match="ridge must be a finite non-negative number"):
        linear_regression(np.zeros((3, 2)), np.zeros(3), ridge=-1.0)
    with pytest.raises(InvalidInputError, match="X has 3 columns"):
        linear_regression(np.ones((3, 2)), np.zeros(3)).predict(np.zeros((1, 3)))


def test_units_at_opposite_limits_are_not_shared() -> None:
    net = LiftedEnergy([[[0.1]], [[10.0]]], beta=0.0, gamma=1.0, units=["hard_sigmoid", "linear"])
    X, y = np.array([[-50.0]]), np.array([[30.0]])
    found, shared = contrastive_gradient(net, X, y)
    free, clamped = infer(net, X, tol=1e-12).stacked, infer(net, X, clamp=y, tol=1e-12).stacked
    assert shared == 0.0
    assert largest_difference(found, net.gradients(X, clamped) - net.gradients(X, free)) < 1e-9
    assert found.weights[0][0, 0] == pytest.approx(50.0)
