"""certnet's own solver of the restriction: against Clarabel, against its own dual bound, and on hard data."""

import warnings
from dataclasses import replace

import cvxpy as cp
import numpy as np
import pytest
from instances import instance

from certnet import ShallowNetwork, certify, refine
from certnet.core.errors import SolverUnavailableError
from certnet.core.outcome import Status
from certnet.programs.goal import FitAtMost, SlopeAtMost, Weighted
from certnet.programs.objectives import objective
from certnet.programs.penalties import LipschitzPenalty, NormPenalty, certified_rho, penalty_named
from certnet.programs.restriction import Restriction, network_from, sampled_cell, whole_cell
from certnet.solvers import dual_bound
from certnet.solvers.budget import BudgetSearch
from certnet.solvers.cvxpy_ import ConicSolver, build
from certnet.solvers.dual_bound import DualPoint, lower_bound
from certnet.solvers.interior import InteriorPoint
from certnet.solvers.newton import NewtonSystem
from certnet.solvers.watch import Watch
from certnet.solvers.whitened import Whitened


def solve(program, *, start=None, tol=1e-6, **watch):
    return InteriorPoint(tol).solve(program, start=start, watch=Watch.within(watch.pop("time_limit", None), **watch))


def solve_under(program, limit, *, start=None):
    """With a limit on ρ."""
    return solve(replace(program, goal=SlopeAtMost(np.sqrt(limit))), start=start)


def solve_budget(program, budget, *, start=None):
    return BudgetSearch().solve(replace(program, goal=FitAtMost(budget, program.goal.weight)), start=start)


def random_instance(seed):
    rng = np.random.default_rng(1000 + seed)
    sizes = {"h": int(rng.integers(1, 9)), "d": int(rng.integers(1, 5)), "n": int(rng.integers(2, 40))}
    net, X, y = instance(seed, m=int(rng.choice([1, 1, 1, 2, 3])), **sizes)
    return net, X, y, 10.0 ** rng.uniform(-4, 1)


def start_of(net):
    return np.linalg.norm(net.V, axis=0)[:, None] * np.column_stack([net.W, net.b]), net.c


def restriction(net, X, y, weight=0.01, penalty="lipschitz", eta=None):
    kind = penalty_named(penalty) if eta is None else LipschitzPenalty(eta)
    return Restriction.of(whole_cell(net), X, y, kind, Weighted(weight))


def certified_eta(net):
    """As the alternating method takes it, kept off the edge where K is singular."""
    certificate = certify(net, tol=1e-6)
    T = certificate.upper * np.asarray(certificate.multipliers)
    v = np.sum(net.V**2, axis=0)
    eta = np.maximum(np.divide(v, T, out=np.zeros_like(T), where=T > 0.0), 1e-6 / len(v))
    return 0.99 * eta


def clarabel(program):
    outcome = ConicSolver("CLARABEL", 1e-9).solve(program)
    point = outcome.solution
    fit = program.fit(point.U, point.c)
    if isinstance(program.penalty, NormPenalty):
        return fit + 2.0 * program.goal.weight * np.linalg.norm(point.U, axis=1).sum()
    return fit + program.goal.weight * point.rho


def agrees(program, outcome, reference, tol=1e-6):
    assert outcome.status is Status.OPTIMAL, outcome.solver_status
    assert 0.0 <= outcome.gap <= tol or abs(outcome.gap) < 1e-9
    assert outcome.residuals.primal <= 1e-14
    assert outcome.value == pytest.approx(program.objective(outcome.solution), rel=1e-12)
    size = max(abs(reference), 1e-6)
    assert outcome.value <= reference + 2e-6 * size  # the reference may be a little above
    assert outcome.lower <= outcome.value + 1e-9 * size
    assert outcome.lower <= reference + 1e-6 * size  # which may be outside the cell by its tolerance
    assert reference - outcome.value <= 2e-5 * size


# ------------------------------------------------------------------------------------------------ the same optimum


