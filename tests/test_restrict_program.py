"""The restriction's programs against second implementations written from the formulas, on small instances."""

import cvxpy as cp
import numpy as np
import pytest
from instances import instance

from certnet import ShallowNetwork, certify
from certnet.backends.cvxpy_ import why_unusable
from certnet.core.errors import InvalidInputError
from certnet.programs.goal import Weighted
from certnet.programs.objectives import l2_penalty, mean_squared_error, objective
from certnet.programs.penalties import LipschitzPenalty, NormPenalty, penalty_named
from certnet.programs.restriction import Restriction, Solution, network_from, sampled_cell, whole_cell
from certnet.solvers.cvxpy_ import ConicSolver, build

WEIGHT = 0.05


def product_weights(net):
    return np.linalg.norm(net.V, axis=0)[:, None] * np.column_stack([net.W, net.b])


def restriction(net, X, y, *, weight=WEIGHT, penalty="lipschitz", eta=None):
    kind = penalty_named(penalty) if eta is None else LipschitzPenalty(eta)
    return Restriction.of(whole_cell(net), X, y, kind, Weighted(weight))


def value_of(program, outcome):
    fit = program.fit(outcome.solution.U, outcome.solution.c)
    if isinstance(program.penalty, NormPenalty):
        return fit + 2.0 * program.goal.weight * np.linalg.norm(outcome.solution.U, axis=1).sum()
    return fit + program.goal.weight * outcome.solution.rho


def optimum(program, solver="CLARABEL", tol=1e-9):
    return value_of(program, ConicSolver(solver, tol).solve(program))


# ------------------------------------------------------------------ second implementations, straight from the formulas


def _cell(net, X, y):
    """Variables, the mean squared error (sample by sample, nothing merged) and the cone constraints, unit by unit."""
    n, d = X.shape
    extended = np.column_stack([X, np.ones(n)])
    active = (extended @ np.column_stack([net.W, net.b]).T >= 0.0).astype(float)
    norms = np.linalg.norm(net.V, axis=0)
    U, c = cp.Variable((net.n_hidden, d + 1)), cp.Variable(net.n_outputs)
    outputs = [
        sum((net.V[o, j] / norms[j]) * cp.multiply(active[:, j], extended @ U[j]) for j in range(net.n_hidden)) + c[o]
        for o in range(net.n_outputs)
    ]
    mse = sum(cp.sum_squares(f - y[:, o]) for o, f in enumerate(outputs)) / n
    cones = [cp.multiply(2.0 * active[:, j] - 1.0, extended @ U[j]) >= 0 for j in range(net.n_hidden)]
    return U, c, mse, cones


def _minimum(objective_, constraints):
    problem = cp.Problem(cp.Minimize(objective_), constraints)
    problem.solve(solver="CLARABEL", tol_gap_abs=1e-9, tol_gap_rel=1e-9, tol_feas=1e-9)
    assert problem.status == "optimal"
    return float(problem.value)


def published(net, X, y, weight, T):
    """Y (12): the LMI of Y (2b), dense, with T and \\|v\\| fixed and W = diag(1 / \\|v\\|) U."""
    U, _, mse, cones = _cell(net, X, y)
    v, d = net.V[0], net.n_inputs
    W, rho = cp.multiply(1.0 / np.abs(v)[:, None], U[:, :d]), cp.Variable()
    TW = cp.multiply(T[:, None], W)
    lmi = cp.bmat([[rho * np.eye(d), -TW.T], [-TW, 2.0 * np.diag(T) - np.outer(v, v)]])
    return _minimum(mse + weight * rho, [*cones, lmi >> 0])


def one_arrow(net, X, y, weight):
    """Design 4.3, one output: a single semidefinite block of order d + h + 1."""
    U, _, mse, cones = _cell(net, X, y)
    h, d = net.W.shape
    signs = np.sign(net.V[0])
    eta, rho = cp.Variable(h), cp.Variable()
    B = cp.multiply(signs[:, None], U[:, :d])
    g = cp.reshape(cp.sum(B, axis=0), (d, 1), order="C")
    corner = cp.reshape(4.0 - 2.0 * cp.sum(eta), (1, 1), order="C")
    zero = np.zeros((h, 1))
    lmi = cp.bmat([[rho * np.eye(d), B.T, g], [B, 2.0 * cp.diag(eta), zero], [g.T, zero.T, corner]])
    return _minimum(mse + weight * rho, [*cones, lmi >> 0])


