"""Bounds on a bank of networks: own search against CVXPY, closed forms, and the constant itself where it is known."""

from __future__ import annotations

import itertools
import warnings
from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest

from certnet.backends import cvxpy_, mosek_
from certnet.certification import certify, cheap_upper_bounds
from certnet.core.errors import (
    CertificateError,
    InvalidInputError,
    NotConvergedWarning,
    SolverError,
    SolverUnavailableError,
)
from certnet.core.outcome import Status
from certnet.networks.shallow import ShallowNetwork
from certnet.searches import reference_
from certnet.searches.closed_form import norm_sum, spectral_product
from certnet.searches.lower import lower_bound
from certnet.searches.reference_ import lipsdp_rho, solve_lipsdp
from certnet.searches.shallow import SearchResult, closed_form, search_multipliers


def gaussian(seed: int, d: int, h: int, m: int = 1) -> ShallowNetwork:
    rng = np.random.default_rng(seed)
    return ShallowNetwork(
        rng.standard_normal((h, d)), rng.standard_normal(h), rng.standard_normal((m, h)), rng.standard_normal(m)
    )


def changed(net: ShallowNetwork, **arrays: Any) -> ShallowNetwork:
    return ShallowNetwork(**({"W": net.W, "b": net.b, "V": net.V, "c": net.c} | arrays))


def with_duplicates(net: ShallowNetwork) -> ShallowNetwork:
    return ShallowNetwork(
        np.vstack([net.W, net.W[:2]]), np.append(net.b, net.b[:2]), np.hstack([net.V, net.V[:, :2]]), net.c
    )


def with_dead_units(net: ShallowNetwork) -> ShallowNetwork:
    W, V = net.W.copy(), net.V.copy()
    W[0], V[:, 1] = 0.0, 0.0
    W[2] *= 1e-170  # a unit that weight decay has killed
    return changed(net, W=W, V=V)


def in_wild_scales(net: ShallowNetwork, seed: int) -> ShallowNetwork:
    """(w_j, b_j) κ and V_:j / κ with κ over twelve decades: the same function."""
    kappa = 10.0 ** np.random.default_rng(seed).uniform(-6, 6, net.n_hidden)
    return changed(net, W=net.W * kappa[:, None], b=net.b * kappa, V=net.V / kappa)


def with_unequal_units(net: ShallowNetwork, seed: int) -> ShallowNetwork:
    """Units whose contributions span three decades."""
    return changed(net, V=net.V * 10.0 ** np.random.default_rng(seed).uniform(-3, 0, net.n_hidden))


def low_rank(net: ShallowNetwork) -> ShallowNetwork:
    return changed(net, W=np.outer(net.W[:, 0], net.W[0]))


def cancelling(net: ShallowNetwork) -> ShallowNetwork:
    """V W = 0: every unit meets its opposite."""
    return ShallowNetwork(np.vstack([net.W, net.W]), np.append(net.b, -net.b), np.hstack([net.V, -net.V]), net.c)


