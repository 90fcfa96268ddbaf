"""Attacks and error curves of networks of any depth: against differences, brute force, and certified bounds."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import certnet.robust.residuals as residuals_module
from certnet import FeedForward, ShallowNetwork, certify
from certnet.core.errors import InvalidInputError, UnsupportedModelError
from certnet.networks.activations import Activation
from certnet.networks.layers import Dense, Layer
from certnet.networks.network import Network
from certnet.networks.operators import Blocks, Convolution, Identity
from certnet.robust.attacks import PGDAttack
from certnet.robust.curves import adversarial_mse, certified_mse
from certnet.robust.residuals import squared_residuals

Rng = np.random.Generator
NORMS = ("l2", "linf")
ACTIVATIONS = ("relu", Activation("leaky_relu", (0.2,)), "tanh", "sigmoid", "silu", "elu", "softplus", "hardtanh")
LINEAR = Activation("identity")


def deep(rng: Rng, widths: Sequence[int], phi: Any = "relu", size: float = 1.5) -> FeedForward:
    weights = [size * rng.standard_normal((n, m)) / np.sqrt(m) for m, n in pairwise(widths)]
    return FeedForward(weights, [rng.standard_normal(n) for n in widths[1:]], phi)


def with_a_skip(rng: Rng) -> FeedForward:
    """``y + A relu(B y + b)`` of 3 inputs, then a layer of tanh."""
    block = Layer(Blocks(((Dense(rng.standard_normal((4, 3))),), (Identity(3),))), np.ones(7), Activation("relu"), 3)
    back = Layer(Blocks(((Dense(rng.standard_normal((5, 4))), Dense(np.eye(5, 3))),)), np.zeros(5), Activation("tanh"))
    return FeedForward.chain([block, back, Layer(Dense(rng.standard_normal((2, 5))), np.zeros(2), LINEAR)])


def with_a_convolution(rng: Rng) -> FeedForward:
    conv = Convolution(rng.standard_normal((2, 1, 2, 2)), (1, 3, 3), padding=((1, 0), (0, 1)))
    first = Layer(conv, rng.standard_normal(conv.n_outputs), Activation("relu"))
    return FeedForward.chain([first, Layer(Dense(rng.standard_normal((1, conv.n_outputs))), np.zeros(1), LINEAR)])


def differences(net: Network, x: Any, y: Any, step: float = 1e-5) -> Any:
    """Of ½‖r‖², by central differences."""

    def half(z: Any) -> float:
        return float(0.5 * np.sum((net.forward(z[None])[0] - y) ** 2))

    return np.array([(half(x + step * e) - half(x - step * e)) / (2.0 * step) for e in np.eye(len(x))])


def uphill(net: Network, X: Any, Y: Any) -> Any:
    """The directions of a first, tiny step from the inputs."""
    attack = PGDAttack(n_steps=1, n_restarts=1, step_size=1.0)
    return (attack.perturb(net, X, Y, 1e-7) - X) / 1e-7


def check_directions(net: Network, rng: Rng) -> None:
    X, Y = rng.standard_normal((6, net.n_inputs)), rng.standard_normal((6, net.n_outputs))
    for x, y, direction in zip(X, Y, uphill(net, X, Y)):
        gradient = differences(net, x, y)
        if np.linalg.norm(gradient) < 1e-9:  # all units are saturated: any direction will do
            continue
        np.testing.assert_allclose(direction, gradient / np.linalg.norm(gradient), atol=1e-5)


@pytest.mark.parametrize("phi", ACTIVATIONS, ids=str)
@pytest.mark.parametrize("widths", [(3, 6, 5, 1), (3, 6, 5, 2), (4, 5, 5, 5, 3), (1, 9, 1)])
def test_a_first_step_follows_the_gradient_by_differences(widths, phi):
    rng = np.random.default_rng(0)
    check_directions(deep(rng, widths, phi), rng)


def test_layers_of_different_activations_skips_and_convolutions():
    rng = np.random.default_rng(1)
    check_directions(deep(rng, (3, 4, 4, 4, 2), ["relu", "tanh", Activation("leaky_relu", (-0.3,))]), rng)
    check_directions(with_a_skip(rng), rng)
    check_directions(with_a_convolution(rng), rng)


def test_a_network_of_operators_is_attacked_like_its_matrices():
    rng = np.random.default_rng(2)
    conv = with_a_convolution(rng)
    plain = FeedForward(conv.weights, conv.biases, "relu")
    X, y = rng.standard_normal((20, 9)), rng.standard_normal(20)
    radii = [0.0, 0.1, 1.0]
    one, two = (adversarial_mse(net, X, y, radii, lipschitz=5.0) for net in (conv, plain))
    np.testing.assert_allclose(one.adversarial, two.adversarial, rtol=1e-9)
    np.testing.assert_allclose(one.certified, two.certified, rtol=1e-12)


@pytest.mark.parametrize("norm", NORMS)
def test_one_hidden_layer_is_the_same_in_both_types(norm):
    rng = np.random.default_rng(3)
    shallow = ShallowNetwork(*(rng.standard_normal(s) for s in ((9, 4), (9,), (2, 9), (2,))))
    X, Y = rng.standard_normal((30, 4)), rng.standard_normal((30, 2))
    one, two = (adversarial_mse(net, X, Y, [0.2, 0.9], PGDAttack(norm)) for net in (shallow, FeedForward.of(shallow)))
    np.testing.assert_array_equal(one.adversarial, two.adversarial)


@pytest.mark.parametrize("phi", ACTIVATIONS[:5:2], ids=str)
@pytest.mark.parametrize("m", [1, 2])
def test_one_input_reaches_the_worst_case_of_a_grid(phi, m):
    rng = np.random.default_rng(4)
    net = deep(rng, (1, 6, 6, m), phi)
    X, Y = rng.standard_normal((15, 1)), rng.standard_normal((15, m))
    bound = certify(net).upper
    for epsilon in (0.05, 0.5):
        grid = np.linspace(-epsilon, epsilon, 4001)
        worst = [np.max(np.sum((net.forward(x + grid[:, None]) - y) ** 2, axis=1)) for x, y in zip(X, Y)]
        found = squared_residuals(net, PGDAttack(n_steps=60, n_restarts=8).perturb(net, X, Y, epsilon), Y)
        # the grid misses the worst case by less than a slope over half its spacing
        missed = 2.0 * np.sqrt(worst) * bound * (grid[1] - grid[0])
        assert np.all(found <= worst + missed)
        assert np.all(found >= 0.98 * np.array(worst))
        assert found.sum() >= 0.999 * np.sum(worst)
        allowed = (np.sqrt(squared_residuals(net, X, Y)) + bound * epsilon) ** 2
        assert np.all(worst <= allowed * (1 + 1e-9))


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("phi", ["relu", "tanh"])
def test_two_inputs_come_close_to_the_worst_point_of_a_grid(norm, phi):
    rng = np.random.default_rng(5)
    net = deep(rng, (2, 7, 6, 2), phi)
    X, Y = rng.standard_normal((12, 2)), rng.standard_normal((12, 2))
    axis = np.linspace(-0.4, 0.4, 161)
    grid = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    if norm == "l2":
        grid = grid[np.linalg.norm(grid, axis=1) <= 0.4]
    worst = np.array([np.max(np.sum((net.forward(x + grid) - y) ** 2, axis=1)) for x, y in zip(X, Y)])
    found = squared_residuals(net, PGDAttack(norm, n_steps=60, n_restarts=8).perturb(net, X, Y, 0.4), Y)
    assert np.all(found >= 0.99 * worst)
    assert np.mean(worst) <= certified_mse(net, X, Y, [0.4], certify(net).upper, norm=norm)[0]


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    norm=st.sampled_from(NORMS),
    phi=st.sampled_from(ACTIVATIONS),
    widths=st.lists(st.integers(1, 6), min_size=3, max_size=6),
)
def test_the_certified_curve_lies_above_every_attack(seed, norm, phi, widths):
    rng = np.random.default_rng(seed)
    net = deep(rng, widths, phi)
    X, Y = rng.standard_normal((7, net.n_inputs)), rng.standard_normal((7, net.n_outputs))
    product = float(np.prod([np.linalg.norm(W, 2) for W in net.weights]))
    steepest = float(np.prod([max(map(abs, slopes)) for slopes in net.slopes]))
    attack = PGDAttack(norm, n_steps=5, n_restarts=2)
    curve = adversarial_mse(net, X, Y, [0.0, 0.01, 0.3, 5.0], attack, lipschitz=product * steepest)
    assert curve.consistent
    assert curve.adversarial[0] == curve.clean == pytest.approx(np.mean(squared_residuals(net, X, Y)))
    for epsilon in (0.01, 5.0):
        moved = attack.perturb(net, X, Y, epsilon) - X
        assert np.all(np.linalg.norm(moved, axis=1, ord=2 if norm == "l2" else np.inf) <= epsilon)


@pytest.mark.parametrize("norm", NORMS)
def test_a_row_does_not_depend_on_the_rows_after_it(norm, monkeypatch):
    monkeypatch.setattr(residuals_module, "_BLOCK_ROWS", 8)
    rng = np.random.default_rng(6)
    net = deep(rng, (5, 13, 7, 2), "tanh")
    X, Y = rng.standard_normal((21, 5)), rng.standard_normal((21, 2))
    attack = PGDAttack(norm, n_steps=7, n_restarts=2)
    whole = attack.perturb(net, X, Y, 0.4)
    np.testing.assert_array_equal(attack.perturb(net, X[:11], Y[:11], 0.4), whole[:11])


def test_all_hidden_layers_count_for_the_size_of_a_block():
    narrow, wide = np.ones((1, 1)), np.ones((1 << 16, 1))
    net = FeedForward([wide, wide.T, wide, wide.T], [np.zeros(1 << 16), np.zeros(1), np.zeros(1 << 16), np.zeros(1)])
    assert residuals_module.block_rows(net) == 15
    assert residuals_module.block_rows(FeedForward([narrow, narrow], [np.zeros(1), np.zeros(1)])) == 256


def test_deep_networks_that_overflow_are_an_error():
    net = FeedForward([[[1e150]], [[1e150]], [[1.0]]], [[0.0], [0.0], [0.0]])
    with pytest.raises(InvalidInputError, match="overflows within the radius"):
        PGDAttack().perturb(net, [[1e-200]], [0.0], 1.0)


def test_what_has_no_values_or_is_no_network_is_refused():
    slopes_alone = FeedForward([np.ones((2, 1)), np.ones((1, 2))], [np.zeros(2), np.zeros(1)], Activation("user"))
    for call in (
        lambda net: adversarial_mse(net, [[1.0]], [0.0], [0.1]),
        lambda net: certified_mse(net, [[1.0]], [0.0], [0.1], 1.0),
        lambda net: PGDAttack().perturb(net, [[1.0]], [0.0], 0.1),
    ):
        with pytest.raises(UnsupportedModelError, match="has no values: it can only be certified"):
            call(slopes_alone)
        with pytest.raises(InvalidInputError, match="a ShallowNetwork or FeedForward is needed, got str"):
            call("network.npz")