def one_block(net, X, y, weight):
    """Design 4.3, several outputs: V fixed as it is (not normalised), W free, one block of order d + h + m."""
    U, _, mse, cones = _cell(net, X, y)
    h, d = net.W.shape
    m, V = net.n_outputs, net.V
    W, eta, rho = cp.multiply(1.0 / np.linalg.norm(V, axis=0)[:, None], U[:, :d]), cp.Variable(h), cp.Variable()
    G = 0.5 * V @ W
    zero = np.zeros((h, m))
    lmi = cp.bmat(
        [
            [rho * np.eye(d), W.T, G.T],
            [W, 2.0 * cp.diag(eta), zero],
            [G, zero.T, np.eye(m) - 0.5 * V @ cp.diag(eta) @ V.T],
        ]
    )
    return _minimum(mse + weight * rho, [*cones, lmi >> 0])


def l2_program(net, X, y, weight):
    """Y (6)."""
    U, _, mse, cones = _cell(net, X, y)
    return _minimum(mse + 2.0 * weight * sum(cp.norm(U[j], 2) for j in range(net.n_hidden)), cones)


def certified_eta(net):
    """``η_j = ‖V_:j‖² / T_j`` with LipSDP's multipliers ``T = upper · t`` of the certificate."""
    certificate = certify(net, tol=1e-8)
    T = certificate.upper * certificate.multipliers
    return np.sum(net.V**2, axis=0) / T, T, certificate


# ------------------------------------------------------------------------------------------------ same optimum


@pytest.mark.parametrize(("seed", "h", "d", "n"), [(0, 5, 2, 14), (1, 8, 3, 30), (2, 1, 1, 6), (3, 4, 5, 3)])
def test_the_published_inner_program_has_the_same_optimum_as_fixed_eta(seed, h, d, n):
    net, X, y = instance(seed, h=h, d=d, n=n)
    eta, T, _ = certified_eta(net)
    assert optimum(restriction(net, X, y, eta=eta)) == pytest.approx(published(net, X, y, WEIGHT, T), rel=1e-5)


@pytest.mark.parametrize(("seed", "h", "d", "n"), [(0, 5, 2, 14), (1, 8, 3, 30), (2, 1, 1, 6), (3, 4, 5, 3)])
@pytest.mark.parametrize("weight", [1e-3, 0.3])
def test_cliques_scaling_and_qr_do_not_change_the_joint_optimum(seed, h, d, n, weight):
    net, X, y = instance(seed, h=h, d=d, n=n)
    program = restriction(net, X, y, weight=weight)
    assert optimum(program) == pytest.approx(one_arrow(net, X, y, weight), rel=1e-5)


@pytest.mark.parametrize(("m", "d", "h"), [(2, 3, 5), (3, 1, 4), (4, 2, 3)])
def test_several_outputs_agree_with_one_block_on_the_given_v(m, d, h):
    net, X, y = instance(10 + m, h=h, d=d, m=m, n=12)
    assert optimum(restriction(net, X, y)) == pytest.approx(one_block(net, X, y, WEIGHT), rel=1e-5)


@pytest.mark.parametrize(("seed", "m"), [(0, 1), (1, 1), (2, 2), (3, 3)])
def test_the_l2_program_agrees(seed, m):
    net, X, y = instance(seed, m=m)
    program = restriction(net, X, y, penalty="l2", weight=0.02)
    assert optimum(program) == pytest.approx(l2_program(net, X, y, 0.02), rel=1e-5)


@pytest.mark.parametrize("penalty", ["lipschitz", "l2"])
def test_shifted_and_scaled_data_leave_the_optimum_where_it_is(penalty):
    # what _Scaling undoes, against the unscaled program: centre far off, inputs small, targets large
    net, X, y = instance(5)
    x_scale, y_scale = 0.05, 30.0
    moved = net.rescaled(x_shift=[2.0, -1.0], x_scale=x_scale, y_shift=7.0, y_scale=y_scale)
    program = restriction(moved, (X * x_scale) + [2.0, -1.0], y * y_scale + 7.0, penalty=penalty, weight=0.01)
    problem, _ = build(program)
    problem.solve(solver="CLARABEL", tol_gap_abs=1e-9, tol_gap_rel=1e-9)
    assert optimum(program) == pytest.approx(float(problem.value), rel=1e-5)


