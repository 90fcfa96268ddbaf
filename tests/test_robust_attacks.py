"""The attack against exact worst cases, its constraint to the last bit, and what it refuses."""

from dataclasses import FrozenInstanceError

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import certnet.robust.residuals as residuals_module
from certnet import ShallowNetwork
from certnet.core.errors import InvalidInputError
from certnet.robust.attacks import PGDAttack
from certnet.robust.balls import BALLS, admissible, ball_of
from certnet.robust.residuals import squared_residuals

NORMS = ("l2", "linf")


def random_network(rng, h=8, d=3, m=1, scale=1.0):
    return ShallowNetwork(
        scale * rng.standard_normal((h, d)), rng.standard_normal(h), rng.standard_normal((m, h)), rng.standard_normal(m)
    )


def linear_network(rng, d, m=1):
    """All units active on the data: f is affine with Jacobian V W."""
    return ShallowNetwork(rng.standard_normal((5, d)), np.full(5, 1e3), rng.standard_normal((m, 5)), np.zeros(m))


def lengths(delta, norm):
    return np.linalg.norm(delta, axis=1, ord=2 if norm == "l2" else np.inf)


def exact_worst_in_one_dimension(net, x, y, epsilon):
    """max (f(t) − y)² over |t − x| ≤ ε: |f − y| is convex between kinks, so ends and kinks suffice."""
    kinks = -net.b[net.W[:, 0] != 0] / net.W[net.W[:, 0] != 0, 0]
    inside = kinks[np.abs(kinks - x) <= epsilon]
    candidates = np.concatenate([inside, np.linspace(x - epsilon, x + epsilon, 2001)])
    return np.max((net.predict(candidates[:, None]) - y) ** 2)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("epsilon", [0.01, 0.3, 2.0])
def test_one_input_reaches_the_brute_force_worst_case(norm, epsilon):
    rng = np.random.default_rng(3)
    net = random_network(rng, h=7, d=1)
    X, y = rng.standard_normal((40, 1)), rng.standard_normal(40)
    found = squared_residuals(net, PGDAttack(norm, n_steps=60, n_restarts=8).perturb(net, X, y, epsilon), y)
    exact = np.array([exact_worst_in_one_dimension(net, x, t, epsilon) for x, t in zip(X[:, 0], y)])
    assert np.all(found <= exact * (1 + 1e-9))
    np.testing.assert_allclose(found, exact, rtol=1e-3)


@pytest.mark.parametrize(("norm", "dual"), [("l2", 2), ("linf", 1)])
def test_affine_network_is_attacked_exactly(norm, dual):
    rng = np.random.default_rng(0)
    net = linear_network(rng, d=6)
    X, y = rng.standard_normal((30, 6)), 3e3 * rng.standard_normal(30)
    slope = np.linalg.norm(net.V[0] @ net.W, ord=dual)
    exact = (np.abs(net.predict(X) - y) + 0.7 * slope) ** 2
    found = squared_residuals(net, PGDAttack(norm, n_restarts=1).perturb(net, X, y, 0.7), y)
    np.testing.assert_allclose(found, exact, rtol=1e-12)


@pytest.mark.parametrize("norm", NORMS)
def test_affine_network_with_zero_residual_is_attacked_in_either_direction(norm):
    rng = np.random.default_rng(1)
    net = linear_network(rng, d=4)
    X = rng.standard_normal((10, 4))
    y = net.predict(X)
    slope = np.linalg.norm(net.V[0] @ net.W, ord=2 if norm == "l2" else 1)
    found = squared_residuals(net, PGDAttack(norm).perturb(net, X, y, 0.5), y)
    np.testing.assert_allclose(found, (0.5 * slope) ** 2, rtol=1e-9)


def test_the_worse_direction_wins_where_the_residual_points_the_other_way():
    # f(t) = 10 relu(t) − 1: at t = 0 the residual is −1, but f rises to 9 and falls no further
    net = ShallowNetwork([[1.0]], [0.0], [10.0], -1.0)
    found = PGDAttack(n_restarts=1).perturb(net, [[0.0]], [0.0], 1.0)
    np.testing.assert_allclose(found, [[1.0]])


def test_several_outputs_reach_the_worst_point_of_the_circle():
    rng = np.random.default_rng(2)
    net = linear_network(rng, d=2, m=3)
    X = rng.standard_normal((20, 2))
    Y = net.forward(X) + rng.standard_normal((20, 3))
    angles = np.linspace(0, 2 * np.pi, 20001)
    shifts = 0.8 * np.column_stack([np.cos(angles), np.sin(angles)]) @ (net.V @ net.W).T
    exact = [np.max(np.sum((shifts + r) ** 2, axis=1)) for r in net.forward(X) - Y]
    found = squared_residuals(net, PGDAttack(n_steps=60).perturb(net, X, Y, 0.8), Y)
    np.testing.assert_allclose(found, exact, rtol=1e-5)


