"""Derivatives of the activations: against differences of exact inference, kinks by choice, warnings, bad input."""

from __future__ import annotations

import numpy as np
import pytest
from lifted_bank import BANK, instance, random_network

from certnet.core.errors import InvalidInputError, NotConvergedWarning
from certnet.lifted import LiftedNetwork, infer
from certnet.lifted.inference import Inference
from certnet.lifted.sensitivity import free_units, jacobian, parameter_vjp, pull_back, vjp
from certnet.programs.box_qp import posed

STEP = 1e-5


def exact(net: LiftedNetwork, X: np.ndarray) -> Inference:
    found = infer(net, X, solver="osqp", tol=1e-12)
    assert found.residual.max(initial=0.0) < 1e-10
    return found


def away_from_kinks(net: LiftedNetwork, X: np.ndarray) -> np.ndarray:
    """Samples none of whose units is within reach of changing between held and free."""
    problem, q = posed(net, X)
    z = exact(net, X).stacked
    aimed = z - (z @ problem.H - q)
    wide = problem.lower < problem.upper
    distance = np.minimum(np.abs(aimed - problem.lower), np.abs(aimed - problem.upper))
    return (distance[:, wide] > 1e-3).all(axis=1)


def inner(net: LiftedNetwork, X: np.ndarray, v: np.ndarray) -> float:
    return float((exact(net, X).stacked * v).sum())


def replaced(net: LiftedNetwork, group: int, k: int, entry: tuple[int, ...], step: float) -> LiftedNetwork:
    groups = [[a.copy() for a in g] for g in (net.weights, net.biases, net.reconstruction_biases)]
    groups[group][k][entry] += step
    return net.with_parameters(*groups)


@pytest.mark.parametrize("number", BANK)
def test_inputs_against_differences(number: int) -> None:
    net, X, _ = instance(number)
    X = X[away_from_kinks(net, X)]
    found = exact(net, X)
    ends = [(exact(net, X + STEP * e), exact(net, X - STEP * e)) for e in np.eye(net.n_inputs)]
    numeric = np.stack([(a.stacked - b.stacked) / (2.0 * STEP) for a, b in ends], axis=2)
    J = jacobian(net, X, found)
    assert J.shape == (len(X), net.n_outputs, net.n_inputs)
    np.testing.assert_allclose(J, numeric[:, net.layers[-1]], atol=1e-6)
    rng = np.random.default_rng(number)
    v, whole = rng.normal(size=(len(X), net.n_outputs)), rng.normal(size=(len(X), net.n_units))
    np.testing.assert_allclose(vjp(net, X, found, v), np.einsum("ij,ijk->ik", v, J), atol=1e-10)
    np.testing.assert_allclose(vjp(net, X, found, whole), np.einsum("ij,ijk->ik", whole, numeric), atol=1e-5)


@pytest.mark.parametrize("number", [1, 2, 3, 6, 7, 10, 13, 15, 18, 22, 27, 31])
def test_parameters_against_differences(number: int) -> None:
    net, X, _ = instance(number, n=3)
    X = X[away_from_kinks(net, X)]
    rng = np.random.default_rng(number)
    v = rng.normal(size=(len(X), net.n_units))
    found = parameter_vjp(net, X, exact(net, X), v)
    for group, arrays in enumerate(found.groups):
        for k, array in enumerate(arrays):
            for flat in rng.choice(array.size, size=min(4, array.size), replace=False):
                entry = tuple(int(i) for i in np.unravel_index(flat, array.shape))
                up, down = (inner(replaced(net, group, k, entry, s), X, v) for s in (STEP, -STEP))
                assert array[entry] == pytest.approx((up - down) / (2.0 * STEP), abs=1e-5, rel=1e-5), (group, k, entry)


def test_the_bank_has_samples_away_from_kinks() -> None:
    kept = [away_from_kinks(net, X).sum() for net, X, _ in map(instance, BANK)]
    assert np.mean(kept) > 3.5


def test_outputs_alone_and_both_at_once() -> None:
    net, X, _ = instance(7)
    found = exact(net, X)
    v = np.random.default_rng(0).normal(size=(len(X), net.n_outputs))
    whole = np.zeros((len(X), net.n_units))
    whole[:, net.layers[-1]] = v
    both = pull_back(net, X, found, v)
    np.testing.assert_array_equal(both.inputs, vjp(net, X, found, whole))
    for one, other in zip(both.parameters.groups, parameter_vjp(net, X, found, whole).groups):
        for a, b in zip(one, other):
            np.testing.assert_array_equal(a, b)


