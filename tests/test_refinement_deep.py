"""Refinement at any depth: unit gauge, the smoothed penalty, and what ``refine`` promises beyond one hidden layer."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from certnet import FeedForward, certify, refine, refine_path
from certnet.errors import InvalidInputError, NotConvergedWarning, UnsupportedModelError
from certnet.networks.activations import Activation
from certnet.networks.layers import Dense, Layer, read_only
from certnet.networks.operators import Blocks, Identity
from certnet.programs.loss import SQUARED, Huber
from certnet.refinement.fit import Bend, Fit
from certnet.refinement.gauge import Penalty, bound_at_one, unit_gauge
from certnet.rows.memory import MemoryRows
from certnet.searches.vectors import multipliers_with_slack, search_vectors

RELU, LEAKY = Activation("relu"), Activation("leaky_relu", (0.2,))
SLOPES = {"relu": (0.0, 1.0), "leaky": (0.2, 1.0), "falling": (-0.3, 1.0), "steep": (1.0, 1.7)}


def network(*widths: int, seed: int = 0, phi: str | Activation = "relu") -> FeedForward:
    rng = np.random.default_rng(seed)
    weights = [rng.standard_normal((b, a)) * np.sqrt(1.5 / a) for a, b in pairwise(widths)]
    return FeedForward(weights, [0.3 * rng.standard_normal(b) for b in widths[1:]], phi)


def samples(d: int = 3, m: int = 1, n: int = 24, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, d))
    y = np.column_stack([np.sin(X[:, 0] + k) + 0.5 * X[:, 1] * X[:, -1] for k in range(m)])
    y += 0.3 * rng.standard_normal(y.shape)
    return X, y[:, 0] if m == 1 else y


def error_of(net: FeedForward, X: np.ndarray, y: np.ndarray) -> float:
    """Written out layer by layer."""
    total = 0.0
    for x, aim in zip(X, y.reshape(len(X), -1)):
        for W, b, phi in zip(net.weights, net.biases, net.activations):
            a = W @ x + b
            left = phi.parameters[0] if phi.parameters else 0.0
            x = np.where(a >= 0.0, a, left * a)
        total += float(np.sum((net.weights[-1] @ x + net.biases[-1] - aim) ** 2))
    return total / len(X)


def moved(arrays, direction, step):
    return [a + step * d for a, d in zip(arrays, direction)]


# ----------------------------------------------------------------------------------------------------------- the gauge


@pytest.mark.parametrize("phi", [RELU, LEAKY, Activation("leaky_relu", (-0.3,)), Activation("leaky_relu", (1.7,))])
@pytest.mark.parametrize("idle", [False, True])
def test_unit_gauge_keeps_the_function_and_one_proves_the_bound(phi, idle):
    net = network(3, 7, 6, 5, 2, phi=phi)
    if idle:
        weights = [W.copy() for W in net.weights]
        weights[0][1] = 0.0  # cannot move
        weights[1][:, 2] = 0.0  # moves nothing
        weights[2][:, 3] = 0.0
        net = net.with_parameters(weights, net.biases, net.units)
    found = search_vectors(net)
    T = multipliers_with_slack(found.multipliers, 1e-7)
    weights, biases = unit_gauge(net.weights, net.biases, T, net.slopes)
    X = np.random.default_rng(0).standard_normal((50, 3))
    same = FeedForward(weights, biases, phi)
    np.testing.assert_allclose(same.forward(X), net.forward(X), rtol=1e-12, atol=1e-12)
    assert np.sqrt(bound_at_one(weights, net.slopes)) == pytest.approx(found.upper, rel=1e-5)


def test_bound_at_one_is_the_least_that_the_matrix_allows():
    net = network(3, 5, 4, 2)
    T = multipliers_with_slack(search_vectors(net).multipliers, 0.05)
    weights, _ = unit_gauge(net.weights, net.biases, T, net.slopes)
    sizes = [3, 5, 4]

    def smallest(rho: float) -> float:
        blocks = [[np.zeros((a, b)) for b in sizes] for a in sizes]
        blocks[0][0] = rho * np.eye(3)
        blocks[1][1], blocks[2][2] = 2.0 * np.eye(5), 2.0 * np.eye(4) - weights[2].T @ weights[2]
        for k in (0, 1):
            blocks[k][k + 1], blocks[k + 1][k] = -weights[k].T, -weights[k]
        return float(np.linalg.eigvalsh(np.block(blocks))[0])

    rho = bound_at_one(weights, net.slopes)
    assert smallest(rho) == pytest.approx(0.0, abs=1e-12)
    assert smallest(1.01 * rho) > 0.0 > smallest(0.99 * rho)


# --------------------------------------------------------------------------------------------------------- the penalty


def gauged(slopes: tuple[float, float], seed: int = 0, slack: float = 0.05):
    left = slopes[1] if slopes[0] == 1.0 else slopes[0]
    net = network(3, 6, 5, 2, seed=seed, phi=Activation("leaky_relu", (left,)) if left else RELU)
    T = multipliers_with_slack(search_vectors(net).multipliers, slack)
    return unit_gauge(net.weights, net.biases, T, net.slopes)[0], net.slopes


@pytest.mark.parametrize("name", SLOPES)
@pytest.mark.parametrize("fixed", [False, True])
def test_gradient_of_the_penalty(name, fixed):
    weights, slopes = gauged(SLOPES[name])
    penalty = Penalty(slopes, 0.3, 1.3 * bound_at_one(weights, slopes) if fixed else np.inf)
    _, gradient = penalty(weights, 0.02)
    rng = np.random.default_rng(1)
    for _ in range(4):
        direction = [rng.standard_normal(W.shape) for W in weights]
        ends = [penalty(moved(weights, direction, step), 0.02)[0] for step in (1e-6, -1e-6)]
        slope = sum(float(np.sum(g * d)) for g, d in zip(gradient, direction))
        assert (ends[0] - ends[1]) / 2e-6 == pytest.approx(slope, rel=1e-5, abs=1e-7)


@pytest.mark.parametrize("d", [3, 9])  # fewer inputs than units, and more
@pytest.mark.parametrize("m", [2, 7])
@pytest.mark.parametrize("limited", [False, True])
def test_the_penalty_is_a_minimum_over_rho(d, m, limited):
    net = network(d, 6, 5, m)
    T = multipliers_with_slack(search_vectors(net).multipliers, 0.05)
    weights, _ = unit_gauge(net.weights, net.biases, T, net.slopes)
    mu, weight, least = 0.02, 0.3, bound_at_one(weights, net.slopes)
    limit = 1.2 * least if limited else np.inf

    def barrier(rho: float) -> float:
        """λ ρ − μ log det P(W, ρ) with P written out."""
        P = np.zeros((d + 11, d + 11))
        P[:d, :d] = rho * np.eye(d)
        P[d:, d:] = 2.0 * np.eye(11)
        P[d + 6 :, d + 6 :] -= weights[2].T @ weights[2]
        P[d : d + 6, :d], P[d + 6 :, d : d + 6] = -weights[0], -weights[1]
        P[:d, d : d + 6], P[d : d + 6, d + 6 :] = -weights[0].T, -weights[1].T
        sign, log = np.linalg.slogdet(P)
        assert sign > 0
        return weight * rho - mu * log - (mu * np.log(1.0 - rho / limit) if limited else 0.0)

    value, _ = Penalty(net.slopes, weight, limit)(weights, mu)
    reach = (limit - least) * (1.0 - 1e-9) if limited else 10.0
    tried = [barrier(rho) for rho in least + np.geomspace(1e-6 * reach, reach, 3000)]
    assert value <= min(tried) + 1e-12
    assert value == pytest.approx(min(tried), rel=1e-5)


@pytest.mark.parametrize("fixed", [False, True])
def test_the_penalty_is_convex_and_infinite_outside(fixed):
    a, slopes = gauged((0.0, 1.0), seed=0)
    b, _ = gauged((0.0, 1.0), seed=1)
    most = 1.2 * max(bound_at_one(W, slopes) for W in (a, b))
    penalty = Penalty(slopes, 0.3, most if fixed else np.inf)
    shares = np.linspace(0.0, 1.0, 21)
    direction = [y - x for x, y in zip(a, b)]
    values = np.array([penalty(moved(a, direction, t), 0.02)[0] for t in shares])
    assert np.isfinite(values).all()
    assert (values[:-2] + values[2:] - 2.0 * values[1:-1] > 0.0).all()
    outside, gradient = penalty([3.0 * W for W in a], 0.02)
    assert outside == np.inf
    assert gradient == []


@pytest.mark.parametrize("left", [0.0, 0.2, -0.4])
@pytest.mark.parametrize("delta", [0.0, 0.3])
@pytest.mark.parametrize("loss", [SQUARED, Huber(0.5)])
def test_gradient_of_the_fit(left, delta, loss):
    net = network(3, 6, 5, 2, seed=3)
    X, y = samples(m=2)
    phi = RELU if left == 0.0 else Activation("leaky_relu", (left,))
    fit = Fit(MemoryRows.of(X, y), (Bend(phi),) * 2, loss)
    value, to_W, to_b = fit(net.weights, net.biases, delta)
    if delta == 0.0 and loss is SQUARED:
        plain = FeedForward(net.weights, net.biases, Activation("leaky_relu", (left,)))
        assert value == pytest.approx(error_of(plain, X, y), rel=1e-12)
    rng = np.random.default_rng(0)
    d_W = [rng.standard_normal(W.shape) for W in net.weights]
    d_b = [rng.standard_normal(b.shape) for b in net.biases]
    ends = [fit(moved(net.weights, d_W, t), moved(net.biases, d_b, t), delta)[0] for t in (1e-7, -1e-7)]
    slope = sum(float(np.sum(g * d)) for g, d in zip([*to_W, *to_b], [*d_W, *d_b]))
    assert (ends[0] - ends[1]) / 2e-7 == pytest.approx(slope, rel=1e-5)


# ------------------------------------------------------------------------------------------------------------- results


@pytest.mark.parametrize(
    ("widths", "phi"),
    [((3, 6, 6, 1), RELU), ((3, 5, 5, 2), RELU), ((3, 4, 4, 4, 1), LEAKY), ((3, 6, 1), LEAKY)],
)
def test_the_objective_is_recomputed_and_proved(widths, phi):
    net, weight = network(*widths, phi=phi), 0.02
    X, y = samples(m=widths[-1])
    done = refine(net, X, y, weight)
    assert done.improved
    assert isinstance(done.network, FeedForward)
    assert done.certificate.check(done.network)
    assert done.certificate_before.check(net)
    assert done.mse == pytest.approx(error_of(done.network, X, y), rel=1e-10)
    assert done.objective_after == pytest.approx(done.mse + weight * done.certificate.rho, rel=1e-14)
    assert done.objective_before == pytest.approx(error_of(net, X, y) + weight * certify(net).rho, rel=1e-5)
    assert done.objective_after < 0.5 * done.objective_before
    assert done.network.widths == net.widths
    assert done.network.activations == net.activations
    assert [row.stage for row in done.trace[:2]] == ["input", "descent, stage 1 of 4"]
    kept = [row.objective for row in done.trace if row.accepted]
    assert kept == sorted(kept, reverse=True)
    assert done.objective_after == kept[-1]


def test_it_does_not_matter_in_which_units_data_are():
    net = network(3, 6, 6, 1)
    X, y = samples()
    plain = refine(net, X, y, 0.02)
    scaled = net.rescaled(x_shift=7.0, x_scale=64.0, y_shift=-3.0, y_scale=1024.0)
    other = refine(scaled, 64.0 * X + 7.0, 1024.0 * y - 3.0, 0.02 * 64.0**2)
    assert other.objective_after / 1024.0**2 == pytest.approx(plain.objective_after, rel=0.1)
    assert other.network.units == "raw"


def test_never_worse_and_the_very_input_where_nothing_is_better():
    X, _ = samples()
    net = network(3, 5, 5, 1)
    perfect = refine(net, X, net.predict(X), 0.0)
    assert perfect.network is net
    assert perfect.objective_after == perfect.objective_before == 0.0
    again = refine(refine(net, X, X[:, 0], 0.02, random_state=3).network, X, X[:, 0], 0.02)
    assert again.objective_after <= again.objective_before


def test_weight_zero_is_the_fit_alone():
    net = network(3, 10, 10, 1)
    X, y = samples()
    done = refine(net, X, y, 0.0)
    assert done.objective_after == done.mse < 0.02 * done.mse_before
    assert done.certificate.check(done.network)


def test_a_constant_network_and_constant_targets():
    X, y = samples()
    net = network(3, 5, 5, 1)
    flat = net.with_parameters([*net.weights[:-1], np.zeros((1, 5))], net.biases, net.units)
    assert refine(flat, X, y, 0.02).objective_after <= float(np.mean((y - net.biases[-1]) ** 2))
    done = refine(net, X, np.full(len(X), 2.0), 0.02)
    assert done.objective_after < 0.1 * done.objective_before


@pytest.mark.parametrize(
    ("weight", "x_unit", "y_unit"), [(1e200, 1.0, 1.0), (1e-200, 1.0, 1.0), (0.02, 1e120, 1.0), (0.02, 1.0, 1e60)]
)
def test_numbers_far_from_one(weight, x_unit, y_unit):
    net = network(3, 4, 4, 1)
    X, y = samples()
    done = refine(net, x_unit * X, y_unit * y, weight)
    assert done.objective_after <= done.objective_before
    assert done.certificate.check(done.network)


def test_many_layers_do_not_collapse():
    net = network(3, *[5] * 6, 1, phi=LEAKY)
    X, y = samples()
    done = refine(net, X, y, target_lipschitz=1.0)
    assert done.mse < 0.95 * float(np.var(y))


@pytest.mark.parametrize("limit", [0.0, 0.5, 1e6, 1e200])
def test_a_limit_on_the_slope_is_met(limit):
    net = network(3, 6, 6, 1)
    X, y = samples()
    done = refine(net, X, y, target_lipschitz=limit)
    assert done.certificate.upper <= limit
    assert done.certificate.check(done.network)
    assert done.objective_after == done.mse == pytest.approx(error_of(done.network, X, y), rel=1e-10)
    if limit == 0.0:
        assert done.mse == pytest.approx(float(np.var(y)), rel=1e-12)
    elif limit <= 0.5:
        assert done.certificate.upper > 0.95 * limit
        assert done.mse < float(np.var(y))
    else:
        assert done.mse <= done.mse_before


def test_a_larger_limit_fits_better():
    net = network(3, 6, 6, 1)
    X, y = samples()
    errors = [refine(net, X, y, target_lipschitz=limit).mse for limit in (0.2, 0.6)]
    assert errors == sorted(errors, reverse=True)


def test_paths_take_deep_networks():
    X, y = samples(n=20)
    path = refine_path(network(3, 5, 5, 1), X, y, weights=[0.01, 0.1])
    assert path.mse[0] <= path.mse[1]
    assert path.upper[0] >= path.upper[1]


# ------------------------------------------------------------------------------------------------------------ stopping


def test_time_that_is_up_ends_it():
    net = network(3, 6, 6, 1)
    X, y = samples()
    with pytest.warns(NotConvergedWarning, match="time limit"):
        done = refine(net, X, y, 0.02, time_limit=1e-9)
    assert done.network is net
    assert [row.stage for row in done.trace] == ["input"]


@pytest.mark.parametrize("raises", [False, True])
def test_an_interrupt_keeps_the_best_so_far(raises, monkeypatch):
    net = network(3, 6, 6, 1)
    X, y = samples()
    full = refine(net, X, y, 0.02)
    asked = 0

    def ask() -> bool:
        nonlocal asked
        asked += 1
        if asked > 200 and raises:
            raise KeyboardInterrupt
        return asked > 200

    with pytest.warns(NotConvergedWarning, match="interrupted"):
        done = refine(net, X, y, 0.02, should_stop=ask)
    assert done.status.name == "INTERRUPTED"
    assert full.objective_after <= done.objective_after < done.objective_before
    assert done.certificate.check(done.network)


# ---------------------------------------------------------------------------------------------------------- bad inputs


def test_what_is_refused():
    net = network(3, 5, 5, 1)
    X, y = samples()
    for options, words in (
        ({"max_mse": 0.1}, "max_mse is for one hidden layer"),
        ({"penalty": "l2"}, "another penalty"),
        ({"method": "alternating"}, "another method"),
        ({"patterns": "sampled"}, "patterns other"),
        ({"cells": 2}, "cells is for one hidden layer"),
        ({"tol": 1e-3}, "tol is for one hidden layer"),
        ({"weight": -1.0}, "weight"),
        ({"target_lipschitz": -1.0}, "target_lipschitz"),
        ({"time_limit": 0.0}, "time_limit"),
    ):
        with pytest.raises(InvalidInputError, match=words):
            refine(net, X, y, **options)
    for bad in (X[:, :2], np.full_like(X, np.nan)):
        with pytest.raises(InvalidInputError):
            refine(net, bad, y)
    with pytest.raises(InvalidInputError):
        refine(net, X, y[:-1])


def test_networks_that_are_refused():
    X, y = samples()
    with pytest.raises(UnsupportedModelError, match="activation is tanh"):
        refine(network(3, 5, 5, 1, phi="tanh"), X, y)
    rng = np.random.default_rng(0)
    wide, narrow = (Dense(read_only(rng.standard_normal(shape))) for shape in ((4, 3), (3, 4)))
    block = Layer(Blocks(((wide,), (Identity(3),))), np.zeros(7), RELU, 3)
    back = Layer(Blocks(((narrow, Identity(3)),)), np.zeros(3), RELU)
    last = Layer(Dense(read_only(rng.standard_normal((1, 3)))), np.zeros(1), Activation("identity"))
    with pytest.raises(UnsupportedModelError, match="without skips or convolutions"):
        refine(FeedForward.chain([block, back, last]), X, y)
