"""Huber's loss in the restriction: rounds of the own solver against CVXPY, with a bound below that holds."""

from __future__ import annotations

from dataclasses import replace

import cvxpy as cp
import numpy as np
import pytest
from instances import instance

from certnet.core.errors import SolverUnavailableError
from certnet.core.outcome import Status
from certnet.programs.goal import FitAtMost, SlopeAtMost, Weighted
from certnet.programs.loss import Huber
from certnet.programs.penalties import penalty_named
from certnet.programs.restriction import Restriction, whole_cell
from certnet.programs.slopes import SlopeLimits
from certnet.solvers.cvxpy_ import ConicSolver
from certnet.solvers.dual_bound import lower_bound
from certnet.solvers.huber import HuberRounds
from certnet.solvers.interior import InteriorPoint
from certnet.solvers.own import OwnSolver
from certnet.solvers.watch import Watch


def with_outliers(seed=0, *, m=1, n=40):
    net, X, y = instance(seed, h=7, d=3, n=n, m=m)
    return net, X, y + 3.0 * (np.random.default_rng(seed).random(y.shape) < 0.15)


def program_of(net, X, y, delta, goal=None, penalty="lipschitz", **more):
    return Restriction.of(
        whole_cell(net), X, y, penalty_named(penalty), goal or Weighted(0.02), loss=Huber(delta), **more
    )


def by_hand(net, X, y, delta, weight=0.02):
    """The ℓ2 program, sample by sample, with CVXPY's own Huber function."""
    n, d = X.shape
    extended = np.column_stack([X, np.ones(n)])
    active = (extended @ np.column_stack([net.W, net.b]).T >= 0.0).astype(float)
    V = net.V / np.linalg.norm(net.V, axis=0)
    U, c = cp.Variable((net.n_hidden, d + 1)), cp.Variable(net.n_outputs)
    fit = 0.0
    for o in range(net.n_outputs):
        f = sum(V[o, j] * cp.multiply(active[:, j], extended @ U[j]) for j in range(net.n_hidden)) + c[o]
        fit += cp.sum(cp.huber(f - y[:, o], delta)) / n
    cones = [cp.multiply(2.0 * active[:, j] - 1.0, extended @ U[j]) >= 0 for j in range(net.n_hidden)]
    problem = cp.Problem(cp.Minimize(fit + 2.0 * weight * sum(cp.norm(U[j], 2) for j in range(net.n_hidden))), cones)
    problem.solve(solver="CLARABEL", tol_gap_abs=1e-9, tol_gap_rel=1e-9, tol_feas=1e-9)
    return float(problem.value)


@pytest.mark.parametrize("m", [1, 2])
def test_the_l2_program_agrees_with_the_formula(m):
    net, X, y = with_outliers(m, m=m)
    expected = by_hand(net, X, y, 0.5)
    program = program_of(net, X, y, 0.5, penalty="l2")
    own = OwnSolver().solve(program, start=whole_cell(net).point)
    assert own.gap <= 1e-4
    assert own.value == pytest.approx(expected, rel=1e-5)
    assert own.lower <= expected * (1.0 + 1e-8)
    assert ConicSolver("CLARABEL", 1e-9).solve(program).value == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("goal", [Weighted(0.02), SlopeAtMost(0.4)])
@pytest.mark.parametrize(("delta", "tolerance"), [(0.1, 1e-3), (0.5, 1e-5), (100.0, 2e-6)])
def test_rounds_end_at_the_optimum(delta, tolerance, goal):
    program = program_of(*(data := with_outliers(0)), delta, goal)
    own = OwnSolver().solve(program, start=whole_cell(data[0]).point)
    reference = ConicSolver("CLARABEL", 1e-9).solve(program).value
    assert own.value == pytest.approx(reference, rel=tolerance)
    assert own.lower <= reference * (1.0 + 1e-7)
    assert own.value == program.objective(own.solution)
    assert own.gap == pytest.approx((own.value - own.lower) / own.value, rel=1e-9)


def test_a_threshold_above_every_residual_is_the_squared_loss():
    net, X, y = with_outliers(3)
    start = whole_cell(net).point
    squared = Restriction.of(whole_cell(net), X, y, penalty_named("lipschitz"), Weighted(0.02))
    wide = OwnSolver().solve(program_of(net, X, y, 1e3), start=start)
    assert wide.status is Status.OPTIMAL
    assert wide.value == pytest.approx(OwnSolver().solve(squared, start=start).value, rel=2e-6)


def test_weights_rows_that_repeat_and_signs_go_together_with_it():
    net, X, y = with_outliers(4)
    X, y = np.repeat(X[:20], 2, axis=0), y
    w = np.random.default_rng(0).exponential(size=40)
    limits = SlopeLimits.of(3, monotone=[1, 0, 0])
    program = program_of(net, X, y, 0.5, sample_weight=w, slopes=limits)
    U, c = whole_cell(net).point
    f = np.maximum(np.column_stack([X, np.ones(40)]) @ U.T, 0.0) @ program.directions.T + c
    r = np.abs(f - y)
    charged = np.where(r <= 0.5, r**2, 2.0 * 0.5 * r - 0.25)
    assert program.fit(U, c) == pytest.approx(float(w @ charged[:, 0] / w.sum()), rel=1e-12)
    own = OwnSolver().solve(program, start=(U, c))
    assert own.value == pytest.approx(ConicSolver("CLARABEL", 1e-9).solve(program).value, rel=1e-4)
    assert limits.violation(program.directions, own.solution.U) == 0.0


def test_any_residuals_bound_the_optimum_from_below():
    net, X, y = with_outliers(5)
    program = program_of(net, X, y, 0.3)
    own = OwnSolver().solve(program, start=whole_cell(net).point)
    rng = np.random.default_rng(0)
    for scale in (0.1, 1.0, 10.0):
        noisy = replace(own.dual, residual=own.dual.residual + scale * rng.standard_normal(own.dual.residual.shape))
        assert lower_bound(program, noisy) <= own.value


def test_what_it_cannot_do_is_refused():
    net, X, y = with_outliers(6)
    program = program_of(net, X, y, 0.3, FitAtMost(0.5))
    solved = OwnSolver().solve(program)
    assert solved.solution is None
    assert "no limit on Huber's loss" in solved.solver_status
    assert ConicSolver("CLARABEL").solve(program).status is Status.OPTIMAL
    with pytest.raises(SolverUnavailableError, match="rounds are for"):
        HuberRounds().solve(program)
    with pytest.raises(SolverUnavailableError, match="squared loss"):
        InteriorPoint().solve(program_of(net, X, y, 0.3))


def test_an_interrupt_keeps_the_best_round():
    net, X, y = with_outliers(7)
    program = program_of(net, X, y, 0.3)
    asked = []
    watch = Watch.within(None, lambda: len(asked) > 30, asked.append)
    solved = HuberRounds().solve(program, start=whole_cell(net).point, watch=watch)
    assert solved.status is Status.INTERRUPTED
    assert solved.value == program.objective(solved.solution)