@pytest.mark.parametrize("seed", range(50))
@pytest.mark.parametrize("form", ["joint", "fixed", "l2"])
def test_random_programs_agree_with_clarabel(seed, form):
    net, X, y, weight = random_instance(seed)
    eta = certified_eta(net) if form == "fixed" else None
    program = restriction(net, X, y, weight, "l2" if form == "l2" else "lipschitz", eta)
    agrees(program, solve(program, start=start_of(net)), clarabel(program))


@pytest.mark.parametrize("seed", range(50, 100))
def test_constrained_rho_agrees_with_clarabel(seed):
    net, X, y, _ = random_instance(seed)
    program = restriction(net, X, y, 0.0)
    limit = 10.0 ** np.random.default_rng(seed).uniform(-2, 1)
    outcome = solve_under(program, limit, start=start_of(net))
    assert outcome.status is Status.OPTIMAL
    assert outcome.gap <= 1e-6
    assert certified_rho(program.directions, outcome.solution.U, outcome.solution.eta) <= limit * (1.0 + 1e-9)
    problem, variables = build(program)
    problem = cp.Problem(problem.objective, [*problem.constraints, variables["rho"] <= limit])
    problem.solve(solver="CLARABEL", tol_gap_abs=1e-10, tol_gap_rel=1e-9, tol_feas=1e-9)
    assert outcome.value == pytest.approx(float(problem.value) + program.spread, rel=3e-6, abs=1e-8)


@pytest.mark.parametrize("seed", range(100, 160))
def test_budgets_agree_with_clarabel(seed):
    net, X, y, _ = random_instance(seed)
    program = restriction(net, X, y, 0.0)
    low = solve(program, start=start_of(net)).value
    flat = float(np.mean((y - y.mean(axis=0)) ** 2)) * y.shape[1]
    budget = low + (flat - low) * np.random.default_rng(seed).uniform(0.05, 0.9)
    outcome = solve_budget(program, budget, start=start_of(net))
    # where the optimal ρ is a millionth of the data's scale its last digit is out of reach
    assert outcome.status in (Status.OPTIMAL, Status.MAX_ITERATIONS), outcome.solver_status
    assert 0.0 <= outcome.gap <= (1e-6 if outcome.status.ok else 1e-5)
    assert program.fit(outcome.solution.U, outcome.solution.c) <= budget * (1.0 + 1e-12)
    problem, variables = build(program)
    fit = problem.objective.args[0] <= budget - program.spread
    problem = cp.Problem(cp.Minimize(variables["rho"]), [*problem.constraints, fit])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # four of these are too flat for the generic solver's own tolerance
        problem.solve(solver="CLARABEL", tol_gap_abs=1e-10, tol_gap_rel=1e-9, tol_feas=1e-9)
    reference = max(0.0, float(problem.value))  # it may end a little below what ρ can be
    assert outcome.value <= reference * (1.0 + 5e-5) + 1e-8
    if problem.status == "optimal":
        assert outcome.value == pytest.approx(reference, rel=5e-5, abs=1e-8)


def test_a_budget_below_the_cell_s_reach_is_refused_with_its_least_error():
    net, X, y = instance(2)
    program = restriction(net, X, y)
    low = solve(replace(program, goal=Weighted(0.0)), start=start_of(net)).value
    outcome = solve_budget(program, 0.5 * low, start=start_of(net))
    assert outcome.solution is None
    assert outcome.status is Status.SOLVER_FAILED
    assert "no network of the cell" in outcome.solver_status


def test_a_generous_budget_gives_the_constant_network():
    net, X, y = instance(2)
    outcome = solve_budget(restriction(net, X, y), 1e3)
    assert outcome.value == 0.0
    assert not outcome.solution.U.any()


