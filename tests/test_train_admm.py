"""ADMM of the Lipschitz-regularised problem: its two steps against other solvers, its promises on toy and real data."""

import itertools
import os
from functools import partial

import cvxpy as cp
import instances
import numpy as np
import pytest
from scipy.optimize import check_grad

from certnet import FeedForward, ShallowNetwork, certify, load_dataset
from certnet.core.errors import InvalidInputError, SolverError
from certnet.programs.objectives import mean_squared_error, objective
from certnet.searches.shallow import search_multipliers
from certnet.train import train_admm
from certnet.train.admm import _penalised_loss, balanced, loss_step
from certnet.train.lmi import NearestBounded, bound_at, lmi_multipliers, smooth_bound

instance = partial(instances.instance, h=8, d=3, n=30)


def lmi(rho, W, V, t):
    """The LMI (Y (2b)) itself, shape (d + h, d + h)."""
    T = np.diag(t)
    return np.block([[rho * np.eye(W.shape[1]), -W.T @ T], [-T @ W, 2.0 * T - V.T @ V]])


# ------------------------------------------------------------------------------------------------- the Lipschitz step


@pytest.mark.parametrize("m", [1, 2])
@pytest.mark.parametrize("seed", range(3))
def test_the_bound_is_the_least_rho_of_the_lmi(seed, m):
    net = instance(seed, m=m)[0]
    t = lmi_multipliers(net)
    rho = bound_at(net.W, net.V, t)
    assert np.linalg.eigvalsh(lmi(rho * (1.0 + 1e-9), net.W, net.V, t))[0] >= -1e-9
    assert np.linalg.eigvalsh(lmi(rho * 0.999, net.W, net.V, t))[0] < 0.0
    assert rho == pytest.approx(search_multipliers(net, tol=1e-8).upper ** 2, rel=2e-3)
    assert rho >= certify(net).lower ** 2


def test_too_small_multipliers_prove_nothing():
    net = instance(0)[0]
    assert bound_at(net.W, net.V, 1e-3 * lmi_multipliers(net)) == np.inf


@pytest.mark.parametrize("m", [1, 2])
def test_the_gradient_of_the_smoothed_bound(m):
    net = instance(1, m=m)[0]
    t = 1.5 * lmi_multipliers(net)
    size = net.W.size

    def parts(x):
        return smooth_bound(x[:size].reshape(net.W.shape), x[size:].reshape(net.V.shape), t, 0.3)

    x = np.concatenate([net.W.ravel(), net.V.ravel()])
    off = check_grad(lambda x: parts(x)[0], lambda x: np.concatenate([g.ravel() for g in parts(x)[1:]]), x)
    assert off < 1e-4 * np.linalg.norm(np.concatenate([g.ravel() for g in parts(x)[1:]]))
    assert bound_at(net.W, net.V, t) < parts(x)[0]
    assert parts(x)[0] < bound_at(net.W, net.V, t) + 0.3 * np.log(3)


@pytest.mark.parametrize("m", [1, 2])
@pytest.mark.parametrize(("weight", "stiffness"), [(0.05, 1.0), (1.0, 0.3)])
def test_the_lipschitz_step_solves_its_semidefinite_program(m, weight, stiffness):
    net, rng = balanced(instance(3, m=m)[0]), np.random.default_rng(m)
    t = lmi_multipliers(net)
    A, C = (part + 0.2 * rng.standard_normal(part.shape) for part in (net.W, net.V))
    W, V, rho = cp.Variable(A.shape), cp.Variable(C.shape), cp.Variable()
    d = A.shape[1]
    block = cp.bmat(
        [
            [rho * np.eye(d), -W.T @ np.diag(t), np.zeros((d, m))],
            [-np.diag(t) @ W, np.diag(2.0 * t), V.T],
            [np.zeros((m, d)), V, np.eye(m)],
        ]
    )
    distance = cp.sum_squares(W - A) + cp.sum_squares(V - C)
    problem = cp.Problem(cp.Minimize(weight * rho + 0.5 * stiffness * distance), [block >> 0])
    problem.solve(solver="CLARABEL")
    ours = NearestBounded(t, weight, stiffness)((A, C), (net.W, net.V))
    value = weight * bound_at(*ours, t) + 0.5 * stiffness * (np.sum((ours[0] - A) ** 2) + np.sum((ours[1] - C) ** 2))
    assert value == pytest.approx(problem.value, rel=1e-3)
    assert value >= problem.value * (1.0 - 1e-6)
    assert np.linalg.eigvalsh(lmi(bound_at(*ours, t) * (1.0 + 1e-9), *ours, t))[0] >= -1e-9


# ------------------------------------------------------------------------------------------------------ the loss step


@pytest.mark.parametrize("m", [1, 3])
def test_the_loss_step_descends_on_its_objective(m):
    net, X, y = instance(5, m=m)[:3]
    y = np.asarray(y).reshape(len(X), -1)
    goal = (0.5 * net.W, 0.5 * net.V)

    def value(net):
        off = np.sum((net.W - goal[0]) ** 2) + np.sum((net.V - goal[1]) ** 2)
        return mean_squared_error(net, X, y) + 0.5 * 0.7 * off

    values = [value(net)] + [value(loss_step(net, X, y, goal, 0.7, n)) for n in (1, 5, 50)]
    assert all(after < before for before, after in itertools.pairwise(values))
    x = np.concatenate([np.column_stack([net.W, net.b]).ravel(), net.V.ravel(), net.c])
    rows = np.column_stack([X, np.ones(len(X))])
    measure = partial(_penalised_loss, X=rows, y=y, goal=goal, stiffness=0.7)
    assert measure(x)[0] == pytest.approx(values[0], rel=1e-12)
    assert check_grad(lambda x: measure(x)[0], lambda x: measure(x)[1], x) < 1e-5 * np.linalg.norm(measure(x)[1])


