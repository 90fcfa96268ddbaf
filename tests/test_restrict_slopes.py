"""Monotone features and limits on slopes inside the restriction: against CVXPY, and on the networks that come out."""

from __future__ import annotations

from fractions import Fraction

import cvxpy as cp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from instances import instance

from certnet import ShallowNetwork
from certnet.core.errors import InvalidInputError, UnsupportedModelError
from certnet.core.outcome import Status
from certnet.programs.goal import FitAtMost, SlopeAtMost, Weighted
from certnet.programs.penalties import LipschitzPenalty, penalty_named
from certnet.programs.restriction import Restriction, network_from, whole_cell
from certnet.programs.slopes import SlopeLimits
from certnet.solvers.cvxpy_ import ConicSolver
from certnet.solvers.own import OwnSolver

INF = np.inf
LIMITS = {
    "monotone": {"monotone": [1, 0, -1]},
    "limits": {"lower": [-INF, -0.1, -0.2], "upper": [0.3, INF, 0.2]},
    "both on one feature": {"monotone": [1, 0, 0], "upper": [0.5, INF, INF]},
    "all": {"monotone": [1, -1, 0], "lower": [-INF, -0.3, -0.4], "upper": [0.6, INF, 0.3]},
    "slack": {"lower": [-1e3] * 3, "upper": [1e3] * 3},
}


def sloping(seed, *, n=25, h=7):
    net, X, y = instance(seed, h=h, d=3, n=n)
    return net, X, y + X[:, :1]


def program_of(net, X, y, limits, goal=None, penalty="lipschitz"):
    cell = whole_cell(net)
    return Restriction.of(cell, X, y, penalty_named(penalty), goal or Weighted(0.02), slopes=limits)


def by_hand(net, X, y, limits, penalty, weight=0.02):
    """The program unit by unit, one output, nothing merged, LMI in one block."""
    n, d = X.shape
    h, s = net.n_hidden, np.sign(net.V[0])
    extended = np.column_stack([X, np.ones(n)])
    active = (extended @ np.column_stack([net.W, net.b]).T >= 0.0).astype(float)
    U, c = cp.Variable((h, d + 1)), cp.Variable()
    f = sum(s[j] * cp.multiply(active[:, j], extended @ U[j]) for j in range(h)) + c
    constraints = [cp.multiply(2.0 * active[:, j] - 1.0, extended @ U[j]) >= 0 for j in range(h)]
    for i in range(d):
        slopes = cp.multiply(s, U[:, i])
        if np.isfinite(limits.upper[i]):
            constraints.append(cp.sum(cp.pos(slopes)) <= limits.upper[i])
        if np.isfinite(limits.lower[i]):
            constraints.append(cp.sum(cp.neg(slopes)) <= -limits.lower[i])
    mse = cp.sum_squares(f - y[:, 0]) / n
    if penalty == "l2":
        charge = 2.0 * sum(cp.norm(U[j], 2) for j in range(h))
    else:
        charge, eta = cp.Variable(), cp.Variable(h)
        B = cp.multiply(s[:, None], U[:, :d])
        g = cp.reshape(cp.sum(B, axis=0), (d, 1), order="C")
        corner = cp.reshape(4.0 - 2.0 * cp.sum(eta), (1, 1), order="C")
        zero = np.zeros((h, 1))
        constraints.append(
            cp.bmat([[charge * np.eye(d), B.T, g], [B, 2.0 * cp.diag(eta), zero], [g.T, zero.T, corner]]) >> 0
        )
    problem = cp.Problem(cp.Minimize(mse + weight * charge), constraints)
    problem.solve(solver="CLARABEL", tol_gap_abs=1e-9, tol_gap_rel=1e-9, tol_feas=1e-9)
    return float(problem.value)


def exact_ends(net):
    """``Σ_j min(v_j w_ji, 0)`` and the same with max, as rational numbers."""
    products = [[Fraction(float(net.V[0, j])) * Fraction(float(w)) for w in net.W[j]] for j in range(net.n_hidden)]
    d = net.n_inputs
    low = [sum(min(row[i], Fraction(0)) for row in products) for i in range(d)]
    return low, [sum(max(row[i], Fraction(0)) for row in products) for i in range(d)]


@pytest.mark.parametrize("penalty", ["lipschitz", "l2"])
@pytest.mark.parametrize("case", LIMITS)
@pytest.mark.parametrize("seed", [0, 1])
def test_both_solvers_find_the_optimum_of_the_formula(seed, case, penalty):
    net, X, y = sloping(seed)
    limits = SlopeLimits.of(3, **LIMITS[case])
    program = program_of(net, X, y, limits, penalty=penalty)
    own = OwnSolver().solve(program, start=whole_cell(net).point)
    assert own.status is Status.OPTIMAL, own.solver_status
    assert abs(own.gap) <= 1e-6
    reference = by_hand(net, X, y, limits, penalty)
    assert own.value == pytest.approx(reference, rel=2e-6)
    if seed == 0:
        generic = ConicSolver("CLARABEL", 1e-9).solve(program)
        assert generic.value == pytest.approx(reference, rel=1e-5)
    assert program.cell_violation(own.solution.U) <= 1e-14


@pytest.mark.parametrize("case", LIMITS)
@pytest.mark.parametrize("solver", [OwnSolver(), ConicSolver("CLARABEL")], ids=["own", "clarabel"])
def test_the_network_keeps_the_limits_exactly(case, solver):
    net, X, y = sloping(2)
    limits = SlopeLimits.of(3, **LIMITS[case])
    program = program_of(net, X, y, limits)
    solution = solver.solve(program, start=whole_cell(net).point).solution
    low, high = exact_ends(network_from(solution, program.directions, "raw"))
    assert all(low[i] >= limits.lower[i] for i in range(3))
    assert all(high[i] <= limits.upper[i] for i in range(3))


