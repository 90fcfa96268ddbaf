"""Coordinate descent, ADMM, active-set steps and elimination against brute force, a generic solver and each other."""

from __future__ import annotations

import itertools
import os
from pathlib import Path

import numpy as np
import pytest
import scipy.optimize
from hypothesis import given, settings
from hypothesis import strategies as st
from lifted_bank import BANK, instance, random_network

from certnet.core.outcome import Status
from certnet.kernels.box_descent import descend
from certnet.lifted import LiftedNetwork, infer
from certnet.lifted.energy_values import energies
from certnet.lifted.posing import pose
from certnet.programs.box_qp import BoxQP, natural_residual, posed
from certnet.solvers.box import Limits, solver_named
from certnet.solvers.box.active_set import finish
from certnet.solvers.box.eliminated import without_free_units

CASES = [(number, clamped) for number in BANK for clamped in (False, True) if number % 4 or not clamped]
"""Networks of the bank, free and clamped: those of one layer have nothing left to infer with their output clamped."""
OWN = ("coordinate_descent", "admm")
Rng = np.random.Generator


def random_program(rng: Rng, n: int, *, condition: float = 30.0, boxed: bool = True) -> tuple[BoxQP, np.ndarray]:
    """A dense program with boxes of all kinds (or none), and seven linear terms."""
    Q = np.linalg.qr(rng.standard_normal((n, n)))[0]
    H = (Q * np.geomspace(1.0 / condition, 1.0, n)) @ Q.T
    lower, upper = np.full(n, -np.inf), np.full(n, np.inf)
    if boxed:
        kind = rng.integers(0, 5, n)
        lower = np.where(kind == 0, -np.inf, np.where(kind == 3, -0.5, 0.0))
        upper = np.where(kind == 1, np.inf, np.where(kind == 0, np.inf, np.where(kind == 4, lower, 1.0)))
        upper[kind == 3] = rng.uniform(-0.4, 0.4, (kind == 3).sum())
    return BoxQP(0.5 * (H + H.T), lower, upper, (slice(0, n),)), rng.standard_normal((7, n))


def brute_force(problem: BoxQP, q: np.ndarray) -> np.ndarray:
    """The minimiser by trying every way of holding coordinates at their limits."""
    best, least = np.zeros(problem.n), np.inf
    for sides in itertools.product((None, 0, 1), repeat=problem.n):
        limit = [None if s is None else (problem.lower, problem.upper)[s][i] for i, s in enumerate(sides)]
        if any(v is not None and not np.isfinite(v) for v in limit):
            continue
        held = np.array([v is not None for v in limit])
        z = np.array([0.0 if v is None else v for v in limit])
        free = ~held
        if free.any():
            z[free] = np.linalg.solve(problem.H[np.ix_(free, free)], q[free] - problem.H[np.ix_(free, held)] @ z[held])
        value = 0.5 * z @ problem.H @ z - q @ z
        if (z >= problem.lower - 1e-12).all() and (z <= problem.upper + 1e-12).all() and value < least:
            best, least = z, value
    return best


def solved(name: str, problem: BoxQP, q: np.ndarray, **limits: float) -> np.ndarray:
    return solver_named(name)(problem, q, None, Limits(**limits))  # type: ignore[arg-type]


@pytest.mark.parametrize("name", OWN)
@pytest.mark.parametrize("n", [1, 2, 4, 6])
def test_every_choice_of_limits_tried(name: str, n: int) -> None:
    for seed in range(4):
        problem, q = random_program(np.random.default_rng(seed), n)
        z = solved(name, problem, q, tol=1e-12)
        for row, found in zip(q, z):
            np.testing.assert_allclose(found, brute_force(problem, row), atol=1e-9)


@pytest.mark.parametrize("name", OWN)
@pytest.mark.parametrize(("number", "clamped"), CASES)
def test_networks_of_every_kind_against_a_generic_solver(name: str, number: int, clamped: bool) -> None:
    net, X, clamp = instance(number)
    found = infer(net, X, clamp=clamp if clamped else None, solver=name, tol=1e-11)
    problem, q = posed(net, X, clamp if clamped else None)
    stacked = found.stacked[:, : problem.n]
    lsq = np.linalg.cholesky(problem.H).T
    for row, z in zip(q, stacked):
        fixed = problem.lower == problem.upper
        right = np.linalg.solve(lsq.T, row) - lsq[:, fixed] @ problem.lower[fixed]
        expected = problem.lower.copy()
        if not fixed.all():
            box = (problem.lower[~fixed], problem.upper[~fixed])
            expected[~fixed] = scipy.optimize.lsq_linear(lsq[:, ~fixed], right, box, method="bvls", tol=1e-15).x
        np.testing.assert_allclose(z, expected, atol=1e-9)
    assert found.converged.all()