@pytest.mark.parametrize(("penalty", "fixed"), [("lipschitz", False), ("lipschitz", True), ("l2", False)])
def test_scs_and_clarabel_agree(penalty, fixed):
    net, X, y = instance(6, h=4)
    program = restriction(net, X, y, penalty=penalty, eta=certified_eta(net)[0] if fixed else None)
    assert optimum(program, "SCS", tol=1e-7) == pytest.approx(optimum(program), rel=1e-4)


# ------------------------------------------------------------------------------------------------ the LMI itself


@pytest.mark.parametrize("m", [1, 3])
def test_with_weights_and_eta_fixed_the_least_rho_is_the_closed_form(m):
    """``ρ(η) = λ_max( ½ Wᵀ diag(1/η) W + ¼ Wᵀ Dᵀ K⁻¹ D W )``, ``K = I − ½ D diag(η) Dᵀ`` (design 2.1)."""
    net, X, y = instance(20 + m, h=6, d=3, m=m)
    rng = np.random.default_rng(m)
    eta = rng.uniform(0.05, 1.9 / net.n_hidden, net.n_hidden)
    program = restriction(net, X, y, eta=eta)
    D, U = program.directions, product_weights(net)
    W, K = U[:, :-1], np.eye(m) - 0.5 * D @ np.diag(eta) @ D.T
    expected = np.linalg.eigvalsh(0.5 * W.T @ np.diag(1 / eta) @ W + 0.25 * W.T @ D.T @ np.linalg.inv(K) @ D @ W)[-1]
    problem, variables = build(program)
    pinned = cp.Problem(problem.objective, [*problem.constraints, variables["U"] == U, variables["c"] == net.c])
    pinned.solve(solver="CLARABEL")
    assert float(variables["rho"].value) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(("m", "penalty"), [(1, "lipschitz"), (2, "lipschitz"), (1, "l2"), (2, "l2")])
def test_the_value_at_the_start_is_the_start_s_own_objective(m, penalty):
    net, X, y = instance(30 + m, m=m)
    if penalty == "l2":  # the program's penalty is attained by balanced units only
        scale = np.sqrt(np.linalg.norm(np.column_stack([net.W, net.b]), axis=1) / np.linalg.norm(net.V, axis=0))
        net = ShallowNetwork(net.W / scale[:, None], net.b / scale, net.V * scale, net.c)
    problem, variables = build(restriction(net, X, y, penalty=penalty))
    start = [variables["U"] == product_weights(net), variables["c"] == net.c]
    pinned = cp.Problem(problem.objective, [*problem.constraints, *start])
    pinned.solve(solver="CLARABEL")
    assert pinned.status == "optimal"  # the start lies in the cell
    assert float(pinned.value) == pytest.approx(objective(net, X, y, weight=WEIGHT, penalty=penalty), rel=1e-5)


def test_with_the_certificate_s_multipliers_the_start_is_feasible_at_its_certified_rho():
    net, X, y = instance(40)
    eta, _, certificate = certified_eta(net)
    problem, variables = build(restriction(net, X, y, eta=eta))
    pinned = cp.Problem(problem.objective, [*problem.constraints, variables["U"] == product_weights(net)])
    pinned.solve(solver="CLARABEL")
    assert float(variables["rho"].value) == pytest.approx(certificate.rho, rel=1e-6)
    assert eta.sum() < 2.0


# ------------------------------------------------------------------------------------------------ cells and data


@pytest.mark.parametrize("m", [1, 2])
def test_fit_and_cell_are_the_network_s_at_the_start(m):
    net, X, y = instance(50, m=m)
    program = restriction(net, X, y)
    assert program.cell_violation(product_weights(net)) == 0.0
    assert program.cell_violation(-product_weights(net)) > 0.0
    assert program.fit(product_weights(net), net.c) == pytest.approx(mean_squared_error(net, X, y), rel=1e-12)


