"""Duals: against the printed formulas and the primal, below it everywhere; gaps that never lie."""

from __future__ import annotations

import numpy as np
import pytest
from lifted_bank import BANK, instance, random_network

from certnet.core.errors import InvalidInputError
from certnet.lifted import LiftedNetwork, infer
from certnet.lifted.dual import Duals, dual_energy, duality_gap, duals, feasible_duals
from certnet.lifted.inference import Inference, measured
from certnet.lifted.posing import pose
from certnet.solvers.box import Limits

SOLVER = "osqp"


def at(net: LiftedNetwork, X: np.ndarray, z: np.ndarray, clamp: np.ndarray | None = None) -> Inference:
    """What inference would return had its solver stopped at z."""
    given = pose(net, X, clamp)
    return measured(given, z[:, : given.problem.n], Limits(), "nobody")


def clamps(number: int) -> list[np.ndarray | None]:
    net, _, clamp = instance(number)
    return [None] if net.depth == 1 else [None, clamp]


def printed(
    net: LiftedNetwork, x: np.ndarray, lam: list[np.ndarray], y: np.ndarray | None, *, norm: bool = False
) -> float:
    """(12) of Zach and Estellers, and (13) where y is given: no biases, β = 0; infeasible beyond 1e-7."""
    L, g = net.depth, net.gamma
    value = -float(lam[0] @ net.weights[0] @ x)
    for k in range(1, L + 1):
        value -= g ** (k - 1) * 0.5 * float(lam[k - 1] @ lam[k - 1])
        if k == L:
            if y is None:
                assert np.abs(lam[-1]).max() < 1e-7  # ι{λ_L = 0}, of linear outputs
            else:
                value += g ** (L - 1) * float(lam[-1] @ y)
            break
        v = g * net.weights[k].T @ lam[k] - lam[k - 1]
        kind = net.unit_names[k - 1]
        if kind == "linear":
            assert np.abs(v).max() < 1e-7
        elif kind == "relu":
            assert v.max() < 1e-7
        else:
            value -= g ** (k - 1) * float(np.abs(v).sum() if norm else np.maximum(v, 0.0).sum())
    return value


@pytest.mark.parametrize("kind", ["linear", "relu", "hard_sigmoid"])
@pytest.mark.parametrize("depth", [2, 3])
def test_the_printed_dual_for_no_reconstruction_and_no_biases(kind: str, depth: int) -> None:
    net = random_network(
        (3, 5, 4, 2)[: depth + 1], [kind] * (depth - 1) + ["linear"], beta=0.0, gamma=0.5, biases=False
    )
    rng = np.random.default_rng(1)
    X, Y = rng.normal(size=(4, 3)), rng.normal(size=(4, net.n_outputs))
    for clamp in (None, Y):
        found = infer(net, X, clamp=clamp, solver=SOLVER, tol=1e-11)
        point = duals(net, X, found)
        np.testing.assert_allclose(dual_energy(net, X, point, clamp), found.energy, atol=1e-9)
        for i, x in enumerate(X):
            lam = [a[i] for a in point.regression]
            value = printed(net, x, lam, None if clamp is None else clamp[i])
            assert dual_energy(net, X, point, clamp)[i] == pytest.approx(value, abs=1e-9)


def test_the_printed_conjugate_of_the_hard_sigmoid_is_not_one() -> None:
    """A 1-norm where the sum of positive parts belongs: at the optimum of the clamped program a gap remains."""
    net = random_network((3, 6, 2), ["hard_sigmoid", "linear"], beta=0.0, gamma=0.5, biases=False)
    rng = np.random.default_rng(1)
    X, Y = rng.normal(size=(5, 3)), rng.normal(size=(5, 2))
    found = infer(net, X, clamp=Y, solver=SOLVER, tol=1e-11)
    lam = duals(net, X, found).regression
    right = [printed(net, x, [a[i] for a in lam], Y[i]) for i, x in enumerate(X)]
    wrong = [printed(net, x, [a[i] for a in lam], Y[i], norm=True) for i, x in enumerate(X)]
    np.testing.assert_allclose(right, found.energy, atol=1e-9)
    assert (found.energy - wrong > 1e-3).all()


