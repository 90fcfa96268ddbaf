"""Lower bounds at any depth: exact gradients in rationals, all cells of tiny networks, depth, balls, dead units."""

from __future__ import annotations

import itertools
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from scipy.optimize import linprog

from certnet import Ball, FeedForward, certify
from certnet.core.validation import Float
from certnet.networks.activations import Activation
from certnet.networks.layers import Dense, Layer
from certnet.networks.operators import Blocks, Identity
from certnet.proofs.gradients import gradient_below, gradient_sum_below, pulled_back
from certnet.proofs.regions import in_ball
from certnet.searches.lower import lower_bound
from certnet.searches.lower_deep import steep_points, steep_points_in
from certnet.searches.sup_norm import lower_bound_sup

LEAKY = Activation("leaky_relu", (0.25,))


def network(widths: tuple[int, ...], phi: Any = "relu", seed: int = 0, scale: float = 1.0) -> FeedForward:
    """Gaussian weights of variance 2 / (number of inputs), as an initialisation draws them."""
    rng = np.random.default_rng(seed)
    weights = [scale * rng.standard_normal((n, m)) * np.sqrt(2.0 / m) for m, n in itertools.pairwise(widths)]
    return FeedForward(weights, [0.1 * rng.standard_normal(n) for n in widths[1:]], phi)


def random_gradients(net: FeedForward, n: int, seed: int = 1) -> float:
    """The largest norm of some thousand gradients at several scales."""
    rng = np.random.default_rng(seed)
    X = 10.0 ** rng.uniform(-1, 3, (n, 1)) * rng.standard_normal((n, net.n_inputs))
    return float(np.linalg.norm(net.gradients(X), 2, axis=(1, 2)).max())


# ------------------------------------------------------------------------------------------------------ in rationals


def exact_jacobian(net: FeedForward, x: Float) -> list[list[Fraction]] | None:
    """∂f/∂x of a ReLU or leaky ReLU network; None where a pre-activation is zero."""
    slope = Fraction(0) if net.activations[0].name == "relu" else Fraction(net.activations[0].parameters[0])
    point = [Fraction(v) for v in x.tolist()]
    J = [[Fraction(int(i == j)) for j in range(len(x))] for i in range(len(x))]
    for k, (W, b) in enumerate(zip(net.weights, net.biases)):
        rows = [[Fraction(w) for w in row] for row in W.tolist()]
        z = [
            sum((w * p for w, p in zip(row, point)), Fraction(bias)) for row, bias in zip(rows, map(float, b.tolist()))
        ]
        J = [[sum((w * r[j] for w, r in zip(row, J)), Fraction(0)) for j in range(len(x))] for row in rows]
        if k == net.depth:
            return J
        if 0 in z:
            return None
        factors = [Fraction(1) if value > 0 else slope for value in z]
        point = [f * value for f, value in zip(factors, z)]
        J = [[f * entry for entry in row] for f, row in zip(factors, J)]
    raise AssertionError


@pytest.mark.parametrize("phi", ["relu", LEAKY], ids=str)
@pytest.mark.parametrize("widths", [(3, 4, 4, 1), (3, *[5] * 8, 1), (3, *[6] * 20, 1), (2, *[6] * 50, 1)], ids=len)
def test_gradients_are_below_the_exact_ones(widths: tuple[int, ...], phi: Any) -> None:
    rng = np.random.default_rng(5)
    told = 0
    for seed in range(4):
        net = network(widths, phi, seed)
        x = 10.0 ** rng.uniform(-1, 1) * rng.standard_normal(widths[0])
        value = gradient_below(net, x)
        J = exact_jacobian(net, x)
        assert J is not None
        square = sum(entry * entry for entry in J[0])
        assert Fraction(value) ** 2 <= square
        assert Fraction(gradient_sum_below(net, x)) <= sum(abs(entry) for entry in J[0])
        if value > 0.0:
            told += 1
            assert value == pytest.approx(float(square) ** 0.5, rel=1e-6)
        else:
            assert square < 1e-30
    assert told > 0


def test_spectral_norms_of_two_outputs_are_below_the_exact_ones() -> None:
    for seed in range(10):
        net = network((3, *[6] * 12, 2), seed=seed)
        x = np.random.default_rng(seed).standard_normal(3)
        J = exact_jacobian(net, x)
        assert J is not None
        square = Fraction(gradient_below(net, x)) ** 2
        (a, b), (_, c) = ([sum(p * q for p, q in zip(r, s)) for s in J] for r in J)
        # λ_max(J Jᵀ) ≥ square: square I − J Jᵀ is not positive definite
        assert square == 0 or square <= a or (square - a) * (square - c) <= b * b