@pytest.mark.parametrize("name", OWN)
def test_tolerance_is_met_without_help(name: str) -> None:
    """By the solver alone: what inference finishes afterwards is the exception."""
    net = random_network((20, 40, 30, 5), ["relu", "hard_sigmoid", "linear"], beta=[1, 1, 0], gamma=1 / 8)
    problem, q = posed(net, np.random.default_rng(0).standard_normal((50, 20)))
    for tol in (1e-3, 1e-6, 1e-11):
        residual = natural_residual(problem, q, solved(name, problem, q, tol=tol))
        assert residual.max() <= tol
        assert residual.max() > 0.0


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 25), st.floats(0.0, 4.0), st.sampled_from(OWN))
def test_random_boxes(seed: int, n: int, digits: float, name: str) -> None:
    problem, q = random_program(np.random.default_rng(seed), n, condition=10.0**digits)
    z = solved(name, problem, q, tol=1e-8)
    assert (z >= problem.lower).all()
    assert (z <= problem.upper).all()
    better = finish(problem, q, z, 1e-8)
    assert natural_residual(problem, q, better).max() <= 1e-8
    np.testing.assert_array_less(natural_residual(problem, q, better), natural_residual(problem, q, z) + 1e-14)


@pytest.mark.parametrize("name", OWN)
@pytest.mark.parametrize("condition", [1e8, 1e12])
@pytest.mark.parametrize("boxed", [False, True])
def test_ill_conditioned_programs_are_never_left_worse_than_the_reference_leaves_them(
    name: str, condition: float, boxed: bool
) -> None:
    problem, q = random_program(np.random.default_rng(3), 25, condition=condition, boxed=boxed)
    if not boxed:
        problem = BoxQP(problem.H, np.zeros(25), np.full(25, np.inf), problem.layers)
    z = solved(name, problem, q, max_passes=300)
    done = finish(problem, q, z, 1e-6)
    reference = solved("reference", problem, q, max_passes=300)
    assert (natural_residual(problem, q, done) <= np.maximum(1e-6, natural_residual(problem, q, reference))).all()
    assert natural_residual(problem, q, done).max() <= 1e-6


@pytest.mark.parametrize("name", OWN)
def test_statuses_tell_of_an_ill_conditioned_network(name: str) -> None:
    W = np.array([[1.0, 1.0], [1.0, 1.0 + 1e-7]]) * 1e6
    net = LiftedNetwork([np.eye(2), W], beta=[0.0, 0.0], gamma=1.0, units=["relu", "relu"])
    found = infer(net, np.random.default_rng(0).standard_normal((5, 2)), solver=name)
    assert all(status is Status.ILL_CONDITIONED for status in found.status)
    assert np.isfinite(found.stacked).all()


@pytest.mark.parametrize("name", OWN)
@pytest.mark.parametrize("size", [1e-150, 1e-30, 1e30])
def test_scales_far_from_one(name: str, size: float) -> None:
    """Single precision alone would overflow or vanish."""
    problem, q = random_program(np.random.default_rng(1), 12, boxed=False)
    problem = BoxQP(problem.H * size, np.zeros(12), np.full(12, np.inf), problem.layers)
    z = solved(name, problem, q * size, tol=1e-9 * min(size, 1.0))
    expected = np.array([brute_by_nnls(problem.H / size, row) for row in q])
    np.testing.assert_allclose(z, expected, atol=1e-5)


def brute_by_nnls(H: np.ndarray, q: np.ndarray) -> np.ndarray:
    L = np.linalg.cholesky(H)
    return scipy.optimize.nnls(L.T, np.linalg.solve(L, q))[0]


