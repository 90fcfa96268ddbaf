"""Invariants of refinement: never worse, certified, indifferent to order, repetition and units."""

import os
import warnings
from itertools import pairwise

import cvxpy as cp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPRegressor

from certnet import ShallowNetwork, from_sklearn, load_dataset, refine
from certnet.core.outcome import Status
from certnet.programs.objectives import objective

few = settings(max_examples=12, deadline=None, derandomize=True)
seeds = st.integers(0, 2**32 - 1)
weights = st.sampled_from([1e-4, 1e-2, 1.0])
kinds = st.sampled_from([{"cells": 1}, {"penalty": "l2"}, {"method": "alternating", "max_rounds": 1}])
ways = st.sampled_from([{"method": "alternating", "max_rounds": 3}, {}, {"effort": "quick"}])
# units that have all but vanished leave later alternating rounds a badly scaled program: it may end inaccurately
rounds_may_end_early = pytest.mark.filterwarnings("ignore::certnet.core.errors.NotConvergedWarning")


@st.composite
def instances(draw, outputs=(1, 1, 2)):
    """Network, X, y: Gaussian weights, with units switched off, duplicated or dead now and then."""
    rng = np.random.default_rng(draw(seeds))
    h, d, n = draw(st.integers(1, 8)), draw(st.integers(1, 4)), draw(st.integers(2, 30))
    m = draw(st.sampled_from(outputs))
    W, b, V = rng.standard_normal((h, d)), rng.standard_normal(h), rng.standard_normal((m, h))
    j = rng.integers(h)
    odd = draw(st.sampled_from(["no", "no", "no", "W", "V", "dead", "always", "twin"]))
    if odd == "W":
        W[j] = 0.0
    elif odd == "V":
        V[:, j] = 0.0
    elif odd in ("dead", "always"):
        b[j] = -30.0 if odd == "dead" else 30.0
    elif odd == "twin":
        W[0], b[0] = W[j], b[j]
    X = rng.standard_normal((n, d))
    y = np.cos(2.0 * X @ rng.standard_normal((d, m))) + 0.1 * rng.standard_normal((n, m))
    return ShallowNetwork(W, b, V, rng.standard_normal(m)), X, y


def optimum(net, X, y, weight, **options):
    """The last candidate's objective: what the program attains, whether or not it was accepted."""
    result = refine(net, X, y, weight, **options)
    assert result.status.ok
    return result.trace[-1].objective


@rounds_may_end_early
@few
@given(problem=instances(), weight=weights, kind=kinds | ways)
def test_never_worse_and_every_claim_can_be_checked(problem, weight, kind):
    net, X, y = problem
    result = refine(net, X, y, weight, **kind)
    penalty = kind.get("penalty", "lipschitz")
    assert result.objective_after <= result.objective_before
    assert result.certificate.check(result.network)
    assert result.improved or result.network is net
    again = objective(result.network, X, y, weight=weight, penalty=penalty, certificate=result.certificate)
    assert again == pytest.approx(result.objective_after, rel=1e-12)
    assert objective(result.network, X, y, weight=weight, penalty=penalty) == pytest.approx(again, rel=1e-5)
    assert result.certificate.lower <= result.certificate.upper


@few
@given(problem=instances(), weight=weights, kind=kinds)
def test_samples_given_twice_leave_the_optimum_unchanged(problem, weight, kind):
    net, X, y = problem
    once = optimum(net, X, y, weight, **kind)
    twice = optimum(net, np.vstack([X, X[::-1]]), np.vstack([y, y[::-1]]), weight, **kind)
    assert twice == pytest.approx(once, rel=1e-5, abs=1e-9)


@few
@given(problem=instances(), weight=weights, kind=kinds, order=st.randoms(use_true_random=False))
def test_the_order_of_units_and_samples_does_not_matter(problem, weight, kind, order):
    net, X, y = problem
    units, samples = list(range(net.n_hidden)), list(range(len(X)))
    order.shuffle(units)
    order.shuffle(samples)
    other = ShallowNetwork(net.W[units], net.b[units], net.V[:, units], net.c)
    shuffled = optimum(other, X[samples], y[samples], weight, **kind)
    assert shuffled == pytest.approx(optimum(net, X, y, weight, **kind), rel=1e-5, abs=1e-9)


@few
@given(
    problem=instances(),
    weight=weights,
    kappa=st.sampled_from([1e-2, 0.5, 100.0]),
    method=st.sampled_from(["joint", "alternating"]),
)
def test_rescaling_a_unit_leaves_the_optimum_unchanged(problem, weight, kappa, method):
    net, X, y = problem
    W, b, V = net.W.copy(), net.b.copy(), net.V.copy()
    W[0] /= kappa
    b[0] /= kappa
    V[:, 0] *= kappa
    options = {"method": method, "max_rounds": 1}
    rescaled = optimum(ShallowNetwork(W, b, V, net.c), X, y, weight, **options)
    # the alternating method's fixed multipliers are those of a search with a tolerance
    assert rescaled == pytest.approx(
        optimum(net, X, y, weight, **options), rel=1e-5 if method == "joint" else 1e-3, abs=1e-9
    )