@pytest.mark.parametrize("room", [0, 10, 1000])
def test_errors_hold_however_many_directions_are_followed(room: int) -> None:
    for seed in range(10):
        net = network((3, *[5] * 6, 2), LEAKY, seed)
        x = np.random.default_rng(seed).standard_normal(3)
        J = exact_jacobian(net, x)
        found = pulled_back(net, x, np.array([0.75, -0.5]), room)
        assert found is not None
        assert J is not None
        for g, error, one, two in zip(*found, *J):
            assert abs(Fraction(g) - (Fraction(3, 4) * one - Fraction(1, 2) * two)) <= Fraction(error)


def test_directions_survive_where_intervals_do_not() -> None:
    net = network((10, *[64] * 20, 1))
    x = np.ones(10)
    assert pulled_back(net, x, np.ones(1), 0) is None
    found = pulled_back(net, x, np.ones(1), 1000)
    assert found is not None
    np.testing.assert_allclose(found[0], net.gradients(x[None])[0, 0], rtol=1e-8)


# ----------------------------------------------------------------------------------------- units on a kink, or still


def test_a_unit_on_its_kink_matters_only_if_an_output_takes_it() -> None:
    W2 = np.array([[1.0, 1.0], [0.0, 0.0]])
    taken = FeedForward([np.eye(2), W2, [[1.0, 0.0]]], [np.zeros(2), [1.0, 0.0], [0.0]])
    assert gradient_below(taken, [1.0, 0.0]) == 0.0  # relu(x_2) has a kink there
    W2 = np.array([[1.0, 0.0], [1.0, 1.0]])
    left = FeedForward([np.eye(2), W2, [[1.0, 0.0]]], [np.zeros(2), [1.0, 0.0], [0.0]])
    assert gradient_below(left, [1.0, 0.0]) == pytest.approx(1.0)
    # what takes it is switched off there
    off = FeedForward([np.eye(2), W2, [[1.0, 1.0]]], [np.zeros(2), [1.0, -5.0], [0.0]])
    assert gradient_below(off, [1.0, 0.0]) == pytest.approx(1.0)


def test_a_unit_that_stands_still_at_its_kink_has_no_kink() -> None:
    # the second unit of the second layer sees a unit that is off, and a bias of zero
    net = FeedForward([np.eye(2), np.eye(2), [[1.0, 1.0]]], [np.zeros(2), np.zeros(2), [0.0]])
    assert gradient_below(net, [1.0, -1.0]) == pytest.approx(1.0)
    assert gradient_below(net, [-1.0, -1.0]) == 0.0


def test_carried_units_are_passed_on() -> None:
    rng = np.random.default_rng(0)
    B, A, V = rng.standard_normal((5, 3)), rng.standard_normal((3, 5)), rng.standard_normal((2, 3))
    phi, identity = Activation("tanh"), Activation("identity")
    block = Layer(Blocks(((Dense(B),), (Identity(3),))), rng.standard_normal(8), phi, carried=3)
    net = FeedForward.chain([block, Layer(Blocks(((Dense(V @ A), Dense(V)),)), np.zeros(2), identity)])
    x = rng.standard_normal(3)
    J = V @ (np.eye(3) + A @ np.diag(1.0 - np.tanh(B @ x + block.bias[:5]) ** 2) @ B)
    assert gradient_below(net, x) == pytest.approx(np.linalg.norm(J, 2), rel=1e-9)
    assert gradient_below(net, x) <= np.linalg.norm(J, 2)
    assert lower_bound(net).value >= gradient_below(net, x)


# -------------------------------------------------------------------------------------------- all cells of the input


def cells(net: FeedForward, box: tuple[Float, float] | None = None) -> list[Float]:
    """Jacobians of all cells that hold more than a dot, by linear programs over their activation patterns."""
    found, d = [], net.n_inputs
    widths = net.widths[1:-1]
    for bits in itertools.product([0.0, 1.0], repeat=sum(widths)):
        a, A, J = np.zeros(d), [], np.eye(d)
        rest, right = np.array(bits), []
        for W, b, n in zip(net.weights, net.biases, widths):
            D, rest = rest[:n], rest[n:]
            J, a = W @ J, W @ a + b
            sign = np.where(D > 0.0, -1.0, 1.0)  # sign (J x + a) ≤ −s
            A.append(np.column_stack([sign[:, None] * J, np.ones(n)]))
            right.append(-sign * a)
            J, a = D[:, None] * J, D * a
        limits = [(None, None)] * d if box is None else [(c - box[1], c + box[1]) for c in box[0]]
        solved = linprog([*np.zeros(d), -1.0], np.vstack(A), np.concatenate(right), bounds=[*limits, (None, 1.0)])
        if solved.status == 0 and -solved.fun > 1e-7:
            found.append(net.weights[-1] @ J)
    return found