@pytest.mark.parametrize("number", BANK)
def test_dual_equals_primal_at_the_optimum(number: int) -> None:
    net, X, _ = instance(number)
    for clamp in clamps(number):
        found = infer(net, X, clamp=clamp, solver=SOLVER, tol=1e-11)
        assert found.converged.all()
        for point in (duals(net, X, found), feasible_duals(net, X, found, clamp)):
            value = dual_energy(net, X, point, clamp, tol=1e-7)
            np.testing.assert_allclose(value, found.energy, atol=1e-6, rtol=1e-7)
        gap = duality_gap(net, X, found, clamp)
        assert (gap >= 0.0).all()
        assert gap.max() < 1e-8


@pytest.mark.parametrize("number", BANK)
def test_dual_is_below_the_primal_everywhere_and_the_gap_is_what_lies_between(number: int) -> None:
    net, X, _ = instance(number)
    rng = np.random.default_rng(number)
    for clamp in clamps(number):
        best = infer(net, X, clamp=clamp, solver=SOLVER, tol=1e-10).energy
        for size in (1e-4, 1e-1, 3.0):
            z = net.project(
                infer(net, X, clamp=clamp, solver=SOLVER).stacked + size * rng.normal(size=(len(X), net.n_units))
            )
            if clamp is not None:
                z[:, net.layers[-1]] = clamp
            somewhere = at(net, X, z, clamp)
            gap = duality_gap(net, X, somewhere, clamp)
            assert np.isfinite(gap).all()
            assert (somewhere.energy - gap <= best + 1e-8).all()
            point = feasible_duals(net, X, somewhere, clamp)
            value = dual_energy(net, X, point, clamp, tol=1e-7)
            np.testing.assert_allclose(value, somewhere.energy - gap, rtol=1e-7, atol=1e-7)
            # any dual point whatever, feasible or not
            shifted = Duals(
                tuple(a + rng.normal(size=a.shape) for a in point.regression),
                tuple(a + rng.normal(size=a.shape) for a in point.reconstruction),
            )
            assert (dual_energy(net, X, shifted, clamp) <= best + 1e-9).all()


def test_the_gap_bounds_the_distance_too() -> None:
    net, X, _ = instance(13)
    exact = infer(net, X, solver=SOLVER, tol=1e-11).stacked
    rough = infer(net, X, solver="reference", passes=2)
    least = np.linalg.eigvalsh(pose(net, X).problem.H)[0]
    distance = np.linalg.norm(rough.stacked - exact, axis=1)
    gap = duality_gap(net, X, rough)
    assert (0.5 * least * distance**2 <= gap + 1e-12).all()
    assert (distance > 1e-6).any()
    assert (gap <= 100.0 * (rough.energy - net.energy(X, exact)) + 1e-12).all()  # and is not idle


def test_random_feasible_points_of_box_layers_are_below() -> None:
    """Where all units are in finite boxes every dual point is feasible: maximising over random ones stays below."""
    net = random_network((3, 4, 3), ["hard_sigmoid", "hard_sigmoid"], beta=[0.6, 0.0], gamma=0.5)
    rng = np.random.default_rng(0)
    X = rng.normal(size=(6, 3))
    found = infer(net, X, solver=SOLVER, tol=1e-10)
    best = duals(net, X, found)
    for size in (1e-3, 1e-2, 1e-1, 1.0):
        for _ in range(20):
            moved = Duals(
                tuple(a + size * rng.normal(size=a.shape) for a in best.regression),
                tuple(a + size * rng.normal(size=a.shape) for a in best.reconstruction),
            )
            value = dual_energy(net, X, moved)
            assert np.isfinite(value).all()
            assert (value <= found.energy + 1e-12).all()