def test_balancing_changes_no_value():
    net, X = instance(2)[:2]
    level = balanced(net)
    np.testing.assert_allclose(level.forward(X), net.forward(X), atol=1e-12)
    np.testing.assert_allclose(np.sum(level.W**2, axis=1) + level.b**2, np.sum(level.V**2, axis=0), rtol=1e-12)
    dead = ShallowNetwork([[0.0], [1.0]], [0.0, 0.0], [1.0, 0.0], 0.5)
    assert not balanced(dead).W.any()


# -------------------------------------------------------------------------------------------------------- the whole


@pytest.mark.parametrize("m", [1, 2])
@pytest.mark.parametrize("weight", [0.01, 0.3])
def test_the_objective_is_certified_and_not_above_the_starts(m, weight):
    net, X, y = instance(7, m=m)[:3]
    done = train_admm(X, y, weight, start=net, max_iterations=15, X_val=X[:5], y_val=y[:5])
    reached = objective(done.network, X, y, weight=weight)
    assert reached == pytest.approx(min(done.loss_curve), rel=1e-9)
    assert reached < done.loss_curve[0] == pytest.approx(objective(net, X, y, weight=weight), rel=1e-9)
    assert done.network.units == net.units
    assert len(done.validation_curve) == len(done.loss_curve) == done.settings["n_iterations"] + 1
    at = int(np.argmin(done.loss_curve))
    assert done.history["rho"][at] == pytest.approx(certify(done.network).rho, rel=1e-9)
    assert done.validation_curve[at] == pytest.approx(mean_squared_error(done.network, X[:5], y[:5]), rel=1e-12)
    for before, after in zip((net.W, net.V), (instance(7, m=m)[0].W, instance(7, m=m)[0].V)):
        np.testing.assert_array_equal(before, after)  # the start is not touched


def test_residuals_fall_and_the_copies_meet():
    net, X, y = instance(4)[:3]
    history = train_admm(X, y, 0.1, start=net, max_iterations=80, tol=0.0).history
    for name in ("primal_residual", "dual_residual"):
        assert len(history[name]) == 80
        # the problem is not convex: now and then the loss step moves to another of its minima
        assert np.median(history[name][-20:]) < 0.1 * history[name][0]


def test_it_ends_when_both_residuals_are_small():
    net, X, y = instance(4)[:3]
    done = train_admm(X, y, 0.1, start=net, max_iterations=80, tol=0.05)
    assert done.settings["n_iterations"] < 80


def test_multipliers_that_are_updated_serve_better():
    net, X, y = instance(4)[:3]
    reached = [
        min(train_admm(X, y, 0.1, start=net, max_iterations=60, update_every=every).loss_curve) for every in (1, 1000)
    ]
    assert reached[0] < reached[1]


def test_a_start_that_cannot_be_improved_is_returned():
    X, y = np.array([[0.0], [1.0]]), np.zeros(2)
    best = ShallowNetwork([[0.0], [0.0]], [0.0, 0.0], [0.0, 0.0], 0.0)
    done = train_admm(X, y, 0.1, start=best, max_iterations=5)
    assert done.network == best
    assert done.loss_curve[0] == 0.0


def test_without_a_start_it_trains_one():
    pytest.importorskip("torch")
    X, y = instance(4)[1:3]
    nets = [train_admm(X, y, 0.1, n_hidden=6, max_iterations=3, random_state=seed).network for seed in (0, 0, 1)]
    assert nets[0].n_hidden == 6
    assert nets[0] == nets[1] != nets[2]


@pytest.mark.skipif("CERTNET_DATA_HOME" not in os.environ, reason="CERTNET_DATA_HOME is not set")
def test_servo_is_fast_and_far_below_its_start():
    data = load_dataset("servo", download=False)
    rng = np.random.default_rng(0)
    start = ShallowNetwork(*(rng.uniform(-0.5, 0.5, shape) for shape in ((100, 4), (100,), (100,), ())))
    done = train_admm(data.X_train, data.y_train, 0.01, start=start, max_iterations=200)
    assert objective(done.network, data.X_train, data.y_train, weight=0.01) < 0.14
    assert done.settings["n_iterations"] < done.settings["max_iterations"]


# --------------------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weight": 0.0}, "weight must be a finite positive number"),
        ({"weight": -1.0}, "weight"),
        ({"penalty": 0.0}, "penalty must be a finite positive number"),
        ({"max_iterations": 0}, "max_iterations must be at least 1"),
        ({"loss_steps": 0}, "loss_steps"),
        ({"update_every": 0}, "update_every"),
        ({"tol": -1.0}, "tol"),
        ({"start": "sgd"}, "a ShallowNetwork is needed"),
        ({"start": FeedForward([[[1.0, 1.0, 1.0]], [[1.0]]], [[0.0], [0.0]])}, "a ShallowNetwork is needed"),
        ({"start": instances.instance(0, h=4, d=2)[0]}, "X has 3 columns, the network has 2 inputs"),
        ({"y_val": [1.0]}, "need both X_val and y_val"),
    ],
)
def test_bad_input_is_refused(options, message):
    net, X, y = instance(0)[:3]
    with pytest.raises(InvalidInputError, match=message):
        train_admm(X, y, **({"weight": 0.1, "start": net} | options))


def test_an_infinite_objective_is_refused():
    net, X, y = instance(0)[:3]
    with pytest.raises(SolverError, match="standardise the data"):
        train_admm(1e200 * X, y, 0.1, start=net)