def bank() -> dict[str, ShallowNetwork]:
    nets: dict[str, ShallowNetwork] = {}
    sizes = [(1, 1), (1, 2), (1, 7), (2, 1), (9, 1), (2, 3), (3, 6), (4, 12), (6, 6), (8, 3), (12, 5), (5, 9)]
    for m in (1, 2, 4):
        for seed, (d, h) in enumerate(sizes):
            nets[f"gaussian {d}-{h}-{m}"] = gaussian(seed, d, h, m)
    for m in (1, 3):
        for seed, (d, h) in enumerate([(2, 5), (4, 10), (9, 4)], start=50):
            net = gaussian(seed, d, h, m)
            shape = f"{d}-{h}-{m}"
            nets[f"duplicates {shape}"] = with_duplicates(net)
            nets[f"dead {shape}"] = with_dead_units(net)
            nets[f"scales {shape}"] = in_wild_scales(net, seed)
            nets[f"unequal {shape}"] = with_unequal_units(net, seed)
            nets[f"rank one {shape}"] = low_rank(net)
            nets[f"positive {shape}"] = changed(net, W=np.abs(net.W), V=np.abs(net.V))
    nets["tiny"] = changed(gaussian(80, 3, 6), V=gaussian(80, 3, 6).V * 1e-30)
    nets["huge"] = changed(gaussian(81, 3, 6, 2), V=gaussian(81, 3, 6, 2).V * 1e30)
    nets["cancelling 3-8-1"] = cancelling(gaussian(82, 3, 4))
    nets["cancelling 3-8-2"] = cancelling(gaussian(83, 3, 4, 2))
    # two units that share nothing: the dual point says nothing about the smaller one's multiplier
    apart = [[0.5, 0.5, 0.0], [0.0, 0.0, 1.0]]
    nets["apart 3-2-2"] = ShallowNetwork(apart, [0.0, 0.0], [[0.0, 1.0], [-0.5, 0.0]], [0.0, 0.0])
    slack = [[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]]
    nets["slack 2-3-3"] = ShallowNetwork(slack, np.zeros(3), np.diag([1.0, 0.69, 0.69]), np.zeros(3))
    nets["zero output"] = changed(gaussian(84, 3, 5, 2), V=np.vstack([gaussian(84, 3, 5).V, np.zeros(5)]))
    return nets


BANK = bank()


def test_the_bank_is_large() -> None:
    assert len(BANK) >= 60


def relative(a: float, b: float) -> float:
    """Relative difference of ρ from two bounds on L."""
    return abs((a / b) ** 2 - 1.0)


def exact_pieces(net: ShallowNetwork) -> float:
    """L of a small network in general position: ``max ‖V D W‖₂`` over every cell of the arrangement.

    Every cell has a vertex where d hyperplanes meet: there, the other units' signs are known and the d meeting ones
    take all 2^d signs.
    """
    W, b, V = net.W, net.b, net.V
    h, d = W.shape
    best = 0.0
    for meeting in itertools.combinations(range(h), d):
        rows = list(meeting)
        vertex = np.linalg.solve(W[rows], -b[rows])
        active = (W @ vertex + b > 0.0).astype(float)
        for signs in itertools.product([0.0, 1.0], repeat=d):
            active[rows] = signs
            best = max(best, float(np.linalg.norm((V * active) @ W, 2)))
    return best


# ---------------------------------------------------------------------------------- second implementations (CVXPY)


@pytest.mark.parametrize("name", BANK)
def test_search_agrees_with_the_generic_solvers(name: str) -> None:
    net = BANK[name]
    own = search_multipliers(net, tol=1e-7)
    assert own.status is Status.OPTIMAL
    assert own.gap <= 1e-7
    assert own.below <= own.upper * (1.0 + 1e-12)
    for seed in (1, 2, 3):
        assert relative(search_multipliers(net, tol=1e-7, random_state=seed).upper, own.upper) < 1e-6
    for solver, form in [("CLARABEL", "arrow"), ("CLARABEL", "dense"), ("SCS", "arrow")]:
        other = solve_lipsdp(net, solver=solver, form=form, tol=1e-9)
        assert relative(other.upper, own.upper) < 1e-6, (solver, form)
        assert relative(other.below, own.upper) < 1e-6, (solver, form)


@pytest.mark.parametrize("name", [name for name in BANK if "cancelling" not in name])
def test_the_multipliers_give_the_bound_by_woodburys_formula(name: str) -> None:
    found = search_multipliers(BANK[name])
    used = found.multipliers > 0.0
    net = ShallowNetwork(BANK[name].W[used], BANK[name].b[used], BANK[name].V[:, used], BANK[name].c)
    rho = lipsdp_rho(net, found.upper * found.multipliers[used])
    assert rho == pytest.approx(found.upper**2, rel=1e-9)
    assert closed_form(net.W, net.V, found.multipliers[used]) == pytest.approx(found.upper, rel=1e-12)