def test_rows_that_repeat_are_merged_without_changing_the_fit():
    net, X, y = instance(51)
    rng = np.random.default_rng(0)
    where = rng.integers(0, len(X), 40)
    X, y = X[where], y[where] + rng.standard_normal((40, 1))
    program = restriction(net, X, y)
    assert len(program.rows) == len(np.unique(where))
    assert program.shares.sum() == pytest.approx(1.0)
    assert program.spread > 0.0
    for U, c in ((product_weights(net), net.c), (2.0 * product_weights(net), net.c - 1.0)):
        by_hand = np.mean(
            (np.maximum(np.column_stack([X, np.ones(40)]) @ U.T, 0) @ program.directions[0] + c - y.T) ** 2
        )
        assert program.fit(U, c) == pytest.approx(by_hand, rel=1e-12)
    assert optimum(program) == pytest.approx(one_arrow(net, X, y, WEIGHT), rel=1e-5)


@pytest.mark.parametrize("m", [1, 3])
def test_the_back_mapping_keeps_the_function_and_attains_the_l2_penalty(m):
    net, X, _ = instance(52, m=m)
    U = product_weights(net)
    U[1] = 0.0
    cell = whole_cell(net)
    back = network_from(Solution(U, net.c, None, None), cell.directions, "raw")
    linear = np.maximum(np.column_stack([X, np.ones(len(X))]) @ U.T, 0.0) @ cell.directions.T + net.c
    np.testing.assert_allclose(back.forward(X), linear, rtol=1e-12, atol=1e-12)
    assert l2_penalty(back) == pytest.approx(2.0 * np.linalg.norm(U, axis=1).sum(), rel=1e-12)
    assert not back.W[1].any()
    assert not back.V[:, 1].any()
    assert back.b[1] == 0.0
    assert back.units == "raw"


def test_directions_have_norm_one_and_a_zero_column_counts_as_positive():
    cell = whole_cell(ShallowNetwork(np.eye(3), np.zeros(3), [[2.0, 0.0, -3.0]], 0.0))
    np.testing.assert_array_equal(cell.directions, [[1.0, 1.0, -1.0]])
    cell = whole_cell(ShallowNetwork(np.eye(3), np.zeros(3), [[3.0, 0.0, 0.0], [4.0, 0.0, -1.0]], [0.0, 0.0]))
    np.testing.assert_allclose(cell.directions, [[0.6, 1.0, 0.0], [0.8, 0.0, -1.0]])


def test_sampled_cells_hold_each_pattern_with_both_signs():
    net, X, y = instance(53, h=7)
    cell = sampled_cell(net, 3, np.random.default_rng(0))
    assert len(set(cell.units[:3])) == 3
    np.testing.assert_array_equal(cell.units[:3], cell.units[3:])
    np.testing.assert_array_equal(cell.directions, [[1, 1, 1, -1, -1, -1]])
    program = Restriction.of(cell, X, y, LipschitzPenalty(), Weighted(WEIGHT))
    np.testing.assert_array_equal(program.patterns, net.patterns(program.rows)[:, cell.units])
    again = sampled_cell(net, 3, np.random.default_rng(0))
    np.testing.assert_array_equal(cell.units, again.units)


@pytest.mark.parametrize("n_patterns", [0, -1, 8, 2.5, "3", float("nan")])
def test_n_patterns_is_validated(n_patterns):
    net, _, _ = instance(54, h=7)
    with pytest.raises(InvalidInputError, match="n_patterns"):
        sampled_cell(net, n_patterns, np.random.default_rng(0))


def test_sampling_is_for_one_output():
    net, _, _ = instance(55, m=2)
    with pytest.raises(InvalidInputError, match="one output"):
        sampled_cell(net, 2, np.random.default_rng(0))


# ------------------------------------------------------------------------------------------------ residuals and MOSEK


@pytest.mark.parametrize("penalty", ["lipschitz", "l2"])
def test_residuals_are_recomputed_and_small(penalty):
    net, X, y = instance(60)
    outcome = ConicSolver("CLARABEL").solve(restriction(net, X, y, penalty=penalty))
    assert outcome.status.ok
    assert outcome.residuals.primal < 1e-6
    assert outcome.residuals.objective < 1e-6
    assert (outcome.solution.rho is None) == (penalty == "l2")


