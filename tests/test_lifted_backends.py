"""Every solver against a generic program: the energy handed to CVXPY as it is written, with no H in between."""

from __future__ import annotations

import builtins
import importlib.util
from functools import cache

import cvxpy as cp
import numpy as np
import pytest
from lifted_bank import BANK, instance, random_network

from certnet.core.errors import InvalidInputError, MissingDependencyError
from certnet.core.outcome import Status
from certnet.lifted import infer
from certnet.programs.box_qp import BoxQP, natural_residual, posed
from certnet.solvers.box import SOLVERS, Limits, solver_named
from certnet.solvers.box.tightened import one_by_one

BACKENDS = ("osqp", "daqp", "proxqp", "clarabel")
PACKAGES = {"daqp": "daqp", "proxqp": "proxsuite"}


def needs(solver: str) -> None:
    package = PACKAGES.get(solver)
    if package is not None and importlib.util.find_spec(package) is None:
        pytest.skip(f"the package {package} is not installed (certnet[qp])")


def sized(squares: list[cp.Expression]) -> cp.Expression:
    return cp.sum(cp.hstack(squares))


@cache
def generic(number: int, clamped: bool) -> np.ndarray:
    """Minimisers of the written-out energy by CVXPY and Clarabel, stacked (N, n)."""
    net, X, clamp = instance(number)
    found = []
    for x, y in zip(X, clamp):
        z = [cp.Variable(n) for n in net.widths[1:]]
        chain, squares = [x, *z], []
        for k, (W, b, c) in enumerate(zip(net.weights, net.biases, net.reconstruction_biases)):
            scale = 0.5 * net.gamma**k
            squares.append(scale * cp.sum_squares(chain[k + 1] - W @ chain[k] - b))
            squares.append(scale * net.beta[k] * cp.sum_squares(W.T @ chain[k + 1] - chain[k] - c))
        limits = [a[i] >= low[i] for a, low in zip(z, net.lower) for i in np.flatnonzero(np.isfinite(low))]
        limits += [a[i] <= high[i] for a, high in zip(z, net.upper) for i in np.flatnonzero(np.isfinite(high))]
        limits += [z[-1] == y] if clamped else []
        tight = {"tol_gap_abs": 1e-13, "tol_gap_rel": 1e-13, "tol_feas": 1e-12}
        cp.Problem(cp.Minimize(sized(squares)), limits).solve(solver=cp.CLARABEL, **tight)
        found.append(np.concatenate([np.atleast_1d(a.value) for a in z]))
    return np.array(found)


@pytest.mark.filterwarnings("ignore:Solution may be inaccurate")
@pytest.mark.parametrize("clamped", [False, True], ids=["free", "clamped"])
@pytest.mark.parametrize("number", BANK)
def test_every_solver_against_the_written_out_energy(number: int, clamped: bool) -> None:
    net, X, clamp = instance(number)
    if clamped and net.depth == 1:
        with pytest.raises(InvalidInputError, match="nothing is left to infer"):
            infer(net, X, clamp=clamp, solver="reference")
        return
    expected = generic(number, clamped)
    seen = []
    for solver in SOLVERS:
        if solver in PACKAGES and importlib.util.find_spec(PACKAGES[solver]) is None:
            continue
        found = infer(net, X, clamp=clamp if clamped else None, solver=solver, tol=1e-9)
        assert found.converged.all(), (solver, found)
        np.testing.assert_allclose(found.stacked, expected, atol=1e-6, err_msg=solver)
        seen.append(found.stacked)
        if clamped:
            np.testing.assert_array_equal(found.output, clamp)
    np.testing.assert_allclose(seen, np.broadcast_to(seen[0], np.shape(seen)), atol=1e-7)


@pytest.mark.parametrize("tol", [1e-5, 1e-8])
@pytest.mark.parametrize("solver", BACKENDS)
def test_a_backend_alone_meets_the_natural_residual(solver: str, tol: float) -> None:
    """Without the active-set steps that inference adds: the tolerances are tightened until it holds."""
    needs(solver)
    for number in BANK:
        net, X, _ = instance(number, n=3)
        problem, q = posed(net, X)
        z = solver_named(solver)(problem, q, None, Limits(tol))
        assert natural_residual(problem, q, z).max() <= tol, number
        assert (z >= problem.lower).all()
        assert (z <= problem.upper).all()


@pytest.mark.parametrize("solver", BACKENDS)
def test_no_samples_a_start_and_one_step(solver: str) -> None:
    needs(solver)
    net, X, _ = instance(6)
    solve = solver_named(solver)
    problem, q = posed(net, X)
    assert solve(problem, q[:0], None, Limits()).shape == (0, problem.n)
    exact = solve(problem, q, None, Limits(1e-10))
    np.testing.assert_array_equal(solve(problem, q, exact, Limits(1e-8)), exact)  # good enough already
    np.testing.assert_allclose(solve(problem, q, exact + 0.1, Limits(1e-10)), exact, atol=1e-7)
    # too few iterations: a point of the box all the same, and inference finishes it
    poor = solve(problem, q, None, Limits(1e-9, max_passes=1))
    assert np.isfinite(poor).all()
    assert infer(net, X, solver=solver, max_passes=1, tol=1e-9).converged.all()


