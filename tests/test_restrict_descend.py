"""Descent beyond the cell: the smooth bound against other solvers, gradients, and what ``descend`` promises."""

import itertools
import time
from functools import partial

import cvxpy as cp
import instances
import numpy as np
import pytest
from steps import Clock
from threadpoolctl import threadpool_limits

from certnet import ShallowNetwork, certify, refine
from certnet.core.errors import CertnetError, InvalidInputError
from certnet.programs.objectives import mean_squared_error, objective
from certnet.refinement.descent import SmoothObjective, descend
from certnet.refinement.smoothed import MAX_ORDER, SmoothedBound
from certnet.searches.shallow import search_multipliers

instance = partial(instances.instance, h=8, d=3, n=30)


def certified(net, X, y, weight, seed=0):
    return objective(net, X, y, weight=weight, certificate=certify(net, tol=1e-7, random_state=seed))


# ---------------------------------------------------------------------------------------------- the smooth bound


def by_cvxpy(W, V, epsilon):
    """The same concave program, modelled and solved by others."""
    (h, d), m = W.shape, len(V)
    G = cp.Variable((d + m, d + m), PSD=True)
    terms = [
        V[:, j] @ G[d:, :d] @ W[j]
        + cp.geo_mean(
            cp.hstack([cp.trace(G[:d, :d] @ np.outer(W[j], W[j])), cp.trace(G[d:, d:] @ np.outer(V[:, j], V[:, j]))])
        )
        for j in range(h)
    ]
    barrier = cp.log_det(G) + (d + m) * np.log(d + m)
    problem = cp.Problem(cp.Maximize(sum(terms) + epsilon * barrier), [cp.trace(G) == 1])
    return problem.solve(solver="CLARABEL")


@pytest.mark.parametrize(("h", "d", "m"), [(5, 2, 1), (4, 3, 1), (5, 2, 2), (2, 3, 2)])
@pytest.mark.parametrize("epsilon", [1e-1, 1e-3])
def test_the_smooth_bound_solves_its_program(h, d, m, epsilon):
    net = instance(h + d, h=h, d=d, m=m)[0]
    value, *_ = SmoothedBound(d, m)(net.W, net.V, epsilon)
    assert value == pytest.approx(by_cvxpy(net.W, net.V, epsilon), rel=1e-5, abs=1e-5)


@pytest.mark.parametrize("m", [1, 3])
@pytest.mark.parametrize("seed", range(4))
def test_the_smooth_bound_rises_to_the_lipsdp_bound(m, seed):
    net = instance(seed, h=12, d=4, m=m)[0]
    best = search_multipliers(net, tol=1e-8).upper
    values = [SmoothedBound(4, m)(net.W, net.V, best * share / (4 + m))[0] for share in (1e-1, 1e-2, 1e-3, 1e-4, 1e-5)]
    assert all(a < b for a, b in itertools.pairwise(values))
    assert values[-1] <= best * (1.0 + 1e-9)
    assert values[-1] == pytest.approx(best, rel=3e-4)


@pytest.mark.parametrize(("h", "d", "m"), [(9, 3, 1), (9, 3, 2), (3, 6, 1), (1, 1, 1), (30, 2, 4)])
def test_the_gradient_of_the_smooth_bound(h, d, m):
    rng = np.random.default_rng(h)
    net = instance(h, h=h, d=d, m=m)[0]
    W, V = net.W.copy(), net.V.copy()
    for epsilon in (1e-1, 1e-2, 1e-3):
        bound = SmoothedBound(d, m)
        value, to_W, to_V = bound(W, V, epsilon)
        along_W, along_V = rng.standard_normal(W.shape), rng.standard_normal(V.shape)
        ends = [bound(W + t * along_W, V + t * along_V, epsilon)[0] for t in (1e-5, -1e-5)]
        slope = float(np.sum(to_W * along_W) + np.sum(to_V * along_V))
        assert (ends[0] - ends[1]) / 2e-5 == pytest.approx(slope, rel=1e-4, abs=1e-4)
        # ρ does not change when a unit is rescaled: Euler's relation, unit by unit
        np.testing.assert_allclose(np.sum(W * to_W, axis=1), np.sum(V * to_V, axis=0), atol=1e-9 * value)