@pytest.mark.parametrize(
    ("m", "penalty", "fixed"), [(1, "lipschitz", 0), (2, "lipschitz", 0), (1, "l2", 0), (1, "lipschitz", 1)]
)
def test_mosek_canonicalisation_works_without_a_licence(m, penalty, fixed):
    pytest.importorskip("mosek", reason="the MOSEK wheel is not installed")
    net, X, y = instance(61, m=m)
    problem, variables = build(restriction(net, X, y, penalty=penalty, eta=certified_eta(net)[0] if fixed else None))
    data, chain, _ = problem.get_problem_data(solver="MOSEK")
    assert type(chain.solver).__name__ == "MOSEK"
    assert min(data["A"].shape) > 0
    assert ("eta" in variables) == (penalty == "lipschitz" and not fixed)


@pytest.mark.parametrize("m", [1, 2])
def test_there_is_one_small_clique_per_unit_and_one_for_the_outputs(m):
    net, X, y = instance(63, h=6, d=3, m=m)
    problem, _ = build(restriction(net, X, y))
    orders = sorted(c.shape[0] for c in problem.constraints if isinstance(c, cp.constraints.PSD))
    assert orders == sorted([4] * 6 + [3 + m])


@pytest.mark.mosek
@pytest.mark.skipif(why_unusable("MOSEK") is not None, reason=str(why_unusable("MOSEK")))
@pytest.mark.parametrize("penalty", ["lipschitz", "l2"])
def test_mosek_agrees_with_clarabel(penalty):
    program = restriction(*instance(62), penalty=penalty)
    assert optimum(program, "MOSEK") == pytest.approx(optimum(program), rel=1e-5)


# ------------------------------------------------------------------------------------------------ sample weights


@pytest.mark.parametrize("penalty", ["lipschitz", "l2"])
def test_whole_weights_are_repetitions(penalty):
    net, X, y = instance(60, n=12)
    counts = np.random.default_rng(0).integers(0, 4, 12)
    kind, goal, cell = penalty_named(penalty), Weighted(WEIGHT), whole_cell(net)
    weighted = Restriction.of(cell, X, y, kind, goal, sample_weight=3.7 * counts)
    repeated = Restriction.of(cell, np.repeat(X, counts, axis=0), np.repeat(y, counts, axis=0), kind, goal)
    assert len(weighted.rows) == int((counts > 0).sum())  # those of weight zero cut no cell either
    assert weighted.shares.sum() == pytest.approx(1.0, rel=1e-14)
    assert optimum(weighted) == pytest.approx(optimum(repeated), rel=1e-6)


def test_weighted_rows_that_repeat_are_merged_without_changing_the_fit():
    net, X, y = instance(61)
    rng = np.random.default_rng(1)
    where = rng.integers(0, len(X), 40)
    X, y, w = X[where], y[where] + rng.standard_normal((40, 1)), rng.exponential(size=40)
    program = Restriction.of(whole_cell(net), X, y, LipschitzPenalty(), Weighted(WEIGHT), sample_weight=w)
    U, c = product_weights(net), net.c
    f = np.maximum(np.column_stack([X, np.ones(40)]) @ U.T, 0) @ program.directions[0] + c
    assert program.fit(U, c) == pytest.approx(np.sum(w * (f - y[:, 0]) ** 2) / w.sum(), rel=1e-12)
    assert len(program.rows) == len(np.unique(where))


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (np.ones(3), "3 entries, X has 14"),
        (np.ones((14, 1)), "shape"),
        (np.r_[np.ones(13), -1.0], "negative.*at 13"),
        (np.zeros(14), "zero for every sample"),
        (np.r_[np.nan, np.ones(13)], "NaN"),
        (["a"] * 14, "sample_weight"),
    ],
)
def test_weights_that_are_none_are_refused(weights, message):
    net, X, y = instance(62)
    with pytest.raises(InvalidInputError, match=message):
        Restriction.of(whole_cell(net), X, y, LipschitzPenalty(), Weighted(0.1), sample_weight=weights)


@pytest.mark.parametrize("scale", [1e-300, 1e300])
def test_the_scale_of_weights_means_nothing(scale):
    net, X, y = instance(63)
    w = np.arange(1.0, 15.0)
    one, other = (
        Restriction.of(whole_cell(net), X, y, LipschitzPenalty(), Weighted(0.1), sample_weight=s * w)
        for s in (1.0, scale)
    )
    assert one.shares == pytest.approx(other.shares, rel=1e-14)