@pytest.mark.parametrize("widths", [(2, 3, 3, 1), (2, 3, 2, 2), (1, 3, 4, 1), (3, 2, 2, 2, 1)])
@pytest.mark.parametrize("seed", range(4))
def test_the_steepest_of_all_cells_is_found(widths: tuple[int, ...], seed: int) -> None:
    net = network(widths, seed=seed)
    true = max(np.linalg.norm(J, 2) for J in cells(net))
    found = [lower_bound(net, random_state=k).value for k in range(4)]
    assert max(found) <= true * (1.0 + 1e-12)
    assert max(found) == pytest.approx(true, rel=1e-7, abs=1e-30)
    assert min(found) >= 0.8 * true


@pytest.mark.parametrize("radius", [0.01, 0.3, 3.0])
@pytest.mark.parametrize("seed", range(3))
def test_the_steepest_cell_of_a_box_is_found(seed: int, radius: float) -> None:
    net = network((2, 3, 3, 1), seed=seed)
    centre = np.random.default_rng(seed).standard_normal(2)
    true = max(np.abs(J).sum() for J in cells(net, (centre, radius)))
    found = lower_bound_sup(net, region=Ball(centre, radius))
    assert in_ball(found.point, centre, radius, norm="linf")
    assert found.value <= true * (1.0 + 1e-12)
    assert found.value == pytest.approx(true, rel=1e-7, abs=1e-30)


# --------------------------------------------------------------------------------------------------- depth and width


@pytest.mark.parametrize("depth", [3, 10, 20, 50])
@pytest.mark.parametrize("phi", ["relu", "tanh"])
def test_deep_networks_have_lower_bounds(depth: int, phi: str) -> None:
    net = network((10, *[64] * depth, 1), phi)
    found = lower_bound(net)
    assert found.value == pytest.approx(np.linalg.norm(net.gradients(found.point[None])[0]), rel=1e-2)
    assert found.value >= random_gradients(net, 5000)


def test_many_inputs_are_climbed_along_gradients() -> None:
    net = network((200, 100, 100, 10))
    found = lower_bound(net)
    assert found.value >= 1.3 * random_gradients(net, 1000)
    assert found.value <= certify(net, tol=1e-2).upper


@pytest.mark.parametrize(
    "phi", ["relu", LEAKY, "tanh", "sigmoid", "gelu", "silu", "elu", "softsign", "hardtanh"], ids=str
)
@pytest.mark.parametrize("widths", [(3, 8, 8, 1), (3, 8, 8, 2), (4, 10, 1)], ids=str)
def test_lower_bounds_are_below_upper_bounds_and_above_random_gradients(phi: Any, widths: tuple[int, ...]) -> None:
    net = network(widths, phi)
    cert = certify(net)
    assert 0.0 < cert.lower <= cert.upper
    assert cert.check(net)
    assert cert.lower >= 0.97 * random_gradients(net, 3000)


def test_data_are_starts() -> None:
    # a bump between 1000 and 1000.02, and a slope of one elsewhere
    W, b = [[1.0], [50.0], [50.0], [50.0]], [0.0, -5e4, -50000.5, -50001.0]
    net = FeedForward([W, [[1.0, 1.0, -2.0, 1.0]], [[1.0]]], [b, [1.0], [0.0]])
    assert lower_bound(net, np.array([[0.5], [1000.005]])).value == pytest.approx(51.0)


def test_runs_are_repeatable() -> None:
    net = network((5, 16, 16, 2))
    first, again = (lower_bound(net, random_state=3) for _ in range(2))
    assert first.value == again.value
    np.testing.assert_array_equal(first.point, again.point)


# ------------------------------------------------------------------------------------------------------------- scales


@pytest.mark.parametrize("size", [1e-12, 1e12])
def test_inputs_in_other_units(size: float) -> None:
    net = network((3, 12, 12, 1), seed=2)
    small = FeedForward([size * net.weights[0], *net.weights[1:]], net.biases)
    assert lower_bound(small).value == pytest.approx(size * lower_bound(net).value, rel=0.1)


@pytest.mark.parametrize("phi", ["relu", "tanh"])
@pytest.mark.parametrize("size", [1e-12, 1e12])
def test_weights_of_any_size(size: float, phi: str) -> None:
    net = network((3, 12, 12, 1), phi, seed=2, scale=size)
    cert = certify(net)
    assert 0.0 < cert.lower <= cert.upper
    assert cert.check(net)