def test_sampled_cells_hold_each_pattern_twice():
    net, X, y = instance(7, h=8, n=25)
    cell = sampled_cell(net, 4, np.random.default_rng(0))
    program = Restriction.of(cell, X, y, LipschitzPenalty(), Weighted(0.02))
    start = np.column_stack([net.W, net.b])[cell.units]
    agrees(program, solve(program, start=(start, net.c)), clarabel(program))


def test_both_linear_systems_reach_the_same_optimum(monkeypatch):
    net, X, y = instance(8, h=10, d=3, n=30)
    program = restriction(net, X, y)
    values = []
    begin = NewtonSystem.__init__
    for dense in (True, False):
        monkeypatch.setattr(NewtonSystem, "__init__", lambda self, *a, dense=dense: begin(self, *a, dense=dense))
        values.append(solve(program, start=start_of(net), tol=1e-8).value)
    assert values[0] == pytest.approx(values[1], rel=2e-8)


# ------------------------------------------------------------------------------------------------ the dual bound


@pytest.mark.parametrize("penalty", ["lipschitz", "l2"])
@pytest.mark.parametrize("m", [1, 2])
def test_any_dual_guess_bounds_the_optimum_from_below(penalty, m):
    net, X, y = instance(20 + m, m=m, h=6, d=3, n=20)
    program = restriction(net, X, y, 0.03, penalty)
    best = solve(program, start=start_of(net)).value
    rng = np.random.default_rng(0)
    for scale in (1e-3, 0.1, 1.0, 10.0):
        P = rng.standard_normal((3, 5))
        Q = rng.standard_normal((m, 4))
        guess = DualPoint(
            scale * rng.standard_normal((len(program.rows), m)),
            scale * rng.exponential(size=(len(program.rows), 6)),
            P @ P.T,
            scale * rng.standard_normal((3, m)),
            Q @ Q.T,
            scale * rng.standard_normal((6, 3)) if scale > 0.5 else None,
        )
        assert program.spread <= lower_bound(program, guess) <= best


def test_the_bound_survives_a_disturbed_dual_point():
    net, X, y = instance(30, h=8, d=3, n=40)
    program = restriction(net, X, y)
    outcome = solve(program, start=start_of(net))
    rng = np.random.default_rng(1)
    dual = outcome.dual
    noisy = replace(dual, cone=dual.cone * rng.uniform(0.999, 1.001, dual.cone.shape))
    assert outcome.value * (1.0 - 1e-3) < lower_bound(program, noisy) <= outcome.value


def test_the_bound_is_the_dual_of_the_cvxpy_program():
    """Clarabel's own multipliers of the cells, given as a guess with the solver's other duals, bound as tightly."""
    net, X, y = instance(31, h=4, d=2, n=15)
    program = restriction(net, X, y, penalty="l2")
    problem, variables = build(program)
    problem.solve(solver="CLARABEL", tol_gap_abs=1e-10, tol_gap_rel=1e-10)
    z = problem.constraints[0].dual_value / np.linalg.norm(
        np.column_stack([program.rows, np.ones(len(program.rows))]), axis=1, keepdims=True
    )
    U, c = variables["U"].value, variables["c"].value
    active = np.where(program.patterns, program.rows @ U[:, :-1].T + U[:, -1], 0.0)
    guess = DualPoint(active @ program.directions.T + c - program.targets, z)
    assert lower_bound(program, guess) == pytest.approx(float(problem.value) + program.spread, rel=1e-6)


def test_the_bound_shares_no_code_with_the_solver():
    names = set(vars(dual_bound))
    assert not names & {"solve", "Whitened", "LipschitzBlock", "NewtonSystem", "arrow", "cells"}


# ------------------------------------------------------------------------------------------------ the point


@pytest.mark.parametrize("penalty", ["lipschitz", "l2"])
def test_the_returned_point_lies_in_the_cell_and_its_network_attains_the_value(penalty):
    net, X, y = instance(40, h=12, d=3, n=60)
    program = restriction(net, X, y, penalty=penalty)
    outcome = solve(program, start=start_of(net))
    network = network_from(outcome.solution, program.directions, "raw")
    assert program.cell_violation(outcome.solution.U) <= 1e-15
    value = objective(network, X, y, weight=0.01, penalty=penalty)
    assert value == pytest.approx(outcome.value, rel=1e-7)
    assert value <= objective(net, X, y, weight=0.01, penalty=penalty)