@pytest.mark.parametrize("m", [1, 2])
@pytest.mark.parametrize("norm", NORMS)
def test_a_flat_start_is_left(norm, m):
    # no unit is active and the residual is zero at the input: every gradient vanishes
    net = ShallowNetwork([[1.0, 0.0], [-1.0, 0.0]], [-0.2, -0.2], np.ones((m, 2)), np.zeros(m))
    X = np.zeros((50, 2))
    Y = np.zeros((50, m))
    one_start = squared_residuals(net, PGDAttack(norm, n_restarts=1).perturb(net, X, Y, 1.0), Y)
    assert np.mean(one_start > 0.0) > 0.7  # in l2 a random direction misses both units with probability 0.13
    found = squared_residuals(net, PGDAttack(norm).perturb(net, X, Y, 1.0), Y)
    assert np.mean(np.isclose(found, m * 0.8**2, rtol=2e-3)) > 0.9


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    norm=st.sampled_from(NORMS),
    log_epsilon=st.floats(-300, 3),
    log_size=st.floats(-5, 9),
    m=st.integers(1, 2),
    d=st.integers(1, 9),
)
def test_admissible_to_the_last_bit_and_never_below_the_clean_loss(seed, norm, log_epsilon, log_size, m, d):
    rng = np.random.default_rng(seed)
    net = random_network(rng, d=d, m=m)
    X, Y = 10**log_size * rng.standard_normal((9, d)), rng.standard_normal((9, m))
    epsilon = 10**log_epsilon
    worst = PGDAttack(norm, n_steps=4, n_restarts=2).perturb(net, X, Y, epsilon)
    assert np.all(lengths(worst - X, norm) <= epsilon)
    assert np.all(squared_residuals(net, worst, Y) >= squared_residuals(net, X, Y))


@pytest.mark.parametrize("norm", NORMS)
def test_admissible_gives_up_moving_where_the_radius_is_below_the_spacing_of_floats(norm):
    X = np.full((4, 3), 1e9)
    Z, u = admissible(ball_of(norm), X, np.ones((4, 3)), 0.9e-7)
    np.testing.assert_array_equal(Z, X)
    np.testing.assert_array_equal(u, 0.0)


@pytest.mark.parametrize("norm", NORMS)
def test_a_row_does_not_depend_on_the_rows_after_it_nor_on_the_last_blocks_height(norm, monkeypatch):
    monkeypatch.setattr(residuals_module, "_BLOCK_ROWS", 16)
    rng = np.random.default_rng(4)
    net = random_network(rng, h=13, d=5)
    X, y = rng.standard_normal((41, 5)), rng.standard_normal(41)
    attack = PGDAttack(norm, n_steps=7, n_restarts=3)
    whole = attack.perturb(net, X, y, 0.4)
    np.testing.assert_array_equal(attack.perturb(net, X[:23], y[:23], 0.4), whole[:23])
    np.testing.assert_array_equal(attack.perturb(net, X[:1], y[:1], 0.4), whole[:1])


@pytest.mark.parametrize("norm", NORMS)
def test_blocks_of_another_size_find_as_much(norm, monkeypatch):
    rng = np.random.default_rng(5)
    net = random_network(rng, h=13, d=5)
    X, y = rng.standard_normal((41, 5)), rng.standard_normal(41)
    attack = PGDAttack(norm, n_steps=7, n_restarts=1)
    whole = squared_residuals(net, attack.perturb(net, X, y, 0.4), y)
    monkeypatch.setattr(residuals_module, "_BLOCK_ENTRIES", 13 * 4)  # four rows at a time
    np.testing.assert_allclose(squared_residuals(net, attack.perturb(net, X, y, 0.4), y), whole, rtol=1e-9)


def test_a_wide_network_gets_small_blocks():
    net = ShallowNetwork(np.ones((1 << 18, 1)), np.zeros(1 << 18), np.ones(1 << 18), 0.0)
    assert residuals_module.block_rows(net) == 8


def test_deterministic_for_a_seed_and_different_for_another():
    rng = np.random.default_rng(6)
    net = random_network(rng, h=30, d=6)
    X, y = rng.standard_normal((20, 6)), rng.standard_normal(20)
    one, same, other = (PGDAttack(random_state=s).perturb(net, X, y, 3.0) for s in (1, 1, 2))
    np.testing.assert_array_equal(one, same)
    assert not np.array_equal(one, other)


def test_more_starts_never_find_less():
    rng = np.random.default_rng(7)
    net = random_network(rng, h=30, d=6)
    X, y = rng.standard_normal((30, 6)), rng.standard_normal(30)
    few, many = (squared_residuals(net, PGDAttack(n_restarts=n, n_steps=5).perturb(net, X, y, 2.0), y) for n in (1, 6))
    assert np.all(many >= few)
    assert np.any(many > few)


def test_zero_radius_returns_the_inputs_and_leaves_the_arguments_alone():
    rng = np.random.default_rng(8)
    net = random_network(rng)
    X, y = rng.standard_normal((5, 3)), rng.standard_normal(5)
    before = X.copy()
    np.testing.assert_array_equal(PGDAttack().perturb(net, X, y, 0), X)
    PGDAttack().perturb(net, X, y, 1.0)
    np.testing.assert_array_equal(X, before)