def test_a_warm_start_changes_nothing():
    first, second = (instance(seed, h=20, d=5)[0] for seed in (1, 2))
    bound = SmoothedBound(5, 1)
    bound(first.W, first.V, 1e-4)
    warm = bound(second.W, second.V, 1e-4)
    cold = SmoothedBound(5, 1)(second.W, second.V, 1e-4)
    assert warm[0] == pytest.approx(cold[0], rel=1e-9)
    np.testing.assert_allclose(warm[1], cold[1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("scale", [1e-140, 1e-8, 1.0, 1e8, 1e140])
def test_the_smooth_bound_scales(scale):
    net = instance(3)[0]
    reference = SmoothedBound(3, 1)(net.W, net.V, 1e-3)[0]
    assert SmoothedBound(3, 1)(scale * net.W, net.V, scale * 1e-3)[0] == pytest.approx(scale * reference, rel=1e-9)


def test_units_that_are_zero_or_tiny_have_no_say():
    net = instance(4, h=6)[0]
    W, V = net.W.copy(), net.V.copy()
    W[0], V[:, 1], W[2], V[:, 2] = 0.0, 0.0, 1e-200 * W[2], 1e-200
    keep = slice(3, 6)
    value, to_W, to_V = SmoothedBound(3, 1)(W, V, 1e-3)
    assert value == pytest.approx(SmoothedBound(3, 1)(W[keep], V[:, keep], 1e-3)[0], rel=1e-9)
    assert np.isfinite(np.concatenate([to_W.ravel(), to_V.ravel()])).all()
    assert SmoothedBound(3, 1)(0.0 * W, V, 1e-3)[0] == 0.0


# ------------------------------------------------------------------------------------------- the smooth objective


@pytest.mark.parametrize("m", [1, 2])
def test_the_gradient_of_the_smooth_objective(m):
    net, X, y = instance(5, m=m)
    smooth = SmoothObjective(net, X, y, 0.05)
    x = smooth.parameters(net)
    along = np.random.default_rng(0).standard_normal(len(x))
    _, gradient = smooth(x, 1e-2)
    slope = (smooth(x + 1e-6 * along, 1e-2)[0] - smooth(x - 1e-6 * along, 1e-2)[0]) / 2e-6
    assert slope == pytest.approx(float(gradient @ along), rel=1e-5)
    assert smooth.n_evaluations == 3


@pytest.mark.parametrize("m", [1, 2])
def test_the_smooth_objective_is_the_objective_where_epsilon_is_small(m):
    net, X, y = instance(6, m=m)
    X, y = np.vstack([X, X[:7]]), np.vstack([y, y[3:10]])  # repeated rows with other targets
    smooth = SmoothObjective(net, X, y, 0.05)
    x = smooth.parameters(net)
    assert smooth(x, 1e-6)[0] == pytest.approx(certified(net, X, y, 0.05), rel=1e-5)
    assert smooth.network(x).forward(X) == pytest.approx(net.forward(X), rel=1e-12)
    assert SmoothObjective(net, X, y, 0.0)(x, 1.0)[0] == pytest.approx(mean_squared_error(net, X, y), rel=1e-12)


def test_dead_units_survive_the_change_of_parameters():
    net, X, y = instance(7)
    dead = ShallowNetwork(np.vstack([net.W, 0 * net.W[:2]]), [*net.b, 1.0, 0.0], [*net.V[0], 0.0, -3.0], net.c)
    for other in (dead, ShallowNetwork(dead.W, dead.b, np.vstack([dead.V, dead.V]), [0.0, 1.0])):
        targets = np.tile(y, (1, other.n_outputs))
        smooth = SmoothObjective(other, X, targets, 0.05)
        assert smooth.network(smooth.parameters(other)).forward(X) == pytest.approx(other.forward(X), rel=1e-12)


# ------------------------------------------------------------------------------------------------ what it returns


@pytest.mark.parametrize("m", [1, 2])
@pytest.mark.parametrize("weight", [0.0, 0.01, 1.0])
def test_every_step_is_a_certified_decrease(m, weight):
    net, X, y = instance(8, m=m)
    seen = []
    result = descend(net, X, y, weight, max_iterations=300, callback=lambda network, value: seen.append(value))
    assert result.objective == pytest.approx(certified(result.network, X, y, weight), abs=1e-9)
    assert all(a > b for a, b in itertools.pairwise([certified(net, X, y, weight), *seen]))
    assert result.objective == seen[-1]
    assert result.n_evaluations > 100
    assert result.network.units == net.units


def test_the_optimum_of_one_active_unit_is_ridge_regression():
    """Where the only unit is active on all samples, ρ is the squared slope and J that of a ridge regression."""
    rng = np.random.default_rng(9)
    X = rng.standard_normal((40, 2))
    y = X @ [1.0, -2.0] + 0.3 + 0.1 * rng.standard_normal(40)
    centred, weight = X - X.mean(axis=0), 0.2
    w = np.linalg.solve(centred.T @ centred / 40 + weight * np.eye(2), centred.T @ (y - y.mean()) / 40)
    best = np.mean((y - y.mean() - centred @ w) ** 2) + weight * w @ w
    start = ShallowNetwork([[0.5, -0.5]], [20.0], [1.0], 0.0)
    assert descend(start, X, y, weight, max_iterations=200).objective == pytest.approx(best, rel=1e-4)


def test_it_goes_beyond_the_cell():
    net, X, y = instance(10, h=20, d=2, n=60)
    inside = refine(net, X, y, 0.01, cells=1)
    beyond = descend(inside.network, X, y, 0.01, max_iterations=400)
    assert beyond.objective < inside.objective_after - 1e-4
    assert (beyond.network.patterns(X) != inside.network.patterns(X)).any()


def test_the_same_seed_gives_the_same_network_for_any_number_of_threads():
    net, X, y = instance(11)
    results = []
    for threads in (1, 2):
        with threadpool_limits(limits=threads):
            results.append(descend(net, X, y, 0.02, max_iterations=200, random_state=3, time_limit=60.0))
    assert results[0].network.digest == results[1].network.digest
    assert results[0].n_evaluations == results[1].n_evaluations


def test_nothing_better_returns_the_very_input():
    X = np.linspace(-1.0, 1.0, 9)[:, None]
    constant = ShallowNetwork(np.zeros((3, 1)), np.zeros(3), np.zeros(3), 2.0)
    result = descend(constant, X, np.full(9, 2.0), 0.1)
    assert result.network is constant
    assert result.objective == 0.0


def test_a_huge_weight_ends_at_the_constant():
    net, X, y = instance(12)
    result = descend(net, X, y, 1e8, max_iterations=200)
    assert result.objective <= np.var(y) * (1.0 + 1e-3)


@pytest.mark.parametrize("scale", [1e-150, 1e-5, 1e5, 1e150])
def test_odd_units_are_never_worse(scale):
    net, X, y = instance(13)
    odd = ShallowNetwork(scale * net.W, scale * net.b, net.V / scale, net.c)  # the same function, unbalanced
    result = descend(odd, X, y, 0.02, max_iterations=50)
    assert result.objective < certified(net, X, y, 0.02)
    raw = ShallowNetwork(scale * net.W, scale * net.b, net.V, scale * net.c)  # a function in other units
    try:
        before = certified(raw, X, y, 0.02)
    except CertnetError:
        return
    assert descend(raw, X, y, 0.02, max_iterations=50).objective <= before


def test_the_time_limit_is_kept(monkeypatch):
    net, X, y = instance(14, h=60, d=6, n=400)
    clock = Clock(0.001)
    monkeypatch.setattr(time, "perf_counter", clock)
    result = descend(net, X, y, 0.01, time_limit=0.2, max_iterations=10**6)
    assert clock.looks <= 220
    assert 10 < result.n_evaluations <= 220
    assert result.objective <= certified(net, X, y, 0.01)


def test_inputs_are_not_changed():
    net, X, y = instance(15)
    copies = X.copy(), y.copy()
    descend(net, X, y, 0.05, max_iterations=20)
    np.testing.assert_array_equal(X, copies[0])
    np.testing.assert_array_equal(y, copies[1])


# --------------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weight": -1.0}, "weight"),
        ({"weight": np.nan}, "weight"),
        ({"time_limit": 0.0}, "time_limit"),
        ({"max_iterations": 0}, "max_iterations"),
        ({"max_iterations": 1.5}, "max_iterations"),
        ({"random_state": -1}, "random_state"),
        ({"X": np.full((30, 3), np.nan)}, "NaN"),
        ({"X": np.zeros((30, 4))}, "4 columns"),
        ({"y": np.zeros(29)}, "29"),
        ({"network": "net"}, "ShallowNetwork"),
    ],
)
def test_bad_arguments_are_refused(change, message):
    net, X, y = instance()
    arguments = {"network": net, "X": X, "y": y, "weight": 0.1, **change}
    with pytest.raises(InvalidInputError, match=message):
        descend(**arguments)


def test_too_many_inputs_are_refused_saying_how_many_are_allowed():
    net, X, y = instance(16, d=MAX_ORDER)
    with pytest.raises(InvalidInputError, match=f"at most {MAX_ORDER}"):
        descend(net, X, y, 0.1)
    assert descend(net, X, y, 0.0, max_iterations=5).objective < mean_squared_error(net, X, y)