@pytest.mark.parametrize("wide", [1e30, 1e300])
def test_limits_beyond_single_precision(wide: float) -> None:
    problem, q = random_program(np.random.default_rng(1), 12, boxed=False)
    boxed = BoxQP(problem.H, np.full(12, -wide), np.full(12, wide), problem.layers)
    for name in OWN:
        np.testing.assert_allclose(solved(name, boxed, q, tol=1e-9), np.linalg.solve(problem.H, q.T).T, atol=1e-6)


# elimination ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", BANK)
def test_elimination_keeps_the_solution_and_the_residual(number: int) -> None:
    net, X, _ = instance(number)
    problem, q = posed(net, X)
    program = without_free_units(problem)
    z = np.clip(np.random.default_rng(number).standard_normal((len(X), len(program.H))), program.lower, program.upper)
    whole = program.whole(q, z)
    slope = whole @ problem.H - q
    np.testing.assert_allclose(slope[:, program.unbounded], 0.0, atol=1e-9)
    np.testing.assert_allclose(slope[:, program.bounded], z @ program.H - program.linear_term(q), atol=1e-9)
    assert not (np.isinf(program.lower) & np.isinf(program.upper)).any()


@pytest.mark.parametrize("name", OWN)
def test_a_network_of_linear_units_is_solved_by_elimination_alone(name: str) -> None:
    net = random_network((5, 4, 3), ["linear", "linear"], gamma=0.5)
    problem, q = posed(net, np.random.default_rng(0).standard_normal((6, 5)))
    np.testing.assert_allclose(solved(name, problem, q), np.linalg.solve(problem.H, q.T).T, atol=1e-10)


def test_bands_of_a_deep_network() -> None:
    """Four layers: rows of H are short, and the kernel reads the short part only."""
    net = random_network((10, 40, 40, 40, 40), ["relu"] * 4, beta=1.0, gamma=0.5)
    problem, q = posed(net, np.random.default_rng(0).standard_normal((20, 10)))
    z = solved("coordinate_descent", problem, q, tol=1e-10)
    assert natural_residual(problem, q, z).max() <= 1e-10
    np.testing.assert_allclose(z, solved("reference", problem, q, tol=1e-10), atol=1e-8)


# passes, starts, threads ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", BANK)
@pytest.mark.parametrize("passes", [1, 7])
def test_a_number_of_passes_is_the_reference(number: int, passes: int) -> None:
    net, X, clamp = instance(number)
    problem, q = posed(net, X, clamp) if net.depth > 1 else posed(net, X)
    rng = np.random.default_rng(number)
    limits = Limits(passes=passes)
    for start in (None, rng.standard_normal(q.shape)):
        found, expected = (
            solver_named(name)(problem, q, start, limits) for name in ("coordinate_descent", "reference")
        )
        np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", OWN)
def test_a_start_is_used(name: str) -> None:
    net = random_network((6, 15, 15, 3), ["relu", "relu", "linear"], gamma=0.5)
    problem, q = posed(net, np.random.default_rng(0).standard_normal((8, 6)))
    exact = solved(name, problem, q, tol=1e-13)
    solve = solver_named(name)
    one = natural_residual(problem, q, solve(problem, q, exact + 1e-9, Limits(1e-12, max_passes=1))).max()
    cold = natural_residual(problem, q, solve(problem, q, None, Limits(1e-12, max_passes=1))).max()
    assert one < 1e-7 < 1e-3 < cold
    wild = 1e3 * np.random.default_rng(1).standard_normal(q.shape)
    np.testing.assert_allclose(solve(problem, q, wild, Limits(1e-11)), exact, atol=1e-9)


def test_the_number_of_threads_changes_no_bit() -> None:
    net = random_network((12, 40, 20, 4), ["relu", "hard_sigmoid", "linear"], gamma=0.25)
    problem, q = posed(net, np.random.default_rng(0).standard_normal((301, 12)))
    solve = solver_named("coordinate_descent")
    for passes in (None, 5):
        one, two, five = (solve(problem, q, None, Limits(1e-9, passes=passes, threads=k)) for k in (1, 2, 5))
        np.testing.assert_array_equal(one, two)
        np.testing.assert_array_equal(one, five)


