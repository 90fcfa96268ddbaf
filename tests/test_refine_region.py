"""Refinement of the bound in a region: the penalty by finite differences, results recomputed, limits kept there."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from certnet import Ball, Box, FeedForward, ShallowNetwork, certify, refine, refine_path
from certnet.core.errors import InvalidInputError
from certnet.networks.network import Network
from certnet.proofs.regions import UnitSlopes, slopes_within
from certnet.refinement.gauge import Penalty, bound_at_one
from certnet.refinement.regional import RegionalPenalty, regional_bound

REGION = Box([-0.4, -0.2, -0.3], [0.3, 0.5, 0.2])


def table(seed: int = 0, n: int = 80) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, 3))
    return X, np.sin(2.0 * X[:, 0]) + X[:, 1] * X[:, 2] + 0.1 * rng.standard_normal(n)


def network(widths: tuple[int, ...], seed: int = 0, phi: Any = "relu") -> FeedForward:
    rng = np.random.default_rng(seed)
    weights = [rng.standard_normal((n, m)) / np.sqrt(m) for m, n in itertools.pairwise(widths)]
    return FeedForward(weights, [0.3 * rng.standard_normal(n) for n in widths[1:]], phi)


def narrowed(seed: int) -> tuple[list[np.ndarray], UnitSlopes]:
    """Weights in a gauge that proves something, and slopes of all sorts: known, none, negative, half open."""
    rng = np.random.default_rng(seed)
    weights = [0.4 * rng.standard_normal((n, m)) / np.sqrt(m) for m, n in ((4, 6), (6, 5), (5, 2))]
    first = np.array([0.0, 1.0, 0.0, 0.2, 0.0, 0.0]), np.array([1.0, 1.0, 0.0, 0.9, 1.0, 0.0])
    second = np.array([0.0, 1.0, 0.0, 0.5, -0.1]), np.array([1.0, 1.0, 1.0, 0.5, 1.1])
    return weights, [first, second]


def test_where_all_units_may_bend_the_penalty_is_that_of_all_inputs() -> None:
    weights, _ = narrowed(1)
    whole = [(np.zeros(6), np.ones(6)), (np.zeros(5), np.ones(5))]
    slopes = ((0.0, 1.0), (0.0, 1.0))
    assert regional_bound(weights, whole) == pytest.approx(bound_at_one(weights, slopes), rel=1e-12)
    (value, gradients), (other, others) = (
        RegionalPenalty(whole, 0.3)(weights, 0.01),
        Penalty(slopes, 0.3)(weights, 0.01),
    )
    assert value == pytest.approx(other, rel=1e-12)
    for mine, theirs in zip(gradients, others):
        np.testing.assert_allclose(mine, theirs, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("limited", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_the_gradient_is_that_of_finite_differences(seed: int, limited: bool) -> None:
    weights, slopes = narrowed(seed)
    limit = 1.5 * regional_bound(weights, slopes) if limited else np.inf
    penalty, rng = RegionalPenalty(slopes, 0.3, limit), np.random.default_rng(seed)
    _, gradients = penalty(weights, 0.01)
    for k, gradient in enumerate(gradients):
        direction = rng.standard_normal(weights[k].shape)

        def at(step: float, k: int = k, direction: np.ndarray = direction) -> float:
            moved = [W + step * direction if j == k else W for j, W in enumerate(weights)]
            return penalty(moved, 0.01)[0]

        assert (at(1e-6) - at(-1e-6)) / 2e-6 == pytest.approx(float(np.sum(gradient * direction)), rel=1e-6, abs=1e-9)


def test_the_bound_at_one_is_above_the_slopes_that_occur() -> None:
    weights, slopes = narrowed(4)
    rng, steepest = np.random.default_rng(0), 0.0
    for _ in range(300):
        D = [np.diag(rng.uniform(low, high)) for low, high in slopes]
        steepest = max(steepest, np.linalg.norm(weights[2] @ D[1] @ weights[1] @ D[0] @ weights[0], 2))
    assert steepest**2 <= regional_bound(weights, slopes)


@pytest.mark.parametrize("region", [REGION, Ball([0.1, 0.0, -0.1], 0.4)])
@pytest.mark.parametrize("net", [network((3, 12, 1)), network((3, 8, 8, 1), 1), network((3, 8, 1), 2, "tanh")])
def test_never_worse_and_recomputed(net: FeedForward, region: Box | Ball) -> None:
    X, y = table()
    done = refine(net, X, y, 0.02, region=region, effort="quick")
    for made, cert, value in (
        (net, done.certificate_before, done.objective_before),
        (done.network, done.certificate, done.objective_after),
    ):
        outputs = made.predict(X)
        assert value == pytest.approx(float(np.mean((outputs - y) ** 2)) + 0.02 * cert.rho, rel=1e-9)
        assert cert.check(made)
        assert type(cert.region) is type(region)
    assert done.objective_after <= done.objective_before
    everywhere = done.certificate_everywhere
    assert everywhere is not None
    assert everywhere.check(done.network)
    assert everywhere.box is None
    assert everywhere.around is None
    assert done.certificate.upper <= everywhere.upper * (1.0 + 1e-6)


def test_it_beats_the_refinement_for_all_inputs_where_only_a_neighbourhood_counts() -> None:
    X, y = table(3)
    net = network((3, 16, 1), 5)
    usual = refine(net, X, y, 0.05)
    here = refine(net, X, y, 0.05, region=REGION)
    assert here.objective_after <= usual.mse + 0.05 * certify(usual.network, region=REGION).rho + 1e-9


@pytest.mark.parametrize("widths", [(3, 12, 1), (3, 8, 8, 1)])
def test_a_limit_holds_in_the_region(widths: tuple[int, ...]) -> None:
    X, y = table()
    done = refine(network(widths), X, y, target_lipschitz=0.8, region=REGION, effort="quick")
    assert done.certificate.upper <= 0.8
    assert certify(done.network, region=REGION).upper <= 0.8 * (1.0 + 1e-5)
    assert done.mse < np.var(y)


def test_an_error_is_kept_with_less_slope_in_the_region() -> None:
    X, y = table()
    net = refine(network((3, 12, 1)), X, y, 1e-3).network
    limit = 1.5 * float(np.mean((net.predict(X) - y) ** 2))
    done = refine(net, X, y, max_mse=limit, region=REGION, effort="quick")
    assert done.mse <= limit
    assert done.certificate.upper <= certify(net, region=REGION).upper


def test_a_path_goes_by_the_region() -> None:
    X, y = table()
    path = refine_path(network((3, 8, 1)), X, y, weights=[0.01, 0.1], region=REGION, effort="quick")
    assert all(result.certificate.box is not None for result in path)
    assert path.upper[1] <= path.upper[0] * (1.0 + 1e-9)


def test_what_does_not_go_with_a_region_is_refused() -> None:
    X, y = table()
    net: Network = ShallowNetwork(np.eye(3), np.zeros(3), np.ones(3), 0.0)
    for options, words in (
        ({"region": Box([0.0], [1.0])}, "the box has 1 inputs"),
        ({"region": (0.0, 1.0)}, "must be a certnet.Box or a certnet.Ball"),
        ({"region": REGION, "method": "joint"}, "region is for descents"),
        ({"region": REGION, "optimality_gap": True}, "leave it out, or region"),
    ):
        with pytest.raises(InvalidInputError, match=words):
            refine(net, X, y, **options)


def test_slopes_of_the_region_hold_those_of_its_points() -> None:
    net, rng = network((3, 6, 6, 1), 7), np.random.default_rng(0)
    slopes = slopes_within(REGION, net, "l2")
    points = rng.uniform(REGION.lower, REGION.upper, (500, 3))
    for layer, (low, high) in zip(net.layers, slopes):
        found = layer.derivative(layer.preactivations(points))
        points = layer(points)
        assert (found >= low - 1e-12).all()
        assert (found <= high + 1e-12).all()