def test_no_start_finds_an_interior_by_itself():
    net, X, y = instance(41)
    program = restriction(net, X, y)
    given, found = solve(program, start=start_of(net)), solve(program)
    assert found.status is Status.OPTIMAL
    assert found.value == pytest.approx(given.value, rel=2e-6)


def test_callbacks_see_feasible_points_with_falling_gaps_and_may_interrupt():
    net, X, y = instance(42, h=8, n=40)
    program = restriction(net, X, y)
    seen = []
    solve(program, start=start_of(net), on_step=seen.append)
    assert [step.step for step in seen] == list(range(len(seen)))
    assert seen[-1].value - seen[-1].lower < 1e-5 < seen[0].value - seen[0].lower
    points = []

    def stop(step):
        points.append(step.point())
        if step.step == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        solve(program, start=start_of(net), on_step=stop)
    assert len(points) == 4
    assert program.objective(points[-1]) < np.inf


def test_a_time_limit_returns_the_best_point_with_its_gap():
    net, X, y = instance(43, h=10, d=3, n=80)
    program = restriction(net, X, y)
    outcome = solve(program, start=start_of(net), time_limit=0.0)
    assert outcome.status is Status.TIME_LIMIT
    assert outcome.steps == 0
    assert np.isfinite(outcome.value)
    assert outcome.gap > 0.0


def test_limits_need_the_lipschitz_penalty():
    net, X, y = instance(44)
    with pytest.raises(SolverUnavailableError):
        solve_under(restriction(net, X, y, penalty="l2"), 1.0)
    with pytest.raises(SolverUnavailableError):
        solve_budget(restriction(net, X, y, penalty="l2"), 1.0)


def test_a_limit_of_zero_is_the_constant_network():
    net, X, y = instance(45)
    outcome = solve_under(restriction(net, X, y), 0.0)
    assert outcome.value == pytest.approx(float(np.var(y)), rel=1e-12)
    assert not outcome.solution.U.any()


# ------------------------------------------------------------------------------------------------ hard cases

HARD = {
    "weight 1e-8": lambda net, X, y, rng: (net, X, y, 1e-8),
    "weight 0": lambda net, X, y, rng: (net, X, y, 0.0),
    "weight 1e6": lambda net, X, y, rng: (net, X, y, 1e6),
    "on the edge": lambda net, X, y, rng: (
        ShallowNetwork(net.W, -np.sum(net.W * X[:8], axis=1), net.V, net.c),
        X,
        y,
        0.01,
    ),
    "dead units": lambda net, X, y, rng: (
        ShallowNetwork(
            np.where(np.arange(8)[:, None] == 2, 0.0, net.W),
            np.where(np.arange(8) == 2, 0.0, net.b),
            np.where(np.arange(8) == 4, 0.0, net.V),
            net.c,
        ),
        X,
        y,
        0.01,
    ),
    "never and always active": lambda net, X, y, rng: (
        ShallowNetwork(net.W, net.b - np.array([100.0, 0, 0, 0, -100.0, 0, 0, 0]), net.V, net.c),
        X,
        y,
        0.01,
    ),
    "samples that repeat": lambda net, X, y, rng: (
        net,
        X[np.arange(90) % 30],
        np.tile(y, (3, 1)) + np.eye(90, 1),
        0.01,
    ),
    "rank deficient": lambda net, X, y, rng: (net, X @ np.array([[1, 0, 1], [0, 1, -2], [0, 0, 0]]), y, 0.01),
    "constant column": lambda net, X, y, rng: (net, X * [1, 0, 1] + [0, 7, 0], y, 0.01),
    "far from the origin": lambda net, X, y, rng: (
        ShallowNetwork(net.W, net.b - net.W @ np.full(3, 1e3), net.V, net.c),
        X + 1e3,
        y,
        0.01,
    ),
    "a column of 1e6": lambda net, X, y, rng: (
        ShallowNetwork(net.W / [1, 1e6, 1], net.b, net.V, net.c),
        X * [1, 1e6, 1],
        y,
        1e-3,
    ),
    "interpolated": lambda net, X, y, rng: (net, X, net.forward(X).reshape(-1, 1), 1e-6),
    "large targets": lambda net, X, y, rng: (net, X, 1e6 * y + 1e8, 0.01),
}