@pytest.mark.parametrize("name", OWN)
def test_no_samples(name: str) -> None:
    problem, q = random_program(np.random.default_rng(0), 5)
    assert solved(name, problem, q[:0]).shape == (0, 5)
    assert finish(problem, q[:0], q[:0], 1e-6).shape == (0, 5)
    assert solver_named("coordinate_descent")(problem, q[:0], None, Limits(passes=3)).shape == (0, 5)


def test_a_singular_program_is_returned_as_it_started() -> None:
    """Inference then measures it and says what it is worth."""
    problem = BoxQP(np.zeros((2, 2)), np.array([-np.inf, 0.0]), np.full(2, np.inf), (slice(0, 2),))
    for name in OWN:
        np.testing.assert_array_equal(solved(name, problem, np.ones((3, 2))), np.zeros((3, 2)))


# the kernel that training uses ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "tol"), [(np.float64, 1e-9), (np.float32, 1e-4)])
def test_plain_arrays_in_place(kind: type, tol: float) -> None:
    problem, q = random_program(np.random.default_rng(5), 20)
    H, Q, lower, upper = (a.astype(kind) for a in (problem.H, q, problem.lower, problem.upper))
    z = np.clip(np.zeros_like(Q), lower, upper)
    passes, residual = descend(H, Q, lower, upper, z, tol, 10_000)
    assert 0 < passes < 70_000
    assert residual <= tol
    measured = natural_residual(problem, q, z.astype(float)).max()
    assert measured <= 2.0 * tol
    again, _ = descend(H, Q, lower, upper, z, 1.5 * tol, 10_000)
    assert again <= 1  # it was warm


def test_passes_of_the_kernel_are_limited() -> None:
    problem, q = random_program(np.random.default_rng(5), 20, condition=1e6)
    z = np.clip(np.zeros_like(q), problem.lower, problem.upper)
    passes, residual = descend(problem.H, q, problem.lower, problem.upper, z, 1e-13, 3)
    assert passes == 3 * len(q)
    assert residual == pytest.approx(natural_residual(problem, q, z).max())


# real data ------------------------------------------------------------------------------------------------------------


def test_digits_of_mnist() -> None:
    home = os.environ.get("CERTNET_DATA_HOME")
    if not home or not (Path(home) / "images" / "mnist.npz").exists():
        pytest.skip("CERTNET_DATA_HOME is not set to a folder with images/mnist.npz")
    with np.load(Path(home) / "images" / "mnist.npz") as file:
        X = file["x_test"][:200].reshape(200, -1) / 255.0
    rng = np.random.default_rng(0)
    sizes = (784, 64, 64, 10)
    Ws = [rng.standard_normal((b, a)) / np.sqrt(a) for a, b in itertools.pairwise(sizes)]
    net = LiftedNetwork(Ws, beta=[1, 1, 0], gamma=1 / 8, units=["relu", "relu", "linear"])
    problem, q = posed(net, X)
    points = [solved(name, problem, q, tol=1e-10) for name in (*OWN, "osqp")]
    for z in points[:2]:
        assert natural_residual(problem, q, z).max() <= 1e-10
        np.testing.assert_allclose(z, points[2], atol=1e-6)


# energies read off the program ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("number", "clamped"), CASES)
def test_energies_are_those_of_the_residuals(number: int, clamped: bool) -> None:
    net, X, clamp = instance(number)
    targets = clamp if clamped else None
    problem, q = posed(net, X, targets)
    z = np.clip(3.0 * np.random.default_rng(number).standard_normal(q.shape), problem.lower, problem.upper)
    whole = z if targets is None else np.concatenate([z, targets], axis=1)
    curved, linear = (z * (z @ problem.H - q)).sum(axis=1), (z * q).sum(axis=1)
    found = energies(pose(net, X, targets), z, curved, linear)
    np.testing.assert_allclose(found, net.energy(X, whole), rtol=1e-9)


def test_an_energy_that_cancels_is_summed_anew() -> None:
    """An orthogonal layer reconstructs its inputs: the energy is rounding, and not below zero."""
    net = LiftedNetwork([np.eye(3)], beta=1.0, units=["relu"])
    X = np.random.default_rng(0).uniform(0.1, 1e3, (50, 3))
    found = infer(net, X, tol=1e-9)
    assert (found.energy >= 0.0).all()
    np.testing.assert_array_equal(found.energy, net.energy(X, found.stacked))