@pytest.mark.parametrize("layer", [0, 1])
@pytest.mark.parametrize("bias", [-1e3, -1e6, -1e10])
def test_units_that_are_off_at_ordinary_inputs(layer: int, bias: float) -> None:
    net = network((3, 12, 12, 1), seed=1)
    biases = [b + bias * (k == layer) for k, b in enumerate(net.biases)]
    assert lower_bound(FeedForward(net.weights, biases)).value > 0.1


@pytest.mark.parametrize(
    ("phi", "shift"), [("tanh", 50.0), ("sigmoid", -100.0), ("hardtanh", 1e5), ("relu6", -1e5)], ids=str
)
def test_saturated_units(phi: str, shift: float) -> None:
    net = network((3, 12, 12, 1), phi, seed=1)
    assert lower_bound(FeedForward(net.weights, [net.biases[0] + shift, *net.biases[1:]], phi)).value > 1e-3


def test_a_network_that_is_nearly_constant_has_a_slope_all_the_same() -> None:
    net = network((3, 12, 12, 1), "sigmoid", seed=1)
    flat = FeedForward(net.weights, [net.biases[0], net.biases[1] - 150.0, net.biases[2]], "sigmoid")
    assert 0.0 < lower_bound(flat).value < 1e-40


def test_a_narrow_bump_far_away() -> None:
    W, b = [[1.0], [1.0], [1.0]], [-1000.0, -1000.001, -1000.002]
    net = FeedForward([W, [[1.0, -2.0, 1.0]], [[1.0]]], [b, [-0.0005], [0.0]])
    assert lower_bound(net).value == pytest.approx(1.0, rel=1e-6)


def test_constant_networks_have_no_slope() -> None:
    net = network((3, 12, 12, 1))
    off = FeedForward([net.weights[0], -np.abs(net.weights[1]), net.weights[2]], [net.biases[0], -np.ones(12), [1.0]])
    assert lower_bound(off).value == 0.0
    still = FeedForward([np.zeros((4, 3)), np.ones((2, 4)), [[1.0, 1.0]]], [np.ones(4), np.ones(2), [0.0]])
    assert lower_bound(still).value == 0.0
    assert lower_bound(FeedForward(net.weights, net.biases, [(0.0, 1.0)] * 2)).value == 0.0


# -------------------------------------------------------------------------------------------------------------- balls


@pytest.mark.parametrize("norm", ["l2", "linf"])
@pytest.mark.parametrize("phi", ["relu", "tanh"])
@pytest.mark.parametrize("radius", [0.0, 1e-6, 0.1, 10.0])
def test_balls_at_any_depth(radius: float, phi: str, norm: str) -> None:
    net, rng = network((10, 32, 32, 32, 1), phi), np.random.default_rng(0)
    search = lower_bound if norm == "l2" else lower_bound_sup
    centre = rng.standard_normal(10)
    found = search(net, region=Ball(centre, radius))
    drawn = rng.standard_normal((2000, 10))
    drawn /= np.linalg.norm(drawn, 2 if norm == "l2" else np.inf, axis=1)[:, None]
    J = net.gradients(centre + radius * rng.uniform(size=(2000, 1)) * drawn)[:, 0]
    sizes = np.linalg.norm(J, axis=1) if norm == "l2" else np.abs(J).sum(axis=1)
    assert in_ball(found.point, centre, radius, norm=norm)
    assert found.value >= sizes.max() * (1.0 - 1e-6)
    assert found.value <= search(net).value * 1.2  # that of all inputs may have missed a little


def test_a_ball_far_from_zero_is_searched_as_precisely() -> None:
    net, centre = network((10, 32, 32, 1)), np.full(10, 0.1)
    W, b = net.weights[0], net.biases[0]
    moved = FeedForward(net.weights, [b - W @ np.full(10, 1e6), *net.biases[1:]])
    near = lower_bound(net, region=Ball(centre, 0.3)).value
    assert lower_bound(moved, region=Ball(centre + 1e6, 0.3)).value == pytest.approx(near, rel=0.05)


def test_points_come_with_the_steepest_first() -> None:
    net, rng = network((5, 16, 16, 3)), np.random.default_rng(0)
    for points in (steep_points(net, None, rng), steep_points_in(net, Ball(np.zeros(5), 1.0), None, rng)[:-1]):
        sizes = np.linalg.norm(net.gradients(np.array(points)), 2, axis=(1, 2))
        assert (np.diff(sizes) <= 1e-3 * sizes[0]).all()
