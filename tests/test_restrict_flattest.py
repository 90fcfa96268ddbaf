"""Where a limit on the slope is slack: the flattest of the best fits, against a lexicographic program."""

from __future__ import annotations

from dataclasses import replace

import cvxpy as cp
import numpy as np
import pytest
from instances import instance

from certnet.core.outcome import Status
from certnet.programs.goal import SlopeAtMost
from certnet.programs.penalties import LipschitzPenalty
from certnet.programs.restriction import Restriction, whole_cell
from certnet.programs.slopes import SlopeLimits
from certnet.solvers.cvxpy_ import ConicSolver
from certnet.solvers.flattest import flattened
from certnet.solvers.interior import InteriorPoint
from certnet.solvers.own import OwnSolver
from certnet.solvers.solved import Solved


def interpolating(seed=1):
    """Targets that a network of the cell meets exactly, few of them."""
    net, X, _ = instance(seed, h=7, d=3, n=8)
    return net, X, net.forward(X).reshape(-1, 1)


def noisy(seed=1):
    return instance(seed, h=7, d=3, n=25)


def program_of(net, X, y, limit, slopes=None):
    return Restriction.of(whole_cell(net), X, y, LipschitzPenalty(), SlopeAtMost(limit), slopes=slopes)


def lexicographic(net, X, y):
    """The least error, then the least ρ with it (to 1e-6 of it and 1e-10 of the variance), one output, one block."""
    n, d = X.shape
    h, s = net.n_hidden, np.sign(net.V[0])
    extended = np.column_stack([X, np.ones(n)])
    active = (extended @ np.column_stack([net.W, net.b]).T >= 0.0).astype(float)
    U, c, rho, eta = cp.Variable((h, d + 1)), cp.Variable(), cp.Variable(), cp.Variable(h)
    f = sum(s[j] * cp.multiply(active[:, j], extended @ U[j]) for j in range(h)) + c
    B = cp.multiply(s[:, None], U[:, :d])
    g = cp.reshape(cp.sum(B, axis=0), (d, 1), order="C")
    corner, zero = cp.reshape(4.0 - 2.0 * cp.sum(eta), (1, 1), order="C"), np.zeros((h, 1))
    cell = [cp.multiply(2.0 * active[:, j] - 1.0, extended @ U[j]) >= 0 for j in range(h)]
    lmi = cp.bmat([[rho * np.eye(d), B.T, g], [B, 2.0 * cp.diag(eta), zero], [g.T, zero.T, corner]]) >> 0
    mse = cp.sum_squares(f - y[:, 0]) / n
    how = {"solver": "CLARABEL", "tol_gap_abs": 1e-9, "tol_gap_rel": 1e-9, "tol_feas": 1e-9}
    cp.Problem(cp.Minimize(mse), cell).solve(**how)
    least = max(0.0, float(mse.value))
    cp.Problem(cp.Minimize(rho), [*cell, lmi, mse <= least * (1.0 + 1e-6) + 1e-10 * np.var(y)]).solve(**how)
    return least, float(rho.value)


@pytest.mark.parametrize("limit", [1.5, 5.0, 1e3, 1e9])
@pytest.mark.parametrize("data", [interpolating, noisy])
def test_the_flattest_of_the_best_fits_is_returned(data, limit):
    net, X, y = data()
    least, rho = lexicographic(net, X, y)
    own = OwnSolver().solve(program_of(net, X, y, limit), start=whole_cell(net).point)
    assert own.status is Status.OPTIMAL
    assert own.gap <= 1e-6
    assert own.value <= least * (1.0 + 2e-6) + 1e-9 * np.var(y)
    assert own.solution.rho == pytest.approx(rho, rel=0.02)
    assert own.solution.rho <= limit**2


def test_the_generic_solver_does_the_same():
    net, X, y = noisy()
    least, rho = lexicographic(net, X, y)
    solved = ConicSolver("CLARABEL").solve(program_of(net, X, y, 50.0))
    assert solved.value == pytest.approx(least, rel=1e-5)
    assert solved.solution.rho <= rho * 1.02
    assert "the limit is slack" in solved.solver_status


@pytest.mark.parametrize("data", [interpolating, noisy])
def test_a_limit_that_binds_is_left_alone(data):
    net, X, y = data()
    program = program_of(net, X, y, 0.3)
    plain = InteriorPoint().solve(program, start=whole_cell(net).point)
    own = OwnSolver().solve(program, start=whole_cell(net).point)
    assert own.steps == plain.steps
    assert own.solver_status == "converged"
    assert own.solution.rho == pytest.approx(0.09, rel=1e-4)


def test_limits_on_slopes_stay_kept():
    net, X, y = noisy(2)
    limits = SlopeLimits.of(3, monotone=[1, 0, -1])
    program = program_of(net, X, y, 100.0, limits)
    own = OwnSolver().solve(program, start=whole_cell(net).point)
    assert own.status is Status.OPTIMAL
    assert "the limit is slack" in own.solver_status
    assert limits.violation(program.directions, own.solution.U) == 0.0


def test_what_the_search_does_not_give_changes_nothing():
    net, X, y = noisy()
    program = program_of(net, X, y, 50.0)
    plain = InteriorPoint().solve(program, start=whole_cell(net).point)
    failed = Solved(None, Status.SOLVER_FAILED, "no")
    assert flattened(program, plain, lambda _: failed) is plain
    assert flattened(program, plain, lambda _: plain) is plain  # no flatter
    stopped = flattened(program, plain, lambda _: replace(failed, status=Status.INTERRUPTED))
    assert stopped.status is Status.INTERRUPTED
    assert stopped.solution is plain.solution