@pytest.mark.parametrize("case", HARD)
@pytest.mark.parametrize("penalty", ["lipschitz", "l2"])
def test_hard_cases_reach_their_gap(case, penalty):
    net, X, y, weight = HARD[case](*instance(3, h=8, d=3, n=30), np.random.default_rng(0))
    program = restriction(net, X, y, weight, penalty)
    outcome = solve(program, start=start_of(net))
    assert outcome.status is Status.OPTIMAL, outcome.solver_status
    assert abs(outcome.gap) <= 1e-6
    assert program.cell_violation(outcome.solution.U) <= 1e-14


@pytest.mark.parametrize(("h", "d", "n"), [(1, 1, 1), (1, 1, 2), (3, 5, 2), (3, 12, 20), (60, 1, 50)])
@pytest.mark.parametrize("penalty", ["lipschitz", "l2"])
def test_extreme_shapes(h, d, n, penalty):
    net, X, y = instance(4, h=h, d=d, n=n)
    outcome = solve(restriction(net, X, y, penalty=penalty), start=start_of(net))
    assert outcome.status is Status.OPTIMAL, outcome.solver_status
    assert abs(outcome.gap) <= 1e-6


def test_constant_targets_give_the_constant_network():
    net, X, _ = instance(46)
    outcome = solve(restriction(net, X, np.full((len(X), 1), 3.0)))
    assert outcome.value == pytest.approx(0.0, abs=1e-28)
    assert outcome.solution.c == pytest.approx(3.0)


def test_the_whitened_start_is_strictly_inside_every_cone():
    net, X, y = instance(47, h=20, d=4, n=100)
    net = ShallowNetwork(net.W, -np.sum(net.W * X[:20], axis=1), net.V, net.c)  # every unit is zero at a sample
    for start in (start_of(net)[0], None):
        whitened = Whitened.of(restriction(net, X, y), start)
        n_cone = whitened.pattern.shape[1]
        z = whitened.X @ whitened.start[:n_cone].T
        assert np.min(np.where(whitened.pattern == 1, z, -z)) > 0.0


@pytest.mark.parametrize("kind", [{}, {"method": "alternating", "max_rounds": 2}, {"penalty": "l2"}], ids=str)
def test_a_network_that_lies_between_two_samples_by_a_hair_starts_inside_its_cell(kind):
    """Its cell is not thin, but the network's own place in it has room of 1e-11: Newton's matrix was singular there."""
    rng = np.random.default_rng(4)
    X, y = rng.standard_normal((60, 3)), rng.standard_normal(60)
    W, b = rng.standard_normal((8, 3)), rng.standard_normal(8)
    for j in range(4):
        across = X[2 * j] - X[2 * j + 1]
        W[j] -= (W[j] @ across) / (across @ across) * across * (1.0 - 1e-11)
        b[j] = -W[j] @ (X[2 * j] + X[2 * j + 1]) / 2.0
    net = ShallowNetwork(W, b, rng.standard_normal(8), 0.0)
    own = refine(net, X, y, 0.1, solver="CERTNET", **kind)
    assert own.status is Status.OPTIMAL
    generic = refine(net, X, y, 0.1, solver="CLARABEL", **kind)
    assert own.objective_after == pytest.approx(generic.objective_after, rel=1e-4)