@pytest.mark.parametrize("goal", [SlopeAtMost(0.6), FitAtMost(0.8, 0.02), Weighted(0.0)])
def test_every_goal_keeps_signs(goal):
    net, X, y = sloping(1)
    limits = SlopeLimits.of(3, **LIMITS["all"])
    program = program_of(net, X, y, limits, goal)
    own = OwnSolver().solve(program, start=whole_cell(net).point)
    assert own.status is Status.OPTIMAL, own.solver_status
    assert own.value == pytest.approx(ConicSolver("CLARABEL", 1e-9).solve(program).value, rel=1e-4)
    assert limits.violation(program.directions, own.solution.U) == 0.0


def test_a_start_on_the_boundary_is_moved_inside():
    """Weights of the wrong sign set to zero: every unit lies on an edge."""
    net, X, y = sloping(3)
    W = np.where(net.V.T * net.W > 0.0, net.W, 0.0)
    W[:, 1:] = net.W[:, 1:]
    net = ShallowNetwork(W, net.b, net.V, net.c)
    limits = SlopeLimits.of(3, monotone=[1, 0, 0])
    program = program_of(net, X, y, limits)
    assert limits.violation(program.directions, whole_cell(net).point[0]) == 0.0
    own = OwnSolver().solve(program, start=whole_cell(net).point)
    assert own.status is Status.OPTIMAL
    assert own.value == pytest.approx(by_hand(net, X, y, limits, "lipschitz"), rel=2e-6)


def test_signs_beside_columns_that_depend_on_each_other():
    net, X, y = sloping(4)
    X[:, 2] = X[:, 0] - X[:, 1]
    limits = SlopeLimits.of(3, monotone=[1, 1, 1])
    own = OwnSolver().solve(program_of(net, X, y, limits), start=whole_cell(net).point)
    assert own.status is Status.OPTIMAL
    assert own.value == pytest.approx(by_hand(net, X, y, limits, "lipschitz"), rel=2e-6)


def test_units_that_are_always_or_never_active_keep_signs_too():
    net, X, y = sloping(5)
    b = net.b + np.array([50.0, -50.0, 50.0, 0.0, 0.0, 0.0, 0.0])
    net = ShallowNetwork(net.W, b, net.V, net.c)
    limits = SlopeLimits.of(3, monotone=[-1, 1, 0])
    own = OwnSolver().solve(program_of(net, X, y, limits), start=whole_cell(net).point)
    assert own.status is Status.OPTIMAL
    assert own.value == pytest.approx(by_hand(net, X, y, limits, "lipschitz"), rel=2e-6)


def test_a_feature_without_any_slope_is_left_to_the_generic_solver():
    net, X, y = sloping(6)
    limits = SlopeLimits.of(3, lower=[0.0, -INF, -INF], upper=[0.0, INF, INF])
    program = program_of(net, X, y, limits)
    own = OwnSolver().solve(program, start=whole_cell(net).point)
    assert own.solution is None
    assert "feature 0 may neither rise nor fall" in own.solver_status
    generic = ConicSolver("CLARABEL").solve(program)
    assert generic.status is Status.OPTIMAL
    assert not generic.solution.U[:, 0].any()


def test_slack_limits_change_nothing():
    net, X, y = sloping(0)
    start = whole_cell(net).point
    free = OwnSolver().solve(program_of(net, X, y, None), start=start)
    slack = OwnSolver().solve(program_of(net, X, y, SlopeLimits.of(3, **LIMITS["slack"])), start=start)
    assert slack.value == pytest.approx(free.value, rel=2e-6)


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 10**6), st.sampled_from(sorted(LIMITS)))
def test_whatever_is_brought_within_the_limits_lies_within_them(seed, case):
    rng = np.random.default_rng(seed)
    U, s = rng.standard_normal((6, 4)), rng.choice([-1.0, 1.0], (1, 6))
    limits = SlopeLimits.of(3, **LIMITS[case])
    kept = limits.within(s, U)
    assert limits.violation(s, kept) == 0.0
    assert limits.within(s, kept) == pytest.approx(kept, rel=1e-11)
    assert (np.abs(kept) <= np.abs(U)).all()
    assert (kept[:, -1] == U[:, -1]).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"monotone": [1, 0]}, "-1, 0 or 1, one for each of 3"),
        ({"monotone": [2, 0, 0]}, "-1, 0 or 1"),
        ({"lower": [0.1, 0.0, 0.0]}, "leave out zero"),
        ({"upper": [INF, -0.1, 0.0]}, "feature 1 leave out zero"),
        ({"upper": [np.nan, 0.0, 0.0]}, "upper limits"),
        ({"lower": [0.0]}, "lower limits on slopes are 3"),
    ],
)
def test_limits_that_make_no_sense_are_refused(options, message):
    with pytest.raises(InvalidInputError, match=message):
        SlopeLimits.of(3, **options)


def test_no_limit_at_all_is_none():
    assert SlopeLimits.of(3) is None
    assert SlopeLimits.of(2, monotone=[0, 0], upper=[INF, INF]) is None


def test_limits_need_one_output_and_a_number_for_every_feature():
    net, X, y = instance(0, m=2)
    limits = SlopeLimits.of(2, monotone=[1, 0])
    with pytest.raises(UnsupportedModelError, match="one output, the network has 2"):
        Restriction.of(whole_cell(net), X, y, LipschitzPenalty(), Weighted(0.1), slopes=limits)
    net, X, y = instance(0, d=3)
    with pytest.raises(InvalidInputError, match="2 features: there are 3"):
        Restriction.of(whole_cell(net), X, y, LipschitzPenalty(), Weighted(0.1), slopes=limits)