@pytest.mark.parametrize("name", BANK)
def test_certificates_of_the_bank(name: str) -> None:
    net = BANK[name]
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # NotConvergedWarning above all
        cert = certify(net)
    assert cert.check(net)
    assert 0.0 <= cert.gap <= 1e-6
    assert 0.0 <= cert.lower <= cert.upper
    assert cert.upper <= search_multipliers(net).upper * (1.0 + 1e-9)
    for bound in cheap_upper_bounds(net).values():
        assert cert.upper <= bound * (1.0 + 1e-6)
    assert not certify(net).check(changed(net, c=net.c + 1.0))


@pytest.mark.parametrize("form", ["arrow", "dense"])
@pytest.mark.parametrize("solver", ["CLARABEL", "SCS", "clarabel"])
@pytest.mark.parametrize("name", ["gaussian 3-6-1", "gaussian 4-12-2", "dead 4-10-3"])
def test_certify_by_a_named_solver(name: str, solver: str, form: str) -> None:
    net = BANK[name]
    cert = certify(net, solver=solver, form=form)
    assert cert.check(net)
    assert cert.method == f"{solver.upper()} {form}"
    assert relative(cert.upper, certify(net).upper) < 2e-6


@pytest.mark.parametrize("T", [[1.0, 1.0], [1.0, 0.0, 1.0], [1.0, -1.0, 1.0], [1.0, np.nan, 1.0]])
def test_woodburys_formula_refuses_bad_multipliers(T: Any) -> None:
    with pytest.raises(InvalidInputError, match="T "):
        lipsdp_rho(gaussian(0, 2, 3), T)


def test_woodburys_formula_is_infinite_where_the_lmi_is_infeasible() -> None:
    net = ShallowNetwork([[1.0]], [0.0], [2.0], 0.0)
    assert lipsdp_rho(net, np.array([1.9])) == np.inf  # 2T − v² < 0
    assert lipsdp_rho(net, np.array([4.0])) == pytest.approx(4.0)


# ----------------------------------------------------------------------------------- the constant where it is known


@pytest.mark.parametrize("m", [1, 2])
@pytest.mark.parametrize(("d", "h"), [(1, 1), (1, 4), (1, 9), (2, 2), (2, 6), (3, 5)])
@pytest.mark.parametrize("seed", [0, 1])
def test_the_true_constant_lies_between_the_bounds(d: int, h: int, m: int, seed: int) -> None:
    net = gaussian(100 * seed + d, d, h, m)
    true = exact_pieces(net)
    cert = certify(net)
    assert cert.lower <= true * (1.0 + 1e-12)
    assert true <= cert.upper * (1.0 + 1e-12)
    assert cert.lower >= 0.7 * true  # the local search is of some use


@pytest.mark.parametrize(("n", "share"), [(2, 0.98), (9, 0.98), (9, 0.7), (16, 0.95), (30, 0.9)])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_multipliers_of_units_that_the_dual_point_does_not_see(n: int, share: float, seed: int) -> None:
    # relu(x_1) in one output, share/√n relu(x_2) in n others: L = 1, and the n units are slack within limits
    net = ShallowNetwork(
        [[1.0, 0.0], *[[0.0, 1.0]] * n], np.zeros(n + 1), np.diag([1.0, *[share / np.sqrt(n)] * n]), np.zeros(n + 1)
    )
    cert = certify(net, random_state=seed)
    assert cert.upper == pytest.approx(1.0, rel=1e-6)
    assert cert.lower == pytest.approx(1.0, rel=1e-12)


def test_the_true_constant_by_hand() -> None:
    # slopes of x ↦ relu(x) + relu(x − 1) − 4 relu(x − 2) are 0, 1, 2, −2
    net = ShallowNetwork([[1.0], [1.0], [1.0]], [0.0, -1.0, -2.0], [1.0, 1.0, -4.0], 0.0)
    assert exact_pieces(net) == 2.0
    cert = certify(net)
    assert cert.lower == pytest.approx(2.0, rel=1e-12)
    assert 2.0 < cert.upper <= 6.0