@few
@given(
    problem=instances(),
    weight=weights,
    x_scale=st.sampled_from([1e-3, 20.0, 1e4]),
    y_scale=st.sampled_from([0.01, 1e3]),
)
def test_raw_and_standardised_units_agree(problem, weight, x_scale, y_scale):
    # mse' = r² mse and ρ' = (r/s)² ρ: with λ' = s² λ the objective is r² times as large
    net, X, y = problem
    raw = net.rescaled(x_shift=3.0 * x_scale, x_scale=x_scale, y_shift=-5.0 * y_scale, y_scale=y_scale)
    there = optimum(raw, (X + 3.0) * x_scale, (y - 5.0) * y_scale, weight * x_scale**2, cells=1)
    assert there / y_scale**2 == pytest.approx(optimum(net, X, y, weight, cells=1), rel=1e-4, abs=1e-8)


@few
@given(problem=instances(outputs=(1,)))
def test_without_a_penalty_it_is_the_least_squares_of_the_cell(problem):
    net, X, y = problem
    extended = np.column_stack([X, np.ones(len(X))])
    active = net.patterns(X)
    U, c = cp.Variable((net.n_hidden, X.shape[1] + 1)), cp.Variable()
    signs = np.where(net.V[0] >= 0.0, 1.0, -1.0)
    z = extended @ U.T
    fitted = cp.multiply(active.astype(float), z) @ signs + c
    least = cp.Problem(
        cp.Minimize(cp.sum_squares(fitted - y[:, 0]) / len(X)), [cp.multiply(2.0 * active - 1.0, z) >= 0]
    )
    least.solve(solver="CLARABEL", tol_gap_abs=1e-10, tol_gap_rel=1e-10)
    for kind in ({"cells": 1}, {"penalty": "l2"}):
        assert optimum(net, X, y, 0.0, **kind) == pytest.approx(float(least.value), rel=1e-5, abs=1e-8)


@few
@given(problem=instances())
def test_under_a_huge_penalty_the_network_is_nearly_constant(problem):
    net, X, y = problem
    variance = float(np.sum(np.var(y, axis=0)))
    for kind in ({"cells": 1}, {"penalty": "l2"}, {}):
        result = refine(net, X, y, 1e6, **kind)
        assert variance * (1 - 1e-4) <= result.objective_after <= variance * (1 + 1e-5)
        assert result.certificate.upper < 1e-4
        np.testing.assert_allclose(result.network.forward(X), np.tile(y.mean(axis=0), (len(X), 1)), atol=1e-3)


@rounds_may_end_early
@few
@given(problem=instances(), weight=weights)
def test_the_joint_optimum_is_at_most_that_of_the_alternating_rounds_which_decrease(problem, weight):
    net, X, y = problem
    joint = refine(net, X, y, weight, cells=1)
    alternating = refine(net, X, y, weight, method="alternating", max_rounds=4)
    values = [row.objective for row in alternating.trace]
    assert joint.objective_after <= alternating.objective_after * (1 + 1e-6) + 1e-9
    assert all(after <= before * (1 + 1e-6) + 1e-9 for before, after in pairwise(values))


@few
@given(problem=instances(outputs=(1,)))
def test_a_larger_weight_costs_accuracy_and_buys_a_smaller_bound(problem):
    net, X, y = problem
    path = [refine(net, X, y, weight, cells=1).trace[-1] for weight in (1e-3, 1e-2, 1e-1)]
    for loose, tight in pairwise(path):
        assert tight.mse >= loose.mse * (1 - 1e-4) - 1e-8
        assert tight.upper <= loose.upper * (1 + 1e-3) + 1e-6


@few
@given(problem=instances(outputs=(1,)), weight=weights, seed=st.integers(0, 99), kind=kinds)
def test_sampled_patterns_are_never_worse_than_the_input(problem, weight, seed, kind):
    net, X, y = problem
    result = refine(net, X, y, weight, patterns="sampled", random_state=seed, **kind)
    assert result.objective_after <= result.objective_before
    assert result.certificate.check(result.network)
    assert result.candidate is not None
    assert result.status.ok


# ------------------------------------------------------------------------------------------------ real data


def trained(X, y, h):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = MLPRegressor(hidden_layer_sizes=(h,), alpha=0.01, max_iter=300, random_state=0).fit(X, y)
    return from_sklearn(model, units="standardised")


def assert_joint_wins(X, y, h, weight):
    net = trained(X, y, h)
    joint = refine(net, X, y, weight, cells=1)
    alternating = refine(net, X, y, weight, method="alternating", max_rounds=10)
    values = [row.objective for row in alternating.trace]
    assert joint.improved
    assert joint.status is Status.OPTIMAL
    assert joint.objective_after <= alternating.objective_after * (1 + 1e-7)
    assert all(after < before * (1 + 1e-7) for before, after in pairwise(values))
    assert joint.certificate.check(joint.network)


def test_joint_against_ten_alternating_rounds_on_diabetes():
    data = load_dataset("diabetes")
    assert_joint_wins(data.X_train[:80, 2:6], data.y_train[:80], 12, 0.01)


@pytest.mark.skipif("CERTNET_DATA_HOME" not in os.environ, reason="CERTNET_DATA_HOME is unset: no servo data")
def test_joint_against_ten_alternating_rounds_on_servo():
    data = load_dataset("servo", download=False)
    assert_joint_wins(data.X_train, data.y_train, 20, 0.01)