def test_signs_and_complementarity_of_relu_units() -> None:
    """Z (24): λ_k = γ W_kᵀ λ_{k+1} + ν_k with ν_k ≥ 0, zero where the unit is positive."""
    net = random_network((3, 6, 4, 2), ["relu", "relu", "linear"], beta=0.0, gamma=0.5)
    X = np.random.default_rng(0).normal(size=(8, 3))
    found = infer(net, X, solver=SOLVER, tol=1e-11)
    lam = duals(net, X, found).regression
    for k in range(2):
        nu = lam[k] - net.gamma * lam[k + 1] @ net.weights[k + 1]
        assert nu.min() > -1e-9
        assert np.abs(nu[found.activations[k] > 1e-9]).max() < 1e-9
    assert np.abs(lam[2]).max() < 1e-9


def test_nothing_is_known_where_h_is_singular() -> None:
    net = LiftedNetwork([[[1.0]], [[1e9]]], beta=0.0)
    X = np.ones((2, 1))
    found = infer(net, X, solver="reference", max_passes=3)
    assert np.isposinf(duality_gap(net, X, found)).all()
    with pytest.raises(InvalidInputError, match="not positive definite"):
        feasible_duals(net, X, found)


def test_no_samples() -> None:
    net, _, _ = instance(2)
    X = np.empty((0, net.n_inputs))
    found = infer(net, X, solver=SOLVER)
    assert duality_gap(net, X, found).shape == (0,)
    assert dual_energy(net, X, duals(net, X, found)).shape == (0,)


def test_bad_input() -> None:
    net, X, clamp = instance(2)
    found = infer(net, X, solver=SOLVER)
    with pytest.raises(InvalidInputError, match="these X and this network"):
        duality_gap(net, X[:2], found)
    with pytest.raises(InvalidInputError, match="not the clamp"):
        duality_gap(net, X, found, clamp)
    with pytest.raises(InvalidInputError, match="clamp has shape"):
        duality_gap(net, X, found, clamp[:1])
    with pytest.raises(InvalidInputError, match="columns"):
        duals(net, X[:, :-1], found)
    point = duals(net, X, found)
    with pytest.raises(InvalidInputError, match="regression duals have shapes"):
        dual_energy(net, X, Duals(point.regression[:-1], point.reconstruction))
    with pytest.raises(InvalidInputError, match="reconstruction duals have shapes"):
        dual_energy(net, X, Duals(point.regression, point.regression))
    bad = (np.full_like(point.regression[0], np.nan), *point.regression[1:])
    with pytest.raises(InvalidInputError, match="NaN"):
        dual_energy(net, X, Duals(bad, point.reconstruction))
    with pytest.raises(InvalidInputError, match="tol"):
        dual_energy(net, X, point, tol=-1.0)


def test_no_reconstruction_has_no_duals_of_it() -> None:
    net = random_network((2, 3, 2), ["relu", "linear"], beta=[0.0, 1.0])
    X = np.random.default_rng(0).normal(size=(3, 2))
    point = duals(net, X, infer(net, X, solver=SOLVER))
    assert not point.reconstruction[0].any()
    assert point.reconstruction[1].any()


def test_asked_of_the_network() -> None:
    net, X, clamp = instance(2)
    found = net.infer(X, clamp=clamp, solver=SOLVER)
    np.testing.assert_array_equal(net.gap(X, found, clamp), duality_gap(net, X, found, clamp))
    for mine, other in zip(net.dual(X, found).regression, duals(net, X, found).regression):
        np.testing.assert_array_equal(mine, other)


def test_the_gap_is_exact_where_units_do_not_interact() -> None:
    """One layer with β = 0 has H = I: the split of the slope is the best one there, and no slack remains."""
    rng = np.random.default_rng(0)
    net = LiftedNetwork([rng.normal(size=(40, 3))], beta=0.0, units=[(-0.5, 0.5)])
    X = rng.normal(size=(6, 3))
    rough = at(net, X, rng.uniform(-0.5, 0.5, size=(6, 40)))
    expected = rough.energy - net.energy(X, net.feed_forward(X))
    np.testing.assert_allclose(duality_gap(net, X, rough), expected, rtol=1e-12)