@pytest.mark.parametrize("m", [1, 2, 3])
@pytest.mark.parametrize(("d", "h"), [(1, 1), (3, 8), (8, 3)])
def test_non_negative_weights_are_tight(d: int, h: int, m: int) -> None:
    net = gaussian(7, d, h, m)
    net = changed(net, W=np.abs(net.W), V=np.abs(net.V))
    cert = certify(net, tol=1e-10)
    norm = float(np.linalg.norm(net.V @ net.W, 2))  # all units active
    assert cert.upper == pytest.approx(norm, rel=1e-9)
    assert cert.lower == pytest.approx(norm, rel=1e-9)


@pytest.mark.parametrize("m", [1, 3])
@pytest.mark.parametrize("d", [1, 5])
@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e12])
def test_one_unit_is_tight(d: int, m: int, scale: float) -> None:
    net = gaussian(9, d, 1, m)
    net = changed(net, W=net.W * scale)
    cert = certify(net)
    norm = float(np.linalg.norm(net.V) * np.linalg.norm(net.W))
    assert norm <= cert.upper * (1.0 + 1e-15)
    assert cert.upper == pytest.approx(norm, rel=1e-12)
    assert cert.lower == pytest.approx(norm, rel=1e-12)


def test_orthogonal_units_are_tight() -> None:
    # Σ_j a_j relu(x_j): L = ‖a‖, all patterns reachable
    a = np.array([3.0, -4.0, 12.0])
    cert = certify(ShallowNetwork(np.eye(3), np.zeros(3), a, 0.0), tol=1e-10)
    assert cert.upper == pytest.approx(13.0, rel=1e-9)


# ---------------------------------------------------------------------------------------------------- lower bounds


def test_data_are_searched_for_the_lower_bound() -> None:
    # a bump far from where the search starts: one step up and down of slope 50 at x = 1000
    net = ShallowNetwork([[1.0], [50.0], [50.0], [50.0]], [0.0, -5e4, -50000.5, -50001.0], [1.0, 1.0, -2.0, 1.0], 0.0)
    cert = certify(net, X=[[0.5], [1000.005]])
    assert cert.lower == pytest.approx(51.0, rel=1e-9)
    assert cert.check(net)


def test_the_lower_bound_copes_with_a_unit_that_weight_decay_has_killed() -> None:
    net = gaussian(1, 8, 100)
    W, b, v = np.vstack([net.W, np.full((1, 8), 1e-170)]), np.append(net.b, 0.3), np.append(net.V, 0.1)
    dying = ShallowNetwork(W, b, v, 0.0)
    assert lower_bound(dying).value >= 0.99 * lower_bound(net).value