def test_free_units_are_those_inside() -> None:
    net = random_network((3, 6, 5, 2), ["relu", "hard_sigmoid", "linear"], gamma=0.5)
    X = np.random.default_rng(3).normal(size=(20, 3))
    found = exact(net, X)
    inside = np.concatenate(
        [(z > low + 1e-9) & (z < high - 1e-9) for z, low, high in zip(found.activations, net.lower, net.upper)], axis=1
    )
    np.testing.assert_array_equal(free_units(net, X, found), inside)
    assert not inside.all()


def test_a_kink_is_held_as_relu_at_zero() -> None:
    """z_1 = max(0, x) at x = 0: the derivative is 0, that of the left side; a step to the right it is 1."""
    net = LiftedNetwork([[[1.0]], [[2.0]]], beta=0.0, gamma=0.25, units="relu")
    for x, slope in ((-1.0, 0.0), (0.0, 0.0), (1.0, 2.0)):
        X = np.array([[x]])
        found = infer(net, X, solver="reference", tol=1e-12)
        np.testing.assert_allclose(jacobian(net, X, found), [[[slope]]], atol=1e-9)
        np.testing.assert_allclose(vjp(net, X, found, [[1.0]]), [[slope]], atol=1e-9)


def test_units_whose_box_is_a_point_do_not_move() -> None:
    net = LiftedNetwork([[[1.0], [1.0]], [[1.0, 1.0]]], beta=0.0, units=[([0.3, -np.inf], [0.3, np.inf]), "linear"])
    X = np.array([[0.5]])
    found = exact(net, X)
    assert not free_units(net, X, found)[0, 0]
    np.testing.assert_allclose(jacobian(net, X, found), [[[1.0]]], atol=1e-9)


def test_all_units_held() -> None:
    net = LiftedNetwork([[[1.0]]], units=[(2.0, 3.0)])
    X = np.array([[-1.0], [0.0]])
    found = exact(net, X)
    assert not jacobian(net, X, found).any()
    assert not pull_back(net, X, found, np.ones((2, 1))).parameters.weights[0].any()


def test_no_samples() -> None:
    net, _, _ = instance(3)
    X = np.empty((0, net.n_inputs))
    found = infer(net, X, solver="osqp")
    assert jacobian(net, X, found).shape == (0, net.n_outputs, net.n_inputs)
    pulled = pull_back(net, X, found, np.empty((0, net.n_outputs)))
    assert pulled.inputs.shape == X.shape
    assert [w.shape for w in pulled.parameters.weights] == [w.shape for w in net.weights]


def test_what_is_not_the_free_minimum_warns() -> None:
    net, X, clamp = instance(2)
    rough = infer(net, X, solver="reference", passes=1)
    with pytest.warns(NotConvergedWarning, match="4 of 4 samples are not at the free minimum"):
        jacobian(net, X, rough)
    with pytest.warns(NotConvergedWarning, match="clamped"):
        vjp(net, X, infer(net, X, clamp=clamp, solver="osqp"), np.ones((4, net.n_outputs)))
    with pytest.warns(NotConvergedWarning):
        parameter_vjp(net, X + 1.0, infer(net, X, solver="osqp"), np.ones((4, net.n_outputs)))


def test_bad_input() -> None:
    net, X, _ = instance(2)
    found = exact(net, X)
    with pytest.raises(InvalidInputError, match="cotangent has shape"):
        vjp(net, X, found, np.ones((4, net.n_outputs + 1)))
    with pytest.raises(InvalidInputError, match="NaN"):
        vjp(net, X, found, np.full((4, net.n_outputs), np.nan))
    with pytest.raises(InvalidInputError, match="the inference has activations"):
        jacobian(net, X[:3], found)
    with pytest.raises(InvalidInputError, match="columns"):
        jacobian(net, X[:, :-1], found)


@pytest.mark.filterwarnings("ignore::certnet.core.errors.NotConvergedWarning")
def test_a_singular_h_has_no_derivative() -> None:
    net = LiftedNetwork([[[1.0]], [[1e9]]], beta=0.0, units="linear")
    X = np.ones((1, 1))
    with pytest.raises(InvalidInputError, match="not positive definite"):
        jacobian(net, X, infer(net, X, solver="reference", max_passes=3))
