"""The margin loss: projections, derivatives and phases against generic solvers; what it does to certified accuracy."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import cvxpy as cp
import numpy as np
import pytest
from lifted_bank import random_network
from sklearn.datasets import load_digits

from certnet.core.errors import InvalidInputError
from certnet.kernels.margin import margin_phase
from certnet.lifted import LiftedClassifier, LiftedNetwork
from certnet.lifted.learn.objective import Objective
from certnet.lifted.learn.parameters import Parameters
from certnet.lifted.learn.phases import Phases
from certnet.lifted.loss_functions import LOSSES, MarginLoss, loss_named
from certnet.lifted.losses import infer_with_loss
from certnet.networks.quadratic import linear_term
from certnet.programs.box_qp import assemble


def drawn(n: int, m: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, m)), rng.integers(m, size=n)


@pytest.mark.parametrize(("margin", "m"), [(0.3, 2), (1.0, 5), (4.0, 10)])
def test_the_nearest_outputs_with_a_margin_solve_the_quadratic_program(margin: float, m: int) -> None:
    z, labels = drawn(12, m, seed=m)
    loss = MarginLoss(margin)
    y = loss.targets(labels, 12, m)
    nearest = loss.nearest(z, y)
    for row, label, mine in zip(z, labels, nearest):
        p = cp.Variable(m)
        apart = [p[label] - p[j] >= margin for j in range(m) if j != label]
        cp.Problem(cp.Minimize(cp.sum_squares(p - row)), apart).solve(solver=cp.CLARABEL)
        np.testing.assert_allclose(mine, p.value, atol=1e-5)
    np.testing.assert_allclose(loss.value(z, y), 0.5 * ((z - nearest) ** 2).sum(axis=1))


def test_the_level_of_the_rivals_is_the_root_of_its_equation() -> None:
    z, labels = drawn(100, 10, seed=7)
    loss = MarginLoss(4.0)
    nearest = loss.nearest(z, loss.targets(labels, 100, 10))
    for row, label, mine in zip(z, labels, nearest):
        rivals, low, high = np.delete(row, label), -50.0, 50.0
        for _ in range(100):
            u = 0.5 * (low + high)
            low, high = (low, u) if u + 4.0 - row[label] > np.maximum(0.0, rivals - u).sum() else (u, high)
        expected = np.minimum(row, u)
        expected[label] = u + 4.0
        np.testing.assert_allclose(mine, expected, atol=1e-12)


def test_outputs_that_lead_by_the_margin_are_left_alone() -> None:
    z = np.array([[2.0, 0.0, 1.0], [2.0, 1.0, 0.5], [0.0, 0.0, 0.0]])
    loss = MarginLoss(1.0)
    y = loss.targets([0, 0, 1], 3, 3)
    assert loss.value(z, y)[:2].tolist() == [0.0, 0.0]
    assert not loss.gradient(z, y)[:2].any()
    assert not loss.hessian(z, y)[:2].any()
    # from the same level the class rises by 2/3 of the margin, and both rivals fall by 1/3
    np.testing.assert_allclose(loss.nearest(z, y)[2], [-1 / 3, 2 / 3, -1 / 3])


@pytest.mark.parametrize("margin", [0.3, 1.0, 3.0])
def test_derivatives_are_those_of_differences(margin: float) -> None:
    z, labels = drawn(60, 6, seed=3)
    loss, step = MarginLoss(margin), 1e-6
    y = loss.targets(labels, 60, 6)
    for j, e in enumerate(step * np.eye(6)):
        slope = (loss.value(z + e, y) - loss.value(z - e, y)) / (2 * step)
        np.testing.assert_allclose(loss.gradient(z, y)[:, j], slope, atol=1e-8)
        bend = (loss.gradient(z + e, y) - loss.gradient(z - e, y)) / (2 * step)
        np.testing.assert_allclose(loss.hessian(z, y)[:, :, j], bend, atol=1e-8)
    eigenvalues = np.linalg.eigvalsh(loss.hessian(z, y))
    assert eigenvalues.min() > -1e-12
    assert eigenvalues.max() <= loss.curvature + 1e-12


def test_the_loss_is_convex_with_a_gradient_that_moves_no_faster_than_the_outputs() -> None:
    (a, labels), (b, _) = drawn(200, 4, seed=4), drawn(200, 4, seed=5)
    loss = MarginLoss(0.8)
    y = loss.targets(labels, 200, 4)
    middle = loss.value(0.5 * (a + b), y)
    assert (middle <= 0.5 * (loss.value(a, y) + loss.value(b, y)) + 1e-12).all()
    moved = loss.gradient(a, y) - loss.gradient(b, y)
    assert (np.linalg.norm(moved, axis=1) <= np.linalg.norm(a - b, axis=1) + 1e-12).all()


@pytest.mark.parametrize("weight", [0.01, 1.0, 100.0])
def test_inference_with_the_margin_loss_agrees_with_a_generic_solver(weight: float) -> None:
    net = random_network((6, 5, 4, 3), ["relu", "relu", "linear"], beta=[1.0, 0.5, 0.0], gamma=0.3, seed=1)
    X = np.random.default_rng(2).normal(size=(3, 6))
    labels = [0, 2, 1]
    found = infer_with_loss(net, X, "margin", labels, weight=weight, tol=1e-9)
    problem, q = assemble(net), linear_term(net, X)
    for i, label in enumerate(labels):
        z, p = cp.Variable(net.n_units), cp.Variable(3)
        energy = 0.5 * cp.quad_form(z, cp.psd_wrap(problem.H)) - q[i] @ z
        limits = [p[label] - p[j] >= 1.0 for j in range(3) if j != label]
        limits += [z[j] >= low for j, low in enumerate(problem.lower) if np.isfinite(low)]
        loss = 0.5 * weight * cp.sum_squares(z[-3:] - p)
        cp.Problem(cp.Minimize(energy + loss), limits).solve(solver=cp.CLARABEL)
        np.testing.assert_allclose(np.concatenate([a[i] for a in found.activations]), z.value, atol=2e-5)


def test_a_heavy_weight_holds_the_output_at_the_margin() -> None:
    net = random_network((6, 5, 4, 3), ["relu", "relu", "linear"], beta=[1.0, 0.5, 0.0], gamma=0.3, seed=1)
    X = np.random.default_rng(2).normal(size=(8, 6))
    labels = np.arange(8) % 3
    output = infer_with_loss(net, X, MarginLoss(2.0), labels, weight=1e6).output
    lead = output[np.arange(8), labels][:, None] - output
    lead[np.arange(8), labels] = np.inf
    assert lead.min() > 2.0 - 1e-4


@pytest.mark.parametrize(("widths", "weight"), list(itertools.product([(7, 6, 5, 4), (7, 4)], [0.02, 1.0, 50.0])))
def test_phases_of_a_batch_are_those_of_inference(widths: tuple[int, ...], weight: float) -> None:
    hidden = len(widths) - 2
    units, beta = ["relu"] * hidden + ["linear"], [1.0] * hidden + [0.0]
    net = random_network(widths, units, beta=beta, gamma=0.25, seed=3)
    X, labels = np.random.default_rng(4).normal(size=(9, 7)), np.arange(9) % 4
    loss = MarginLoss(0.7)
    y = loss.targets(labels, 9, 4)
    values, free, target = phases(net, X, y, Objective("contrastive", loss, weight))
    with_loss, alone = net.infer_with_loss(X, loss, labels, weight=weight, tol=1e-10), net.infer(X, tol=1e-10)
    np.testing.assert_allclose(target, np.hstack(with_loss.activations), atol=1e-7)
    np.testing.assert_allclose(free, np.hstack(alone.activations), atol=1e-7)
    np.testing.assert_allclose(values, with_loss.total - alone.energy, atol=1e-9)
    assert (values >= -1e-12).all()


def test_an_output_with_reconstruction_goes_by_newton_steps() -> None:
    net = random_network((7, 6, 4), ["relu", "linear"], beta=1.0, gamma=0.5, seed=5)
    X, labels = np.random.default_rng(6).normal(size=(5, 7)), np.arange(5) % 4
    loss = MarginLoss()
    _, _, target = phases(net, X, loss.targets(labels, 5, 4), Objective("contrastive", loss, 3.0))
    expected = net.infer_with_loss(X, loss, labels, weight=3.0, tol=1e-10)
    np.testing.assert_allclose(target, np.hstack(expected.activations), atol=1e-7)


def phases(
    net: LiftedNetwork, X: np.ndarray, y: np.ndarray, objective: Objective
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    params = Parameters.of(net)
    start = net.project(np.zeros((len(X), net.n_units)))
    free, target = start.copy(), start.copy()
    gradient = Parameters.over(np.empty_like(params.flat), net.widths)
    run = Phases(net, params, objective, tol=1e-10)
    values = run.run(X, y, gradient, free, target)
    assert run.work.missed == 0
    return values, free, target


def test_a_phase_that_may_not_go_on_says_so() -> None:
    net = random_network((7, 6, 5, 4), ["relu", "relu", "linear"], beta=[1.0, 1.0, 0.0], gamma=0.25, seed=3)
    problem, q = assemble(net), linear_term(net, np.random.default_rng(4).normal(size=(3, 7)))
    z, labels = np.zeros_like(q), np.zeros(3, np.int64)
    box = problem.lower, problem.upper
    _, residual = margin_phase(problem.H, 6, 11, q, labels, 1.0, 1.0, *box, z, 1e-12, 1)
    assert residual > 1e-12
    passes, _ = margin_phase(0.0 * problem.H, 6, 11, q, labels, 1.0, 1.0, *box, z, 1e-12, 1)
    assert passes == -1


@pytest.mark.parametrize(
    ("y", "m", "message"),
    [
        ([0.0, 1.0], 1, "at least two outputs"),
        ([0, 3], 3, "whole numbers from 0 to 2"),
        ([[1.0, 1.0, 0.0], [0.0, 0.0, 0.0]], 3, "a single one among zeros"),
        ([[0.5, 0.5, 0.0], [1.0, 0.0, 0.0]], 3, "a single one among zeros"),
    ],
)
def test_targets_are_classes(y: list[float], m: int, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        MarginLoss().targets(y, 2, m)


@pytest.mark.parametrize("margin", [0.0, -1.0, np.nan, None])
def test_the_margin_is_a_positive_number(margin: float) -> None:
    with pytest.raises(InvalidInputError, match="margin"):
        MarginLoss(margin)


def test_the_loss_has_a_name() -> None:
    assert loss_named("margin") == MarginLoss(1.0)
    assert LOSSES["margin"] is MarginLoss
    assert Objective("contrastive", "margin").loss == MarginLoss(1.0)


def test_a_classifier_learns_margins_and_keeps_its_loss(tmp_path: Path) -> None:
    X, y = load_digits(return_X_y=True)
    X = X / 16.0
    settings: dict[str, Any] = {
        "optimizer": "adam",
        "learning_rate": 0.005,
        "batch_size": 20,
        "max_epochs": 8,
        "random_state": 0,
    }
    settings["schedule"] = "linear"
    models = {
        decay: LiftedClassifier((32,), loss=MarginLoss(), weight_decay=decay, **settings).fit(X[:1200], y[:1200])
        for decay in (1e-4, 1e-2)
    }
    radii = {decay: model.certified_radius(X[1200:], "theorem", pairs=True) for decay, model in models.items()}
    right = {decay: model.predict(X[1200:]) == y[1200:] for decay, model in models.items()}
    assert min(share.mean() for share in right.values()) > 0.85
    # decay trades accuracy for radii
    assert np.median(radii[1e-2]) > 1.1 * np.median(radii[1e-4])
    model = models[1e-4]
    model.save(tmp_path / "model.npz")
    again = LiftedClassifier.load(tmp_path / "model.npz")
    assert again.loss == MarginLoss()
    np.testing.assert_array_equal(again.predict(X[1200:]), model.predict(X[1200:]))


def test_a_training_with_margins_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    X, y = load_digits(return_X_y=True)
    X, y = X[:300] / 16.0, y[:300]
    settings: dict[str, Any] = {
        "loss": "margin",
        "optimizer": "adam",
        "learning_rate": 0.005,
        "batch_size": 20,
        "random_state": 0,
    }
    whole = LiftedClassifier((16,), max_epochs=4, **settings).fit(X, y)
    file = tmp_path / "training.npz"
    LiftedClassifier((16,), max_epochs=2, checkpoint=file, **settings).fit(X, y)
    resumed = LiftedClassifier((16,), max_epochs=4, checkpoint=file, **settings).fit(X, y)
    for mine, theirs in zip(resumed.network_.weights, whole.network_.weights):
        np.testing.assert_array_equal(mine, theirs)