@pytest.mark.parametrize("b", [0.0, 1e10, -1e10, 1e300])
@pytest.mark.parametrize("size", [1e-200, 1e-155, 1e-10, 1e10, 1e120])
def test_the_lower_bound_copes_with_any_scale(b: float, size: float) -> None:
    base = gaussian(3, 3, 5, 2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        net = ShallowNetwork(base.W * size, np.full(5, b), base.V, base.c)
        found = lower_bound(net, np.array([[1.0, 2.0, 3.0]]))
    assert 0.0 <= found.value <= norm_sum(net) * (1.0 + 1e-9) + 1e-290


@pytest.mark.parametrize(
    "X", [[1.0, 2.0], [[1.0]], [["a", "b"]], [[np.nan, 1.0]]], ids=["vector", "one column", "text", "nan"]
)
def test_bad_data_are_refused(X: Any) -> None:
    with pytest.raises(InvalidInputError, match="X"):
        certify(gaussian(0, 2, 3), X=X)


def test_many_data_are_sampled_and_few_are_enough() -> None:
    net = gaussian(0, 2, 3)
    X = np.random.default_rng(0).standard_normal((2500, 2))
    assert certify(net, X=X).check(net)
    assert certify(net, X=X[:0]).check(net)


# ---------------------------------------------------------------------------------------------------- cheap bounds


def test_cheap_bounds() -> None:
    net = ShallowNetwork([[3.0, 4.0], [0.0, 2.0]], [0.0, 0.0], [1.0, -2.0], 0.0)
    assert norm_sum(net) == pytest.approx(5.0 + 4.0)
    assert spectral_product(net) == pytest.approx(np.sqrt(5.0) * np.linalg.svd(net.W)[1][0])
    assert norm_sum(net) > 9.0
    assert set(cheap_upper_bounds(net)) == {"product of spectral norms", "sum over units"}


# ------------------------------------------------------------------------------------------------- not converging


@pytest.mark.parametrize("m", [1, 3])
def test_stopping_early_warns_and_the_bound_is_proved_all_the_same(m: int) -> None:
    net = gaussian(0, 100, 120, m)
    with pytest.warns(NotConvergedWarning, match="iteration limit.*gap"):
        early = certify(net, tol=1e-15, max_iterations=1)
    assert early.check(net)
    assert early.gap > 1e-15
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        done = certify(net, tol=1e-5)
    assert done.upper <= early.upper * (1.0 + 1e-5)


def test_a_solver_that_stops_short_warns(monkeypatch: pytest.MonkeyPatch) -> None:
    net = gaussian(0, 3, 5)

    def inaccurate(*_: Any, **__: Any) -> SearchResult:
        return SearchResult(np.ones(5), closed_form(net.W, net.V, np.ones(5)), 0.1, Status.INACCURATE)

    monkeypatch.setattr(reference_, "solve_lipsdp", inaccurate)
    with pytest.warns(NotConvergedWarning, match="stopped short"):
        cert = certify(net, solver="SCS")
    assert cert.check(net)
    assert cert.gap > 1.0


def test_a_gap_is_that_of_the_bound_that_is_returned() -> None:
    # t = 1e±400 fits no double: the units are charged by their norms, and the gap must say what that costs
    base = gaussian(0, 2, 4)
    net = changed(base, W=base.W * 1e-200, V=base.V * 1e200)
    with pytest.warns(NotConvergedWarning, match="orders of magnitude"):
        cert = certify(net)
    loose = (cert.upper / certify(base).upper) ** 2 - 1.0
    assert cert.gap >= 0.9 * loose


def test_what_cannot_be_squared_is_refused_with_advice() -> None:
    with pytest.raises(CertificateError, match="rescale"):
        certify(ShallowNetwork([[1e160]], [0.0], [1.0], 0.0))
    with pytest.raises(CertificateError, match="rescale"):
        certify(ShallowNetwork([[1e300]], [0.0], [1e300], 0.0))


# ------------------------------------------------------------------------------------------------------ arguments


@pytest.mark.parametrize("tol", [0.0, -1.0, np.nan, np.inf, "a", None, pytest.param(10**400, id="huge")])
def test_bad_tolerances_are_refused(tol: Any) -> None:
    with pytest.raises(InvalidInputError, match="tol"):
        certify(gaussian(0, 2, 3), tol=tol)


@pytest.mark.parametrize("form", ["arrows", "", None])
@pytest.mark.parametrize("solver", ["CLARABEL", "auto"])
def test_unknown_forms_are_refused(form: Any, solver: str) -> None:
    with pytest.raises(InvalidInputError, match="form must be one of 'arrow', 'dense'"):
        certify(gaussian(0, 2, 3), solver=solver, form=form)


@pytest.mark.parametrize("limit", [-1, 0, 1.5, "many", None, True])
def test_bad_iteration_limits_are_refused(limit: Any) -> None:
    with pytest.raises(InvalidInputError, match="max_iterations"):
        certify(gaussian(0, 2, 3), max_iterations=limit)


@pytest.mark.parametrize("seed", [-1, 0.5, "a"])
def test_bad_seeds_are_refused(seed: Any) -> None:
    with pytest.raises(InvalidInputError, match="random_state"):
        certify(gaussian(0, 2, 3), random_state=seed)


# -------------------------------------------------------------------------------------------------------- solvers


@pytest.mark.parametrize("solver", ["GUROBI", "mosekk", "", None])
def test_unknown_solvers_are_refused_and_the_known_ones_named(solver: Any) -> None:
    with pytest.raises(SolverUnavailableError, match=r"does not know the solver.*CLARABEL, SCS, MOSEK"):
        certify(gaussian(0, 2, 3), solver=solver)


@pytest.mark.parametrize("solver", ["CLARABEL", "SCS"])
def test_a_solver_that_is_not_installed(solver: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cvxpy_, "find_spec", lambda _: None)
    with pytest.raises(SolverUnavailableError, match=f"{solver} is not installed: pip install {solver.lower()}"):
        certify(gaussian(0, 2, 3), solver=solver)


def test_mosek_that_is_not_installed_names_the_extra_and_another_solver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mosek_, "find_spec", lambda _: None)
    with pytest.raises(SolverUnavailableError, match=r"certnet\[mosek\].*or use CLARABEL"):
        certify(gaussian(0, 2, 3), solver="MOSEK")