@pytest.mark.parametrize(("solver", "package"), PACKAGES.items())
def test_a_missing_package_names_the_extra(solver: str, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    hide = lambda name, *rest: None if name == package else found(name, *rest)  # noqa: E731
    monkeypatch.setattr(f"certnet.solvers.box.{SOLVERS[solver]}.find_spec", hide)
    net, X, _ = instance(1)
    with pytest.raises(MissingDependencyError, match=rf"{package} is not installed.*certnet\[qp\]"):
        infer(net, X, solver=solver)


def test_optional_packages_are_not_imported_by_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = builtins.__import__

    def refusing(name: str, *rest: object) -> object:
        assert name.split(".")[0] not in PACKAGES.values(), name
        return plain(name, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(builtins, "__import__", refusing)
    net, X, _ = instance(1)
    for solver in ("osqp", "clarabel", "reference"):
        assert infer(net, X, solver=solver).converged.all()


# the loop around them -------------------------------------------------------------------------------------------------


def simple() -> tuple[BoxQP, np.ndarray]:
    H = np.array([[2.0, 1.0], [1.0, 3.0]])
    return BoxQP(H, np.zeros(2), np.full(2, np.inf), (slice(0, 2),)), np.array([[1.0, 2.0], [-1.0, 1.0]])


def test_asks_for_more_until_the_residual_is_met_and_keeps_the_best() -> None:
    problem, q = simple()
    asked: list[float] = []

    def sloppy(q: np.ndarray, warm: np.ndarray | None, tol: float) -> np.ndarray:
        asked.append(tol)
        error = 1e3 * tol if tol > 1e-10 else 1.0  # ever better, then useless
        return np.linalg.solve(problem.H, np.maximum(q, 0.0)) + error

    first = one_by_one(problem, q[:1], None, Limits(1e-6), sloppy, first=1e-6, floor=1e-12)
    assert asked == pytest.approx([1e-6, 1e-8, 1e-10, 1e-12])
    assert 1e-6 < natural_residual(problem, q[:1], first)[0] < 1e-4  # that of 1e-8
    asked.clear()
    loose = one_by_one(problem, q[:1], None, Limits(1e-4), sloppy, first=1e-6, floor=1e-12)
    assert asked == pytest.approx([1e-6, 1e-8])
    assert natural_residual(problem, q[:1], loose)[0] <= 1e-4


def test_a_solver_that_gives_nothing_leaves_the_start() -> None:
    problem, q = simple()

    def nothing(q: np.ndarray, warm: np.ndarray | None, tol: float) -> np.ndarray:
        return np.full_like(q, np.nan)

    start = np.array([[0.25, 0.5], [-1.0, 0.0]])
    z = one_by_one(problem, q, start, Limits(1e-6), nothing, first=1e-6, floor=1e-8)
    np.testing.assert_array_equal(z, [[0.25, 0.5], [0.0, 0.0]])


def test_ill_conditioned_says_so_for_every_sample() -> None:
    net = random_network((2, 3, 2), ["linear", "linear"], beta=0.0, gamma=1.0)
    huge = net.with_parameters([1e6 * W for W in net.weights], net.biases, net.reconstruction_biases)
    X = np.random.default_rng(0).normal(size=(3, 2))
    for solver in SOLVERS:
        if solver in PACKAGES and importlib.util.find_spec(PACKAGES[solver]) is None:
            continue
        found = infer(huge, X, solver=solver, max_passes=50)
        assert list(found.status) == [Status.ILL_CONDITIONED] * 3, solver
        assert not found.converged.any()
        assert (found.error_bound >= found.residual).all()


def test_both_loops_of_proxqp_are_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    """Inputs of 1e9 did not end: 10 000 outer steps of 1500 inner ones were allowed, several times."""
    proxqp = pytest.importorskip("proxsuite").proxqp
    asked: list[tuple[int, int]] = []

    class Counted(proxqp.dense.QP):
        def solve(self) -> None:
            asked.append((self.settings.max_iter, self.settings.max_iter_in))
            super().solve()

    monkeypatch.setattr(proxqp.dense, "QP", Counted)
    H, q = 2.0 * np.eye(3), np.array([[1e9, -1e9, 3.0]])
    problem = BoxQP(H, np.zeros(3), np.full(3, np.inf), (slice(0, 3),))
    for passes, expected in ((10_000, (500, 50)), (7, (7, 7))):
        asked.clear()
        solver_named("proxqp")(problem, q, None, Limits(max_passes=passes))
        assert set(asked) == {expected}
        assert len(asked) <= 5  # 5e-7 down to 1e-13 in steps of a hundredth


def test_after_the_time_limit_no_attempt_is_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(1000))
    monkeypatch.setattr("certnet.solvers.box.tightened.time.monotonic", lambda: float(next(clock)))
    problem, q = BoxQP(np.eye(2), np.zeros(2), np.ones(2), (slice(0, 2),)), np.full((5, 2), 0.5)
    begun = []

    def attempt(q: np.ndarray, warm: np.ndarray | None, tol: float) -> np.ndarray:
        begun.append(tol)
        return np.zeros(2)  # never good enough

    z = one_by_one(problem, q, None, Limits(seconds=3.5), attempt, first=1e-6, floor=1e-13)
    assert len(begun) == 3  # the clock is read once before each
    assert np.array_equal(z, np.zeros((5, 2)))


def test_infer_takes_a_time_limit() -> None:
    net, X = random_network((2, 3, 2), ["relu", "relu"]), np.ones((2, 2))
    assert infer(net, X, solver="osqp", time_limit=100.0).converged.all()
    with pytest.raises(InvalidInputError, match="time_limit must be a finite positive number"):
        infer(net, X, time_limit=-1.0)