def test_a_constant_step_is_relative_to_the_radius():
    net = ShallowNetwork([[1.0]], [100.0], [1.0], 0.0)
    found = PGDAttack(n_steps=3, n_restarts=1, step_size=0.25).perturb(net, [[0.0]], [0.0], 8.0)
    np.testing.assert_allclose(found, [[6.0]])


@pytest.mark.parametrize("norm", NORMS)
def test_balls_against_their_definitions(norm):
    rng = np.random.default_rng(9)
    ball = BALLS[norm]
    points = ball.sample(rng, 4000, 3)
    assert lengths(points, norm).max() <= 1.0
    # uniform: half of the volume lies within 2^(-1/3)
    assert np.mean(lengths(points, norm) < 0.5 ** (1 / 3)) == pytest.approx(0.5, abs=0.03)
    G = rng.standard_normal((5, 3))
    reached = np.sum(G * ball.steepest(G), axis=1)
    np.testing.assert_allclose(reached, np.linalg.norm(G, axis=1, ord=2 if norm == "l2" else 1))
    assert np.all(reached[:, None] >= G @ points.T)
    U = 2 * rng.standard_normal((5, 3))
    nearest = ball.project(U)
    distances = np.linalg.norm(U[:, None, :] - points[None, :, :], axis=2)
    assert np.all(np.linalg.norm(U - nearest, axis=1) <= distances.min(axis=1) + 1e-12)
    assert ball.l2_radius(3) == pytest.approx(1.0 if norm == "l2" else np.sqrt(3))


def test_steepest_survives_tiny_and_huge_gradients():
    directions = BALLS["l2"].steepest(np.array([[3e-300, 4e-300], [3e300, 4e300], [0.0, 0.0]]))
    np.testing.assert_allclose(directions, [[0.6, 0.8], [0.6, 0.8], [0.0, 0.0]])


def test_squared_residuals_sum_over_outputs():
    rng = np.random.default_rng(10)
    net = random_network(rng, m=2)
    X, Y = rng.standard_normal((300, 3)), rng.standard_normal((300, 2))
    expected = [np.sum((net.V @ np.maximum(net.W @ x + net.b, 0) + net.c - t) ** 2) for x, t in zip(X, Y)]
    np.testing.assert_allclose(squared_residuals(net, X, Y), expected)


def test_the_configuration_is_frozen():
    with pytest.raises(FrozenInstanceError):
        PGDAttack().n_steps = 3  # type: ignore[misc]


@pytest.mark.parametrize(
    ("settings_", "message"),
    [
        ({"norm": "l1"}, "norm must be one of 'l2', 'linf', got 'l1'"),
        ({"norm": ["l2"]}, "norm must be one of"),
        ({"n_steps": 0}, "n_steps must be an integer of at least 1"),
        ({"n_restarts": 1.5}, "n_restarts must be an integer"),
        ({"n_steps": True}, "n_steps must be an integer"),
        ({"random_state": -1}, "random_state must be an integer of at least 0"),
        ({"step_size": 0.0}, "step_size must be a finite positive number"),
        ({"step_size": "big"}, "step_size must be a number"),
    ],
)
def test_bad_configuration(settings_, message):
    with pytest.raises(InvalidInputError, match=message):
        PGDAttack(**settings_)


@pytest.mark.parametrize("epsilon", [-1.0, float("nan"), float("inf"), "wide", None])
def test_bad_radius(epsilon):
    net = ShallowNetwork([[1.0]], [0.0], [1.0], 0.0)
    with pytest.raises(InvalidInputError, match="epsilon must be"):
        PGDAttack().perturb(net, [[0.0]], [0.0], epsilon)


@pytest.mark.parametrize(
    ("X", "y", "message"),
    [
        ([[0.0, 1.0]], [0.0], "X has 2 columns, the network has 1 inputs"),
        ([0.0], [0.0], "X has shape"),
        ([[0.0]], [0.0, 1.0], "X has 1 samples and y has 2"),
        ([[0.0]], [[0.0, 1.0]], "y has 2 columns"),
        ([[float("nan")]], [0.0], "X has 1 entries that are NaN"),
        (np.empty((0, 1)), [], "X has no samples"),
    ],
)
def test_bad_samples(X, y, message):
    net = ShallowNetwork([[1.0]], [0.0], [1.0], 0.0)
    with pytest.raises(InvalidInputError, match=message):
        PGDAttack().perturb(net, X, y, 0.1)


@pytest.mark.parametrize("norm", NORMS)
def test_overflow_is_an_error_and_not_an_infinite_result(norm):
    net = ShallowNetwork([[1.0]], [0.0], [1.0], 0.0)
    with pytest.raises(InvalidInputError, match="overflows within the radius: use a smaller epsilon"):
        PGDAttack(norm).perturb(net, [[1e308]], [0.0], 1.7e308)
    with pytest.raises(InvalidInputError, match="overflows within the radius"):
        PGDAttack(norm).perturb(net, [[1.0]], [0.0], 1e200)