def test_mosek_without_a_licence_names_another_solver() -> None:
    if find_spec("mosek") is None:
        pytest.skip("the MOSEK wheel is not installed")
    if cvxpy_.why_unusable("MOSEK") is None:
        pytest.skip("MOSEK has a licence here")
    with pytest.raises(SolverUnavailableError, match=r"no usable licence.*CLARABEL"):
        certify(gaussian(0, 2, 3), solver="MOSEK")


def test_a_solver_that_fails_is_an_error_with_advice(monkeypatch: pytest.MonkeyPatch) -> None:
    failed = cvxpy_.SolveReport(Status.SOLVER_FAILED, "CLARABEL", "solver error: out of luck", 0.0)
    monkeypatch.setattr(cvxpy_, "solve", lambda *_, **__: failed)
    with pytest.raises(SolverError, match=r"CLARABEL gave no usable multipliers \(.+\): try another solver"):
        certify(gaussian(0, 3, 6), solver="CLARABEL")


def test_a_solver_that_reaches_its_iteration_limit_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cvxpy_, "_options", lambda *_: {"max_iter": 2})
    net = gaussian(0, 3, 6)
    with pytest.warns(NotConvergedWarning, match="iteration limit"):
        cert = certify(net, solver="CLARABEL")
    assert cert.check(net)


@pytest.mark.parametrize("form", ["arrow", "dense"])
@pytest.mark.parametrize("m", [1, 2])
def test_cvxpy_translates_the_program_for_mosek_without_a_licence(
    form: str, m: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    if find_spec("mosek") is None:
        pytest.skip("the MOSEK wheel is not installed: CVXPY translates for installed solvers only")
    seen = []

    def keep(problem: Any, solver: str, **_: Any) -> None:
        seen.append(problem)
        raise SolverError("only translated")

    monkeypatch.setattr(cvxpy_, "solve", keep)
    net = gaussian(0, 3, 5, m)
    with pytest.raises(SolverError, match="only translated"):
        solve_lipsdp(net, form=form)
    data, _, _ = seen[0].get_problem_data(solver="MOSEK")
    order = 3 + 5 + (m if form == "arrow" else 0)
    assert list(data["K_dir"]["s"] if "K_dir" in data else data["dims"].psd) == [order]


@pytest.mark.mosek
@pytest.mark.parametrize("form", ["arrow", "dense"])
def test_mosek_agrees(form: str) -> None:
    reason = cvxpy_.why_unusable("MOSEK")
    if reason is not None:
        pytest.skip(reason)
    net = gaussian(0, 3, 6, 2)
    cert = certify(net, solver="MOSEK", form=form)
    assert cert.check(net)
    assert relative(cert.upper, certify(net).upper) < 1e-6
